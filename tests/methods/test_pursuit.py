"""Forward selection: it takes what a slow and plain search takes, and its gains are those measured."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.methods import pursuit
from helpers.methods.block_pursuit import follow_blocks
from helpers.methods.pursuit import Problem, best_of, follow, support

SAMPLES = 60


def drawn(inputs: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated inputs and targets that need some of them, centred: [n, in], [n, out]."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(SAMPLES, inputs)) @ draw.normal(size=(inputs, inputs))
    y = x @ draw.normal(size=(inputs, outputs)) + draw.normal(size=(SAMPLES, outputs))
    return x - x.mean(0), y - y.mean(0)


def problem(x: np.ndarray, y: np.ndarray, ridge: float = 0.1, weights: list[float] | None = None) -> Problem:
    """The regressions of y on x, with this penalty."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    gram = inputs.T @ inputs / len(x) + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    alive = torch.ones(y.shape[1], x.shape[1], dtype=torch.bool)
    costs = torch.tensor(weights or [1.0] * y.shape[1], dtype=torch.float64)
    return Problem(gram, inputs.T @ targets / len(x), alive, costs)


def error(x: np.ndarray, y: np.ndarray, kept: list[int], ridge: float = 0.1) -> float:
    """Penalised mean squared error of the best fit of y [n, …] on these inputs, by numpy's least squares."""
    rows = np.concatenate([x[:, kept], np.sqrt(len(x) * ridge) * np.eye(len(kept))])
    right = np.concatenate([y, np.zeros((len(kept), *y.shape[1:]))])
    found = np.linalg.lstsq(rows, right, rcond=None)[0]
    return float(((rows @ found - right) ** 2).sum() / len(x))


def plain_search(x: np.ndarray, y: np.ndarray, steps: int) -> list[int]:
    """Forward selection by fitting anew with each input that is left."""
    kept: list[int] = []
    for _ in range(steps):
        left = [i for i in range(x.shape[1]) if i not in kept]
        kept.append(min(left, key=lambda i: error(x, y, [*kept, i])))
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_each_step_takes_what_a_fit_with_every_input_left_would(seed):
    x, y = drawn(10, 3, seed)
    (choice,) = follow([problem(x, y)], 30)
    assert [order.tolist() for order in choice.order] == [plain_search(x, column, 10) for column in y.T]


@pytest.mark.parametrize("seed", range(4))
def test_gains_are_the_fall_of_the_error_that_is_measured(seed):
    """As many gains as are not cut to the smallest before."""
    x, y = drawn(10, 1, seed)
    (choice,) = follow([problem(x, y)], 10)
    order, values = choice.order[0].tolist(), choice.values[0].numpy()
    errors = [error(x, y[:, 0], order[:step]) for step in range(11)]
    measured = np.minimum.accumulate(-np.diff(errors))
    np.testing.assert_allclose(values, measured, rtol=1e-7)


def test_no_choice_of_ten_inputs_explains_more_than_the_best_and_few_explain_much_less():
    """Against every subset of three: never better, on the average by a few per cent worse."""
    shares = []
    for seed in range(12):
        x, y = drawn(10, 1, seed)
        kept, _ = support(problem(x, y), 3)
        found = error(x, y[:, 0], kept[0].nonzero().flatten().tolist())
        best = min(error(x, y[:, 0], list(subset)) for subset in itertools.combinations(range(10), 3))
        nothing = error(x, y[:, 0], [])
        shares.append((nothing - found) / (nothing - best))
    assert max(shares) <= 1 + 1e-9
    assert min(shares) > 0.75
    assert np.mean(shares) > 0.95
    assert 6 <= sum(share > 1 - 1e-9 for share in shares) < 12


def test_of_orthogonal_inputs_it_takes_the_best_there_are():
    x, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SAMPLES, 8)))
    y = x @ np.array([[3.0], [-1], [0.5], [2], [-4], [0.1], [1.5], [0]])
    kept, _ = support(problem(x, y, ridge=0.0), 4)
    assert kept[0].nonzero().flatten().tolist() == [0, 3, 4, 6]


def test_the_budget_goes_to_the_largest_weighted_gains_of_all_units():
    x, y = drawn(7, 4, 5)
    weights = [1.0, 0.2, 5.0, 0.0]
    whole = problem(x, y, weights=weights)
    gains = []  # (value, unit, input), the smallest before where that was smaller
    for unit, column in enumerate(y.T):
        order, lowest = plain_search(x, column, 7), np.inf
        for step, index in enumerate(order):
            gain = error(x, column, order[:step]) - error(x, column, order[: step + 1])
            lowest = min(lowest, weights[unit] * gain)
            gains.append((-lowest, unit, step, index))
    for count in range(1, 21):
        kept, _ = support(whole, count)
        wanted = {(unit, index) for _, unit, _, index in sorted(gains)[:count]}
        assert {tuple(pair) for pair in kept.nonzero().tolist()} == wanted
    # The last unit is worth nothing, and so comes last, by its index.
    kept, _ = support(whole, 23)
    assert kept[3].nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize("count", [1, 11, 40, 77, 119])
