"""The classic of distillation (Hinton et al. 2015, section 3) in numbers, and what bounds it."""

from typing import Any

import pandas as pd

from .comparison import final_rows, interval
from .distillation import best_setting
from .errors import UserError
from .plots import mean_interval
from .recovery_report import points_of
from .report import PUBLISHED, percent

HINTON_ARMS = {
    "teacher": ("1200-1200, dropout, shifted images", "hinton-teacher"),
    "student_ce": ("800-800, cross-entropy", "hinton-student-ce"),
    "student_kd": ("800-800, distilled", "hinton-student-kd"),
    "student_ce_shift": ("800-800, cross-entropy, shifted images", None),
    "student_kd_shift": ("800-800, distilled, shifted images", None),
}
"""What tables call an arm, and the id of the paper's figure in data/published.csv."""

CHECKS = {
    "chosen_kd": "as chosen, more seeds",
    "longer_kd": "… twice as long",
    "small_batch_kd": "… batches half the size",
    "two_teachers_kd": "… two teachers",
}
"""The chosen setting again, and arms that change one thing of it; nothing is chosen from them."""

GRID = ["temperature", "alpha"]
"""What the selection's grid is of."""

SELECT_ARMS = ["student_kd", "length_ce", "length_kd", "long_kd"]
"""What the selection sweeps, and its arms that do."""


def published_test_errors(name: str | None) -> float:
    """The paper's test errors, of 10,000 images; NaN for what it does not report."""
    table = pd.read_csv(PUBLISHED).set_index("id")
    return table["error_percent"].get(name, float("nan")) * 100


def hinton_rows(log: Any) -> pd.DataFrame:
    """Final rows of distill_hinton, one an arm and seed. Raises UserError where it is another log."""
    rows = final_rows(log, HINTON_ARMS)
    if rows.duplicated(["arm", "seed"]).any():
        raise UserError(f"{log.experiment}: expected a run an arm and seed, found a sweep; select its rows")
    return rows


def hinton_table(log: Any) -> pd.DataFrame:
    """A row an arm: test errors of 10,000 beside the paper's, and fewer or more than plain cross-entropy.

    Raises UserError where the log lacks an arm, or has several runs of an arm and seed.
    """
    rows = hinton_rows(log)
    rows = rows[rows["status"].eq("ok")]
    control = rows[rows["arm"] == "student_ce"].set_index("seed")["test_errors"]
    table = []
    for arm, (shown, name) in HINTON_ARMS.items():
        found = rows[rows["arm"] == arm].set_index("seed")
        paper, agreement = published_test_errors(name), found["teacher_agreement"]
        line = {
            "network": shown,
            "test errors": _errors(found["test_errors"]),
            "published": "" if pd.isna(paper) else f"{paper:.0f}",
            "minus cross-entropy's": ""
            if arm == "student_ce"
            else _errors(found["test_errors"] - control, "+"),
            "agrees with its teacher, %": "" if agreement.isna().all() else f"{100 * agreement.mean():.2f}",
        }
        table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("network")


def _errors(values: pd.Series, sign: str = "") -> str:
    """'130.2 ± 4.5': a mean count and half its 95 % interval; "" where there is none."""
    mean, low, high, n = interval(values)
    if n == 0:
        return ""
    half = "" if pd.isna(low) else f" ± {(high - low) / 2:.1f}"
    return f"{mean:{sign}.1f}{half}"


def select_table(log: Any) -> pd.DataFrame:
    """Mean validation accuracy in percent: a row a temperature, a column a weight alpha.

    A setting of which a run diverged or failed is empty: it cannot be chosen.
    """
    rows = final_rows(log, ["student_kd"], GRID)
    grid = mean_interval(rows[rows["arm"] == "student_kd"], GRID, "val_accuracy")
    means = grid["mean"].where(grid["excluded"] == 0)
    grid["text"] = ["" if pd.isna(mean) else f"{100 * mean:.2f}" for mean in means]
    table = grid.pivot(index="temperature", columns="alpha", values="text")
    table.index = pd.Index([f"T {temperature:g}" for temperature in table.index], name="setting")
    table.columns = [f"alpha {alpha:g}" for alpha in table.columns]
    return table


