"""Comparisons of arms: differences are paired, verdicts follow the interval, figures draw the means."""

import matplotlib

matplotlib.use("Agg")

from dataclasses import dataclass, field
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import with_settings
from scipy import stats

from helpers.comparison import arm_rows, arm_table, paired_difference, verdict
from helpers.plots import QUICK_NOTE
from helpers.recovery_plots import (
    ARM_STYLES,
    compute_curves,
    criteria_dots,
    error_scale,
    lenet_recovery,
    recovery_curves,
)
from helpers.recovery_report import (
    compaction_table,
    error,
    filter_table,
    lenet_table,
    published_errors,
    recovery_table,
    repair_comparison,
    verdict_table,
)

NET_PARAMS = 1000


@dataclass
class FakeLog:
    """The attributes of Results that comparisons read."""

    results: pd.DataFrame
    profile: str = "full"
    experiment: str = "fake"
    arrays: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.results = with_settings(self.results)
        self.results["target"] = self.results["target"].astype(float)

    def final(self) -> pd.DataFrame:
        """The rows of each run's last stage."""
        return self.results[self.results["result"] == self.results["run"]].reset_index(drop=True)


def make_log(arms: dict[str, tuple], seeds=range(5), profile="full", sparsities=(0.9, 0.99)) -> FakeLog:
    """Arms by name: (kinds, whether it joins the sparsities, points below the dense base)."""
    random = np.random.default_rng(0)
    dense = {seed: 0.986 + random.normal(0, 0.001) for seed in seeds}
    rows, arrays = [], {}
    for arm, (kinds, is_swept, gap) in arms.items():
        for kind, target, seed in product(kinds, sparsities if is_swept else (None,), seeds):
            run = f"{arm}-{kind}-{target}-{seed}"
            common = {"arm": arm, "seed": seed, "run": run, "sweep.kind": kind, "sweep.sparsity": target}
            common |= {"status": "ok", "epochs": 10.0, "train_flops": 1e12}
            common |= {"kind": kind or ("unit" if is_swept else None), "target": target}
            common |= {"removed": "filters" if arm.startswith("filters") else None}
            left = 1 - (target or 0.9)
            base = {
                "unit_sparsity": 0.0,
                "filter_sparsity": 0.0,
                "params": NET_PARAMS,
                "macs": NET_PARAMS,
                "sparsity_all": 0.0,
                "test_accuracy": dense[seed],
            }
            rows.append(common | base | {"result": f"dense-{seed}", "stage": 0, "type": "train"})
            after = {
                "params": NET_PARAMS * left,
                "macs": NET_PARAMS * left,
                "sparsity_all": 1 - left,
                "test_accuracy": dense[seed] - gap / 100 + random.normal(0, 0.0002),
                "unit_sparsity": 0.0 if kind == "weight" else target or 0.0,
                "filter_sparsity": 0.0,
                "compact_difference": 1e-6 * (1 + seed),
            }
            rows.append(common | after | {"result": run, "stage": 1, "type": "compact"})
            arrays[run] = {
                "keep_by_layer": np.array([left, left / 2]),
                "layer_names": np.array([b"linear_1", b"linear_2"]),
            }
    return FakeLog(pd.DataFrame(rows), profile, arrays=arrays)


