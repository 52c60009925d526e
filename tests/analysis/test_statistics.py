"""Statistics over seeds: intervals and tests are scipy's, pairs are pairs, only seeds are pooled."""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.analysis.selection import known, select
from helpers.analysis.statistics import (
    MARGIN,
    at_setting,
    best,
    family,
    holm,
    interval,
    paired,
    plateau,
    ratio,
    setting_text,
    single,
    summary,
    tuned,
    verdict,
)
from helpers.foundations.errors import UserError

NOISE = np.array([0.0004, -0.0002, 0.0001, -0.0003, 0.0])
"""By seed: of mean 0, and far within MARGIN."""


def runs(arms: dict[str, Callable[[int], float]], seeds: Iterable[int] = range(5)) -> pd.DataFrame:
    """A row an arm and seed, of the accuracy that a function of the seed gives."""
    rows = [
        {"arm": arm, "seed": seed, "status": "ok", "result": f"{arm}-{seed}", "test_accuracy": accuracy(seed)}
        for (arm, accuracy), seed in product(arms.items(), seeds)
    ]
    return pd.DataFrame(rows)


def by_scipy(values: Any) -> tuple[float, float, float]:
    """Mean and ends of the 95 % t-interval."""
    values = np.asarray(values, float)
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return values.mean(), found.low, found.high


# Names and rows


def test_an_unknown_name_is_told_with_the_nearest_or_with_all():
    assert known("lr", ["lr", "alpha"], "column") == "lr"
    with pytest.raises(UserError, match=r"^column: unknown 'aplha'; did you mean 'alpha'\?$"):
        known("aplha", ["lr", "alpha"], "column")
    with pytest.raises(UserError, match=r"^arm: unknown 'zzz'; expected one of lr, alpha$"):
        known("zzz", ["lr", "alpha", "lr"], "arm")


def test_rows_are_selected_by_column_axis_list_number_and_emptiness():
    rows = pd.DataFrame(
        {"arm": ["one", "two", "one"], "sweep.width": [0.1 + 0.2, np.nan, 2], "place": range(3)}
    )
    assert list(select(rows, arm="one")["place"]) == [0, 2]
    assert list(select(rows, width=0.3)["place"]) == [0]
    assert list(select(rows, width=None)["place"]) == [1]
    assert list(select(rows, arm=["one", "absent"], width=[2, 5])["place"]) == [2]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"amr": "one"}, "column: unknown 'amr'; did you mean 'arm'"),
        ({"widht": 1}, "column: unknown 'widht'; did you mean 'width'"),
        ({"arm": "finetune_cc"}, "arm: unknown 'finetune_cc'; did you mean 'finetune_ce'"),
        ({"arm": ["gradual", "finetune_cc"]}, "arm: unknown 'finetune_cc'; did you mean 'finetune_ce'"),
        ({"width": [3, 5]}, "width: unknown 3; expected one of 1, 2"),
    ],
)
def test_what_is_not_there_cannot_be_selected(wanted, text):
    rows = pd.DataFrame({"arm": ["finetune_ce", "gradual"], "sweep.width": [1, 2]})
    with pytest.raises(UserError, match=text):
        select(rows, **wanted)


# Means and intervals


def test_an_interval_is_that_of_scipy_and_absent_values_do_not_count():
    values = [0.97, 0.975, 0.981, 0.969]
    assert interval(values) == pytest.approx((*by_scipy(values), 4))
    assert interval([*values, np.nan]) == pytest.approx((*by_scipy(values), 4))


def test_one_value_has_no_interval_and_none_no_mean():
    assert interval([0.5]) == pytest.approx((0.5, np.nan, np.nan, 1), nan_ok=True)
    assert interval([]) == pytest.approx((np.nan, np.nan, np.nan, 0), nan_ok=True)


def test_a_summary_is_scipys_of_each_group_in_the_order_in_which_they_appear():
    rows = runs({"late": lambda seed: 0.9 + seed / 100, "early": lambda seed: 0.8 - seed**2 / 100})
    table = summary(rows, "arm")
    assert list(table) == ["arm", "mean", "low", "high", "n", "excluded"]
    assert list(table["arm"]) == ["late", "early"]
    for found in table.itertuples():
        values = rows.loc[rows["arm"] == found.arm, "test_accuracy"]
        assert (found.mean, found.low, found.high) == pytest.approx(by_scipy(values))
        assert (found.n, found.excluded) == (5, 0)


