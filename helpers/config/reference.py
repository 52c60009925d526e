"""Reference tables of a config, made of what exists: stages, layers, optimizers, criteria, fields."""

import json
from collections.abc import Collection
from typing import Any, get_args

from pydantic import BaseModel

from ..foundations.datasets import DATASETS, DataConfig
from ..foundations.layers import Layer
from ..foundations.markdown import table
from ..foundations.nets import NetConfig
from ..foundations.optimizers import Optimizer, Schedule
from ..methods.criteria import CRITERIA
from ..methods.prune_settings import PruneSettings, Ramp
from ..methods.stage_settings import AnyStage, RepeatStage, StageBase, Teacher
from .meaning import ArmMeaning, Contrast
from .schema import ConfigFile

NAMED = {"Teacher": "teacher", "Ramp": "ramp", "PruneAmount": "`sparsity` or `rate`", "Contrast": "contrast"}
"""What a field's own object is called, where a table or a sentence beside it has the rest."""

ELSEWHERE = {"criterion": "The score: see the criteria below."}
"""Fields whose description, which editors show, is a table of its own."""


def reference_tables() -> dict[str, str]:
    """Markdown by the name of each table."""
    stages = [*get_args(AnyStage), RepeatStage]
    shared = set(StageBase.model_fields)
    tables = {
        "file": fields_table(ConfigFile),
        "arm": fields_table(ArmMeaning),
        "contrast": fields_table(Contrast),
        "data": fields_table(DataConfig),
        "datasets": _datasets(),
        "net": fields_table(NetConfig),
        "layers": _types(get_args(get_args(Layer)[0])),
        "stages": table(
            ["stage", "what it does"], [[f"`{_type(model)}`", _about(model)] for model in stages]
        ),
        "optimizers": _types(get_args(get_args(Optimizer)[0])),
        "schedules": _types(get_args(get_args(Schedule)[0])),
        "teacher": fields_table(Teacher),
        "ramp": fields_table(Ramp, set(PruneSettings.model_fields)),
        "criteria": _criteria(),
    }
    with_fields = [model for model in stages if set(model.model_fields) - shared - {"type"}]
    return tables | {f"stage_{_type(model)}": fields_table(model, shared) for model in with_fields}


def fields_table(model: type[BaseModel], without: Collection[str] = ()) -> str:
    """A row a field: its values, its default and what it means."""
    schema, rows = model.model_json_schema(by_alias=True), []
    for name, field in schema["properties"].items():
        if name not in {*without, "type", "$schema"}:
            is_needed = name in schema.get("required", [])
            default = "required" if is_needed else _default(field.get("default"))
            about = ELSEWHERE.get(name, field.get("description", ""))
            rows.append([f"`{name}`", _values(field), default, about])
    return table(["field", "values", "default", "meaning"], rows)


def _types(models: tuple[type[BaseModel], ...]) -> str:
    """A row a type: its fields with their defaults, and what it is."""
    rows = []
    for model in models:
        schema = model.model_json_schema()
        fields = []
        for name, field in schema["properties"].items():
            if name not in ("type", "name"):
                default = _default(field.get("default")) or "optional"
                told = "required" if name in schema["required"] else default
                fields.append(f"`{name}` ({told}): {field.get('description', '')}")
        rows.append([f"`{_type(model)}`", _about(model), "<br>".join(fields)])
    return table(["type", "what it is", "fields (default)"], rows)


def _criteria() -> str:
    """A row a criterion."""
    rows = []
    for name, found in CRITERIA.items():
        reads = "yes" if found.reads_images else ""
        rows.append([f"`{name}`", ", ".join(found.kinds), reads, found.activation or "", found.about])
    return table(["criterion", "ranks", "reads images", "needs", "the lowest go first"], rows)


def _datasets() -> str:
    """A row a data set."""
    rows = [
        [f"`{name}`", " × ".join(map(str, shape)), str(classes), f"{images:,}"]
        for name, (shape, classes, images) in DATASETS.items()
    ]
    return table(["data set", "channels × height × width", "classes", "training images"], rows)


def _values(field: dict[str, Any]) -> str:
    """What a field may be, in words, from its JSON Schema."""
    if "$ref" in field:
        return NAMED.get(field["$ref"].split("/")[-1], "object")
    for union in ("anyOf", "oneOf"):
        if union in field:
            options = [_values(option) for option in field[union] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(options))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return "list"
    noun = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    return " ".join([noun.get(field.get("type"), "object"), *_bounds(field)])


def _bounds(field: dict[str, Any]) -> list[str]:
    """The tightest bounds of a number, in signs; not those that only keep it within 64 bits."""
    found = []
    for end, open_end, sign, open_sign in (
        ("minimum", "exclusiveMinimum", "≥", ">"),
        ("maximum", "exclusiveMaximum", "≤", "<"),
    ):
        closed, opened = field.get(end), field.get(open_end)
        if opened is not None and (closed is None or abs(opened - closed) < 1e-9):
            found.append("" if opened >= 2**63 else f"{open_sign} {opened:g}")
        elif closed is not None:
            found.append(f"{sign} {closed:g}")
    return [text for text in found if text]


def _default(value: Any) -> str:
    """A default as a config would say it; nothing where leaving it out has a meaning of its own."""
    if isinstance(value, dict) and "type" in value:
        return f"`{value['type']}`"
    return "" if value in (None, {}, "", []) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(model: type[BaseModel]) -> str:
    """The config's word for a type."""
    return model.model_json_schema()["properties"]["type"]["const"]


def _about(model: type[BaseModel]) -> str:
    """What a type is: its docstring's first paragraph."""
    return " ".join(model.__doc__.split("\n\n")[0].split())
