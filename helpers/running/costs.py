"""About how many seconds a task takes: what the progress bar counts, and what decides where it is done."""

import math

import torch

from ..foundations.datasets import training_images
from ..foundations.nets import LayerShape, layer_shapes
from ..foundations.numerics import best_device
from ..methods.evaluation import actual_precision
from ..methods.gauss_newton import ITERATIONS
from ..methods.stage_settings import AnyStage, step_count
from .tasks import Task

ATTEMPTS = 3
"""How often a task may fail, or its worker die, before it is recorded as failed."""

MACS_PER_S = 4e10
"""Multiply-accumulates of one core in float32, measured on large layers; small ones wait for the steps."""

STEP_S, STAGE_S = 4e-4, 0.05
"""Seconds of a gradient step, and of a stage with its measuring, beside their products."""

STARTING_S = 3.5
"""Seconds until workers of our own have started and loaded what they need."""

BFLOAT16 = 0.3
"""Its products, in shares of the time that float32 takes."""


def seconds_of(task: Task) -> list[float]:
    """Of each stage that the task runs, measuring it included."""
    images = training_images(task.data)
    shapes = [shape for shape in layer_shapes(task.net, task.data.dataset) if shape.macs]
    return [_stage_seconds(stage, images, shapes) for stage in task.stages[task.first :]]


def _stage_seconds(stage: AnyStage, images: int, shapes: list[LayerShape]) -> float:
    """Of one stage on so many training images; `shapes` are the layers with products."""
    macs, steps = sum(shape.macs for shape in shapes), 0
    products = 15_000.0 * macs  # validation and test
    if stage.type == "train":
        steps, device = step_count(stage, images), torch.device(best_device())
        is_faster = actual_precision(device, stage.precision) == "bfloat16"
        products += 3 * steps * stage.batch_size * macs * (BFLOAT16 if is_faster else 1)
    elif stage.type == "rewind" and stage.to not in ("init", "fresh"):
        steps = stage.to.step  # the first training up to there, at about its batch size
        products += 3 * steps * 128 * macs
    elif stage.type == "compact":
        products += 20_000 * macs
    elif stage.type == "refit" and stage.mode == "full":
        products += sum(_fit_cost(shape, stage.samples) for shape in shapes)
    elif stage.type == "refit" and stage.mode == "logits":
        products += 5 * ITERATIONS * min(stage.samples, images) * macs
    elif stage.type == "reconstruct":
        seen = min(stage.samples, images)
        products += (3 + 2 * stage.rounds) * seen * macs
        products += sum(_fit_cost(shape, seen) + _choice_cost(shape, stage.sparsity) for shape in shapes)
    return products / MACS_PER_S + steps * STEP_S + STAGE_S


def _fit_cost(shape: LayerShape, samples: int) -> float:
    """Moments of a layer's inputs, and a factorisation a unit with half of them."""
    outputs = shape.output_shape[0]
    places = math.prod(shape.output_shape[1:])
    inputs = shape.macs / outputs / places
    return samples * places * inputs**2 + outputs * (inputs / 2) ** 3 / 6


def _choice_cost(shape: LayerShape, sparsity: float) -> float:
    """Forward selection: each unit's inputs made orthonormal to those it has, about twice, in float64."""
    outputs = shape.output_shape[0]
    inputs = shape.macs / outputs / math.prod(shape.output_shape[1:])
    return 8 * outputs * inputs * ((1 - sparsity) * inputs) ** 2


def longest_chain(tasks: list[Task], seconds: dict[str, float]) -> float:
    """Seconds that the tasks take with any number of workers: each comes after those that it needs."""
    ends: dict[str, float] = {}
    for task in tasks:
        ends[task.key] = seconds[task.key] + max((ends.get(key, 0.0) for key in task.needs), default=0.0)
    return max(ends.values(), default=0.0)