def test_runs_that_diverged_are_counted_and_in_no_mean():
    rows = runs({"one": lambda seed: 0.9 + seed / 100, "two": lambda seed: 0.5})
    rows.loc[[1, *range(5, 10)], ["status", "test_accuracy"]] = "diverged", 0.1
    one, two = summary(rows, "arm").itertuples()
    assert (one.n, one.excluded, two.n, two.excluded) == (4, 1, 0, 5)
    assert (one.mean, one.low, one.high) == pytest.approx(by_scipy([0.9, 0.92, 0.93, 0.94]))
    assert np.isnan(two.mean)


def test_a_single_seed_has_a_mean_and_no_interval():
    found = summary(runs({"one": lambda seed: 0.9}, seeds=[3]), "arm").iloc[0]
    assert (found["mean"], found["n"]) == (0.9, 1)
    assert np.isnan(found["low"])
    assert np.isnan(found["high"])


def test_a_summary_of_a_column_that_is_not_there_names_the_nearest():
    rows = runs({"one": lambda seed: 0.9})
    with pytest.raises(UserError, match=r"unknown 'test_acuracy'; did you mean 'test_accuracy'\?"):
        summary(rows, "arm", "test_acuracy")
    with pytest.raises(UserError, match=r"unknown 'amr'; did you mean 'arm'\?"):
        summary(rows, "amr")


# What may be pooled


@pytest.mark.parametrize("setting", ["criterion", "sweep.criterion", "scope", "experiment"])
def test_pooling_two_values_of_a_setting_is_an_error_that_names_it(setting):
    rows = runs({"one": lambda seed: 0.9 + seed / 100})
    rows = pd.concat([rows.assign(**{setting: value}) for value in ("magnitude", "random")])
    rows["result"] = [str(place) for place in range(len(rows))]
    text = (
        f"^{setting}: expected one value in each group of arm, since only seeds are pooled, found magnitude, "
    )
    with pytest.raises(UserError, match=text + f"random; select one, or group by {setting} too$"):
        summary(rows, "arm")
    assert list(summary(rows, ["arm", setting])["n"]) == [5, 5]


def test_an_empty_setting_is_another_value():
    rows = runs({"one": lambda seed: 0.9}).assign(temperature=[1, 1, np.nan, 1, 1])
    with pytest.raises(UserError, match=r"^temperature: "):
        summary(rows, "arm")


def test_a_setting_of_runs_that_did_not_end_well_does_not_matter():
    rows = runs({"one": lambda seed: 0.9}).assign(criterion=["random", *["magnitude"] * 4])
    rows.loc[0, "status"] = "failed"
    assert summary(rows, "arm")["n"].item() == 4


def test_two_rows_of_a_seed_are_an_error_that_says_how_they_differ():
    rows = runs({"one": lambda seed: 0.9 + seed / 100})
    rows = pd.concat([rows.assign(stage=stage, result=rows["result"] + stage) for stage in "ab"])
    with pytest.raises(UserError, match=r"^arm: expected one row a seed in each group, .* differ in stage; "):
        summary(rows, "arm")
    with pytest.raises(UserError, match="such as those of several steps or layers"):
        summary(rows.drop(columns="stage"), "arm")


def test_a_result_that_several_runs_share_counts_once():
    rows = runs({"one": lambda seed: 0.9 + seed / 100})
    found = summary(pd.concat([rows.assign(run="a"), rows.assign(run="b")]), "arm").iloc[0]
    assert found["n"] == 5
    assert found["high"] == pytest.approx(by_scipy(rows["test_accuracy"])[2])
    assert len(single(pd.concat([rows, rows]), ["arm", "seed"])) == 5


# Paired differences


def test_differences_are_paired_by_seed_in_whatever_order_the_rows_stand():
    rows = runs({"one": lambda seed: 0.95 + seed / 50 + NOISE[seed], "other": lambda seed: 0.94 + seed / 50})
    mixed = rows.sample(frac=1, random_state=0)
    found = paired(select(mixed, arm="one"), select(mixed, arm="other"))
    assert dict(zip(found["seed"], found["difference"], strict=True)) == pytest.approx(
        dict(enumerate(0.01 + NOISE))
    )
    one, other = (select(rows, arm=arm)["test_accuracy"] for arm in ("one", "other"))
    theirs = stats.ttest_rel(one, other).confidence_interval(0.95)
    table = summary(found, "arm", "difference").iloc[0]
    assert (table["low"], table["high"]) == pytest.approx((theirs.low, theirs.high))
    alone = summary(rows, "arm").iloc[0]
    assert table["high"] - table["low"] < (alone["high"] - alone["low"]) / 20


