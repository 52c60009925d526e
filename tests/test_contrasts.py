"""Planned contrasts: paired by seed, corrected together, and called by what the numbers can carry."""

import matplotlib

matplotlib.use("Agg")

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, FakeLog
from scipy import stats

from helpers import contrasts
from helpers.comparison import MARGIN
from helpers.config import TrainStage
from helpers.contrast_plots import contrast_figure, contrast_summary
from helpers.contrasts import Contrast, contrasts_of, differences, holm, over_levels
from helpers.distillation import best_setting
from helpers.errors import UserError
from helpers.expansion import load_config
from helpers.plots import QUICK_NOTE
from helpers.utils import load_log

COLUMNS = ["arm", "seed", "sweep.sparsity", "status", "test_accuracy", "sparsity"]
LEVELS = (0.9, 0.98)
PLACES = [*product(range(5), LEVELS)]
UNPRUNED = ("dense", "dense_longer", "small_ce", "small_dense_teacher", "small_dense_teacher_hot")
NOISE = np.array([0.0004, -0.0002, 0.0001, -0.0003, 0.0])
"""By seed: of mean 0, and far within MARGIN."""
GAINS = {"finetune_hot": 0.01 + NOISE, "ticket_hot": NOISE, "distil_first_hot": -0.01 + NOISE,
         "small_pruned_teacher_hot": 20 * NOISE}  # fmt: skip
VERDICTS = ["helps", "does not", "harms", "undecided"]
"""What GAINS make of the planned contrasts."""
MEANING = load_config(ROOT / "configs" / "distill_prune.json").meaning
ARMS = list(MEANING.arms)
CONTRASTS = {key: contrast.model_dump() for key, contrast in MEANING.contrasts.items()}
ALL = contrasts_of(FakeLog(pd.DataFrame(), contrasts=CONTRASTS))
PLANNED, UNPLANNED = [c for c in ALL if c.planned], [c for c in ALL if not c.planned]
SELF, _, _, PRUNED_TEACHER = PLANNED


def gain_of(arm: str, seed: int, level: float) -> float:
    """What GAINS says, at every level."""
    return GAINS[arm][seed] if arm in GAINS else 0


def make_log(gain: Callable = gain_of, seeds: Iterable[int] = range(5), profile: str = "full") -> FakeLog:
    """Every arm; seeds differ by more than arms do, and so do levels but for small networks."""
    rows = []
    for arm, seed in product(ARMS, seeds):
        for level in (np.nan,) if arm in UNPRUNED else LEVELS:
            loss = 0 if arm in UNPRUNED or arm.startswith("small") else level / 10
            accuracy = 0.95 - loss + 0.005 * seed + gain(arm, seed, level)
            rows.append((arm, seed, level, "ok", accuracy, 0.5))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return FakeLog(frame, profile, contrasts={key: dict(words) for key, words in CONTRASTS.items()})


def where(log: FakeLog, arm: str, seed: int, level: float) -> pd.Series:
    """Which row that is."""
    return log.results[["arm", "seed", "sweep.sparsity"]].eq([arm, seed, level]).all(axis=1)


def by_place(gaps: pd.DataFrame) -> dict[tuple[int, float], float]:
    """Differences by seed and level."""
    assert list(gaps) == ["seed", "level", "difference", "is_alike"]
    assert not gaps.duplicated(["seed", "level"]).any()
    return gaps.set_index(["seed", "level"])["difference"].to_dict()


def test_runs_are_paired_by_seed_and_sparsity_in_whatever_order_they_stand():
    log = make_log(lambda arm, seed, level: (arm == "finetune_hot") * (0.001 * (seed + 1) + level / 100))
    expected = {(seed, level): 0.001 * (seed + 1) + level / 100 for seed, level in PLACES}
    assert by_place(differences(log, SELF)) == pytest.approx(expected)
    log.results = log.results.sample(frac=1, random_state=0)
    assert by_place(differences(log, SELF)) == pytest.approx(expected)


