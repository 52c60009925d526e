"""Small made-up logs for tests of figures, and how to read what a figure shows."""

import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from helpers.config.expansion import load_config
from helpers.foundations.columns import COMPUTED, MEASURED, NUMBERS, RUN_COLUMNS, SETTINGS
from helpers.logger import Log, Record
from helpers.running.describing import describe
from helpers.utils import Results, tables

NET = [
    {"layer": "input", "type": "input", "output_shape": [1, 28, 28], "params": 0, "macs": 0},
    {"layer": "flatten_0", "type": "flatten", "output_shape": [784], "params": 0, "macs": 0},
    {"layer": "linear_1", "type": "linear", "output_shape": [300], "params": 235500, "macs": 235200},
    {"layer": "linear_2", "type": "linear", "output_shape": [10], "params": 3010, "macs": 3000},
]


def made(seeds: Sequence[int] = (0, 1, 2), **columns: Sequence[Any]) -> pd.DataFrame:
    """Rows of `results`, one a seed and combination of these columns' values, each a run of its own.

    Accuracies differ from row to row, so that a mean over the wrong rows is another number.
    """
    rows = []
    for place, (*values, seed) in enumerate(product(*columns.values(), seeds)):
        row: dict[str, Any] = dict.fromkeys([*RUN_COLUMNS, *SETTINGS, *MEASURED, *COMPUTED])
        row |= {"experiment": "made", "arm": "main", "seed": seed, "stage": 1, "type": "prune", "round": 0}
        row |= {"stage_name": "prune", "status": "ok", "run": f"run{place}", "result": f"run{place}"}
        accuracy = 0.95 - 0.01 * (place // len(seeds)) + 0.0017 * seed + 0.0003 * (place * 7 % 5)
        row |= {"test_accuracy": accuracy, "val_accuracy": accuracy - 0.002, "params": 1000.0 * (place + 1)}
        rows.append(row | dict(zip(columns, values, strict=True)))
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys((*NUMBERS, *MEASURED), float))


def log_of(rows: pd.DataFrame, path: Path = Path("/out/logs/made.hdf5"), **parts: Any) -> Results:
    """A log of these rows."""
    parts = {"profile": "full", "curves": pd.DataFrame(), "arrays": {}, "net": NET, "path": path} | parts
    return Results("made", results=rows, **parts)


def imagined(
    config: Path, accuracy: Callable[[dict[str, Any], int], Any], out: Path = Path("/out")
) -> Results:
    """The log of a config of which nothing ran: `accuracy` of a run (arm, seed, axes) at a stage.

    None is a stage that diverged, "missing" one that has not been computed.
    """
    runs = json.loads(json.dumps(describe(load_config(config))))
    records = {}
    for run in runs["runs"]:
        for stage, (key, *_) in enumerate(run["steps"]):
            found = accuracy(run, stage)
            if found == "missing":
                continue
            measured = {"val_accuracy": found, "test_accuracy": found, "params": 100.0, "epochs": 1.0}
            records[key] = Record({"status": "diverged"} if found is None else {"status": "ok"} | measured)
    return tables(Log(records, runs), out / "logs" / f"{config.stem}.hdf5")


def words(fig: Figure) -> str:
    """All that is written in a figure, a text a line."""
    return "\n".join(text.get_text() for text in fig.findobj(Text) if text.get_visible())


def legend(fig: Figure) -> list[str]:
    """The labels of the figure's own legend, in their order."""
    return [text.get_text() for found in fig.legends for text in found.get_texts()]


def curve(ax: Axes, label: str) -> Line2D:
    """The one line of this label, also where whiskers hang on it."""
    lines = [line for line in ax.lines if line.get_label() == label]
    lines += [bars.lines[0] for bars in ax.containers if bars.get_label() == label]
    (found,) = lines
    return found


def bands(ax: Axes) -> list[PolyCollection]:
    """The bands between two curves, in the order in which they were drawn."""
    return [found for found in ax.collections if isinstance(found, PolyCollection)]


def ends(band: PolyCollection) -> dict[float, tuple[float, float]]:
    """Lower and upper end of a band, by x; empty where it has no extent."""
    found: dict[float, list[float]] = {}
    for x, y in (point for path in band.get_paths() for point in path.vertices):
        found.setdefault(round(float(x), 9), []).append(float(y))
    return {x: (min(ys), max(ys)) for x, ys in found.items()}


def ticks(ax: Axes, axis: str = "x") -> dict[str, float]:
    """Where the ticks stand that have words, by these."""
    own = getattr(ax, f"{axis}axis")
    ax.figure.draw_without_rendering()
    texts = [tick.get_text() for tick in own.get_ticklabels()]
    return dict(zip(texts, own.get_ticklocs(), strict=True))


def outside(fig: Figure) -> list[str]:
    """Texts that are drawn, but not wholly inside their figure."""
    FigureCanvasAgg(fig).draw()
    renderer, frame = fig.canvas.get_renderer(), fig.bbox
    hidden = {id(text) for ax in fig.axes for text in _hidden(ax)}
    found = []
    for text in fig.findobj(Text):
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden:
            box = text.get_window_extent(renderer)
            within = frame.x0 - 1 <= box.x0 and box.x1 <= frame.x1 + 1
            if not (within and frame.y0 - 1 <= box.y0 and box.y1 <= frame.y1 + 1):
                found.append(text.get_text())
    return found


def _hidden(ax: Axes) -> list[Text]:
    """What axes have and do not draw: words of ticks beyond the limits, and of points out of view."""
    found = [text for text in ax.texts if isinstance(text, Annotation) and not text._check_xy(None)]
    for own in (ax.xaxis, ax.yaxis):
        drawn = {id(tick) for tick in own._update_ticks()} if ax.axison else set()
        every = [*own.majorTicks, *own.minorTicks]
        found += [label for tick in every if id(tick) not in drawn for label in (tick.label1, tick.label2)]
        found += [] if ax.axison else [own.label]
    return found


def means(rows: pd.DataFrame, by: str, value: str = "test_accuracy") -> dict[Any, float]:
    """Means of what ended well, by plain pandas."""
    return rows[rows["status"].eq("ok")].groupby(by)[value].mean().to_dict()


def values_at(line: Line2D) -> dict[float, float]:
    """The points of a line: y by x."""
    return dict(zip(np.round(line.get_xdata(), 9).tolist(), line.get_ydata(), strict=True))