def test_a_run_without_a_partner_that_ended_well_has_no_difference():
    rows = runs({"one": lambda seed: 0.9, "other": lambda seed: 0.8})
    rows.loc[rows["arm"].eq("one") & rows["seed"].eq(0), "status"] = "diverged"
    rows.loc[rows["arm"].eq("other") & rows["seed"].eq(1), "status"] = "failed"
    rows = rows[~(rows["arm"].eq("other") & rows["seed"].eq(2))]
    found = paired(select(rows, arm="one"), select(rows, arm="other"))
    assert list(found["difference"].isna()) == [True, True, True, False, False]
    assert list(found["difference"].dropna()) == pytest.approx([0.1, 0.1])


def test_differences_are_paired_by_further_columns_and_of_any_value():
    rows = runs({"one": lambda seed: seed / 10})
    rows = pd.concat(
        [rows.assign(width=width, test_accuracy=rows["test_accuracy"] * width) for width in (1, 2)]
    )
    control = rows.assign(test_accuracy=rows["test_accuracy"] - rows["width"])
    found = paired(rows.iloc[::-1], control, on=["width"])
    assert list(found["difference"]) == pytest.approx(list(found["width"]))
    assert list(paired(found, found, "difference", ["width"])["difference"]) == [0] * 10
    with pytest.raises(UserError, match=r"^rows: expected one row a seed"):
        paired(rows, control.assign(result=range(10)))
    with pytest.raises(UserError, match=r"unknown 'widht'; did you mean 'width'\?"):
        paired(rows, control, on=["widht"])


def test_a_control_of_two_settings_is_none():
    rows = runs({"one": lambda seed: 0.9})
    control = pd.concat([rows.assign(lr=lr, result=rows["result"] + str(lr)) for lr in (0.1, 0.2)])
    with pytest.raises(
        UserError, match=r"^lr: expected one value in each group of rows, .* found 0\.1, 0\.2"
    ):
        paired(rows, control)


def test_a_ratio_is_the_geometric_mean_of_pairs():
    one, other = pd.Series([200, 410, 805]), pd.Series([100, 200, 400])
    found = ratio(one, other)
    assert found[:3] == pytest.approx(np.exp(by_scipy(np.log(one / other))))
    assert found[3] == 3


# Choices on validation