def length_table(log: Any) -> pd.DataFrame:
    """Validation accuracy in percent over seeds: the teacher's, a student's by its epochs, and then by T.

    Last CHECKS, and in points, paired by seed, what each changes.
    """
    rows = final_rows(log, [*SELECT_ARMS, "teacher"], GRID)
    rows = rows[rows["status"].eq("ok")]
    groups = {
        "teacher": "teacher",
        "length_ce": "cross-entropy",
        "length_kd": "distilled, T {:g}",
        "long_kd": "distilled, T {:g}",
        **CHECKS,
    }
    control = rows[rows["arm"] == "chosen_kd"].set_index("seed")["val_accuracy"]
    by, table, shown_before = ["temperature", "epochs"], [], set()
    for arm, shown in groups.items():
        for (temperature, epochs), own in rows[rows["arm"] == arm].groupby(by, dropna=False):
            # Where both arms have this temperature and length, they are the same runs.
            if shown_before & set(own["run"]):
                continue
            shown_before |= set(own["run"]) if arm == "length_kd" else set()
            line = {"trained with": shown.format(temperature), "epochs": f"{epochs:g}"}
            accuracy = own.set_index("seed")["val_accuracy"]
            line["validation accuracy, %"] = percent(*interval(accuracy)[:3])
            is_change = arm in CHECKS and arm != "chosen_kd"
            line["minus as chosen, points"] = points_of(accuracy - control) if is_change else ""
            table.append(line | {"seeds": len(own)})
    return pd.DataFrame(table).set_index("trained with")


def hinton_setting(log: Any) -> dict[str, float]:
    """What the selection's validation images choose: alpha, epochs, and the temperature at that length.

    One after the other: temperature and alpha on a grid of short trainings, then the epochs with them, then
    the temperature again, since long trainings may bear a higher one.
    """
    rows = final_rows(log, SELECT_ARMS, GRID)
    grid, lengths, long = (rows[rows["arm"] == arm] for arm in ("student_kd", "length_kd", "long_kd"))
    return {
        "alpha": best_setting(grid, GRID)["alpha"],
        "epochs": best_setting(lengths, ["epochs"])["epochs"],
        "temperature": best_setting(long, ["temperature"])["temperature"],
    }


def gain_rows(log: Any) -> pd.DataFrame:
    """Of distill_small: each distilled run's test accuracy less that of the same student without a teacher.

    Columns student, seed, temperature, gain, status; paired by seed. All learn from the same teacher, so
    their scatter is the students' alone.
    """
    rows, found = final_rows(log, axes=["temperature", "student", "loss"]), []
    for student, here in rows.groupby("student", sort=False):
        plain = here[here["loss"] == "cross-entropy"].set_index("seed")
        own = here[here["loss"] == "distilled"].set_index("seed")
        control = plain.reindex(own.index)
        frame = pd.DataFrame(
            {
                "student": student,
                "temperature": own["temperature"],
                "gain": own["test_accuracy"] - control["test_accuracy"],
                "status": own["status"].where(own["status"] != "ok", control["status"]),
            }
        )
        found.append(frame.reset_index())
    return pd.concat(found, ignore_index=True)


def small_table(log: Any) -> pd.DataFrame:
    """A row a temperature, two columns a student: gain over cross-entropy, and that less the highest T's.

    In points, paired by seed; the second tells whether the temperature has to shrink with the student.
    """
    gains = gain_rows(log)
    gains["gain"] = gains["gain"].where(gains["status"].eq("ok"))
    temperatures = sorted(gains["temperature"].unique())
    table: dict[str, dict[str, str]] = {f"T {temperature:g}": {} for temperature in temperatures}
    for student, own in gains.groupby("student", sort=False):
        wide = own.pivot(index="seed", columns="temperature", values="gain")
        for temperature in temperatures:
            line, gap = table[f"T {temperature:g}"], wide[temperature] - wide[temperatures[-1]]
            line[f"{student}: gain, points"] = points_of(wide[temperature])
            is_itself = temperature == temperatures[-1]
            line[f"{student}: minus T {temperatures[-1]:g}'s"] = "" if is_itself else points_of(gap)
    return pd.DataFrame(table).T.rename_axis("temperature")
