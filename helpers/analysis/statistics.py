"""Statistics over seeds: means with intervals, paired differences, choices on validation, families of tests.

Only seeds are pooled. Rows that differ in a setting which was not asked for are no seeds of one another, and
pooling them is an error that names the setting.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t, ttest_1samp

from ..foundations.columns import SETTINGS
from ..foundations.errors import UserError
from .selection import check_numbers, equal, known

LEVEL = 0.05
"""Chance, over a whole family of tests, to call one difference real that is not."""

MARGIN = 0.001
"""Accuracies this close count as equal: 0.1 points, ten of 10,000 test images."""

ROUNDING = 1e-9
"""Accuracies that differ by less are the same number of images."""


def interval(values: Iterable[float]) -> tuple[float, float, float, int]:
    """Mean, ends of its 95 % t-interval, and n; no ends (NaN) where n is 1. NaN values count as absent."""
    values = np.asarray(pd.Series(values).dropna(), float)
    n = len(values)
    if n < 2:
        return (float(values.mean()) if n else np.nan), np.nan, np.nan, n
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return values.mean(), values.mean() - half, values.mean() + half, n


def summary(rows: pd.DataFrame, by: str | Sequence[str], value: str = "test_accuracy") -> pd.DataFrame:
    """Mean and 95 % t-interval of `value` over the seeds of each group.

    Columns: by…, mean, low, high, n, excluded, in the order in which the groups first appear. Rows whose
    status is not ok count as `excluded` and nowhere else. With n = 1, low and high are NaN.
    Raises UserError where a column is not there, or a group holds more than the seeds of one setting.
    """
    by = [by] if isinstance(by, str) else list(by)
    for name in (*by, value):
        known(name, rows.columns, "column")
    if not by:
        raise UserError("summary: expected a column to group by, found none; of one setting, group by 'arm'")
    check_numbers(rows, value)
    rows = single(rows, by, value)
    is_ok = rows["status"].eq("ok") if "status" in rows else pd.Series(True, index=rows.index)
    kept = rows[by].assign(value=rows[value].where(is_ok).astype(float), excluded=~is_ok)
    columns = {"mean": ("value", "mean"), "deviation": ("value", "std"), "n": ("value", "count")}
    groups = kept.groupby(by, dropna=False, sort=False)
    table = groups.agg(**columns, excluded=("excluded", "sum")).reset_index()
    half = t.ppf(0.975, table["n"] - 1) * table.pop("deviation") / np.sqrt(table["n"])
    table.insert(len(by) + 1, "low", table["mean"] - half)
    table.insert(len(by) + 2, "high", table["mean"] + half)
    return table


def single(rows: pd.DataFrame, by: Sequence[str], value: str | None = None) -> pd.DataFrame:
    """The rows, of which those with the same values of `by` differ in their seed alone; repeats are dropped.

    A stage that several runs share is one result. Raises UserError where rows differ in more, and names it.
    """
    if "result" in rows:
        rows = rows.drop_duplicates([*by, "result", *([value] if value else [])])
    is_ok = rows["status"].eq("ok") if "status" in rows else pd.Series(True, index=rows.index)
    ended = rows[is_ok]
    groups = ended.groupby(list(by), dropna=False, sort=False) if by else ended.assign(all=0).groupby("all")
    settings = [c for c in rows if c in ("experiment", "arm", *SETTINGS) or c.startswith("sweep.")]
    for name in (name for name in settings if name not in by):
        # A text of a setting and an axis that stands for it are the same; whichever comes first is named.
        if (groups[name].nunique(dropna=False) > 1).any():
            found = groups[name].unique()
            several = next(values for values in found if len(values) > 1)
            shown = ", ".join(str(value) for value in several[:4])
            raise UserError(
                f"{name}: expected one value in each group of {', '.join(by) or 'rows'}, since only seeds "
                f"are pooled, found {shown}; select one, or group by {name} too"
            )
    if "seed" in rows and ended.duplicated([*by, *(["seed"] if "seed" not in by else [])]).any():
        others = [name for name in ("stage_name", "round", "stage") if name in rows and name not in by]
        varying = [name for name in others if (groups[name].nunique(dropna=False) > 1).any()]
        hint = (
            f"which differ in {', '.join(varying)}" if varying else "such as those of several steps or layers"
        )
        raise UserError(
            f"{', '.join(by) or 'rows'}: expected one row a seed in each group, found several, {hint}; "
            "select the rows of one, or group by it too"
        )
    return rows


def paired(
    rows: pd.DataFrame, control: pd.DataFrame, value: str = "test_accuracy", on: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows with `difference`: their value less the control's of the same seed (and the same `on`).

    NaN where either did not end well, or the control lacks the seed. Raises UserError where the control has
    several rows of a seed.
    """
    keys = ["seed", *on]
    for name in (*keys, value):
        known(name, control.columns, "column")
        known(name, rows.columns, "column")
    control = single(control, list(on), value)
    ended = control[control["status"].eq("ok")] if "status" in control else control
    values = ended.set_index(keys)[value]
    index = pd.MultiIndex.from_frame(rows[keys]) if on else pd.Index(rows["seed"])
    ours = rows[value].where(rows["status"].eq("ok")) if "status" in rows else rows[value]
    return rows.assign(difference=ours.astype(float).to_numpy() - values.reindex(index).to_numpy(float))


