"""X-rays of pruned networks, drawn from logs alone: weights, filters, inputs and mistakes."""

import math
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from .errors import UserError
from .plots import KINDS, finish, prune_rows, styled


@styled
def weight_histograms(
    log: Any, seed: int = 0, kind: str = "weight", sparsity: float = 0.9, arm: str | None = None
) -> Figure:
    """Weights that are not zero by layer, dense and pruned (log scale; end bins collect the tails)."""
    rows = list(look_rows(log, seed, kind, [sparsity], arm).values())
    dense, pruned = (arrays_of(log, row) for row in (rows[0], rows[-1]))
    names = [name.decode() for name in pruned["layer_names"]]
    n_rows = math.ceil(len(names) / 5)
    n_columns = math.ceil(len(names) / n_rows)
    size = (0.6 + 2.1 * n_columns, 0.6 + 2.1 * n_rows)
    fig, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, sharey=True)
    for ax in axes.flat[len(names) :]:
        ax.remove()
    for i, (name, ax) in enumerate(zip(names, axes.flat, strict=False)):
        for arrays, colour, label in ((dense, "0.8", "dense"), (pruned, KINDS[kind][0], "after pruning")):
            edges, counts = arrays["histogram_edges"], arrays["weight_histogram"][i]
            ax.stairs(counts, edges, baseline=0.5, fill=True, color=colour, label=label)
        ax.set(yscale="log", xlabel="weight", ylabel="weights a bin")
        ax.set_title(f"{name}: {100 * pruned['keep_by_layer'][i]:.3g} % left")
        ax.tick_params(labelleft=True)
    axes.flat[len(names) - 1].legend(loc="upper right", handlelength=1.2)
    note = f"{log.experiment}: {kind} pruning to {100 * sparsity:g} %, seed {seed}, one network."
    return finish(fig, [log], note)


@styled
def first_filters(
    log: Any,
    seed: int = 0,
    sparsities: list[float] | None = None,
    kind: str = "filter",
    arm: str | None = None,
) -> Figure:
    """First layer's filters (up to 32; mean over input channels), a row a sparsity; pruned ones hatched."""
    rows = look_rows(log, seed, kind, sparsities, arm)
    filters = {s: arrays_of(log, row, "first_filters")["first_filters"] for s, row in rows.items()}
    shown = min(32, len(filters[0.0]))
    limit = np.abs(filters[0.0].mean(1)).max()
    fig, axes = _rows_of_tiles(len(filters), shown)
    for ax, (sparsity, weights) in zip(axes, filters.items(), strict=True):
        images = [weight.mean(0) if weight.any() else None for weight in weights[:shown]]
        draw_tiles(ax, images, range(1, shown + 1), cmap="RdBu_r", vmin=-limit, vmax=limit)
        _label_row(ax, _row_label(sparsity))
    axes[-1].set_xlabel("filter")
    note = "red: positive, blue: negative, hatched: pruned"
    count = f"{shown} of {len(filters[0.0])} filters"
    return finish(fig, [log], f"{log.experiment}: {kind} pruning, seed {seed}, one network; {count}; {note}.")


@styled
def input_maps(
    log: Any,
    seed: int = 0,
    sparsities: list[float] | None = None,
    kind: str = "weight",
    arm: str | None = None,
) -> Figure:
    """Share of the first layer's weights left at each pixel (mean over channels), a panel a sparsity."""
    rows = look_rows(log, seed, kind, sparsities, arm)
    rows.pop(0.0)
    fig, axes = plt.subplots(1, len(rows), figsize=(0.2 + 2.7 * len(rows), 2.7), squeeze=False)
    for ax, (sparsity, row) in zip(axes.flat, rows.items(), strict=True):
        image = ax.imshow(arrays_of(log, row, "input_map")["input_map"].mean(0), cmap="cividis", vmin=0)
        percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
        fig.colorbar(image, ax=ax, fraction=0.046, format=percent, label="weights left")
        ax.set(xlabel="pixel column", ylabel="pixel row", title=_row_label(sparsity).replace("\n", " "))
        ax.grid(False)
    note = "each panel has its own colour scale"
    return finish(fig, [log], f"{log.experiment}: {kind} pruning, seed {seed}, one network; {note}.")


