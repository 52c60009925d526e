"""The classic of distillation in numbers: pairs by seed, settings chosen on validation, what is published."""

import matplotlib

matplotlib.use("Agg")

from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, FakeLog
from scipy import stats

from helpers.errors import UserError
from helpers.expansion import load_config
from helpers.few_images import size_rows, size_table
from helpers.hinton import (
    HINTON_ARMS,
    gain_rows,
    hinton_setting,
    hinton_table,
    length_table,
    select_table,
    small_table,
)
from helpers.hinton_plots import errors_panel, hinton_figure, select_panel, size_figure, small_panel
from helpers.plots import QUICK_NOTE
from helpers.utils import load_log

CONFIGS = ROOT / "configs"


def row(arm: str, seed: int, val: float = np.nan, test: float = np.nan, **more: float) -> dict:
    """A run's row."""
    return {"arm": arm, "seed": seed, "status": "ok", "val_accuracy": val, "test_accuracy": test} | more


def with_interval(values: object, form: str) -> str:
    """Mean in this form and half the 95 % t-interval with as many digits, by scipy."""
    values = np.asarray(values, float)
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{values.mean():{form}} ± {(high - low) / 2:{form.lstrip('+')}}"


COUNTS = (65, 70, 72), (150, 130, 170), (90, 71, 112), (81, 85, 80), (70, 72, 77)
ERRORS = dict(zip(HINTON_ARMS, COUNTS, strict=True))


def hinton_log(seeds: tuple[int, ...] = (0, 1, 2), profile: str = "full") -> FakeLog:
    """Distilled less cross-entropy is -60, -59, -58; the seeds of an arm are in an order of its own."""
    rows = []
    for arm, seed in product(ERRORS, seeds):
        agreement = 0.99 + 0.001 * seed if arm.startswith("student_kd") else np.nan
        rows.append(row(arm, seed, test_errors=ERRORS[arm][seed], teacher_agreement=agreement))
    return FakeLog(pd.DataFrame(rows).sample(frac=1, random_state=0), profile)


def select_log(seeds: tuple[int, ...] = (0, 1), profile: str = "full") -> FakeLog:
    """On validation T 8 with alpha 0.9 is best; on test T 1 with alpha 0.5."""
    rows = []
    lengths = {("teacher", 80): 0.99, ("length_ce", 10): 0.982, ("length_ce", 40): 0.984}
    lengths |= {("length_kd", 10): 0.987, ("length_kd", 40): 0.989, ("length_kd", 80): 0.9885}
    for seed in seeds:
        for temperature, val in ((4, 0.988), (8, 0.989), (20, 0.9905)):
            axes = {"temperature": temperature, "alpha": 0.9, "epochs": 40}
            axes["run"] = f"8 for 40, {seed}" if temperature == 8 else f"{temperature} long, {seed}"
            rows.append(row("long_kd", seed, val + 0.001 * seed, 0.98 - temperature / 1e4, **axes))
        for (arm, epochs), val in lengths.items():
            axes: dict[str, Any] = {}
            if arm == "length_kd":
                axes |= {"temperature": 8, "run": f"8 for {epochs}, {seed}"}
            rows.append(row(arm, seed, val + 0.001 * seed, 0.98 + epochs / 1e4, epochs=epochs, **axes))
        for arm, epochs, gain in (("chosen_kd", 40, 0), ("longer_kd", 80, 1), ("two_teachers_kd", 40, -1)):
            rows.append(row(arm, seed, 0.99 + 0.001 * seed + 0.0001 * gain * (1 + seed), epochs=epochs))
        for temperature, alpha in product((1, 2, 4, 8, 20), (0.5, 0.9)):
            val = 0.988 - 0.001 * abs(np.log2(temperature / 8)) - (0.0005 if alpha == 0.5 else 0)
            test = 0.99 - 0.0001 * temperature - 0.001 * alpha
            axes = {"temperature": temperature, "alpha": alpha, "epochs": 10}
            rows.append(row("student_kd", seed, val + 0.0004 * seed, test, **axes))
    return FakeLog(pd.DataFrame(rows), profile)