def best(rows: pd.DataFrame, axes: Sequence[str]) -> dict[str, Any]:
    """The values of the axes with the highest mean validation accuracy over seeds; test selects nothing.

    A setting of which a run diverged or failed is out. Raises UserError where none is left, or where the runs
    of one differ in more than their seed.
    """
    used = [axis for axis in axes if rows[known(axis, rows.columns, "column")].notna().any()]
    if not used:
        return {}
    rows = single(rows, used, "val_accuracy")
    groups = rows.assign(is_ok=rows["status"].eq("ok")).groupby(used)
    means = groups["val_accuracy"].mean()[groups["is_ok"].all()]
    if rows["val_accuracy"].isna().all() and rows["status"].eq("ok").any():
        text = (
            "expected validation accuracies to choose by, found none; data.validation_size has to be over 0"
        )
        raise UserError(f"{', '.join(used)}: {text}")
    if means.dropna().empty:
        raise UserError(f"{', '.join(used)}: expected a setting whose every run ended well, found none")
    chosen = means.idxmax()
    return dict(zip(used, chosen if isinstance(chosen, tuple) else (chosen,), strict=True))


def at_setting(rows: pd.DataFrame, setting: dict[str, Any]) -> pd.DataFrame:
    """The rows with these values of the columns that ended well, numbers compared up to rounding.

    Raises UserError where there are none.
    """
    found = rows[rows["status"].eq("ok")]
    for name, value in setting.items():
        found = found[equal(found[known(name, rows.columns, "column")], value)]
    if found.empty:
        raise UserError(f"{setting_text(setting)}: expected rows with it that ended well, found none")
    return found


def tuned(rows: pd.DataFrame, axes: Sequence[str], by: Sequence[str] = ()) -> pd.DataFrame:
    """In each group, each seed's run at the setting that the *other* seeds' validation chooses.

    A setting chosen on the runs that it is judged by would be a little too good, the more of them are tried.
    With one seed, its own validation chooses. `setting` is the text of what all seeds together choose; the
    axes, which differ by seed, are empty in what is returned, so that the seeds can be pooled. Raises
    UserError where there are no rows.
    """
    if rows.empty:
        raise UserError(f"{', '.join(axes)}: expected rows to choose among, found none")
    found = []
    for _, group in rows.groupby(list(by), dropna=False, sort=False) if by else [("", rows)]:
        seeds, parts = group["seed"].unique(), []
        for seed in seeds:
            others = group[group["seed"] != seed] if len(seeds) > 1 else group
            own = at_setting(group[group["seed"] == seed], best(others, axes))
            parts.append(single(own, [*by, "seed"]))
        found.append(pd.concat(parts).assign(setting=setting_text(best(group, axes))))
    found = pd.concat(found, ignore_index=True)
    chosen = {axis.removeprefix("sweep.") for axis in axes}
    return found.assign(**{c: np.nan for c in found if c.removeprefix("sweep.") in chosen})


def setting_text(setting: dict[str, Any]) -> str:
    """'lr 0.001, T 20, alpha 0.4'."""
    names = {axis: axis.removeprefix("sweep.").replace("temperature", "T") for axis in setting}
    return ", ".join(
        f"{names[axis]} {value:g}" if isinstance(value, int | float) else f"{names[axis]} {value}"
        for axis, value in setting.items()
    )


def verdict(low: float, high: float) -> str:
    """What the interval of a difference in accuracy says: matches, better, worse, or undecided.

    "matches" where all of it is within ±MARGIN, "better" or "worse" where all of it is outside.
    """
    if low >= -MARGIN and high <= MARGIN:
        return "matches"
    if high < -MARGIN:
        return "worse"
    return "better" if low > MARGIN else "undecided"


