"""What a config says of how its results are read: labels, factors and contrasts."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TRAIN, results_of

from helpers.config.expansion import load_config
from helpers.experiment import run_experiment
from helpers.foundations.errors import UserError
from helpers.logger import Log
from helpers.running import collecting
from helpers.utils import load_log

PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.5}


ARMS = {
    "finetune": {"label": "fine-tuned", "factors": {"loss": "hard", "width": 64}, "then": [PRUNE]},
    "dense": {"factors": {"loss": "soft"}},
}


def test_factors_are_columns_and_labels_are_told(tiny, write_config):
    config = write_config(
        tiny(
            stages=[{"type": "train", "epochs": 1, "optimizer": {"type": "sgd", "lr": "$lr"}}],
            sweep={"lr": [0.1, 1.0]},
            arms=ARMS,
            labels={"lr": {"name": "learning rate", "values": {"1": "one"}}, "loss": "targets"},
            contrasts={"a": {"of": "finetune", "less": "dense", "claim": "prune", "planned": True}},
        )
    )
    found = results_of(config)
    assert found.results.groupby("arm")["loss"].unique().map(list).to_dict() == {
        "finetune": ["hard"],
        "dense": ["soft"],
    }
    width = found.results.groupby("arm")["width"].first()
    assert width["finetune"] == 64
    assert np.isnan(width["dense"])
    assert [found.label("arm", arm) for arm in ARMS] == ["fine-tuned", "dense"]
    assert [found.label(name) for name in ("lr", "sweep.lr", "loss", "kind")] == [
        "learning rate", "learning rate", "targets", "kind",
    ]  # fmt: skip
    assert [found.label("sweep.lr", value) for value in (0.1, 1, 1.0)] == ["0.1", "one", "one"]
    assert [found.label("lr", value) for value in (np.int64(1), np.nan, None)] == ["one", "", ""]
    assert found.label("seed", found.results["seed"].iloc[0]) == "0"
    assert found.contrasts == {
        "a": {
            "of": "finetune",
            "less": "dense",
            "claim": "prune",
            "measure": "test_accuracy",
            "planned": True,
        }
    }


def test_objects_on_an_axis_have_labels_by_the_text_that_tables_show(tiny, write_config):
    schedules = [{"type": "constant"}, {"type": "linear", "warmup_steps": 5.0}]
    labels = {"schedule": {"values": {'{"type":"linear","warmup_steps":5}': "falling"}}}
    stages = [TRAIN | {"schedule": "$schedule"}]
    found = results_of(write_config(tiny(stages=stages, sweep={"schedule": schedules}, labels=labels)))
    texts = [found.label("sweep.schedule", value) for value in found.results["sweep.schedule"].unique()]
    assert texts == ['{"type":"constant"}', "falling"]
    assert found.label("sweep.schedule", schedules[1]) == "falling"
    assert found.label("sweep.schedule", [1.0, 2]) == "[1,2]"


def test_meaning_is_in_no_hash_and_computes_nothing(tmp_path, tiny, write_config):
    plain = tiny(seeds=[0], sweep={}, stages=[PRUNE], arms={"one": {}})
    told = plain | {
        "arms": {"one": {"label": "the one", "factors": {"size": 1}}},
        "labels": {"arm": "network"},
    }
    config = write_config(plain)
    found = run_experiment(config, out=tmp_path)
    config.write_text(json.dumps(told))
    again = run_experiment(config, out=tmp_path)
    assert (again.loaded, again.computed) == (1, 0)
    assert again.results["run"].tolist() == found.results["run"].tolist()
    assert load_log(found.path).label("arm", "one") == "the one"
    assert load_log(found.path).results["size"].tolist() == [1]


def test_where_only_words_differ_an_unwritable_log_is_shown_all_the_same(
    tmp_path, tiny, write_config, monkeypatch
):
    plain = tiny(seeds=[0], sweep={}, stages=[PRUNE], arms={"one": {}})
    config = write_config(plain)
    found = run_experiment(config, out=tmp_path)
    before = found.path.read_bytes()

    def refuse(path: Path, log: Log) -> None:
        raise UserError(f"{path.parent}: could not be written to")

    monkeypatch.setattr(collecting, "write_log", refuse)
    config.write_text(json.dumps(plain | {"arms": {"one": {"label": "the one"}}}))
    again = run_experiment(config, out=tmp_path)
    assert again.label("arm", "one") == "the one"
    assert found.path.read_bytes() == before
    for change in ({"arms": {"other": {}}}, {"seeds": [1]}):
        config.write_text(json.dumps(plain | change))
        with pytest.raises(UserError, match="could not be written"):
            run_experiment(config, out=tmp_path)


CONTRAST = {"of": "finetune", "less": "dense", "claim": "prune"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": []}, "labels: expected an object, found []"),
        ({"labels": {"loss": 3}}, "labels.loss: expected an object, found 3"),
        (
            {"labels": {"los": "x"}},
            "labels.los: no axis, factor or column is called that; did you mean 'loss'?",
        ),
        ({"labels": {"loss": {"nam": "x"}}}, "labels.loss.nam: unknown key; did you mean 'name'?"),
        (
            {"labels": {"loss": {"values": {"sof": "x"}}}},
            "labels.loss.values.sof: 'loss' has no such value; did you mean 'soft'?",
        ),
        (
            {"labels": {"arm": {"values": {"fintune": "x"}}}},
            "labels.arm.values.fintune: 'arm' has no such value; did you mean 'finetune'?",
        ),
        (
            {"labels": {"loss": {"values": {"soft": 1}}}},
            "labels.loss.values.soft: expected a valid string, found 1",
        ),
        ({"arms/dense/label": 3}, "arms.dense.label: expected a valid string, found 3"),
        ({"arms/dense/label": ""}, 'arms.dense.label: expected to have at least 1 character, found ""'),
        ({"arms/dense/lable": "x"}, "arms.dense.lable: unknown key; did you mean 'label'?"),
        ({"arms/dense/factors": "soft"}, 'arms.dense.factors: expected an object, found "soft"'),
        (
            {"arms/dense/factors": {"a b": 1}},
            "arms.dense.factors.a b: expected a name of letters, digits and _, found 'a b'",
        ),
        (
            {"arms/dense/factors": {"lr": 1}},
            "arms.dense.factors.lr: 'lr' is a column of the results already; choose another name",
        ),
        (
            {"arms/dense/factors": {"loss": True}},
            "arms.dense.factors.loss: expected a text or a number, found true",
        ),
        (
            {"arms/dense/factors": {"loss": ["a"]}},
            'arms.dense.factors.loss: expected a text or a number, found ["a"]',
        ),
        (
            {"contrasts": {"a": CONTRAST | {"of": "fintune"}}},
            "contrasts.a.of: unknown arm 'fintune'; did you mean 'finetune'?",
        ),
        (
            {"contrasts": {"a": CONTRAST | {"less": "finetune"}}},
            "contrasts.a: expected two arms, found 'finetune' twice",
        ),
        (
            {"contrasts": {"a": {"of": "finetune", "less": "dense"}}},
            "contrasts.a.claim: is missing (What a positive difference speaks for.)",
        ),
        (
            {"contrasts": {"a": CONTRAST | {"measure": "accuracy"}}},
            "contrasts.a.measure: unknown measure 'accuracy'; did you mean 'val_accuracy'?",
        ),
        (
            {"arms/dense/factors": {"loss": "$lr"}},
            "arms.dense.factors.loss: expected a text or a number, found the axis '$lr': an axis has its "
            "own column",
        ),
        (
            {"arms/dense/label": "fine-tuned"},
            "arms.dense.label: arm 'finetune' is called 'fine-tuned' already; choose another",
        ),
        (
            {"labels": {"arm": {"values": {"finetune": "tuned"}}}},
            "arms.finetune.label: 'labels' says what this arm is called too; keep one",
        ),
        (
            {"arms/dense/factors": {"difference": 1}},
            "arms.dense.factors.difference: 'difference' is a column of the results already; choose another "
            "name",
        ),
        (
            {"contrasts": {"a": CONTRAST | {"planned_in": "5fc66b4"}}},
            "contrasts.a: 'planned_in' is of a planned contrast: say \"planned\": true or leave it out",
        ),
        (
            {"contrasts": {"a": CONTRAST | {"planned": "yes"}}},
            'contrasts.a.planned: expected a valid boolean, found "yes"',
        ),
        ({"contrasts": {"a": "finetune"}}, 'contrasts.a: expected an object, found "finetune"'),
    ],
)
def test_mistakes_are_told_once_where_they_stand(tiny, write_config, changes, expected):
    raw = tiny(
        sweep={}, stages=[PRUNE], arms={"finetune": dict(ARMS["finetune"]), "dense": dict(ARMS["dense"])}
    )
    for place, value in changes.items():
        *path, last = place.split("/")
        node = raw
        for part in path:
            node = node[part]
        node[last] = value
    path = write_config(raw)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert caught.value.lines == (f"{path}: {expected}",)


def test_a_factor_beyond_all_numbers_is_told_once(tiny, write_config):
    arms = {"one": {"factors": {"size": 1234567}}}
    path = write_config(tiny(sweep={}, stages=[PRUNE], arms=arms))
    text = path.read_text()
    path.write_text(text.replace("1234567", "1" + 400 * "0"))
    load_config(path)  # beyond what a float holds, and still a number
    path.write_text(text.replace("1234567", "1e999"))
    with pytest.raises(UserError) as caught:
        load_config(path)
    text = "arms.one.factors.size: expected a text or a number, found Infinity"
    assert caught.value.lines == (f"{path}: {text}",)
