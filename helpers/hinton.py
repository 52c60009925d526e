"""The classic of distillation (Hinton et al. 2015, section 3) in numbers, and what bounds it."""

from typing import Any

import pandas as pd

from .comparison import interval
from .distillation import ARM_NAMES, at_setting, best_setting, setting_text, tuned_rows
from .plots import mean_interval
from .recovery_report import points
from .report import PUBLISHED, percent

HINTON_ARMS = {
    "teacher": ("1200-1200, dropout, shifted images", "hinton-teacher"),
    "student_ce": ("800-800, cross-entropy", "hinton-student-ce"),
    "student_kd": ("800-800, distilled", "hinton-student-kd"),
    "student_ce_shift": ("800-800, cross-entropy, shifted images", None),
}
"""What tables call an arm, and the id of the paper's figure in data/published.csv."""

SMALL_STUDENTS = {"medium": "300-300", "small": "30-30"}
"""Students of distill_small: what their arms begin with, and their hidden units."""


def published_test_errors(name: str | None) -> float:
    """The paper's test errors, of 10,000 images; NaN for what it does not report."""
    table = pd.read_csv(PUBLISHED).set_index("id")
    return table["error_percent"].get(name, float("nan")) * 100


def hinton_table(log: Any) -> pd.DataFrame:
    """A row an arm: test errors of 10,000 beside the paper's, and fewer or more than plain cross-entropy."""
    rows = log.final()
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
            "less cross-entropy's": ""
            if arm == "student_ce"
            else _errors(found["test_errors"] - control, "+"),
            "agrees with its teacher, %": "" if agreement.isna().all() else f"{100 * agreement.mean():.2f}",
        }
        table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("network")


def _errors(values: pd.Series, sign: str = "") -> str:
    """'130.2 ± 4.5': a mean count and half its 95 % interval."""
    mean, low, high, _ = interval(values)
    half = "" if pd.isna(low) else f" ± {(high - low) / 2:.1f}"
    return f"{mean:{sign}.1f}{half}"


def select_table(log: Any) -> pd.DataFrame:
    """Validation accuracy in percent: a row a temperature, a column a weight alpha; longer training below."""
    rows = log.final()
    rows = rows[rows["status"].eq("ok")]
    grid = mean_interval(
        rows[rows["arm"] == "student_kd"], ["sweep.temperature", "sweep.alpha"], "val_accuracy"
    )
    grid["text"] = [f"{100 * mean:.2f}" for mean in grid["mean"]]
    table = grid.pivot(index="sweep.temperature", columns="sweep.alpha", values="text")
    table.index = pd.Index([f"T {temperature:g}" for temperature in table.index], name="setting")
    table.columns = [f"alpha {alpha:g}" for alpha in table.columns]
    return table


def length_table(log: Any) -> pd.DataFrame:
    """A row an arm of the selection: epochs, and validation accuracy in percent over seeds."""
    rows = log.final()
    best = at_setting(rows[rows["arm"] == "student_kd"], hinton_setting(log))
    table = []
    for arm, shown in (
        ("teacher", "teacher"),
        ("student_ce", "cross-entropy"),
        ("longer_ce", "cross-entropy"),
        ("student_kd", "distilled"),
        ("longer_kd", "distilled"),
    ):
        found = best.reset_index() if arm == "student_kd" else rows[rows["arm"] == arm]
        line = {"trained with": shown, "epochs": f"{found['epochs'].mean():.0f}"}
        line["validation accuracy, %"] = percent(*interval(found["val_accuracy"])[:3])
        table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("trained with")


def hinton_setting(log: Any) -> dict[str, float]:
    """Temperature and alpha that the selection's validation images choose."""
    rows = log.final()
    return best_setting(rows[rows["arm"] == "student_kd"], ["sweep.temperature", "sweep.alpha"])


def gain_rows(log: Any) -> pd.DataFrame:
    """Of distill_small: each distilled run's test accuracy less that of the same student without a teacher.

    Columns student, seed, temperature, gain, val_gain; paired by seed.
    """
    rows = log.final()
    rows = rows[rows["status"].eq("ok")]
    found = []
    for student in SMALL_STUDENTS:
        plain = rows[rows["arm"] == f"{student}_ce"].set_index("seed")
        own = rows[rows["arm"] == f"{student}_kd"].set_index("seed")
        gains = {
            name: own[column] - plain[column].reindex(own.index)
            for name, column in (("gain", "test_accuracy"), ("val_gain", "val_accuracy"))
        }
        frame = pd.DataFrame(gains | {"temperature": own["sweep.temperature"].astype(float)})
        found.append(frame.assign(student=student).reset_index())
    return pd.concat(found, ignore_index=True)


def small_table(log: Any) -> pd.DataFrame:
    """A row a temperature, a column a student: gain over cross-entropy in points, paired by seed.

    The second column of each is less what T = 20 gives: whether the temperature has to shrink.
    """
    gains = gain_rows(log)
    table: dict[str, dict[str, str]] = {}
    for student, shown in SMALL_STUDENTS.items():
        wide = gains[gains["student"] == student].pivot(index="seed", columns="temperature", values="gain")
        hottest = wide[wide.columns.max()]
        for temperature in wide:
            line = table.setdefault(f"T {temperature:g}", {})
            line[f"{shown}: gain, points"] = points(*interval(wide[temperature])[:3])
            against = wide[temperature] - hottest
            is_itself = temperature == wide.columns.max()
            line[f"{shown}: less T {wide.columns.max():g}'s"] = (
                "" if is_itself else points(*interval(against)[:3])
            )
    return pd.DataFrame(table).T.rename_axis("temperature")


def size_rows(few: Any, every: Any) -> pd.DataFrame:
    """Final rows of distill_train_size, and of distill_learning_rate's at the same rates as all images.

    Columns of `final()` and `images`: how many it trained on.
    """
    rows = few.final()
    rows = rows.assign(images=rows["sweep.train_size"].astype(int))
    rates, arms = rows["sweep.lr"].unique(), rows["arm"].unique()
    full = every.final()
    full = full[
        full["sweep.lr"].isin(rates) & full["arm"].isin(arms) & full["seed"].isin(rows["seed"].unique())
    ]
    return pd.concat([rows, full.assign(images=55_000)], ignore_index=True)


def size_table(few: Any, every: Any) -> pd.DataFrame:
    """A row a number of images and a loss: its best rate, accuracy, and that less cross-entropy's.

    Each seed at the rate that the other seeds' validation chooses.
    """
    rows, table = size_rows(few, every), []
    for images, here in rows.groupby("images"):
        tuned = {arm: tuned_rows(here[here["arm"] == arm], ["sweep.lr"]) for arm in here["arm"].unique()}
        for arm, found in tuned.items():
            gap = points(*interval(found["test_accuracy"] - tuned["ce"]["test_accuracy"])[:3])
            line = {
                "images": f"{images:,}",
                "trained with": ARM_NAMES[arm],
                "best of all": setting_text(best_setting(here[here["arm"] == arm], ["sweep.lr"])),
                "test accuracy, %": percent(*interval(found["test_accuracy"])[:3]),
                "less cross-entropy's, points": "" if arm == "ce" else gap,
            }
            table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("images")
