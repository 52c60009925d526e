"""Reconstruct: exact counts of what explains most, fitted as numpy fits it, toward the dense network."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from conftest import conv, linear, without_defaults
from pydantic import TypeAdapter
from torch import Tensor, nn

from helpers.foundations.data import Dataset
from helpers.foundations.errors import UserError
from helpers.foundations.nets import NetConfig
from helpers.masked_body_builder import MaskedBodyBuilder
from helpers.methods.evaluation import evaluate
from helpers.methods.least_squares import moments_of, solve
from helpers.methods.reconstruction import reconstruct
from helpers.methods.rectified import Rectifier, rectified_moments, rectifier_of
from helpers.methods.sensitivity import outgoing, sensitivity
from helpers.methods.stage_settings import ReconstructStage, StageOrRepeat
from helpers.stages.registry import run_stage
from helpers.stages.state import State, begin

POOL, FLATTEN, NORM = {"type": "adaptive_avgpool", "size": 4}, {"type": "flatten"}, {"type": "batch_norm"}


LOGITS = [POOL, FLATTEN, linear()]
MLP = [POOL, FLATTEN, linear(9), linear(8), linear()]
NORMED = [POOL, FLATTEN, linear(9), NORM, linear(8), NORM, linear()]
SMALL = {"type": "adaptive_avgpool", "size": 8}
CNN = [SMALL, conv(5, 3), NORM, conv(4, 3, padding=1), {"type": "maxpool"}, FLATTEN, linear(7), linear()]
IMAGES = 7 * torch.randn(620, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
"""Their means over 7 × 7 pixels, which the first linear layers read, vary by about 1."""


def dense_network(layers: list[dict], activation: str = "relu", seed: int = 0) -> MaskedBodyBuilder:
    """A float64 network in which no bias and no statistic of a batch norm has its default."""
    network = MaskedBodyBuilder({"layers": layers, "activation": activation}, seed=seed).double().eval()
    without_defaults(network, seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight[1::3] *= -1
    return network


def reference_of(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    return {k: value.clone() for k, value in network.state_dict().items() if not k.endswith("_mask")}


def stage(**words: Any) -> ReconstructStage:
    return ReconstructStage.model_validate({"type": "reconstruct", "kind": "weight", "sparsity": 0.5} | words)


def done(network: MaskedBodyBuilder, images: Tensor = IMAGES, seed: int = 0, **words: Any) -> list[str]:
    """Reconstruct it in place, toward itself as it is if nothing else is said; the notes."""
    reference = words.pop("reference", None) or reference_of(network)
    draws = torch.Generator().manual_seed(seed)
    flops, notes = reconstruct(network, stage(**words), reference, images, draws)
    assert flops > 0
    network.check_masks()
    return notes


def inputs_of(network: MaskedBodyBuilder, name: str, images: Tensor = IMAGES) -> Tensor:
    """What a layer is given, [n, in]."""
    values = images
    with torch.no_grad():
        for key, module in network.layers.items():
            if key == name:
                return values
            values = module(values)
    raise KeyError(name)


def gone(network: MaskedBodyBuilder, kind: str) -> dict[str, int]:
    """How many are pruned of each layer."""
    masks = network.masks()
    return {name: int((~(m.weight if kind == "weight" else m.unit)).sum()) for name, m in masks.items()}


# Counts


METHODS = ["pursuit", "magnitude", "contribution", "random"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0, 0.37, 0.9, 1])
@pytest.mark.parametrize("kind", ["weight", "unit", "filter"])
def test_exactly_the_share_asked_for_is_pruned_in_each_layer(kind, sparsity, method):
    network = dense_network(CNN)
    notes = done(network, kind=kind, sparsity=sparsity, method=method)
    sizes = {
        "weight": {"conv2d_1": 45, "conv2d_2": 180, "linear_1": 252},
        "unit": {"linear_1": 7},
        "filter": {"conv2d_1": 5, "conv2d_2": 4},
    }[kind]
    expected = {name: round(sparsity * size) for name, size in sizes.items()}
    found = gone(network, kind)
    assert {name: found[name] for name in sizes} == expected
    if kind != "weight":
        assert sum(found.values()) == sum(expected.values())
    assert len(notes) == sum(count == sizes[name] for name, count in expected.items())
    assert network(IMAGES).isfinite().all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "sizes"), [("weight", (16 * 9, 9 * 8)), ("unit", (9, 8))])
@pytest.mark.parametrize("sparsity", [0, 0.6, 1])
def test_exactly_the_share_asked_for_is_pruned_of_all_layers_together(kind, sizes, sparsity, method):
    network = dense_network(MLP)
    done(network, kind=kind, sparsity=sparsity, method=method, scope="global")
    assert sum(gone(network, kind).values()) == round(sparsity * sum(sizes))
    assert not gone(network, kind)["linear_3"]


def test_layers_and_the_logits_have_the_shares_that_are_said():
    network = dense_network(MLP)
    done(network, layers={"linear_1": {"sparsity": 0.25}, "linear_3": {"sparsity": 0.9}})
    assert gone(network, "weight") == {"linear_1": 36, "linear_2": 36, "linear_3": 72}
    network = dense_network(MLP)
    done(network, layers="all", scope="global")
    assert sum(gone(network, "weight").values()) == (144 + 72 + 80) / 2
    assert gone(network, "weight")["linear_3"] > 0


@pytest.mark.parametrize("kind", ["weight", "unit"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_pruned_stays_pruned_and_counts(kind, method):
    network, dense = dense_network(MLP), dense_network(MLP)
    masks = network.masks()
    masks["linear_1"].unit[[1, 4]] = False
    masks["linear_2"].weight[:, 3] = False
    network.set_masks(masks)
    before = network.masks()
    done(network, kind=kind, method=method, sparsity=0.6, reference=reference_of(dense))
    for name, mask in network.masks().items():
        assert not (mask.weight & ~before[name].weight).any()
        assert not (mask.unit & ~before[name].unit).any()
    found = gone(network, kind)
    assert (found["linear_1"], found["linear_2"]) == ((86, 43) if kind == "weight" else (5, 5))


def test_less_than_is_pruned_already_is_an_error():
    network = dense_network(MLP)
    done(network, sparsity=0.5)
    with pytest.raises(UserError, match="reconstruct: linear_1: 72 of 144 are pruned already"):
        done(network, sparsity=0.4)


@pytest.mark.parametrize("method", METHODS)
def test_dead_and_constant_inputs_and_layers_of_one_unit_have_exact_counts(method):
    layers = [POOL, FLATTEN, linear(1), linear(6), linear(1), linear()]
    images = IMAGES.clone()
    images[:, :, :14] = 0.5  # half of what the first layer reads is constant
    for kind, expected in (("weight", [8, 3, 3, 0]), ("unit", [0, 3, 0, 0])):
        network = dense_network(layers, "tanh")
        masks = network.masks()
        masks["linear_2"].unit[:2] = False
        network.set_masks(masks)
        done(network, images, kind=kind, method=method, fit="linear")
        assert list(gone(network, kind).values()) == expected
        assert network(images).isfinite().all()


def test_of_constant_inputs_none_is_taken_while_others_tell_something():
    network, images = dense_network(LOGITS), IMAGES.clone()
    images[:, :, :14] = 0.5
    done(network, images, layers={"linear_1": {"sparsity": 0.5}})
    assert network.layers["linear_1"].weight_mask.sum(0).tolist() == [0] * 8 + [10] * 8


# Values


def least_squares(x: np.ndarray, y: np.ndarray, kept: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Weights [in] and bias by numpy.linalg.lstsq; the penalty is further rows."""
    weight, root = np.zeros(x.shape[1]), np.sqrt(len(x) * ridge * x.var(0).mean())
    rows = np.concatenate([(x - x.mean(0))[:, kept], root * np.eye(kept.sum())])
    right = np.concatenate([y - y.mean(), np.zeros(kept.sum())])
    weight[kept] = np.linalg.lstsq(rows, right, rcond=None)[0]
    return weight, y.mean() - x.mean(0) @ weight


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_a_linear_fit_is_ridge_regression_on_what_the_pruned_network_gives(method, ridge):
    network, dense = dense_network(MLP), dense_network(MLP)
    done(network, method=method, ridge=ridge, fit="linear", sparsity=0.7)
    for name, layer in network.weighted().items():
        x, y = inputs_of(network, name).numpy(), dense.layers[name](inputs_of(dense, name)).detach().numpy()
        for unit, kept in enumerate(layer.weight_mask.numpy()):
            weight, bias = least_squares(x, y[:, unit], kept, ridge)
            np.testing.assert_allclose(layer.weight[unit].detach(), weight, atol=1e-8)
            np.testing.assert_allclose(layer.bias[unit].item(), bias, atol=1e-8)