def swept(val: Callable[[int, float], float], seeds: Iterable[int] = range(3)) -> pd.DataFrame:
    """Runs at two learning rates; on test, the accuracy tells which run it is."""
    rows = [
        {"arm": "kd", "seed": seed, "sweep.lr": lr, "lr": lr, "status": "ok", "result": f"{seed}-{lr}",
         "val_accuracy": val(seed, lr), "test_accuracy": 0.5 + seed / 10 + lr}
        for seed, lr in product(seeds, (0.01, 0.03))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def lucky(seed: int, lr: float) -> float:
    """0.03 is best for all but seed 2, which is so good at 0.01 that the mean is best there."""
    return 0.99 if (seed, lr) == (2, 0.01) else 0.9 + lr


def test_validation_chooses_and_test_does_not():
    rows = swept(lambda seed, lr: 0.9 - lr)
    assert best(rows, ["lr"]) == {"lr": 0.01}
    assert best(rows.assign(test_accuracy=rows["lr"]), ["sweep.lr"]) == {"sweep.lr": 0.01}
    assert best(rows.assign(alpha=np.nan), ["lr", "alpha"]) == {"lr": 0.01}
    assert best(rows.assign(alpha=np.nan), ["alpha"]) == {}
    with pytest.raises(UserError, match=r"unknown 'lrr'; did you mean '(sweep\.)?lr'\?"):
        best(rows, ["lrr"])


def test_a_setting_of_which_a_run_diverged_is_not_chosen():
    rows = swept(lambda seed, lr: 0.9 + lr)
    assert best(rows, ["lr"]) == {"lr": 0.03}
    rows.loc[rows["seed"].eq(1) & rows["lr"].eq(0.03), "status"] = "diverged"
    assert best(rows, ["lr"]) == {"lr": 0.01}
    with pytest.raises(UserError, match=r"^lr: expected a setting whose every run ended well, found none$"):
        best(rows.assign(status="diverged"), ["lr"])
    with pytest.raises(UserError, match=r"^lr: .*; data\.validation_size has to be over 0$"):
        best(rows.assign(val_accuracy=np.nan), ["lr"])


def test_rows_at_a_setting_ended_well_and_have_its_numbers_up_to_rounding():
    rows = swept(lucky)
    rows.loc[0, "status"] = "diverged"
    assert list(at_setting(rows, {"lr": 0.1 * 0.1})["seed"]) == [1, 2]
    assert list(at_setting(rows, {})["seed"]) == [0, 1, 1, 2, 2]
    with pytest.raises(UserError, match=r"^lr 0\.02: expected rows with it that ended well, found none$"):
        at_setting(rows, {"lr": 0.02})


def test_each_seed_is_tuned_on_the_others():
    found = tuned(swept(lucky), ["lr"]).set_index("seed")["test_accuracy"]
    # Seed 2 gets the rate of the others; it leads them to its own.
    assert found.to_dict() == pytest.approx({0: 0.51, 1: 0.61, 2: 0.73})


def test_a_seed_alone_is_tuned_on_itself():
    assert tuned(swept(lucky, [2]), ["lr"])["test_accuracy"].item() == pytest.approx(0.71)


def test_groups_are_tuned_apart_and_can_be_pooled_with_what_all_seeds_choose():
    rows = pd.concat([
        swept(lucky), swept(lambda seed, lr: 0.9 + lr).assign(arm="ce", result=lambda r: "ce" + r["result"])
    ])  # fmt: skip
    found = tuned(rows, ["lr"], ["arm"])
    assert found.groupby("arm")["setting"].unique().map(list).to_dict() == {
        "kd": ["lr 0.01"],
        "ce": ["lr 0.03"],
    }
    assert list(found.loc[found["arm"].eq("ce"), "test_accuracy"]) == pytest.approx([0.53, 0.63, 0.73])
    assert found[["lr", "sweep.lr"]].isna().all(axis=None)
    assert list(summary(found, ["arm", "setting"])["n"]) == [3, 3]


def test_runs_that_differ_in_a_further_axis_are_no_seeds_to_tune():
    rows = pd.concat([swept(lucky).assign(**{"sweep.width": width}) for width in (64, 128)])
    rows["result"] = range(len(rows))
    with pytest.raises(UserError, match=r"^sweep\.width: expected one value in each group of lr"):
        tuned(rows, ["lr"])
    with pytest.raises(UserError, match=r"^sweep\.width: expected one value in each group of lr"):
        best(rows, ["lr"])


def test_what_cannot_be_counted_or_chosen_from_is_told():
    rows = swept(lucky).assign(kind="weight")
    for call, said in (
        (lambda: summary(rows, "lr", "kind"), "kind: expected a column of numbers, found 'weight'"),
        (lambda: summary(rows, []), "summary: expected a column to group by"),
        (lambda: paired(rows.drop(columns="test_accuracy"), rows[:1]), "column: unknown 'test_accuracy'"),
        (lambda: tuned(rows[:0], ["lr"]), "lr: expected rows to choose among, found none"),
        (lambda: plateau(summary(rows[:0], "lr"), "lr", 0.1), "lr: expected a summary with a mean"),
        (lambda: family([]), "family: expected at least one member"),
        (lambda: select(rows, lr=[]), "lr: expected a value or a list of some, found an empty list"),
        (lambda: select(rows, kind=3), "kind: unknown 3; expected one of weight"),
        (lambda: select(rows[:0], kind="unit"), "kind: unknown 'unit'; there is none"),
    ):
        with pytest.raises(UserError, match=f"^{said}"):
            call()


def test_a_setting_is_told_in_short():
    found = setting_text({"sweep.lr": 0.001, "temperature": 20.0, "alpha": 0.4, "criterion": "magnitude"})
    assert found == "lr 0.001, T 20, alpha 0.4, criterion magnitude"


def test_the_stretch_around_the_best_ends_at_the_first_gap():
    means = {0.032: 0.9775, 0.001: 0.9781, 0.002: 0.9779, 0.004: 0.9782, 0.008: 0.98, 0.016: 0.9781}
    found = pd.DataFrame({"lr": means.keys(), "mean": means.values()})
    assert plateau(found, "lr", 0.002) == (0.008, 0.004, 0.016)
    assert plateau(found, "lr", 0.0001) == (0.008, 0.008, 0.008)
    assert plateau(found, "lr", 1) == (0.008, 0.001, 0.032)


# Verdicts and families of tests


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.0005, 0.0009, "matches"), (-0.001, 0.001, "matches"), (-0.0011, 0.0, "undecided"),
        (-0.003, -0.0009, "undecided"), (-0.003, -0.0011, "worse"), (0.0011, 0.002, "better"),
        (0.0005, 0.002, "undecided"),
        (-0.002, 0.002, "undecided"), (np.nan, np.nan, "undecided"),
    ],
)  # fmt: skip
def test_a_verdict_needs_the_whole_interval_on_one_side_of_a_tenth_of_a_point(low, high, word):
    assert verdict(low, high) == word


