"""Mistakes between valid fields of a config: shapes that do not fit, stages that cannot act."""

import math

from ..foundations.datasets import dataset_info
from ..foundations.layers import ShapeError
from ..foundations.nets import layer_names, layer_shapes, prunable_names
from ..foundations.settings import Loc
from ..methods.criteria import CRITERIA
from ..methods.prune_settings import Ramp
from ..methods.stage_settings import (
    Pruning,
    ReconstructStage,
    RefitStage,
    RewindStep,
    TrainStage,
    prune_settings_of,
    ramp_events,
    step_count,
)
from .hashing import Step, expand_repeats
from .messages import nearest
from .prune_bounds import PruneBounds
from .schema import RunSpec


def cross_mistakes(spec: RunSpec) -> list[tuple[Loc, str]]:
    """Mistakes between fields that are each valid: shapes that do not fit, stages that cannot act."""
    mistakes: list[tuple[Loc, str]] = []
    data, size = spec.data, dataset_info(spec.data.dataset).images
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
        layer_shapes(spec.net, spec.data.dataset)
    except ShapeError as error:
        place = ("net", "layers", error.index)
        return [*mistakes, ((*place, error.field) if error.field else place, str(error))]
    last = len(spec.net.layers) - 1
    activation = spec.net.layers[last].activation
    if activation not in (None, "identity"):
        text = f"expected none after the logits, found {activation!r}"
        mistakes.append((("net", "layers", last, "activation"), text))
    images = data.train_size or max(size - data.validation_size, 0)
    shapes = layer_shapes(spec.net, data.dataset)
    places = [math.prod(shape.input_shape[1:]) for shape in shapes if shape.type == "batch_norm"]
    steps = expand_repeats(spec.stages)
    pruned = PruneBounds(spec.net, shapes)
    for step in steps:
        settings = prune_settings_of(step.stage)
        if settings is not None:
            place = (*step.loc, "ramp") if isinstance(settings, Ramp) else step.loc
            found = _prune_mistakes(spec, settings, images) or pruned.prune(settings)
            mistakes += [((*place, *where), text) for where, text in found]
        elif step.stage.type == "compact":
            pruned.is_compacted = True
        if isinstance(step.stage, TrainStage):
            found = _train_mistakes(step.stage, images, min(places, default=2))
            mistakes += [((*step.loc, *where), text) for where, text in found]
        elif step.stage.type == "refit" and _reads_too_many(step.stage, images):
            text = f"expected at most the {images} training images, found {step.stage.samples}"
            mistakes.append(((*step.loc, "samples"), text))
    return list(dict.fromkeys(mistakes + _order_mistakes(steps, images)))


def _reads_too_many(stage: Pruning | RefitStage, images: int) -> bool:
    """Whether the config asks for more training images than there are; a default takes what there is."""
    return "samples" in stage.model_fields_set and stage.samples > images


