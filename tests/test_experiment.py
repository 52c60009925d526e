"""Experiments: what is there is loaded, the rest is computed, and every table is the same to the last bit."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT

from helpers.analysis import summary
from helpers.config.expansion import load_config
from helpers.experiment import load_network, main, run_experiment
from helpers.foundations.data import load_dataset
from helpers.foundations.datasets import DataConfig
from helpers.foundations.errors import UserError
from helpers.logger import Log, Record, read_log, read_record, write_log
from helpers.methods.criteria import CRITERIA
from helpers.methods.evaluation import evaluate
from helpers.running import tasks
from helpers.running.planning import make_plan
from helpers.running.provenance import code_version
from helpers.utils import load_log

TRAIN = {"type": "train", "epochs": 1, "batch_size": 100, "optimizer": {"type": "adam"}}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": "$sparsity"}
ARMS = {"prune": {}, "retrain": {"stages": [TRAIN, PRUNE, TRAIN]}, "dense": {"stages": [TRAIN]}}
QUICK = {"seeds": [0], "sweep.sparsity": [0.5]}
COLUMNS = (
    "experiment arm seed run stage stage_name round status sweep.sparsity val_loss val_accuracy test_loss "
    "test_accuracy test_errors sparsity sparsity_all effective_sparsity params macs epochs train_flops wall_s"
)
CURVES = (
    "run seed stage step epoch lr train_loss train_accuracy val_loss val_accuracy test_loss test_accuracy "
    "wall_s"
)


@dataclass
class Finished:
    """An experiment that has run once, from the command line."""

    config: Path
    out: Path
    words: str
    """What it said."""

    @property
    def log(self) -> Path:
        return self.out / "logs" / "tiny.hdf5"


@pytest.fixture(scope="module")
def original(tiny, write_config, command_line, scheduler, tmp_path_factory) -> Finished:
    config = write_config(tiny(stages=[TRAIN, PRUNE], arms=ARMS, profiles={"quick": QUICK}))
    out = tmp_path_factory.mktemp("out")
    said = command_line(config, "--out", out, "--scheduler", scheduler)
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stdout + said.stderr
    return Finished(config, out, said.stdout)


@pytest.fixture
def finished(original: Finished, tmp_path: Path) -> Finished:
    """A copy of its config and its output, to change at will, as far apart as the original's."""
    shutil.copytree(original.out, tmp_path / "out")
    config = Path(os.path.normpath(tmp_path / "out" / os.path.relpath(original.config, original.out)))
    config.parent.mkdir()
    shutil.copy(original.config, config)
    return Finished(config, tmp_path / "out", original.words)


@pytest.fixture
def run(scheduler: str) -> Callable[..., Any]:
    """run_experiment on the shared workers."""
    return partial(run_experiment, scheduler=scheduler)


# The command line


def test_it_says_what_it_did_and_where_the_log_is(original: Finished) -> None:
    # A base for each of 2 seeds, which 3 arms share, and a retraining for each of their 3 sparsities.
    said = f"tiny (full): 14 runs, 0 loaded, 14 computed, 8 train stages trained → {original.log}"
    assert said in original.words.splitlines()
    assert original.words.splitlines()[-1].endswith("summary/tiny.png")
    assert original.log.exists()


def test_the_same_command_again_loads_everything_and_leaves_the_log_untouched(
    original: Finished, command_line: Callable
) -> None:
    before, changed = original.log.read_bytes(), original.log.stat().st_mtime_ns
    said = command_line(original.config, "--out", original.out)
    assert said.returncode == 0
    assert "14 loaded, 0 computed, 0 train stages trained" in said.stdout
    assert said.stderr == ""
    assert (original.log.read_bytes(), original.log.stat().st_mtime_ns) == (before, changed)


