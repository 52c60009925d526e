"""Criteria: scores that say what matters least. Each is one function and one entry in CRITERIA.

A criterion takes a ScoringContext and gives the scores of the layers that it names: [out, in, …] for single
weights, [out] for units and filters; the lowest is pruned first. A unit is an output neuron, so a
row of torch's [out, in] weight; a filter is the same for a convolution's output channel.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..masked_body_builder import MaskedBodyBuilder
from .matrices import patches, rows

BATCH = 500
"""Training images at a time, where a criterion reads them."""


@dataclass(frozen=True, eq=False)
class ScoringContext:
    """What a criterion may look at."""

    network: MaskedBodyBuilder
    names: list[str]
    """Layers to score, from input to logits."""
    kind: str
    """What is scored: weight, unit or filter."""
    generator: torch.Generator
    images: Tensor | None = None
    """[n, C, H, W], normalised training images, for the criteria in NEEDS_DATA."""
    labels: Tensor | None = None

    def layer(self, name: str) -> nn.Module:
        """The layer of that name."""
        return self.network.layers[name]

    def weights(self) -> dict[str, Tensor]:
        """The weights of the layers to score, outside of autograd."""
        return {name: self.layer(name).weight.detach() for name in self.names}

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels, some at a time."""
        return zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True)


Scores = dict[str, Tensor]


def magnitude(context: ScoringContext) -> Scores:
    """|w| of each weight (Han et al. 2015), or the L2 norm of each unit's or filter's incoming weights."""
    if context.kind == "weight":
        return {name: weight.abs() for name, weight in context.weights().items()}
    return {name: weight.flatten(1).norm(dim=1) for name, weight in context.weights().items()}


def l1(context: ScoringContext) -> Scores:
    """L1 norm of each unit's or filter's incoming weights (Li et al. 2017, section 3.1)."""
    return {name: weight.flatten(1).abs().sum(1) for name, weight in context.weights().items()}


def random(context: ScoringContext) -> Scores:
    """Uniform numbers, drawn on the CPU: the control that any criterion has to beat."""
    scores = {}
    for name in context.names:
        layer = context.layer(name)
        shape = layer.weight.shape if context.kind == "weight" else layer.bias.shape
        scores[name] = torch.rand(shape, generator=context.generator).to(layer.weight.device)
    return scores


def in_out(context: ScoringContext) -> Scores:
    """Norm of each unit's or filter's incoming weights × norm of the weights that read it."""
    scores = {}
    for name, incoming in magnitude(context).items():
        reader = context.layer(context.network.reader(name)[0])
        scores[name] = incoming * _by_unit(context, name, squares_by_input(reader)).sqrt()
    return scores


def wanda(context: ScoringContext) -> Scores:
    """|w|·‖x‖, the norm of its input over the images (Sun et al. 2023).

    There the weights of one output are ranked; here those of a layer or of all, as `scope` says.
    """
    _, squares = _input_moments(context, {name: context.layer(name) for name in context.names})
    return {
        name: weight.abs() * _along_inputs(squares[name].sqrt(), weight)
        for name, weight in context.weights().items()
    }


def contribution(context: ScoringContext) -> Scores:
    """How far it moves the next pre-activations: their mean does not count, a bias can take that over.

    Weights: |w| × spread (standard deviation) of its input. Units and filters: spread of the
    activation × norm of the weights that read it, as in FLAP (An et al. 2024).
    """
    readers = {
        name: name if context.kind == "weight" else context.network.reader(name)[0] for name in context.names
    }
    means, squares = _input_moments(context, {reader: context.layer(reader) for reader in readers.values()})
    scores = {}
    for name, reader in readers.items():
        variance, layer = (squares[reader] - means[reader] ** 2).clamp(min=0), context.layer(reader)
        if context.kind == "weight":
            scores[name] = layer.weight.detach().abs() * _along_inputs(variance.sqrt(), layer.weight)
        else:
            scores[name] = _by_unit(context, name, variance * squares_by_input(layer)).sqrt()
    return scores


def apoz(context: ScoringContext) -> Scores:
    """Share of a unit's or filter's activations that are not 0: one less APoZ (Hu et al. 2016)."""
    counts = dict.fromkeys(context.names, 0.0)
    with watch(context.network.activated(context.names)) as seen, torch.inference_mode():
        for images, _ in context.batches():
            context.network(images)
            for name, values in seen.items():
                counts[name] = counts[name] + rows(values != 0).double().mean(0) * len(images)
    return {name: count / len(context.images) for name, count in counts.items()}


