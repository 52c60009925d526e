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
    full = final_rows(every, arms, ["sweep.lr"])
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
                "trained with": ARM_NAMES.get(arm, arm),
                "best of all": setting_text(best_setting(here[here["arm"] == arm], ["sweep.lr"])),
                "test accuracy, %": percent(*interval(found["test_accuracy"])[:3]),
                "minus cross-entropy's, points": "" if arm == "ce" else gap,
            }
            table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).set_index("images")


TAUGHT = {
    "first": ("first", "the first training"),
    "kd": ("last", "the last training"),
    "both": ("both", "both trainings"),
}
"""When the students of distill_prune_few have a teacher; a pruned one is pruned between the two."""


def few_table(log: Any) -> pd.DataFrame:
    """Of distill_prune_few: a row a number of images and a network, dense or pruned, that trains twice.

    Accuracy with the labels alone, and in points, paired by seed, what a teacher adds in the first training,
    the last or both; that minus what it adds to the dense network says whether pruning takes some of it away.
    Each seed at the temperature that the other seeds' validation chooses; shown are those of all.
    """
    arms = [f"{kind}_{how}" for kind in ("dense", "pruned") for how in ("ce", *TAUGHT)]
    rows, table = final_rows(log, arms, ["sweep.train_size", "sweep.sparsity", *TEMPERATURE]), []
    levels = sorted(rows["sweep.sparsity"].dropna().astype(float).unique())
    for images, here in rows.groupby("sweep.train_size"):
        dense = None
        for level in [None, *levels]:
            kind = "dense" if level is None else "pruned"
            own = here if level is None else here[here["sweep.sparsity"].astype(float) == level]
            found = {how: own[own["arm"] == f"{kind}_{how}"] for how in ("ce", *TAUGHT)}
            accuracy = {how: tuned_rows(arm, TEMPERATURE)["test_accuracy"] for how, arm in found.items()}
            gains = {how: accuracy[how] - accuracy["ce"] for how in TAUGHT}
            dense = dense or gains
            line = {
                "images": f"{int(images):,}",
                "LeNet-300-100": "dense" if level is None else f"{100 * level:g} % of weights pruned",
                "labels alone, %": percent(*interval(accuracy["ce"])[:3]),
            }
            for how, (short, when) in TAUGHT.items():
                line[f"teacher in {when}, points"] = points_of(gains[how])
                gap = "" if level is None else points_of(gains[how] - dense[how])
                line[f"{short}: minus the dense network's"] = gap
            hot = [setting_text(best_setting(found[how], TEMPERATURE)) for how in TAUGHT]
            table.append(line | {"temperatures": ", ".join(hot), "seeds": len(accuracy["ce"])})
    return pd.DataFrame(table).set_index("images")
