"""What results are drawn against: a network to compare with, rules, published points."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import scales
from .annotations import write_apart
from .look import Look
from .panels import Mark, Panel, left_out
from .selection import check_numbers, known
from .statistics import summary


def baseline(
    rows: pd.DataFrame,
    y: str = "test_accuracy",
    label: str = "dense",
    axis: str = "y",
    text: bool = True,
    band: bool = True,
    hue: tuple[str, Any] | None = None,
    **style: Any,
) -> Panel:
    """A network to compare with, such as `dense(log)`: a line through its mean, a `band` for its interval.

    `axis`: of the value, y (a horizontal line) or x. `text`: label and value on the line, else in the legend.
    `hue`: a column and its value, whose colour and label the line takes, as those of `lines` do.
    """
    known(y, rows.columns, "column")
    up = scales.measured(y)
    table = summary(rows.assign(all=0), "all", y)
    mean, low, high = up.factor * table[["mean", "low", "high"]].iloc[0] if len(table) else [np.nan] * 3

    def draw(ax: Axes, look: Look) -> None:
        if np.isnan(mean):
            return
        line, span = (ax.axhline, ax.axhspan) if axis == "y" else (ax.axvline, ax.axvspan)
        own = {"color": look.style(*hue)["color"] if hue else "0.35", "linewidth": 1} | style
        name = look.label(*hue) if hue else label
        line(mean, label="" if text else name, **own)
        if band and np.isfinite(low):
            span(low, high, color=own["color"], alpha=0.2 if hue is None else 0.08, linewidth=0)
        if text and axis == "y" and name:
            number = f"{mean:,.0f}" if abs(mean) >= 100 else f"{mean:.3g}"
            shown = f"{name} {mean:.2f} %" if up.factor == 100 else f"{name} {number}"
            place = {"textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 7.5}
            where = ("axes fraction", "data")
            place["annotation_clip"] = True  # with limits that leave the line out, its name is out as well
            ax.annotate(shown, (0.99, mean), (0, 2), color=own["color"], xycoords=where, **place)

    coloured = ((hue[0], (hue[1],)),) if hue else ()
    values = {f"{axis}_values": () if np.isnan(mean) else (mean,)}
    return Panel((Mark(draw, table, (), coloured, left_out=left_out(rows)),), **values)


def rule(value: float, text: str = "", axis: str = "y", **style: Any) -> Panel:
    """A thin line at a value of an axis (in its own units, percent), with a word on it."""

    def draw(ax: Axes, look: Look) -> None:
        own = {"color": "0.35", "linewidth": 1} | style
        (ax.axhline if axis == "y" else ax.axvline)(value, **own)
        if text and axis == "y":
            place = {"textcoords": "offset points", "va": "bottom", "color": own["color"], "fontsize": 7.5}
            place["annotation_clip"] = True
            ax.annotate(text, (0.02, value), (0, 2), xycoords=("axes fraction", "data"), **place)

    return Panel((Mark(draw),))


def rules(points: pd.DataFrame, value: str, hue: str) -> Panel:
    """An upright dotted line a row, in the colour of its `hue`; where several coincide all show."""
    for name in (value, hue):
        known(name, points.columns, "column")
    across = scales.quantity(value)

    def draw(ax: Axes, look: Look) -> None:
        for step, (at, of) in enumerate(points[[value, hue]].itertuples(index=False)):
            if np.isfinite(at):
                dashes = (3 * step, (1.5, 3 * len(points) - 1.5))
                ax.axvline(across.factor * at, color=look.style(hue, of)["color"], linestyle=dashes)

    return Panel((Mark(draw, None, (), ((hue, tuple(points[hue].drop_duplicates())),)),))


def strip(low: float, high: float, axis: str = "x", color: str = "0.9") -> Panel:
    """A grey strip between two values of an axis, such as what counts as no difference."""

    def draw(ax: Axes, look: Look) -> None:
        (ax.axvspan if axis == "x" else ax.axhspan)(low, high, color=color, linewidth=0, zorder=0)

    return Panel((Mark(draw),))


def marks(
    points: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    label: str = "",
    texts: str | None = None,
    **style: Any,
) -> Panel:
    """Single points without statistics, such as published ones, hollow: a shape a value of `hue`.

    `label` stands in the legend, or behind the value of `hue`; `texts` is a column of words written beside
    each point, where nothing else is written. Values are in the columns' own units, as those of results are.
    """
    for name in (x, y, *([hue] if hue else []), *([texts] if texts else [])):
        known(name, points.columns, "column")
    check_numbers(points, x, y)
    across, up = scales.quantity(x), scales.measured(y)
    shapes = "DvP*Xh"

    def draw(ax: Axes, look: Look) -> None:
        groups = points.groupby(hue, sort=False, dropna=False) if hue else [(None, points)]
        for number, (value, own) in enumerate(groups):
            form = look.style(hue, value) if hue and style.get("color") is None else {"color": "0.2"}
            form |= {"marker": shapes[number % len(shapes)], "fillstyle": "none", "linestyle": "none"} | style
            text = ", ".join(part for part in (label, look.label(hue, value) if hue else "") if part)
            place = scales.place(own[x], across, look.nothing_left)
            ax.plot(place, up.factor * own[y], label=text, **form)

    def write(ax: Axes, look: Look) -> None:
        at = scales.place(points[x], across, look.nothing_left), up.factor * points[y]
        write_apart(ax, np.column_stack(at), [str(word) for word in points[texts]])

    coloured = ((hue, tuple(points[hue].drop_duplicates())),) if hue else ()
    settings = {"x": across.label, "y": up.label, "x_scale": across.scale, "y_scale": up.scale}
    mark = Mark(draw, None, (), coloured, write if texts else None)
    at = tuple(scales.place(points[x].dropna(), across))
    return Panel((mark,), settings, at, tuple(up.factor * points[y]))
