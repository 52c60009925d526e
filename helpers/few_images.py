"""What a teacher that has seen all images is worth to students, dense or pruned, that see few of them."""

from itertools import product
from typing import Any

import pandas as pd

from .comparison import final_rows, interval
from .distillation import ARM_NAMES, best_setting, setting_text, tuned_rows
from .recovery_report import points_of
from .report import percent

TEMPERATURE = ["sweep.temperature"]
"""The one axis that validation chooses from."""


OWN_DRAW, ONE_DRAW = "seed", 0
"""Values of the axis `subset`: each seed draws its images, or all see the same."""


def of_subset(rows: pd.DataFrame, subset: str | int) -> pd.DataFrame:
    """The rows whose images were drawn so, or all of them where there is only one way."""
    column = rows.get("sweep.subset")
    return rows if column is None or column.nunique() < 2 else rows[column == subset]


def size_rows(few: Any, every: Any, subset: str | int = OWN_DRAW) -> pd.DataFrame:
    """Final rows of distill_train_size, and those of distill_learning_rate as the ones of all images.

    Of the latter only rates, arms and seeds that the former has. A column more: `images`, trained on.
    """
    rows = of_subset(final_rows(few, ["ce"]), subset)
    arms = rows["arm"].unique()
    full = final_rows(every, arms)
    full = full[
        full["lr"].isin(rows["lr"].unique())
        & full["arm"].isin(arms)
        & full["seed"].isin(rows["seed"].unique())
    ]
    rows = pd.concat([rows, full], ignore_index=True)
    return rows.assign(images=rows["train_size"])


def size_table(few: Any, every: Any) -> pd.DataFrame:
    """A row a number of images and a loss: its best rate, accuracy, and that less cross-entropy's.

    Each seed at the rate that the other seeds' validation chooses. The last difference is of runs that all
    see the same images: its interval leaves out which images they are.
    """
    rows, table = size_rows(few, every), []
    same = dict(iter(size_rows(few, every, ONE_DRAW).groupby("images")))
    for images, here in rows.groupby("images"):
        tuned, fixed = _tuned(here), _tuned(same[images])
        is_drawn = not here["run"].isin(same[images]["run"]).all()
        for arm, found in tuned.items():
            gap, fixed_gap = (
                points_of(accuracies[arm]["test_accuracy"] - accuracies["ce"]["test_accuracy"])
                for accuracies in (tuned, fixed)
            )
            line = {
                "images": f"{images:,}",
                "trained with": ARM_NAMES.get(arm, arm),
                "best of all": setting_text(best_setting(here[here["arm"] == arm], ["lr"])),
                "test accuracy, %": percent(*interval(found["test_accuracy"])[:3]),
                "minus cross-entropy's, points": "" if arm == "ce" else gap,
            }
            if is_drawn:
                line["the same images for all seeds"] = "" if arm == "ce" else fixed_gap
            table.append(line | {"seeds": len(found)})
    return pd.DataFrame(table).fillna("").set_index("images")


def _tuned(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each arm's runs at the rates that other seeds choose."""
    return {arm: tuned_rows(rows[rows["arm"] == arm], ["lr"]) for arm in rows["arm"].unique()}


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
    Each seed at the temperature that the other seeds' validation chooses; shown are those of all. The
    difference of the same images for all seeds leaves out which images they are.
    """
    arms = [f"{kind}_{how}" for kind in ("dense", "pruned") for how in ("ce", *TAUGHT)]
    every, table = final_rows(log, arms), []
    rows, same = of_subset(every, OWN_DRAW), of_subset(every, ONE_DRAW)
    is_drawn = not rows["run"].isin(same["run"]).all()
    dense: dict[str, pd.Series] = {}
    levels = [None, *sorted(rows["target"].dropna().unique())]
    for images, level in product(sorted(rows["train_size"].unique()), levels):
        found = _ways(rows, images, level)
        accuracy, gains = _gains(found)
        dense = gains if level is None else dense
        line = {
            "images": f"{int(images):,}",
            "LeNet-300-100": "dense" if level is None else f"{100 * level:g} % of weights pruned",
            "labels alone, %": percent(*interval(accuracy["ce"])[:3]),
        }
        for how, (short, when) in TAUGHT.items():
            line[f"teacher in {when}, points"] = points_of(gains[how])
            gap = "" if level is None else points_of(gains[how] - dense[how])
            line[f"{short}: minus the dense network's"] = gap
        if is_drawn:
            fixed = _gains(_ways(same, images, level))[1]["both"]
            line["both, the same images for all seeds"] = points_of(fixed)
        hot = [setting_text(best_setting(found[how], TEMPERATURE)) for how in TAUGHT]
        table.append(line | {"temperatures": ", ".join(hot), "seeds": len(accuracy["ce"])})
    return pd.DataFrame(table).set_index("images")


def _ways(rows: pd.DataFrame, images: float, level: float | None) -> dict[str, pd.DataFrame]:
    """The runs of one number of images and one network, by when it has a teacher."""
    here = rows[rows["train_size"] == images]
    here = here if level is None else here[here["target"] == level]
    kind = "dense" if level is None else "pruned"
    return {how: here[here["arm"] == f"{kind}_{how}"] for how in ("ce", *TAUGHT)}


def _gains(found: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """By way to teach: accuracies by seed, at the temperatures that other seeds choose, and their gains."""
    accuracy = {how: tuned_rows(arm, TEMPERATURE)["test_accuracy"] for how, arm in found.items()}
    return accuracy, {how: accuracy[how] - accuracy["ce"] for how in TAUGHT}
