"""Contrasts of a config: paired by seed and level, tested as one family, unlike pairs told."""

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.analysis.contrasts import (
    beside_plan,
    compared,
    contrast_tests,
    contrasts,
    differences,
    over_levels,
)
from helpers.analysis.statistics import family
from helpers.foundations.errors import UserError
from helpers.utils import Results

LEVELS = (0.9, 0.98)
PLACES = [*product(range(5), LEVELS)]
NOISE = np.array([0.0004, -0.0002, 0.0001, -0.0003, 0.0])
"""By seed: of mean 0."""
UNPRUNED = ("small", "small_taught")
ARMS = ("plain", "taught", "taught_cold", "ticket", *UNPRUNED)
WORDS = {
    "a": ("taught", "plain", "teach", True),
    "b": ("ticket", "plain", "rewind", True),
    "c": ("plain", "small", "prune", True),
    "a, T 1": ("taught_cold", "plain", "teach", False),
    "i": ("small_taught", "small", "teach a small one", False),
}
CONTRASTS = {
    key: {"of": of, "less": less, "claim": claim, "measure": "test_accuracy", "planned": planned}
    for key, (of, less, claim, planned) in WORDS.items()
}


def nothing(arm: str, seed: int, level: float) -> float:
    """No arm is better."""
    return 0


def make_log(gain: Callable = nothing, seeds: Iterable[int] = range(5)) -> Results:
    """Every arm; seeds differ by more than arms do, and so do levels."""
    rows = []
    for arm, seed in product(ARMS, seeds):
        for level in (np.nan,) if arm in UNPRUNED else LEVELS:
            run = f"{arm}-{seed}-{level}"
            row = {
                "arm": arm,
                "seed": seed,
                "run": run,
                "result": run,
                "status": "ok",
                "sweep.sparsity": level,
            }
            row["test_accuracy"] = 0.9 + 0.005 * seed - np.nan_to_num(level / 10) + gain(arm, seed, level)
            rows.append(row | {"machine": "here", "precision": "float32", "used_precision": "float32"})
    words = {key: dict(own) for key, own in CONTRASTS.items()}
    return Results("fake", "full", pd.DataFrame(rows), pd.DataFrame(), {}, [], Path("fake"), {}, words)


def of_arm(arm: str, values: Callable) -> Callable:
    """A gain of one arm, by seed and level."""
    return lambda of, seed, level: values(seed, level) if of == arm else 0


def where(log: Results, arm: str, seed: int, level: float) -> pd.Series:
    """Which row that is."""
    return log.results[["arm", "seed", "sweep.sparsity"]].eq([arm, seed, level]).all(axis=1)


def by_place(gaps: pd.DataFrame) -> dict[tuple[int, float], float]:
    """Differences by seed and level."""
    assert list(gaps) == ["seed", "level", "difference", "is_alike"]
    assert not gaps.duplicated(["seed", "level"]).any()
    return gaps.set_index(["seed", "level"])["difference"].to_dict()


def test_the_config_says_what_is_compared_and_what_was_planned():
    log = make_log()
    assert [own.key for own in contrasts(log)] == list(WORDS)
    assert [own.key for own in contrasts(log, planned=True)] == ["a", "b", "c"]
    assert [own.key for own in contrasts(log, planned=False)] == ["a, T 1", "i"]
    again, others = beside_plan(log)
    assert ([own.key for own in again], [own.key for own in others]) == (["a, T 1"], ["i"])
    assert contrasts(log)[1][:5] == ("b", "rewind", "ticket", "plain", "test_accuracy")
    log.contrasts = {}
    with pytest.raises(UserError, match=r"^fake: expected a config with 'contrasts', found none in its log$"):
        contrasts(log)


def test_runs_are_paired_by_seed_and_level_in_whatever_order_they_stand():
    log = make_log(of_arm("taught", lambda seed, level: 0.001 * (seed + 1) + level / 100))
    expected = {(seed, level): 0.001 * (seed + 1) + level / 100 for seed, level in PLACES}
    assert by_place(differences(log, "a")) == pytest.approx(expected)
    log.results = log.results.sample(frac=1, random_state=0)
    assert by_place(differences(log, contrasts(log)[0])) == pytest.approx(expected)


def test_an_unknown_contrast_arm_or_measure_is_told_with_the_nearest():
    log = make_log()
    with pytest.raises(UserError, match=r"^fake: contrast: unknown 'a, T1'; did you mean 'a, T 1'\?$"):
        differences(log, "a, T1")
    first = contrasts(log)[0]
    with pytest.raises(UserError, match=r"^fake: arm: unknown 'tought'; did you mean 'taught'\?$"):
        differences(log, first._replace(of="tought"))
    with pytest.raises(UserError, match=r"^column: unknown 'test_acuracy'; did you mean 'test_accuracy'\?$"):
        differences(log, first._replace(measure="test_acuracy"))