@pytest.mark.parametrize("layers", [MLP, NORMED], ids=["plain", "batch norm"])
def test_a_rectified_fit_is_regression_on_targets_that_are_off_where_the_dense_unit_is(layers):
    """By hand in numpy: what the ReLU gives decides, be its batch norm's gain positive or negative."""
    network, dense = dense_network(layers), dense_network(layers)
    done(network, sparsity=0.6, rounds=2)
    x, y = inputs_of(dense, "linear_1").numpy(), dense.layers["linear_1"](inputs_of(dense, "linear_1"))
    norm = dense.norm_after("linear_1")

    def normed(values: np.ndarray) -> np.ndarray:
        return values if norm is None else norm(torch.from_numpy(values)).detach().numpy()

    y = y.detach().numpy()
    is_off = normed(y) <= 0
    assert 0.2 < is_off.mean() < 0.8
    layer = network.layers["linear_1"]
    target = y.copy()
    for _ in range(3):
        pairs = zip(target.T, layer.weight_mask.numpy(), strict=True)
        fits = [least_squares(x, column, kept, 1e-3) for column, kept in pairs]
        fitted = np.stack([x @ weight + bias for weight, bias in fits], 1)
        # The nearest value that is off: the fit, or where that is on, the edge, at which the norm gives 0.
        lines = [np.polyfit(*pair, 1) for pair in zip(y.T, normed(y).T, strict=True)]
        edge = np.array([-offset / slope for slope, offset in lines])
        target = np.where(is_off, np.where(normed(fitted) <= 0, fitted, edge), y)
    for unit, (weight, bias) in enumerate(fits):
        np.testing.assert_allclose(layer.weight[unit].detach(), weight, atol=1e-6)
        if weight.any():  # else it is a constant, which the next bias makes up for
            np.testing.assert_allclose(layer.bias[unit].item(), bias, atol=1e-6)


