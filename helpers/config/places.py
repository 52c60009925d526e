"""Where a config says what: parts that know their place, and changes that keep track of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..foundations.settings import Loc


@dataclass(frozen=True)
class Part:
    """A value of a config with its uses written out."""

    value: Any
    """A dict or a list of parts, or any other value as it is."""
    at: Loc
    """Where the file says it."""
    uses: "tuple[Use, ...]" = ()
    """The uses that brought it, the outermost first."""
    is_known: bool = True
    """False where the definition is missing, which is told already."""

    def inside(self, key: str | int) -> "Part | None":
        """What stands at this key or index."""
        if isinstance(self.value, dict):
            return self.value.get(key)
        is_there = isinstance(self.value, list) and isinstance(key, int) and key < len(self.value)
        return self.value[key] if is_there else None


@dataclass(frozen=True)
class Use:
    """A place that takes a definition."""

    at: Loc
    changes: dict[str, Part]
    """The keys beside its name: merged, replaced or, with null, taken away."""


@dataclass
class WrittenOut:
    """A config file without definitions and uses, and the way back to the file."""

    raw: dict[str, Any]
    root: Part
    mistakes: list[str]
    is_complete: bool
    """Whether every use has found its definition."""

    def place(self, loc: Loc, message: str = "") -> Loc | None:
        """Where the file says what is at this place; None inside a part that is not known.

        A mistake of an object as a whole is the definition's, unless it speaks of a key that a use changes.
        """
        part = self.root
        for n, key in enumerate(loc):
            inside = part.inside(key)
            if inside is None and part.is_known:
                taken = (use.changes[key].at for use in part.uses if key in use.changes)
                return (*next(taken, (*part.at, key)), *loc[n + 1 :])
            if inside is None:
                return None
            part = inside
        words = set(re.findall(r"\w+", message)) - {"name"}
        speaking = (use.at for use in part.uses if words & use.changes.keys())
        return next(speaking, part.at) if part.is_known else None

    def name(self, loc: Loc, other: Loc) -> Loc:
        """What to call a stage in a message about another: its use, unless both have the same."""
        uses = [self._uses(place) for place in (loc, other)]
        return uses[0][0].at if uses[0] and uses[0][:1] != uses[1][:1] else self.place(loc) or loc

    def _uses(self, loc: Loc) -> tuple[Use, ...]:
        """The uses that brought what is at this place."""
        part: Part | None = self.root
        for key in loc:
            part = part and part.inside(key)
        return part.uses if part else ()


def longest(loc: Loc, places: dict[Loc, Any]) -> Loc | None:
    """The longest prefix of a location that is among the places."""
    return next((loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in places), None)


def origin(loc: Loc, places: dict[Loc, Loc]) -> Loc:
    """Where a location comes from, by the longest prefix of it whose origin is known."""
    at = longest(loc, places)
    return loc if at is None else (*places[at], *loc[len(at) :])


def merge(base: Any, changes: Any, loc: Loc, origin: Loc, came_from: dict[Loc, Loc]) -> Any:
    """Objects merge, all else is replaced; `came_from` notes where a replaced part came from."""
    if isinstance(base, dict) and isinstance(changes, dict):
        merged = dict(base)
        for key, value in changes.items():
            merged[key] = merge(base.get(key), value, (*loc, key), origin, came_from)
        return merged
    came_from[loc] = (*origin, *loc)
    return changes


def axis_places(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Places that take an axis, and its name."""
    if isinstance(value, str) and value.startswith("$"):
        yield loc, value[1:]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from axis_places(item, (*loc, key))


def fill(value: Any, loc: Loc, values: dict[Loc, Any]) -> Any:
    """A copy with the axes' values in their places."""
    if loc in values:
        return values[loc]
    if isinstance(value, dict):
        return {key: fill(item, (*loc, key), values) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, (*loc, index), values) for index, item in enumerate(value)]
    return value
