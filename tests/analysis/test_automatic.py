"""A table and a figure of any log: a row is the last stage of a setting; what cannot be drawn is told."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import PRUNE, TRAIN
from drawn import curve, imagined, legend, outside, ticks, values_at, words

from helpers.analysis import automatic, overview, plot
from helpers.analysis.automatic import summarise
from helpers.experiment import main, run_experiment
from helpers.foundations.errors import UserError
from helpers.utils import Results

AGAIN = {"type": "train", "name": "retrain", "steps": 3, "batch_size": 50}
ITERATIVE = [
    {"type": "train", "steps": 5, "batch_size": 50},
    {"type": "repeat", "times": 3, "stages": [PRUNE, AGAIN]},
]
"""README's example, in a few steps."""

CRITERION = PRUNE | {"criterion": "$criterion"}


def reached(run: dict[str, Any], stage: int) -> float:
    """An accuracy that differs by arm, seed, stage and every axis."""
    lost = 0.004 * run["seed"] + 0.01 * stage + 0.003 * len(run["arm"])
    for value in run["axes"].values():
        lost += 0.1 * value if isinstance(value, int | float) else 0.0007 * len(str(value))
    return 0.95 - lost


@pytest.fixture
def log(tiny, write_config, tmp_path) -> Callable[..., Results]:
    """The log of a config with these parts changed, in which runs reach what `reached` says."""

    def make(accuracy: Callable[[dict[str, Any], int], Any] = reached, **changes: Any) -> Results:
        return imagined(write_config(tiny(**changes)), accuracy, tmp_path)

    return make


def cells(found: Results, column: str = "test accuracy, %") -> list[str]:
    """A column of the overview."""
    return overview(found).frame[column].to_list()


def of(found: Results, **axes: Any) -> float:
    """Mean accuracy in percent of the runs with these values, as they ended."""
    rows = found.final()
    for name, value in axes.items():
        rows = rows[rows[name if name == "arm" else f"sweep.{name}"].eq(value)]
    return 100 * rows["test_accuracy"].mean()


# Tables


def test_a_row_is_the_last_stage_of_each_setting(log):
    stages = [TRAIN, {"type": "repeat", "times": 3, "stages": [PRUNE, TRAIN | {"name": "retrain"}]}]
    found = log(stages=stages)
    frame = overview(found).frame
    assert frame["sparsity"].to_list() == ["0 %", "50 %", "90 %"]
    assert frame["seeds"].to_list() == [2, 2, 2]
    for share, cell in zip((0, 0.5, 0.9), cells(found), strict=True):
        last = [reached({"seed": seed, "arm": "main", "axes": {"s": share}}, 6) for seed in (0, 1)]
        assert float(cell.split(" ± ")[0]) == pytest.approx(100 * np.mean(last), abs=0.005)
    assert {"arm", "left out"}.isdisjoint(frame)


def test_criteria_are_never_pooled_nor_what_was_trained_again(log):
    arms = {"one_shot": {}, "tuned": {"then": [AGAIN], "label": "fine-tuned"}}
    sweep = {"criterion": ["magnitude", "random"], "sparsity": [0.5, 0.9]}
    found = log(stages=[TRAIN, CRITERION], sweep=sweep, arms=arms)
    frame = overview(found).frame
    assert list(frame.columns[:4]) == ["arm", "criterion", "sparsity", "test accuracy, %"]
    rows = frame.set_index(["arm", "criterion", "sparsity"])["test accuracy, %"]
    assert len(rows) == rows.index.nunique() == 8
    for (arm, criterion, share), cell in rows.items():
        key = {"one_shot": "one_shot", "fine-tuned": "tuned"}[arm]
        own = of(found, arm=key, criterion=criterion, sparsity=float(share.split()[0]) / 100)
        assert float(cell.split(" ± ")[0]) == pytest.approx(own, abs=0.005)
    fig = plot(found)
    labels = [f"{arm}, {criterion}" for arm in ("one_shot", "fine-tuned") for criterion in sweep["criterion"]]
    assert legend(fig) == labels
    for label in labels:
        arm, criterion = label.replace("fine-tuned", "tuned").split(", ")
        ends = {round(1 - s, 9): of(found, arm=arm, criterion=criterion, sparsity=s) for s in (0.5, 0.9)}
        assert values_at(curve(fig.axes[0], label)) == pytest.approx(ends)
    assert outside(fig) == []