def test_each_round_of_rectified_targets_lowers_the_error_after_the_relu():
    dense, draw = dense_network(LOGITS), torch.Generator().manual_seed(3)
    layer, x = dense.layers["linear_1"], inputs_of(dense, "linear_1")
    with torch.no_grad():
        layer.bias.zero_()
        targets, mask = layer(x), torch.rand(layer.weight.shape, generator=draw) < 0.6
        moments = first = moments_of(layer, [x], [targets])
        rectifier, errors = Rectifier(torch.zeros(10).double(), torch.ones(10).double()), []
        for _ in range(6):
            weight = solve(moments, mask, 1e-9)
            bias = moments.targets - weight @ moments.inputs
            fitted = x @ weight.T + bias
            errors.append(float((rectifier.targets(targets, fitted) - fitted).square().sum()))
            moments, _ = rectified_moments(layer, [x], [targets], moments, weight, bias, rectifier)
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.8 * errors[0]
        # With nothing off, nothing changes.
        never = Rectifier(torch.full((10,), -torch.inf).double(), torch.ones(10).double())
        same, _ = rectified_moments(layer, [x], [targets], first, weight, bias, never)
        used = weight.any(0)
        torch.testing.assert_close(same.cross[used], first.cross[used])
        torch.testing.assert_close(same.targets, first.targets)


