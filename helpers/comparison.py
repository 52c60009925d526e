"""Arms of an experiment against each other: paired by seed, with intervals and verdicts."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from .errors import UserError
from .plots import check_settings, mean_interval

MARGIN = 0.001
"""Accuracies this close count as equal: 0.1 points, ten of 10,000 test images."""

MEASURES = ("params", "macs", "sparsity_all", "train_flops", "epochs")


def final_rows(log: Any, arms: Iterable[str] = (), axes: Iterable[str] = ()) -> pd.DataFrame:
    """The last row of every run, of a log that has runs of these arms and columns of these axes.

    Raises UserError where it has not, such as that of another experiment.
    """
    rows, arms, axes = log.final(), list(arms), list(axes)
    filled = set(rows.columns[rows.notna().any()])
    for what, wanted, found in (("arms", arms, set(rows["arm"])), ("columns", axes, filled)):
        missing = [name for name in wanted if name not in found]
        if missing:
            raise UserError(
                f"{log.experiment}: expected a log with the {what} {', '.join(wanted)}, found none of "
                f"{', '.join(missing)}; name the experiment that the table or figure is of"
            )
    return rows


def check_single(rows: pd.DataFrame, keys: list[str], what: str) -> pd.DataFrame:
    """The rows, of which each is the only one with its values of the keys.

    Raises UserError where several share them: runs that differ in something else would count as seeds.
    """
    if rows.duplicated(keys).any():
        text = f"expected one run for each {' and '.join(keys)}, found several"
        groups = rows.groupby(keys, dropna=False)
        axes = [column for column in rows if column.startswith("sweep.") and column not in keys]
        others = [axis for axis in axes if groups[axis].nunique(dropna=False).gt(1).any()]
        raise UserError(f"{what}: {text}; select the rows of one value of {', '.join(others) or 'each axis'}")
    return rows


def arm_rows(log: Any) -> pd.DataFrame:
    """The last row of every run, and `difference`; `kind` is "" where nothing was pruned to a share.

    `difference` is paired by seed: this run's test accuracy less that of the dense network it came
    from.
    """
    rows, results = log.final(), log.results
    check_settings(log)
    first = results[results["type"] == "train"].sort_values("stage").drop_duplicates("run").set_index("run")
    rows["difference"] = rows["test_accuracy"] - rows["run"].map(first["test_accuracy"])
    rows["kind"] = rows["kind"].where(rows["target"].notna(), "")
    return rows


def arm_table(log: Any) -> pd.DataFrame:
    """A row an arm, kind and sparsity: accuracy and its difference to the dense base, with intervals.

    Columns: arm, kind, target, mean, low, high, n, excluded, difference, difference_low,
    difference_high, verdict, rewound, and the means of MEASURES.
    """
    rows, by = arm_rows(log), ["arm", "kind", "target"]
    table = mean_interval(rows, by, "test_accuracy")
    paired = mean_interval(rows, by, "difference")
    for ours, theirs in (("difference", "mean"), ("difference_low", "low"), ("difference_high", "high")):
        table[ours] = paired[theirs]
    table["verdict"] = [
        verdict(low, high)
        for low, high in table[["difference_low", "difference_high"]].itertuples(index=False)
    ]
    table["rewound"] = rows.groupby(by)["rewound"].first().reindex(table.set_index(by).index).to_list()
    for column in MEASURES:
        table[column] = mean_interval(rows, by, column)["mean"]
    order = {arm: place for place, arm in enumerate(dict.fromkeys(log.results["arm"]))}
    return table.sort_values(by, key=lambda c: c.map(order) if c.name == "arm" else c).reset_index(drop=True)


def verdict(low: float, high: float) -> str:
    """What the interval of a difference in accuracy says: matches, better, worse, or undecided.

    "matches" where all of it is within ±MARGIN, "better" or "worse" where all of it is outside.
    """
    if low >= -MARGIN and high <= MARGIN:
        return "matches"
    if high < -MARGIN:
        return "worse"
    return "better" if low > MARGIN else "undecided"


def interval(values: pd.Series | np.ndarray) -> tuple[float, float, float, int]:
    """Mean, ends of its 95 % t-interval, and n; no ends (NaN) where n is 1."""
    values = np.asarray(pd.Series(values).dropna(), float)
    n = len(values)
    if n < 2:
        return (float(values.mean()) if n else np.nan), np.nan, np.nan, n
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return values.mean(), values.mean() - half, values.mean() + half, n


def paired_difference(rows: pd.DataFrame, one: str, other: str, by: list[str]) -> pd.DataFrame:
    """Accuracy of arm `one` less that of arm `other`, paired by seed: columns by…, mean, low, high, n."""
    missing = {one, other} - set(rows["arm"])
    if missing:
        raise UserError(f"expected the arms {one} and {other}, found no {', '.join(sorted(missing))}")
    ended = check_single(rows[rows["status"].eq("ok")], [*by, "arm", "seed"], f"{one} and {other}")
    wide = ended.pivot(index=[*by, "seed"], columns="arm", values="test_accuracy")
    gap = (wide[one] - wide[other]).dropna().rename("gap").reset_index()
    found = gap.groupby(by)["gap"].agg(["mean", "std", "count"]).reset_index()
    half = t.ppf(0.975, found["count"] - 1) * found.pop("std") / np.sqrt(found["count"])
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    return found.rename(columns={"count": "n"})[[*by, "mean", "low", "high", "n"]]