def test_a_sweep_over_learning_rates(log):
    train = TRAIN | {"optimizer": {"type": "adam", "lr": "$lr"}}
    found = log(stages=[train], sweep={"lr": [1e-4, 1e-3, 1e-2]})
    assert cells(found, "lr") == ["0.0001", "0.001", "0.01"]
    fig = plot(found)
    assert fig.axes[0].get_xscale() == "log"
    line = next(line for line in fig.axes[0].lines if line.get_marker() != ".")
    assert values_at(line) == pytest.approx({lr: of(found, lr=lr) for lr in (1e-4, 1e-3, 1e-2)})
    assert "dense" not in words(fig)  # nothing was done to what was trained
    two = log(stages=[train, PRUNE], sweep={"lr": [1e-4, 1e-3], "sparsity": [0, 0.5]})
    assert legend(plot(two)) == ["0 %", "50 %"]


def test_arms_with_different_nets_have_no_dense_network_in_common(log):
    small = {"layers": [{"type": "flatten"}, {"type": "linear", "units": 8}, {"type": "linear", "units": 10}]}
    found = log(arms={"large": {}, "small": {"net": small}})
    assert len(cells(found)) == 6
    fig = plot(found)
    assert legend(fig) == ["large", "small"]
    assert "dense" not in words(fig)
    common = log(arms={"large": {}, "longer": {"then": [AGAIN]}})
    first = common.results[common.results["stage"].eq(0)].drop_duplicates("seed")
    mean = 100 * first["test_accuracy"].mean()
    assert f"dense {mean:.2f} %" in words(plot(common))


def test_a_network_that_was_pruned_while_it_trained_is_not_called_dense(log):
    found = log(arms={"large": {}, "longer": {"then": [AGAIN]}})
    found.results["sparsity_all"] = 0.5
    assert "dense" not in words(plot(found))


def test_an_axis_of_shares_with_a_name_of_its_own_says_percent(log):
    found = log(labels={"sparsity": {"name": "weights gone"}})
    assert plot(found).axes[0].get_xlabel() == "weights gone (%)"


def test_objects_are_values_like_others(log):
    optimizers = [{"type": "adam", "lr": 0.001}, {"type": "sgd", "lr": 0.1, "momentum": 0.9}]
    train = TRAIN | {"optimizer": "$optimizer"}
    found = log(stages=[train], sweep={"optimizer": optimizers})
    texts = ['{"lr":0.001,"type":"adam"}', '{"lr":0.1,"momentum":0.9,"type":"sgd"}']
    assert cells(found, "optimizer") == texts
    assert list(ticks(plot(found).axes[0], "y")) == texts
    labels = {"optimizer": {"name": "trained by", "values": {texts[0]: "Adam", texts[1]: "SGD"}}}
    found = log(stages=[train, PRUNE], sweep={"optimizer": optimizers, "sparsity": [0, 0.5]}, labels=labels)
    assert cells(found, "trained by") == ["Adam", "Adam", "SGD", "SGD"]
    assert legend(plot(found)) == ["Adam", "SGD"]


