"""A look inside pruned networks, drawn from logs alone: weights, filters, inputs, mistakes.

Rows are of `results`, a network each; a row's arrays are those that its stage recorded.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from ..foundations.errors import UserError
from ..foundations.files import ROOT
from ..utils import Results
from .frames import array
from .look import COLOURS, Look
from .panels import Mark, Panel
from .pictures import image, tiles
from .scales import percent_text
from .selection import known

FILTERS = 32
"""As many of a layer's filters are shown."""


def idx_images(
    part: str = "test", folder: Path = ROOT / "data" / "MNIST" / "raw"
) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's images [N, 28, 28] uint8 and labels [N], of "train" or "test", from the files that ship here.

    Raises UserError on another part, or where a file is missing.
    """
    prefixes = {"train": "train", "test": "t10k"}
    prefix = prefixes[known(part, prefixes, "part of MNIST")]
    found = []
    for name, start in ((f"{prefix}-images-idx3-ubyte.gz", 16), (f"{prefix}-labels-idx1-ubyte.gz", 8)):
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: expected a file that comes with the repository, found none")
        found.append(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=start))
    return found[0].reshape(-1, 28, 28), found[1]


def digits(images: np.ndarray, labels: np.ndarray, rows: int = 2, columns: int = 15) -> list[list[Panel]]:
    """The first images [N, height, width], captioned with their labels; a panel a row."""
    parts = [slice(start, start + columns) for start in range(0, rows * columns, columns)]
    return [[tiles(list(images[part]), [int(label) for label in labels[part]], columns)] for part in parts]


def histograms(log: Results, before: pd.Series, after: pd.Series) -> list[Panel]:
    """Weights that are not zero, a panel a layer: of two networks, log scale; end bins hold the tails."""
    panels = []
    names = [word.decode() for word in array(log, after, "layer_names")]
    for place, name in enumerate(names):

        def draw(ax: Axes, look: Look, place: int = place) -> None:
            for row, colour, label in (
                (before, "0.8", "before pruning"),
                (after, COLOURS[0], "after pruning"),
            ):
                counts = array(log, row, "weight_histogram")[place]
                edges = array(log, row, "histogram_edges")
                ax.stairs(counts, edges, baseline=0.5, fill=True, color=colour, label=label)
            ax.set_yscale("log")

        left = array(log, after, "keep_by_layer")[place]
        settings = {"title": f"{name}: {100 * left:.3g} % left", "x": "weight", "y": "weights a bin"}
        panels.append(Panel((Mark(draw),), settings))
    return panels


def filters(log: Results, rows: pd.DataFrame) -> list[list[Panel]]:
    """The first layer's filters (mean over input channels), a row of tiles a network; pruned ones hatched.

    All have the colour scale of the first: red positive, blue negative.
    """
    _check_rows(log, rows)
    found = [array(log, row, "first_filters").mean(1) for _, row in rows.iterrows()]
    limit = np.abs(found[0]).max()
    grid = []
    for (_, row), weights in zip(rows.iterrows(), found, strict=True):
        shown = weights[:FILTERS]
        images = [weight if weight.any() else None for weight in shown]
        style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        grid.append([tiles(images, range(1, len(shown) + 1), label=_row_label(row), **style)])
    return grid


def input_maps(log: Results, rows: pd.DataFrame) -> list[Panel]:
    """The share of first-layer weights that each pixel keeps (mean over channels), a panel a network."""
    return [
        image(array(log, row, "input_map").mean(0), "weights left").set(title=_row_label(row, " "))
        for _, row in rows.iterrows()
    ]


def mistakes(
    log: Results,
    before: pd.Series,
    rows: pd.DataFrame,
    images: np.ndarray,
    labels: np.ndarray,
    columns: int = 10,
) -> list[list[Panel]]:
    """Images that a network gets wrong and the one before pruning right, captioned true → predicted.

    `images`: the test set [N, height, width]; `labels`: [N]. A record keeps the first hundred mistakes:
    beyond the last of the network before, nobody knows what that gets wrong.
    """
    dense = array(log, before, "wrong_index")
    is_cut = 0 < len(dense) < before["test_errors"]
    last = dense.max() if is_cut else len(labels)
    grid = []
    for _, row in rows.iterrows():
        wrong, predicted = array(log, row, "wrong_index"), array(log, row, "wrong_prediction")
        is_new = ~np.isin(wrong, dense) & (wrong <= last)
        index, said = wrong[is_new][:columns], predicted[is_new][:columns]
        captions = [f"{int(labels[i])} → {p}" for i, p in zip(index, said, strict=True)]
        label = f"{_row_label(row)}\n{int(row['test_errors'])} errors"
        grid.append([tiles([images[i] for i in index], captions, columns, label=label)])
    return grid


def confusion(log: Results, rows: pd.DataFrame) -> Panel:
    """A confusion matrix, the rows' added up: shares of the true class in percent, below 0.5 unlabelled."""
    _check_rows(log, rows)
    counts = np.sum([array(log, row, "confusion") for _, row in rows.iterrows()], axis=0)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(ax: Axes, look: Look) -> None:
        ax.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
        for (i, j), share in np.ndenumerate(percent):
            if share >= 0.5:
                colour = "white" if share > 40 else "black"
                ax.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=6, color=colour)
        ax.set(xticks=range(len(counts)), yticks=range(len(counts)))
        ax.grid(False)

    return Panel((Mark(draw),), {"x": "predicted", "y": "true (share of it in %)"})


def _check_rows(log: Results, rows: pd.DataFrame) -> None:
    """Raises UserError where there is nothing to look at."""
    if rows.empty:
        raise UserError(f"{log.experiment}: expected rows, a network each, found none")


def _row_label(row: Any, between: str = "\n") -> str:
    """Such as 90 % / pruned, of what was realised where there is no nominal share; 'dense' for none."""
    share = row["sparsity_all"] if pd.isna(row["target"]) else row["target"]
    return f"{percent_text(share)} %{between}pruned" if share > 0 else "dense"