def test_holm_is_as_worked_out_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, 0.03, 0.5]) == pytest.approx([0.09, 0.09, 0.5])
    assert holm([0.9, 0.4, 0.6]) == pytest.approx([1, 1, 1])
    assert holm([np.nan, 0.01, 0.04, np.nan]) == pytest.approx([np.nan, 0.04, 0.12, np.nan], nan_ok=True)


def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni():
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 30, 200):
        p, mixed = np.sort(rng.random(size) ** 3), rng.permutation(size)
        adjusted = holm(p)
        assert (np.diff(adjusted) >= 0).all()
        assert ((p <= adjusted) & (adjusted <= np.minimum(1, size * p))).all()
        assert (holm(p[mixed]) == adjusted[mixed]).all()


def test_the_test_and_the_interval_are_those_of_paired_t():
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(0.97, 0.01, n), rng.normal(0.965, 0.01, n)) for n in (2, 5, 9)]
    table = family([({"size": len(one)}, pd.Series([*(one - other), np.nan])) for one, other in pairs])
    assert list(table) == ["size", "mean", "low", "high", "n", "p", "most", "holm", "verdict"]
    for row, (one, other) in zip(table.itertuples(), pairs, strict=True):
        theirs = stats.ttest_rel(one, other)
        expected = ((one - other).mean(), theirs.pvalue, *theirs.confidence_interval(0.95))
        assert (row.mean, row.p, row.low, row.high) == pytest.approx(expected)
        assert row.most == pytest.approx(theirs.confidence_interval(1 - 0.05 / 3).high)
        assert row.n == row.size == len(one)
    assert list(table["holm"]) == pytest.approx(holm(table["p"]))


def called(gaps: Iterable[float], members: int = 1) -> pd.Series:
    """What becomes of these differences among so many, the others without an effect."""
    return family([({}, pd.Series(gaps)), *[({}, pd.Series(NOISE))] * (members - 1)]).iloc[0]


@pytest.mark.parametrize("members", [1, 8])
def test_a_familys_verdict_comes_from_its_own_cause(members):
    helps, harms = called(0.01 + NOISE, members), called(-0.01 + NOISE, members)
    assert (helps["verdict"], harms["verdict"]) == ("helps", "harms")
    assert max(helps["holm"], harms["holm"]) < 0.05
    tight, noisy = called(NOISE, members), called(100 * NOISE, members)
    assert (tight["verdict"], noisy["verdict"]) == ("does not", "undecided")
    assert tight["high"] < MARGIN < noisy["high"]
    # A gain that is shown counts, however small.
    assert called(0.0005 + NOISE / 100, members)["verdict"] == "helps"


@pytest.mark.parametrize(("p", "word"), [(0.04, "helps"), (0.06, "undecided")])
def test_a_corrected_p_below_5_percent_is_what_it_takes(p, word):
    gaps = 20 * (NOISE + stats.t.isf(p / 2, 4) * NOISE.std(ddof=1) / np.sqrt(5))
    alone, among = called(gaps), called(gaps, 8)
    assert (alone["p"], alone["holm"], alone["verdict"]) == (pytest.approx(p), pytest.approx(p), word)
    assert (among["holm"], among["verdict"]) == (pytest.approx(8 * p), "undecided")


def test_that_there_is_no_gain_is_said_of_the_whole_family_at_once():
    alone, among = called(2.4 * NOISE), called(2.4 * NOISE, 8)
    assert alone["high"] == among["high"] < MARGIN
    assert (alone["verdict"], among["verdict"]) == ("does not", "undecided")


@pytest.mark.parametrize("gaps", [[0.01], [0.01, 0.01, 0.01 + 1e-12], []])
def test_without_a_spread_nothing_is_tested_and_it_still_counts(gaps):
    table = family([({}, pd.Series(gaps, dtype=float)), ({}, pd.Series(0.01 + NOISE))])
    assert np.isnan(table.loc[0, ["p", "holm"]].astype(float)).all()
    assert table["verdict"].to_list() == ["undecided", "helps"]
    assert table.loc[1, "holm"] == pytest.approx(2 * table.loc[1, "p"])
