"""Refit: what it finds is what numpy's least squares finds, layer by layer, and nothing else changes."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import conv, linear
from pydantic import TypeAdapter
from torch import Tensor, nn

from helpers.foundations.data import Dataset
from helpers.foundations.errors import UserError
from helpers.foundations.nets import NetConfig
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.evaluation import evaluate
from helpers.methods.least_squares import Moments, solve
from helpers.methods.refit import refit
from helpers.methods.stage_settings import StageOrRepeat
from helpers.stages.registry import run_stage
from helpers.stages.state import State, begin

torch.set_num_threads(1)

MODES = ["bias", "rescale", "full"]
POOL, FLATTEN = {"type": "adaptive_avgpool", "size": 4}, {"type": "flatten"}
BATCH_NORM, DROPOUT = {"type": "batch_norm"}, {"type": "dropout"}


LOGITS = [POOL, FLATTEN, linear()]
MLP = [POOL, FLATTEN, linear(9), linear(8), linear()]
CNN = [conv(4, 5, stride=4, padding=1), BATCH_NORM, conv(5, 3, padding=1), FLATTEN, linear()]
IMAGES = torch.randn(620, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
"""More than a batch of refit's, and no multiple of one."""


def dense_network(layers: list[dict], activation: str = "relu", seed: int = 0) -> MaskedBodyBuilder:
    """A float64 network in which no bias and no statistic of a batch norm has its default."""
    network = MaskedBodyBuilder({"layers": layers, "activation": activation}, seed=seed).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.bias.normal_(generator=draw)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for part in (module.weight, module.running_var):
                    part.uniform_(0.5, 2, generator=draw)
                for part in (module.bias, module.running_mean):
                    part.normal_(generator=draw)
    return network


def pruned_network(
    layers: list[dict], activation: str = "relu", keep: float = 0.6, units: bool = True, seed: int = 0
) -> tuple[MaskedBodyBuilder, dict[str, Tensor]]:
    """Such a network without some weights and, unless told otherwise, units; and its dense reference."""
    network = dense_network(layers, activation, seed)
    reference = reference_of(network)
    draw, masks = torch.Generator().manual_seed(seed + 1), network.masks()
    for name, mask in masks.items():
        weight = torch.rand(mask.weight.shape, generator=draw) < keep
        unit = torch.arange(len(mask.unit)) % 4 != 2 if units else torch.ones_like(mask.unit)
        masks[name] = LayerMask(weight, unit | (name == network.logits_name))
    network.set_masks(masks)
    return network.eval(), reference


