"""Reuse in a config file: `define` names parts of it, and {"use": name} takes one.

All uses are written out before anything else is done with the file. Each part remembers where the file
says it, so that a mistake in a definition is told there, and once, however many places use it.
"""

import difflib
from dataclasses import dataclass, field, replace
from typing import Any

from ..foundations.settings import Loc
from .file import DEPTH, WORD
from .messages import nearest, path_text, short
from .places import Part, Use, WrittenOut

MOST_VALUES = 10_000
"""More values than definitions can be needed for, which definitions of definitions could soon exceed."""

NO_USE = ("$schema", "description", "profiles", "labels", "contrasts")
"""Keys of a file whose values take no use."""

LISTS, OBJECTS = ("stages", "then"), ("data", "net", "optimizer", "schedule", "ramp")
"""Keys whose value is a list of stages, and keys whose value is an object."""


def write_out(raw: dict[str, Any]) -> WrittenOut:
    """A config file, as read, with all its uses written out; gathers mistakes instead of raising them."""
    writer = _Writer(raw.get("define", {}))
    kept = {key: raw[key] for key in NO_USE if key in raw}
    try:
        writer.check_definitions()
        keys = [key for key in raw if key != "define" and key not in kept]
        root = Part({key: writer.part(raw[key], (key,), key) for key in keys}, ())
        writer.tell_unused()
        return WrittenOut(kept | _plain(root, [0]), root, list(writer.mistakes), writer.is_complete)
    except _TooLargeError:
        text = f"define: comes to values nested more than {DEPTH} deep, or to more than {MOST_VALUES} of them"
        return WrittenOut(kept, Part({}, (), is_known=False), [text], False)


class _TooLargeError(Exception):
    """What the definitions come to is too large to be a config."""


@dataclass
class _Writer:
    """Writes out what uses definitions, and each definition once."""

    definitions: Any
    """By name, as the file has them."""
    mistakes: dict[str, None] = field(default_factory=dict)
    is_readable: bool = True
    """Whether `define` is an object: without one, no name is told to be unknown."""
    is_complete: bool = True
    used: set[str] = field(default_factory=set)
    parts: dict[str, Part] = field(default_factory=dict)
    """What the definitions come to."""
    open: dict[str, int] = field(default_factory=dict)
    """Definitions that are being written out, each used by the one before it, and how deep in it."""

    def tell(self, loc: Loc, message: str) -> None:
        """Note a mistake, once."""
        self.mistakes[f"{path_text(loc)}: {message}"] = None

    def unknown(self, at: Loc, key: str = "") -> Part:
        """What stands where a definition is missing."""
        self.is_complete = False
        return Part([] if key in LISTS else {}, at, is_known=False)

    def check_definitions(self) -> None:
        """Tell what is wrong with the definitions themselves, and write them out."""
        if not isinstance(self.definitions, dict):
            self.tell(("define",), f"expected an object, found {short(self.definitions)}")
            self.definitions, self.is_readable = {}, False
        for name, value in self.definitions.items():
            if not WORD.fullmatch(name):
                self.tell(("define",), f"expected a name of letters, digits and _, found {name!r}")
            if not isinstance(value, dict | list):
                self.tell(("define", name), f"expected an object or a list, found {short(value)}")
            self.definition(name, 0)

    def tell_unused(self) -> None:
        """Tell which definitions nothing takes, unless that may come of another mistake."""
        for name in [] if self.mistakes else self.definitions:
            if name not in self.used:
                self.tell(("define", name), "nothing uses it: use it or leave it out")

    def definition(self, name: str, depth: int) -> Part:
        """What a definition comes to, used at this depth of another."""
        value, at = self.definitions[name], ("define", name)
        if name in self.open:
            circle = list(self.open)[list(self.open).index(name) :]
            start = circle.index(min(circle, key=list(self.definitions).index))
            way = " → ".join([*circle[start:], *circle[: start + 1]])
            self.tell(("define", circle[start]), f"leads back to itself: {way}")
            return self.unknown(at)
        if sum(self.open.values()) + depth > DEPTH:
            raise _TooLargeError
        if name not in self.parts:
            self.open[name] = depth
            is_right = isinstance(value, dict | list)
            self.parts[name] = self.part(value, at) if is_right else self.unknown(at)
            del self.open[name]
        return self.parts[name]

    def part(self, value: Any, at: Loc, key: str = "") -> Part:
        """The value of a key, with its uses written out."""
        if isinstance(value, dict) and _is_use(value, key):
            return self.take(value, at, key)
        if isinstance(value, dict):
            return Part({word: self.part(item, (*at, word), word) for word, item in value.items()}, at)
        return Part(self.items(value, at, key), at) if isinstance(value, list) else Part(value, at)

    def items(self, values: list[Any], at: Loc, key: str) -> list[Part]:
        """The items of a list; the use of a list gives all of its items."""
        items: list[Part] = []
        for index, value in enumerate(values):
            part = self.part(value, (*at, index), f"{key}[]")
            if part.uses and isinstance(part.value, list):
                items += [replace(item, uses=(part.uses[0], *item.uses)) for item in part.value]
            else:
                items.append(part)
            if len(items) > len(values) + MOST_VALUES:
                raise _TooLargeError
        return items

    def take(self, words: dict[str, Any], at: Loc, key: str) -> Part:
        """What a use comes to: the definition, with the changes that stand beside its name."""
        place, name = (*at, "use"), self.meant(words["use"], (*at, "use"))
        changes = {word: self.part(item, (*at, word), word) for word, item in words.items() if word != "use"}
        part = self.unknown(at, key) if name is None else self.definition(name, max(1, len(at) - 2))
        if not part.is_known:
            return self.unknown(at, key)
        is_list = isinstance(part.value, list)
        if is_list and changes:
            found = ", ".join(map(repr, changes))
            self.tell(at, f"{name!r} is a list, and its use has no other key; found {found}")
        elif wanted := _wanted(key, part.value):
            self.tell(place, f"expected {wanted}, found {name!r}, which is {_form(part.value)}")
        else:
            return _changed(part, Part(changes, at))
        return self.unknown(at, key)

    def meant(self, name: Any, place: Loc) -> str | None:
        """The definition that a use means, so that other mistakes can be told too; None for none."""
        if not isinstance(name, str):
            self.tell(place, f"expected the name of a definition, found {short(name)}")
            return None
        if name not in self.definitions:
            if name.startswith("$"):
                text = 'let its values be {"use": …}'
                self.tell(place, f"expected a name, found the axis {name!r}: {text}")
            elif self.is_readable:
                hint = nearest(name, list(self.definitions)) or ": nothing is defined"
                self.tell(place, f"unknown {name!r}{hint}")
            near = difflib.get_close_matches(name, self.definitions, n=1, cutoff=0.5)
            if not near:
                return None
            name = near[0]
        self.used.add(name)
        return name