STUDENTS = {"medium": "300-300", "small": "30-30"}
GAINS = {
    "medium": {2: (0.001, 0.003, 0.002), 4: (0.002, 0.002, 0.005), 20: (0.004, 0.003, 0.001)},
    "small": {2: (0.012, 0.010, 0.011), 4: (0.008, 0.009, 0.004), 20: (-0.002, 0.001, -0.005)},
}


def small_log(seeds: tuple[int, ...] = (0, 1, 2), profile: str = "full") -> FakeLog:
    """GAINS over students that differ between seeds by more than that, rows shuffled."""
    rows = []
    for student, seed in product(GAINS, seeds):
        plain = 0.95 + 0.01 * seed
        plainly = {"student": STUDENTS[student], "loss": "cross-entropy"}
        rows.append(row(f"{student}_ce", seed, plain - 0.01, plain, **plainly))
        for temperature, gains in GAINS[student].items():
            axes = {"temperature": temperature, "student": STUDENTS[student], "loss": "distilled"}
            rows.append(row(f"{student}_kd", seed, plain - 0.01 - gains[seed], plain + gains[seed], **axes))
    return FakeLog(pd.DataFrame(rows).sample(frac=1, random_state=1), profile)


def size_logs(seeds: tuple[int, ...] = (0, 1, 2), profile: str = "full") -> tuple[FakeLog, FakeLog]:
    """Few images and all of them; the latter's log has a rate, an arm and a seed more.

    At 600 images seed 0 of cross-entropy alone makes lr 0.01 the best on validation; test is better at 0.001.
    """
    few, every = [], []
    for arm, lr, seed in product(("ce", "kd"), (0.001, 0.01), seeds):
        is_slow, distilled = lr == 0.001, 0.02 + 0.001 * seed if arm == "kd" else 0
        is_lucky = arm == "ce" and seed == 0 and not is_slow
        val = 0.99 if is_lucky else 0.85 + 0.01 * is_slow
        test = 0.8 + 0.1 * is_slow + 0.01 * seed + distilled
        few.append(row(arm, seed, val, test, train_size=600, lr=lr))
        axes = {"train_size": 10_000, "lr": lr}
        few.append(row(arm, seed, 0.95 + 0.01 * is_slow, 0.96 + distilled / 2, **axes))
    for arm, lr, seed in product(("ce", "kd", "kd_unscaled"), (0.001, 0.002, 0.01), (*seeds, 7)):
        every.append(row(arm, seed, 0.98 - lr, 0.97 + 0.01 * (arm == "kd"), lr=lr, train_size=55_000))
    return FakeLog(pd.DataFrame(few), profile), FakeLog(pd.DataFrame(every), profile)


def diverge(log: FakeLog, arm: str, seed: int, **measured: float) -> FakeLog:
    """This arm's run of this seed diverged; a diverged run is measured all the same."""
    chosen = log.results["arm"].eq(arm) & log.results["seed"].eq(seed)
    log.results.loc[chosen, ["status", *measured]] = ["diverged", *measured.values()]
    return log


def test_test_errors_stand_beside_the_papers_and_agreement_where_there_is_a_teacher():
    table = hinton_table(hinton_log())
    assert list(table.index) == [shown for shown, _ in HINTON_ARMS.values()]
    assert list(table["published"]) == ["67", "146", "74", "", ""]
    assert list(table["test errors"]) == [with_interval(errors, ".1f") for errors in ERRORS.values()]
    assert list(table["agrees with its teacher, %"]) == ["", "", "99.10", "", "99.10"]


def test_differences_are_paired_by_seed_and_negative_where_errors_are_fewer():
    table = hinton_table(hinton_log()).set_axis(list(ERRORS))
    found = table["minus cross-entropy's"]
    for arm, errors in ERRORS.items():
        gaps = np.subtract(errors, ERRORS["student_ce"])
        assert found[arm] == ("" if arm == "student_ce" else with_interval(gaps, "+.1f"))
    assert found["student_kd"] == "-59.0 ± 2.5"


def test_a_run_that_diverged_counts_nowhere_in_the_table():
    table = hinton_table(diverge(hinton_log(), "student_kd", 1, test_errors=9020)).set_axis(list(ERRORS))
    assert list(table["seeds"]) == [3, 3, 2, 3, 3]
    assert table.loc["student_kd", "test errors"] == with_interval([90, 112], ".1f")
    assert table.loc["student_kd", "minus cross-entropy's"] == with_interval([-60, -58], "+.1f")
    table = hinton_table(diverge(hinton_log(), "student_ce", 2, test_errors=9020)).set_axis(list(ERRORS))
    assert table.loc["student_kd", "minus cross-entropy's"] == with_interval([-60, -59], "+.1f")


