"""Distillation in numbers: settings chosen on validation, students beside their controls, learning rates."""

from typing import Any

import numpy as np
import pandas as pd

from .comparison import check_single, final_rows, interval
from .errors import UserError
from .plots import mean_interval
from .recovery_report import points_of
from .report import percent

ARM_NAMES = {
    "ce": "cross-entropy",
    "smooth": "label smoothing",
    "kd": "distilled",
    "logits": "logits matched",
    "kd_unscaled": "distilled, without T²",
}
"""What tables and legends call an arm, or the part of its name after the student's."""

STUDENTS = {"wide": "256-128-128-64-64-64", "narrow": "64-64-64-64"}
"""The original author's students: what their arms begin with, and their hidden units."""

STUDENT_ARMS = [f"{student}_{kind}" for student in STUDENTS for kind in ("ce", "smooth", "kd", "logits")]

AUTHORS = {"lr": 0.001, "temperature": 20, "alpha": 0.4}
"""His setting (Lange 2020, section 5), at Adam's usual learning rate."""

USABLE, NEAR = 0.9, 0.002
"""Validation accuracy that counts as trained; and how near to an arm's best counts as as good."""


def best_setting(rows: pd.DataFrame, axes: list[str]) -> dict[str, Any]:
    """The values of the axes with the highest mean validation accuracy over seeds; test selects nothing.

    A setting of which a run diverged or failed is out. Raises UserError where none is left.
    """
    used = [axis for axis in axes if rows[axis].notna().any()]
    if not used:
        return {}
    groups = rows.assign(is_ok=rows["status"].eq("ok")).groupby(used)
    means = groups["val_accuracy"].mean()[groups["is_ok"].all()]
    if rows["val_accuracy"].isna().all() and rows["status"].eq("ok").any():
        text = (
            "expected validation accuracies to choose by, found none; data.validation_size has to be over 0"
        )
        raise UserError(f"{', '.join(used)}: {text}")
    if means.dropna().empty:
        raise UserError(f"{', '.join(used)}: expected a setting whose every run ended well, found none")
    best = means.idxmax()
    return dict(zip(used, best if isinstance(best, tuple) else (best,), strict=True))