@styled
def digits(images: Any, labels: Any, n_rows: int = 2, n_columns: int = 15) -> Figure:
    """The first images of a split, captioned with their labels. `images`: [N, C, H, W], on the CPU."""
    fig, axes = _rows_of_tiles(n_rows, n_columns)
    for i, ax in enumerate(axes):
        here = range(i * n_columns, (i + 1) * n_columns)
        draw_tiles(ax, [images[j].mean(0) for j in here], [int(labels[j]) for j in here], cmap="gray_r")
    return finish(fig, [], "")


@styled
def mistakes(
    log: Any,
    images: Any,
    labels: Any,
    seed: int = 0,
    kind: str = "weight",
    sparsities: list[float] | None = None,
    arm: str | None = None,
) -> Figure:
    """Test digits that a pruned network gets wrong and the dense one right, captioned true → predicted.

    `images`: the test set, [N, H, W] or [N, C, H, W], on the CPU; `labels`: [N].
    """
    rows = look_rows(log, seed, kind, sparsities, arm)
    dense = arrays_of(log, rows[0.0])["wrong_index"]
    # The record stops at 100 mistakes: beyond its last, nobody knows what the dense network gets wrong.
    is_cut = 0 < len(dense) < rows.pop(0.0)["test_errors"]
    known = dense.max() if is_cut else len(labels)
    fig, axes = _rows_of_tiles(len(rows), 10)
    for ax, (sparsity, row) in zip(axes, rows.items(), strict=True):
        arrays = arrays_of(log, row)
        is_new = ~np.isin(arrays["wrong_index"], dense) & (arrays["wrong_index"] <= known)
        index, predicted = arrays["wrong_index"][is_new][:10], arrays["wrong_prediction"][is_new][:10]
        digits = [np.asarray(images[i]).reshape(-1, *np.shape(images)[-2:]).mean(0) for i in index]
        captions = [f"{int(labels[i])} → {p}" for i, p in zip(index, predicted, strict=True)]
        draw_tiles(ax, digits, captions, n_columns=10, cmap="gray_r")
        if not digits:
            ax.text(0.1, 0.5, "none among the mistakes on record", va="center", color="0.35")
        _label_row(ax, f"{_row_label(sparsity)}\n{int(row['test_errors'])} errors")
    axes[-1].set_xlabel("true → predicted")
    note = "right before pruning, wrong after"
    return finish(fig, [log], f"{log.experiment}: {kind} pruning, seed {seed}, one network; {note}.")


@styled
def confusions(log: Any, sparsity: float | None = None, arm: str | None = None) -> Figure:
    """Confusion matrices, all seeds added up: dense, and each kind at `sparsity` (by default the highest)."""
    rows = prune_rows(log)
    rows = rows[(rows["arm"] == (arm or _main_arm(rows))) & (rows["status"] == "ok")]
    panels = {"dense": [arrays_of(log, row) for row in _dense_rows_of(log, rows)]}
    for kind in (kind for kind in KINDS if kind in set(rows["kind"])):
        of_kind = rows[rows["kind"] == kind]
        target = of_kind["target"].max() if sparsity is None else sparsity
        chosen = of_kind[np.isclose(of_kind["target"], target)]
        if chosen.empty:
            recorded = sorted(set(of_kind["target"]))
            raise UserError(f"{log.experiment}: expected a sparsity out of {recorded}, found {target}")
        panels[_title(kind, target)] = [arrays_of(log, row) for _, row in chosen.iterrows()]
    fig, axes = plt.subplots(1, len(panels), figsize=(0.6 + 3.3 * len(panels), 3.5), squeeze=False)
    for ax, (title, recorded) in zip(axes.flat, panels.items(), strict=True):
        counts = np.sum([arrays["confusion"] for arrays in recorded], axis=0)
        percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = ax.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
        for (i, j), share in np.ndenumerate(percent):
            if share >= 0.5:
                colour = "white" if share > 40 else "black"
                ax.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=6, color=colour)
        classes = range(len(counts))
        ax.set(xlabel="predicted", ylabel="true", xticks=classes, yticks=classes)
        ax.set_title(f"{title} (n = {len(recorded)})")
        ax.grid(False)
    ticks = (0, 1, 5, 20, 50, 100)
    fig.colorbar(image, ax=axes, shrink=0.8, label="share of the true class (%)", ticks=ticks)
    return finish(fig, [log], f"{log.experiment}: sums over n seeds; shares below 0.5 % unlabelled.")