def test_a_run_that_diverged_or_is_missing_takes_its_partner_with_it_and_no_other():
    log = make_log()
    log.results.loc[where(log, "finetune_hot", 1, 0.9), ["status", "test_accuracy"]] = "diverged", 0.1
    log.results = log.results[~where(log, "finetune_ce", 3, 0.98)]
    gaps = differences(log, SELF)
    assert list(over_levels(gaps).index) == [0, 2, 4]
    found = by_place(gaps.dropna())
    assert found.keys() == {*PLACES} - {(1, 0.9), (3, 0.98)}
    assert list(found.values()) == pytest.approx([GAINS["finetune_hot"][seed] for seed, _ in found])


def test_an_arm_without_sparsity_is_the_control_at_every_level():
    log = make_log(lambda arm, seed, level: level / 100 if arm == "small_pruned_teacher_hot" else 0)
    expected = {place: place[1] / 100 for place in PLACES}
    assert by_place(differences(log, PRUNED_TEACHER)) == pytest.approx(expected)
    swapped = differences(log, PRUNED_TEACHER._replace(one=PRUNED_TEACHER.other, other=PRUNED_TEACHER.one))
    assert by_place(swapped) == pytest.approx({place: -gap for place, gap in expected.items()})


def test_two_arms_without_sparsity_are_paired_once_a_seed():
    log = make_log(lambda arm, seed, level: 0.001 * seed if arm == "small_dense_teacher_hot" else 0)
    gaps = differences(log, next(contrast for contrast in ALL if contrast.key == "i"))
    assert len(gaps) == gaps["level"].isna().sum() == 5
    assert over_levels(gaps).to_dict() == pytest.approx({seed: 0.001 * seed for seed in range(5)})


def test_runs_are_paired_by_every_axis_that_both_arms_have_joined():
    log = make_log(lambda arm, seed, level: 0)
    parts = []
    for width in (64, 128):
        part = log.results.assign(**{"sweep.width": width})
        wider = part["arm"].eq("finetune_hot") * width / 1e4
        parts.append(part.assign(test_accuracy=part["test_accuracy"] + wider))
    log.results = pd.concat(parts, ignore_index=True)
    gaps = differences(log, SELF)
    assert len(gaps) == 2 * len(PLACES)
    means = gaps.groupby("level")["difference"].mean().to_dict()
    texts = {f"sparsity {level}, width {width}": width / 1e4 for level in LEVELS for width in (64, 128)}
    assert means == pytest.approx(texts)
    assert over_levels(gaps).to_list() == pytest.approx([0.0096] * 5)
    # An arm that has not joined an axis is paired with all its values.
    is_control = log.results["arm"].eq("finetune_ce")
    log.results = log.results[~is_control | log.results["sweep.width"].eq(64)]
    log.results.loc[log.results["arm"].eq("finetune_ce"), "sweep.width"] = np.nan
    assert len(differences(log, SELF)) == 2 * len(PLACES)


def test_runs_that_differ_in_something_else_do_not_count_as_seeds():
    log = make_log()
    log.results = pd.concat([log.results, log.results], ignore_index=True)
    with pytest.raises(UserError, match=r"^arm finetune_hot: expected one run for each seed and "):
        differences(log, SELF)


def test_another_measure_than_accuracy_is_compared():
    log = make_log()
    log.results["val_accuracy"] = log.results["test_accuracy"] / 2
    gaps = differences(log, SELF._replace(measure="val_accuracy"))
    assert gaps["difference"].to_list() == pytest.approx((differences(log, SELF)["difference"] / 2).to_list())
    with pytest.raises(UserError, match="expected a log with the columns teacher_agreement"):
        differences(log, SELF._replace(measure="teacher_agreement"))


def test_a_log_without_planned_contrasts_has_no_verdicts_and_still_a_context():
    log = make_log()
    for words in log.contrasts.values():
        words["planned"] = False
    with pytest.raises(UserError, match="expected a contrast that was planned"):
        contrasts.contrast_table({"LeNet": log})
    assert len(contrasts.context_table({"LeNet": log})) == len(ALL)
    log.contrasts = {key: words | {"planned": True} for key, words in CONTRASTS.items()}
    assert contrasts.context_table({"LeNet": log}).empty