def reference_of(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    return {k: value.clone() for k, value in network.state_dict().items() if not k.endswith("_mask")}


def pooled(images: Tensor) -> np.ndarray:
    """Means of 7 × 7 pixels: what the first linear layer of LOGITS and MLP reads, [n, 16]."""
    return images.numpy().reshape(len(images), 4, 7, 4, 7).mean((2, 4)).reshape(len(images), 16)


def least_squares(
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [out, in] and biases by numpy.linalg.lstsq, unit by unit; the penalty is further rows."""
    weight = np.zeros(mask.shape)
    x_mean, y_mean = x.mean(0), y.mean(0)
    root = np.sqrt(len(x) * ridge * x.var(0).mean())
    for unit, kept in enumerate(mask):
        rows = np.concatenate([(x - x_mean)[:, kept], root * np.eye(kept.sum())])
        right = np.concatenate([(y - y_mean)[:, unit], np.zeros(kept.sum())])
        weight[unit, kept] = np.linalg.lstsq(rows, right, rcond=None)[0]
    return weight, y_mean - weight @ x_mean


def assert_is(layer: nn.Module, weight: np.ndarray, bias: np.ndarray, tolerance: float = 1e-8) -> None:
    """These weights, and these biases where the unit is not pruned."""
    unit = layer.unit_mask.numpy()
    np.testing.assert_allclose(layer.weight.detach().flatten(1).numpy(), weight, atol=tolerance)
    np.testing.assert_allclose(layer.bias.detach().numpy(), bias * unit, atol=tolerance)


# Full


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
def test_full_is_ridge_regression_on_the_kept_weights_with_a_free_bias(ridge):
    network, reference = pruned_network(LOGITS)
    layer, x = network.layers["linear_1"], pooled(IMAGES)
    y = x @ reference["layers.linear_1.weight"].numpy().T + reference["layers.linear_1.bias"].numpy()
    assert len(layer.weight_mask.unique(dim=0)) > 5
    refit(network, reference, IMAGES, "full", ridge)
    assert_is(layer, *least_squares(x, y, layer.weight_mask.numpy(), ridge))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (3, 0), (2, 2), (4, 1)])
def test_full_of_a_convolution_is_regression_on_its_patches(stride, padding):
    size = (28 + 2 * padding - 3) // stride + 1
    images = IMAGES[:: 1 + 12 // stride**2]
    network, reference = pruned_network([conv(4, 3, stride=stride, padding=padding), FLATTEN, linear()])
    layer = network.layers["conv2d_1"]
    framed = np.pad(images.numpy()[:, 0], [(0, 0), (padding,) * 2, (padding,) * 2])
    views = np.lib.stride_tricks.sliding_window_view(framed, (3, 3), (1, 2))[:, ::stride, ::stride]
    x = views.reshape(-1, 9)
    assert len(x) == len(images) * size**2
    y = (
        x @ reference["layers.conv2d_1.weight"].flatten(1).numpy().T
        + reference["layers.conv2d_1.bias"].numpy()
    )
    refit(network, reference, images, "full", 1e-2)
    assert_is(layer, *least_squares(x, y, layer.weight_mask.flatten(1).numpy(), 1e-2))


def test_constant_inputs_get_no_weight_and_do_no_harm_even_without_a_ridge(digits):
    images = digits.train.images[:1000].double()
    black = (images == images[:1]).all(0).flatten()
    middle = torch.arange(784).view(28, 28)[12:16, 10:15].flatten()
    index = torch.cat([middle, black.nonzero().flatten()[:5]]).tolist()
    network, reference = pruned_network([FLATTEN, {"type": "select", "index": index}, linear()])
    x = images.flatten(1)[:, index].numpy()
    y = x @ reference["layers.linear_1.weight"].numpy().T + reference["layers.linear_1.bias"].numpy()
    layer = network.layers["linear_1"]
    varies = x.std(0) > 0
    assert varies.tolist() == [True] * 20 + [False] * 5
    refit(network, reference, images, "full", 0)
    assert not layer.weight[:, -5:].any()
    assert_is(layer, *least_squares(x, y, layer.weight_mask.numpy() & varies, 0), tolerance=1e-6)


@pytest.mark.parametrize("mode", ["rescale", "full"])
@pytest.mark.parametrize(
    "prune",
    [
        {"layers": {"linear_2": {"sparsity": 1.0}}, "sparsity": 0.0},
        {"scope": "global", "sparsity": 0.99},
    ],
    ids=["dead layer", "global"],
)
def test_constants_that_a_dead_layer_gives_are_taken_over_by_the_bias(digits: Dataset, prune, mode) -> None:
    """A layer without weights still gives sigmoid(bias), but for its rounding a constant: nothing to fit."""
    net = NetConfig.model_validate(
        {"layers": [FLATTEN, linear(100), linear(33), linear()], "activation": "sigmoid"}
    )
    state = begin(net, digits, 0)
    run_stage(state, stage({"type": "train", "steps": 20, "batch_size": 50}))
    run_stage(state, stage({"type": "prune", "kind": "weight"} | prune))
    run_stage(state, stage({"type": "refit", "mode": mode, "samples": 1000}))
    run_stage(state, stage({"type": "train", "steps": 20, "batch_size": 50}))
    assert all(layer.weight.abs().max() < 100 for layer in state.network.weighted().values())
    assert evaluate(state.network, digits.test).loss < 2.5
    run_stage(state, stage({"type": "compact"}))
    assert state.compact_difference < 1e-4


def test_a_constant_input_has_no_weight_whatever_its_value_and_rounding():
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(1000, 4, generator=draw, dtype=torch.float64)
    constant = 0.7 + 1e-8 * torch.randn(1000, 1, generator=draw, dtype=torch.float64)
    inputs, targets = torch.cat([values, constant], 1), values @ torch.ones(4, 2, dtype=torch.float64) + 3
    centred, aims = inputs - inputs.mean(0), targets - targets.mean(0)
    moments = Moments(inputs.mean(0), targets.mean(0), centred.T @ centred / 1000, centred.T @ aims / 1000)
    weight = solve(moments, torch.ones(2, 5, dtype=torch.bool), 1e-12)
    assert weight[:, 4].eq(0).all()
    np.testing.assert_allclose(weight[:, :4], 1, rtol=1e-9)
    np.testing.assert_allclose(moments.targets - weight @ moments.inputs, 3, rtol=1e-9)


def test_inputs_that_tell_the_same_are_an_error_without_a_ridge_and_none_with_one():
    network, reference = pruned_network(LOGITS, keep=1.0)
    with pytest.raises(UserError, match="larger ridge"):
        refit(copy.deepcopy(network), reference, IMAGES[:9], "full", 0.0)
    refit(network, reference, IMAGES[:9], "full", 1e-3)
    assert network.layers["linear_1"].weight.isfinite().all()


def test_a_surviving_twin_takes_over_what_a_removed_unit_carried():
    network = dense_network([POOL, FLATTEN, linear(6), linear()], "sigmoid").eval()
    first, second = network.layers["linear_1"], network.layers["linear_2"]
    with torch.no_grad():
        first.weight[4], first.bias[4] = first.weight[1], first.bias[1]
    reference, logits, carried = reference_of(network), network(IMAGES), second.weight.detach().clone()
    masks = network.masks()
    masks["linear_1"].unit[4] = False
    network.set_masks(masks)
    assert not torch.allclose(network(IMAGES), logits, atol=0.1)
    refit(network, reference, IMAGES, "full", 1e-12)
    torch.testing.assert_close(network(IMAGES), logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(second.weight[:, 1], carried[:, 1] + carried[:, 4], atol=1e-4, rtol=0)


def test_a_lost_layer_leaves_the_mean_target_as_the_bias_of_its_readers():
    network, reference = pruned_network(MLP)
    masks = network.masks()
    masks["linear_2"].unit.fill_(False)
    network.set_masks(masks)
    dense = dense_network(MLP).eval()
    refit(network, reference, IMAGES, "full", 1e-3)
    torch.testing.assert_close(network.layers["linear_3"].bias, dense(IMAGES).mean(0))
    assert network(IMAGES).var(0).max() < 1e-20


def test_single_precision_finds_nearly_the_same():
    double, reference = pruned_network(CNN)
    single = copy.deepcopy(double).float()
    refit(double, reference, IMAGES, "full", 1e-3)
    refit(single, reference, IMAGES.float(), "full", 1e-3)
    for name, layer in single.weighted().items():
        torch.testing.assert_close(
            layer.weight.double(), double.layers[name].weight, atol=1e-4, rtol=0, msg=name
        )


# Bias and rescale


def test_bias_moves_each_bias_by_the_mean_error_and_no_weight():
    network, reference = pruned_network(LOGITS)
    layer = network.layers["linear_1"]
    before = layer.weight.detach().clone()
    dense = dense_network(LOGITS).eval()
    expected = layer.bias + (dense(IMAGES) - network(IMAGES)).mean(0)
    refit(network, reference, IMAGES, "bias", 1e-3)
    assert layer.weight.equal(before)
    torch.testing.assert_close(layer.bias, expected)


def test_rescale_is_regression_of_each_unit_on_its_own_pre_activation():
    network, reference = pruned_network(LOGITS)
    masks = network.masks()
    masks["linear_1"].weight[3] = False  # nothing is left to scale, but a bias
    network.set_masks(masks)
    layer, dense = network.layers["linear_1"], dense_network(LOGITS).eval()
    before = layer.weight.detach().numpy().copy()
    z = pooled(IMAGES) @ before.T
    y = dense(IMAGES).detach().numpy()
    weight, bias = np.zeros_like(before), y.mean(0)
    for unit in set(range(10)) - {3}:
        columns = np.stack([z[:, unit], np.ones(len(z))], 1)
        scale, bias[unit] = np.linalg.lstsq(columns, y[:, unit], rcond=None)[0]
        weight[unit] = scale * before[unit]
    refit(network, reference, IMAGES, "rescale", 1e-3)
    assert_is(layer, weight, bias)


def test_rescale_has_one_scale_for_a_filter_over_all_its_places():
    network, reference = pruned_network(CNN)
    before = network.layers["conv2d_1"].weight.detach().clone()
    dense = dense_network(CNN).eval().layers["conv2d_1"](IMAGES).detach()
    z = network.layers["conv2d_1"](IMAGES).detach()
    refit(network, reference, IMAGES, "rescale", 1e-3)
    layer = network.layers["conv2d_1"]
    for unit in layer.unit_mask.nonzero().flatten().tolist():
        slope, _ = np.polyfit(z[:, unit].flatten().numpy(), dense[:, unit].flatten().numpy(), 1)
        torch.testing.assert_close(layer.weight[unit], slope * before[unit])


@pytest.mark.parametrize("seed", range(5))
def test_the_more_is_fitted_the_smaller_the_error_on_the_fitting_images(seed):
    network, reference = pruned_network(LOGITS, keep=0.5, seed=seed)
    dense = dense_network(LOGITS, seed=seed).eval()(IMAGES)
    errors = [((network(IMAGES) - dense) ** 2).sum().item()]
    for mode in MODES:
        fitted = copy.deepcopy(network)
        refit(fitted, reference, IMAGES, mode, 1e-9)
        errors.append(((fitted(IMAGES) - dense) ** 2).sum().item())
    assert errors == sorted(errors, reverse=True)
    assert len(set(errors)) == 4


# Layer by layer


def by_hand(layers: list[dict], mode: str, ridge: float, activation: Callable) -> dict[str, list[np.ndarray]]:
    """Weight and bias of each linear layer after a refit of `pruned_network`, in numpy from end to end."""
    network, reference = pruned_network(layers, activation.__name__)
    values = {key: value.detach().numpy() for key, value in network.state_dict().items()}
    dense = {key: value.numpy() for key, value in reference.items()}
    x = x_dense = pooled(IMAGES)
    found, norm = {}, 0
    for number in range(1, len(network.weighted()) + 1):
        key = f"layers.linear_{number}"
        mask, unit = values[f"{key}.weight_mask"], values[f"{key}.unit_mask"]
        y = x_dense @ dense[f"{key}.weight"].T + dense[f"{key}.bias"]
        weight, bias = values[f"{key}.weight"], (y - x @ values[f"{key}.weight"].T).mean(0)
        if mode == "full":
            weight, bias = least_squares(x, y, mask, ridge)
        elif mode == "rescale":
            z = x @ weight.T
            slopes = [
                np.polyfit(*pair, 1)[0] if np.ptp(pair[0]) else 1 for pair in zip(z.T, y.T, strict=True)
            ]
            scale = np.array(slopes)
            weight, bias = weight * scale[:, None], (y - z * scale).mean(0)
        found[f"linear_{number}"] = [weight, bias * unit]
        x, x_dense = x @ weight.T + bias * unit, y
        if BATCH_NORM in layers and number < len(network.weighted()):
            norm += 1
            name = f"layers.batch_norm_{norm}"
            gain = dense[f"{name}.weight"] / np.sqrt(dense[f"{name}.running_var"] + 1e-5)
            shift = dense[f"{name}.bias"] - gain * dense[f"{name}.running_mean"]
            x, x_dense = gain * x + shift, gain * x_dense + shift
        x, x_dense = activation(x) * unit, activation(x_dense)
    return found


def relu(values: np.ndarray) -> np.ndarray:
    return values.clip(0)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", [relu, sigmoid])
@pytest.mark.parametrize(
    "layers",
    [MLP, [POOL, FLATTEN, linear(9), BATCH_NORM, DROPOUT, linear(8), BATCH_NORM, DROPOUT, linear()]],
    ids=["plain", "batch norm and dropout"],
)
def test_each_layer_is_fitted_from_what_the_fitted_layers_before_it_give(layers, activation, mode):
    expected = by_hand(layers, mode, 1e-2, activation)
    network, reference = pruned_network(layers, activation.__name__)
    refit(network.train(), reference, IMAGES, mode, 1e-2)
    for name, (weight, bias) in expected.items():
        assert_is(network.layers[name], weight, bias)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layers", [MLP, CNN], ids=["mlp", "cnn"])
def test_a_network_that_lacks_nothing_keeps_its_function(layers, mode):
    network = dense_network(layers).eval()
    logits = network(IMAGES)
    refit(network, reference_of(network), IMAGES, mode, 1e-12)
    torch.testing.assert_close(network(IMAGES), logits, atol=1e-6, rtol=0)


def test_a_second_refit_finds_what_the_first_found():
    network, reference = pruned_network(MLP)
    refit(network, reference, IMAGES, "full", 1e-3)
    first = copy.deepcopy(network.state_dict())
    refit(network, reference, IMAGES, "full", 1e-3)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, first[key])


# What stays


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layers", [MLP, CNN], ids=["mlp", "cnn"])
def test_masks_stay_and_what_is_pruned_is_exactly_0(layers, mode):
    network, reference = pruned_network(layers)
    before = network.masks()
    refit(network, reference, IMAGES[:100], mode, 1e-3)
    network.check_masks()
    for name, mask in network.masks().items():
        assert all(map(torch.equal, mask, before[name]))


@pytest.mark.parametrize("is_training", [True, False])
def test_mode_statistics_images_and_reference_are_left_as_they_were(is_training):
    network, reference = pruned_network([*CNN[:-1], DROPOUT, linear()])
    network.train(is_training)
    parameters, images = list(network.parameters()), IMAGES[:50].clone()
    kept = {key: value.clone() for key, value in network.state_dict().items() if "batch_norm" in key}
    words = {key: value.clone() for key, value in reference.items()}
    refit(network, reference, images, "full", 1e-3)
    assert all(module.training == is_training for module in network.modules())
    assert all(value.equal(network.state_dict()[key]) for key, value in kept.items())
    assert reference.keys() == words.keys()
    assert all(value.equal(words[key]) for key, value in reference.items())
    assert images.equal(IMAGES[:50])
    now = list(network.parameters())
    assert all(one is other for one, other in zip(parameters, now, strict=True)), (
        "an optimizer's hold is kept"
    )
    assert all(value.requires_grad and value.grad is None for value in now)


def test_a_full_fit_costs_more_than_a_simple_one_and_twice_the_images_twice_as_much():
    network, reference = pruned_network(MLP)
    flops = [refit(copy.deepcopy(network), reference, IMAGES[:300], mode, 1e-3) for mode in MODES]
    assert 0 < flops[0] == flops[1] < flops[2]
    assert refit(copy.deepcopy(network), reference, IMAGES[:600], "bias", 1e-3) == 2 * flops[0]
    # Beside a dense and a pruned pass, two operations a MAC each, one more product for the pre-activations.
    assert flops[0] == (4 + 2) * network.macs * 300


def test_the_operations_of_a_full_fit_are_those_counted_by_hand():
    n, network = 300, dense_network(LOGITS)
    reference, masks = reference_of(network), network.masks()
    masks["linear_1"].weight[3, 4:] = False
    masks["linear_1"].weight[5:7, 2:] = False  # alike, so that one factorisation serves both
    masks["linear_1"].weight[8] = False
    network.set_masks(masks)
    passes = 2 * 2 * (16 * 10) * n  # dense and pruned, two operations a multiply-accumulate
    moments = 2 * 16 * 16 * n + 2 * 16 * 10 * n
    factors = (16**3 + 4**3 + 2**3) / 3  # Cholesky
    assert refit(network, reference, IMAGES[:n], "full", 1e-3) == pytest.approx(passes + moments + factors)


def test_the_operations_of_a_full_fit_of_a_convolution_are_of_its_patches():
    network = dense_network([conv(4, 5, stride=4, padding=1), FLATTEN, linear()])
    n, places = 40, 7 * 7
    passes = 4 * (places * 25 * 4 + places * 4 * 10) * n
    moments = 2 * 25 * (25 + 4) * places * n + 2 * 196 * (196 + 10) * n
    found = refit(network, reference_of(network), IMAGES[:n], "full", 1e-3)
    assert found == pytest.approx(passes + moments + (25**3 + 196**3) / 3)


@pytest.mark.parametrize("layers", [MLP, CNN], ids=["mlp", "cnn"])
def test_nothing_is_fitted_to_what_a_removed_unit_or_filter_no_longer_gives(layers):
    network, reference = pruned_network(layers, activation="gelu")
    refit(network, reference, IMAGES, "full", 1e-3)
    for name in list(network.weighted())[:-1]:
        reader, owners = network.next_layer(name)
        layer, is_there = network.layers[reader], network.layers[name].unit_mask[owners]
        assert not layer.weight[:, ~is_there].any()
        assert layer.weight[:, is_there][layer.weight_mask[:, is_there]].all()


# As a stage


def stage(words: dict[str, Any]) -> Any:
    return TypeAdapter(StageOrRepeat).validate_python(words)


PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.9}
REFIT = {"type": "refit", "samples": 400}


@pytest.fixture
def pruned(digits: Dataset) -> State:
    """A small digit network after some training and much pruning."""
    layers = [{"type": "adaptive_avgpool", "size": 14}, FLATTEN, linear(20), linear()]
    state = begin(NetConfig.model_validate({"layers": layers}), digits, 0)
    run_stage(
        state,
        stage({"type": "train", "steps": 200, "batch_size": 50, "optimizer": {"type": "adam", "lr": 0.005}}),
    )
    run_stage(state, stage(PRUNE))
    return state


def test_the_stage_repairs_digits_without_their_labels_from_the_first_images_alone(
    pruned: State, digits: Dataset
) -> None:
    train, test = digits.train, digits.test
    other = train.images.clone()
    other[400:] = 0
    blind = dataclasses.replace(train, images=other, labels=torch.zeros_like(train.labels))
    dark = dataclasses.replace(test, images=torch.zeros_like(test.images))
    twin, before = copy.deepcopy(pruned), copy.deepcopy(pruned)
    twin.dataset = dataclasses.replace(digits, train=blind, test=dark)
    run_stage(pruned, stage(REFIT))
    run_stage(twin, stage(REFIT))
    values, again = pruned.network.state_dict(), twin.network.state_dict()
    assert all(value.equal(again[key]) for key, value in values.items())

    def errors(state: State) -> int:
        return int((state.network.eval()(test.images).argmax(1) != test.labels).sum())

    assert errors(pruned) < 0.8 * errors(before)


def test_the_stage_adds_its_operations_and_leaves_the_dense_network_to_later_ones(pruned: State) -> None:
    trained, reference = pruned.train_flops, pruned.reference
    kept = {key: value.clone() for key, value in reference.items()}
    expected = refit(
        copy.deepcopy(pruned.network), reference, pruned.dataset.train.images[:400], "full", 1e-3
    )
    run_stage(pruned, stage(REFIT))
    assert pruned.train_flops == trained + expected
    assert all(value.equal(kept[key]) for key, value in pruned.reference.items())
