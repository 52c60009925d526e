"""Lottery tickets: early stopping, levels, masks in common, verdicts, figures; what a rewind records."""

import matplotlib

matplotlib.use("Agg")

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter
from scipy import stats

from helpers.config import Stage
from helpers.config_parts import NetConfig
from helpers.errors import UserError
from helpers.measures import HISTOGRAM_EDGES, measure
from helpers.plots import QUICK_NOTE
from helpers.recovery_plots import arm_style
from helpers.stages import act
from helpers.state import begin
from helpers.ticket_plots import ticket_curves, ticket_figure, ticket_insides
from helpers.ticket_report import agreement, levels_table, longer_table, paper_table
from helpers.tickets import (
    at_level,
    chance,
    digit_errors,
    falls_below,
    gaps,
    interval,
    jaccard,
    keep_share_by_weight,
    masks,
    overlaps,
    ratio_interval,
    trainings,
)

LEVELS = (1, 0.512, 0.211, 0.135, 0.07, 0.036, 0.019)
SEEDS = range(5)
SIZES = (31 * 4, 10 * 31)  # weights of four pixels, 31 units, ten classes: neither ends with a byte
SHIFT = {"reinit": 500, "longer": 200, "shuffle": 300}
STEPS = np.arange(50, 3001, 50)


LAYERS = {"input": [1, 2, 2], "linear_1": [31], "linear_2": [10]}


@dataclass
class FakeLog:
    """The attributes of Results that tickets read."""

    results: pd.DataFrame
    curves: pd.DataFrame
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    profile: str = "full"
    net = [{"layer": name, "output_shape": shape} for name, shape in LAYERS.items()]  # noqa: RUF012


def as_published(arm: str, kept: float, seed: int) -> tuple[int, float, float]:
    """Early-stop step, accuracy there and at the end, of an arm that does as Frankle and Carbin say."""
    dense, accuracy, wiggle = 1000 + 100 * seed, 0.98 + 0.0002 * seed, 0.0005 * (-1) ** seed
    of_ticket = {0.512: 0.001, 0.211: 0.001, 0.135: 0.004, 0.07: 0.0005, 0.036: -0.0003, 0.019: -0.002}
    if kept == 1:
        step, gap = dense, 0.0
    elif arm == "ticket":
        step, gap = dense - 400, of_ticket.get(kept, 0) + wiggle
    elif arm == "reinit":
        step, gap = int(2.5 * (dense - 400)) + 50 * (seed % 2), 0.001 if kept > 0.5 else -0.004
    else:
        step, gap = dense - 400 + SHIFT.get(arm, 0), -0.003
    return step, accuracy + gap, accuracy + gap - 0.001


def no_effect(arm: str, kept: float, seed: int) -> tuple[int, float, float]:
    """As if a mask changed nothing."""
    return as_published("ticket", 1, seed)


def curve(step: int, early: float, end: float) -> pd.DataFrame:
    """Least validation loss at `step`, with test accuracy `early` there and `end` at the end."""
    test = np.where(step == STEPS, early, 0.9)
    test[-1] = end
    loss = 0.1 + np.abs(STEPS - step) / 1e4
    return pd.DataFrame(
        {"step": STEPS, "val_loss": loss, "val_accuracy": 0.97 - loss / 10, "test_accuracy": test}
    )