def test_a_unit_that_its_batch_norm_multiplies_by_0_may_be_anything():
    network = dense_network(NORMED)
    norm = network.norm_after("linear_1")
    with torch.no_grad():
        norm.weight[2] = 0
        rectifier = rectifier_of(network, "linear_1")
        fitted, dense = torch.randn(50, 9).double(), torch.randn(50, 9).double()
        targets = rectifier.targets(dense, fitted)
    assert targets[:, 2].equal(fitted[:, 2])
    assert not targets[:, 0].equal(fitted[:, 0])


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_without_a_relu_a_fit_is_linear_and_says_so(activation):
    one, other = dense_network(MLP, activation), dense_network(MLP, activation)
    (note,) = done(one, sparsity=0.5)
    assert "no ReLU reads linear_1, linear_2" in note
    assert done(other, sparsity=0.5, fit="linear") == []
    assert one.layers["linear_2"].weight.equal(other.layers["linear_2"].weight)


@pytest.mark.parametrize("kind", ["weight", "unit", "filter"])
def test_a_network_that_loses_nothing_keeps_its_function(kind):
    network = dense_network(CNN)
    logits = network(IMAGES)
    done(network, kind=kind, sparsity=0, ridge=1e-12)
    torch.testing.assert_close(network(IMAGES), logits, atol=1e-5, rtol=0)


def test_pursuit_finds_the_weights_that_are_not_0():
    """Of a dense layer that is sparse, given as many weights as it has."""
    network, draw = dense_network(LOGITS), torch.Generator().manual_seed(5)
    layer = network.layers["linear_1"]
    with torch.no_grad():
        size = 1 + torch.rand(layer.weight.shape, generator=draw)
        layer.weight.copy_(layer.weight.sign() * size * (torch.rand(size.shape, generator=draw) < 0.25))
    kept, logits = layer.weight != 0, network(IMAGES)
    assert len(set(kept.sum(1).tolist())) > 3
    sparsity = 1 - float(kept.double().mean())
    done(network, layers={"linear_1": {"sparsity": sparsity}}, ridge=1e-10)
    assert layer.weight_mask.equal(kept)
    torch.testing.assert_close(network(IMAGES), logits, atol=1e-6, rtol=0)


def test_of_twin_units_one_is_enough_and_it_is_the_first():
    network = dense_network([POOL, FLATTEN, linear(8), linear()])
    layer = network.layers["linear_1"]
    with torch.no_grad():
        for one, other in ((1, 0), (4, 3), (6, 2), (7, 5)):
            layer.weight[one], layer.bias[one] = layer.weight[other], layer.bias[other]
    logits = network(IMAGES)
    done(network, kind="unit", ridge=1e-10)
    assert network.masks_of("linear_1").unit.tolist() == [True, False, True, True, False, True, False, False]
    torch.testing.assert_close(network(IMAGES), logits, atol=1e-5, rtol=0)


def test_a_constant_filter_is_worth_something_only_where_padding_shows():
    """Its map is a constant that a bias replaces, but for the border that padding gives its reader."""
    for padding, is_kept in ((0, False), (1, True)):
        network = dense_network([SMALL, conv(4, 3), conv(3, 3, padding=padding), FLATTEN, linear()])
        first = network.layers["conv2d_1"]
        with torch.no_grad():
            first.weight[1], first.bias[1] = 0, 5.0
        done(network, kind="filter", sparsity=0, layers={"conv2d_1": {"sparsity": 0.5}})
        assert bool(network.masks_of("conv2d_1").unit[1]) == is_kept


# What an error costs


