"""A config file as it stands: read, and checked in its outline before its parts are put together."""

import difflib
import json
import re
from pathlib import Path
from typing import Any

from ..foundations.errors import UserError
from ..foundations.settings import whole
from .meaning import ArmMeaning
from .messages import nearest, short
from .schema import ConfigFile

FULL = "full"
"""Name of the profile that overrides nothing."""

DEPTH = 50
"""More nesting than any config needs, and less than Python can copy."""

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_json(path: Path) -> dict[str, Any]:
    """A config file as a dict. Raises UserError where it is missing, broken or says a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise UserError(
                f"{path}: {', '.join(map(repr, sorted(twice)))} stands twice in one object; keep one"
            )
        return dict(pairs)

    def no_constant(word: str) -> None:
        raise UserError(f"{path}: expected a number, found {word}, which JSON does not have")

    try:
        raw = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=unique, parse_constant=no_constant)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.json")], n=1)
        hint = f"; did you mean {str(path.parent / near[0])!r}?" if near else ""
        raise UserError(f"{path}: expected a config file, found nothing there{hint}") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {error.lineno}, column {error.colno}: not valid JSON: {_json_fault(error)}"
        ) from None
    except UnicodeDecodeError:
        remedy = "; a log is read by load_log" if path.suffix == ".hdf5" else ""
        raise UserError(f"{path}: expected a JSON file, found no text in UTF-8{remedy}") from None
    except (OSError, RecursionError, ValueError) as error:
        # A ValueError is a number of more digits than Python reads.
        raise UserError(f"{path}: expected a JSON file, could not read it: {error}") from None
    if _depth(raw) > DEPTH:
        raise UserError(f"{path}: expected a config, found lists and objects nested more than {DEPTH} deep")
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected an object, found {short(raw)}")
    return raw


def _json_fault(error: json.JSONDecodeError) -> str:
    """What is wrong there, with the remedy where it is one of the usual slips."""
    before, here = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if here.startswith(","):  # Python from 3.13 on points at the comma, earlier ones behind it
        before, here = before + ",", here[1:].lstrip()
    if before.endswith(",") and here[:1] in ("]", "}"):
        return f"a comma before {here[0]!r}: remove it"
    if here.startswith(("//", "#", "/*")):
        return "a comment, which JSON does not have: put it into 'description'"
    if here.startswith("'"):
        return "a text in single quotes: JSON has double ones"
    return error.msg


def _depth(value: Any) -> int:
    """How deep lists and objects are nested, without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return depth


ARM_KEYS = ["data", "net", "seeds", "stages", "then", *ArmMeaning.model_fields]
"""What an arm may have."""

FORMS = dict.fromkeys(("data", "net", "sweep", "arms", "profiles", "define"), dict)
FORMS |= dict.fromkeys(("labels", "contrasts", "factors"), dict)
FORMS |= dict.fromkeys(("stages", "then", "seeds"), list)
FORMS |= dict.fromkeys(("$schema", "description", "label"), str)
"""What the value of a key has to be, for a key that is nearly right to count as it."""


def key_mistakes(raw: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Mistakes in the keys of the file and of its arms, and the file as it was probably meant.

    An unknown key counts as the one that it is near to, where that is missing, and is left out else, so
    that all other mistakes can be told together with it.
    """
    keys = [info.alias or name for name, info in ConfigFile.model_fields.items()]
    mistakes, meant = _meant(raw, keys, "")
    for key in ("$schema", "description"):
        if not isinstance(meant.get(key, ""), str):
            mistakes.append(f"{key}: expected a text, found {short(meant[key])}")
    if isinstance(meant.get("arms"), dict):
        arms = dict(meant["arms"])
        for arm, changes in arms.items():
            if isinstance(changes, dict):
                found, arms[arm] = _meant(changes, ARM_KEYS, f"arms.{arm}.")
                mistakes += found
        meant["arms"] = arms
    return mistakes, meant


def _meant(words: dict[str, Any], valid: list[str], prefix: str) -> tuple[list[str], dict[str, Any]]:
    """Mistakes in these keys, and the object with the keys that were meant."""
    mistakes, meant = [], {key: value for key, value in words.items() if key in valid}
    for key in [key for key in words if key not in valid]:
        hint = ": what takes a definition is a net, a stage or another part" if key == "use" else ""
        mistakes.append(f"{prefix}{key}: unknown key" + (hint or nearest(key, valid)))
        near = difflib.get_close_matches(key, valid, n=1, cutoff=0.8)
        if near and near[0] not in words and isinstance(words[key], FORMS.get(near[0], object)):
            meant[near[0]] = words[key]
    return mistakes, meant


def outline_mistakes(raw: dict[str, Any]) -> list[str]:
    """Mistakes in the form of sweep, arms and profiles, without which nothing else can be checked."""
    mistakes: list[str] = []
    for key in ("sweep", "arms", "profiles"):
        if not isinstance(raw.get(key, {}), dict):
            mistakes.append(f"{key}: expected an object, found {short(raw[key])}")
            continue
        for name, item in raw.get(key, {}).items():
            if not WORD.fullmatch(name):
                mistakes.append(f"{key}: expected a name of letters, digits and _, found {name!r}")
            if key == "sweep":
                mistakes += [f"sweep.{name}: {text}" for text in axis_mistakes(item)]
            elif not isinstance(item, dict):
                mistakes.append(f"{key}.{name}: expected an object, found {short(item)}")
            elif key == "arms" and not isinstance(item.get("then", []), list):
                found = short(item["then"])
                mistakes.append(f"arms.{name}.then: expected a list of stages, found {found}")
    if "arms" in raw and raw["arms"] == {}:
        mistakes.append("arms: expected at least one arm, found {}; leave the key out for none")
    if isinstance(raw.get("profiles"), dict) and FULL in raw["profiles"]:
        mistakes.append(f"profiles.{FULL}: this name means the config as it stands; choose another")
    return mistakes


def axis_mistakes(values: Any) -> list[str]:
    """Mistakes of one axis of the sweep."""
    if not isinstance(values, list) or not values:
        return [f"expected a list of at least one value, found {short(values)}"]
    texts = [json.dumps(whole(value), sort_keys=True) for value in values]
    twice = sorted({text for text in texts if texts.count(text) > 1})
    return [f"{text} stands twice; keep one" for text in twice]