def test_a_pair_that_is_not_there_is_not_unlike():
    log = make_log()
    log.results = log.results.assign(machine="one", precision="float32", used_precision="float32")
    is_one = where(log, "finetune_hot", 1, 0.9)
    log.results.loc[is_one, ["status", "test_accuracy", "machine", "used_precision"]] = (
        "missing",
        np.nan,
        None,
        None,
    )
    assert differences(log, SELF)["is_alike"].all()


@pytest.mark.parametrize("arm", ["finetune_hot", "finetune_ce"])
def test_without_a_pair_the_message_names_both_arms(arm):
    rows = make_log().results
    is_arm = rows["arm"].eq(arm)
    for lacking in (rows[~is_arm], rows.assign(seed=rows["seed"] + 10 * is_arm)):
        with pytest.raises(UserError, match=r"contrast a: .* finetune_hot and finetune_ce .* found none"):
            differences(FakeLog(lacking), SELF)


def test_over_levels_counts_the_seeds_that_have_them_all():
    rows = [(0, 0.9, 0.01), (0, 0.98, 0.03), (1, 0.9, 0.5), (2, 0.98, -0.01), (2, 0.9, 0.02)]
    gaps = pd.DataFrame(rows, columns=["seed", "level", "difference"])
    assert over_levels(gaps).to_dict() == pytest.approx({0: 0.02, 2: 0.005})


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
    table = contrasts.family_tests([({"size": len(one)}, pd.Series(one - other)) for one, other in pairs])
    assert list(table) == ["size", "mean", "low", "high", "n", "p", "most", "holm", "verdict"]
    for row, (one, other) in zip(table.itertuples(), pairs, strict=True):
        theirs = stats.ttest_rel(one, other)
        expected = ((one - other).mean(), theirs.pvalue, *theirs.confidence_interval(0.95))
        assert (row.mean, row.p, row.low, row.high) == pytest.approx(expected)
        assert row.n == row.size == len(one)
    assert list(table["holm"]) == pytest.approx(holm(table["p"]))


def called(gaps: Iterable[float], family: int = 1) -> pd.Series:
    """What becomes of these differences among so many contrasts, the others without an effect."""
    others = [({}, pd.Series(NOISE))] * (family - 1)
    return contrasts.family_tests([({}, pd.Series(gaps)), *others]).iloc[0]


@pytest.mark.parametrize("family", [1, 8])
def test_a_verdict_comes_from_its_own_cause(family):
    helps, harms = called(0.01 + NOISE, family), called(-0.01 + NOISE, family)
    assert (helps["verdict"], harms["verdict"]) == ("helps", "harms")
    assert max(helps["holm"], harms["holm"]) < 0.05
    tight, noisy = called(NOISE, family), called(100 * NOISE, family)
    assert (tight["verdict"], noisy["verdict"]) == ("does not", "undecided")
    assert (tight["p"], noisy["p"]) == pytest.approx((1, 1))
    assert tight["high"] < MARGIN < noisy["high"]
    # A gain that is shown counts, however small.
    assert called(0.0005 + NOISE / 100, family)["verdict"] == "helps"


def test_a_p_of_3_percent_among_eight_contrasts_is_not_enough():
    gaps = 20 * (NOISE + stats.t.isf(0.015, 4) * NOISE.std(ddof=1) / np.sqrt(5))
    alone, among = called(gaps), called(gaps, family=8)
    assert (among["p"], among["holm"]) == pytest.approx((0.03, 0.24))
    assert (alone["verdict"], among["verdict"]) == ("helps", "undecided")


@pytest.mark.parametrize(("p", "verdict"), [(0.04, "helps"), (0.06, "undecided")])
def test_a_corrected_p_below_5_percent_is_what_it_takes(p: float, verdict: str) -> None:
    found = called(20 * (NOISE + stats.t.isf(p / 2, 4) * NOISE.std(ddof=1) / np.sqrt(5)))
    assert found["holm"] == pytest.approx(p)
    assert found["verdict"] == verdict


