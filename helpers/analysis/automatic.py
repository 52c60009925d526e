"""A table and a figure of any log, with no words at all."""

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..foundations.columns import value_text
from ..foundations.errors import UserError
from ..utils import Results
from . import scales
from .frames import dense
from .look import key_of
from .marks import dots, lines
from .panels import Panel, figures_of, show
from .references import baseline
from .statistics import summary
from .tables import Table, percent, texts

LINES = 10
"""With more lines in a panel, each value of the next axis has a panel of its own."""

ROWS = 30
"""As many rows of the overview are printed."""

PANELS = 12
"""As many panels are drawn; with more, one value has to be selected."""


def overview(log: Results) -> Table:
    """A row an arm and value of every axis: test accuracy with its interval, size, training, seeds.

    What diverged or failed is counted in a column of its own, where there is any.
    """
    rows, axes = log.final(), _axes(log.final())
    by = ["arm", *axes]
    found = summary(rows, by)
    table = pd.DataFrame({"arm": [log.label("arm", arm) for arm in found["arm"]]})
    for axis in axes:
        table[log.label(axis.removeprefix("sweep."))] = [_cell(log, axis, value) for value in found[axis]]
    table["test accuracy, %"] = texts(found, percent)
    for column, form in (
        ("sparsity_all", "{:.1%}"),
        ("params", "{:,.0f}"),
        ("macs", "{:,.0f}"),
        ("epochs", "{:g}"),
    ):
        means = rows.groupby(by, dropna=False, sort=False)[column].mean()
        table[column] = ["" if pd.isna(mean) else form.format(mean) for mean in means]
    table["seeds"] = found["n"].to_list()
    if found["excluded"].any():
        table["left out"] = found["excluded"].to_list()
    if table["arm"].nunique() == 1:
        table = table.drop(columns="arm")
    return Table(table)


def plot(log: Results, name: str = "", folder: str | Path | None = None) -> Figure:
    """Test accuracy over the numeric axis of most values: a line an arm and value of the next axis, a panel
    for each value of a third, and the dense network; without a numeric axis, a row of dots each.

    Axes that no run has both of count as one. Raises UserError where nothing ended well, or there would be
    too many panels.
    """
    rows = log.final()
    if rows["test_accuracy"].isna().all():
        states = ", ".join(f"{n} {state}" for state, n in rows["status"].value_counts().items())
        raise UserError(f"{log.experiment}: expected a run that ended well, found {states}: nothing to draw")
    axes = _axes(rows)
    numeric = [axis for axis in axes if _are_numbers(rows[axis])]
    x = max(numeric, key=lambda axis: rows[axis].nunique(), default=None)
    groups = _exclusive(rows, [axis for axis in axes if axis != x])
    inside, outside = (groups, []) if x is None else (groups[:1], groups[1:])
    values = {axis: [_text(log, axis, value) for value in rows[axis]] for axis in axes}
    arms = rows["arm"].nunique()
    if inside and x is not None and arms * len(_choices(values, inside[0])) > LINES and not outside:
        inside, outside = [], inside
    columns = [name for group in inside for name in group]
    rows = rows.assign(
        series=[
            _series(log, row, [values[axis][i] for axis in columns])
            for i, row in enumerate(rows.itertuples())
        ]
    )
    if (count := math.prod(len(_choices(values, group)) for group in outside)) > PANELS:
        names = ", ".join(axis.removeprefix("sweep.") for group in outside for axis in group)
        raise UserError(f"{log.experiment}: {count} panels, one a value of {names}: select the rows of some")
    panels = []
    for words in product(*(_choices(values, group) for group in outside)):
        here = pd.Series(True, index=rows.index)
        for group, word in zip(outside, words, strict=True):
            own = pd.Series(["".join(texts) for texts in zip(*(values[axis] for axis in group), strict=True)])
            here &= own.eq(word) | own.eq("")
        panels.append(_panel(log, rows[here], x).set(title=", ".join(words) or log.experiment))
    across = min(len(panels), 3)
    missing = [None] * (-len(panels) % across)
    grid = [(panels + missing)[start : start + across] for start in range(0, len(panels), across)]
    n, longest = rows["series"].nunique(), rows["series"].str.len().max()
    if x is None:
        return show(name, grid, log, size=(8, 1.6 + 0.28 * n), folder=folder)
    width = max(1 + 5.2 * across, 8 if n > LINES else 0)
    legend = 0.19 * math.ceil(n / max(1, int(width / (0.75 + 0.062 * longest))))
    return show(name, grid, log, size=(width, 1.2 + legend + 3.6 * len(grid)), folder=folder)


