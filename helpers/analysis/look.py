"""How values look and are called in one figure: colours, markers, lines, labels, and words that fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from ..foundations.columns import value_text
from ..utils import Results
from . import scales

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
"""Okabe–Ito, without the yellow that does not show on white; last grey and black."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d", "p", "<", ">")
"""As many as have no divisor in common with the colours: 88 pairs until one comes again. A star is none of
them: it is for what stands apart."""

LINES = ("-", "--", ":", "-.")
KINDS = {"weight": 0, "unit": 1, "filter": 2}
"""Kinds of pruning have the same colour in every figure."""

SPLITS = {"training": ("#999999", "", ":"), "validation": ("#E69F00", "", "--"), "test": ("#0072B2", "", "-")}
"""Colour, marker and line of a part of the data."""


@dataclass
class Look:
    """How values look and are called in one figure: the same in all its panels."""

    logs: Sequence[Results] = ()
    places: dict[str, dict[Any, int]] = field(default_factory=dict)
    """By column, the values that are drawn, numbered; None is an empty cell."""
    nothing_left: float = 0.1
    """Where everything pruned stands on the x axis that is being drawn."""

    def register(self, column: str | None, values: Sequence[Any]) -> None:
        """Values of a column that a mark draws in colours."""
        if column is not None:
            own = self.places.setdefault(column, {})
            for value in values:
                own.setdefault(key_of(value), len(own))

    def place_of(self, column: str | None, value: Any) -> int:
        """The number of a value among those of its column; behind the last where it is none of them."""
        own = self.places.get(column or "", {})
        return own.get(key_of(value), len(own))

    def arrange(self) -> None:
        """Numbers go in their order, arms in the order of their config."""
        for column, own in self.places.items():
            order = list(own)
            if are_numbers(order):
                order = sorted(order, key=lambda value: (value is None, value or 0))
            elif column == "arm" and self.logs:
                arms = list(dict.fromkeys(arm for log in self.logs for arm in log.results["arm"]))
                order = sorted(order, key=lambda arm: arms.index(arm) if arm in arms else len(arms))
            self.places[column] = {value: place for place, value in enumerate(order)}

    def in_order(self, labels: Sequence[str]) -> list[str]:
        """Labels of a column's values in the order of these, among the places that they have."""
        labels = list(labels)
        for column, own in self.places.items():
            order = [self.label(column, value) for value in own]
            here = [place for place, label in enumerate(labels) if label in order]
            for place, label in zip(here, sorted((labels[p] for p in here), key=order.index), strict=True):
                labels[place] = label
        return labels

    def style(self, column: str | None, value: Any) -> dict[str, Any]:
        """Colour and marker of a value: of a few numbers from dark to light, else one after the other.

        Where the colours come again, so that curves without markers would be alike, the kind of line differs.
        """
        if column is None:
            return {"color": COLOURS[0], "marker": MARKERS[0]}
        if column == "split" and value in SPLITS:
            colour, marker, line = SPLITS[value]
            return {"color": colour, "marker": marker, "linestyle": line}
        own = self.places.get(column, {})
        is_kind = column == "kind" and value in KINDS
        place = KINDS[value] if is_kind else self.place_of(column, value)
        style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        numbers = [number for number in own if number is not None]
        if are_numbers(own) and len(numbers) > 1 and column != "temperature":
            shade = 0.9 * place / (len(numbers) - 1)
            style["color"] = plt.get_cmap("viridis")(shade) if key_of(value) in numbers else "0.6"
        elif place >= len(COLOURS):
            style["linestyle"] = LINES[place // len(COLOURS) % len(LINES)]
        return style

    def line(self, column: str | None, value: Any) -> str:
        """The line of a value of a second column."""
        return LINES[self.place_of(column, value) % len(LINES)]

    def label(self, column: str, value: Any) -> str:
        """What the logs' configs call a value; else shares in percent, numbers behind their column's name."""
        value = key_of(value)
        if value is None or (column, value) == ("arm", "main"):  # an arm without arms: nothing to tell apart
            return ""
        quantity, text = scales.quantity(column), value_text(value)
        text = next((own for log in self.logs if (own := log.label(column, value)) != text), text)
        if text == value_text(value) and are_numbers([value]):
            name = next((log.label(column) for log in self.logs), column).removeprefix("sweep.")
            text = f"{value:.4g}" if isinstance(value, float) and len(text) > 8 else text
            is_share = quantity.scale in scales.SHARES
            percent = scales.percent_text(value) if quantity.scale == "pruned" else f"{100 * value:.3g}"
            text = f"{percent} % {quantity.scale}" if is_share else f"{name} {text}"
        return plain_text(text)


def key_of(value: Any) -> Any:
    """A cell's value as others of the same value are found by; None where it is empty."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value is None or value != value else value


def are_numbers(values: Any) -> bool:
    """Whether all of these that are not empty are numbers."""
    return all(
        isinstance(value, int | float | np.number) and not isinstance(value, bool)
        for value in values
        if value is not None
    )


def plain_text(text: str) -> str:
    """A text as matplotlib writes it out: $ is no formula, and a legend does not hide what begins with _."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def fitted(text: str, width: float) -> str:
    """What names a tick, in lines that fit so many inches."""
    return wrapped(text, 0.8 * width)


def wrapped(text: str, width: float) -> str:
    """A note in lines that fit a figure of so many inches."""
    limit = max(8, int(17 * width))
    return "\n".join(
        part for line in text.split("\n") for part in wrap(line, limit, break_on_hyphens=False) or [""]
    )
