"""Every mistake in a config in one line: where, what was expected, what was found, nearest valid name."""

import difflib
import json
import re
from functools import cache
from typing import Any

from pydantic import ValidationError

from .config import PruneAmount, PruneWords, Ramp, RewindStep, Sentence, TrainStage
from .config_parts import DATASETS
from .sentence import Loc, Step, expand_repeats, prune_words, ramp_events, step_count
from .shapes import ShapeError, layer_names, layer_shapes, prunable_names

_ALL, _UNITS = ("weight", "unit", "filter"), ("unit", "filter")
CRITERION_KINDS = {
    "magnitude": _ALL,
    "l1": _UNITS,
    "in_out": _UNITS,
    "wanda": ("weight",),
    "contribution": _ALL,
    "apoz": _UNITS,
    "taylor": _ALL,
    "obd": ("weight",),
    "random": _ALL,
    "shuffle": _ALL,
}
"""What each criterion can rank."""


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


def validation_mistakes(error: ValidationError) -> list[tuple[Loc, str]]:
    """Place and message of every mistake that pydantic found in a sentence."""
    items = error.errors(include_url=False)
    return [_mistake(item) for item in items if not _is_other_option(item)]


def _is_other_option(item: dict[str, Any]) -> bool:
    """Whether a word or an object may stand there, and this is about the one that does not."""
    tag = str(item["loc"][-1]) if item["loc"] else ""
    is_word = isinstance(item["input"], str)
    return (tag.startswith("literal[") and not is_word) or (tag.startswith("dict[") and is_word)


@cache
def _schema() -> dict[str, Any]:
    """Schema of a sentence: tells the tags of unions in an error's location from keys."""
    return Sentence.model_json_schema()


def _walk(loc: Loc) -> tuple[Loc, dict[str, Any]]:
    """The location without union tags, and the part of the schema that it leads to."""
    schema = _schema()
    defs, path = schema["$defs"], []

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = defs[node["$ref"].rsplit("/", 1)[1]]
        return node

    node = schema
    for part in loc:
        node = resolve(node)
        for option in node.get("anyOf", []):
            if (isinstance(part, int) and "items" in resolve(option)) or "additionalProperties" in resolve(
                option
            ):
                node = resolve(option)
        if "discriminator" in node:
            node = resolve({"$ref": node["discriminator"]["mapping"][part]})
            continue
        if isinstance(part, str) and part.startswith(("dict[", "literal[", "list[")):
            continue
        path.append(part)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            extra = node.get("additionalProperties")
            node = node.get("properties", {}).get(part, extra if isinstance(extra, dict) else node)
    return tuple(path), resolve(node)


def _mistake(item: dict[str, Any]) -> tuple[Loc, str]:
    """One pydantic error as a place and a message."""
    kind, found, context = item["type"], item["input"], item.get("ctx", {})
    loc, node = _walk(item["loc"])
    if kind == "extra_forbidden":
        owner = _walk(item["loc"][:-1])[1]
        return loc, "unknown key" + nearest(loc[-1], list(owner.get("properties", {})))
    if kind == "missing":
        return loc, "is missing" + (f" ({node['description']})" if "description" in node else "")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        valid = [tag.strip(" '") for tag in context.get("expected_tags", "").split(",") if tag]
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
    message = message.replace("String should", "expected to").replace("List should have", "expected")
    message = re.sub(r" after validation, not \d+| or (instance of|object to extract fields).*", "", message)
    return loc, f"{message}, found {short(found)}"


