"""Criteria: scores that say what matters least. Each is one function here, and nothing anywhere else.

A criterion takes a `ScoringContext` (scoring.py) and gives the scores of the layers that it names:
[out, in, …] for single weights, [out] for units and filters; the lowest is pruned first. A unit is an output
neuron, so a row of torch's [out, in] weight; a filter is the same for a convolution's output channel. The
first paragraph of its docstring describes it in the schema and in configs/README.md. This file loads no
torch, so that a config is checked at once.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .scoring import Scores, ScoringContext

WEIGHTS, UNITS = ("weight",), ("unit", "filter")


@dataclass(frozen=True)
class Criterion:
    """A score, and what a config has to know of it."""

    score: Callable[[ScoringContext], Scores]
    kinds: tuple[str, ...]
    """What it can rank: weight, unit, filter."""
    reads_images: bool
    activation: str | None
    """The activation that the layers need to have, if it needs one."""
    because: str
    """Why it needs that."""
    about: str
    """What it is, in a sentence or two, with its source."""

    @property
    def code(self) -> str:
        """A digest of its code, comments and description left out: tells when it has been edited."""
        function = ast.parse(inspect.getsource(self.score)).body[0]
        function.body, function.decorator_list = function.body[1:], []
        return hashlib.sha256(ast.unparse(function).encode()).hexdigest()[:16]


CRITERIA: dict[str, Criterion] = {}
"""By the config's word for it."""


def criterion(
    *kinds: str, reads_images: bool = False, activation: str | None = None, because: str = ""
) -> Callable:
    """Makes a function a criterion of these kinds, called as it is, and says why it needs an activation."""

    def register(score: Callable[[ScoringContext], Scores]) -> Callable[[ScoringContext], Scores]:
        about = " ".join(score.__doc__.split("\n\n")[0].split())
        CRITERIA[score.__name__] = Criterion(score, kinds, reads_images, activation, because, about)
        return score

    return register


@criterion(*WEIGHTS, *UNITS)
def magnitude(context: ScoringContext) -> Scores:
    """|w| of each weight (Han et al. 2015); L2 norm of each unit's or filter's incoming weights."""
    if context.kind == "weight":
        return {name: weight.abs() for name, weight in context.weights().items()}
    return {name: weight.flatten(1).norm(dim=1) for name, weight in context.weights().items()}


@criterion(*UNITS)
def l1(context: ScoringContext) -> Scores:
    """L1 norm of each unit's or filter's incoming weights (Li et al. 2017, section 3.1)."""
    return {name: weight.flatten(1).abs().sum(1) for name, weight in context.weights().items()}


@criterion(*UNITS)
def in_out(context: ScoringContext) -> Scores:
    """Norm of each unit's or filter's incoming weights × norm of the weights that read it."""
    scores = {}
    for name, incoming in magnitude(context).items():
        squares = context.squares_by_input(context.network.next_layer(name)[0])
        scores[name] = incoming * context.source_sums(name, squares).sqrt()
    return scores


@criterion(*UNITS)
def geometric_median(context: ScoringContext) -> Scores:
    """Sum of the distances to the layer's other units or filters (FPGM, He et al. 2019).

    Those nearest to the geometric median of all go first: the others can stand for them.
    """
    scores = {}
    for name, weight in context.weights().items():
        incoming = weight.flatten(1).double()
        squares = incoming.square().sum(1)
        distances = (squares.view(-1, 1) + squares - 2 * incoming @ incoming.T).clamp(min=0).sqrt()
        scores[name] = distances.fill_diagonal_(0).sum(1)
    return scores


@criterion(*WEIGHTS, reads_images=True)
def wanda(context: ScoringContext) -> Scores:
    """|w| × root mean square of its input, over images and places (Sun et al. 2023).

    There the weights of one output are ranked; here those of a layer or of all, as `scope` says.
    """
    _, squares = context.input_moments(context.names)
    return {
        name: weight.abs() * _along_inputs(squares[name].sqrt(), weight)
        for name, weight in context.weights().items()
    }


@criterion(*WEIGHTS, *UNITS, reads_images=True)
def contribution(context: ScoringContext) -> Scores:
    """|w| × spread of its input; of units, filters: spread of the activation × norm of what reads it.

    How far it moves the next pre-activations, as in FLAP (An et al. 2024); their mean does not count, since
    a bias can take that over. The spread is the standard deviation.
    """
    is_weight = context.kind == "weight"
    readers = {name: name if is_weight else context.network.next_layer(name)[0] for name in context.names}
    means, squares = context.input_moments(list(readers.values()))
    scores = {}
    for name, reader in readers.items():
        variance = (squares[reader] - means[reader] ** 2).clamp(min=0)
        weight = context.layer(reader).weight.detach()
        if is_weight:
            scores[name] = weight.abs() * _along_inputs(variance.sqrt(), weight)
        else:
            scores[name] = context.source_sums(name, variance * context.squares_by_input(reader)).sqrt()
    return scores


@criterion(*UNITS, reads_images=True, activation="relu", because="counts activations that are exactly 0")
def apoz(context: ScoringContext) -> Scores:
    """Share of a unit's or filter's activations that are not 0: one less APoZ (Hu et al. 2016)."""
    counts = dict.fromkeys(context.names, 0.0)
    for seen in context.activations():
        for name, values in seen.items():
            counts[name] = counts[name] + context.by_place(values != 0).double().mean(0) * len(values)
    return {name: count / len(context.images) for name, count in counts.items()}


@criterion(*WEIGHTS, *UNITS, reads_images=True)
def taylor(context: ScoringContext) -> Scores:
    """|w·∂L/∂w| (SNIP, Lee et al. 2019); |a·∂L/∂a| of units and filters (Molchanov et al. 2017).

    First-order change of the mean loss L when it is set to 0. Of units and filters: mean over the images,
    summed over places before the modulus, L2-normalised by layer.
    """
    if context.kind == "weight":
        gradients = context.weight_gradients()
        return {name: (weight * gradients[name]).abs() for name, weight in context.weights().items()}
    totals = dict.fromkeys(context.names, 0.0)
    for batch in context.activation_gradients():
        for name, (value, gradient) in batch.items():
            change = (value * gradient).unflatten(1, (-1, 1)).flatten(2).sum(2)
            totals[name] = totals[name] + change.abs().double().sum(0)
    return {name: total / total.norm(dim=0, keepdim=True).clamp(min=1e-12) for name, total in totals.items()}


@criterion(*WEIGHTS, reads_images=True)
def obd(context: ScoringContext) -> Scores:
    """w²·H, H the Gauss–Newton diagonal of the loss: optimal brain damage (LeCun et al. 1989, section 2).

    Half of H is left out, which ranks alike.
    """
    curvature = context.curvature()
    return {
        name: weight**2 * curvature[name] / len(context.images) for name, weight in context.weights().items()
    }


@criterion(*WEIGHTS, *UNITS)
def random(context: ScoringContext) -> Scores:
    """Uniform numbers: the control that any criterion has to beat."""
    return context.uniform()


@criterion(*WEIGHTS, *UNITS)
def shuffle(context: ScoringContext) -> Scores:
    """As many as magnitude takes of each layer, at random places; without an amount: the masks as they are.

    Here only the score; pruning.py moves the masks.
    """
    return magnitude(context)


def _along_inputs(values: Tensor, weight: Tensor) -> Tensor:
    """A value an input feature or channel, in a shape that goes along with the weights."""
    return values.view(1, -1, *[1] * (weight.dim() - 2)).to(weight.dtype)
