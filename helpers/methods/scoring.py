"""What a criterion may look at: weights, training images, activations, gradients and curvature."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..masked_body_builder import MaskedBodyBuilder
from .activations import patches, rows, squares_by_input, watch

BATCH = 500
"""Training images at a time, where a criterion reads them."""

Scores = dict[str, Tensor]
"""By layer: [out, in, …] of single weights, [out] of units and filters."""


@dataclass(frozen=True, eq=False)
class ScoringContext:
    """A network in evaluation mode, the layers to score, and all that can be measured of them."""

    network: MaskedBodyBuilder
    names: list[str]
    """Layers to score, from input to logits."""
    kind: str
    """What is scored: weight, unit or filter."""
    generator: torch.Generator
    images: Tensor | None = None
    """[n, C, H, W], normalised training images, for the criteria that read them."""
    labels: Tensor | None = None
    """[n], int64."""

    def layer(self, name: str) -> nn.Module:
        """The layer of that name."""
        return self.network.layers[name]

    def weights(self) -> Scores:
        """The weights of the layers to score, [out, in, …], outside of autograd."""
        return {name: self.layer(name).weight.detach() for name in self.names}

    def uniform(self) -> Scores:
        """A uniform number for each weight, unit or filter, drawn on the CPU."""
        found = {}
        for name in self.names:
            layer = self.layer(name)
            shape = layer.weight.shape if self.kind == "weight" else layer.bias.shape
            found[name] = torch.rand(shape, generator=self.generator).to(layer.weight.device)
        return found

    def source_sums(self, name: str, values: Tensor) -> Tensor:
        """Sums of values of the next layer's inputs, for each unit or filter that they come from: [out]."""
        source_units = self.network.next_layer(name)[1]
        return values.new_zeros(len(self.layer(name).bias)).index_add_(0, source_units, values)

    def squares_by_input(self, name: str) -> Tensor:
        """Squared norm of a layer's weights that read each of its input features or channels, [in]."""
        return squares_by_input(self.layer(name))

    @staticmethod
    def by_place(values: Tensor) -> Tensor:
        """[n, out] as it is, [n, out, height, width] with a row a place: [rows, out]."""
        return rows(values)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels, some at a time."""
        return zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True)

    @torch.inference_mode()
    def input_moments(self, names: list[str]) -> tuple[Scores, Scores]:
        """Mean and mean square of what these layers read, over images and places, [in] float64."""
        layers = {name: self.layer(name) for name in names}
        means, squares = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
        with watch(layers, inputs=True) as seen:
            for images, _ in self.batches():
                self.network(images)
                share = len(images) / len(self.images)
                for name, values in seen.items():
                    inputs = rows(values).double()
                    means[name] = means[name] + inputs.mean(0) * share
                    squares[name] = squares[name] + (inputs**2).mean(0) * share
        return means, squares

    @torch.inference_mode()
    def activations(self) -> Iterator[Scores]:
        """By batch, what each layer puts out after its activation: [n, out] or [n, out, height, width]."""
        with watch(self.network.activated(self.names)) as seen:
            for images, _ in self.batches():
                self.network(images)
                yield dict(seen)

    def activation_gradients(self) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
        """By batch, each layer's activation and the gradient there of the loss, summed over the images."""
        with watch(self.network.activated(self.names)) as seen:
            for images, labels in self.batches():
                loss = F.cross_entropy(self.network(images), labels, reduction="sum")
                values = [seen[name] for name in self.names]
                pairs = zip(values, torch.autograd.grad(loss, values), strict=True)
                yield {
                    name: (value.detach(), gradient)
                    for name, (value, gradient) in zip(self.names, pairs, strict=True)
                }

    def weight_gradients(self) -> Scores:
        """∂L/∂w of the mean loss over the images."""
        weights = [self.layer(name).weight for name in self.names]
        totals = [torch.zeros_like(weight) for weight in weights]
        for images, labels in self.batches():
            loss = F.cross_entropy(self.network(images), labels, reduction="sum") / len(self.images)
            for total, gradient in zip(totals, torch.autograd.grad(loss, weights), strict=True):
                total += gradient
        return dict(zip(self.names, totals, strict=True))

    def curvature(self) -> Scores:
        """Diagonal of the loss's Gauss–Newton matrix, summed over the images: as the weights, [out, in, …].

        Exact for linear layers: the sum of h·x², with h the curvature at the unit's pre-activation.
        Convolutions sum it over places, as LeCun et al. (1989) do for shared weights.
        """
        layers = {name: self.layer(name) for name in self.names}
        totals = dict.fromkeys(self.names, 0.0)
        with watch(layers, inputs=True) as inputs, watch(layers) as outputs:
            for images, _ in self.batches():
                logits = self.network(images)
                values = [outputs[name] for name in self.names]
                for name, h in zip(self.names, _curvature(logits, values), strict=True):
                    squares = patches(inputs[name].detach(), layers[name]) ** 2
                    totals[name] = totals[name] + rows(h).T @ squares
        return {name: totals[name].view_as(weight) for name, weight in self.weights().items()}


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