def look_rows(
    log: Any, seed: int, kind: str, sparsities: list[float] | None = None, arm: str | None = None
) -> dict[float, pd.Series]:
    """Rows of `results` by nominal sparsity: 0 is the dense network, before the first prune.

    Without `sparsities`: up to four of those recorded from 50 % up. Raises UserError where one is missing.
    """
    rows = prune_rows(log)
    arm = arm or _main_arm(rows)
    is_meant = (rows["kind"] == kind) & (rows["seed"] == seed) & (rows["arm"] == arm)
    rows = rows[is_meant & (rows["status"] == "ok")]
    where = f"{log.experiment}: {kind} pruning, arm {arm}, seed {seed}"
    if rows.empty:
        raise UserError(f"{where}: expected a finished run, found none")
    recorded = sorted(set(rows["target"]))
    if sparsities is None:
        high = [sparsity for sparsity in recorded if sparsity >= 0.5] or recorded
        sparsities = sorted({high[round(i)] for i in np.linspace(0, len(high) - 1, 4)})
    if missing := [sparsity for sparsity in sparsities if not np.isclose(sparsity, recorded).any()]:
        raise UserError(f"{where}: expected sparsities out of {recorded}, found {missing}")
    chosen = {s: rows[np.isclose(rows["target"], s)].iloc[0] for s in sparsities if s}
    return {0.0: _dense_rows_of(log, rows.iloc[:1])[0]} | chosen


def arrays_of(log: Any, row: pd.Series, needed: str = "confusion") -> dict[str, np.ndarray]:
    """The arrays that this row's stage recorded. Raises UserError where the one needed is not among them."""
    arrays = log.arrays.get(row["result"], {})
    if needed not in arrays:
        where = f"{log.experiment}: result {row['result']}"
        raise UserError(f"{where}: expected the array {needed!r}, found {sorted(arrays)}")
    return arrays


def draw_tiles(ax: Axes, images: list, captions: Iterable, n_columns: int = 0, **style: Any) -> None:
    """Images [H, W] side by side, a caption under each; None is drawn as a hatched tile."""
    for i, image in enumerate(images):
        if image is None:
            tile = {"fill": False, "hatch": "//////", "edgecolor": "0.75", "linewidth": 0.5}
            ax.add_patch(Rectangle((i + 0.06, 0.06), 0.88, 0.88, **tile))
        else:
            ax.imshow(image, extent=(i + 0.06, i + 0.94, 0.06, 0.94), interpolation="nearest", **style)
    ax.set(xlim=(0, n_columns or len(images)), ylim=(0, 1), yticks=[], aspect="equal")
    ax.set_xticks(np.arange(len(images)) + 0.5, captions)
    ax.tick_params(length=0, pad=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _rows_of_tiles(n_rows: int, n_columns: int) -> tuple[Figure, np.ndarray]:
    """A figure for rows of tiles: axes [n_rows]."""
    width = min(11, 0.6 + 0.9 * n_columns)
    size = (width, 0.5 + n_rows * (0.2 + (width - 0.8) / n_columns))
    fig, axes = plt.subplots(n_rows, 1, figsize=size, squeeze=False)
    return fig, axes[:, 0]


def _dense_rows_of(log: Any, rows: pd.DataFrame) -> list[pd.Series]:
    """The first train stage of each of these runs, once a seed."""
    train = log.results[(log.results["type"] == "train") & log.results["run"].isin(rows["run"])]
    return [row for _, row in train.sort_values("stage", kind="stable").drop_duplicates("seed").iterrows()]


def _main_arm(rows: pd.DataFrame) -> str:
    """The arm that is meant where none is named: magnitude, else the first."""
    return "magnitude" if "magnitude" in set(rows["arm"]) else rows["arm"].iloc[0]


def _label_row(ax: Axes, text: str) -> None:
    """A horizontal label left of a row of tiles."""
    ax.set_ylabel(text, rotation=0, ha="right", va="center", multialignment="right")


def _row_label(sparsity: float) -> str:
    """Two lines, such as 90 % / pruned; 'dense' for none."""
    return f"{100 * sparsity:g} %\npruned" if sparsity else "dense"


def _title(kind: str, sparsity: float) -> str:
    """Such as '90 % of weights pruned'; 'dense' for none."""
    return f"{100 * sparsity:g} % of {kind}s pruned" if sparsity else "dense"