def test_validation_chooses_temperature_and_weight_and_nothing_reads_test():
    log, blind = select_log(), FakeLog(select_log().results.assign(test_accuracy=np.nan))
    table = select_table(log)
    assert list(table.index) == ["T 1", "T 2", "T 4", "T 8", "T 20"]
    assert list(table.columns) == ["alpha 0.5", "alpha 0.9"]
    assert list(table["alpha 0.5"]) == ["98.47", "98.57", "98.67", "98.77", "98.64"]
    assert table.loc["T 8", "alpha 0.9"] == "98.82"
    pd.testing.assert_frame_equal(table, select_table(blind))
    assert hinton_setting(log) == hinton_setting(blind) == {"temperature": 20, "alpha": 0.9, "epochs": 40}


def test_a_setting_of_which_a_run_diverged_is_neither_shown_nor_chosen():
    log = select_log()
    best = log.results["temperature"].eq(8) & log.results["alpha"].eq(0.9)
    log.results.loc[best & log.results["seed"].eq(1), ["status", "val_accuracy"]] = "diverged", 0.1
    assert select_table(log).loc["T 8", "alpha 0.9"] == ""
    assert hinton_setting(log)["alpha"] == 0.5


def test_lengths_stand_beside_the_teacher():
    table = length_table(diverge(select_log(), "length_ce", 1, val_accuracy=0.1))
    assert list(table["epochs"]) == ["80", "10", "40", "10", "40", "80", "40", "40", "40", "80", "40"]
    assert list(table["seeds"]) == [2, 1, 1, *[2] * 8]
    assert table.loc["as chosen, more seeds", "validation accuracy, %"] == with_interval((99, 99.1), ".2f")
    less = table["minus as chosen, points"]
    assert less["… twice as long"] == with_interval((0.01, 0.02), "+.2f")
    assert less["… two teachers"] == with_interval((-0.01, -0.02), "+.2f")
    assert set(less.iloc[:-2]) == {""}
    assert list(table.loc["cross-entropy", "validation accuracy, %"]) == ["98.20", "98.40"]
    assert table.loc["teacher", "validation accuracy, %"] == with_interval((99, 99.1), ".2f")
    assert table.loc["distilled, T 20", "validation accuracy, %"] == with_interval((99.05, 99.15), ".2f")
    assert len(table.loc["distilled, T 8"]) == 3  # lengths, and not once more


@pytest.mark.parametrize("arm", HINTON_ARMS)
def test_a_log_without_an_arm_or_with_a_sweep_is_told(arm):
    log = hinton_log()
    with pytest.raises(UserError, match="found a sweep"):
        hinton_table(FakeLog(pd.concat([log.results, log.results[log.results["arm"] == arm]])))
    log.results = log.results[log.results["arm"] != arm]
    for make in (hinton_table, lambda log: errors_panel(plt.gca(), log)):
        with pytest.raises(UserError, match=f"^fake: expected a log with the arms .*, found none of {arm};"):
            make(log)
    plt.close()


@pytest.mark.parametrize(
    ("make", "logs"),
    [
        (select_table, [hinton_log]),
        (length_table, [hinton_log]),
        (hinton_setting, [small_log]),
        (small_table, [select_log]),
        (size_table, [select_log, small_log]),
        (size_figure, [hinton_log, select_log]),
    ],
)
def test_the_log_of_another_experiment_is_told(make, logs):
    with pytest.raises(UserError, match=r"^fake: expected a log with the (arms|columns) "):
        make(*(log() for log in logs))


def test_gains_of_small_students_are_paired_by_seed():
    rows = gain_rows(small_log()).set_index(["student", "temperature", "seed"])
    assert len(rows) == 18
    for (student, gains), seed in product(GAINS.items(), range(3)):
        for temperature, expected in gains.items():
            found = rows.loc[(STUDENTS[student], temperature, seed)]
            assert found["gain"] == pytest.approx(expected[seed])
            assert found["status"] == "ok"
    for arm in ("small_kd", "small_ce"):
        left = gain_rows(diverge(small_log(), arm, 1, test_accuracy=0.1))
        assert left.query("status == 'ok'").groupby("student").size().to_dict() == {"300-300": 9, "30-30": 6}


