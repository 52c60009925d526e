"""How much an error of each unit matters: to the units that read it, or to the logits; without any label."""

import torch
from torch import Tensor, nn

from ..masked_body_builder import MaskedBodyBuilder
from .activations import rows, squares_by_input, watch

SAMPLES = 2000
"""Images over which the sensitivity is a mean: the first ones."""

BATCH = 500
"""Images at a time."""


@torch.enable_grad()
def sensitivity(network: MaskedBodyBuilder, images: Tensor) -> dict[str, Tensor]:
    """E‖∂logits/∂z‖² of each unit's pre-activation z, by layer: [out] float64; of a filter over all places.

    So the squared error of the logits, to first order, where the errors of the pre-activations have nothing
    to do with each other. The diagonal of a Gauss–Newton matrix whose loss is the squared error of the logits
    (Martens 2020, section 8), exact: a backward pass a class.
    """
    layers = network.weighted()
    totals = {name: torch.zeros_like(layer.bias, dtype=torch.float64) for name, layer in layers.items()}
    was_training = network.training
    network.eval()
    with watch(layers) as seen:
        for batch in images.split(BATCH):
            logits = network(batch)
            values = [seen[name] for name in layers]
            for label in range(logits.shape[1]):
                gradients = torch.autograd.grad(logits[:, label].sum(), values, retain_graph=True)
                for name, gradient in zip(layers, gradients, strict=True):
                    totals[name] += rows(gradient.detach()).double().square().sum(0)
    network.train(was_training)
    return {name: total / len(images) for name, total in totals.items()}


@torch.no_grad()
def outgoing(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    """Squared norm of the weights that read each unit or filter, by layer: [out] float64; 1 for each logit.

    A batch norm between them multiplies by its gain.
    """
    found = {}
    for name, layer in network.weighted().items():
        found[name] = torch.ones_like(layer.bias, dtype=torch.float64)
        if name != network.logits_name:
            reader, source_units = network.next_layer(name)
            squares = squares_by_input(network.layers[reader]).double()
            found[name] = torch.zeros_like(found[name]).index_add_(0, source_units, squares)
            norm = network.norm_after(name)
            if norm is not None:
                found[name] *= gain(norm).double() ** 2
    return found


def gain(norm: nn.Module) -> Tensor:
    """What a batch norm multiplies by, in evaluation mode: [units]."""
    return norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
