"""The JSON Schema of a config file, which lets an editor complete and check one while it is being written."""

import json
from typing import Any, get_args

from ..foundations.files import ROOT
from ..methods.stage_settings import AnyStage
from .meaning import ArmMeaning, Meaning
from .schema import ConfigFile

SCHEMA_PATH = ROOT / "configs" / "schema.json"


def write_schema() -> None:
    """Write configs/schema.json anew."""
    SCHEMA_PATH.write_text(json.dumps(json_schema(), indent=2) + "\n")


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config file, in which every value may also be "$axis"."""
    schema = ConfigFile.model_json_schema(by_alias=True)
    free = {"$schema", "description", "define", "sweep", "arms", "profiles", "seeds", "type", "name"}
    free |= set(Meaning.model_fields)
    read = {name: schema["$defs"].pop(name) for name in ("AxisLabels", "Contrast")}
    for model in [schema, *schema["$defs"].values()]:
        for key, field in model.get("properties", {}).items():
            if key not in free:
                about = {name: field.pop(name) for name in ("description", "default") if name in field}
                model["properties"][key] = _or_axis(field) | about
    # An arm may bring what the file as a whole leaves out.
    schema["required"] = []
    about = "Name of a definition: objects merge with it, null takes a key away. Not in profiles."
    use = {"properties": {"use": {"type": "string", "description": about}}, "required": ["use"]}
    part, fields = {"$ref": "#/$defs/Part"}, schema["properties"]
    schema["$defs"] |= {"Arm": _arm(schema), "Part": _part(schema), "Use": part | use} | read
    lists = [schema["$defs"]["NetConfig"]["properties"]["layers"], fields["stages"]]
    fields["define"]["additionalProperties"] = {"anyOf": [part, *(words["anyOf"][0] for words in lists)]}
    fields["arms"]["additionalProperties"] = {"$ref": "#/$defs/Arm"}
    labels = fields["labels"]
    labels["additionalProperties"] = {"anyOf": [{"type": "string"}, labels["additionalProperties"]]}
    return schema


def _arm(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an arm: parts of the file's data and network, and stages in place of its own or after."""
    fields, models = schema["properties"], schema["$defs"]
    parts = {}
    for key, model in (("data", "DataConfig"), ("net", "NetConfig")):
        parts[key] = {word: value for word, value in models[model].items() if word != "required"}
    parts["net"] = {"anyOf": [parts["net"], {"$ref": "#/$defs/Use"}]}
    then = fields["stages"] | {"description": "Stages after those of the file."}
    parts |= ArmMeaning.model_json_schema()["properties"]
    parts |= {"seeds": fields["seeds"], "stages": fields["stages"], "then": then}
    return {"type": "object", "properties": parts, "additionalProperties": False}


def _part(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a definition, and of what a use changes in it: any words of a net or of one stage."""
    options = []
    for name in ("NetConfig", "RepeatStage", *(model.__name__ for model in get_args(AnyStage))):
        place, words = f"#/$defs/{name}/properties", schema["$defs"][name]["properties"]
        options.append({"properties": {word: {"$ref": f"{place}/{word}"} for word in words}})
    return {"type": "object", "anyOf": options}


def _or_axis(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field, of a list's items or of a dict's values, or in its place "$axis" or a use."""
    forms = [field, *field.get("anyOf", [])]
    for option in [*forms, *(inner for form in forms for inner in form.get("oneOf", []))]:
        for inner in ("items", "additionalProperties"):
            if isinstance(option.get(inner), dict):
                option[inner] = _or_axis(option[inner])
    use = [{"$ref": "#/$defs/Use"}] if "$ref" in json.dumps(field) else []
    return {"anyOf": [field, {"type": "string", "pattern": r"^\$[A-Za-z_][A-Za-z0-9_]*$"}, *use]}