def test_gains_are_in_points_and_beside_those_at_the_highest_temperature():
    table = small_table(small_log())
    assert list(table.index) == ["T 2", "T 4", "T 20"]
    for student, gains in GAINS.items():
        shown = STUDENTS[student]
        assert list(table[f"{shown}: gain, points"]) == [
            with_interval(100 * np.array(values), "+.2f") for values in gains.values()
        ]
        less = [with_interval(100 * np.subtract(gains[hot], gains[20]), "+.2f") for hot in (2, 4)]
        assert list(table[f"{shown}: minus T 20's"]) == [*less, ""]
        assert less[0].startswith("-0.07" if student == "medium" else "+1.30")


def test_all_images_are_compared_only_at_rates_arms_and_seeds_that_both_logs_have():
    full = size_rows(*size_logs()).query("images == 55_000")
    shared = product(("ce", "kd"), (0.001, 0.01), (0, 1, 2))
    assert sorted(full[["arm", "lr", "seed"]].itertuples(index=False)) == sorted(shared)


def test_the_rate_of_a_seed_is_chosen_by_the_other_seeds():
    table = size_table(*size_logs()).reset_index().set_index(["images", "trained with"])
    assert list(table.index.unique("images")) == ["600", "10,000", "55,000"]
    plain, distilled = table.loc[("600", "cross-entropy")], table.loc[("600", "distilled")]
    assert (plain["best of all"], distilled["best of all"]) == ("lr 0.01", "lr 0.001")
    ce, kd = np.array([90, 81, 82]), np.array([92, 93.1, 94.2])
    assert plain["test accuracy, %"] == with_interval(ce, ".2f")
    assert distilled["test accuracy, %"] == with_interval(kd, ".2f")
    assert distilled["minus cross-entropy's, points"] == with_interval(kd - ce, "+.2f")
    assert list(table["seeds"]) == [3] * 6
    assert table.loc[("55,000", "distilled"), "minus cross-entropy's, points"] == "+1.00 ± 0.00"


def test_one_seed_has_no_interval_and_still_a_table_and_a_figure():
    hinton, select, small = (make((0,), "quick") for make in (hinton_log, select_log, small_log))
    few, every = size_logs((0,), "quick")
    tables = [hinton_table(hinton), select_table(select), length_table(select)]
    for table in [*tables, small_table(small), size_table(few, every)]:
        assert not table.astype(str).apply(lambda column: column.str.contains("±|nan")).any(axis=None)
    for fig in (hinton_figure(hinton, select, small), size_figure(few, every)):
        fig.draw_without_rendering()
        assert QUICK_NOTE in fig.get_suptitle()
    no_rate_in_common = FakeLog(every.results[every.results["lr"] == 0.002], "quick")
    assert tick_labels(size_figure(few, no_rate_in_common).axes[0]) == ["600", "10,000"]


def points_of(ax: plt.Axes, label: str) -> np.ndarray:
    """x and y of what the legend calls so."""
    handles, labels = ax.get_legend_handles_labels()
    found = [handle for handle, own in zip(handles, labels, strict=True) if own == label]
    return np.concatenate([getattr(handle, "lines", [handle])[0].get_xydata() for handle in found])


def tick_labels(ax: plt.Axes) -> list[str]:
    return [label.get_text() for label in ax.get_xticklabels()]