@pytest.mark.parametrize(
    ("changes", "words", "lines"),
    [
        (
            {"stages": [TRAIN | {"epoch": 1}, PRUNE]},
            [],
            ["stages[0].epoch: unknown key; did you mean 'epochs'?"],
        ),
        (
            {"seeds": [-1], "sweep": {"sparsity": [2]}, "data": {"dataset": "minst"}},
            [],
            ["seeds: ", "sweep.sparsity[0]: ", "data.dataset: "],
        ),
        ({}, ["--profile", "quik"], ["profiles: unknown profile 'quik'"]),
    ],
)
def test_mistakes_are_told_a_line_each_before_anything_runs(
    tiny, write_config, command_line, tmp_path: Path, changes: dict, words: list[str], lines: list[str]
) -> None:
    config = write_config(tiny(**changes))
    said = command_line(config, "--out", tmp_path / "out", *words)
    assert said.returncode == 2
    assert said.stdout == ""
    found = said.stderr.splitlines()
    assert len(found) == len(lines)
    for line in lines:
        assert any(text.startswith(f"{config}: {line}") for text in found), said.stderr
    assert not (tmp_path / "out").exists()


def test_a_profile_and_set_change_what_runs_and_where_it_goes(
    finished: Finished, command_line: Callable, scheduler: str
) -> None:
    before = finished.log.read_bytes()
    said = command_line(
        finished.config, "--profile", "quick", "--set", "train.optimizer.lr=0.01", "--set", "seeds=7",
        "--out", finished.out, "--scheduler", scheduler,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found = run_experiment(
        finished.config, "quick", ["train.optimizer.lr=0.01", "seeds=7"], finished.out, workers=1
    )
    assert (found.profile, found.computed, set(found.results["seed"])) == ("quick", 0, {7})
    assert set(found.results["sweep.sparsity"].dropna()) == {0.5}
    assert set(found.curves.loc[found.curves["stage"] == 0, "lr"]) == {0.01}
    assert finished.log.read_bytes() == before
    # The log shows the config file as it stands, of which nothing has been computed.
    standing = load_log(finished.out / "logs" / "quick" / "tiny.hdf5")
    assert (standing.loaded, set(standing.results["seed"])) == (0, {0})
    assert set(standing.results["status"]) == {"missing"}


# Tables


def test_tables_have_the_columns_that_figures_rely_on(original: Finished) -> None:
    found = load_log(original.log)
    assert set(COLUMNS.split()) <= set(found.results.columns)
    assert list(found.curves.columns) == CURVES.split()
    rows = found.results
    assert set(rows["experiment"]) == {"tiny"}
    assert set(rows["status"]) == {"ok"}
    assert rows.groupby("arm").size().to_dict() == {"prune": 2 * 3 * 2, "retrain": 2 * 3 * 3, "dense": 2}
    assert len(found.final()) == 14
    assert (found.final().groupby("arm")["stage"].unique().str[0]).to_dict() == {
        "prune": 1, "retrain": 2, "dense": 0,
    }  # fmt: skip
    assert rows["test_errors"].equals(((1 - rows["test_accuracy"]) * 10_000).round().astype(int))
    assert not found.curves.duplicated(["run", "stage", "step"]).any()


def test_an_axis_is_empty_where_the_arm_has_not_joined_it(original: Finished) -> None:
    rows = load_log(original.log).results
    joined = rows.groupby("arm")["sweep.sparsity"].agg(lambda values: set(values.dropna()))
    assert joined.to_dict() == {"prune": {0, 0.5, 0.9}, "retrain": {0, 0.5, 0.9}, "dense": set()}
    last = rows[(rows["arm"] == "prune") & (rows["stage"] == 1)]
    assert last["sparsity"].tolist() == pytest.approx(last["sweep.sparsity"].tolist(), abs=1e-4)


def test_a_shared_prefix_is_one_result_and_costs_add_up_along_a_run(original: Finished) -> None:
    rows = load_log(original.log).results
    first = rows[rows["stage"] == 0]
    assert first.groupby("seed")["result"].nunique().to_dict() == {0: 1, 1: 1}
    assert first.groupby("seed")["wall_s"].nunique().to_dict() == {0: 1, 1: 1}
    retrain = rows[rows["arm"] == "retrain"].groupby("run")
    assert retrain["epochs"].apply(list).tolist() == 6 * [[1, 1, 2]]
    assert retrain["wall_s"].apply(lambda times: times.is_monotonic_increasing).all()
    assert retrain["train_flops"].apply(lambda flops: flops.iloc[2] == 2 * flops.iloc[0]).all()


def test_another_clone_finds_the_same_to_the_last_bit(
    original: Finished, run: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    found = run(original.config, out=tmp_path)
    assert found.computed == 14
    same_tables(found, load_log(original.log))


def test_load_log_gives_what_the_call_returned(
    tiny, write_config, run: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    stages = [TRAIN | {"epochs": "$epochs", "log_every": 7}, PRUNE | {"sparsity": 0.5}]
    config = write_config(tiny(stages=stages, sweep={"epochs": [0, 1, 2]}, data={"dataset": "mnist",
                               "train_size": 1000, "validation_size": 0}))  # fmt: skip
    found = run(config, out=tmp_path)
    for loaded in (load_log(found.path), run(config, out=tmp_path)):
        same_tables(found, loaded)
        pd.testing.assert_series_equal(loaded.results["wall_s"], found.results["wall_s"], check_exact=True)
    assert found.curves["step"].dtype == int
    assert found.results["val_accuracy"].isna().all()
    assert found.curves["val_loss"].isna().all()
    assert found.results["test_accuracy"].notna().all()


# Later calls


def test_rows_follow_the_config_as_it_is_now(
    finished: Finished, run: Callable, same_tables: Callable
) -> None:
    before = load_log(finished.log)
    less = run(finished.config, overrides=["seeds=[1]", "sweep.sparsity=[0.9]"], out=finished.out)
    assert (less.computed, less.loaded) == (0, 3)
    assert len(less.results) == 2 + 3 + 1
    more = run(finished.config, overrides=["sweep.sparsity=[0, 0.5, 0.9, 0.7]"], out=finished.out)
    assert (more.computed, more.loaded, more.trained) == (4, 14, 2)
    same_tables(load_log(finished.log), before)  # overrides leave what the log shows
    again = run(finished.config, out=finished.out)
    assert again.computed == 0
    same_tables(again, before)
    words = json.loads(finished.config.read_text())
    finished.config.write_text(json.dumps(words | {"seeds": [1]}))
    edited = run(finished.config, out=finished.out)
    assert (edited.computed, edited.loaded) == (0, 7)
    same_tables(load_log(finished.log), edited)


def test_overrides_that_compute_nothing_leave_the_log_untouched(finished: Finished, run: Callable) -> None:
    before = finished.log.read_bytes()
    assert len(run(finished.config, overrides=["seeds=0"], out=finished.out).final()) == 7
    assert finished.log.read_bytes() == before


def test_another_configs_log_is_not_taken_over(finished: Finished, run: Callable, tmp_path: Path) -> None:
    words, before = json.loads(finished.config.read_text()), finished.log.read_bytes()
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "tiny.json"
    mine.write_text(json.dumps(words | {"seeds": [5]}))
    for overrides in ([], ["seeds=6"]):
        with pytest.raises(UserError, match=r"or its results another folder with --out") as told:
            run(mine, overrides=overrides, out=finished.out)
        assert str(told.value).startswith(f"{mine}: expected a log of its own, found {finished.log}")
    assert finished.log.read_bytes() == before
    mine.write_text(json.dumps(words | {"description": "asks for the same"}))
    assert run(mine, out=finished.out).computed == 0
    assert finished.log.read_bytes() == before
    finished.config.unlink()  # moved: then the log goes with it
    mine.write_text(json.dumps(words | {"seeds": [1]}))
    assert run(mine, out=finished.out).computed == 0
    assert len(load_log(finished.log).final()) == 7


def test_a_committed_log_is_that_of_the_config_beside_it(
    tiny, write_config, run: Callable, tmp_path: Path
) -> None:
    """The committed logs do not name their config files: configs/NAME.json is meant."""
    for folder in ("configs", "logs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*_*.*"))
    shutil.copy(ROOT / "configs" / "mlp_oneshot.json", tmp_path / "configs")
    shutil.copy(ROOT / "logs" / "mlp_oneshot.hdf5", tmp_path / "logs")
    before = (tmp_path / "logs" / "mlp_oneshot.hdf5").read_bytes()
    found = run(tmp_path / "configs" / "mlp_oneshot.json", overrides=["seeds=0"], out=tmp_path)
    assert (found.computed, set(found.results["seed"])) == (0, {0})
    assert run(tmp_path / "configs" / "mlp_oneshot.json", out=tmp_path).computed == 0
    with pytest.raises(UserError, match="expected a log of its own"):
        run(write_config(tiny(), "mlp_oneshot"), out=tmp_path)
    assert (tmp_path / "logs" / "mlp_oneshot.hdf5").read_bytes() == before


def test_what_decides_nothing_recomputes_nothing(finished: Finished, run: Callable) -> None:
    words = json.loads(finished.config.read_text())
    words["description"], words["stages"][0]["name"] = "said otherwise", "base"
    words["net"]["layers"][1]["name"] = "hidden"
    finished.config.write_text(json.dumps(words))
    found = run(finished.config, out=finished.out)
    assert (found.loaded, found.computed) == (14, 0)
    assert "base" in set(found.results["stage_name"])


def test_force_computes_everything_again(
    finished: Finished, run: Callable, same_tables: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_log(finished.log)
    found = run(finished.config, out=finished.out, force=True)
    assert (found.loaded, found.computed, found.trained) == (0, 14, 8)
    same_tables(found, before)
    assert not found.results["wall_s"].equals(before.results["wall_s"])


def test_force_tells_of_a_damaged_log_before_it_computes_anything(finished: Finished, run: Callable) -> None:
    finished.log.write_bytes(b"no log")
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")}
    with pytest.raises(UserError, match=r"tiny\.hdf5: expected "):
        run(finished.config, out=finished.out, force=True)
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")} == before
    assert finished.log.read_bytes() == b"no log"


def test_weights_that_are_not_in_the_cache_are_computed_again_and_compared(
    finished: Finished, run: Callable, capsys: pytest.CaptureFixture
) -> None:
    before = load_log(finished.log).results
    shutil.rmtree(finished.out / "networks")
    assert run(finished.config, out=finished.out).computed == 0  # tables need no weights
    capsys.readouterr()
    found = run(finished.config, overrides=["sweep.sparsity=[0, 0.5, 0.9, 0.7]"], out=finished.out)
    assert found.computed == 4
    lines = [line for line in capsys.readouterr().out.splitlines() if "weights were not in the cache" in line]
    assert [line.split(": ")[0] for line in sorted(lines)] == sorted(
        before[before["stage"] == 0]["result"].unique()
    )
    assert all(line.endswith("computed again: same as the record") for line in lines)


def test_a_record_that_another_machine_made_stays_and_the_difference_is_told(
    finished: Finished, run: Callable, capsys: pytest.CaptureFixture
) -> None:
    log = read_log(finished.log)
    key = load_log(finished.log).results["result"].iloc[0]
    row = log.records[key].row | {"test_errors": 4321}
    log.records[key] = Record(row, log.records[key].curves, log.records[key].arrays, log.records[key].config)
    write_log(finished.log, log)
    shutil.rmtree(finished.out / "networks")
    found = run(finished.config, overrides=["seeds=[0]", "sweep.sparsity=[0.7]"], out=finished.out)
    assert "the record has 4321 and stays" in capsys.readouterr().out
    assert found.results.loc[found.results["result"] == key, "test_errors"].unique() == [4321]


def test_a_call_that_goes_on_from_another_machines_results_says_so(
    finished: Finished, run: Callable, capsys: pytest.CaptureFixture
) -> None:
    cases = (
        ({}, []),
        ({"machine": "an abacus"}, ["come from another machine (an abacus)"]),
        ({"precision": "bfloat16"}, ["were computed in bfloat16, which would be float32 here"]),
    )
    for place, (changes, told) in enumerate(cases):
        log = read_log(finished.log)
        key = load_log(finished.log).results.query("type == 'train' and seed == 0")["result"].iloc[0]
        before = dict(log.records[key].provenance)
        log.records[key].provenance |= changes
        write_log(finished.log, log)
        capsys.readouterr()
        run(finished.config, overrides=["seeds=[0]", f"sweep.sparsity=[0.3{place}]"], out=finished.out)
        lines = [line for line in capsys.readouterr().out.splitlines() if "there already" in line]
        end = "; what is computed now differs by that too (README, Limits)"
        assert lines == [f"tiny: results that are there already {text}{end}" for text in told]
        log.records[key].provenance = before
        write_log(finished.log, log)


def test_results_of_a_criterion_that_has_been_edited_since_are_told(
    finished: Finished, run: Callable, capsys: pytest.CaptureFixture
) -> None:
    log = read_log(finished.log)
    key = load_log(finished.log).results.query("type == 'prune'")["result"].iloc[0]
    assert log.records[key].provenance["criterion_code"] == CRITERIA["magnitude"].code
    for code, told in (({}, False), ({"criterion_code": "an earlier one"}, True)):
        log.records[key].provenance |= code
        write_log(finished.log, log)
        capsys.readouterr()
        run(finished.config, out=finished.out)
        assert ("other code of magnitude; --force computes them again" in capsys.readouterr().out) == told


# Networks


@pytest.mark.parametrize("is_cached", [True, False])
def test_load_network_gives_the_network_of_the_row(
    original: Finished, tmp_path: Path, is_cached: bool, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(original.out, out)
    row = load_log(original.log).final().query("arm == 'retrain' and seed == 1").iloc[-1]
    expected = load_network(row["run"], out).state_dict()
    if not is_cached:
        shutil.rmtree(out / "networks")
    torch.set_num_threads(2)  # as in a notebook; results are those of one thread all the same
    try:
        network = load_network(row["run"], out)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    data = load_dataset(DataConfig(dataset="mnist", train_size=1000, validation_size=500))
    assert not network.training
    assert evaluate(network, data.test).errors == row["test_errors"]
    assert network.sparsity() == row["sparsity"] == pytest.approx(0.9, abs=1e-4)
    assert all(value.equal(expected[key]) for key, value in network.state_dict().items())
    assert ("computed again: same as the record" in capsys.readouterr().out) == (not is_cached)


def test_an_unknown_run_is_a_user_error(original: Finished) -> None:
    with pytest.raises(
        UserError, match=r"^0123456789abcdef: expected a run's hash that a log under .* knows"
    ):
        load_network("0123456789abcdef", original.out)

    with pytest.raises(UserError, match="where its experiment ran with --out, name that folder with out="):
        load_network("0123456789abcdef", original.out)


@pytest.mark.parametrize("change", ["hash", "unknown", "absent"])
def test_a_network_that_another_version_recorded_is_one_line(finished: Finished, change: str) -> None:
    log = read_log(finished.log)
    key = load_log(finished.log).results["run"].iloc[-1]
    config = log.records[key].config
    if change == "absent":
        del config["net"]
    else:
        config["stages"][0] |= {"epochs": 2} if change == "hash" else {"sharpness": 1}
    write_log(finished.log, log)
    with pytest.raises(UserError, match=f"^{key}: recorded by another version of the playground; run"):
        load_network(key, finished.out)


def test_load_network_does_not_follow_torchs_settings_and_leaves_them(finished: Finished) -> None:
    run = load_log(finished.log).final()["run"].iloc[-1]
    expected = load_network(run, finished.out).state_dict()
    shutil.rmtree(finished.out / "networks")
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.device("meta"), torch.inference_mode():
            network = load_network(run, finished.out)
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    assert all(value.equal(expected[key]) for key, value in network.state_dict().items())
    assert {value.dtype for value in network.parameters()} == {torch.float32}


def test_what_is_computed_again_takes_the_threads_of_its_record(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each stage's own record: the first training had one thread, the second two."""
    log, row = read_log(finished.log), load_log(finished.log).final().query("arm == 'retrain'").iloc[0]
    log.records[row["run"]].provenance["threads"] = 2
    write_log(finished.log, log)
    shutil.rmtree(finished.out / "networks")
    seen: list[tuple[str, int]] = []
    real = tasks.run_stage

    def watched(state: Any, stage: Any) -> None:
        seen.append((stage.type, torch.get_num_threads()))
        real(state, stage)

    monkeypatch.setattr(tasks, "run_stage", watched)
    load_network(row["run"], finished.out)
    assert seen == [("train", 1), ("prune", 1), ("train", 2)]
    for path in finished.out.glob("networks/*"):
        path.unlink()
    words = json.loads(finished.config.read_text())
    last = {"type": "train", "steps": 1, "batch_size": 100}
    words["arms"] = {"longer": {"stages": [*words["arms"]["retrain"]["stages"], last]}}
    words |= {"seeds": [int(row["seed"])], "sweep": {"sparsity": [row["sweep.sparsity"]]}}
    finished.config.write_text(json.dumps(words))
    plan = make_plan(load_config(finished.config), log, finished.out / "networks", threads=3)
    seen.clear()
    for task in plan.tasks:
        tasks.perform(task)
    assert seen == [("train", 1), ("prune", 1), ("train", 2), ("train", 3)]
    (record,) = finished.out.glob("networks/*.npz")
    assert read_record(record).provenance["threads"] == 3
    assert torch.get_num_threads() == 1


# As users call it


def test_set_may_stand_before_the_config(finished: Finished, command_line: Callable) -> None:
    words = ["--set", "seeds=1", "sweep.sparsity=0.5", str(finished.config), "--out", str(finished.out)]
    said = command_line(*words)
    assert "3 runs, 3 loaded" in said.stdout, said.stderr
    said = command_line("--set", "seeds=1")
    assert (said.returncode, said.stdout) == (2, "")
    assert "expected a config file, such as configs/NAME.json" in said.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_unicode_gets_its_summary(
    finished: Finished, command_line: Callable, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    said = command_line(finished.config, "--out", finished.out)
    assert said.returncode == 0, said.stderr
    assert f"14 loaded, 0 computed, 0 train stages trained ? {finished.log}" in said.stdout


def test_a_tilde_is_the_home(finished: Finished, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(finished.out.parent))
    relative = finished.config.relative_to(finished.out.parent)
    found = run(f"~/{relative}", out="~/out")
    assert (found.computed, found.path) == (0, finished.log)
    assert len(load_log("~/out/logs/tiny.hdf5").final()) == 14
    assert load_network(found.final()["run"].iloc[0], "~/out")


def test_a_name_that_is_too_long_is_told_before_anything_is_computed(
    tiny, write_config, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = write_config(tiny(), 240 * "x")
    assert main([str(config), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a name of at most 234 bytes before .json" in line
    assert line.endswith("found 240; rename the file")
    assert not list((tmp_path / "out" / "networks").iterdir())


def test_a_path_that_is_not_utf8_is_one_line(finished: Finished, command_line: Callable) -> None:
    odd = os.fsdecode(os.fsencode(finished.config.parent) + b"/caf\xe9.json")
    shutil.copy(finished.config, odd)
    for words in ([odd, "--out", finished.out], [finished.config, "--out", os.path.dirname(odd) + "/\udce9"]):
        said = command_line(*words)
        assert said.returncode == 2
        (line,) = said.stderr.splitlines()
        assert "expected a path in UTF-8, found other bytes; rename it" in line


def test_another_users_folder_is_one_line(finished: Finished) -> None:
    """Root gives up its rights; anybody else takes them from themselves."""
    for folder in finished.out.parents[:3]:
        folder.chmod(0o755)
    finished.out.chmod(0)
    words = [str(finished.config), "--out", str(finished.out)]
    # Python's own files may be root's alone: what is needed of them is loaded before.
    call = (
        "import os, sys, helpers.running.orchestration; from helpers.experiment import load_config, main\n"
        f"load_config({words[0]!r}); os.getuid() or os.setuid(65534); sys.exit(main({words}))"
    )
    said = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    finished.out.chmod(0o755)
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert str(finished.out) in line
    assert "Permission denied" in line


def test_axes_of_objects_and_lists_are_texts_that_tables_can_group_by(
    tiny, write_config, run: Callable, tmp_path: Path
) -> None:
    axis = [{"type": "sgd", "lr": 1}, {"momentum": 0.5, "type": "sgd", "lr": 1e-2}]
    stages = [TRAIN | {"optimizer": "$optimizer"}, PRUNE]
    sweep = {"optimizer": axis, "sparsity": [0, 0.9]}
    found = run(write_config(tiny(stages=stages, sweep=sweep, seeds=[0])), out=tmp_path)
    texts = ['{"lr":1,"type":"sgd"}', '{"lr":0.01,"momentum":0.5,"type":"sgd"}']
    for rows in (found.final(), load_log(found.path).final()):
        assert rows.groupby("sweep.optimizer", sort=False).size().to_dict() == dict.fromkeys(texts, 2)
    means = summary(found.final(), ["sweep.optimizer", "sweep.sparsity"], "test_accuracy")
    assert means["n"].tolist() == [1, 1, 1, 1]


def test_provenance_names_the_commit_of_this_repository_or_none(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y.z", "-C", str(tmp_path)]
    assert code_version(tmp_path) == {"commit": "", "dirty": None}
    inner = tmp_path / "playground"
    (inner / "helpers").mkdir(parents=True)
    (inner / "helpers" / "x.py").touch()
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    assert code_version(inner) == {"commit": "", "dirty": None}  # a copy inside another repository
    assert len(code_version(tmp_path)["commit"]) == 40
    assert code_version(tmp_path)["dirty"] is False
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "two"]):
        subprocess.run([*git[:-1], str(inner), *words], check=True)
    assert code_version(inner)["dirty"] is False
    (inner / "helpers" / "x.py").write_text("changed")
    assert code_version(inner)["dirty"] is True


# Divergence

DIVERGING = {
    "stages": [TRAIN | {"optimizer": {"type": "sgd", "lr": "$lr"}}, PRUNE | {"sparsity": 0.5}, TRAIN],
    "sweep": {"lr": [1e30, 0.1]},
    "seeds": [0],
}


def test_a_run_that_diverges_is_recorded_and_the_others_go_on(
    tiny, write_config, run: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    config = write_config(tiny(**DIVERGING))
    found = run(config, out=tmp_path)
    assert found.failed == {}
    status = found.results.groupby("sweep.lr")["status"].apply(list).to_dict()
    assert status == {1e30: 3 * ["diverged"], 0.1: 3 * ["ok"]}
    last = found.results[found.results["sweep.lr"] == 1e30]
    assert last["test_loss"].isna().all() or (last["test_loss"].abs() > 1e6).any()
    assert last["test_errors"].isna().tolist() == [False, True, True]
    again = run(config, out=tmp_path)
    assert (again.loaded, again.computed, again.trained) == (2, 0, 0)
    assert "2 loaded, 0 computed, 0 train stages trained, 1 diverged → " in repr(again)
    shutil.rmtree(tmp_path / "networks")
    fresh_clone = run(config, out=tmp_path)
    assert (fresh_clone.loaded, fresh_clone.computed, fresh_clone.trained) == (2, 0, 0)
    same_tables(fresh_clone, found)


def test_a_run_that_diverges_in_its_very_last_step_ends_nobody_elses(
    tiny, write_config, run: Callable, tmp_path: Path
) -> None:
    stages = [
        TRAIN | {"optimizer": {"type": "sgd", "lr": "$lr"}, "steps": 1, "epochs": None},
        *DIVERGING["stages"][1:],
    ]
    found = run(write_config(tiny(**DIVERGING | {"stages": stages})), out=tmp_path)
    status = found.results.groupby("sweep.lr")["status"].apply(list).to_dict()
    assert status == {1e30: 3 * ["diverged"], 0.1: 3 * ["ok"]}


def test_what_a_log_has_no_record_of_is_missing(tmp_path: Path) -> None:
    runs = [
        {
            "arm": "main",
            "seed": 0,
            "axes": {},
            "steps": [["a", "train", "train", 0], ["b", "prune", "prune", 0]],
        }
    ]
    plan = {"experiment": "x", "profile": "full", "axes": [], "net": [], "runs": runs}
    write_log(tmp_path / "x.hdf5", Log({"a": Record({"status": "ok", "test_errors": 3})}, plan))
    found = load_log(tmp_path / "x.hdf5")
    assert found.results["status"].tolist() == ["ok", "missing"]
    assert repr(found).startswith("x (full): 1 runs, 0 loaded, 0 computed")
