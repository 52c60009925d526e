"""A figure is a grid of panels, a panel is marks over one pair of axes.

    show("prune_mlp", [[lines(pruned(log), "target", hue="kind") + baseline(dense(log))]], log)

Marks (lines, dots, bars, …: `marks`) are added up to a panel, and `panel.set(title=…, y_limits=…)` says what
the marks cannot know. `show` gives one colour and marker to one value in all panels, adds one legend, a note
of what n, line and band are, and the warning of a quick profile, and saves the figure.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.style import context as style_context

from ..foundations.errors import UserError
from ..foundations.files import ROOT
from ..utils import Results
from . import scales
from .look import Look, plain_text, wrapped
from .saving import save
from .selection import checked_grid, kind_of, known

QUICK = "quick"
QUICK_NOTE = "quick profile: not a result"
STYLE = {
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 3.2,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,  # a map with a colour bar takes a little more than it has
    "figure.dpi": 90,  # in the notebook, which would grow too large for a browser
}
styled = style_context(["default", STYLE])
"""Decorates what draws: the same figure, whatever the user's own matplotlibrc says."""


@dataclass(frozen=True)
class Mark:
    """Something drawn: `draw(ax, look)`; what it shows, for the note; and the columns that it colours by."""

    draw: Callable[[Axes, Look], None]
    shown: pd.DataFrame | None = None
    """Its means: columns n and excluded."""
    words: tuple[str, ...] = ()
    """What the note has to tell: line, marker, bar, band, whisker, dots."""
    coloured: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    write: Callable[[Axes, Look], None] | None = None
    """Writes what needs to know where things stand, when the axes have their scales and limits."""
    left_out: Mapping[Any, str] = field(default_factory=dict)
    """Status of the runs that did not end well, so that one drawn in several panels is counted once."""


def left_out(rows: pd.DataFrame) -> dict[Any, str]:
    """The runs among these that did not end well, and how they ended."""
    if "status" not in rows:
        return {}
    rows = rows[rows["status"].ne("ok")]
    return dict(zip(rows.get("run", rows.index), rows["status"], strict=True))