def test_a_run_that_diverged_or_is_missing_takes_its_partner_with_it_and_no_other():
    log = make_log(of_arm("taught", lambda seed, level: 0.01 + NOISE[seed]))
    log.results.loc[where(log, "taught", 1, 0.9), ["status", "test_accuracy"]] = "diverged", 0.1
    log.results = log.results[~where(log, "plain", 3, 0.98)]
    gaps = differences(log, "a")
    assert list(over_levels(gaps).index) == [0, 2, 4]
    found = by_place(gaps.dropna())
    assert found.keys() == {*PLACES} - {(1, 0.9), (3, 0.98)}
    assert list(found.values()) == pytest.approx([0.01 + NOISE[seed] for seed, _ in found])


def test_an_arm_without_a_level_is_the_control_at_every_level():
    log = make_log(of_arm("plain", lambda seed, level: level / 5))
    expected = {place: place[1] / 10 for place in PLACES}
    assert by_place(differences(log, "c")) == pytest.approx(expected)
    swapped = contrasts(log)[2]._replace(of="small", less="plain")
    assert by_place(differences(log, swapped)) == pytest.approx({at: -gap for at, gap in expected.items()})


def test_two_arms_without_a_level_are_paired_once_a_seed():
    gaps = differences(make_log(of_arm("small_taught", lambda seed, level: 0.001 * seed)), "i")
    assert len(gaps) == gaps["level"].isna().sum() == 5
    assert over_levels(gaps).to_dict() == pytest.approx({seed: 0.001 * seed for seed in range(5)})


def test_runs_are_paired_by_every_axis_that_both_arms_have_joined():
    log, parts = make_log(), []
    for width in (64, 128):
        wider = log.results["arm"].eq("taught") * width / 1e4
        part = log.results.assign(
            **{"sweep.width": width}, test_accuracy=log.results["test_accuracy"] + wider
        )
        parts.append(part.assign(run=part["run"] + f"-{width}", result=part["run"] + f"-{width}"))
    log.results = pd.concat(parts, ignore_index=True)
    gaps = differences(log, "a")
    assert len(gaps) == 2 * len(PLACES)
    texts = {f"sparsity {level}, width {width}": width / 1e4 for level in LEVELS for width in (64, 128)}
    assert gaps.groupby("level")["difference"].mean().to_dict() == pytest.approx(texts)
    assert over_levels(gaps).to_list() == pytest.approx([0.0096] * 5)
    # An arm that has not joined an axis is paired with all its values.
    is_control = log.results["arm"].eq("plain")
    log.results = log.results[~is_control | log.results["sweep.width"].eq(64)]
    log.results.loc[log.results["arm"].eq("plain"), "sweep.width"] = np.nan
    assert len(differences(log, "a")) == 2 * len(PLACES)


def test_runs_that_differ_in_something_else_do_not_count_as_seeds():
    log = make_log()
    parts = [log.results.assign(criterion=name) for name in ("magnitude", "random")]
    log.results = pd.concat(parts, ignore_index=True)
    log.results["run"] = log.results["result"] = [str(place) for place in range(len(log.results))]
    with pytest.raises(
        UserError, match=r"^criterion: expected one value in each group of sweep.sparsity, seed"
    ):
        differences(log, "a")


def test_another_measure_than_accuracy_is_compared():
    log = make_log(of_arm("taught", lambda seed, level: 0.01))
    log.results["val_accuracy"] = log.results["test_accuracy"] / 2
    found = differences(log, contrasts(log)[0]._replace(measure="val_accuracy"))
    assert found["difference"].to_list() == pytest.approx([0.005] * len(PLACES))


@pytest.mark.parametrize("arm", ["taught", "plain"])
def test_without_a_pair_the_message_names_both_arms(arm):
    log = make_log()
    log.results["seed"] += 10 * log.results["arm"].eq(arm)
    with pytest.raises(UserError, match=r"^contrast a: .* taught and plain with a seed .* found none$"):
        differences(log, "a")


