"""Fits of a layer that a ReLU reads: where the dense unit is off, every value that keeps it off is right.

So there the target is what the fit says anyway, if that is off as well, else the edge; and fit and
targets are found in turn. Each turn lowers the error or leaves it (majorisation and minimisation).
That the response after the ReLU is what has to be fitted is Zhang et al. 2016's point (section 3.2); they
relax it, here the alternation takes its place.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..masked_body_builder import MaskedBodyBuilder
from .activations import patches, rows
from .least_squares import Moments


@dataclass
class Rectifier:
    """Where each unit's ReLU begins, in terms of its pre-activation z, before any batch norm: [out]."""

    edge: Tensor
    sign: Tensor
    """1 where it is on above the edge, -1 where it is below: a batch norm may have a negative gain."""

    def targets(self, dense: Tensor, fitted: Tensor) -> Tensor:
        """What a fit should give: the dense pre-activation; where that is off, what is off: [rows, out]."""
        is_off = self.sign * (dense - self.edge) <= 0
        return torch.where(
            is_off, self.sign * torch.minimum(self.sign * fitted, self.sign * self.edge), dense
        )


def rectifier_of(network: MaskedBodyBuilder, name: str) -> Rectifier | None:
    """The ReLU that reads a layer with weights, with its batch norm folded in; None where another does."""
    shape = next(shape for shape in network.shapes if shape.name == name)
    if name == network.logits_name or network.activation_of(shape) != "relu":
        return None
    layer, norm = network.layers[name], network.norm_after(name)
    edge, sign = torch.zeros_like(layer.bias), torch.ones_like(layer.bias)
    if norm is not None:
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        # Of a unit that its batch norm multiplies by 0, any value is right: it is off everywhere.
        edge = torch.where(gain == 0, torch.inf, norm.running_mean - norm.bias / gain)
        sign = torch.where(gain < 0, -1.0, 1.0).to(edge.dtype)
    return Rectifier(edge.detach(), sign)


def rectified_moments(
    layer: nn.Module,
    inputs: list[Tensor],
    targets: list[Tensor],
    moments: Moments,
    weight: Tensor,
    bias: Tensor,
    rectifier: Rectifier,
) -> tuple[Moments, float]:
    """The moments with rectified targets, given the dense pre-activations and a fit, and the operations.

    The fit is `weight` [out, in] and `bias` [out], float64.

    Only products with inputs that the fit uses are made, and only for units that use some.
    """
    used, units = weight.any(0).nonzero().flatten(), weight.any(1).nonzero().flatten()
    part = Rectifier(rectifier.edge[units], rectifier.sign[units])
    small = weight[units].index_select(1, used)
    mean, cross, seen = 0.0, 0.0, 0
    for values, target in zip(inputs, targets, strict=True):
        x, dense = patches(values, layer).index_select(1, used), rows(target).index_select(1, units)
        fitted = torch.addmm(bias[units].to(x.dtype), x, small.T.to(x.dtype))
        goal = part.targets(dense, fitted)
        mean, seen = mean + goal.double().sum(0), seen + len(x)
        x, goal = x - moments.inputs[used].to(x.dtype), goal - moments.targets[units].to(x.dtype)
        cross = cross + (x.T @ goal).double()
    means, whole = moments.targets.clone(), moments.cross.clone()
    means[units] = mean / seen
    whole[used.view(-1, 1), units] = cross / seen
    return replace(moments, targets=means, cross=whole), 4.0 * seen * len(used) * len(units)
