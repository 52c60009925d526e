"""Overrides: what profiles and --set change in a config file before it is validated."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from ..foundations.errors import UserError
from ..foundations.settings import Loc
from .file import axis_mistakes
from .hashing import stage_names
from .messages import nearest, path_text


@dataclass
class Overrides:
    """A config file that is being overridden; gathers mistakes instead of raising them."""

    raw: dict[str, Any]
    """The file, changed in place."""
    origins: dict[Loc, str] = field(default_factory=dict)
    """Places whose value a profile or --set gave, and how a message calls them."""
    mistakes: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, label: str) -> None:
        """Set `stage.field…`, `data.…`, `net.…`, `seeds` or `sweep.axis` to a value."""
        head, *rest = key.split(".")
        if head == "seeds" and not rest:
            targets = self._owners((head,))
            value = value if isinstance(value, list) else [value]
        elif head == "sweep" and len(rest) == 1:
            if rest[0] not in self.raw.get("sweep", {}):
                axes = list(self.raw.get("sweep", {}))
                self.mistakes.append(f"{label}: unknown axis {rest[0]!r}" + nearest(rest[0], axes))
                return
            targets, rest = [("sweep", rest[0])], []
            value = value if isinstance(value, list) else [value]
            self.mistakes += [f"{label}: {text}" for text in axis_mistakes(value)]
        elif head in ("data", "net") and rest:
            targets = self._owners((head, *rest))
        else:
            names = self._stage_places()
            targets = [loc for loc, name in names if name == head]
            if not targets or not rest:
                valid = [f"{name}.…" for name in dict.fromkeys(name for _, name in names)]
                valid += [
                    "data.…",
                    "net.…",
                    "seeds",
                    *(f"sweep.{axis}" for axis in self.raw.get("sweep", {})),
                ]
                hint = nearest(head if rest else key, valid)
                self.mistakes.append(f"{label}: nothing is called {key!r}{hint}")
                return
        for target in targets:
            self._assign(
                (*target, *(int(part) if part.isascii() and part.isdecimal() else part for part in rest)),
                value,
                label,
            )

    def _owners(self, place: Loc) -> list[Loc]:
        """Where the first part of a place stands: in the file, and in each arm that decides what is there."""
        arms = self.raw.get("arms", {}).items()
        return [place[:1], *(("arms", arm, place[0]) for arm, changes in arms if _decides(changes, place))]

    def _stage_places(self) -> list[tuple[Loc, str]]:
        """Every named stage of the file, those of arms too."""
        shared = self.raw.get("stages")
        places = _named_places(shared, ("stages",))
        for arm, changes in self.raw.get("arms", {}).items():
            own = changes.get("stages", shared)
            count = len(own) if isinstance(own, list) else 0
            if "stages" in changes:
                places += _named_places(own, ("arms", arm, "stages"))
            # What an arm adds is named in view of what comes before it.
            then = changes.get("then")
            if isinstance(then, list):
                named = _named_places([*(own if count else []), *then], ())
                places += [
                    (("arms", arm, "then", place[0] - count, *place[1:]), name)
                    for place, name in named
                    if place[0] >= count
                ]
        return places

    def _assign(self, loc: Loc, value: Any, label: str) -> None:
        """Put the value there, making objects on the way."""
        node: Any = self.raw
        for part in loc[:-1]:
            if isinstance(node, dict):
                node = node.setdefault(part, {})
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                node = None
            if not isinstance(node, dict | list):
                self.mistakes.append(f"{label}: {path_text(loc)} leads nowhere: {part!r} has no fields")
                return
        if isinstance(node, list) and not (isinstance(loc[-1], int) and loc[-1] < len(node)):
            self.mistakes.append(f"{label}: expected an index below {len(node)}, found {loc[-1]!r}")
            return
        node[loc[-1]] = copy.deepcopy(value)
        self.origins[loc] = label


def _named_places(stages: Any, prefix: Loc) -> list[tuple[Loc, str]]:
    """Place, under this prefix, and name of every stage of a list that may not be validated yet."""
    if not isinstance(stages, list):
        return []
    return [((*prefix, *loc[1:]), name) for loc, name in stage_names(stages)]


def _decides(changes: Any, place: Loc) -> bool:
    """Whether the changes of an arm replace what the file has at this place."""
    for part in place:
        if not isinstance(changes, dict):
            return True
        if part not in changes:
            return False
        changes = changes[part]
    return True


def literal(text: str, name: str) -> Any:
    """The value of `--set name=text`: JSON, or else the text itself.

    Raises UserError on what begins as a list, an object or a quoted text and is none.
    """
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:
        if text.lstrip()[:1] in ("[", "{", '"'):
            raise UserError(f"{name}: expected JSON, found {text!r} ({error})") from None
        return text