def short(value: Any) -> str:
    """A value as the file has it, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def cross_mistakes(sentence: Sentence) -> list[tuple[Loc, str]]:
    """Mistakes between fields that are each valid: shapes that do not fit, stages that cannot act."""
    mistakes: list[tuple[Loc, str]] = []
    data, size = sentence.data, DATASETS[sentence.data.dataset][2]
    if data.validation_size >= size:
        mistakes.append(
            (
                ("data", "validation_size"),
                f"expected less than the {size} training images, found {data.validation_size}",
            )
        )
    elif (data.train_size or 1) > size - data.validation_size:
        left = size - data.validation_size
        mistakes.append(
            (
                ("data", "train_size"),
                f"expected at most the {left} that validation leaves, found {data.train_size}",
            )
        )
    try:
        layer_shapes(sentence.net, sentence.data.dataset)
    except ShapeError as error:
        place = ("net", "layers", error.index)
        return [*mistakes, ((*place, error.field) if error.field else place, str(error))]
    last = len(sentence.net.layers) - 1
    activation = sentence.net.layers[last].activation
    if activation not in (None, "identity"):
        text = f"expected none after the logits, found {activation!r}"
        mistakes.append((("net", "layers", last, "activation"), text))
    images = data.train_size or max(size - data.validation_size, 0)
    normalised = any(layer.type == "batch_norm" for layer in sentence.net.layers)
    steps = expand_repeats(sentence.stages)
    reached: dict[tuple[str, str], float] = {}
    for step in steps:
        words = prune_words(step.stage)
        if words is not None:
            place = (*step.loc, "ramp") if isinstance(words, Ramp) else step.loc
            found = _prune_mistakes(sentence, words, reached, images)
            mistakes += [((*place, *where), text) for where, text in found]
        if isinstance(step.stage, TrainStage):
            mistakes += [
                ((*step.loc, *where), text) for where, text in _train_mistakes(step.stage, images, normalised)
            ]
        elif step.stage.type == "refit" and step.stage.samples > images:
            text = f"expected at most the {images} training images, found {step.stage.samples}"
            mistakes.append(((*step.loc, "samples"), text))
    return list(dict.fromkeys(mistakes + _order_mistakes(steps, images)))


def _train_mistakes(stage: TrainStage, images: int, normalised: bool) -> list[tuple[Loc, str]]:
    """Mistakes of one train stage."""
    if normalised and images % stage.batch_size == 1:
        text = f"expected a last batch of more than one image for batch_norm; {images} images leave one"
        return [(("batch_size",), text)]
    steps = step_count(stage, images)
    if stage.ramp is not None and steps and not ramp_events(stage.ramp, steps):
        text = f"expected at most {min(int(stage.ramp.end * steps), steps - 1)}, or nothing is pruned in {steps} steps"
        return [(("ramp", "every"), f"{text}; found {stage.ramp.every}")]
    return []


def _order_mistakes(steps: list[Step], images: int) -> list[tuple[Loc, str]]:
    """Stages that stand where they cannot act."""
    mistakes: list[tuple[Loc, str]] = []
    first: TrainStage | None = None
    compacted = compacted_since_train = False
    resumed: int | None = None
    for step in steps:
        stage = step.stage
        if stage.type == "train":
            if resumed is not None and resumed >= step_count(stage, images):
                text = f"expected more than the {resumed} steps of the rewind before it, found {step_count(stage, images)}"
                mistakes.append(((*step.loc, "epochs" if stage.steps is None else "steps"), text))
            first, compacted_since_train, resumed = first or stage, False, None
        elif stage.type == "compact":
            compacted = compacted_since_train = True
        elif stage.type == "refit" and compacted_since_train:
            text = "'refit' fits to the dense network, and 'compact' has changed its shape: put refit before compact"
            mistakes.append(((*step.loc, "type"), text))
        elif stage.type == "rewind":
            if compacted and stage.to != "fresh":
                text = "after 'compact' only 'fresh' fits: earlier weights are of another shape"
                mistakes.append(((*step.loc, "to"), text))
            elif isinstance(stage.to, RewindStep):
                limit = 0 if first is None else step_count(first, images)
                if stage.to.step > limit:
                    what = f"the first training has {limit}" if first else "no training comes before"
                    text = f"expected at most {limit} ({what}), found {stage.to.step}"
                    mistakes.append(((*step.loc, "to", "step"), text))
                resumed = stage.to.step
    return mistakes


def _activation(sentence: Sentence, name: str) -> str:
    """The config's word for the activation of a layer with weights."""
    layer = sentence.net.layers[layer_names(sentence.net).index(name)]
    return layer.activation or sentence.net.activation


def _prune_mistakes(
    sentence: Sentence, stage: PruneWords, reached: dict[tuple[str, str], float], images: int
) -> list[tuple[Loc, str]]:
    """Mistakes of one prune stage or ramp; `reached`: what earlier stages asked for, by kind and layer."""
    names, logits = prunable_names(sentence.net, stage.kind)
    mistakes: list[tuple[Loc, str]] = []
    if stage.kind not in CRITERION_KINDS[stage.criterion]:
        fitting = [word for word, kinds in CRITERION_KINDS.items() if stage.kind in kinds]
        text = f"{stage.criterion!r} does not rank {stage.kind}s; expected one of {', '.join(map(repr, fitting))}"
        mistakes.append((("criterion",), text))
    if stage.criterion == "apoz" and any(_activation(sentence, name) != "relu" for name in names):
        text = "'apoz' counts activations that are exactly 0: it needs the activation 'relu'"
        mistakes.append((("criterion",), text))
    if stage.samples > images and "samples" in stage.model_fields_set:
        text = f"expected at most the {images} training images, found {stage.samples}"
        mistakes.append((("samples",), text))
    if stage.kind == "filter" and not any(layer.type == "conv2d" for layer in sentence.net.layers):
        return [(("kind",), "'filter' needs a conv2d layer, and this net has none")]
    if stage.kind == "unit" and not names:
        return [(("kind",), "'unit' needs a linear layer before the logits, and this net has none")]
    if stage.kind == "weight" and not names and not stage.layers:
        return [(("kind",), f"expected 'layers' to name {logits!r}: this net has no other layer to prune")]
    overrides = {} if stage.layers == "all" else stage.layers
    for name in overrides:
        valid = names + ([logits] if stage.kind == "weight" else [])
        if name == logits and stage.kind != "weight":
            mistakes.append(
                (("layers", name), f"the units of the logits layer are the classes: no {stage.kind} pruning")
            )
        elif name not in layer_names(sentence.net):
            mistakes.append((("layers", name), "unknown layer" + nearest(name, valid)))
        elif name not in valid:
            mistakes.append(
                (("layers", name), f"{stage.kind} pruning does not act here; it acts on {', '.join(valid)}")
            )
    if stage.layers == "all" and stage.kind != "weight":
        mistakes.append(
            (("layers",), f"the units of the logits layer are the classes: no {stage.kind} pruning of 'all'")
        )
    for name in [*names, logits]:
        own = name in overrides and overrides[name] != PruneAmount()
        amount = overrides[name] if own else stage
        if amount.sparsity is None or (stage.scope == "global" and not own):
            continue
        if name == logits and not (stage.layers == "all" or logits in overrides):
            continue
        before = reached.get((stage.kind, name), 0.0)
        if amount.sparsity < before:
            place = ("layers", name, "sparsity") if own else ("sparsity",)
            text = f"expected at least {before:g}, which an earlier stage pruned, found {amount.sparsity:g}"
            mistakes += [(place, text)] if (place, text) not in mistakes else []
            continue
        reached[stage.kind, name] = amount.sparsity
        if stage.kind != "weight":
            # A pruned unit takes its weights with it.
            layer = sentence.net.layers[layer_names(sentence.net).index(name)]
            units = layer.units if layer.type == "linear" else layer.filters
            share = round(amount.sparsity * units) / units
            reached["weight", name] = max(share, reached.get(("weight", name), 0.0))
    return mistakes