def summarise(log: Results) -> Iterator[str]:
    """The overview as text, up to ROWS of it; then the figure, in figures/summary/, and its file's name."""
    table = overview(log).frame
    yield table.head(ROWS).to_string(index=False)
    if len(table) > ROWS:
        yield f"… and {len(table) - ROWS} more: helpers.analysis.overview(log)"
    folder = figures_of([log]) / "summary"
    plot(log, log.experiment, folder)
    here, path = Path.cwd(), folder / f"{log.experiment}.png"
    yield f"figure: {path.relative_to(here) if path.is_relative_to(here) else path}"


def _choices(values: dict[str, list[str]], group: list[str]) -> list[str]:
    """The values of axes that no run has both of, in order of appearance."""
    return list(dict.fromkeys(text for axis in group for text in values[axis] if text))


def _exclusive(rows: pd.DataFrame, axes: list[str]) -> list[list[str]]:
    """The axes in groups, each of axes that no run has both of."""
    groups: list[list[str]] = []
    for axis in axes:
        for group in groups:
            if not (rows[axis].notna() & rows[group].notna().any(axis=1)).any():
                group.append(axis)
                break
        else:
            groups.append([axis])
    return groups


def _panel(log: Results, rows: pd.DataFrame, x: str | None) -> Panel:
    """Lines over an axis, runs without it as horizontal lines; dots where there is no axis."""
    base = _base(log)
    if x is None:
        panel = dots(rows, "test_accuracy", "series").set(x_scale="error")
        return panel if base is None else panel + baseline(base, axis="x")
    swept, fixed = rows[rows[x].notna()], rows[rows[x].isna()]
    label = log.label(x.removeprefix("sweep."))
    unit = " (%)" if scales.quantity(x).scale in scales.SHARES and "%" not in label else ""
    named = {"x": label + unit} if label != x.removeprefix("sweep.") else {}
    # Two seeds have an interval that would cover all there is; their dots say as much.
    has_band = rows["seed"].nunique() > 2
    panel = lines(swept, x, hue="series", band=has_band, dots=True).set(y_scale="error", **named)
    for series, own in fixed.groupby("series", sort=False):
        if own["status"].eq("ok").any():
            panel += baseline(own, text=False, hue=("series", series), linestyle="--")
    return panel if base is None else panel + baseline(base)


def _base(log: Results) -> pd.DataFrame | None:
    """The dense network that all runs start from, where there is one a seed and something was done to it."""
    first = log.results[log.results["type"].eq("train")].sort_values("stage", kind="stable")
    first = first.drop_duplicates("run")
    if (
        first.empty
        or first.groupby("seed")["result"].nunique().max() > 1
        or not first["status"].eq("ok").any()
    ):
        return None
    is_whole = not first["sparsity_all"].gt(0).any()
    return dense(log) if is_whole and (first["result"] != first["run"]).any() else None


def _axes(rows: pd.DataFrame) -> list[str]:
    """The axes with more than one value (an empty cell, where an arm has not joined, is none)."""
    return [c for c in rows if c.startswith("sweep.") and rows[c].nunique() > 1]


def _series(log: Results, row: Any, texts: list[str]) -> str:
    """What one line is called: its arm, where there are several, and its values of other axes."""
    arms = [log.label("arm", row.arm)] if log.results["arm"].nunique() > 1 else []
    return ", ".join([*arms, *(text for text in texts if text)]) or log.experiment


def _are_numbers(values: pd.Series) -> bool:
    """Whether an axis can be drawn to scale: true and false are no numbers."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _cell(log: Results, axis: str, value: object) -> str:
    """What the config calls a value; else shares in percent, and all others by their text; "" for none."""
    text = log.label(axis, value)
    is_share = isinstance(value, int | float | np.number) and scales.quantity(axis).scale == "pruned"
    return f"{scales.percent_text(value)} %" if text == value_text(key_of(value)) and is_share else text


def _text(log: Results, axis: str, value: object) -> str:
    """What a line is called by a value: as its cell, or 'lr 0.001'; "" for none."""
    text = _cell(log, axis, value)
    is_bare = isinstance(value, bool | int | float | np.generic) and text == value_text(key_of(value))
    return f"{log.label(axis.removeprefix('sweep.'))} {text}" if is_bare else text
