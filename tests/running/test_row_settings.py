"""Settings in every row: what the config says of the stages up to and with it."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TRAIN, results_of

from helpers.config.expansion import load_config
from helpers.experiment import run_experiment
from helpers.foundations.columns import ADDED, COLUMNS, SETTINGS
from helpers.logger import read_log, write_log
from helpers.running.describing import describe
from helpers.utils import load_log

CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.json") if path.name != "schema.json")
PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.5}
CNN = [
    {"type": "conv2d", "filters": 4, "kernel": 5, "stride": 2, "padding": 2},
    {"type": "batch_norm"},
    {"type": "maxpool"},
    {"type": "flatten"},
    {"type": "linear", "units": 12},
    {"type": "linear", "units": 10},
]


@pytest.fixture
def frame(tiny: Callable, write_config: Callable) -> Callable[..., pd.DataFrame]:
    """The rows of a config that has not run, whose settings stand there all the same."""

    def rows(**changes: Any) -> pd.DataFrame:
        return results_of(
            write_config(tiny(**{"seeds": [0], "sweep": {}, "stages": [TRAIN]} | changes))
        ).results

    return rows


def test_each_row_has_the_settings_of_the_stages_up_to_it(frame):
    sgd = {"type": "sgd", "lr": 0.1, "momentum": 0.9}
    rows = frame(
        stages=[
            {"type": "train", "epochs": 1, "optimizer": sgd, "precision": "bfloat16"},
            {"type": "prune", "kind": "unit", "sparsity": 0.25, "criterion": "taylor"},
            {"type": "refit", "samples": 300},
            {"type": "prune", "kind": "weight", "sparsity": 0.5, "scope": "global"},
            {"type": "rewind", "to": {"step": 3}},
            {
                "type": "train", "name": "ramped", "steps": 20, "shift": 1,
                "ramp": {"kind": "weight", "sparsity": 0.75, "every": 5, "end": 0.5},
            },
        ]
    )  # fmt: skip
    assert list(rows["kind"].fillna("")) == ["", "unit", "unit", "weight", "weight", "weight"]
    assert list(rows["criterion"].fillna("")) == ["", "taylor", "taylor"] + ["magnitude"] * 3
    assert list(rows["scope"].fillna("")) == ["", "layer", "layer", "global", "global", "layer"]
    assert rows["target"].tolist() == pytest.approx([np.nan, 0.25, 0.25, 0.5, 0.5, 0.75], nan_ok=True)
    assert rows["unit_target"].tolist() == pytest.approx([np.nan] + [0.25] * 5, nan_ok=True)
    assert rows["weight_target"].tolist() == pytest.approx([np.nan] * 3 + [0.5, 0.5, 0.75], nan_ok=True)
    assert rows["prune_samples"].tolist() == pytest.approx([np.nan, 1000, 1000] + [np.nan] * 3, nan_ok=True)
    assert list(rows["mode"].fillna("")) == ["", ""] + ["full"] * 4
    assert rows["refit_samples"].tolist() == pytest.approx([np.nan, np.nan] + [300] * 4, nan_ok=True)
    assert list(rows["rewound"].fillna("")) == [""] * 4 + ['{"step":3}'] * 2
    assert rows["ramp_every"].tolist() == pytest.approx([np.nan] * 5 + [5], nan_ok=True)
    assert list(rows["lr"]) == [0.1] * 5 + [0.001]
    assert list(rows["precision"]) == ["bfloat16"] * 5 + ["float32"]
    assert list(rows["shift"]) == [0] * 5 + [1]
    first, last = (json.loads(rows["optimizer"].iloc[place]) for place in (0, -1))
    assert first == {"type": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0}
    assert last == {"type": "adam", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0}


def test_a_row_says_how_what_stays_was_chosen_last_and_nothing_of_the_time_before(frame):
    anew = {"type": "reconstruct", "kind": "weight", "sparsity": 0.5}
    rows = frame(
        stages=[
            PRUNE | {"criterion": "taylor"},
            anew | {"sparsity": 0.75, "weigh": "outgoing", "samples": 300},
            {"type": "refit", "mode": "logits"},
            anew | {"kind": "unit", "method": "random", "fit": "linear", "scope": "global", "ridge": 0.1},
            PRUNE | {"sparsity": 0.9},
        ]
    )
    assert list(rows["criterion"].fillna("")) == ["taylor", "", "", "", "magnitude"]
    assert list(rows["method"].fillna("")) == ["", "pursuit", "pursuit", "random", ""]
    assert list(rows["weigh"].fillna("")) == ["", "outgoing", "outgoing", "", ""]
    assert list(rows["fit"].fillna("")) == ["", "rectified", "rectified", "linear", ""]
    assert rows["rounds"].tolist() == pytest.approx([np.nan, 3, 3, np.nan, np.nan], nan_ok=True)
    assert list(rows["scope"]) == ["layer", "layer", "layer", "global", "layer"]
    assert rows["target"].tolist() == pytest.approx([0.5, 0.75, 0.75, 0.5, 0.9])
    assert rows["unit_target"].tolist() == pytest.approx([np.nan] * 3 + [0.5] * 2, nan_ok=True)
    assert rows["reconstruct_samples"].tolist() == pytest.approx(
        [np.nan, 300, 300, 1000, np.nan], nan_ok=True
    )
    assert rows["reconstruct_ridge"].tolist() == pytest.approx([np.nan, 1e-3, 1e-3, 0.1, np.nan], nan_ok=True)
    assert rows["prune_samples"].tolist() == pytest.approx([1000] + [np.nan] * 4, nan_ok=True)
    assert list(rows["mode"].fillna("")) == ["", "", "logits", "logits", "logits"]
    assert rows["refit_ridge"].isna().all()


def test_a_log_keeps_no_column_that_is_younger_than_it_and_empty(tiny, write_config):
    for stages, is_kept in (([PRUNE], False), ([PRUNE | {"type": "reconstruct"}], True)):
        kept = describe(load_config(write_config(tiny(stages=stages, sweep={}))))["settings"]
        assert set(ADDED) <= set(kept["columns"]) if is_kept else not set(ADDED) & set(kept["columns"])
        assert set(SETTINGS) - set(ADDED) <= set(kept["columns"])
        assert {len(row) for row in kept["rows"]} == {len(kept["columns"])}


def test_what_a_config_leaves_out_stands_in_full_and_what_does_not_apply_is_empty(frame):
    rows = frame(data={"dataset": "mnist", "validation_size": 500})
    assert set(rows["train_size"]) == {59_500}
    assert list(rows["batch_size"]) == [100]
    assert json.loads(rows["schedule"].iloc[0]) == {"type": "constant", "warmup_steps": 0}
    empty = ["teacher", "temperature", "alpha", "soft_loss", "mode", "refit_samples", "rewound", "layers"]
    assert rows[empty].isna().all(axis=None)
    assert (rows["temperature"] > 1).sum() == 0  # a column without values can be compared like any other
    assert rows["criterion"].dtype == object
    assert set(rows["validation_size"]) == {500}
    assert set(rows["split_seed"]) == {"0"}
    assert (rows["train_epochs"].tolist(), rows["train_steps"].isna().all()) == ([1], True)


@pytest.mark.parametrize(
    ("stages", "targets"),
    [
        ([PRUNE | {"sparsity": None, "rate": 0.5}], [np.nan]),
        ([PRUNE, PRUNE | {"sparsity": None, "rate": 0.5}], [0.5, np.nan]),
        ([PRUNE | {"layers": {"linear_1": {"sparsity": 0.7}}}], [np.nan]),
        ([PRUNE | {"layers": {"linear_2": {}}}], [0.5]),
        ([PRUNE | {"layers": {"linear_2": {"sparsity": 0.5}}}], [0.5]),
        ([PRUNE | {"layers": "all"}], [0.5]),
        ([PRUNE, {"type": "prune", "kind": "weight", "criterion": "shuffle"}], [0.5, 0.5]),
        ([PRUNE, {"type": "prune", "kind": "unit", "sparsity": 0.5}], [0.5, 0.5]),
        ([{"type": "repeat", "times": 2, "stages": [PRUNE | {"sparsity": 0.75}]}], [0.5, 0.75]),
        ([PRUNE | {"sparsity": 0}, {"type": "compact"}], [0, 0]),
    ],
)
def test_the_target_is_the_nominal_share_and_empty_where_there_is_none(frame, stages, targets):
    rows = frame(stages=stages)
    assert rows["target"].tolist() == pytest.approx(targets, nan_ok=True)


def test_a_network_is_called_by_its_layers(frame):
    assert set(frame()["net"]) == {"784-16-10"}
    assert set(frame(net={"layers": CNN})["net"]) == {"4c5s2p2-12-10"}
    named = [layer | {"name": f"of_{place}"} for place, layer in enumerate(CNN)]
    assert set(frame(net={"layers": named})["net"]) == {"4c5s2p2-12-10"}


def test_a_network_of_two_data_sets_begins_with_the_inputs_of_each(frame):
    arms = {
        "grey": {},
        "colour": {"data": {"dataset": "cifar10"}},
        "clothes": {"data": {"dataset": "kmnist"}},
    }
    nets = frame(arms=arms).groupby("arm")["net"].unique().map(list).to_dict()
    assert nets == {"grey": ["784-16-10"], "colour": ["3072-16-10"], "clothes": ["784-16-10"]}


def test_no_more_images_are_told_than_there_are(frame):
    rows = frame(stages=[PRUNE | {"criterion": "taylor"}, {"type": "refit"}])
    assert rows["prune_samples"].tolist() == [1000, 1000]
    assert rows["refit_samples"].iloc[-1] == 1000


def test_unlike_networks_are_never_called_the_same(frame):
    plain = [layer for layer in CNN if layer["type"] != "batch_norm"]
    arms = {"plain": {"net": {"layers": plain}}, "normalised": {}, "tanh": {"net": {"activation": "tanh"}}}
    texts = frame(net={"layers": CNN}, arms=arms).groupby("arm")["net"].unique().map(list)
    assert texts["plain"] == [
        '4c5s2p2-maxpool{"kernel":2}-flatten-12-10, relu, kaiming_normal'
    ]  # fmt: skip
    assert texts["normalised"] == [
        '4c5s2p2-batch_norm-maxpool{"kernel":2}-flatten-12-10, relu, kaiming_normal'
    ]  # fmt: skip
    assert texts["tanh"] == [texts["normalised"][0].replace("relu", "tanh")]


def test_a_teacher_is_called_by_its_experiment_arm_and_stage(frame):
    teach = {"type": "train", "steps": 1}
    pruned = {"arm": "teacher", "sweep": {"sparsity": 0.5}}
    two = [{"arm": "teacher", "stage": "train", "seed": seed} for seed in (0, 1)]
    arms = {
        "teacher": {"then": [PRUNE | {"sparsity": "$sparsity"}]},
        "one": {"stages": [teach | {"teacher": pruned}]},
        "several": {"stages": [teach | {"teacher": [*two, pruned], "temperature": 2}]},
        "logits": {"stages": [teach | {"teacher": pruned, "soft_loss": "logits"}]},
    }
    rows = frame(stages=[{"type": "train", "steps": 1}], arms=arms, sweep={"sparsity": [0.5, 0.9]})
    found = rows[rows["arm"] != "teacher"].set_index("arm")
    assert found["teacher"].to_dict() == {
        "one": "tiny:teacher.prune (sparsity=0.5)",
        "several": "2 × tiny:teacher.train + tiny:teacher.prune (sparsity=0.5)",
        "logits": "tiny:teacher.prune (sparsity=0.5)",
    }
    assert found["temperature"].to_dict() == pytest.approx(
        {"one": 4, "several": 2, "logits": np.nan}, nan_ok=True
    )
    assert found["soft_loss"].to_dict() == {"one": "kl", "several": "kl", "logits": "logits"}
    assert set(found["alpha"]) == {0.9}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_committed_log_knows_its_settings_without_any_config(config):
    """From the log alone, and the same as from the config."""
    plan = read_log(ROOT / "logs" / f"{config.stem}.hdf5").runs
    wanted = json.loads(json.dumps(describe(load_config(config))))
    for part in ("settings", "meaning"):
        assert plan[part] == wanted[part]
    assert len(plan["settings"]["rows"]) == len({json.dumps(row) for row in plan["settings"]["rows"]})
    results = load_log(ROOT / "logs" / f"{config.stem}.hdf5").results
    assert results[["net", "dataset", "train_size"]].notna().all(axis=None)
    trained = results.groupby("run")["type"].transform(lambda types: types.eq("train").cummax())
    assert results.loc[trained, "lr"].notna().all()
    pruned = results["type"].eq("prune")
    assert results.loc[pruned, ["kind", "criterion", "scope"]].notna().all(axis=None)


def test_a_log_from_before_settings_is_read_and_says_how_to_fill_them(tmp_path, write_config, tiny, capsys):
    config = write_config(tiny(seeds=[0], sweep={}, stages=[PRUNE]))
    found = run_experiment(config, out=tmp_path)
    log = read_log(found.path)
    for run in log.runs["runs"]:
        del run["settings"]
    del log.runs["settings"], log.runs["meaning"]
    write_log(found.path, log)
    capsys.readouterr()
    old = load_log(found.path)
    assert capsys.readouterr().out.startswith(f"{found.path}: has no settings (lr, criterion, …) yet; run ")
    assert old.results[SETTINGS].isna().all(axis=None)
    pd.testing.assert_frame_equal(old.results.drop(columns=SETTINGS), found.results.drop(columns=SETTINGS))
    run_experiment(config, out=tmp_path)
    capsys.readouterr()
    pd.testing.assert_frame_equal(load_log(found.path).results, found.results)
    assert capsys.readouterr().out == ""


def test_every_name_of_a_column_is_taken():
    assert len(COLUMNS) == len(set(COLUMNS))
    for path in CONFIGS:
        found = load_log(ROOT / "logs" / f"{path.stem}.hdf5")
        own = {name for words in describe(load_config(path))["meaning"]["factors"].values() for name in words}
        plain = {name for name in found.results if not name.startswith("sweep.")}
        assert plain - own <= set(COLUMNS)