def test_that_there_is_no_gain_is_said_of_the_whole_family_at_once():
    gaps = 2.4 * NOISE
    alone, among = called(gaps), called(gaps, family=8)
    assert alone["high"] == among["high"] < MARGIN
    assert (alone["verdict"], among["verdict"]) == ("does not", "undecided")


def test_two_families_hold_each_contrast_once_and_once_a_level():
    logs = {"LeNet": make_log(), "800-800": make_log(lambda *_: gain_of(*_) / 2)}
    tests, levels = contrasts.primary_tests(logs), contrasts.level_tests(logs)
    assert list(zip(tests["network"], tests["key"], strict=True)) == [*product(logs, "abcd")]
    assert len(levels) == 4 * len(LEVELS) * len(logs)
    assert list(tests["verdict"][:4]) == VERDICTS
    assert list(levels["level"]) == [*LEVELS] * 8
    assert list(tests["mean"]) == pytest.approx([0.01, 0, -0.01, 0, 0.005, 0, -0.005, 0])
    assert contrasts.primary_tests({"LeNet": make_log()})["holm"][0] < tests["holm"][0]


def test_the_tables_say_what_was_found():
    log = make_log()
    table = contrasts.contrast_table({"LeNet": log})
    half = f"{100 * stats.t.ppf(0.975, 4) * NOISE.std(ddof=1) / np.sqrt(5):.2f}"
    first = [f"(a) {SELF.claim}", f"+1.00 ± {half}", "< 0.001", "helps", "+1.00* / +1.00*", "5"]
    assert list(table.iloc[0]) == first
    assert list(table["verdict"]) == VERDICTS
    assert [text.count("*") for text in table["at each level"]] == [2, 0, 2, 0]
    context = contrasts.context_table({"LeNet": log})
    names = [f"({contrast.key}) {contrast.claim}" for contrast in UNPLANNED]
    assert list(context["does it help to"]) == names
    distilled_first = context.set_index("does it help to").loc["(g) distil before pruning, fine-tune without"]
    assert distilled_first["difference, points"] == f"-1.00 ± {half}"
    assert distilled_first["at each level"] == "-1.00 / -1.00"


def test_the_table_of_arms_has_a_cell_for_what_was_run():
    log = make_log(seeds=[1, 2])
    log.results.loc[where(log, "ticket_ce", 1, 0.98), ["status", "test_accuracy"]] = "diverged", 0.1
    table = contrasts.arms_table(log)
    assert list(table.index) == ARMS
    assert list(table) == ["unpruned", "90 %", "98 %"]
    half = f"{0.25 * stats.t.ppf(0.975, 1):.2f}"
    assert list(table.loc["ticket_ce"]) == ["", f"86.75 ± {half}", "86.20"]
    assert list(table.loc["dense"]) == [f"95.75 ± {half}", "", ""]


def test_one_seed_has_no_interval_and_shows_nothing():
    logs = {"LeNet": make_log(seeds=[0])}
    for tests in (contrasts.primary_tests(logs), contrasts.level_tests(logs)):
        assert tests[["low", "high", "p", "holm"]].isna().all(axis=None)
        assert set(tests["verdict"]) == {"undecided"}
    first = contrasts.contrast_table(logs).iloc[0]
    assert list(first[["difference, points", "at each level"]]) == ["+1.04", "+1.04 / +1.04"]
    assert list(contrasts.context_table(logs)["seeds"]) == ["1"] * len(UNPLANNED)


