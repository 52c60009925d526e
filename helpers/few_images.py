"""What a teacher that has seen all images is worth to students, dense or pruned, that see few of them."""

from typing import Any

import pandas as pd

from .comparison import final_rows, interval
from .distillation import ARM_NAMES, best_setting, setting_text, tuned_rows
from .recovery_report import points_of
from .report import percent

ALL_IMAGES = 55_000
"""What a validation split of 5,000 leaves of MNIST."""

TEMPERATURE = ["sweep.temperature"]
"""The one axis that validation chooses from."""


def size_rows(few: Any, every: Any) -> pd.DataFrame:
    """Final rows of distill_train_size, and those of distill_learning_rate as the ones of all images.

    Of the latter only rates, arms and seeds that the former has. A column more: `images`, trained on.
    """
    rows = final_rows(few, ["ce"], ["sweep.train_size", "sweep.lr"])
    rows = rows.assign(images=rows["sweep.train_size"].astype(int))
    rates, arms = rows["sweep.lr"].unique(), rows["arm"].unique()
    full = final_rows(every, axes=["sweep.lr"])
    full = full[
        full["sweep.lr"].isin(rates) & full["arm"].isin(arms) & full["seed"].isin(rows["seed"].unique())
    ]
    return pd.concat([rows, full.assign(images=ALL_IMAGES)], ignore_index=True)


def size_table(few: Any, every: Any) -> pd.DataFrame:
    """A row a number of images and a loss: its best rate, accuracy, and that less cross-entropy's.

    Each seed at the rate that the other seeds' validation chooses.
    """
    rows, table = size_rows(few, every), []
    for images, here in rows.groupby("images"):
        tuned = {arm: tuned_rows(here[here["arm"] == arm], ["sweep.lr"]) for arm in here["arm"].unique()}
        for arm, found in tuned.items():
            gap = points_of(found["test_accuracy"] - tuned["ce"]["test_accuracy"])
            line = {
                "images": f"{images:,}",
                "trained with": ARM_NAMES[arm],
                "best of all": setting_text(best_setting(here[here["arm"] == arm], ["sweep.lr"])),
                "test accuracy, %": percent(*interval(found["test_accuracy"])[:3]),
                "less cross-entropy's, points": "" if arm == "ce" else gap,
            }
            table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("images")


def few_table(log: Any) -> pd.DataFrame:
    """Of distill_prune_few: a row a number of images and a network, dense or pruned.

    Accuracy with the labels alone, and what a teacher adds, in points, paired by seed: in the last training
    (of a pruned network: its fine-tuning), and in the training before pruning as well. The latter less what
    the teacher adds to the dense network says whether pruning takes some of it away. Each seed at the
    temperature that the other seeds' validation chooses; shown is that of all.
    """
    arms = ["dense_ce", "dense_kd", "pruned_ce", "pruned_kd", "pruned_both"]
    rows, table = final_rows(log, arms, ["sweep.train_size", "sweep.sparsity", *TEMPERATURE]), []
    levels = sorted(rows["sweep.sparsity"].dropna().astype(float).unique())
    for images, here in rows.groupby("sweep.train_size"):
        _, dense = _gains(here, "dense")
        for level in [None, *levels]:
            kind = "dense" if level is None else "pruned"
            own = here if level is None else here[here["sweep.sparsity"].astype(float) == level]
            labels, gains = _gains(own, kind)
            both = "both" in gains
            line = {
                "images": f"{int(images):,}",
                "LeNet-300-100": "dense" if level is None else f"{100 * level:g} % of weights pruned",
                "labels alone, %": percent(*interval(labels)[:3]),
                "teacher in the last training, points": points_of(gains["kd"]),
                "at": setting_text(best_setting(own[own["arm"] == f"{kind}_kd"], TEMPERATURE)),
                "in both trainings": points_of(gains["both"]) if both else "",
                "this less the dense network's": points_of(gains["both"] - dense["kd"]) if both else "",
                "seeds": len(labels),
            }
            table.append(line)
    return pd.DataFrame(table).set_index("images")


def _gains(rows: pd.DataFrame, kind: str) -> tuple[pd.Series, dict[str, pd.Series]]:
    """By seed: accuracy with the labels alone, and what a teacher adds in the last training and in both."""
    own = {how: rows[rows["arm"] == f"{kind}_{how}"] for how in ("ce", "kd", "both")}
    found = {how: tuned_rows(arm, TEMPERATURE)["test_accuracy"] for how, arm in own.items() if len(arm)}
    return found["ce"], {how: accuracy - found["ce"] for how, accuracy in found.items()}