def ratio(one: pd.Series, other: pd.Series) -> tuple[float, float, float, int]:
    """Geometric mean of the paired ratios one / other, with its interval from their logarithms."""
    mean, low, high, n = interval(np.log(one.astype(float)) - np.log(other.astype(float)))
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high)), n


def agreement(low: float, high: float, value: float, is_bound: bool = False, none: float = 0.0) -> str:
    """Whether an interval agrees with a published value that lies above `none`, which is no effect.

    "yes" where it holds the value (or reaches above it, where that `is_bound`: "more than") and excludes no
    effect; "undecided" where it holds both; "less" or "more" where it holds neither and lies on the value's
    side; "no" else. "one seed" where there is no interval, "" where there is no value.
    """
    if np.isnan(value):
        return ""
    if np.isnan(low):
        return "one seed"
    if low <= none:
        return "undecided" if high >= value else "no"
    if high > value if is_bound else low <= value <= high:
        return "yes"
    return "more" if low > value else "less"


def falls_below(gaps: pd.DataFrame, by: str) -> tuple[float, float]:
    """Largest value of `by` from which on, down to the least, a summary of differences is below 0.

    First where its mean is, then where its whole interval is (NaN without one); 0 for never.
    """
    gaps = gaps.dropna(subset="mean").sort_values(by)
    # From the least value up, as long as all of them are below.
    mean, whole = (gaps.loc[(gaps[end] < 0).cummin(), by].max() for end in ("mean", "high"))
    has_interval = gaps["high"].notna().any()
    return float(np.nan_to_num(mean)), float(np.nan_to_num(whole)) if has_interval else np.nan


def plateau(found: pd.DataFrame, x: str, near: float) -> tuple[float, float, float]:
    """Where a summary's mean is highest along x, and the ends of the stretch around it that is as good.

    That is the longest without a gap in which every mean is at most `near` below the highest. Raises
    UserError where there is no mean.
    """
    means = found.dropna(subset="mean").set_index(known(x, found.columns, "column"))["mean"].sort_index()
    if means.empty:
        raise UserError(f"{x}: expected a summary with a mean, found none")
    is_near = means >= means.max() - near
    stretches = (is_near != is_near.shift()).cumsum()
    stretch = means[stretches == stretches[means.idxmax()]]
    return float(means.idxmax()), float(stretch.index[0]), float(stretch.index[-1])


def holm(p: Iterable[float]) -> np.ndarray:
    """Holm's step-down adjustment (Holm 1979): below a level, they keep the family's error below it.

    The i-th smallest of m is multiplied by m - i + 1, and is no smaller than those before it. NaN (a test
    that could not be made) stays NaN and still counts.
    """
    p = np.asarray(list(p), float)
    order = np.argsort(p)
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


def family(groups: Sequence[tuple[dict[str, Any], pd.Series]]) -> pd.DataFrame:
    """A row a member of a family of tests (its words, and paired differences by seed), corrected together.

    Columns: the words', mean, low, high (its own 95 % interval), n, p (two-sided, paired t-test), holm,
    most (the upper end of the family's joint 95 % interval, Bonferroni), and verdict: helps, harms, does not
    (no difference is shown, and a gain of MARGIN is outside the joint interval), or undecided. Raises
    UserError on an empty family.
    """
    if not groups:
        raise UserError("family: expected at least one member to test, found none")
    table = []
    for words, gaps in groups:
        gaps = gaps.dropna()
        mean, low, high, n = interval(gaps)
        p = most = np.nan
        # Differences that are equal but for rounding have no spread to test against: no evidence.
        if n > 1 and gaps.std() > ROUNDING:
            p = ttest_1samp(gaps, 0).pvalue
            most = mean + gaps.std() / np.sqrt(n) * t.ppf(1 - LEVEL / (2 * len(groups)), n - 1)
        table.append(words | {"mean": mean, "low": low, "high": high, "n": n, "p": p, "most": most})
    table = pd.DataFrame(table)
    table["holm"] = holm(table["p"])
    table["verdict"] = [
        ("helps" if mean > 0 else "harms") if p < LEVEL else "does not" if most < MARGIN else "undecided"
        for mean, p, most in table[["mean", "holm", "most"]].itertuples(index=False)
    ]
    return table