@pytest.mark.parametrize("layers", [MLP, NORMED, CNN], ids=["mlp", "batch norm", "cnn"])
def test_sensitivity_is_the_mean_square_of_the_jacobian(layers):
    network, images = dense_network(layers), IMAGES[:12]
    found = sensitivity(network, images)
    for name, layer in network.weighted().items():
        parts = list(network.layers.items())
        place = next(index for index, (key, _) in enumerate(parts) if key == name)

        def logits(z: Tensor, rest: list[tuple[str, nn.Module]] = parts[place + 1 :]) -> Tensor:
            for _, module in rest:
                z = module(z)
            return z

        z = layer(inputs_of(network, name, images)).detach()
        exact = torch.stack([torch.func.jacrev(logits)(one[None])[0, :, 0] for one in z])
        expected = exact.unsqueeze(-1).flatten(3).square().sum((1, 3)).mean(0)
        torch.testing.assert_close(found[name], expected)
    assert found[network.logits_name].tolist() == pytest.approx([1] * 10)


def test_outgoing_is_the_squared_norm_of_what_reads_a_unit():
    network = dense_network([SMALL, conv(3, 3), NORM, FLATTEN, linear(5), linear()])
    found = outgoing(network)
    norm, reader = network.norm_after("conv2d_1"), network.layers["linear_1"].weight
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = reader.view(5, 3, 36).square().sum((0, 2)) * gain**2
    torch.testing.assert_close(found["conv2d_1"], expected.detach())
    torch.testing.assert_close(found["linear_1"], network.layers["linear_2"].weight.square().sum(0).detach())
    assert found["linear_2"].tolist() == [1] * 10


def test_a_unit_of_no_consequence_gets_nothing_unless_it_weighs_like_all_others():
    for weigh, is_given in (("sensitivity", False), ("outgoing", False), ("none", True)):
        network = dense_network(MLP)
        with torch.no_grad():
            network.layers["linear_2"].weight[:, 4] = 0
        done(network, weigh=weigh, sparsity=0.7)
        assert network.layers["linear_1"].weight_mask[4].any() == is_given


def test_selection_and_weighing_and_targets_each_lower_the_error_of_the_logits():
    """On the average over networks: what the prototypes promised, in the small."""
    errors: dict[str, list[float]] = {}
    for seed in range(6):
        for name, words in {
            "all": {},
            "random": {"method": "random"},
            "magnitude": {"method": "magnitude", "weigh": "none"},
            "unweighed": {"weigh": "none"},
            "linear": {"fit": "linear"},
        }.items():
            network = dense_network([POOL, FLATTEN, linear(20), linear(20), linear()], seed=seed)
            logits = network(IMAGES)
            done(network, sparsity=0.85, **words)
            missing = (network(IMAGES) - logits).detach().square().mean()
            errors.setdefault(name, []).append(float(missing / logits.detach().var()))
    means = {name: np.mean(found) for name, found in errors.items()}
    assert means["all"] < min(means["random"], means["magnitude"]) / 1.5
    assert means["all"] < min(means["unweighed"], means["linear"])


# As a stage


def a_stage(**words: Any) -> Any:
    return TypeAdapter(StageOrRepeat).validate_python(
        {"type": "reconstruct", "kind": "weight", "sparsity": 0.9} | words
    )


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> State:
    """A small digit network after some training."""
    layers = [{"type": "adaptive_avgpool", "size": 14}, FLATTEN, linear(30), linear(20), linear()]
    state = begin(NetConfig.model_validate({"layers": layers}), digits, 0)
    adam = {"type": "adam", "lr": 0.005}
    run_stage(
        state,
        TypeAdapter(StageOrRepeat).validate_python(
            {"type": "train", "steps": 200, "batch_size": 50, "optimizer": adam}
        ),
    )
    return state