@dataclass(frozen=True)
class Panel:
    """Marks over one pair of axes, and what is said of the axes."""

    marks: tuple[Mark, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    x_values: tuple[float, ...] = ()
    """Where the marks stand; 0 on an axis of shares: nothing is left."""
    y_values: tuple[float, ...] = ()

    def __add__(self, other: "Panel") -> "Panel":
        """Both on the same axes; what the first says of them holds. Raises UserError on what is no panel."""
        if not isinstance(other, Panel):
            raise UserError(f"panel: expected a panel to add, such as lines(…), found {kind_of(other)}")
        return Panel(
            self.marks + other.marks,
            {**other.settings, **self.settings},
            self.x_values + other.x_values,
            self.y_values + other.y_values,
        )

    def set(self, **settings: Any) -> "Panel":
        """The panel with a title, x, y (labels), x_scale, y_scale, x_limits, y_limits, x_ticks, y_ticks,
        y_labels (False hides the words of the ticks), legend (a place inside, or False), share_y (with the
        panel left of it).

        Scales: linear, log, error (of an accuracy), pruned, kept, left, levels.
        Raises UserError on another word, scale or place, and on limits that are not two.
        """
        for name in settings:
            known(name, SETTINGS, "panel")
        for name in ("x_scale", "y_scale"):
            old, new = self.settings.get(name), settings.get(name)
            if new is None:
                continue
            known(new, scales.SCALES, f"panel: {name}")
            if old != new and (old in scales.SHARES or (old and new in scales.SHARES)):
                raise UserError(f"panel: {name}: expected {old!r}, as what is drawn is placed, found {new!r}")
        for name in ("x_limits", "y_limits"):
            if (limits := settings.get(name)) is not None and np.shape(limits) != (2,):
                raise UserError(f"panel: {name}: expected two numbers, low and high, found {limits!r}")
        if isinstance(legend := settings.get("legend"), str):
            known(legend, Legend.codes, "panel: legend")
        return replace(self, settings={**self.settings, **settings})

    def draw(self, ax: Axes, look: Look) -> None:
        """Draws the marks, then the axes."""
        settings, x, gone = self.settings, np.asarray(self.x_values, float), None
        if settings.get("x_scale") in scales.SHARES:
            # All marks of a panel have one place beyond all that is drawn.
            look = replace(look, nothing_left=scales.beyond(x))
            gone = look.nothing_left if (x == 0).any() else None
            x = np.where(x == 0, look.nothing_left, x)
        for mark in self.marks:
            mark.draw(ax, look)
        for axis, values in (("x", x), ("y", np.asarray(self.y_values, float))):
            scale, limits, ticks = (settings.get(f"{axis}_{word}") for word in ("scale", "limits", "ticks"))
            if any(log.profile == QUICK for log in look.logs):
                limits = None  # chosen for the full results; a quick one may lie anywhere
            if scale is not None or limits is not None or ticks is not None:
                scales.apply(ax, axis, scale, values, limits, ticks, gone if axis == "x" else None)
            if label := settings.get(axis):
                if scale == "error" and "log scale" not in label:
                    label += ", log scale of the error"
                ax.set(**{f"{axis}label": label})
        for mark in self.marks:
            if mark.write is not None:
                mark.write(ax, look)
        if title := settings.get("title"):
            width = ax.get_position().width * ax.figure.get_figwidth()
            ax.set_title(wrapped(plain_text(title), 0.78 * width))
        ax.tick_params(labelleft=settings.get("y_labels", True))
        if place := settings.get("legend"):
            handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
            if handles:
                ax.legend(handles.values(), handles.keys(), loc=place, fontsize=7)


SETTINGS = (
    "title", "x", "y", "x_scale", "y_scale", "x_limits", "y_limits", "x_ticks", "y_ticks", "legend",
    "share_y", "y_labels", )  # fmt: skip
"""What can be said of a panel."""


@styled
def show(
    name: str,
    grid: Sequence[Sequence[Panel | None]] | Panel,
    *logs: Results,
    title: str = "",
    note: str = "",
    size: tuple[float, float] | None = None,
    heights: Sequence[float] | None = None,
    widths: Sequence[float] | None = None,
    legend: bool = True,
    folder: str | Path | None = None,
) -> Figure:
    """Draws a grid of panels (rows of equal length; None leaves a place empty), saves and returns the figure.

    `logs` are where the rows are from: they give arms and axes their words, tell whether the profile is
    quick, and where figures go: figures/ beside logs/, a profile's own in a folder of its name. An empty
    `name` saves nothing. `size` in inches; `heights` and `widths` are relative; `note` is put behind what is
    said of n. Raises UserError on a grid of anything else, or where the folder cannot be written.
    """
    grid = checked_grid(name, grid, Panel, logs, heights, widths)
    panels = [panel for row in grid for panel in row if panel is not None]
    look = Look(logs)
    for panel in panels:
        for mark in panel.marks:
            for column, values in mark.coloured:
                look.register(column, values)
    look.arrange()
    n_rows, n_columns = len(grid), len(grid[0])
    size = size or (0.8 + 3.9 * n_columns, 0.9 + 3.3 * n_rows)
    ratios = {"height_ratios": heights or [1] * n_rows, "width_ratios": widths or [1] * n_columns}
    fig, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, gridspec_kw=ratios)
    shared: list[Axes] = []
    try:
        for y, row in enumerate(grid):
            for x, panel in enumerate(_with_shared_y(row)):
                ax = axes[y, x]
                if panel is None:
                    ax.remove()
                    continue
                if panel.settings.get("share_y") and x and row[x - 1] is not None:
                    ax.sharey(axes[y, x - 1])
                panel.draw(ax, look)
                if legend and "legend" not in panel.settings:
                    shared.append(ax)
        note = _note(panels) + (" " + note if note else "")
        finish(fig, [log.profile for log in logs], note, title, shared, look)
    finally:
        plt.close(fig)  # also where a mark cannot be drawn
    if name:
        save(fig, name, folder or figures_of(logs))
    return fig


