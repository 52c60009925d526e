"""Result figures, drawn from logs alone: means with intervals, learning curves, pruning curves.

A notebook shows such a figure where a cell ends with it.
"""

import math
import os
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context as style_context
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from scipy.stats import t

from .errors import UserError

KINDS = {
    "weight": ("#0072B2", "o", "sparsity"),
    "unit": ("#D55E00", "s", "unit_sparsity"),
    "filter": ("#009E73", "^", "filter_sparsity"),
}
"""A pruning kind's colour (Okabe–Ito), marker, and the column with its realised share."""
SPLITS = {"train": ("#999999", ":"), "val": ("#E69F00", "--"), "test": ("#0072B2", "-")}
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
ARMS = {"main": "-", "magnitude": "-", "random": "--"}
OTHER_ARMS = (":", "-.")
PERCENT_TICKS = (0, 50, 75, 90, 95, 97, 99, 99.5, 99.9)
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
    "figure.dpi": 90,  # in the notebook, which would grow too large for a browser
}
styled = style_context(["default", STYLE])
"""Decorates what draws: the same figure, whatever the user's own matplotlibrc says."""


def mean_interval(frame: pd.DataFrame, by: str | list[str], value: str) -> pd.DataFrame:
    """Mean and 95 % t-interval of `value` by group: columns by…, mean, low, high, n, excluded.

    Rows whose `status` is not ok count as `excluded` and nowhere else. With n = 1, low and high are NaN.
    """
    by = [by] if isinstance(by, str) else list(by)
    is_ok = frame["status"].eq("ok") if "status" in frame else pd.Series(True, index=frame.index)
    kept = frame[by].assign(value=frame[value].where(is_ok), excluded=~is_ok)
    columns = {"mean": ("value", "mean"), "deviation": ("value", "std"), "n": ("value", "count")}
    table = kept.groupby(by, dropna=False).agg(**columns, excluded=("excluded", "sum")).reset_index()
    half = t.ppf(0.975, table["n"] - 1) * table.pop("deviation") / np.sqrt(table["n"])
    table.insert(len(by) + 1, "low", table["mean"] - half)
    table.insert(len(by) + 2, "high", table["mean"] + half)
    return table


@style_context("default")  # what is laid out only now does not follow the user's matplotlibrc either
def save_figure(fig: Figure, name: str, folder: str | Path) -> Path:
    """Writes folder/name.png (200 dpi) and name.pdf, the same bytes for the same figure; returns the former.

    Both are written aside and then moved in, so a failure leaves the old files as they were.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    aside = {suffix: folder / f".{name}.{os.getpid()}.{suffix}" for suffix in metadata}
    try:
        for suffix, path in aside.items():
            fig.savefig(path, format=suffix, dpi=200, metadata=metadata[suffix])
        for suffix, path in aside.items():
            os.replace(path, folder / f"{name}.{suffix}")
    finally:
        for path in aside.values():
            path.unlink(missing_ok=True)
    return folder / f"{name}.png"


@styled
def base_learning_curves(logs: dict[str, Any]) -> Figure:
    """Validation and test error (log scale) over epochs, losses below; a column a log, titled by its key."""
    fig, axes = plt.subplots(2, len(logs), figsize=(1 + 3.2 * len(logs), 5.4), squeeze=False, sharey="row")
    tables = [learning_panel(axes[0, i], log, "error", title) for i, (title, log) in enumerate(logs.items())]
    for i, (title, log) in enumerate(logs.items()):
        learning_panel(axes[1, i], log, "loss", f"{title}: loss")
    return finish(fig, logs.values(), seeds_note(tables))


def learning_panel(ax: Axes, log: Any, quantity: str, title: str) -> pd.DataFrame:
    """Draws the base network's error or loss over epochs; returns a table with its n and excluded seeds."""
    curves = base_curves(log)
    for split in {"error": ("val", "test"), "loss": ("train", "test")}[quantity]:
        if quantity == "error":
            curves = curves.assign(**{f"{split}_error": 100 * (1 - curves[f"{split}_accuracy"])})
        table = mean_interval(curves, "epoch", f"{split}_{quantity}")
        drawn = table[table["n"] > 0]
        if drawn.empty:
            continue
        colour, line = SPLITS[split]
        last = drawn["mean"].iloc[-1]
        ending = f"{last:.2f} %" if quantity == "error" else f"{last:.2g}"
        label = f"{SPLIT_NAMES[split]}, ends at {ending}"
        # Few points stand on their own; a single one would otherwise not show at all.
        marker = "o" if len(drawn) <= 20 else ""
        ax.plot(drawn["epoch"], drawn["mean"], line, color=colour, label=label, marker=marker, markersize=3)
        # The means decide what is in view: an interval of two seeds reaches far beyond any error.
        in_view = ax.dataLim.frozen()
        ax.fill_between(drawn["epoch"], drawn["low"], drawn["high"], color=colour, alpha=0.2, linewidth=0)
        ax.dataLim.set(in_view)
    ax.set(yscale="log", title=title, xlabel="epoch")
    ax.margins(y=0.15)
    ax.set_xlim(left=0)
    ax.set_ylabel("error (%)" if quantity == "error" else "cross-entropy")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if quantity == "error" else (1, 3)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.tick_params(labelleft=True)
    ax.legend(loc="upper right")
    return mean_interval(curves.drop_duplicates("seed"), "stage", "step")