@pytest.mark.parametrize(
    ("column", "other"), [("machine", "there"), ("used_precision", "tf32"), ("machine", None)]
)
def test_pairs_of_two_machines_or_precisions_are_not_alike(column, other):
    log = make_log()
    assert differences(log, "a")["is_alike"].all()
    log.results.loc[where(log, "taught", 1, 0.9), column] = other
    gaps = differences(log, "a")
    assert list(gaps.loc[~gaps["is_alike"], ["seed", "level"]].itertuples(index=False, name=None)) == [
        (1, 0.9)
    ]
    # The control of other pairs, of which none is touched.
    assert differences(log, "b")["is_alike"].all()


def test_another_precision_that_was_asked_for_is_alike():
    log = make_log()
    taught = log.results["arm"].eq("taught")
    log.results.loc[taught, ["precision", "used_precision"]] = "bfloat16"
    assert differences(log, "a")["is_alike"].all()


def test_a_pair_that_is_not_there_is_not_unlike():
    log = make_log()
    columns = ["status", "test_accuracy", "machine", "used_precision"]
    log.results.loc[where(log, "taught", 1, 0.9), columns] = "missing", np.nan, None, None
    assert differences(log, "a")["is_alike"].all()


def test_over_levels_counts_the_seeds_that_have_them_all():
    rows = [(0, 0.9, 0.01), (0, 0.98, 0.03), (1, 0.9, 0.5), (2, 0.98, -0.01), (2, 0.9, 0.02)]
    gaps = pd.DataFrame(rows, columns=["seed", "level", "difference"])
    assert over_levels(gaps).to_dict() == pytest.approx({0: 0.02, 2: 0.005})


def test_contrasts_stand_together_each_with_its_mean_over_levels():
    log = make_log(of_arm("taught", lambda seed, level: 0.01 * (level == 0.98) + NOISE[seed]))
    log.results.loc[where(log, "taught", 4, 0.98), "machine"] = "there"
    found = compared(log, [own for own in contrasts(log) if own.key in ("a", "i")])
    assert list(dict.fromkeys(found["contrast"])) == ["(a) teach", "(i) teach a small one"]
    mean, small = (found[found["key"].eq(key) & found["level"].isna()] for key in ("a", "i"))
    assert mean["difference"].to_list() == pytest.approx(list(0.005 + NOISE))
    assert not mean["is_alike"].any()
    assert len(small) == 5
    assert small["is_alike"].all()
    levels = found[found["level"].notna()]
    assert set(levels["key"]) == {"a"}
    assert list(levels["level"]) == [0.9] * 5 + [0.98] * 5
    assert levels["is_alike"].sum() == 9
    assert compared(log, []).empty
    assert "level" in compared(log, [])


def test_planned_contrasts_of_all_logs_are_one_family_over_levels_and_one_by_level():
    logs = {"one": make_log(of_arm("taught", lambda seed, level: 0.01 + NOISE[seed])), "two": make_log()}
    tests, levels = contrast_tests(logs), contrast_tests(logs, by_level=True)
    assert list(zip(tests["network"], tests["key"], strict=True)) == [*product(logs, "abc")]
    assert list(levels["level"]) == [*LEVELS] * 6
    assert tests.loc[0, "mean"] == pytest.approx(0.01)
    expected = family([({}, over_levels(differences(log, key))) for log in logs.values() for key in "abc"])
    for column in ("low", "holm", "most"):
        assert list(tests[column]) == pytest.approx(list(expected[column]), nan_ok=True)
    assert list(tests["verdict"]) == list(expected["verdict"])
    p = stats.ttest_1samp(0.01 + NOISE, 0).pvalue
    assert tests.loc[0, "holm"] == pytest.approx(6 * p)
    assert levels.loc[0, "holm"] == pytest.approx(12 * p)
    assert tests["is_alike"].all()
    logs["one"].results.loc[where(logs["one"], "taught", 0, 0.9), "machine"] = "there"
    assert list(contrast_tests(logs)["is_alike"]) == [False] + [True] * 5
    assert list(contrast_tests(logs, by_level=True)["is_alike"]) == [False] + [True] * 11


def test_a_log_that_planned_nothing_has_nothing_to_test():
    log = make_log()
    for words in log.contrasts.values():
        words["planned"] = False
    with pytest.raises(UserError, match=r"^fake: expected a contrast that was planned, .* in its config$"):
        contrast_tests({"one": log})


def test_one_seed_shows_nothing():
    for by_level in (False, True):
        tests = contrast_tests({"one": make_log(seeds=[0])}, by_level)
        assert tests[["low", "high", "p", "holm"]].isna().all(axis=None)
        assert set(tests["verdict"]) == {"undecided"}


def test_tests_are_of_logs_by_name():
    for none in ({}, None):
        with pytest.raises(UserError, match=r"^contrast_tests: expected logs by name"):
            contrast_tests(none)
