"""Refit: closed-form repair of a pruned network, layer by layer, without labels or a gradient step.

Each unit's surviving weights and bias are fitted by ridge least squares, from what the *pruned*
network now gives it, onto what the *dense* network had at that place: its pre-activation. So a layer
also makes up for the errors of those before it, and the readers of removed units take over what
these carried. The layerwise objective is that of He et al. 2017 (section 3.1, channel pruning) and
Frantar and Alistarh 2022 (section 3), here solved for each unit in full.
"""

import torch
from torch import Tensor, nn

from ..masked_body_builder import MaskedBodyBuilder
from .activations import rows
from .gauss_newton import solve_logits
from .least_squares import CONSTANT, moment_flops, moments_of, solve, solve_flops

BATCH = 500
"""Images at a time."""


@torch.no_grad()
def refit(
    network: MaskedBodyBuilder, reference: dict[str, Tensor], images: Tensor, mode: str, ridge: float
) -> float:
    """Fit the pruned network's layers to the dense one's, in place and in evaluation mode; masks stay.

    `reference`: the dense network's state_dict without masks. `images` [n, C, H, W], normalised.
    `mode`: "bias", "rescale" (one scale a unit, and its bias), "full", or "logits" (all layers at once, see
    `gauss_newton`). `ridge` times the mean
    variance of the layer's inputs is the penalty on the squared weights; biases carry none. Returns
    the floating-point operations of passes, moments and solutions.
    """
    if mode == "logits":
        return solve_logits(network, reference, images)
    dense = network.dense_twin(reference)
    was_training = network.training
    network.eval()
    pruned_values = list(images.split(BATCH))
    dense_values = pruned_values
    weighted = network.weighted()
    flops = 4.0 * network.macs * len(images)
    for name, layer in network.layers.items():
        twin = dense.layers[name]
        targets = [twin(values) for values in dense_values]
        if name in weighted:
            _fit(layer, pruned_values, targets, mode, ridge)
            flops += _fit_flops(layer, targets, mode)
        pruned_values = [layer(values) for values in pruned_values]
        dense_values = targets
    network.train(was_training)
    return flops


def _fit(layer: nn.Module, inputs: list[Tensor], targets: list[Tensor], mode: str, ridge: float) -> None:
    """Fit one layer, given the pruned network's inputs and the dense network's pre-activations."""
    if mode == "full":
        moments = moments_of(layer, inputs, targets)
        weight = solve(moments, layer.weight_mask.flatten(1), ridge)
        bias = moments.targets - weight @ moments.inputs
        weight = weight.view_as(layer.weight)
    else:
        scale, bias = _scale_and_bias(layer, inputs, targets, fixed=mode == "bias")
        weight = layer.weight.double() * scale.view(-1, *[1] * (layer.weight.dim() - 1))
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    layer.weight.masked_fill_(~layer.weight_mask, 0)
    layer.bias.masked_fill_(~layer.unit_mask, 0)


def _fit_flops(layer: nn.Module, targets: list[Tensor], mode: str) -> float:
    """Operations of a fit: moments, and of the full fit a factorisation a unit; else the pre-activations."""
    if mode == "full":
        return moment_flops(layer, targets) + solve_flops(layer.weight_mask.flatten(1))
    return 2.0 * sum(target.numel() for target in targets) * layer.weight[0].numel()


def _scale_and_bias(
    layer: nn.Module, inputs: list[Tensor], targets: list[Tensor], fixed: bool
) -> tuple[Tensor, Tensor]:
    """Per unit, the scale of its weights (1 if `fixed`) and the bias that fit the targets best: [out]."""
    mean_z, mean_y, zz, zy, seen = 0.0, 0.0, 0.0, 0.0, 0
    for values, target in zip(inputs, targets, strict=True):
        z = rows(layer(values)).double() - layer.bias.double()
        y = rows(target).double()
        mean_z, mean_y, seen = mean_z + z.sum(0), mean_y + y.sum(0), seen + len(z)
        zz, zy = zz + (z**2).sum(0), zy + (z * y).sum(0)
    mean_z, mean_y = mean_z / seen, mean_y / seen
    variance = zz / seen - mean_z**2
    # A unit that no longer varies has no scale to find; its bias takes over what it had.
    varies = variance > CONSTANT * (zz / seen).clamp(min=1e-30)
    scale = torch.where(varies, (zy / seen - mean_z * mean_y) / variance, 1.0)
    scale = torch.ones_like(mean_z) if fixed else scale
    return scale, mean_y - scale * mean_z