def _with_shared_y(row: Sequence[Panel | None]) -> list[Panel | None]:
    """A row's panels, of which those that share an axis know the values of all, which are its limits."""
    groups: list[list[Panel | None]] = []
    for panel in row:
        if groups and panel is not None and panel.settings.get("share_y") and groups[-1][-1] is not None:
            groups[-1].append(panel)
        else:
            groups.append([panel])
    found: list[Panel | None] = []
    for group in groups:
        values = tuple(value for panel in group if panel is not None for value in panel.y_values)
        found += [panel and replace(panel, y_values=values) for panel in group]
    return found


def figures_of(logs: Sequence[Results]) -> Path:
    """figures/ beside the first log's logs/, or its profile's folder there."""
    if not logs:
        return ROOT / "figures"
    path, profile = logs[0].path, logs[0].profile
    inside = [profile] if path.parent.name == profile else []
    return path.parents[len(inside) + 1].joinpath("figures", *inside)


def _note(panels: Sequence[Panel]) -> str:
    """What lines, bands and dots are, the seeds behind each point and the runs left out."""
    marks = [mark for panel in panels for mark in panel.marks]
    tables = [mark.shown for mark in marks if mark.shown is not None]
    if not tables:
        return ""
    table = pd.concat([table[["n", "excluded"]] for table in tables])
    n, states = table.loc[table["n"] > 0, "n"], {}
    for mark in marks:
        states |= mark.left_out
    missing = sum(state == "missing" for state in states.values())
    counts = {"diverged or failed": len(states) - missing, "not computed": missing}
    told = [f"{count} {state}" for state, count in counts.items() if count]
    if n.empty:
        return f"Nothing ended well: {', '.join(told) or 'no runs'}."
    span = f"{n.min()} to {n.max()}" if n.nunique() > 1 else f"{n.max()}"
    left_out = "".join(f", {text} left out" for text in told)
    words = {word for mark in marks for word in mark.words}
    mean = ", ".join(word for word in ("line", "marker", "bar") if word in words)
    said = [f"n = {span} seed{'s' if n.max() > 1 else ''}{left_out}"]
    said += [f"{mean}: mean"] if mean and n.max() > 1 else []
    whisker = " and ".join(word for word in ("band", "whisker") if word in words)
    if whisker:
        said.append(f"{whisker}: 95 % t-interval over seeds" if n.max() > 1 else "so no interval")
    said += ["small dots: single seeds"] if "dots" in words and n.max() > 1 else []
    return "; ".join(said) + "."


def finish(
    fig: Figure,
    profiles: Sequence[str],
    note: str,
    title: str = "",
    axes: Sequence[Axes] = (),
    look: Look | None = None,
) -> Figure:
    """Adds title, note, one legend for all of these axes, and where a log is quick, the warning.

    The legend has the values of a column in the order of `look`.

    The figure leaves pyplot's hands here, so that a notebook does not show it a second time.
    """
    is_quick = QUICK in profiles
    if heading := " – ".join(text for text in (title, QUICK_NOTE if is_quick else "") if text):
        heading = wrapped(plain_text(heading), 0.55 * fig.get_size_inches()[0])
        fig.suptitle(heading, color="#D55E00" if is_quick else "black", fontsize=11, fontweight="bold")
    pairs = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes]
    handles = {label: handle for pair in pairs for handle, label in pair}
    handles = {label: handles[label] for label in (look or Look()).in_order(list(handles))}
    if len(handles) > 1:
        width, height = fig.get_size_inches()
        handles = {wrapped(label, 0.8 * (width - 0.75)): handle for label, handle in handles.items()}
        longest = max(len(line) for label in handles for line in label.split("\n"))
        fits = max(1, int(width / (0.75 + 0.062 * longest)))
        n_columns = min(len(handles), fits)
        n_columns = math.ceil(len(handles) / math.ceil(len(handles) / n_columns))
        place = {"loc": "outside lower center", "ncols": n_columns, "title": wrapped(note, width)}
        n_lines = sum(label.count("\n") + 1 for label in handles) / n_columns + place["title"].count("\n")
        fig.set_figheight(max(height, 0.6 * height + 0.18 * n_lines))  # a long legend leaves the panels room
        fig.legend(handles.values(), handles.keys(), title_fontsize=7.5, **place)
    elif note:
        width = fig.get_size_inches()[0]
        fig.supxlabel(wrapped(note, width), fontsize=7.5, color="0.35", x=0.01, ha="left")
    plt.close(fig)
    return fig