def test_the_figure_has_our_test_errors_and_the_published_ones():
    _, (errors, select, small) = plt.subplots(1, 3)
    means = errors_panel(errors, hinton_log())
    assert list(means["mean"]) == pytest.approx([69, 150, 91, 82, 73])
    assert points_of(errors, "Hinton et al. 2015") == pytest.approx(np.array([[67, 0], [146, 1], [74, 2]]))
    assert points_of(errors, "here")[:, 0] == pytest.approx([69, 150, 91, 82, 73])
    assert len(select_panel(select, select_log())) == 13
    assert tick_labels(select) == ["1", "2", "4", "8", "20"]
    assert points_of(select, "alpha 0.9, 10 epochs")[3] == pytest.approx([8, 98.82])
    assert points_of(select, "alpha 0.9, 40 epochs")[2] == pytest.approx([20, 99.1])
    assert points_of(select, "cross-entropy, 10 epochs")[:, 1] == pytest.approx([98.25, 98.25])
    assert points_of(select, "cross-entropy, 40 epochs")[:, 1] == pytest.approx([98.45, 98.45])
    assert len(small_panel(small, small_log())) == 6
    assert tick_labels(small) == ["2", "4", "20"]
    assert points_of(small, "30-30")[:, 1] == pytest.approx([1.1, 0.7, -0.2])
    assert small_panel(small, diverge(small_log(), "small_ce", 1))["excluded"].sum() == 3
    plt.close()
    fig = hinton_figure(hinton_log(), select_log(), small_log())
    fig.draw_without_rendering()
    assert (len(fig.axes), QUICK_NOTE in fig.get_suptitle()) == (3, False)


def test_the_figure_of_sizes_has_the_numbers_of_its_table():
    fig = size_figure(*size_logs())
    fig.draw_without_rendering()
    assert tick_labels(fig.axes[0]) == tick_labels(fig.axes[1]) == ["600", "10,000", "55,000"]
    assert points_of(fig.axes[0], "cross-entropy")[0] == pytest.approx([600, 253 / 3])
    assert points_of(fig.axes[1], "distilled")[:, 1] == pytest.approx([26.3 / 3, 1.05, 1])


def runs_of(name: str) -> dict:
    """By arm, a config's run of seed 0; of a swept arm the last."""
    return {run.arm: run for run in load_config(CONFIGS / name).runs if run.seed == 0}


def test_students_of_the_classic_differ_in_the_teacher_or_in_shifted_images_alone():
    runs = runs_of("distill_hinton.json")
    assert list(runs) == list(HINTON_ARMS)
    assert {run.data.validation_size for run in runs.values()} == {0}
    stages = {arm: run.steps[0].stage.model_dump() for arm, run in runs.items()}
    assert [stage["shift"] for stage in stages.values()] == [2, 0, 0, 2, 2]
    assert "dropout" in [layer.type for layer in runs["teacher"].net.layers]
    plain = stages["student_ce"]
    differ = {arm: {word for word in plain if stages[arm][word] != plain[word]} for arm in stages}
    assert {"teacher"} <= differ["student_kd"] <= {"teacher", "temperature", "alpha", "soft_loss"}
    assert differ["student_ce_shift"] == {"shift"}
    assert differ["student_kd_shift"] == differ["student_kd"] | {"shift"}
    assert len({run.net.model_dump_json() for arm, run in runs.items() if arm != "teacher"}) == 1
    for arm in ("student_kd", "student_kd_shift"):
        assert runs[arm].teachers.keys() == set(runs["teacher"].hashes)


def test_the_selection_has_validation_images_and_the_same_teacher():
    runs, classic = (runs_of(name) for name in ("distill_hinton_select.json", "distill_hinton.json"))
    config = load_config(CONFIGS / "distill_hinton_select.json")
    temperatures = [run.axes["temperature"] for run in config.runs if run.arm == "student_kd"]
    assert sorted(set(temperatures)) == [1, 2, 4, 8, 20]
    assert all(run.data.validation_size > 0 for run in config.runs)
    assert runs["teacher"].net == classic["teacher"].net
    assert runs["teacher"].steps == classic["teacher"].steps
    assert runs["student_kd"].net == classic["student_kd"].net


def test_the_classic_is_trained_as_validation_chose():
    log = load_log(ROOT / "logs" / "distill_hinton_select.hdf5")
    grid, chosen = select_table(log), hinton_setting(log)
    runs, classic = (runs_of(name) for name in ("distill_hinton_select.json", "distill_hinton.json"))
    student, plain = (classic[arm].steps[0].stage for arm in ("student_kd", "student_ce"))
    assert {word: getattr(student, word) for word in chosen} == chosen
    assert plain.epochs == student.epochs
    lengths, long = (runs[arm].steps[0].stage for arm in ("length_kd", "long_kd"))
    assert (f"T {lengths.temperature:g}", f"alpha {lengths.alpha:g}") == grid.astype(float).stack().idxmax()
    assert (long.epochs, long.alpha) == (chosen["epochs"], chosen["alpha"])