def test_true_and_false_are_no_scale(log):
    sgd = {"type": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": "$ahead"}
    found = log(stages=[TRAIN | {"optimizer": sgd}], sweep={"ahead": [True, False]})
    assert cells(found, "ahead") == ["true", "false"]
    assert list(ticks(plot(found).axes[0], "y")) == ["ahead true", "ahead false"]


def test_a_third_axis_has_a_panel_a_value_and_too_many_are_told(log):
    stages = [TRAIN, CRITERION | {"kind": "$kind"}]
    sweep = {"kind": ["weight", "unit"], "criterion": ["magnitude", "random"], "sparsity": [0, 0.5]}
    found = log(stages=stages, sweep=sweep)
    fig = plot(found)
    assert [ax.get_title() for ax in fig.axes] == ["magnitude", "random"]
    assert legend(fig) == ["weight", "unit"]
    for ax, criterion in zip(fig.axes, ("magnitude", "random"), strict=True):
        own = {round(1 - s, 9): of(found, kind="unit", criterion=criterion, sparsity=s) for s in (0, 0.5)}
        assert values_at(curve(ax, "unit")) == pytest.approx(own)
    smooth = [place / 20 for place in range(13)]
    train = TRAIN | {"batch_size": "$images", "label_smoothing": "$smooth"}
    many = log(stages=[train], seeds=[0], sweep={"images": [20, 50], "smooth": smooth})
    assert legend(plot(many)) == [
        "images 20",
        "images 50",
    ]  # the axis of most values is the one to draw along
    many = log(stages=[train], seeds=[0], sweep={"images": list(range(20, 40)), "smooth": smooth})
    with pytest.raises(UserError, match="13 panels, one a value of smooth: select the rows of some"):
        plot(many)


def test_an_arm_without_the_axis_is_a_line_at_its_accuracy(log):
    arms = {"dense": {}, "pruned": {"then": [PRUNE]}}
    found = log(stages=[TRAIN], arms=arms)
    assert cells(found, "sparsity") == ["", "0 %", "50 %", "90 %"]
    fig = plot(found)
    assert set(legend(fig)) == {"dense", "pruned"}
    assert curve(fig.axes[0], "dense").get_ydata() == pytest.approx([of(found, arm="dense")] * 2)


def test_twenty_arms_are_told_apart_in_table_and_figure(log):
    arms = {f"arm{i}": {"then": [AGAIN | {"batch_size": 20 + i}]} for i in range(20)}
    found = log(arms=arms, seeds=[0], sweep={"sparsity": [0, 0.5]})
    fig = plot(found)
    assert sorted(legend(fig)) == sorted(arms)
    shown = [line for line in fig.axes[0].lines if line.get_label() in arms]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in shown}) == 20
    assert outside(fig) == []
    *lines, path = summarise(log(arms=arms, seeds=[0]))
    assert (len(lines[0].splitlines()), lines[1].split(":")[0]) == (31, "… and 30 more")
    assert path.startswith("figure: ")


# Edges


def test_where_nothing_ended_well_the_table_counts_and_the_figure_tells(log, tmp_path):
    for state, word in ((None, "diverged"), ("missing", "missing")):
        found = log(lambda run, stage, state=state: state)
        assert cells(found) == ["", "", ""]
        assert cells(found, "left out") == [2, 2, 2]
        with pytest.raises(
            UserError, match=f"expected a run that ended well, found 6 {word}: nothing to draw"
        ):
            plot(found)
    assert plt.get_fignums() == []


def test_what_diverged_is_left_out_and_counted(log):
    def accuracy(run: dict[str, Any], stage: int) -> float | None:
        return (
            None
            if run["seed"] == 1 and run["axes"]["sparsity"] == 0.9 and stage == 1
            else reached(run, stage)
        )

    found = log(accuracy)
    assert cells(found, "left out") == [0, 0, 1]
    assert cells(found, "seeds") == [2, 2, 1]
    assert "±" not in cells(found)[2]
    assert "n = 1 to 2 seeds, 1 diverged or failed left out" in words(plot(found))


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"sweep": {"sparsity": [0]}}, []),
        ({"sweep": {"sparsity": [1]}}, []),
        ({"sweep": {"sparsity": [0, 1]}}, ["0", "100"]),
        ({"stages": [TRAIN], "sweep": {}}, []),
        ({"stages": [PRUNE]}, ["0", "50", "90"]),
        ({"data": {"dataset": "mnist", "train_size": 1000, "validation_size": 0}}, ["0", "50", "90"]),
    ],
    ids=["only 0", "only 1", "0 and 1", "one setting", "no train stage", "no validation"],
)
def test_logs_at_the_edge_are_drawn(log, changes, shown):
    found = log(**changes)
    fig = plot(found)
    if shown:
        assert list(ticks(fig.axes[0])) == shown
    else:
        assert len(cells(found)) == 1
        assert fig.axes[0].containers[0].lines[0].get_xdata() == pytest.approx([of(found)])
        # The network before stands beside it, where anything was done to one.
        upright = [line for line in fig.axes[0].lines if list(line.get_ydata()) == [0, 1]]
        assert len(upright) == (found.results["stage"].nunique() > 1)
    assert outside(fig) == []


