"""Least squares of a layer: moments of its inputs and targets, and the weights that fit best under a mask."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..foundations.errors import UserError
from .activations import patches, rows

CONSTANT = 1e-10
"""What varies less than this, as a share of its mean square, does so by rounding: it is a constant."""


@dataclass
class Moments:
    """First and second moments of a layer's inputs and targets, centred, float64."""

    inputs: Tensor
    """[in], mean of the pruned network's inputs; patches of a convolution have in × kernel² of them."""
    targets: Tensor
    """[out], mean of the dense network's pre-activations."""
    gram: Tensor
    """[in, in], covariance of the inputs."""
    cross: Tensor
    """[in, out], covariance of inputs and targets."""


def moments_of(layer: nn.Module, inputs: list[Tensor], targets: list[Tensor]) -> Moments:
    """Moments over images and places. Products of centred values in their own precision, sums in float64."""
    seen = sum(len(rows(target)) for target in targets)
    x_mean = sum(patches(values, layer).double().sum(0) for values in inputs) / seen
    y_mean = sum(rows(target).double().sum(0) for target in targets) / seen
    gram, cross = 0.0, 0.0
    for values, target in zip(inputs, targets, strict=True):
        x = patches(values, layer) - x_mean.to(values.dtype)
        y = rows(target) - y_mean.to(values.dtype)
        gram, cross = gram + (x.T @ x).double(), cross + (x.T @ y).double()
    return Moments(x_mean, y_mean, gram / seen, cross / seen)


def normal_equations(moments: Moments, ridge: float) -> tuple[Tensor, Tensor]:
    """What ridge regression solves: covariance of the inputs with penalty, [in, in], and targets, [in, out].

    `ridge` times the mean variance of the inputs is the penalty. Of an input that is constant nothing is
    left but the penalty.
    """
    variance = moments.gram.diagonal()
    penalty = ridge * variance.mean() + torch.finfo(torch.float64).tiny
    varies = variance > CONSTANT * (variance + moments.inputs**2)
    gram = moments.gram * varies * varies.unsqueeze(1)
    gram.diagonal().add_(penalty)
    return gram, moments.cross * varies.unsqueeze(1)


def moment_flops(layer: nn.Module, targets: list[Tensor]) -> float:
    """Operations that a layer's moments take."""
    outputs, inputs = layer.weight.flatten(1).shape
    return 2.0 * sum(target.numel() for target in targets) / outputs * inputs * (inputs + outputs)


def solve_flops(mask: Tensor) -> float:
    """Operations of `solve`: a factorisation for all units that keep the same inputs."""
    return float((mask.unique(dim=0).sum(1).double() ** 3).sum()) / 3


def solve(moments: Moments, mask: Tensor, ridge: float, stage: str = "refit") -> Tensor:
    """Per unit, the weights on its kept inputs that minimise the squared error plus penalty: [out, in].

    `mask` [out, in], bool. Units with the same kept inputs share one factorisation. An input that is
    constant tells nothing that the bias does not: its weight is 0. Raises UserError where the equations
    are singular.
    """
    gram, cross = normal_equations(moments, ridge)
    weight = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
    supports, support_of = mask.unique(dim=0, return_inverse=True)
    for place, support in enumerate(supports):
        units, kept = (support_of == place).nonzero().flatten(), support.nonzero().flatten()
        # Twice by whole rows or columns: ten times as fast as a gather of single numbers.
        system = gram.index_select(0, kept).index_select(1, kept)
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed:
            raise UserError(f"{stage}: some inputs tell nothing that others do not; ask for a larger ridge")
        right = cross.index_select(0, kept).index_select(1, units)
        weight[units.view(-1, 1), kept] = torch.cholesky_solve(right, factor).T
    return weight