def base_curves(log: Any) -> pd.DataFrame:
    """Curve of the first train stage, once a seed (its rows are repeated for every run), with its status."""
    curves = log.curves.drop(columns=["type", "status", "result"], errors="ignore")
    stages = log.results[["run", "stage", "type", "status", "result"]].drop_duplicates(["run", "stage"])
    frame = curves.merge(stages[stages["type"] == "train"], on=["run", "stage"])
    frame = frame[frame["stage"] == frame.groupby("seed")["stage"].transform("min")]
    first = frame.groupby("seed")["result"].transform("first")
    return frame[frame["result"] == first].drop_duplicates(["seed", "step"])


@styled
def prune_curves(
    logs: dict[str, Any], reference: pd.DataFrame | None = None, costs: Sequence[str] | None = None
) -> Figure:
    """Test accuracy over what is pruned: a column a log and cost, the full range above, zoomed in below.

    `costs`: "share" (realised share pruned, log scale of what is left) and "params" (effective parameters
    left, where weights and units compare); by default both for one log, else "share".
    `reference`: published points, columns label, kind, sparsity_percent, accuracy (a fraction), drawn
    hollow where x is a share; an optional column `log` names the one log (by its key) they belong to.
    """
    costs = costs or (("share", "params") if len(logs) == 1 else ("share",))
    columns = [(title, log, cost) for title, log in logs.items() for cost in costs]
    fig, axes = plt.subplots(2, len(columns), figsize=(0.8 + 3.7 * len(columns), 6.4), squeeze=False)
    tables = []
    for i, (title, log, cost) in enumerate(columns):
        points = reference
        if reference is not None and "log" in reference:
            points = reference[reference["log"] == title]
        tables.append(prune_panel(axes[0, i], log, title, cost, reference=points))
        prune_panel(axes[1, i], log, title, cost, is_zoomed=True, reference=points)
    note = seeds_note(tables[:: len(costs)], has_dots=True)
    return finish(fig, logs.values(), note, axes=axes[0])