def tuned_rows(rows: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Each seed's run at the setting that the *other* seeds' validation chooses, by seed.

    A setting chosen on the runs that it is judged by would be a little too good, the more of them are tried.
    With one seed, its own validation chooses.
    """
    seeds = rows["seed"].unique()
    found = []
    for seed in seeds:
        others = rows[rows["seed"] != seed] if len(seeds) > 1 else rows
        own = rows[rows["seed"] == seed]
        found.append(at_setting(own, best_setting(others, axes)))
    return pd.concat(found)


def at_setting(rows: pd.DataFrame, setting: dict[str, Any]) -> pd.DataFrame:
    """The rows with these values of the axes that ended well, by seed.

    Raises UserError where a seed has several.
    """
    rows = rows[rows["status"].eq("ok")]
    for axis, value in setting.items():
        rows = rows[np.isclose(rows[axis].astype(float), value)]
    return check_single(rows, ["seed"], setting_text(setting)).set_index("seed")


def setting_text(setting: dict[str, Any]) -> str:
    """'lr 0.001, T 20, alpha 0.4'."""
    names = {axis: axis.removeprefix("sweep.").replace("temperature", "T") for axis in setting}
    return ", ".join(f"{names[axis]} {value:g}" for axis, value in setting.items())


def students_table(log: Any) -> pd.DataFrame:
    """A row a student and a way to train it, each beside the same student without a teacher.

    "tuned": each seed at the setting with the highest mean validation accuracy of the *other* seeds; shown is
    that of all. The control of the author's setting is cross-entropy at the same learning rate, that of a
    tuned one cross-entropy tuned in the same way, over fewer settings. Differences are paired by seed.
    """
    axes = ["lr", "temperature", "alpha"]
    rows = final_rows(log, STUDENT_ARMS, axes)
    table = []
    for student, shown in STUDENTS.items():
        arms = {kind: rows[rows["arm"] == f"{student}_{kind}"] for kind in ("ce", "smooth", "kd", "logits")}
        same_rate = {"lr": AUTHORS["lr"]}
        tuned = {kind: tuned_rows(of_arm, axes) for kind, of_arm in arms.items()}
        best = {kind: setting_text(best_setting(of_arm, axes)) for kind, of_arm in arms.items()}
        plain = at_setting(arms["ce"], same_rate)
        lines = [
            ("ce", "", setting_text(same_rate), plain, None),
            ("kd", "the author's", setting_text(AUTHORS), at_setting(arms["kd"], AUTHORS), plain),
            ("ce", "tuned", best["ce"], tuned["ce"], None),
            ("smooth", "tuned", best["smooth"], tuned["smooth"], tuned["ce"]),
            ("kd", "tuned", best["kd"], tuned["kd"], tuned["ce"]),
            ("logits", "tuned", best["logits"], tuned["logits"], tuned["ce"]),
        ]
        for kind, how, setting, found, control in lines:
            line = {
                "student": shown,
                "trained with": f"{ARM_NAMES[kind]}{', ' + how if how else ''}",
                "setting": setting,
                "test accuracy, %": _percent(found["test_accuracy"]),
                "minus its control, points": "",
            }
            if control is not None:
                gap = found["test_accuracy"] - control["test_accuracy"]
                line["minus its control, points"] = points_of(gap)
            for column, name in (
                ("teacher_agreement", "agrees with its teacher, %"),
                ("teacher_divergence", "KL, nats"),
            ):
                values = found[column] if kind in ("kd", "logits") else pd.Series(dtype=float)
                form = f"{100 * values.mean():.2f}" if "agreement" in column else f"{values.mean():.3f}"
                line[name] = form if len(values) else ""
            table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("student")


def _percent(values: pd.Series) -> str:
    """Mean and half the interval, in percent."""
    return percent(*interval(values)[:3])


def rate_rows(log: Any) -> pd.DataFrame:
    """A row a run: arm, seed, lr, status, val_accuracy, test_accuracy, and steps_97 and steps_98.

    Those are the first logged steps with so much validation accuracy, NaN for never. What did not end
    finite has the accuracy 0. Raises UserError where a run failed, or has not run yet.
    """
    rows = final_rows(log, ["ce"], ["lr"])
    rows = check_single(rows, ["arm", "lr", "seed"], log.experiment)
    failed = rows["status"].isin(["failed", "missing"]).sum()
    if failed:
        text = f"expected runs that ended or diverged, found {failed} that failed or have not run"
        raise UserError(f"{log.experiment}: {text}; run it again")
    for accuracy in (0.97, 0.98):
        reached = log.curves[log.curves["val_accuracy"] >= accuracy].groupby("run")["step"].min()
        rows[f"steps_{accuracy:.0%}".rstrip("%")] = rows["run"].map(reached)
    ended = rows["status"].eq("ok")
    for column in ("val_accuracy", "test_accuracy"):
        rows[column] = rows[column].where(ended, 0.0)
    wanted = ["arm", "seed", "lr", "status", "val_accuracy", "test_accuracy", "steps_97", "steps_98"]
    return rows[wanted]


def largest_rate(rows: pd.DataFrame, accuracy: float = USABLE) -> float:
    """Of one arm's rows: the largest lr at which every seed has more validation accuracy; NaN if none has."""
    usable = rows.groupby("lr")["val_accuracy"].min() > accuracy
    return max(usable.index[usable], default=np.nan)


def usable_range(rows: pd.DataFrame) -> dict[str, float]:
    """Of one arm's rows: `largest` lr at which every seed is USABLE; `best` lr, by mean validation accuracy;
    `low` and `high`, the ends of the stretch around it within NEAR of its mean.
    """
    means = rows.groupby("lr")["val_accuracy"].mean()
    best = means.idxmax()
    near = means >= means[best] - NEAR
    rates = list(means.index)
    low = high = rates.index(best)
    while low > 0 and near.iloc[low - 1]:
        low -= 1
    while high < len(rates) - 1 and near.iloc[high + 1]:
        high += 1
    return {"largest": largest_rate(rows), "best": best, "low": rates[low], "high": rates[high]}


def rate_table(log: Any) -> pd.DataFrame:
    """A row an arm: the claim that distillation allows larger learning rates and fast training, measured.

    Steps to 97 and 98 % validation accuracy at the rate that is best for cross-entropy, and at the arm's
    own best: for each seed the rate that the other seeds' validation chooses. A mean over the seeds that got
    there. The last column is paired by seed, at each arm's own best.
    """
    rows, table = rate_rows(log), []
    plain = rows[rows["arm"] == "ce"]
    shared, control = usable_range(plain)["best"], tuned_rows(plain, ["lr"])
    for arm in rows["arm"].unique():
        own = rows[rows["arm"] == arm]
        found = usable_range(own)
        at_best, at_shared = tuned_rows(own, ["lr"]), at_setting(own, {"lr": shared})
        line = {
            "trained with": ARM_NAMES.get(arm, arm),
            f"largest lr with every seed above {100 * USABLE:g} %": f"{found['largest']:.3g}",
            "best lr": f"{found['best']:.3g}",
            f"within {100 * NEAR:g} points of it": f"{found['low']:.3g} to {found['high']:.3g} "
            f"({found['high'] / found['low']:.3g} ×)",
            f"steps to 97 % validation, at {shared:.3g}": _steps(at_shared["steps_97"]),
            "97 %, at its own best": _steps(at_best["steps_97"]),
            f"steps to 98 % validation, at {shared:.3g}": _steps(at_shared["steps_98"]),
            "98 %, at its own best": _steps(at_best["steps_98"]),
            "test accuracy at its best, %": _percent(at_best["test_accuracy"]),
            "minus cross-entropy's, points": "",
        }
        if arm != "ce":
            gap = at_best["test_accuracy"] - control["test_accuracy"]
            line["minus cross-entropy's, points"] = points_of(gap)
        table.append(line | {"seeds": len(at_best)})
    return pd.DataFrame(table).set_index("trained with")


def threshold_table(
    log: Any, accuracies: tuple[float, ...] = (0.8, 0.9, 0.92, 0.94, 0.95, 0.96)
) -> pd.DataFrame:
    """A row an arm: the largest lr at which every seed has more than so much validation accuracy.

    How much of the claim of larger rates hangs on what counts as trained.
    """
    rows, table = rate_rows(log), {}
    for arm in rows["arm"].unique():
        found = {accuracy: largest_rate(rows[rows["arm"] == arm], accuracy) for accuracy in accuracies}
        texts = {f"above {100 * accuracy:g} %": f"{rate:.3g}" for accuracy, rate in found.items()}
        table[ARM_NAMES.get(arm, arm)] = {
            key: "none" if text == "nan" else text for key, text in texts.items()
        }
    return pd.DataFrame(table).T.rename_axis("largest lr with every seed")


def _steps(steps: pd.Series) -> str:
    """'1,250 ± 90', and how many seeds did not get there."""
    mean, low, high, n = interval(steps)
    if n == 0:
        return "never"
    half = "" if np.isnan(low) else f" ± {(high - low) / 2:,.0f}"
    return f"{mean:,.0f}{half}" + (f" ({n} of {len(steps)} seeds)" if n < len(steps) else "")


def rate_means(log: Any, quantity: str) -> pd.DataFrame:
    """Mean and interval of a quantity by arm and learning rate: arm, lr, mean, low, high, n."""
    return mean_interval(rate_rows(log).drop(columns="status"), ["arm", "lr"], quantity)