def test_one_seed_has_no_interval(log):
    found = log(seeds=[3])
    assert not any("±" in cell for cell in cells(found))
    assert "n = 1 seed." in words(plot(found))
    alone = log(seeds=[3], sweep={"sparsity": [0.5]})
    assert "n = 1 seed; so no interval." in words(plot(alone))


def test_a_panel_of_a_value_that_has_no_axis_of_numbers_is_drawn(log):
    arms = {
        "pruned": {"then": [CRITERION]},
        "other": {"net": {"layers": [{"type": "flatten"}, {"type": "linear", "units": 10}], "init": "$init"}},
    }
    criteria = ["magnitude", "random", "taylor", "obd", "wanda", "contribution"]
    sweep = {"init": ["glorot_normal", "kaiming_normal"], "criterion": criteria, "sparsity": [0, 0.5]}
    fig = plot(log(stages=[TRAIN], arms=arms, sweep=sweep))
    assert {ax.get_title() for ax in fig.axes} == {*criteria, *sweep["init"]}
    assert outside(fig) == []


# The command line


@pytest.fixture(scope="module")
def ran(tiny, write_config, scheduler, tmp_path_factory) -> tuple[Path, Path]:
    """README's iterative example, in a few steps: its config and the folder that it ran into."""
    config = write_config(tiny(stages=ITERATIVE, sweep={"sparsity": [0.5, 0.9]}), "iterative")
    out = tmp_path_factory.mktemp("out")
    run_experiment(config, out=out, scheduler=scheduler)
    return config, out


def test_the_command_line_ends_with_a_table_and_a_figure(ran, capsys):
    config, out = ran
    assert main([str(config), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    found = run_experiment(config, out=out)
    assert said[0].startswith("iterative (full): 4 runs, 4 loaded")
    assert said[1].split() == overview(found).frame.to_string(index=False).splitlines()[0].split()
    for share, line in zip((0.5, 0.9), said[2:4], strict=True):
        assert line.split()[:2] == [f"{100 * share:g}", "%"]
        assert line.split()[2] == f"{of(found, sparsity=share):.2f}"
    assert said[-1] == f"figure: {out / 'figures' / 'summary' / 'iterative.png'}"
    assert (out / "figures" / "summary" / "iterative.png").stat().st_size > 1000
    # Each run's row is of its third retraining, and three times pruned.
    assert found.final()["round"].to_list() == [3] * 4
    assert found.final()["stage_name"].eq("retrain").all()


@pytest.mark.parametrize("fault", [ValueError("no such colour"), MemoryError(), OSError("disk full")])
def test_a_figure_that_cannot_be_drawn_changes_no_exit_code(ran, capsys, monkeypatch, fault):
    def fail(*_: Any, **words: Any) -> None:
        raise fault

    monkeypatch.setattr(automatic, "show", fail)
    assert main([str(ran[0]), "--out", str(ran[1])]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"no figure: {type(fault).__name__}: {fault}"
    assert "test accuracy, %" in said.out
    assert said.err == ""


def test_neither_does_one_that_cannot_be_imported_or_is_refused(ran, capsys, monkeypatch):
    config, out = ran
    refused = UserError("iterative: 14 panels: select the rows of some")
    monkeypatch.setattr(automatic, "plot", lambda *_: (_ for _ in ()).throw(refused))
    assert main([str(config), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "iterative: 14 panels: select the rows of some"
    monkeypatch.setitem(sys.modules, "helpers.analysis.automatic", None)
    assert main([str(config), "--out", str(out)]) == 0
    assert "no figure: ModuleNotFoundError" in capsys.readouterr().out


def test_a_quick_summary_goes_into_its_own_folder(tiny, write_config, tmp_path):
    found = copy.copy(imagined(write_config(tiny()), reached, tmp_path))
    found.profile, found.path = "quick", tmp_path / "logs" / "quick" / "tiny.hdf5"
    *_, said = summarise(found)
    assert said == f"figure: {tmp_path / 'figures' / 'quick' / 'summary' / 'tiny.png'}"
    assert (tmp_path / "figures" / "quick" / "summary" / "tiny.png").is_file()