def taylor(context: ScoringContext) -> Scores:
    """First-order change of the loss when it is set to 0.

    Weights: |w·∂L/∂w|, L being the mean loss (SNIP, Lee et al. 2019, section 4). Units and filters: mean
    over the images of |a·∂L/∂a|, summed over places before the modulus, L2-normalised by layer
    (Molchanov et al. 2017).
    """
    if context.kind == "weight":
        gradients = _loss_gradients(context)
        return {name: (weight * gradients[name]).abs() for name, weight in context.weights().items()}
    totals = dict.fromkeys(context.names, 0.0)
    with watch(context.network.activated(context.names)) as seen:
        for images, labels in context.batches():
            loss = F.cross_entropy(context.network(images), labels, reduction="sum")
            values = [seen[name] for name in context.names]
            for name, value, gradient in zip(
                context.names, values, torch.autograd.grad(loss, values), strict=True
            ):
                change = (value.detach() * gradient).unflatten(1, (-1, 1)).flatten(2).sum(2)
                totals[name] = totals[name] + change.abs().double().sum(0)
    return {name: F.normalize(total, dim=0) for name, total in totals.items()}


def obd(context: ScoringContext) -> Scores:
    """w²·H, half of H being left out: optimal brain damage (LeCun et al. 1989, section 2).

    H is the diagonal of the loss's Gauss–Newton matrix, exact for linear layers: over the images, the
    mean of h·x², with h the curvature at the unit's pre-activation. Convolutions sum it over places, as
    LeCun et al. do for shared weights.
    """
    layers = {name: context.layer(name) for name in context.names}
    totals = dict.fromkeys(context.names, 0.0)
    with watch(layers, inputs=True) as inputs, watch(layers) as outputs:
        for images, _ in context.batches():
            logits = context.network(images)
            values = [outputs[name] for name in context.names]
            curvature = _curvature(logits, values)
            for name, h in zip(context.names, curvature, strict=True):
                squares = patches(inputs[name].detach(), layers[name]) ** 2
                totals[name] = totals[name] + rows(h).T @ squares
    return {
        name: weight**2 * totals[name].view_as(weight) / len(context.images)
        for name, weight in context.weights().items()
    }


CRITERIA: dict[str, Callable[[ScoringContext], Scores]] = {
    "magnitude": magnitude,
    "l1": l1,
    "in_out": in_out,
    "wanda": wanda,
    "contribution": contribution,
    "apoz": apoz,
    "taylor": taylor,
    "obd": obd,
    "random": random,
    "shuffle": magnitude,
}
"""From a config's word to its function."""

NEEDS_DATA = ("wanda", "contribution", "apoz", "taylor", "obd")
"""Criteria that read training images."""


def _by_unit(context: ScoringContext, name: str, values: Tensor) -> Tensor:
    """Sums of the values of the reader's inputs, for each unit or filter that they come from: [out]."""
    owners = context.network.reader(name)[1]
    return values.new_zeros(len(context.layer(name).bias)).index_add_(0, owners, values)


def squares_by_input(layer: nn.Module) -> Tensor:
    """Squared norm of the weights that read each input feature or channel, [in]."""
    return (layer.weight.detach() ** 2).transpose(0, 1).flatten(1).sum(1)


def _along_inputs(values: Tensor, weight: Tensor) -> Tensor:
    """A value an input feature or channel, in a shape that goes along with the weights."""
    return values.view(1, -1, *[1] * (weight.dim() - 2)).to(weight.dtype)


@contextmanager
def watch(modules: dict[str, nn.Module], inputs: bool = False) -> Iterator[dict[str, Tensor]]:
    """What these modules put out (or take in) at the latest pass, by name."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, taken: tuple[Tensor, ...], put: Tensor) -> None:
            seen[name] = taken[0] if inputs else put

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def _input_moments(context: ScoringContext, layers: dict[str, nn.Module]) -> tuple[Scores, Scores]:
    """Mean and mean square of each layer's inputs, over images and places, [in] float64."""
    means, squares = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
    with watch(layers, inputs=True) as seen:
        for images, _ in context.batches():
            context.network(images)
            share = len(images) / len(context.images)
            for name, values in seen.items():
                inputs = rows(values).double()
                means[name] = means[name] + inputs.mean(0) * share
                squares[name] = squares[name] + (inputs**2).mean(0) * share
    return means, squares


def _loss_gradients(context: ScoringContext) -> Scores:
    """∂L/∂w of the mean loss over the images."""
    weights = [context.layer(name).weight for name in context.names]
    totals = [torch.zeros_like(weight) for weight in weights]
    for images, labels in context.batches():
        loss = F.cross_entropy(context.network(images), labels, reduction="sum") / len(context.images)
        for total, gradient in zip(totals, torch.autograd.grad(loss, weights), strict=True):
            total += gradient
    return dict(zip(context.names, totals, strict=True))


def _curvature(logits: Tensor, values: list[Tensor]) -> list[Tensor]:
    """Diagonal of the Gauss–Newton matrix of the cross-entropy at each of `values`, same shapes.

    Over labels drawn from the network's own output, the squared gradient has just this mean (Martens
    2020, section 9): one backward pass a class, weighted by its probability.
    """
    log_p = F.log_softmax(logits, dim=1)
    p = log_p.detach().exp()
    totals = [torch.zeros_like(value) for value in values]
    for label in range(logits.shape[1]):
        gradients = torch.autograd.grad(-log_p[:, label].sum(), values, retain_graph=True)
        for total, gradient in zip(totals, gradients, strict=True):
            total += p[:, label].view(-1, *[1] * (gradient.dim() - 1)) * gradient**2
    return totals
