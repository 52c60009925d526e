"""Simultaneous forward selection: the units or filters that explain most of what their reader needs.

All targets share what is chosen (Tropp, Gilbert and Strauss 2006, section 3, here with every fit made
anew: orthogonal least squares). A unit is one input of its reader, a filter as many as its map has places
there: a block of them comes in together.
"""

import torch
from torch import Tensor

from .pursuit import SPENT, first_of_best


def follow_blocks(
    gram: Tensor, cross: Tensor, source_units: Tensor, alive: Tensor, steps: int
) -> tuple[Tensor, Tensor, float]:
    """The first units chosen [≤ steps], their values, and the operations it took.

    `gram` [in, in] with its penalty, `cross` [in, out] with each target in the weight that it has, float64;
    `source_units` [in]: which unit each input is of; `alive` [units], bool. The value is the fall of the
    penalised squared error, or the smallest before where that was smaller. It ends where nothing is gained
    any more.
    """
    places, is_there = _places(source_units, len(alive))
    least = SPENT * gram.diagonal()[places]
    gram, cross, free, flops = gram.clone(), cross.clone(), alive & is_there.any(1), 0.0
    order: list[Tensor] = []
    values: list[Tensor] = []
    for _ in range(steps):
        # What a block shares with the targets, in a basis of its own that is orthonormal: [units, size, out].
        parts = torch.where(is_there.unsqueeze(2), cross[places], 0.0)
        factors = _factors(gram, places, is_there, least)
        shared = torch.linalg.solve_triangular(factors, parts, upper=False)
        gains = torch.where(free, shared.square().sum((1, 2)), 0.0)
        best = gains.amax()
        if best <= 0:
            break
        index = first_of_best(gains, best)
        order.append(index)
        values.append(best if not values else torch.minimum(best, values[-1]))
        block = places[index][is_there[index]]
        factor, own = factors[index][: len(block), : len(block)], shared[index][: len(block)]
        basis = torch.linalg.solve_triangular(factor, gram[block], upper=False)
        gram.addmm_(basis.T, basis, alpha=-1)
        cross.addmm_(basis.T, own, alpha=-1)
        free = free.index_fill(0, index, False)
        flops += 2.0 * len(block) * len(gram) * (len(gram) + cross.shape[1]) + 2.0 * cross.numel()
    nothing = source_units.new_zeros(0)
    return torch.stack(order) if order else nothing, torch.stack(values) if order else nothing.double(), flops


def _places(source_units: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """The inputs of each unit, and which of these entries are any: [units, most inputs of one]."""
    counts = source_units.bincount(minlength=units)
    by_unit = source_units.argsort(stable=True)
    offset = torch.arange(max(1, int(counts.max())), device=source_units.device)
    is_there = offset < counts.view(-1, 1)
    places = (counts.cumsum(0) - counts).view(-1, 1) + offset
    return by_unit[places.clamp(max=len(source_units) - 1)], is_there


def _factors(gram: Tensor, places: Tensor, is_there: Tensor, least: Tensor) -> Tensor:
    """Cholesky factors of each unit's own part of the inputs' covariance, [units, size, size].

    Places that a smaller block lacks stand alone.
    """
    is_pair = is_there.unsqueeze(2) & is_there.unsqueeze(1)
    blocks = torch.where(is_pair, gram[places.unsqueeze(2), places.unsqueeze(1)], 0.0)
    # Of what others tell already so little is left that rounding could make it negative.
    blocks.diagonal(dim1=1, dim2=2).add_(torch.where(is_there, least, 1.0))
    return torch.linalg.cholesky(blocks)
