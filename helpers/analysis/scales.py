"""What columns are called on an axis, and the scales on which they are drawn."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..foundations.errors import UserError


class Quantity(NamedTuple):
    """How a column is shown: its words, the scale of its axis, and by what its values are multiplied."""

    label: str
    scale: str = "linear"
    factor: float = 1


QUANTITIES = {
    "target": Quantity("pruned (%)", "pruned"),
    "sparsity": Quantity("weights pruned (%)", "pruned"),
    "sparsity_all": Quantity("all weights pruned (%)", "pruned"),
    "effective_sparsity": Quantity("weights that do nothing (%)", "pruned"),
    "unit_sparsity": Quantity("units pruned (%)", "pruned"),
    "filter_sparsity": Quantity("filters pruned (%)", "pruned"),
    "share": Quantity("pruned (%)", "pruned"),
    "kept": Quantity("weights kept (%)", "kept"),
    "params": Quantity("effective parameters left", "left"),
    "macs": Quantity("effective MACs left", "left"),
    "train_flops": Quantity("training FLOPs so far", "log"),
    "lr": Quantity("learning rate", "log"),
    "temperature": Quantity("temperature", "levels"),
    "train_size": Quantity("training images", "levels"),
    "epoch": Quantity("epoch"),
    "epochs": Quantity("epochs"),
    "step": Quantity("step"),
    "steps": Quantity("steps", "log"),
    "early_step": Quantity("step of least validation loss"),
    "test_accuracy": Quantity("test accuracy (%)", factor=100),
    "val_accuracy": Quantity("validation accuracy (%)", factor=100),
    "early_accuracy": Quantity("test accuracy at early stop (%)", factor=100),
    "end_accuracy": Quantity("test accuracy at the end (%)", factor=100),
    "accuracy": Quantity("accuracy (%)", factor=100),
    "value": Quantity("share (%)", factor=100),
    "teacher_agreement": Quantity("agrees with its teacher (%)", factor=100),
    "difference": Quantity("paired difference in test accuracy, points", factor=100),
    "error": Quantity("error (%)", "log", 100),
    "loss": Quantity("cross-entropy", "log"),
    "val_loss": Quantity("validation loss", "log"),
    "test_loss": Quantity("test loss", "log"),
    "train_loss": Quantity("training loss", "log"),
    "test_errors": Quantity("test images wrong"),
    "wall_s": Quantity("seconds", "log"),
}
"""Columns that have words of their own; all others are called as they are."""

ACCURACY_TICKS = (10, 30, 50, 70, 80, 90, 95, 97, 98, 98.5, 99, 99.3, 99.5, 99.7, 99.9)
PRUNED_TICKS = (0, 50, 75, 80, 90, 95, 97, 98, 99, 99.5, 99.9)
EVERYTHING = 1e-9
"""A share left that is smaller is none at all, and has no place on a log axis."""

SCALES = ("linear", "log", "error", "pruned", "kept", "left", "levels")

SHARES = {"pruned": "100", "kept": "0"}
"""Scales of what is left, and what they call nothing left."""


def quantity(column: str) -> Quantity:
    """How a column is shown; an axis like the setting of its name."""
    name = column.removeprefix("sweep.")
    if name == "sparsity" != column:  # an axis is of whatever kind is pruned
        name = "target"
    return QUANTITIES.get(name, Quantity(name))


def measured(column: str) -> Quantity:
    """How a column is shown that is measured: shares pruned or kept in percent, on a plain axis."""
    own = quantity(column)
    return Quantity(own.label, factor=100) if own.scale in SHARES else own


def place(values: Iterable[float], across: Quantity, nothing_left: float = 0) -> np.ndarray:
    """Where values stand on an axis: shares at what is left, all else in the axis's unit.

    Where everything is pruned, nothing is left, and it stands at `nothing_left`; no value (NaN) has no place.
    """
    values = np.asarray(list(values), float)
    if across.scale not in SHARES:
        return across.factor * values
    left = 1 - values if across.scale == "pruned" else values
    return np.where(left <= EVERYTHING, nothing_left, left)


def beyond(places: np.ndarray) -> float:
    """Where everything pruned stands: beyond the least that is left of all that is drawn."""
    left = places[places > 0]
    return float(left.min() / 3) if len(left) else 0.1


def apply(
    ax: Axes,
    axis: str,
    scale: str,
    values: np.ndarray,
    limits: Any = None,
    ticks: Any = None,
    nothing_left: float | None = None,
) -> None:
    """Sets an axis's scale, ticks and limits; `values`: where the data stands (already placed).

    `nothing_left`: where on it everything pruned stands, if anything does.
    """
    own = getattr(ax, f"{axis}axis")
    set_scale, set_limits = getattr(ax, f"set_{axis}scale"), getattr(ax, f"set_{axis}lim")
    values = values[np.isfinite(values)]
    if scale == "error":
        _error(ax, axis, values, limits)
        return
    if scale in ("pruned", "kept", "left", "levels", "log") and (values > 0).all() and len(values):
        if limits is not None and min(limits) <= 0:
            raise UserError(f"panel: {axis}_limits: expected both above 0 on a log axis, found {limits}")
        set_scale("log")
        own.set_minor_locator(NullLocator())
    if scale in ("pruned", "kept"):
        _shares(own, values, scale, ticks, nothing_left)
    elif scale == "levels" and len(values):
        levels = np.unique(values) if ticks is None else np.asarray(ticks)
        own.set_ticks(levels, [_thousands(level) for level in levels])
    elif scale == "left":
        own.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    elif scale == "log":
        if ticks is not None:
            own.set_ticks(ticks)
        elif len(values) and 0 < values.max() < 30 * values.min():
            own.set_ticks(_round_ticks(*(limits or (values.min(), values.max()))))
        own.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    elif ticks is not None:
        own.set_ticks(ticks)
    elif len(values) and np.allclose(values, values.round()):
        own.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if limits is not None:
        set_limits(limits)
    if scale in (*SHARES, "left"):
        own.set_inverted(True)


def _error(ax: Axes, axis: str, values: np.ndarray, limits: Any) -> None:
    """Accuracy in percent on the log scale of its error, so that collapse and the last tenth both show."""

    def forward(accuracy: Any) -> np.ndarray:
        return -np.log10(np.clip(100 - np.asarray(accuracy, float), 1e-3, None))

    def backward(where: Any) -> np.ndarray:
        return 100 - 10 ** -np.asarray(where, float)

    if limits is None:
        # A tenth of the drawn range more at either end, on the scale itself.
        ends = forward([values.min(), values.max()]) if len(values) else np.array([-2.0, 0.0])
        margin = max(0.05 * (ends[1] - ends[0]), 0.02)
        limits = tuple(backward([ends[0] - margin, ends[1] + margin]))
    getattr(ax, f"set_{axis}scale")("function", functions=(forward, backward))
    getattr(ax, f"set_{axis}lim")(*limits)
    own, (low, high) = getattr(ax, f"{axis}axis"), limits
    ticks = [tick for tick in ACCURACY_TICKS if low <= tick <= high]
    if len(ticks) < 3:
        ticks = list(MaxNLocator(nbins=5).tick_values(low, high))
        ticks = [tick for tick in ticks if low <= tick <= high]
    # From the top, where what is of interest is near.
    ticks = apart(ticks[::-1], forward(ticks[::-1]), forward([low, high]), 0.09 if axis == "x" else 0.045)
    own.set_major_locator(FixedLocator(ticks))
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    own.set_minor_locator(NullLocator())


def apart(ticks: Sequence[float], places: np.ndarray, ends: np.ndarray, share: float = 0.075) -> list[float]:
    """The ticks, from the first on, without those nearer to the last one taken than a share of the axis."""
    found: list[int] = []
    least = share * abs(ends[1] - ends[0])
    for index in range(len(ticks)):
        if not found or abs(places[index] - places[found[-1]]) >= least:
            found.append(index)
    return [ticks[index] for index in found]


def _shares(own: Any, values: np.ndarray, scale: str, ticks: Any, nothing_left: float | None) -> None:
    """Ticks of shares: what is pruned or kept in percent; those that would touch are left out."""
    levels = np.unique(values)
    if nothing_left is not None:
        levels = levels[levels > 1.0001 * nothing_left]
    if ticks is None and scale == "pruned":
        named = [1 - tick / 100 for tick in PRUNED_TICKS]
        ticks = levels if len(levels) <= 7 else [t for t in named if t >= 0.9 * levels.min()]
    shown = sorted(levels if ticks is None else ticks, reverse=True)
    # Shares kept have three digits, and need more room than most shares pruned.
    room = 0.11 if scale == "kept" else 0.075
    shown = apart(shown, np.log(shown), np.log(levels[[0, -1]]), room) if len(levels) else shown
    texts = [percent_text(1 - t) if scale == "pruned" else f"{100 * t:.3g}" for t in shown]
    if nothing_left is not None:
        shown, texts = [*shown, nothing_left], [*texts, SHARES[scale]]
    own.set_ticks(shown, texts)


def _round_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two that are less than a factor of thirty apart."""
    steps = (1, 1.5, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if 0.85 * low <= tick <= 1.18 * high]


def _thousands(number: float) -> str:
    """1800 → '1,800'; 0.5 → '0.5'."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:g}"


def percent_text(share: float) -> str:
    """0.9 → '90', 0.99999 → '99.999': only all of it is 100."""
    text = f"{100 * share:.4g}"
    return f"{100 * share:.8g}" if text == "100" and share < 1 else text


def compact(number: float) -> str:
    """Three digits and a unit: 431080 → '431 k', 2.3e6 → '2.3 M'."""
    number = float(f"{number:.3g}")
    power = min(3, int(math.log10(max(number, 1)) / 3))
    return f"{number / 1000**power:.3g} {'kMG'[power - 1]}" if power else f"{number:.3g}"