def drawn(ax: Any) -> np.ndarray:
    """Where the means over all levels are."""
    return np.array([line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"])


def test_the_figure_shows_differences_verdicts_and_the_profile():
    fig = contrast_figure({"LeNet": make_log(), "800-800": make_log(profile="quick")}, reach=2)
    fig.draw_without_rendering()
    assert QUICK_NOTE in fig.get_suptitle()
    assert [text.get_text() for text in fig.axes[0].texts] == VERDICTS
    assert drawn(fig.axes[0]) == pytest.approx([1, 0, -1, 0])
    assert drawn(fig.axes[2]) == pytest.approx([0, 0, 0, 0])
    assert drawn(fig.axes[4]) == pytest.approx([0, 0, 0, -1, 0, 0, 0, 0])
    assert fig.axes[0].get_legend_handles_labels()[1] == ["90 % pruned", "98 % pruned", "all levels"]
    assert "n = 5 seeds" in fig.legends[0].get_title().get_text()


def test_the_figure_tells_what_lies_beyond_its_edge_and_draws_one_seed():
    fig = contrast_figure({"LeNet": make_log(seeds=[0])}, reach=0.5)
    fig.draw_without_rendering()
    assert fig.get_suptitle() == ""
    texts = [text.get_text().strip() for text in fig.axes[0].texts]
    assert texts == ["+1.0"] * 3 + ["-1.0"] * 3 + ["+0.8"] * 3 + ["undecided"] * 4


def training(run: Any) -> list[tuple[int | None, ...]]:
    """How long every training of its own sentence is, those of its teachers not among them."""
    return [(stage.epochs, stage.steps, stage.batch_size) for stage in stages_of(run)]


def stages_of(run: Any) -> list[TrainStage]:
    """Its own trainings."""
    return [step.stage for step in run.steps if isinstance(step.stage, TrainStage)]


@pytest.fixture(params=product(("distill_prune", "distill_prune_units"), (None, "quick")), ids=str)
def runs(request) -> dict[tuple[str, int, float | None], Any]:
    """Runs of a config of the repository by arm, seed and sparsity (None without)."""
    name, profile = request.param
    config = load_config(ROOT / "configs" / f"{name}.json", profile)
    return {(run.arm, run.seed, run.axes.get("sparsity")): run for run in config.runs}


def pairs(runs: dict, contrast: Contrast) -> list[tuple[Any, Any]]:
    """Each run of the first arm and its control, of seeds that both arms have."""
    one, other = contrast.one, contrast.other
    own = [(seed, level) for arm, seed, level in runs if arm == one]
    controls = {at: runs.get((other, *at)) or runs.get((other, at[0], None)) for at in own}
    return [(runs[one, *at], control) for at, control in controls.items() if control is not None]


def test_the_arms_of_the_configs_are_those_that_have_a_name(runs):
    assert {arm for arm, *_ in runs} == set(ARMS)
    assert {arm for arm, _, level in runs if level is None} == set(UNPRUNED)


@pytest.mark.parametrize("contrast", ALL, ids=lambda contrast: contrast.key)
def test_a_control_has_the_network_the_data_and_the_steps(runs, contrast):
    seeds = {seed for arm, seed, _ in runs if arm == contrast.one}
    paired = {run.seed for run, _ in pairs(runs, contrast)}
    # What stands beside the planned contrasts has seeds enough with half of theirs.
    assert paired == seeds or (contrast not in PLANNED and 2 * len(paired) == len(seeds))
    for run, control in pairs(runs, contrast):
        assert training(run) == training(control)
        assert (run.data, run.net) == (control.data, control.net)
        assert run.hashes[-1] != control.hashes[-1]


TAUGHT = {"teacher", "temperature", "alpha"}
DIFFERS = {
    "a": {"retrain": TAUGHT},
    "b": {"retrain": TAUGHT},
    "c": {"train": TAUGHT, "retrain": TAUGHT},
    "d": {"train": {"teacher"}},
    "e": {"retrain": {"label_smoothing"}},
    "f": {"retrain": TAUGHT},
    "g": {"train": TAUGHT},
    "h": {"retrain": TAUGHT},
    "i": {"train": TAUGHT},
}
"""By contrast and name of the stage: all that a run and its control may differ in."""


def differing(stages: list[Any], others: list[Any]) -> dict[str, set[str]]:
    """By name of the stage, the fields in which two lists of stages of equal types differ."""
    found: dict[str, set[str]] = {}
    for one, other in zip(stages, others, strict=True):
        assert (one.name, one.stage.type) == (other.name, other.stage.type)
        words, theirs = one.stage.model_dump(exclude={"name"}), other.stage.model_dump(exclude={"name"})
        fields = {field for field in words.keys() | theirs.keys() if words.get(field) != theirs.get(field)}
        if fields:
            found[one.name] = found.get(one.name, set()) | fields
    return found


@pytest.mark.parametrize("contrast", ALL, ids=lambda contrast: contrast.key)
def test_a_control_shares_the_whole_recipe_but_what_the_contrast_is_about(runs, contrast):
    """Optimizer, schedule, batches, epochs, precision, pruning, rewinds: every field of every stage."""
    allowed = DIFFERS[contrast.key[0]]
    for run, control in pairs(runs, contrast):
        found = differing(run.steps, control.steps)
        assert found.keys() == allowed.keys()
        assert all("teacher" in fields or "label_smoothing" in fields for fields in found.values())
        assert all(found[name] <= allowed[name] for name in found)
        assert (run.data, run.net, run.seed) == (control.data, control.net, control.seed)


@pytest.mark.parametrize(
    "contrast", [c for c in ALL if c.key in ("c", "c, T 1")], ids=lambda contrast: contrast.key
)
def test_before_pruning_and_after_it_the_teacher_and_its_setting_are_the_same(runs, contrast):
    for run, control in pairs(runs, contrast):
        (early,), (late,) = (
            [stage for stage in stages_of(one) if stage.teacher is not None] for one in (run, control)
        )
        assert early.model_dump(include=TAUGHT) == late.model_dump(include=TAUGHT)


def test_the_arms_of_few_images_differ_in_when_they_have_a_teacher():
    """Those that few_table sets against each other, at every number of images, level and temperature."""
    when = {"first": {"train"}, "kd": {"retrain"}, "both": {"train", "retrain"}}
    for profile in (None, "quick"):
        config = load_config(ROOT / "configs" / "distill_prune_few.json", profile)
        where = ("train_size", "sparsity")
        controls = {(run.arm, run.seed, *map(run.axes.get, where)): run for run in config.runs}
        compared = 0
        for run in config.runs:
            kind, how = run.arm.split("_")
            if how == "ce":
                continue
            control = controls[f"{kind}_ce", run.seed, *map(run.axes.get, where)]
            found = differing(run.steps, control.steps)
            assert found.keys() == when[how]
            assert all({"teacher"} <= fields <= TAUGHT for fields in found.values())
            assert (run.data, run.net) == (control.data, control.net)
            assert {stage.alpha for stage in stages_of(run) if stage.teacher} == {0.9}
            taught = {stage.temperature for stage in stages_of(run) if stage.teacher}
            assert taught == {run.axes["temperature"]}
            compared += 1
        assert compared == (5 * 3 * 3 * 3 * 3 if profile is None else 2 * 3 * 2)
        dense = controls["dense_ce", 0, 600, None].steps
        pruned = controls["pruned_ce", 0, 600, 0.9].steps
        assert differing(dense, [step for step in pruned if step.stage.type == "train"]) == {}


def test_the_pruned_teacher_is_the_dense_one_but_for_the_pruning(runs):
    for run, control in pairs(runs, PRUNED_TEACHER):
        (pruned,), (dense,) = run.teachers.values(), control.teachers.values()
        trainings = [step for step in pruned.steps if step.stage.type == "train"]
        assert differing(trainings, dense.steps) == {}
        assert [step.stage.type for step in pruned.steps] == ["train", "prune", "compact", "train"]
        assert (pruned.data, pruned.net) == (dense.data, dense.net)


def test_the_dense_teacher_has_trained_as_long_as_the_pruned_one(runs):
    for run, control in pairs(runs, PRUNED_TEACHER):
        (pruned,), (dense,) = run.teachers.values(), control.teachers.values()
        assert (pruned.arm, dense.arm) == ("finetune_ce", "dense_longer")
        assert (pruned.axes, pruned.seed, dense.seed) == (run.axes, run.seed, run.seed)
        assert training(pruned) == training(dense) == 2 * training(runs["dense", run.seed, None])


def test_differences_that_are_equal_but_for_rounding_are_no_evidence():
    plain = np.array([0.9874, 0.9899, 0.98, 0.97, 0.96])
    found = called(np.round(plain + 0.001, 4) - plain)
    assert np.isnan(found["p"])
    assert found["verdict"] == "undecided"
    assert called([0.0, 0.0, 0.0])["verdict"] == "undecided"


def test_a_network_of_which_no_seed_has_every_level_has_no_verdict():
    log = make_log(seeds=[0])
    log.results.loc[where(log, "finetune_hot", 0, 0.9), "status"] = "diverged"
    row = contrasts.contrast_table({"LeNet": log}).iloc[0]
    assert (row["verdict"], row["seeds"], row["p, corrected"]) == ("undecided", "0", "")
    assert "nan" not in row["difference, points"]
    contrast_figure({"LeNet": log}).draw_without_rendering()


def test_temperature_and_weight_are_those_that_validation_chooses_for_pruned_students():
    rows = load_log(ROOT / "logs" / "distill_prune_select.hdf5").final()
    for name, arm in (("distill_prune", "weights"), ("distill_prune_units", "units")):
        chosen = best_setting(rows[rows["arm"] == arm], ["temperature", "alpha"])
        runs = load_config(ROOT / "configs" / f"{name}.json").runs
        distilled = {run.arm: stage for run in runs for stage in stages_of(run) if stage.teacher is not None}
        assert {"finetune_hot", "ticket_self", "distil_first", "small_pruned_teacher_hot"} < distilled.keys()
        for is_hot, setting in ((False, tuple(chosen.values())), (True, (8, 0.9))):
            stages = [stage for arm, stage in distilled.items() if arm.endswith("_hot") == is_hot]
            assert {(stage.temperature, stage.alpha) for stage in stages} == {setting}


def test_the_table_of_settings_never_reads_test():
    axes = {"temperature": [1, 1, 8, 8], "alpha": 0.5, "seed": [0, 1, 0, 1], "status": "ok"}
    rows = pd.DataFrame(axes | {"arm": "units", "val_accuracy": [0.97, 0.98, 0.96, 0.96]})
    rows.loc[3, "status"] = "diverged"
    table = contrasts.setting_table(FakeLog(rows))
    assert table.to_dict() == {"units": {"T 1, alpha 0.5": "97.50", "T 8, alpha 0.5": ""}}


def test_the_summary_has_the_planned_contrasts_of_every_network():
    _, ax = plt.subplots()
    contrast_summary(ax, {"LeNet": make_log(), "800-800": make_log(lambda arm, seed, level: 0)}, reach=2)
    assert sorted(drawn(ax)) == pytest.approx([-1, 0, 0, 0, 0, 0, 0, 1])
    assert ax.get_legend_handles_labels()[1] == ["LeNet", "800-800"]
    assert [text.get_text().split()[0] for text in ax.get_yticklabels()] == [
        c.claim.split()[0] for c in PLANNED
    ]
    plt.close()


def test_pairs_of_unlike_machines_or_precisions_are_marked():
    log = make_log()
    log.results = log.results.assign(machine="one", precision="bfloat16", used_precision="bfloat16")
    assert differences(log, SELF)["is_alike"].all()
    assert not contrasts.contrast_table({"LeNet": log})["seeds"].str.contains(contrasts.UNLIKE).any()
    is_one = where(log, "finetune_hot", 1, 0.9)
    for changes in ({"machine": "two"}, {"used_precision": "float32"}):
        mixed = make_log()
        mixed.results = log.results.copy()
        mixed.results.loc[is_one, list(changes)] = list(changes.values())
        gaps = differences(mixed, SELF)
        unlike = gaps.loc[~gaps["is_alike"], ["seed", "level"]]
        assert [tuple(row) for row in unlike.itertuples(index=False)] == [(1, 0.9)]
        assert contrasts.contrast_table({"LeNet": mixed}).iloc[0]["seeds"] == f"5{contrasts.UNLIKE}"
        assert contrasts.contrast_table({"LeNet": mixed}).iloc[1]["seeds"] == "5"
    # What one stage asks for is nothing to a control that never asks for it.
    mixed.results.loc[is_one, ["precision", "used_precision"]] = "float32"
    assert differences(mixed, SELF)["is_alike"].all()