def make_log(arms: dict[str, Any], truth: Callable = as_published, levels=LEVELS, profile="full") -> FakeLog:
    """Arms by name with their seeds. The dense network and the rounds before a control's are the ticket's."""
    rows, curves, arrays = [], [], {}
    for arm, seed in ((arm, seed) for arm, seeds in arms.items() for seed in seeds):
        is_own = arm in ("ticket", "longer")
        # A ticket's run goes down through all levels; a control has a run a level.
        for last in levels[-1:] if is_own else levels[1:]:
            path = [level for level in levels if level >= last]
            first = arm if is_own else "ticket"
            own = [(first, kind, level) for level in path for kind in ("rewind", "train")]
            stages = own[1:] if is_own else [*own[1:-1], (arm, "rewind", last), (arm, "train", last)]
            run = f"{arm}-train-{last}-{seed}"
            for stage, (owner, kind, kept) in enumerate(stages):
                result, (step, early, end) = f"{owner}-{kind}-{kept}-{seed}", truth(owner, kept, seed)
                is_moved = owner == "shuffle" and kind == "rewind"
                row = {"arm": arm, "seed": seed, "run": run, "stage": stage, "result": result, "status": "ok"}
                row |= {"type": "prune" if is_moved else kind, "stage_name": "shuffle" if is_moved else kind}
                row |= {"sparsity_all": 1 - kept, "val_accuracy": 0.5, "train_flops": 1e9 * (1 + stage // 2)}
                rows.append(row | {"test_accuracy": end if kind == "train" else 0.1 + kept / 2})
                if kind == "train":
                    curves.append(curve(step, early, end).assign(run=run, seed=seed, stage=stage))
                arrays[result] = fake_arrays(owner, kept, seed)
    return FakeLog(pd.DataFrame(rows), pd.concat(curves, ignore_index=True), arrays, profile)


def fake_mask(owner: str, kept: float, seed: int) -> list[np.ndarray]:
    """A mask by layer; fresh weights have the ticket's."""
    random = np.random.default_rng([seed, round(1e4 * kept), owner == "longer", owner == "late_rewind"])
    counts = [max(1, round(kept * size)) for size in SIZES]
    return [random.permutation(size) < count for size, count in zip(SIZES, counts, strict=True)]


def fake_arrays(owner: str, kept: float, seed: int) -> dict[str, np.ndarray]:
    """What is recorded of a rewound network, and the confusion of a trained one."""
    layers = fake_mask(owner, kept, seed)
    confusion = np.full((10, 10), 1, np.int32) + np.diag(np.arange(10) + 90 + seed)
    found = {
        "confusion": confusion,
        "layer_names": np.array([b"linear_1", b"linear_2"]),
        "keep_by_layer": np.array([layer.mean() for layer in layers]),
        "alive_by_layer": np.array([31 * kept, 10]),
        "input_map": layers[0].reshape(31, 4).mean(0).reshape(1, 2, 2),
        "same_sign_by_layer": np.array([0.9, 0.6 + kept / 10]),
        "weight_histogram": np.tile(np.array([1, 200, 400, 200, 1]), (2, 1)),
        "pruned_histogram": np.tile(np.array([0, 0, 400, 600, 0]), (2, 1)) + seed,
        "histogram_edges": np.linspace(-0.25, 0.25, 6),
        "weights_by_layer": np.array(SIZES, np.int32),
    }
    return found | ({"mask_bits": np.packbits(np.concatenate(layers))} if kept < 0.25 else {})


CONTROLS = ("reinit", "shuffle", "oneshot_ticket", "late_rewind")
LOG = make_log({"ticket": SEEDS, "longer": [0]} | dict.fromkeys(CONTROLS, SEEDS))
TABLE = trainings(LOG)


# Numbers


def test_early_stopping_is_at_the_least_validation_loss_and_the_end_is_the_last_step():
    table = TABLE.set_index(["arm", "kept", "seed"])
    for key in [("ticket", 0.036, 3), ("reinit", 0.211, 1), ("longer", 0.512, 0), ("ticket", 1, 4)]:
        row, (step, early, end) = table.loc[key], as_published(*key)
        assert row[["early_step", "early_accuracy", "end_accuracy"]].tolist() == [step, early, end]
        assert row["val_accuracy"] == pytest.approx(0.96)
        step, early, end = as_published("ticket", 1, key[2])
        found = row[["dense_early_step", "dense_early_accuracy", "dense_end_accuracy"]]
        assert found.tolist() == [step, early, end]


def test_of_equal_losses_the_first_counts():
    log = make_log({"ticket": [0]}, levels=(1, 0.5), truth=no_effect)
    log.curves["val_loss"] = log.curves["step"].map({500: 0.1, 1500: 0.1}).fillna(0.2)
    log.curves["test_accuracy"] = log.curves["step"] / 1e4
    assert trainings(log)[["early_step", "early_accuracy"]].to_numpy().tolist() == [[500, 0.05]] * 2


def test_each_training_stands_once_under_the_first_arm_that_has_it():
    expected = {"ticket": 7 * 5, "longer": 7} | dict.fromkeys(CONTROLS, 6 * 5)
    assert TABLE["arm"].value_counts(sort=False).to_dict() == expected
    assert (TABLE["result"].str.split("-").str[0] == TABLE["arm"]).all()
    swapped = LOG.results.assign(arm=LOG.results["arm"].replace({"ticket": "reinit", "reinit": "ticket"}))
    assert not trainings(FakeLog(swapped, LOG.curves)).query("arm == 'reinit' and kept == 1").empty


def test_without_validation_images_there_is_no_early_stopping():
    with pytest.raises(UserError, match="validation_size"):
        trainings(FakeLog(LOG.results, LOG.curves.assign(val_loss=np.nan)))


def test_a_level_is_the_nearest_in_ratio_and_without_the_diverged():
    table = TABLE.copy()
    assert at_level(table, "ticket", 0.101)["kept"].unique() == [0.135]  # 0.07 is nearer in difference
    assert at_level(table, "ticket", 0.09)["kept"].unique() == [0.07]
    table.loc[table["arm"].eq("reinit") & table["seed"].eq(2), "status"] = "diverged"
    assert at_level(table, "reinit", 0.07).index.tolist() == [0, 1, 3, 4]
    assert gaps(table, "reinit")["n"].unique().tolist() == [4]
    with pytest.raises(UserError, match="gradual"):
        at_level(table, "gradual", 0.5)


def test_a_training_that_diverged_before_its_first_logged_step_is_left_out():
    results, curves = LOG.results.copy(), LOG.curves.copy()
    run = "reinit-train-0.07-2"
    last = results.loc[results["run"] == run, "stage"].max()
    results.loc[results["run"].eq(run) & results["stage"].eq(last), "status"] = "diverged"
    curves.loc[curves["run"].eq(run) & curves["stage"].eq(last), "val_loss"] = np.nan
    assert at_level(trainings(FakeLog(results, curves)), "reinit", 0.07).index.tolist() == [0, 1, 3, 4]


def test_intervals_are_of_students_t():
    values = np.array([0.97, 0.98, 0.985, 0.96])
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    expected = [values.mean(), ends.low, ends.high, 4]
    assert interval(np.append(values, np.nan)) == pytest.approx(expected)
    assert interval(pd.Series([0.5, np.nan])) == pytest.approx((0.5, np.nan, np.nan, 1), nan_ok=True)
    mean, *_, n = interval(pd.Series([np.nan]))
    assert (np.isnan(mean), n) == (True, 0)


def test_ratios_are_paired_by_seed_and_averaged_as_logarithms():
    one, other = pd.Series([400, 900, 100], [0, 1, 2]), pd.Series([100, 100, 100, 7], [1, 0, 2, 3])
    mean, low, high, n = ratio_interval(one, other)
    assert (mean, n) == (pytest.approx(36 ** (1 / 3)), 3)  # ratios 4, 9 and 1
    ends = stats.ttest_1samp(np.log([4, 9, 1]), 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((np.exp(ends.low), np.exp(ends.high)))


def test_gaps_are_paired_differences_to_the_dense_network():
    found = gaps(TABLE, "ticket")
    assert found["kept"].tolist() == list(LEVELS[1:])
    ours, dense = ([as_published("ticket", kept, seed)[1] for seed in SEEDS] for kept in (0.036, 1))
    ends = stats.ttest_rel(ours, dense).confidence_interval(0.95)
    expected = [np.mean(ours) - np.mean(dense), ends.low, ends.high, 5]
    assert found.set_index("kept").loc[0.036].tolist() == pytest.approx(expected)
    assert gaps(TABLE, "ticket", "early_step")["mean"].tolist() == [-400] * 6


BELOW = {
    (1, 1, 1, 1, 1, 1): (np.nan, np.nan),
    (1, 1, 1, 1, -9, -9): (0.036, 0.036),
    (-9, -9, 1, 1, 1, 1): (np.nan, np.nan),
    (-9, 1, 1, -9, 1, -9): (0.019, 0.019),
    (1, 1, -0.5, -0.5, -9, -9): (0.135, 0.036),  # the interval reaches above zero at first
    (1, 1, 1, 1, 1, -0.5): (0.019, np.nan),
    (-9, -9, -9, -9, -9, -9): (0.512, 0.512),
}
"""From thousandths above the dense network, by level, to where an arm falls below it."""


@pytest.mark.parametrize(("means", "levels"), BELOW.items())
def test_an_arm_is_below_dense_from_the_level_after_which_it_stays_there(means, levels):
    gap = dict(zip(LEVELS[1:], means, strict=True))

    def truth(arm, kept, seed):
        return 500, 0.9 + (gap[kept] / 1e3 + 0.001 * (-1) ** seed if kept < 1 else 0), 0.9

    table = trainings(make_log({"ticket": SEEDS}, truth))
    assert falls_below(table, "ticket") == pytest.approx(levels, nan_ok=True)


# Masks


def test_masks_come_back_by_layer_once_each():
    found = masks(LOG)
    dense = [kept for kept in LEVELS if kept < 0.25]
    assert set(found["arm"]) == {"ticket", "longer", "late_rewind"}  # the others take the ticket's mask over
    assert len(found) == len(dense) * (5 + 1 + 5)
    for row in found.itertuples():
        for layer, expected in zip(row.layers, fake_mask(row.arm, row.kept, row.seed), strict=True):
            np.testing.assert_array_equal(layer, expected)


def test_overlap_is_counted_by_hand():
    one, other = (np.array(bits, bool) for bits in ([1, 1, 0, 0, 1], [0, 1, 1, 0, 1]))
    assert jaccard(one, other) == 2 / 4
    # Two units, two inputs: kept at an input with 1 × 1/2 and 0 × 1/2, so one weight in common of 2 + 2 - 1.
    one, other = np.array([[1, 0], [1, 0]], bool), np.array([[1, 0], [0, 1]], bool)
    assert chance(one, other) == 1 / 3
    assert chance(one.reshape(-1, 1), other.reshape(-1, 1)) == 1 / 3
    assert chance(one, ~one) == 0


@pytest.mark.parametrize("is_by_pixel", [True, False])
def test_chance_is_what_independent_masks_have_in_common(is_by_pixel):
    random = np.random.default_rng(0)
    shares = np.linspace(0.02, 0.6, 20) if is_by_pixel else np.full(20, 0.3)
    drawn = [(random.random((2, 500, 20)) < shares) for _ in range(30)]
    found = np.mean([jaccard(one, other) for one, other in drawn])
    assert np.mean([chance(one, other) for one, other in drawn]) == pytest.approx(found, rel=0.01)
    flat = np.mean([chance(one.reshape(-1, 1), other.reshape(-1, 1)) for one, other in drawn])
    assert flat == pytest.approx(found, rel=0.01) if not is_by_pixel else flat < 0.85 * found


def test_tickets_are_compared_with_other_seeds_and_with_their_own_controls():
    found = overlaps(LOG)
    pairs = {"other seeds": 10, "longer, same seed": 1, "late_rewind, same seed": 5}
    counts = found.groupby(["kept", "pair"]).size().unstack()
    assert counts.to_dict("list") == {pair: [count] * 5 for pair, count in pairs.items()}
    one, other = (fake_mask(arm, 0.07, 0)[0] for arm in ("ticket", "longer"))
    row = found[found["kept"].eq(0.07) & found["pair"].eq("longer, same seed")].iloc[0]
    assert row["jaccard"] == sum(one & other) / sum(one | other)
    n, all_ = 9, 124  # kept, of all
    assert row["chance"] == pytest.approx((n * n / all_) / (2 * n - n * n / all_))
    by_pixel = sum(one[pixel::4].sum() * other[pixel::4].sum() / 31 for pixel in range(4))
    assert row["chance_by_pixel"] == pytest.approx(by_pixel / (2 * n - by_pixel))


def test_a_digits_errors_are_off_the_diagonal_of_its_row():
    log = make_log({"ticket": [0, 1]}, levels=(1, 0.5))
    for seed, rows in enumerate(([[8, 2], [1, 3]], [[10, 0], [4, 0]])):
        log.arrays[f"ticket-train-0.5-{seed}"]["confusion"] = np.array(rows)
    np.testing.assert_allclose(digit_errors(log, trainings(log), "ticket", 0.5), [[0.2, 0.25], [0, 1]])


def test_the_share_kept_by_weight_leaves_out_tails_and_bins_with_few():
    log = make_log({"ticket": [0, 1]}, levels=(1, 0.5, 0.1))
    counts = {0: ([9, 60, 50, 30, 10], [9, 40, 49, 70, 90]), 1: ([9, 80, 99, 50, 10], [9, 20, 99, 150, 90])}
    for seed, (ours, rest) in counts.items():
        arrays = log.arrays[f"ticket-rewind-0.1-{seed}"]
        arrays["weight_histogram"] = np.array([[0] * 5, ours])
        arrays["pruned_histogram"] = np.array([[0] * 5, rest])
    found = keep_share_by_weight(log, 1, 0.09)
    assert found["weight"].tolist() == pytest.approx([-0.1, 0.1])  # the middle one has 99 weights of seed 0
    assert found["mean"].tolist() == pytest.approx([0.7, 0.275])  # 60 and 80 of 100; 30 of 100, 50 of 200
    assert found["n"].tolist() == [2, 2]


# Tables


AGREEMENTS = {
    "yes": [(0.3, 0.45), (0.38, 0.45), (0.3, 0.38)],
    "undecided": [(-0.1, 0.5), (0, 0.38)],
    "no": [(-0.1, 0.3), (-0.3, -0.1)],
    "less": [(0.1, 0.3)],
    "more": [(0.4, 0.5)],
    "one seed": [(np.nan, np.nan)],
}


@pytest.mark.parametrize(("word", "ends"), [(word, ends) for word in AGREEMENTS for ends in AGREEMENTS[word]])
def test_agreement_needs_the_published_value_inside_and_no_effect_outside(word, ends):
    assert agreement(*ends, 0.38) == word
    assert agreement(*np.add(ends, 2), 2.38, none=2.0) == word


@pytest.mark.parametrize(
    ("word", "ends"),
    [("yes", (0.31, 0.4)), ("less", (0.1, 0.2)), ("undecided", (-0.1, 0.4)), ("no", (-0.1, 0.2))],
)
def test_agreement_with_more_than_a_value(word, ends):
    assert agreement(*ends, 0.3, is_bound=True) == word


def test_an_interval_that_holds_the_bound_is_not_less():
    assert agreement(0.2, 0.5, 0.3, is_bound=True) != "less"


def test_the_papers_quantities_agree_where_they_are_so():
    table = paper_table(LOG)
    assert table["agrees"].tolist() == ["yes"] * 3 + ["", "", "yes", "yes", "yes"]
    assert table["seeds"].tolist() == [5] * 8
    ratios = [1 - 400 / (1000 + 100 * seed) for seed in SEEDS]
    assert table["here"].iloc[0].startswith(f"{100 * (1 - stats.gmean(ratios)):.0f} % (")
    assert table["here"].iloc[1].startswith("2.53 × (2.4")  # 2.5 and a step more for two seeds
    assert table["here"].iloc[5].startswith("+0.41 ± 0.0")
    assert table["paper"].tolist() == ["38 %", "2.51 ×", "+0.50", "", "", "> +0.30", "2.9 %", "21.1 %"]
    assert table["here"].iloc[6] == "mean: 3.6 %; whole interval: 1.9 %"
    assert table["here"].iloc[7] == "mean: 21.1 %; whole interval: 21.1 %"


def test_the_papers_quantities_disagree_where_a_mask_changes_nothing():
    table = paper_table(make_log({"ticket": SEEDS, "reinit": SEEDS}, no_effect))
    assert table["agrees"].tolist() == ["no"] * 3 + ["", "", "no", "holds longer", "holds longer"]
    assert table["here"].iloc[-1] == "mean: not down to 1.9 %; whole interval: not down to 1.9 %"
    table = paper_table(make_log({"ticket": [0], "reinit": [0]}))
    assert table["agrees"].tolist()[:6] == ["one seed"] * 3 + ["", "", "one seed"]
    assert table["here"].tolist()[:3] == ["40 %", "2.50 ×", "+0.55"]


def test_a_ticket_that_is_below_dense_at_once_falls_earlier():
    def truth(arm, kept, seed):
        return 500, 0.9 - 0.01 * (kept < 1) + 0.0001 * seed, 0.9

    table = paper_table(make_log({"ticket": SEEDS, "reinit": SEEDS}, truth))
    assert table["agrees"].tolist()[6:] == ["falls earlier", "falls earlier"]


def test_every_arm_stands_by_level_with_its_paired_difference_to_the_ticket():
    table = levels_table(LOG, ("ticket", "reinit", "longer"), ("reinit", "longer"))
    assert table.index.tolist() == ["dense", "51.2 %", "21.1 %", "13.5 %", "7 %", "3.6 %", "1.9 %"]
    ours, theirs = ([as_published(arm, 0.07, seed)[1] for seed in SEEDS] for arm in ("ticket", "reinit"))
    for values, name in ((ours, "ticket"), (theirs, "reinit")):
        half = stats.sem(values) * stats.t.ppf(0.975, 4)
        assert table.loc["7 %", arm_style(name)[2]] == f"{100 * np.mean(values):.2f} ± {100 * half:.2f}"
    gap = np.subtract(ours, theirs)
    half = stats.sem(gap) * stats.t.ppf(0.975, 4)
    column = f"ticket less {arm_style('reinit')[2]}, points"
    assert table.loc["7 %", column] == f"{100 * gap.mean():+.2f} ± {100 * half:.2f}"
    assert table.loc["dense"].tolist() == ["98.04 ± 0.04", "", "98.00", "", ""]
    assert table.loc["7 %"].iloc[-1] == "+0.40"  # one seed: 98.10 less 97.70


def test_means_by_level_leave_the_diverged_out():
    log = make_log({"ticket": [0, 1], "reinit": [0, 1]}, levels=(1, 0.5))
    log.results.loc[log.results["run"].eq("reinit-train-0.5-1"), "status"] = "diverged"
    table = levels_table(log, ("reinit",))
    assert table.iloc[1, 0] == "97.60"  # of seed 0 alone, as is the difference beside it
    assert table.iloc[1, 1] == "+0.45"


@pytest.mark.filterwarnings("ignore:The .lsuffix. and .rsuffix. keywords")  # pandas 3.1
def test_training_longer_is_compared_on_the_seeds_that_did():
    table = longer_table(LOG)
    assert table.index.tolist() == ["100 %", "51.2 %", "21.1 %", "13.5 %", "7 %", "3.6 %", "1.9 %"]
    assert table.loc["13.5 %"].tolist() == ["600", "800", "98.45", "97.70", "98.37 to 98.53"]
    log = make_log({"ticket": SEEDS, "longer": [1, 3]}, levels=(1, 0.135))
    assert longer_table(log).loc["13.5 %"].tolist()[:4] == ["800", "1,000", "98.39", "97.74"]


# Figures


def lines(ax) -> dict[str, np.ndarray]:
    """What an axis draws by legend entry: [points, 2]."""
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def expected(arm: str, quantity: int, levels=LEVELS, seeds=SEEDS) -> np.ndarray:
    """Means over seeds, by level from the sparsest on: [levels, 2]."""
    means = [np.mean([as_published(arm, kept, seed)[quantity] for seed in seeds]) for kept in levels]
    return np.array([levels, np.multiply(means, 100 if quantity else 1)]).T[::-1]


def test_the_ticket_figure_draws_means_over_weights_kept_and_over_cost():
    quick = make_log({"ticket": [0, 1], "reinit": [0, 1]}, profile="quick")
    fig = ticket_figure(LOG, quick)
    fig.draw_without_rendering()
    early, step, end, quick_early, quick_step, cost = fig.axes
    for quantity, ax in ((1, early), (0, step), (2, end)):
        np.testing.assert_allclose(lines(ax)["ticket"], expected("ticket", quantity))
        drawn = lines(ax)[arm_style("reinit")[2]]
        np.testing.assert_allclose(drawn, expected("reinit", quantity, LEVELS[1:]))
        dense = expected("ticket", quantity)[-1, 1]
        assert ax.get_lines()[0].get_ydata() == pytest.approx([dense, dense])
    for quantity, ax in ((1, quick_early), (0, quick_step)):
        np.testing.assert_allclose(lines(ax)["ticket"], expected("ticket", quantity, seeds=[0, 1]))
    assert f"{arm_style('longer')[2]} (n = 1)" in lines(early)
    ticks = [label.get_text() for label in early.get_xticklabels()]
    assert ticks == ["100", "51.2", "21.1", "7", "3.6", "1.9"]
    low, high = interval(TABLE.query("arm == 'ticket' and kept == 0.07")["early_accuracy"])[1:3]
    band = early.collections[0].get_paths()[0].vertices
    assert sorted(set(band[band[:, 0] == 0.07, 1].round(6))) == pytest.approx([100 * low, 100 * high])
    markers = [line for line in cost.get_lines() if line.get_color() == arm_style("ticket")[0]]
    assert [line.get_fillstyle() for line in markers] == ["full", "none"]
    # The third training, and the sixth; a random mask needs one.
    found = np.concatenate([line.get_xydata() for line in markers])
    heights = expected("ticket", 2)[[4, 1], 1]
    np.testing.assert_allclose(found, np.array([[3, 6], heights]).T)
    random = [line for line in cost.get_lines() if line.get_color() == arm_style("shuffle")[0]]
    assert {x for line in random for x in line.get_xdata()} == {1}
    assert not [line for line in cost.get_lines() if line.get_marker() == arm_style("longer")[1]]
    assert fig.get_suptitle() == QUICK_NOTE


def test_ticket_curves_draw_means_over_steps_with_a_dot_at_early_stop():
    fig = ticket_curves(LOG)
    fig.draw_without_rendering()
    names = ["dense", "51.2 % kept", "21.1 % kept", "7 % kept", "3.6 % kept", "1.9 % kept"]
    for arm, accuracy, loss in zip(("ticket", "reinit"), fig.axes[:2], fig.axes[2:], strict=True):
        assert [label for label in lines(loss) if not label.startswith("_")] == names
        stops = [as_published(arm, 0.07, seed) for seed in SEEDS]
        curves = [curve(*stop)[["val_loss", "test_accuracy"]] * np.array([1, 100]) for stop in stops]
        for ax, column in ((loss, "val_loss"), (accuracy, "test_accuracy")):
            means = np.mean([found[column] for found in curves], 0)
            np.testing.assert_allclose(lines(ax)["7 % kept"], np.array([STEPS, means]).T)
        dots = [line.get_xdata()[0] for line in loss.get_lines() if line.get_marker() == "o"]
        others = [expected(arm, 0, [kept])[0, 1] for kept in LEVELS if kept != 0.135]
        assert dots == pytest.approx(others)
    assert fig.get_suptitle() == ""


def test_the_inside_of_tickets_shows_what_was_recorded():
    fig = ticket_insides(LOG)
    fig.draw_without_rendering()
    pixels, layers, overlap, by_weight, signs, digits, untrained = (*fig.axes[:1], *fig.axes[3:9])
    maps = [fake_mask("ticket", 0.512, seed)[0].reshape(31, 2, 2).mean(0) for seed in SEEDS]
    np.testing.assert_allclose(pixels.get_images()[0].get_array(), np.mean(maps, 0))
    share = np.mean([fake_mask("ticket", 0.07, seed)[1].mean() for seed in SEEDS])
    assert lines(layers)["linear_2"][2] == pytest.approx((0.07, 100 * share))
    assert lines(layers)["linear_1, units alive"][:, 1] == pytest.approx(100 * np.array(LEVELS[:0:-1]))
    found = overlaps(LOG).query("pair == 'other seeds'").groupby("kept").mean(numeric_only=True)
    for label, column in (("another seed's ticket", "jaccard"), ("chance", "chance")):
        np.testing.assert_allclose(lines(overlap)[label], np.array([found.index, found[column]]).T)
    shares = [[200 / (200 + s), 400 / (800 + s), 200 / (800 + s)] for s in SEEDS]
    drawn = lines(by_weight)["7 % kept"]
    np.testing.assert_allclose(drawn, np.array([[-0.1, 0, 0.1], 100 * np.mean(shares, 0)]).T, atol=1e-12)
    assert lines(signs)["linear_2"][:, 1] == pytest.approx([60 + 10 * kept for kept in LEVELS[:0:-1]])
    errors = 100 * np.mean([9 / (100 + seed + 5) for seed in SEEDS])
    assert digits.containers[1].patches[5].get_height() == pytest.approx(errors)
    names = [text.get_text() for text in digits.get_legend().texts]
    assert names == ["dense", "7 % kept", "3.6 % kept", "1.9 % kept"]
    for arm in ("ticket", "shuffle", "reinit", "oneshot_ticket"):
        drawn = np.array([LEVELS[:0:-1], [10 + 50 * kept for kept in LEVELS[:0:-1]]]).T
        np.testing.assert_allclose(lines(untrained)[arm_style(arm)[2]], drawn)


def test_shares_by_layer_are_labelled_in_percent():
    fig = ticket_insides(make_log({"ticket": [0, 1]}))
    fig.draw_without_rendering()
    assert {"10", "100"} <= {label.get_text() for label in fig.axes[3].get_yticklabels()}


# What a rewind records

TRAIN = {"type": "train", "epochs": 2, "batch_size": 100}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.8}
NET = NetConfig.model_validate(
    {"layers": [{"type": "flatten"}, {"type": "linear", "units": 16}, {"type": "linear", "units": 10}]}
)


@pytest.fixture
def start(digits) -> Callable:
    """A new state with these stages behind it."""

    def make(*stages: dict[str, Any]):
        state = begin(NET, digits, 0)
        for words in stages:
            act(state, TypeAdapter(Stage).validate_python(words))
        return state

    return make


def arrays_of(state) -> tuple[dict, list[np.ndarray], list[np.ndarray]]:
    """What is recorded of a state; its weights and masks by layer."""
    layers = state.network.weighted().values()
    weights = [layer.weight.detach().numpy().copy() for layer in layers]
    return measure(state)[1], weights, [layer.weight_mask.numpy().copy() for layer in layers]


@pytest.mark.parametrize("to", ["init", "fresh"])
def test_a_rewind_records_signs_masks_and_what_it_left_out(start, to):
    _, trained, pruned = arrays_of(start(TRAIN, PRUNE))
    arrays, weights, layers = arrays_of(start(TRAIN, PRUNE, {"type": "rewind", "to": to}))
    same = [np.mean(np.sign(w[m]) == np.sign(t[m])) for w, t, m in zip(weights, trained, layers, strict=True)]
    assert arrays["same_sign_by_layer"].tolist() == pytest.approx(same)
    assert abs(same[0] - 0.5) < 0.05 if to == "fresh" else same[0] > 0.6
    bits = np.unpackbits(arrays["mask_bits"])
    np.testing.assert_array_equal(bits[: 784 * 16 + 160], np.concatenate([mask.ravel() for mask in pruned]))
    assert arrays["weights_by_layer"].tolist() == [784 * 16, 160]
    both = arrays["weight_histogram"] + arrays["pruned_histogram"]
    assert both.sum(1).tolist() == [784 * 16, 160]
    assert arrays["pruned_histogram"].sum(1).tolist() == [int((~mask).sum()) for mask in layers]


def test_kept_and_pruned_initial_weights_make_up_all_initial_weights(start):
    initial = start().network.weighted()["linear_1"].weight.detach().numpy()
    arrays, _, (mask, _) = arrays_of(start(TRAIN, PRUNE, {"type": "rewind", "to": "init"}))
    for name, chosen in (("weight_histogram", mask), ("pruned_histogram", ~mask)):
        counts = np.histogram(np.clip(initial[chosen], -0.3, 0.3), HISTOGRAM_EDGES)[0]
        np.testing.assert_array_equal(arrays[name][0], counts)


def test_masks_are_recorded_of_sparse_rewound_networks_only(start):
    names = {"same_sign_by_layer", "pruned_histogram", "weights_by_layer", "mask_bits"}
    rewind = {"type": "rewind", "to": "init"}
    for stages in ((TRAIN,), (TRAIN, PRUNE), (TRAIN, PRUNE, rewind, TRAIN), (TRAIN, PRUNE, rewind, PRUNE)):
        assert not names & measure(start(*stages))[1].keys()
    # Of 12,704 weights, 3,176 are a quarter: 160 of the logits, and 3,016 or one more of 12,544.
    for kept, is_recorded in ((3016, True), (3017, False)):
        prune = PRUNE | {"sparsity": 1 - kept / 12544}
        arrays, _, layers = arrays_of(start(TRAIN, prune, rewind))
        assert sum(int(mask.sum()) for mask in layers) == kept + 160
        assert names - arrays.keys() == (set() if is_recorded else {"mask_bits"})


def test_a_training_that_pruned_meanwhile_has_no_early_stop():
    """Its steps before the end are of a network with more weights than it came out with."""
    log = make_log({"ticket": [0, 1], "reinit": [0, 1]}, levels=(1, 0.5))
    last = log.results["result"] == log.results["run"]
    gradual = log.results["arm"].eq("reinit") & last
    log.results.loc[log.results["arm"].eq("reinit") & ~last, "sparsity_all"] = 0.2
    table = trainings(log)
    rows = table[table["arm"] == "reinit"]
    assert len(rows) == gradual.sum() == 2
    assert rows[["early_step", "early_accuracy"]].isna().all(axis=None)
    assert rows["end_accuracy"].notna().all()
    assert table.loc[table["arm"] == "ticket", "early_step"].notna().all()