def test_how_far_units_are_followed_and_in_what_blocks_decides_nothing(monkeypatch, count):
    x, y = drawn(12, 10, 7)
    whole = problem(x, y, weights=np.random.default_rng(1).uniform(0.01, 10, 10).tolist())
    expected, _ = support(whole, count)
    for first, block in ((1, 1), (2, 200), (5, 1000)):
        monkeypatch.setattr(pursuit, "FIRST_STEPS", first)
        monkeypatch.setattr(pursuit, "BLOCK_NUMBERS", block)
        assert support(whole, count)[0].equal(expected)


@pytest.mark.parametrize("count", [0, 1, 8, 9, 14, 15, 22, 23])
def test_counts_are_exact_whatever_tells_nothing(count):
    """Constant inputs, a constant target, twins, and dead weights."""
    x, y = drawn(6, 4, 2)
    x[:, 1] = 0
    x[:, 4] = x[:, 3]
    y[:, 2] = 0
    whole = problem(x, y, ridge=1e-12)
    whole.alive[3, 2:] = False
    whole.alive[1, 0] = False
    alive = int(whole.alive.sum())
    assert alive == 19
    kept, _ = support(whole, min(count, alive))
    assert int(kept.sum()) == min(count, alive)
    assert not (kept & ~whole.alive).any()


def test_of_twins_the_first_is_taken_and_the_second_only_by_its_index():
    x, y = drawn(5, 2, 3)
    x[:, 4] = x[:, 1]
    y[:, 1] = y[:, 0]
    whole = problem(x, y, ridge=1e-13)
    kept, _ = support(whole, 8)
    assert kept.tolist() == [[True, True, True, True, False]] * 2
    assert support(whole, 9)[0].tolist() == [[True] * 5, [True, True, True, True, False]]
    # Of equal units the first has what is odd.
    counts = support(whole, 3)[0].sum(1).tolist()
    assert counts == [2, 1]


def test_values_that_are_equal_go_to_the_first_and_those_of_0_to_none():
    values = [torch.tensor([[3.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), torch.tensor([[2.0, 1.0]])]
    assert [part.tolist() for part in best_of(values, 4)] == [
        [[True, True, False], [True, False, False]],
        [[True, False]],
    ]
    assert [int(part.sum()) for part in best_of(values, 7)] == [4, 2]
    assert [int(part.sum()) for part in best_of(values, 0)] == [0, 0]


def test_all_layers_share_one_budget():
    (x, y), (v, w) = drawn(6, 3, 8), drawn(9, 2, 9)
    problems = [problem(x, y), problem(v, w, weights=[3.0, 1.0])]
    together = best_of([choice.values for choice in follow(problems, 12)], 12)
    alone = [best_of([choice.values for choice in follow([one], 18)], 18)[0] for one in problems]
    values = [follow([one], 18)[0].values for one in problems]
    floor = torch.cat([part.flatten() for part in values]).sort(descending=True).values[11]
    wanted = [int(((part >= floor) & chosen).sum()) for part, chosen in zip(values, alone, strict=True)]
    assert [int(part.sum()) for part in together] == wanted
    assert sum(wanted) == 12


# Units and filters


def blocks(x: np.ndarray, y: np.ndarray, owners: list[int], ridge: float = 0.1) -> tuple[Tensor, Tensor]:
    """Order and values of all units."""
    whole, units = problem(x, y, ridge), max(owners) + 1
    alive = torch.ones(units, dtype=torch.bool)
    return follow_blocks(whole.gram, whole.cross, torch.tensor(owners), alive, units)[:2]


@pytest.mark.parametrize(
    "owners",
    [list(range(9)), [0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2, 3, 3, 3], [2, 2, 0, 0, 0, 1, 3, 2, 4]],
    ids=["units", "filters", "scattered", "of unequal size"],
)
def test_each_unit_taken_is_the_one_whose_block_lowers_the_error_of_all_targets_most(owners):
    x, y = drawn(9, 4, 11)
    order, values = blocks(x, y, owners)
    units, kept, errors = max(owners) + 1, [], [error(x, y, [])]
    for _ in range(units):
        inputs = {u: [i for i, o in enumerate(owners) if o in (*kept, u)] for u in range(units)}
        left = [unit for unit in range(units) if unit not in kept]
        kept.append(min(left, key=lambda unit: error(x, y, inputs[unit])))
        errors.append(error(x, y, inputs[kept[-1]]))
    assert order.tolist() == kept
    np.testing.assert_allclose(values.numpy(), np.minimum.accumulate(-np.diff(errors)), rtol=1e-6)


def test_units_that_tell_nothing_are_not_taken_and_of_twins_the_first():
    x, y = drawn(6, 2, 4)
    x[:, 2] = 0
    x[:, 5] = x[:, 0]
    order, values = blocks(x, y, list(range(6)), ridge=1e-13)
    assert 2 not in order.tolist()
    assert order.tolist().index(0) < 4
    assert 5 not in order.tolist()[:4]
    assert (values[:4] > 1e-6).all()
    assert blocks(x, 0 * y, list(range(6)))[0].tolist() == []


def test_only_what_is_alive_is_taken():
    x, y = drawn(5, 2, 6)
    whole, alive = problem(x, y), torch.tensor([True, False, True, True, False])
    order, _, flops = follow_blocks(whole.gram, whole.cross, torch.arange(5), alive, 5)
    assert sorted(order.tolist()) == [0, 2, 3]
    assert flops > 0
