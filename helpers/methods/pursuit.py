"""Forward selection: the inputs that explain most of a target, in order (orthogonal least squares).

Each unit starts from nothing and takes the input that lowers its penalised squared error most, given
those it has (Chen, Billings and Luo 1989, section 3). What is gained by an input is known before any
weight is: c² / d, where c is what the input and the target still share and d what is left of the input
once those chosen before are taken out of it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

TIE = 1e-9
"""Gains that differ by less than this share are the same but for rounding: the lowest index is taken."""

SPENT = 1e-12
"""An input of which less than this share is left tells nothing that the chosen ones do not."""

FIRST_STEPS = 32
"""How many inputs a unit is given at first; twice as many whenever it might still win some of the budget."""

BLOCK_NUMBERS = 2**21
"""Numbers (of 8 bytes) that a block of units keeps of what it has chosen."""


@dataclass
class Problem:
    """The regressions of one layer: what each unit may choose from, and how much its errors matter."""

    gram: Tensor
    """[in, in], covariance of the inputs plus penalty, float64."""
    cross: Tensor
    """[in, out], covariance of inputs and targets."""
    alive: Tensor
    """[out, in], bool: what may be chosen."""
    weights: Tensor
    """[out], what one unit of each squared error costs."""


@dataclass
class Choice:
    """What the units of a layer chose, step by step, and what it was worth: [out, steps]."""

    order: Tensor
    """Inputs as they were chosen, int64; any where a unit has come to its end."""
    values: Tensor
    """Weighted gains, or the smallest before where that was smaller; 0 where a unit has come to its end."""
    flops: float


def support(problem: Problem, count: int) -> tuple[Tensor, float]:
    """The `count` single weights that are worth most, [out, in] bool, and the operations it took."""
    alive = int(problem.alive.sum())
    if count in (0, alive):
        return problem.alive & (count > 0), 0.0
    (choice,) = follow([problem], count)
    (is_best,) = best_of([choice.values], count)
    kept = torch.zeros_like(problem.alive)
    unit, step = is_best.nonzero(as_tuple=True)
    kept[unit, choice.order[unit, step]] = True
    return filled(kept, problem.alive, count), choice.flops


def filled(kept: Tensor, alive: Tensor, count: int) -> Tensor:
    """What is kept, and up to `count` the first of what else is alive: no gain tells more of them."""
    rest = (alive & ~kept).flatten().nonzero().flatten()
    kept = kept.clone()
    kept.view(-1)[rest[: count - int(kept.sum())]] = True
    return kept


def best_of(values: list[Tensor], count: int) -> list[Tensor]:
    """Where the `count` largest of all these values are, bool, in their shapes; none that is not above 0.

    Of equal values the first ones. Values that fall along the last dimension so give prefixes.
    """
    flat = torch.cat([part.flatten() for part in values])
    best = flat.argsort(descending=True, stable=True)[:count]
    is_best = torch.zeros_like(flat, dtype=torch.bool).index_fill_(0, best, True) & (flat > 0)
    parts = is_best.split([part.numel() for part in values])
    return [part.view(like.shape) for part, like in zip(parts, values, strict=True)]


def follow(problems: list[Problem], count: int) -> list[Choice]:
    """What each unit would choose, as far as it may be among the `count` of most value in all layers."""
    # Inputs that share nothing with any target, constant ones above all, are never chosen.
    useful = [((p.cross != 0).any(1) & p.alive.any(0)).nonzero().flatten() for p in problems]
    problems = [_narrowed(problem, inputs) for problem, inputs in zip(problems, useful, strict=True)]
    choices = [
        Choice(problem.alive[:, :0].long(), problem.alive[:, :0].double(), 0.0) for problem in problems
    ]
    going_on = [problem.alive.any(1) for problem in problems]
    steps, floor = FIRST_STEPS, 0.0
    while any(going.any() for going in going_on):
        for problem, choice, going in zip(problems, choices, going_on, strict=True):
            _extend(choice, problem, going.nonzero().flatten(), min(steps, len(problem.gram)), floor)
        values = torch.cat([choice.values.flatten() for choice in choices])
        floor = float(values.topk(count).values[-1]) if count <= len(values) else 0.0
        for place, (problem, choice) in enumerate(zip(problems, choices, strict=True)):
            last = choice.values[:, -1] if choice.values.shape[1] else choice.values.sum(1)
            longer = choice.values.shape[1] < len(problem.gram)
            going_on[place] = going_on[place] & (last > 0) & (last >= floor) & longer
        steps *= 2
    for choice, inputs in zip(choices, useful, strict=True):
        choice.order = inputs[choice.order] if len(inputs) else choice.order
    return choices


def _narrowed(problem: Problem, inputs: Tensor) -> Problem:
    """The problem with these inputs alone."""
    gram = problem.gram.index_select(0, inputs).index_select(1, inputs)
    return replace(problem, gram=gram, cross=problem.cross[inputs], alive=problem.alive[:, inputs])


def _extend(choice: Choice, problem: Problem, units: Tensor, steps: int, floor: float) -> None:
    """Follow these units for so many steps, a block of them at a time."""
    if not len(units):
        return
    wider = steps - choice.order.shape[1]
    choice.order = torch.nn.functional.pad(choice.order, (0, wider))
    choice.values = torch.nn.functional.pad(choice.values, (0, wider))
    size = max(1, BLOCK_NUMBERS // (steps * len(problem.gram)))
    for block in units.split(size):
        choice.order[block], choice.values[block], flops = _pursue(problem, block, steps, floor)
        choice.flops += flops


def _pursue(problem: Problem, units: Tensor, steps: int, floor: float) -> tuple[Tensor, Tensor, float]:
    """Order and values, [units, steps] as in Choice, of one block, and the operations.

    Gram–Schmidt on all inputs at once: `basis` holds what each chosen input, made orthonormal to those
    before it, shares with every input: a row of the Cholesky factor. A unit ends early where its values
    have fallen below the floor.
    """
    gram, weights = problem.gram, problem.weights[units]
    inputs, flops = len(gram), 0.0
    order = torch.zeros(len(units), steps, dtype=torch.int64, device=gram.device)
    values = torch.zeros(len(units), steps, dtype=torch.float64, device=gram.device)
    shared = problem.cross.T[units].clone()
    left = gram.diagonal().expand(len(units), inputs).clone()
    least = SPENT * gram.diagonal()
    free = problem.alive[units].clone()
    basis = torch.empty(len(units), steps, inputs, dtype=torch.float64, device=gram.device)
    lowest = torch.full_like(weights, torch.inf)
    running = torch.arange(len(units), device=gram.device)
    for step in range(steps):
        gains = torch.where(free & (left > least), shared**2 / left, 0.0)
        best = gains.amax(1)
        lowest = torch.minimum(lowest, best * weights)
        goes_on = (best > 0) & (lowest >= floor) & (lowest > 0)
        if not goes_on.any():
            break
        if 2 * int(goes_on.sum()) < len(running):
            # What has ended is no longer carried along.
            running, gains, best, lowest = running[goes_on], gains[goes_on], best[goes_on], lowest[goes_on]
            shared, left, free = shared[goes_on], left[goes_on], free[goes_on]
            weights, basis, goes_on = weights[goes_on], basis[goes_on], goes_on[goes_on]
        index = first_of_best(gains, best.view(-1, 1))
        order[running, step] = torch.where(goes_on, index, 0)
        values[running, step] = torch.where(goes_on, lowest, 0.0)
        row, place = gram[index], torch.arange(len(running), device=gram.device)
        if step:
            known = basis[:, :step]
            row = torch.baddbmm(row.unsqueeze(1), known[place, :, index].unsqueeze(1), known, alpha=-1)[:, 0]
        row /= left[place, index].clamp(min=torch.finfo(torch.float64).tiny).sqrt().view(-1, 1)
        basis[:, step] = row
        shared -= shared[place, index].div(row[place, index]).view(-1, 1) * row
        left -= row**2
        free[place, index] = False
        # A unit that has ended gains nothing any more.
        free &= goes_on.view(-1, 1)
        flops += len(running) * inputs * (2.0 * step + 8)
    return order, values, flops


def first_of_best(gains: Tensor, best: Tensor) -> Tensor:
    """The lowest index along the last dimension whose gain is as good as the best but for rounding."""
    return (gains >= (1 - TIE) * best).int().argmax(-1)