def prune_panel(
    ax: Axes,
    log: Any,
    title: str,
    cost: str = "share",
    is_zoomed: bool = False,
    reference: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Draws accuracy over one cost for every kind and arm; returns the table of all drawn means.

    Columns: kind, arm, target (nominal sparsity), mean, low, high, n, excluded, x.
    """
    rows = prune_rows(log)
    left = 1 - rows["share"]
    # Everything pruned has no place on a log axis: it gets one beyond the last point, labelled 100.
    everything = left[left > 1e-9].min() / 3
    rows["x"] = left.where(left > 1e-9, everything) if cost == "share" else rows["params"].clip(lower=1)
    by = ["kind", "arm", "target"]
    table = mean_interval(rows, by, "test_accuracy").assign(x=mean_interval(rows, by, "x")["mean"])
    dense = mean_interval(dense_rows(log).assign(base="dense"), "base", "test_accuracy").iloc[0]
    ax.axhline(100 * dense["mean"], color="0.35", linewidth=1)
    style = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "top"}
    text = f"dense {100 * dense['mean']:.2f} %"
    ax.annotate(text, (0.99, 100 * dense["mean"]), (0, -4), color="0.35", fontsize=7.5, **style)
    if dense["n"] > 1:
        ax.axhspan(100 * dense["low"], 100 * dense["high"], color="0.35", alpha=0.2, linewidth=0)
    others = [arm for arm in rows["arm"].unique() if arm not in ARMS]
    for kind, arm in product(KINDS, rows["arm"].unique()):
        colour, marker, _ = KINDS[kind]
        drawn = table[(table["kind"] == kind) & (table["arm"] == arm) & (table["n"] > 0)].sort_values("x")
        if drawn.empty:
            continue
        line = ARMS.get(arm) or OTHER_ARMS[others.index(arm) % len(OTHER_ARMS)]
        label = kind if rows["arm"].nunique() == 1 else f"{kind}, {arm}"
        seeds = rows[(rows["kind"] == kind) & (rows["arm"] == arm) & (rows["status"] == "ok")]
        ax.plot(seeds["x"], 100 * seeds["test_accuracy"], ".", color=colour, markersize=2.5, alpha=0.6)
        ax.plot(drawn["x"], 100 * drawn["mean"], line, marker=marker, color=colour, label=label)
        band = 100 * drawn[["low", "high"]]
        ax.fill_between(drawn["x"], band["low"], band["high"], color=colour, alpha=0.18, linewidth=0)
    if reference is not None and cost == "share":
        _draw_reference(ax, reference[reference["kind"].isin(rows["kind"])])
    floor = max(0, 5 * np.floor((100 * dense["mean"] - 8) / 5)) if is_zoomed else 0
    ax.set(xscale="log", ylim=(floor, 100.4 if is_zoomed else 102), ylabel="test accuracy (%)")
    ax.set_title(f"{title}, zoomed in" if is_zoomed else title)
    ax.xaxis.set_inverted(True)
    ax.xaxis.set_minor_locator(NullLocator())
    if cost == "share":
        # Next to the tick of everything there is no room for more.
        smallest = left[left > 1e-9].min() if left.min() < 1e-9 else rows["x"].min()
        ticks = {1 - p / 100: f"{p:g}" for p in PERCENT_TICKS if 1 - p / 100 > 0.9 * smallest}
        ticks |= {everything: "100"} if left.min() < 1e-9 else {}
        ax.set_xticks(list(ticks), list(ticks.values()))
        ax.set_xlabel(f"{' or '.join(f'{kind}s' for kind in KINDS if kind in set(rows['kind']))} pruned (%)")
    else:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact_number(x)))
        ax.set_xlabel("effective parameters left")
    return table


def prune_rows(log: Any) -> pd.DataFrame:
    """Last prune stage of every run, with its `kind`, nominal sparsity (`target`) and realised `share`.

    A run that failed before it pruned is a row too, so that it is counted.
    """
    check_settings(log)
    rows = log.results.assign(is_prune=log.results["type"] == "prune")
    rows = rows[rows["is_prune"] | (rows["status"] != "ok")].sort_values(["is_prune", "stage"], kind="stable")
    rows = rows.groupby(["arm", "run"]).tail(1).sort_index().copy()
    extra = [c for c in rows if c.startswith("sweep.") and c not in ("sweep.kind", "sweep.sparsity")]
    if mixed := [column for column in extra if rows[column].nunique(dropna=False) > 1]:
        wanted = "pruning curves: expected the axes kind and sparsity"
        raise UserError(f"{wanted}, found several values of {mixed[0]} too: select one")
    if rows.empty:
        raise UserError(f"{log.experiment}: expected a prune stage, found none")
    rows["share"] = sum(rows[column].where(rows["kind"] == kind, 0) for kind, (_, _, column) in KINDS.items())
    # Under a rate there is no nominal share: what was realised stands for it.
    rows["target"] = rows["target"].fillna(rows["share"])
    return rows


def check_settings(log: Any) -> None:
    """Raises UserError where the log does not tell what its prune stages pruned."""
    rows = log.results
    if rows.loc[rows["type"].eq("prune"), "kind"].isna().any():
        text = "expected a log that knows the settings of its rows, found one from before they were kept"
        raise UserError(f"{log.experiment}: {text}; run its experiment, which adds them and computes nothing")


def dense_rows(log: Any) -> pd.DataFrame:
    """The base network's row, once a seed: the first train stage."""
    rows = log.results[log.results["type"] == "train"].sort_values("stage", kind="stable")
    return rows.drop_duplicates("seed")


def _draw_reference(ax: Axes, reference: pd.DataFrame) -> None:
    """Published points as hollow markers, one shape a label."""
    if (reference["accuracy"] > 1).any():
        raise UserError("reference: accuracy: expected a fraction, found more than 1")
    shapes = dict(zip(reference["label"].unique(), "DvP*Xh" * len(reference), strict=False))
    for (label, kind), points in reference.groupby(["label", "kind"]):
        style = {"color": KINDS[kind][0], "markerfacecolor": "none", "linestyle": "none", "markersize": 5.5}
        x, y = 1 - points["sparsity_percent"] / 100, 100 * points["accuracy"]
        ax.plot(x, y, shapes[label], label=f"{label}, {kind}", **style)


def compact_number(number: float) -> str:
    """Three digits and a unit: 431080 → '431 k', 2.3e6 → '2.3 M'."""
    number = float(f"{number:.3g}")
    power = min(3, int(math.log10(max(number, 1)) / 3))
    return f"{number / 1000**power:.3g} {'kMG'[power - 1]}" if power else f"{number:.3g}"


def seeds_note(tables: list[pd.DataFrame], has_dots: bool = False) -> str:
    """What lines and bands are: seeds behind each point and runs left out (columns n, excluded)."""
    table = pd.concat(tables)
    n, excluded = table.loc[table["n"] > 0, "n"], table["excluded"].sum()
    if n.max() == 1:
        return "n = 1 seed, so no interval."
    span = f"{n.min()} to {n.max()}" if n.nunique() > 1 else f"{n.max()}"
    left_out = f", {excluded} diverged or failed left out" if excluded else ""
    dots = "; small dots: single seeds" if has_dots else ""
    return f"n = {span} seeds{left_out}; line: mean; band: 95 % t-interval over seeds{dots}."


def finish(fig: Figure, logs: Iterable, note: str, title: str = "", axes: Iterable[Axes] = ()) -> Figure:
    """Adds title, note, one legend for all of these axes, and where a log is quick, the warning.

    The figure leaves pyplot's hands here, so that a notebook does not show it a second time.
    """
    is_quick = any(log.profile == "quick" for log in logs)
    if heading := " – ".join(text for text in (title, QUICK_NOTE if is_quick else "") if text):
        fig.suptitle(heading, color="#D55E00" if is_quick else "black", fontsize=11, fontweight="bold")
    pairs = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes]
    handles = {label: handle for pair in pairs for handle, label in pair}
    if handles:
        n_columns = len(handles) if len(handles) <= 4 else min(4, math.ceil(len(handles) / 2))
        place = {"loc": "outside lower center", "ncols": n_columns, "title": note, "title_fontsize": 7.5}
        fig.legend(handles.values(), handles.keys(), **place)
    else:
        fig.supxlabel(note, fontsize=7.5, color="0.35", x=0.01, ha="left")
    plt.close(fig)
    return fig