def _train_mistakes(stage: TrainStage, images: int, places: int) -> list[tuple[Loc, str]]:
    """Mistakes of one train stage; `places`: values a channel and image, where there is a batch norm."""
    steps = step_count(stage, images)
    # As torch has it: batch_norm needs more than one value per channel.
    leaves_one = images % stage.batch_size == 1 and steps >= -(-images // stage.batch_size)
    if places == 1 and steps and (stage.batch_size == 1 or leaves_one):
        text = f"expected a last batch of more than one image for batch_norm; {images} images leave one"
        text = text if stage.batch_size > 1 else "expected at least 2 images a batch for batch_norm, found 1"
        if images == 1:
            text = "batch_norm needs more than one image: choose a larger data.train_size"
        return [(("batch_size",), text)]
    if stage.ramp is not None and not ramp_events(stage.ramp, steps):
        most = min(int(stage.ramp.end * steps + 1e-9), steps - 1)
        text = f"expected at most {most}, or nothing is pruned in {steps} steps; found {stage.ramp.every}"
        text = text if most > 0 else f"nothing is pruned in so few steps ({steps}); train longer"
        return [(("ramp", "every"), text)]
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
            count = step_count(stage, images)
            if resumed is not None and resumed >= count:
                text = f"expected more than the {resumed} steps of the rewind before it, found {count}"
                mistakes.append(((*step.loc, "epochs" if stage.steps is None else "steps"), text))
            last = ramp_events(stage.ramp, count) * stage.ramp.every if stage.ramp else 0
            if resumed is not None and 0 < last < resumed:
                text = f"the rewind before it enters at step {resumed}, when this ramp is over"
                mistakes.append(((*step.loc, "ramp", "end"), text))
            first, compacted_since_train, resumed = first or stage, False, None
        elif stage.type == "compact":
            compacted = compacted_since_train = True
        elif stage.fits_reference and compacted_since_train:
            text = "'compact' has changed the shape of the network to fit to"
            text += f": put {stage.type} before compact"
            mistakes.append(((*step.loc, "type"), text))
        elif stage.type == "prune" and stage.criterion == "shuffle" and compacted_since_train:
            text = "'compact' has removed the weights to bring back: put shuffle before compact"
            mistakes.append(((*step.loc, "criterion"), text))
        elif stage.type == "rewind":
            resumed = None
            if compacted and stage.to != "fresh":
                text = "after 'compact' only 'fresh' fits: earlier weights are of another shape"
                mistakes.append(((*step.loc, "to"), text))
            elif isinstance(stage.to, RewindStep):
                limit = 0 if first is None else step_count(first, images)
                if first is None or stage.to.step > limit:
                    text = f"expected at most {limit} (the first training has {limit}), found {stage.to.step}"
                    text = text if first else "no training comes before: only 'init' and 'fresh' fit here"
                    mistakes.append(((*step.loc, "to", "step"), text))
                resumed = stage.to.step
    return mistakes


def _activation(spec: RunSpec, name: str) -> str:
    """The config's word for the activation of a layer with weights."""
    layer = spec.net.layers[layer_names(spec.net).index(name)]
    return layer.activation or spec.net.activation


def _method_mistakes(spec: RunSpec, stage: Pruning, names: list[str]) -> list[tuple[Loc, str]]:
    """Where a stage asks for a way to choose, or to fit, that does not suit the net; `names` are pruned."""
    mistakes: list[tuple[Loc, str]] = []
    if isinstance(stage, ReconstructStage):
        layers = prunable_names(spec.net, "weight")[0]
        is_asked = "fit" in stage.model_fields_set and stage.fit == "rectified"
        if is_asked and all(_activation(spec, name) != "relu" for name in layers):
            text = "'rectified' is of what a ReLU reads, and this net has no activation 'relu': use 'linear'"
            mistakes.append((("fit",), text))
        return mistakes
    criterion = CRITERIA[stage.criterion]
    if stage.kind not in criterion.kinds:
        fitting = [name for name, other in CRITERIA.items() if stage.kind in other.kinds]
        text = f"{stage.criterion!r} does not rank {stage.kind}s" + nearest("", fitting)
        mistakes.append((("criterion",), text))
    needed = criterion.activation
    if needed is not None and any(_activation(spec, name) != needed for name in names):
        text = f"{stage.criterion!r} {criterion.because}: it needs the activation {needed!r}"
        mistakes.append((("criterion",), text))
    return mistakes


def _prune_mistakes(spec: RunSpec, stage: Pruning, images: int) -> list[tuple[Loc, str]]:
    """Mistakes of one stage that prunes, or of a ramp, whatever comes before it."""
    names, logits = prunable_names(spec.net, stage.kind)
    mistakes = _method_mistakes(spec, stage, names)
    if _reads_too_many(stage, images):
        text = f"expected at most the {images} training images, found {stage.samples}"
        mistakes.append((("samples",), text))
    if stage.kind == "filter" and not any(layer.type == "conv2d" for layer in spec.net.layers):
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
        elif name not in layer_names(spec.net):
            mistakes.append((("layers", name), "unknown layer" + nearest(name, valid)))
        elif name not in valid:
            mistakes.append(
                (("layers", name), f"{stage.kind} pruning does not act here; it acts on {', '.join(valid)}")
            )
    if stage.layers == "all" and stage.kind != "weight":
        mistakes.append(
            (("layers",), f"the units of the logits layer are the classes: no {stage.kind} pruning of 'all'")
        )
    return mistakes
