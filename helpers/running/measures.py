"""What is recorded of a stage's result: one row, and small arrays from which figures can be drawn."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..foundations.data import Dataset
from ..foundations.selecting import Selection
from ..masked_body_builder import MaskedBodyBuilder
from ..methods.compaction import alive_units, effective_cost
from ..methods.distillation import TrainedNetwork, fidelity
from ..methods.evaluation import evaluate
from ..stages.state import State

WRONG_SAMPLES = 100
"""How many misclassified test samples a record keeps: enough to look at."""

MASK_WEIGHTS, MASK_SPARSITY = 2**19, 0.75
"""A rewound network's masks are recorded where it has at most so many weights, and so many of them are
pruned: a few kilobytes each."""

HISTOGRAM_EDGES = np.linspace(-0.3, 0.3, 121)
"""Bins of the weight histograms; the outermost two hold the tails as well."""


def measure(state: State) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One row of results and the arrays that a record keeps; see `columns.DESCRIPTIONS`."""
    network, dataset = state.network, state.dataset
    validation = evaluate(network, dataset.validation, state.precision)
    test = evaluate(network, dataset.test, state.precision)
    cost = effective_cost(network)
    row = {
        "status": state.status,
        "val_loss": validation.loss,
        "val_accuracy": validation.accuracy,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "test_errors": test.errors,
        "sparsity": network.sparsity(),
        "sparsity_all": network.sparsity(include_logits=True),
        "effective_sparsity": cost.sparsity,
        "unit_sparsity": network.unit_sparsity("unit"),
        "filter_sparsity": network.unit_sparsity("filter"),
        "params": cost.params,
        "macs": cost.macs,
        "epochs": state.epochs,
        "train_flops": state.train_flops,
        "wall_s": state.wall_s,
    }
    if not math.isnan(state.compact_difference):
        row["compact_difference"] = state.compact_difference
    if state.teacher_logits is not None:
        was_training = network.training
        student = TrainedNetwork(network.eval(), dataset.mean, dataset.std, state.precision)
        found = fidelity(student, state.teacher_logits.teachers, dataset.test, dataset)
        network.train(was_training)
        row |= {f"teacher_{name}": value for name, value in found._asdict().items()}
    return row, _arrays(network, dataset, test.predictions) | _ticket(state)


def _arrays(network: MaskedBodyBuilder, dataset: Dataset, predictions: Tensor) -> dict[str, np.ndarray]:
    """Small arrays, so that every figure can be drawn from a log alone."""
    labels = dataset.test.labels.cpu()
    wrong = (predictions != labels).nonzero().flatten()[:WRONG_SAMPLES]
    pairs = (labels * dataset.classes + predictions).bincount(minlength=dataset.classes**2)
    layers, alive = network.weighted(), alive_units(network)
    arrays = {
        "confusion": pairs.view(dataset.classes, -1).to(torch.int32).numpy(),
        "wrong_index": wrong.to(torch.int32).numpy(),
        "wrong_prediction": predictions[wrong].to(torch.int8).numpy(),
        "layer_names": np.array([name.encode() for name in layers]),
        "keep_by_layer": np.array(list(network.keep_rates().values())),
        "alive_by_layer": np.array([int(alive[name][1].sum()) for name in layers], np.int32),
        "weight_histogram": np.stack(
            [_histogram(layer.weight.detach()[layer.weight_mask]) for layer in layers.values()]
        ),
        "histogram_edges": HISTOGRAM_EDGES,
    }
    first = next(iter(layers.values()))
    if first.weight.dim() > 2:
        arrays["first_filters"] = first.weight.detach().contiguous().cpu().numpy()
    elif (pixels := _input_map(network, first)) is not None:
        arrays["input_map"] = pixels.cpu().numpy()
    return arrays


def _input_map(network: MaskedBodyBuilder, first: torch.nn.Module) -> Tensor | None:
    """Share of first-layer weights that each pixel keeps, [C, H, W]; None where the layer reads no pixels."""
    shape = network.shapes[0].input_shape
    pixels, units = torch.zeros(math.prod(shape)), network.full[next(iter(network.weighted()))].units
    before = itertools.takewhile(lambda item: item[1] is not first, network.layers.items())
    selects = [module.index for _, module in before if isinstance(module, Selection)]
    index = (
        selects[0].cpu() if selects and len(selects[0]) == first.in_features else torch.arange(len(pixels))
    )
    if len(index) != first.in_features:
        return None
    pixels[index] = first.weight_mask.float().sum(0).cpu() / units
    return pixels.view(shape)


def _ticket(state: State) -> dict[str, np.ndarray]:
    """What a network just rewound tells of its masks; nothing after other stages."""
    layers = state.network.weighted()
    if not state.same_sign:
        return {}
    left_out = [state.unpruned[f"layers.{name}.weight"][~layer.weight_mask] for name, layer in layers.items()]
    arrays = {
        "same_sign_by_layer": np.array(list(state.same_sign.values())),
        "pruned_histogram": np.stack([_histogram(weights) for weights in left_out]),
        "weights_by_layer": np.array([layer.weight_mask.numel() for layer in layers.values()], np.int32),
    }
    masks = torch.cat([layer.weight_mask.flatten() for layer in layers.values()])
    if len(masks) <= MASK_WEIGHTS and masks.float().mean() <= 1 - MASK_SPARSITY:
        arrays["mask_bits"] = np.packbits(masks.cpu().numpy())
    return arrays


def _histogram(weights: Tensor) -> np.ndarray:
    """Weights by bin, [bins] int32."""
    low, high = HISTOGRAM_EDGES[[0, -1]]
    return np.histogram(weights.cpu().numpy().clip(low, high), HISTOGRAM_EDGES)[0].astype(np.int32)