def test_the_stage_beats_pruning_and_refit_without_labels_and_from_the_first_images_alone(
    trained: State, digits: Dataset
) -> None:
    train = digits.train
    other = train.images.clone()
    other[400:] = 0
    blind = dataclasses.replace(train, images=other, labels=torch.zeros_like(train.labels))
    state, twin, rival = (copy.deepcopy(trained) for _ in range(3))
    twin.dataset = dataclasses.replace(digits, train=blind)
    for one in (state, twin):
        run_stage(one, a_stage(samples=400))
    assert all(v.equal(twin.network.state_dict()[k]) for k, v in state.network.state_dict().items())
    assert state.notes == []
    for words in ({"type": "prune", "kind": "weight", "sparsity": 0.9}, {"type": "refit", "samples": 400}):
        run_stage(rival, TypeAdapter(StageOrRepeat).validate_python(words))
    assert state.network.sparsity() == rival.network.sparsity()
    found = [evaluate(one.network, digits.test).accuracy for one in (trained, state, rival)]
    assert found[0] - 0.1 < found[1]
    assert found[1] > found[2] + 0.02


def test_the_stage_counts_as_one_that_pruned_and_leaves_what_is_fitted_to(trained: State) -> None:
    state = copy.deepcopy(trained)
    before = {key: value.clone() for key, value in state.reference.items()}
    flops, pruned, epochs = state.train_flops, state.pruned, state.epochs
    run_stage(state, a_stage(method="random"))
    first = state.network.masks()
    assert (state.pruned, state.epochs) == (pruned + 1, epochs)
    assert state.train_flops > flops + 4 * state.network.macs * 1000
    assert all(value.equal(before[key]) for key, value in state.reference.items())
    again, other = copy.deepcopy(trained), copy.deepcopy(trained)
    run_stage(again, a_stage(method="random"))
    other.pruned += 1
    run_stage(other, a_stage(method="random"))
    masks = [one.network.masks()["linear_1"].weight for one in (again, other)]
    assert masks[0].equal(first["linear_1"].weight)
    assert not masks[1].equal(masks[0])


@pytest.mark.parametrize("kind", ["weight", "unit"])
def test_the_same_stage_gives_the_same_bits(trained: State, kind: str) -> None:
    states = [copy.deepcopy(trained) for _ in range(2)]
    for state in states:
        state.network.train()
        run_stage(state, a_stage(kind=kind, scope="global"))
        assert state.network.training
    one, other = (state.network.state_dict() for state in states)
    assert all(value.equal(other[key]) for key, value in one.items())


def test_mode_statistics_and_parameters_are_left_as_they_were() -> None:
    network = dense_network(CNN).train()
    held, images = list(network.parameters()), IMAGES[:50].clone()
    norms = {key: value.clone() for key, value in network.state_dict().items() if "batch_norm" in key}
    done(network, images, kind="filter")
    assert all(module.training for module in network.modules())
    assert all(value.equal(network.state_dict()[key]) for key, value in norms.items())
    assert all(one is other for one, other in zip(held, network.parameters(), strict=True))
    assert all(value.requires_grad and value.grad is None for value in held)
    assert images.equal(IMAGES[:50])


def test_units_first_and_then_weights_have_shares_of_the_full_network() -> None:
    network, reference = dense_network(MLP), reference_of(dense_network(MLP))
    done(network, kind="unit", sparsity=0.5, reference=reference)
    units = network.masks()
    done(network, kind="weight", sparsity=0.8, reference=reference)
    assert gone(network, "weight") == {"linear_1": 115, "linear_2": 58, "linear_3": 0}
    assert all(mask.unit.equal(units[name].unit) for name, mask in network.masks().items())
    # Weights that read what is gone tell nothing, and are not taken while others do.
    assert not network.layers["linear_2"].weight_mask[:, ~units["linear_1"].unit].any()


def test_an_unsolvable_fit_is_told_in_words() -> None:
    network = dense_network(LOGITS)
    with pytest.raises(UserError, match=r"reconstruct: some inputs .*larger ridge"):
        done(network, IMAGES[:9], sparsity=0, ridge=0.0, kind="weight", layers="all")
