"""Every mistake in a config in one line: where, what was expected, what was found, nearest valid name."""

import difflib
import json
import re
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from ..foundations.datasets import OWN
from ..foundations.settings import Loc
from .schema import RunSpec

UNION_TAGS = ("dict[", "literal[", "list[", "constrained-str")
"""How pydantic's names of the forms that a field may have begin; they are no keys."""


def path_text(loc: Loc) -> str:
    """("net", "layers", 3, "units") → "net.layers[3].units"."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(word: Any, valid: list[str]) -> str:
    """'; did you mean …?' where a valid name is near, else the valid names."""
    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of {', '.join(map(repr, valid))}" if valid else ""


def validation_mistakes(error: ValidationError, model: type[BaseModel] = RunSpec) -> list[tuple[Loc, str]]:
    """Place and message of every mistake that pydantic found in what should be such a model."""
    items, schema = error.errors(include_url=False), _schema(model)
    return [_mistake(item, schema) for item in items if not _is_other_option(item, schema)]


def _is_other_option(item: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether a word or an object may stand there, and this is about the one that does not."""
    loc = [str(part) for part in item["loc"]]
    tag, is_word = loc[-1] if loc else "", isinstance(item["input"], str)
    is_model = item["type"] == "model_type" and tag in schema["$defs"] and not loc[-2].startswith("dict[")
    is_other = tag.startswith("literal[") and (not is_word or item["input"].endswith(OWN))
    is_other |= tag == "constrained-str" and is_word and not item["input"].endswith(OWN)
    return is_other or ((tag.startswith("dict[") or is_model) and is_word)


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Schema of a model: tells the tags of unions in an error's location from keys."""
    return model.model_json_schema()


def _walk(loc: Loc, schema: dict[str, Any]) -> tuple[Loc, dict[str, Any]]:
    """The location without union tags, and the part of the schema that it leads to."""
    defs, path = schema["$defs"], []

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = defs[node["$ref"].rsplit("/", 1)[1]]
        return node

    node = schema
    for part in loc:
        node = resolve(node)
        options = {str(option.get("$ref")).rsplit("/", 1)[-1] for option in node.get("anyOf", [])}
        for option in node.get("anyOf", []):
            if (isinstance(part, int) and "items" in resolve(option)) or "additionalProperties" in resolve(
                option
            ):
                node = resolve(option)
        if "discriminator" in node:
            node = resolve({"$ref": node["discriminator"]["mapping"][part]})
            continue
        if (
            isinstance(part, str) and " " in part
        ):  # our own tag, which tells an object, a list and a text apart
            wanted = "items" if part.startswith("several") else "$ref"
            forms = [*node.get("oneOf", []), *(f for o in node.get("anyOf", []) for f in o.get("oneOf", [o]))]
            node = next((form for form in forms if wanted in form), node)
            continue
        if isinstance(part, str) and (part in options or part.startswith(UNION_TAGS)):
            continue
        path.append(part)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            extra = node.get("additionalProperties")
            node = node.get("properties", {}).get(part, extra if isinstance(extra, dict) else node)
    return tuple(path), resolve(node)


def _mistake(item: dict[str, Any], schema: dict[str, Any]) -> tuple[Loc, str]:
    """One pydantic error as a place and a message."""
    kind, found, context = item["type"], item["input"], item.get("ctx", {})
    loc, node = _walk(item["loc"], schema)
    if kind == "extra_forbidden":
        return loc, "unknown key" + nearest(loc[-1], list(node.get("properties", {})))
    if kind == "missing":
        return loc, "is missing" + (f" ({node['description']})" if "description" in node else "")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        valid = [tag.strip(" '") for tag in context.get("expected_tags", "").split(",") if tag]
        valid = valid or sorted(node.get("discriminator", {}).get("mapping", {}))
        if kind == "union_tag_not_found":
            return (*loc, "type"), "is missing" + (f"; expected one of {valid}" if valid else "")
        return (*loc, "type"), f"unknown {context['tag']!r}" + nearest(context["tag"], valid)
    if kind == "literal_error":
        valid = [word.strip(" '") for word in context["expected"].replace(" or ", ", ").split(",")]
        return loc, f"unknown {found!r}" + nearest(found, valid) if isinstance(found, str) else (
            f"expected one of {', '.join(map(repr, valid))}, found {short(found)}"
        )
    if kind == "value_error":
        return loc, str(context["error"])
    message = (
        item["msg"]
        .replace("Input should be a valid", "expected a valid")
        .replace("Input should be", "expected")
    )
    message = (
        message.replace("a valid dictionary", "an object")
        .replace("String should", "expected to")
        .replace("List should have", "expected")
    )
    message = re.sub(r" after validation, not \d+| or (instance of|object to extract fields).*", "", message)
    above_one = kind == "less_than_equal" and context.get("le") == 1
    hint = "; a share is meant, not percent" if above_one else ""
    return loc, f"{message}, found {short(found)}{hint}"


def short(value: Any) -> str:
    """A value as the file has it, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
