"""What a pruned network really costs: parameters and MACs that some input reaches and some output reads."""

from typing import NamedTuple

import torch
from torch import Tensor

from .masked_body_builder import MaskedBodyBuilder
from .shapes import WEIGHTED


class EffectiveCost(NamedTuple):
    """What is left of a network when everything dead is taken away."""

    params: int
    """Weights, biases and batch-norm parameters."""
    macs: int
    """Multiply-accumulates of one sample."""
    sparsity: float
    """Share of the prunable weights (all but the logits layer's) that is pruned or dead."""


def effective_cost(network: MaskedBodyBuilder) -> EffectiveCost:
    """Count what is alive: reached from the input through kept weights and read by an output.

    A unit that no input reaches emits a constant, which the next bias can take over (but for the
    padded border of a convolution, which does not see it); one that no output reads changes nothing.
    Convolutions, pooling and batch norm pass life on by channel, flatten from a channel to all its
    features.
    """
    alive = alive_units(network)
    params = macs = kept = total = 0
    for shape in network.shapes:
        inputs, outputs = alive[shape.name]
        if shape.type == "batch_norm":
            params += 2 * int(outputs.sum())
        if shape.type not in WEIGHTED:
            continue
        mask = network.layers[shape.name].weight_mask
        edge = (-1, *[1] * (mask.dim() - 1))
        weights = int((mask & outputs.view(edge) & inputs.view(1, *edge[:-1])).sum())
        params += weights + int(outputs.sum())
        macs += weights * shape.macs // mask.numel()
        if shape.name != network.logits_name:
            kept, total = kept + weights, total + mask.numel()
    return EffectiveCost(params, macs, 1 - kept / total if total else 0.0)


def alive_units(network: MaskedBodyBuilder) -> dict[str, tuple[Tensor, Tensor]]:
    """Per layer, which inputs and which outputs are alive: bool, by channel before flatten, else by feature.

    Logits always count as alive: their biases are the network's last word.
    """
    edges = {
        name: layer.weight_mask.flatten(2).any(2) if layer.weight_mask.dim() > 2 else layer.weight_mask
        for name, layer in network.weighted().items()
    }
    reached: dict[str, tuple[Tensor, Tensor]] = {}
    device = next(iter(edges.values())).device
    values = torch.ones(network.shapes[0].input_shape[0], dtype=torch.bool, device=device)
    for shape in network.shapes:
        before = values
        if shape.type in WEIGHTED:
            values = (edges[shape.name] & before).any(1)
        elif shape.type == "flatten":
            values = before.repeat_interleave(shape.output_shape[0] // len(before))
        reached[shape.name] = (before, values)
    alive: dict[str, tuple[Tensor, Tensor]] = {}
    read = torch.ones_like(values)
    for shape in reversed(network.shapes):
        inputs, outputs = reached[shape.name]
        last = shape.name == network.logits_name
        outputs = read if last else outputs & read
        if shape.type in WEIGHTED:
            read = (edges[shape.name] & outputs.view(-1, 1)).any(0)
        elif shape.type == "flatten":
            read = read.view(len(inputs), -1).any(1)
        alive[shape.name] = (inputs & read, outputs)
    return alive