def _is_use(value: dict[str, Any], key: str) -> bool:
    """Whether an object takes a definition, and 'use' is no arm, axis, factor or layer of the user's."""
    is_name = key in ("arms", "sweep", "factors") or (
        key == "layers" and not isinstance(value.get("use"), str)
    )
    return "use" in value and not is_name


def _form(value: Any) -> str:
    """What a definition is, in words."""
    if isinstance(value, list):
        return "a list"
    if "type" in value:
        return f"of type {value['type'].value!r}"
    return "a net" if "layers" in value and isinstance(value["layers"].value, list) else "an object"


def _wanted(key: str, value: Any) -> str:
    """What the value of a key has to be, where a definition is something else."""
    form = _form(value)
    if key in LISTS and form != "a list":
        return "a list of stages"
    if key in OBJECTS and form == "a list":
        return "an object"
    if key == "net" and "type" in value:
        return "a net"
    return "a stage or a list of them" if key in ("stages[]", "then[]") and form == "a net" else ""


def _changed(part: Part, changes: Part) -> Part:
    """A definition with changes: objects merge, null takes a key away, all else is replaced."""
    use = Use(changes.uses[0].at if changes.uses else changes.at, changes.value)
    if isinstance(part.value, list):
        return replace(part, uses=(use, *part.uses))
    merged = dict(part.value)
    for key, change in changes.value.items():
        is_both = key in merged and isinstance(merged[key].value, dict) and isinstance(change.value, dict)
        if key in merged and change.value is None:
            del merged[key]
        else:
            merged[key] = _changed(merged[key], change) if is_both else change
    return replace(part, value=merged, uses=(use, *part.uses))


def _plain(part: Part, count: list[int], depth: int = 0) -> Any:
    """The values alone. Raises _TooLargeError where those of definitions are too many, or all too deep."""
    count[0] += part.at[:1] == ("define",)
    if depth > DEPTH or count[0] > MOST_VALUES:
        raise _TooLargeError
    if isinstance(part.value, dict):
        return {key: _plain(item, count, depth + 1) for key, item in part.value.items()}
    if isinstance(part.value, list):
        return [_plain(item, count, depth + 1) for item in part.value]
    return part.value
