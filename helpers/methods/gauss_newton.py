"""One Gauss–Newton solve: all surviving weights and biases at once, on the logits of the dense network.

The logits are taken as linear in the parameters, J being their Jacobian, and the step δ solves
(JᵀJ/n + damping) δ = Jᵀ(dense logits − logits)/n by conjugate gradients, from products with J and Jᵀ alone
(Martens 2010, section 4; for pruning, Lucas and Mazumder 2025). No label is read.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import functional_call, vjp

from ..masked_body_builder import MaskedBodyBuilder

ITERATIONS = 40
"""Of the conjugate gradients."""

DAMPING = 1e-3
"""Penalty on the squared step, beside the squared error of the logits, a mean over the images."""

TRIES = 6
"""A step that makes the error larger is halved; after so many in vain, none is made."""

KEPT_NUMBERS = 2**26
"""Of so many activations, some six numbers each are kept between products; of more they are found anew."""

BATCH = 500
"""Images at a time."""


class LogitsFit:
    """The logits of a network over some images as a function of its survivors, one vector, float64.

    Survivors are the weights and biases that are not pruned; the vector says how far each has moved.
    """

    def __init__(self, network: MaskedBodyBuilder, goals: list[Tensor], batches: list[Tensor]):
        """`goals`: the logits that are wanted, by batch."""
        self.network, self.goals, self.batches = network, goals, batches
        self.masks: dict[str, Tensor] = {}
        for name, layer in network.weighted().items():
            self.masks[f"layers.{name}.weight"] = layer.weight_mask
            self.masks[f"layers.{name}.bias"] = layer.unit_mask
        self.values = {name: network.get_parameter(name).detach().clone() for name in self.masks}
        self.images = sum(len(batch) for batch in batches)
        self.is_small = self.images * sum(math.prod(s.output_shape) for s in network.shapes) <= KEPT_NUMBERS
        self.kept: list[tuple[Callable, Callable]] = []

    def spread(self, step: Tensor) -> dict[str, Tensor]:
        """The vector in the shapes of the parameters, 0 where something is pruned."""
        parts = step.split([int(mask.sum()) for mask in self.masks.values()])
        return {
            name: torch.zeros_like(self.values[name]).masked_scatter_(mask, part.to(self.values[name].dtype))
            for (name, mask), part in zip(self.masks.items(), parts, strict=True)
        }

    def gather(self, values: dict[str, Tensor]) -> Tensor:
        """What is in the shapes of the parameters as a vector."""
        return torch.cat([values[name][mask] for name, mask in self.masks.items()]).double()

    def moved(self, step: Tensor) -> dict[str, Tensor]:
        """The parameters after a step."""
        return {name: self.values[name] + change for name, change in self.spread(step).items()}

    def gradient(self) -> Tensor:
        """Jᵀ(goals − logits)/n: where the squared error falls most steeply."""
        total: Tensor | float = 0.0
        for batch, goal in zip(self.batches, self.goals, strict=True):
            logits, pull = vjp(self._logits_of(batch), self.values)
            total = total + self.gather(pull(goal - logits)[0])
        return total / self.images

    def product(self, step: Tensor) -> Tensor:
        """(JᵀJ/n + damping) times a step; the masks stand in both products."""
        total, along = DAMPING * step * self.images, self.spread(step)
        for pull, push in self._linear_maps():
            total = total + self.gather(pull(push(along)[0])[0])
        return total / self.images

    def error(self, step: Tensor) -> float:
        """Squared error of the logits after a step, a mean over the images."""
        moved, total = self.moved(step), 0.0
        for batch, goal in zip(self.batches, self.goals, strict=True):
            total += float((goal - self._logits_of(batch)(moved)).double().square().sum())
        return total / self.images

    def _linear_maps(self) -> Iterator[tuple[Callable, Callable]]:
        """Products with Jᵀ and with J, by batch; kept for the next time where they are small enough."""
        yield from self.kept
        for batch in self.batches[len(self.kept) :]:
            logits, pull = vjp(self._logits_of(batch), self.values)
            # Jᵀ is linear, and J its transpose: without torch's forward mode, which needs its deprecated jit.
            _, push = vjp(lambda errors, pull=pull: pull(errors)[0], torch.zeros_like(logits))
            if self.is_small:
                self.kept.append((pull, push))
            yield pull, push

    def _logits_of(self, batch: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
        """From parameters to logits."""
        return lambda parameters: functional_call(self.network, parameters, (batch,))


@torch.no_grad()
def solve_logits(network: MaskedBodyBuilder, reference: dict[str, Tensor], images: Tensor) -> float:
    """Move the survivors by one damped step toward the dense logits, in place and in evaluation mode.

    `reference`: the dense network's state_dict without masks. `images` [n, C, H, W], normalised. A step that
    would make the logits' error on these images larger is halved, and left out if that does not help.
    Returns the floating-point operations.
    """
    was_training = network.training
    network.eval()
    twin, batches = network.dense_twin(reference), list(images.split(BATCH))
    fit = LogitsFit(network, [twin(batch) for batch in batches], batches)
    step = conjugate_gradients(fit.product, fit.gradient(), ITERATIONS)
    before, after, tries = fit.error(torch.zeros_like(step)), fit.error(step), 1
    while not after < before and tries < TRIES:
        step, tries = step / 2, tries + 1
        after = fit.error(step)
    if after < before:
        for name, value in fit.moved(step).items():
            network.get_parameter(name).copy_(value)
    network.train(was_training)
    # In forward passes: a product takes four, finding its maps three, the gradient three, an error and the
    # dense logits one each.
    finding = 3 * (1 if fit.is_small else ITERATIONS)
    return 2.0 * network.macs * len(images) * (4 * ITERATIONS + finding + 3 + 1 + 1 + tries)


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> Tensor:
    """x of A x = b after so many iterations from 0; `product` gives A x, for a positive definite A."""
    solution, residual = torch.zeros_like(right), right.clone()
    direction, square = residual.clone(), residual @ residual
    for _ in range(iterations):
        if square <= 0:
            break
        image = product(direction)
        length = square / (direction @ image)
        solution += length * direction
        residual -= length * image
        square, before = residual @ residual, square
        direction = residual + square / before * direction
    return solution