WEIGHT, UNIT = "weight", "unit"
LOG = make_log(
    {
        "oneshot": ([WEIGHT, UNIT], True, 50),
        "refit": ([WEIGHT, UNIT], True, 2),
        "iterative_refit": ([WEIGHT, UNIT], True, 1),
        "finetune": ([WEIGHT, UNIT], True, 0.4),
        "gradual": ([WEIGHT, UNIT], True, 0.0),
        "random_finetune": ([WEIGHT, UNIT], True, 3),
        "small_dense_long": ([None], True, 0.5),
        "dense_long": ([None], False, -0.3),
    }
)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.0005, 0.0009, "matches"),
        (-0.001, 0.001, "matches"),
        (-0.0011, 0.0, "undecided"),
        (-0.003, -0.0009, "undecided"),
        (-0.003, -0.0011, "worse"),
        (0.0011, 0.002, "better"),
        (-0.002, 0.002, "undecided"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side_of_a_tenth_of_a_point(low, high, word):
    assert verdict(low, high) == word


def test_the_difference_to_dense_is_paired_by_seed():
    table = arm_table(LOG).set_index(["arm", "kind", "target"])
    rows = arm_rows(LOG)
    chosen = rows[(rows["arm"] == "gradual") & (rows["kind"] == "unit") & (rows["target"] == 0.99)]
    dense = (
        LOG.results[LOG.results["type"] == "train"].drop_duplicates("seed").set_index("seed")["test_accuracy"]
    )
    paired = stats.ttest_rel(chosen["test_accuracy"], dense.loc[chosen["seed"]])
    interval = paired.confidence_interval(0.95)
    found = table.loc[("gradual", "unit", 0.99)]
    assert found[["difference_low", "difference_high"]].tolist() == pytest.approx(
        [interval.low, interval.high]
    )
    assert found["difference_high"] - found["difference_low"] < (found["high"] - found["low"]) / 2
    assert found["verdict"] == "matches"
    assert table.loc[("finetune", "weight", 0.9), "verdict"] == "worse"


def test_two_arms_are_compared_on_the_seeds_they_share():
    rows = arm_rows(LOG)
    rows.loc[(rows["arm"] == "refit") & (rows["seed"] == 4), "status"] = "diverged"
    gap = paired_difference(rows, "finetune", "refit", ["kind", "target"])
    assert gap["n"].unique().tolist() == [4]
    assert gap["mean"].to_list() == pytest.approx([0.016] * 4, abs=0.0005)
    ended = rows[rows["status"].eq("ok") & rows["seed"].ne(4)]
    for found in gap.itertuples():
        own = ended[(ended["kind"] == found.kind) & (ended["target"] == found.target)].sort_values("seed")
        one, other = (own.loc[own["arm"] == arm, "test_accuracy"].to_list() for arm in ("finetune", "refit"))
        paired = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((paired.low, paired.high))


def test_the_difference_to_dense_is_to_the_first_training_of_the_run():
    """Not to the last, which is of the pruned network."""
    stages = {"train": 0.98, "prune": 0.5, "train_2": 0.97}
    rows = [
        {"arm": "finetune", "seed": 0, "run": "x", "result": "x" if stage == 2 else f"x{stage}",
         "stage": stage, "type": name.split("_")[0], "status": "ok", "test_accuracy": accuracy,
         "kind": "weight", "unit_sparsity": 0.0, "filter_sparsity": 0.0}
        for stage, (name, accuracy) in enumerate(stages.items())
    ]  # fmt: skip
    found = arm_rows(FakeLog(pd.DataFrame(rows[::-1])))
    assert found["difference"].to_list() == pytest.approx([-0.01])


def test_what_an_arm_prunes_is_what_its_settings_say_and_nothing_without_a_target():
    kinds = arm_rows(LOG).groupby("arm")["kind"].unique().map(list)
    assert kinds["small_dense_long"] == ["unit"]
    assert kinds["dense_long"] == [""]
    assert kinds["gradual"] == ["weight", "unit"]


def test_diverged_runs_are_left_out_of_means_and_counted():
    log = make_log({"gradual": ([WEIGHT], True, 0.0)})
    last = log.results["result"] == "gradual-weight-0.9-0"
    log.results.loc[last, ["status", "test_accuracy"]] = ["diverged", 0.1]
    found = arm_table(log).set_index("target").loc[0.9]
    assert (found["n"], found["excluded"]) == (4, 1)
    assert found["mean"] > 0.98


def test_tables_say_percent_points_and_verdicts():
    table = recovery_table(LOG, "unit", ["oneshot", "refit"])
    assert list(table.columns) == ["one-shot", "refit"]
    assert list(table.index) == ["90 %", "99 %"]
    assert table.loc["90 %", "refit"].startswith("96.")
    verdicts = verdict_table(LOG, ["gradual", "dense_long"])
    assert list(verdicts["pruned"]) == [
        "90 % of units",
        "99 % of units",
        "90 % of weights",
        "99 % of weights",
        "",
    ]
    assert verdicts["difference to dense, points"].iloc[-1].startswith("+0.3")
    assert list(verdicts["verdict"]) == ["matches"] * 4 + ["better"]


def test_an_error_has_the_interval_of_its_accuracy():
    assert error(pd.Series({"mean": 0.985, "low": 0.984, "high": 0.986})) == "1.50 ± 0.10"


def test_published_errors_stand_beside_ours_at_the_same_sparsity():
    log = make_log({"gradual": ([WEIGHT], True, 0.0)}, sparsities=(0.92, 0.5))
    table = lenet_table({"LeNet-300-100": log}, ("finetune", "gradual"))
    assert list(table["published by"]) == ["Han et al. 2015, iterative magnitude"]
    assert list(table["published error, %"]) == ["1.59"]
    assert table["gradual, error %"].iloc[0] == error(arm_table(log).query("target == 0.92").iloc[0])
    assert set(published_errors(["LeNet-5"])["log"]) == {"LeNet-5"}


def test_filters_stand_beside_the_published_networks():
    log = make_log({"filters_refit": ([None], False, 0.2), "gradual": ([WEIGHT], True, 0.0)})
    table = filter_table(log)
    assert table.index[0] == ARM_STYLES["filters_refit"][2]
    assert any("Louizos et al. 2017" in name for name in table.index[1:])
    assert table["MACs"].iloc[0] == "100"


def test_the_largest_change_of_a_logit_is_told_for_every_arm():
    table = compaction_table({"fake": LOG})
    assert table["fake"].to_dict() == dict.fromkeys(LOG.results["arm"].unique(), "5.0e-06")


def lines(ax) -> dict[str, np.ndarray]:
    """What an axis draws by legend entry: [points, 2]."""
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_recovery_curves_draw_each_arm_where_it_belongs():
    fig = recovery_curves(LOG)
    untrained, retrained = fig.axes[:2], fig.axes[2:]
    table = arm_table(LOG).set_index(["arm", "kind", "target"])
    for kind, ax in zip((WEIGHT, UNIT), untrained, strict=True):
        drawn = lines(ax)["refit"]
        assert drawn[:, 0] == pytest.approx([0.01, 0.1])
        assert drawn[:, 1] == pytest.approx(
            [100 * table.loc[("refit", kind, target), "mean"] for target in (0.99, 0.9)]
        )
        assert "gradual" not in lines(ax)
    assert "gradual" in lines(retrained[0])
    assert ARM_STYLES["small_dense_long"][2] in lines(retrained[1])
    assert ARM_STYLES["small_dense_long"][2] not in lines(retrained[0])
    assert ARM_STYLES["dense_long"][2] in lines(retrained[0])


def test_the_error_scale_spreads_the_last_points_of_accuracy():
    fig, ax = plt.subplots()
    error_scale(ax, 10, 99.9)
    heights = ax.transData.transform([(0, y) for y in (10, 90, 99)])[:, 1]
    assert np.diff(np.diff(heights))[0] == pytest.approx(
        (np.log10(10) - np.log10(9)) * (heights[2] - heights[1]), rel=1e-6
    )
    plt.close(fig)


def test_compute_curves_compare_kinds_at_equal_cost():
    fig = compute_curves(LOG)
    assert {"gradual, weights", "gradual, units", "refit in 4 steps, weights"} <= lines(fig.axes[0]).keys()
    assert lines(fig.axes[1])["gradual, units"][:, 0] == pytest.approx([10, 100])
    drawn = lines(fig.axes[2])
    assert ARM_STYLES["small_dense_long"][2] in drawn
    assert "one-shot" not in drawn


def test_lenet_figure_has_published_points_and_layers():
    log = make_log({"gradual": ([WEIGHT], True, 0.0), "finetune": ([WEIGHT], True, 0.1)})
    fig = lenet_recovery({"LeNet-300-100": log}, published_errors(["LeNet-300-100"]))
    texts = [text.get_text() for text in fig.axes[0].texts]
    assert any("Han" in text for text in texts)
    heights = sorted({round(patch.get_height(), 6) for patch in fig.axes[1].patches})
    assert heights == pytest.approx([0.5, 1, 5, 10])


def test_quick_figures_say_so():
    log = make_log({"gradual": ([WEIGHT, UNIT], True, 0.0)}, profile="quick", seeds=range(2))
    for fig in (recovery_curves(log), compute_curves(log)):
        assert QUICK_NOTE in fig.get_suptitle()


def test_criteria_are_drawn_before_and_after_refit():
    rows = []
    for criterion, target, seed in product(("magnitude", "random"), (0.8, 0.9), range(3)):
        run = f"{criterion}-{target}-{seed}"
        common = {"arm": "weight", "seed": seed, "run": run, "status": "ok", "sweep.sparsity": target}
        common |= {"criterion": criterion}
        accuracies = {"train": 0.98, "prune": 0.5, "refit": 0.9 if criterion == "random" else 0.97}
        for stage, (kind, accuracy) in enumerate(accuracies.items()):
            row = {
                "type": kind,
                "stage": stage,
                "result": f"{run}-{kind}",
                "test_accuracy": accuracy + seed / 1e4,
            }
            rows.append(common | row)
    fig = criteria_dots(FakeLog(pd.DataFrame(rows)))
    assert len(fig.axes) == 2
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["random", "magnitude"]
    refitted = fig.axes[0].containers[1].lines[0].get_xdata()
    assert refitted == pytest.approx([90.01, 97.01])


def test_repair_stands_beside_all_that_is_published_without_retraining():
    table = repair_comparison(make_log({"iterative_refit": ([WEIGHT, UNIT], True, 1.0)}))
    assert list(table["pruned"]) == sorted(table["pruned"], key=lambda text: ("units" in text, text))
    assert "justincosentino" not in set(table["published by"])
    assert (table["published by"] == "best published submission, magnitude after L1 training").sum() == 2
    assert set(table["seeds"]) == {"5"}
