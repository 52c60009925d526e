"""Criteria: every score is what a plain loop or autograd over single images says; every count is exact."""

import dataclasses
import importlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from helpers.foundations.data import Dataset, Split
from helpers.foundations.nets import prunable_names
from helpers.foundations.seeds import generator
from helpers.masked_body_builder import MaskedBodyBuilder
from helpers.methods import scoring
from helpers.methods.compaction import compact
from helpers.methods.criteria import CRITERIA, Criterion
from helpers.methods.scoring import ScoringContext
from helpers.methods.stage_settings import PruneStage
from helpers.pruning import prune
from helpers.stages.registry import run_stage
from helpers.stages.state import begin

FLATTEN, NORM, POOL = {"type": "flatten"}, {"type": "batch_norm"}, {"type": "maxpool"}


def linear(units: int = 10, **words: str) -> dict:
    return {"type": "linear", "units": units, **words}


def conv(filters: int, **words: int) -> dict:
    return {"type": "conv2d", "filters": filters, "kernel": 3, **words}


def shrunk(side: int) -> dict:
    """Digits of this many pixels a side."""
    return {"type": "adaptive_avgpool", "size": side}


MLP = {"layers": [shrunk(3), FLATTEN, linear(6), NORM, linear(5), linear()]}
TANH = MLP | {"activation": "tanh"}
CNN = {
    "layers": [
        shrunk(8), conv(4, padding=1), NORM, POOL, conv(3, stride=2, padding=1), FLATTEN, linear(5), linear()
    ]
}  # fmt: skip
NETS = {"mlp": MLP, "tanh": TANH, "cnn": CNN}
PAIRS = [(criterion, kind) for criterion, found in CRITERIA.items() for kind in found.kinds]
NOT_SHUFFLED = [pair for pair in PAIRS if pair[0] != "shuffle"]


def made(net: dict, seed: int = 1) -> MaskedBodyBuilder:
    """A network in evaluation mode, with biases and batch-norm values as a training leaves them."""
    network, draw = MaskedBodyBuilder(net, seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith(("bias", "running_mean")):
                value.copy_(torch.randn(value.shape, generator=draw) / 4)
            elif key.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=draw))
    return network.eval()


def few(digits: Dataset, size: int) -> Split:
    return Split(*(part[:size] for part in vars(digits.train).values()))


def scored(network: MaskedBodyBuilder, criterion: str, kind: str, images: Split) -> dict[str, np.ndarray]:
    """What the criterion gives the layers of this kind, the logits too where weights are meant."""
    names, logits = prunable_names(network.net, kind)
    names += [logits] if kind == "weight" else []
    context = ScoringContext(network, names, kind, generator(0, "masks", 0), images.images, images.labels)
    return {name: value.double().numpy() for name, value in CRITERIA[criterion].score(context).items()}


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert np.ptp(values) > 0, "a score that tells nothing apart"
        np.testing.assert_allclose(found[name], values, rtol=2e-4, atol=2e-5 * np.abs(values).max())


# The network by hand, an image at a time


def convolved(layer: torch.nn.Conv2d, x: np.ndarray) -> np.ndarray:
    weight, stride, pad = layer.weight.detach().double().numpy(), layer.stride[0], layer.padding[0]
    padded, side = np.pad(x, ((0, 0), (pad, pad), (pad, pad))), weight.shape[2]
    size = (padded.shape[1] - side) // stride + 1
    out = np.zeros((len(weight), size, size))
    for f, y, z in np.ndindex(out.shape):
        window = padded[:, y * stride : y * stride + side, z * stride : z * stride + side]
        out[f, y, z] = (weight[f] * window).sum() + layer.bias[f].item()
    return out


def by_hand(network: MaskedBodyBuilder, image: Tensor) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What each layer with weights takes in, and its activation, for one image."""
    words, inputs, activations = network.net.layers, {}, {}
    activation = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}[network.net.activation]
    x, current = image.double().numpy(), ""
    for shape, word in zip(network.shapes, words, strict=True):
        layer = network.layers[shape.name]
        if word.type == "adaptive_avgpool":
            x = F.adaptive_avg_pool2d(torch.from_numpy(x), word.size).numpy()
        elif word.type == "flatten":
            x = x.reshape(-1)
        elif word.type == "maxpool":
            x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
        elif word.type == "batch_norm":
            mean, var, scale, shift = (
                getattr(layer, key).detach().double().numpy().reshape(-1, *[1] * (x.ndim - 1))
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = activations[current] = activation((x - mean) / np.sqrt(var + layer.eps) * scale + shift)
        else:
            current, inputs[shape.name] = shape.name, x
            if word.type == "conv2d":
                x = convolved(layer, x)
            else:
                x = layer.weight.detach().double().numpy() @ x + layer.bias.detach().double().numpy()
            following = words[network.shapes.index(shape) + 1].type if shape is not network.shapes[-1] else ""
            if following != "batch_norm" and following:
                x = activations[current] = activation(x)
    return inputs, activations


def seen(network: MaskedBodyBuilder, images: Tensor, what: int) -> dict[str, np.ndarray]:
    """Per layer its inputs (0) or activations (1) over the images: [n, features] or [n, channels, places]."""
    found = [by_hand(network, image)[what] for image in images]
    stacked = {name: np.stack([values[name] for values in found]) for name in found[0]}
    return {name: v.reshape(*v.shape[:2], -1) if v.ndim > 2 else v for name, v in stacked.items()}


def weight_of(network: MaskedBodyBuilder, name: str) -> np.ndarray:
    return network.weighted()[name].weight.detach().double().numpy()


def along(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """One number an input, as wide as the weights."""
    return np.broadcast_to(values.reshape(1, -1, *[1] * (weight.ndim - 2)), weight.shape)


@pytest.mark.parametrize("net", NETS)
def test_wanda_is_the_weight_times_the_root_mean_square_of_its_input(digits: Dataset, net: str) -> None:
    network, images = made(NETS[net]), few(digits, 7)
    inputs = seen(network, images.images, 0)
    expected = {}
    for name, values in inputs.items():
        norm = np.array([math.sqrt(np.mean(values[:, place] ** 2)) for place in range(values.shape[1])])
        expected[name] = np.abs(weight_of(network, name)) * along(norm, weight_of(network, name))
    assert_close(scored(network, "wanda", "weight", images), expected)


@pytest.mark.parametrize("net", NETS)
def test_the_contribution_of_a_weight_is_its_size_times_the_spread_of_its_input(
    digits: Dataset, net: str
) -> None:
    network, images = made(NETS[net]), few(digits, 7)
    expected = {}
    for name, values in seen(network, images.images, 0).items():
        spread = np.array([values[:, place].std() for place in range(values.shape[1])])
        expected[name] = np.abs(weight_of(network, name)) * along(spread, weight_of(network, name))
    assert_close(scored(network, "contribution", "weight", images), expected)


@pytest.mark.parametrize("net", ["mlp", "cnn"])
@pytest.mark.parametrize("kind", ["unit", "filter"])
def test_the_geometric_median_is_the_sum_of_distances_to_the_others(
    digits: Dataset, net: str, kind: str
) -> None:
    network, images = made(NETS[net]), few(digits, 1)
    expected = {}
    for name in prunable_names(network.net, kind)[0]:
        rows = weight_of(network, name).reshape(len(weight_of(network, name)), -1)
        expected[name] = np.array([sum(math.dist(row, other) for other in rows) for row in rows])
    assert_close(scored(network, "geometric_median", kind, images), expected)


def test_the_code_of_a_criterion_is_another_where_it_computes_otherwise_and_not_where_it_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    head = "from helpers.methods.criteria import Criterion\n"
    texts = {
        "plain": 'def score(context):\n    """Of a kind."""\n    return {}\n',
        "reworded": 'def score(context):\n    """Of another kind."""\n    # why\n    return {}\n',
        "edited": 'def score(context):\n    """Of a kind."""\n    return {1: 2}\n',
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / f"criterion_{name}.py").write_text(head + text)
        score = importlib.import_module(f"criterion_{name}").score
        found[name] = Criterion(score, ("unit",), False, None, "", "").code
    assert found["plain"] == found["reworded"] != found["edited"]


def test_of_two_alike_and_one_apart_the_geometric_median_keeps_the_one_apart(digits: Dataset) -> None:
    network = made({"layers": [shrunk(3), FLATTEN, linear(3), linear()]})
    weight = network.weighted()["linear_1"].weight
    with torch.no_grad():
        weight.copy_(torch.ones_like(weight) * torch.tensor([1.0, 1.1, 5.0]).view(-1, 1))
    scores = scored(network, "geometric_median", "unit", few(digits, 1))["linear_1"]
    assert scores.argsort().tolist() == [1, 0, 2]


def outgoing(network: MaskedBodyBuilder, name: str, spread: Callable | None = None) -> np.ndarray:
    """Norm of what reads each unit or filter: over its places, Σ of weight² (× the variance there)."""
    names = list(network.weighted())
    reader = names[names.index(name) + 1]
    weight, units = weight_of(network, reader), len(weight_of(network, name))
    each = weight.shape[1] // units  # after flatten, a filter has several features, side by side
    total = np.zeros(units)
    for place in range(weight.shape[1]):
        share = 1.0 if spread is None else spread(reader)[place] ** 2
        total[place // each] += share * (weight[:, place] ** 2).sum()
    return np.sqrt(total)


@pytest.mark.parametrize(
    ("net", "kind"), [("mlp", "unit"), ("tanh", "unit"), ("cnn", "unit"), ("cnn", "filter")]
)
def test_the_contribution_of_a_unit_is_the_spread_of_its_activation_times_the_norm_of_what_reads_it(
    digits: Dataset, net: str, kind: str
) -> None:
    """Filters are read by a convolution through a pool, or by a linear layer through flatten."""
    network, images = made(NETS[net]), few(digits, 7)
    inputs = seen(network, images.images, 0)

    def spread(reader: str) -> np.ndarray:
        values = inputs[reader]
        return np.array([values[:, place].std() for place in range(values.shape[1])])

    names, _ = prunable_names(network.net, kind)
    expected = {name: outgoing(network, name, spread) for name in names}
    assert_close(scored(network, "contribution", kind, images), expected)


@pytest.mark.parametrize(("net", "kind"), [("mlp", "unit"), ("cnn", "unit"), ("cnn", "filter")])
def test_l1_sums_what_comes_in_and_in_out_multiplies_the_norms_of_what_comes_in_and_goes_out(
    digits: Dataset, net: str, kind: str
) -> None:
    network, images = made(NETS[net]), few(digits, 1)
    names, _ = prunable_names(network.net, kind)
    summed = {name: np.array([np.abs(row).sum() for row in weight_of(network, name)]) for name in names}
    assert_close(scored(network, "l1", kind, images), summed)
    norms = {
        name: np.array([math.sqrt((row**2).sum()) for row in weight_of(network, name)])
        * outgoing(network, name)
        for name in names
    }
    assert_close(scored(network, "in_out", kind, images), norms)


@pytest.mark.parametrize(("net", "kind"), [("mlp", "unit"), ("cnn", "unit"), ("cnn", "filter")])
def test_apoz_is_one_less_the_share_of_zeros_over_images_and_places(
    digits: Dataset, net: str, kind: str
) -> None:
    network, images = made(NETS[net]), few(digits, 9)
    activations, expected = seen(network, images.images, 1), {}
    for name in prunable_names(network.net, kind)[0]:
        values = activations[name]
        units = range(values.shape[1])
        expected[name] = np.array([1 - (values[:, unit] == 0).sum() / values[:, unit].size for unit in units])
    found = scored(network, "apoz", kind, images)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12)


@pytest.mark.parametrize("net", NETS)
def test_taylor_of_a_weight_is_that_times_the_gradient_of_the_mean_loss(digits: Dataset, net: str) -> None:
    network, images = made(NETS[net]), few(digits, 7)
    totals = {name: np.zeros(layer.weight.shape) for name, layer in network.weighted().items()}
    for image, label in zip(images.images, images.labels, strict=True):
        loss = F.cross_entropy(network(image[None]), label[None])
        gradients = torch.autograd.grad(loss, [layer.weight for layer in network.weighted().values()])
        for total, gradient in zip(totals.values(), gradients, strict=True):
            total += gradient.double().numpy() / 7
    expected = {name: np.abs(weight_of(network, name) * total) for name, total in totals.items()}
    assert_close(scored(network, "taylor", "weight", images), expected)


ACTIVATED = {
    ("tanh", "unit"): {"linear_1": "batch_norm_1:tanh", "linear_2": "linear_2:tanh"},
    ("mlp", "unit"): {"linear_1": "batch_norm_1:relu", "linear_2": "linear_2:relu"},
    ("cnn", "unit"): {"linear_1": "linear_1:relu"},
    ("cnn", "filter"): {"conv2d_1": "batch_norm_1:relu", "conv2d_2": "conv2d_2:relu"},
}


@pytest.mark.parametrize(("net", "kind"), ACTIVATED)
def test_taylor_of_a_unit_is_the_mean_slope_of_each_images_loss_along_a_gate_on_its_activation(
    digits: Dataset, net: str, kind: str
) -> None:
    """∂L/∂gate is Σ over places of a·∂L/∂a; its modulus is taken by image (Molchanov et al. 2017)."""
    network, images, expected = made(NETS[net]), few(digits, 7), {}
    for name, place in ACTIVATED[net, kind].items():
        gate = torch.ones(len(weight_of(network, name)), requires_grad=True)

        def through(module: object, taken: object, put: Tensor, gate: Tensor = gate) -> Tensor:
            return put * gate.view(1, -1, *[1] * (put.dim() - 2))

        handle, total = network.layers[place].register_forward_hook(through), np.zeros(len(gate))
        for image, label in zip(images.images, images.labels, strict=True):
            loss = F.cross_entropy(network(image[None]), label[None])
            total += torch.autograd.grad(loss, gate)[0].abs().double().numpy()
        handle.remove()
        expected[name] = total / math.sqrt((total**2).sum())
    assert_close(scored(network, "taylor", kind, images), expected)


def curvature(jacobian: Tensor, logits: Tensor) -> Tensor:
    """Diagonal of JᵀHJ for one image: J [classes, …], H that of the cross-entropy at the logits."""
    p = logits.detach().softmax(0)
    hessian = torch.diag(p) - torch.outer(p, p)
    return torch.einsum("k...,kl,l...->...", jacobian, hessian, jacobian)


@pytest.mark.parametrize("net", NETS)
def test_obd_is_the_squared_weight_times_the_gauss_newton_diagonal(digits: Dataset, net: str) -> None:
    """Exact for linear layers, from the Jacobian of each image's logits by each weight."""
    network, images = made(NETS[net]).double(), few(digits, 5)
    pictures = images.images.double()
    found = scored(network, "obd", "weight", Split(pictures, images.labels, images.index))
    for name in [name for name in network.weighted() if name.startswith("linear")]:
        key = f"layers.{name}.weight"
        values = {key: network.weighted()[name].weight.detach()}

        def logits(value: dict[str, Tensor], image: Tensor) -> Tensor:
            return functional_call(network, value, (image[None],))[0]

        jacobians = vmap(jacrev(logits), (None, 0))(values, pictures)[key]
        diagonal = sum(
            curvature(j, logits(values, image)) for j, image in zip(jacobians, pictures, strict=True)
        )
        expected = (values[key] ** 2 * diagonal / 5).detach().numpy()
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-12)


def test_obd_of_a_shared_weight_sums_the_curvature_times_the_squared_input_over_places(
    digits: Dataset,
) -> None:
    network, images = made(CNN).double(), few(digits, 3)
    pictures = images.images.double()
    found = scored(network, "obd", "weight", Split(pictures, images.labels, images.index))
    for name in ("conv2d_1", "conv2d_2"):
        layer, total = network.weighted()[name], np.zeros(network.weighted()[name].weight.shape)
        stride, pad = layer.stride[0], layer.padding[0]
        for image in pictures:
            x = by_hand(network, image)[0][name]
            padded, size = np.pad(x, ((0, 0), (pad, pad), (pad, pad))), convolved(layer, x).shape

            def moved(change: Tensor, image: Tensor = image, layer: torch.nn.Module = layer) -> Tensor:
                handle = layer.register_forward_hook(lambda module, taken, put: put + change)
                logits = network(image[None])[0]
                handle.remove()
                return logits

            nothing = torch.zeros(size, dtype=torch.float64)
            h = curvature(jacrev(moved)(nothing), moved(nothing)).detach().numpy()
            for o, i, ky, kx in np.ndindex(total.shape):
                for y, z in np.ndindex(size[1:]):
                    total[o, i, ky, kx] += h[o, y, z] * padded[i, y * stride + ky, z * stride + kx] ** 2
        expected = weight_of(network, name) ** 2 * total / 3
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-12)


# Which images are read, and what they leave behind


def words(criterion: str, kind: str, **amount: object) -> PruneStage:
    amount = amount or {"sparsity": 0.5}
    return PruneStage.model_validate({"type": "prune", "kind": kind, "criterion": criterion, **amount})


def pruned(network: MaskedBodyBuilder, images: Split, stage: PruneStage) -> list[str]:
    """Prune the network in place; what it warns of."""
    warnings = prune(network, stage, generator(0, "masks", 0), images=images)
    network.check_masks()
    return warnings


READING = [(criterion, kind) for criterion, kind in PAIRS if CRITERIA[criterion].reads_images]


@pytest.mark.parametrize(("criterion", "kind"), READING)
def test_many_batches_give_what_one_gives(
    digits: Dataset, criterion: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images, found = made(CNN), few(digits, 40), []
    for batch in (40, 7):
        monkeypatch.setattr(scoring, "BATCH", batch)
        found.append(scored(network, criterion, kind, images))
    assert_close(found[1], found[0])


@pytest.mark.parametrize(("criterion", "kind"), READING)
def test_the_first_samples_of_the_training_part_are_read_and_nothing_else(
    digits: Dataset, criterion: str, kind: str
) -> None:
    """The others are no numbers, and would show in any score."""
    spoilt = [part.images.clone().fill_(math.nan) for part in (digits.train, digits.validation, digits.test)]
    spoilt[0][:60] = digits.train.images[:60]
    labels = digits.train.labels.roll(1)
    labels[:60] = digits.train.labels[:60]
    poisoned = dataclasses.replace(
        digits,
        train=Split(spoilt[0], labels, digits.train.index),
        validation=dataclasses.replace(digits.validation, images=spoilt[1]),
        test=dataclasses.replace(digits.test, images=spoilt[2]),
    )
    state, network = begin(made(CNN).net, poisoned, 3), begin(made(CNN).net, digits, 3).network
    run_stage(state, words(criterion, kind, sparsity=0.5, samples=60))
    pruned(network, few(digits, 60), words(criterion, kind))
    for name, mask in network.masks().items():
        assert all(map(torch.equal, mask, state.network.masks()[name]))


@pytest.mark.parametrize(("criterion", "kind"), READING)
def test_every_one_of_the_samples_counts(digits: Dataset, criterion: str, kind: str) -> None:
    network, images = made(CNN), few(digits, 30)
    for place in (0, 29):
        others = images.images.clone()
        others[place] = -3 * others[place]
        labels = images.labels.clone()
        labels[place] = (labels[place] + 1) % 10
        before, after = (
            scored(network, criterion, kind, split) for split in (images, Split(others, labels, images.index))
        )
        assert any((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(("criterion", "kind"), PAIRS)
def test_scoring_leaves_mode_gradients_statistics_and_hooks_as_they_were(
    digits: Dataset, criterion: str, kind: str, is_training: bool
) -> None:
    network = made(CNN).train(is_training)
    for value in network.parameters():
        value.grad = torch.full_like(value, 3.5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pruned(network, few(digits, 20), words(criterion, kind, sparsity=0.0))
    assert all(module.training == is_training for module in network.modules())
    assert all((value.grad == 3.5).all() and value.requires_grad for value in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("criterion", "kind"), READING)
def test_scores_are_those_of_evaluation_mode_though_the_network_is_training(
    digits: Dataset, criterion: str, kind: str
) -> None:
    still, training = made(CNN), made(CNN).train()
    for network in (still, training):
        pruned(network, few(digits, 20), words(criterion, kind))
    assert all(value.equal(training.state_dict()[key]) for key, value in still.state_dict().items())


# Counts


def gone(network: MaskedBodyBuilder, kind: str) -> dict[str, int]:
    """How many of the full network's weights, units or filters each layer of this kind lacks."""
    found = {}
    for name in prunable_names(network.net, kind)[0]:
        mask, full = network.masks()[name], network.full[name]
        kept = int((mask.weight if kind == "weight" else mask.unit).sum())
        found[name] = (full.weights if kind == "weight" else full.units) - kept
    return found


def totals(network: MaskedBodyBuilder, kind: str) -> dict[str, int]:
    layers = {name: network.weighted()[name] for name in prunable_names(network.net, kind)[0]}
    return {name: la.weight.numel() if kind == "weight" else len(la.bias) for name, la in layers.items()}


@pytest.mark.parametrize("sparsity", [0.3, 0.75])
@pytest.mark.parametrize(("criterion", "kind"), PAIRS)
def test_every_criterion_prunes_exactly_the_rounded_share_of_layers_or_of_all(
    digits: Dataset, criterion: str, kind: str, sparsity: float
) -> None:
    images, sizes = few(digits, 20), totals(made(CNN), kind)
    network = made(CNN)
    pruned(network, images, words(criterion, kind, sparsity=sparsity))
    assert gone(network, kind) == {name: round(sparsity * size) for name, size in sizes.items()}
    network = made(CNN)
    pruned(network, images, words(criterion, kind, sparsity=sparsity, scope="global"))
    assert sum(gone(network, kind).values()) == round(sparsity * sum(sizes.values()))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("criterion", "kind"), NOT_SHUFFLED)
def test_the_lowest_scores_go_first(digits: Dataset, criterion: str, kind: str, scope: str) -> None:
    network, images = made(CNN), few(digits, 20)
    scores = scored(network, criterion, kind, images)
    names, _ = prunable_names(network.net, kind)
    if criterion == "random":  # drawn layer by layer from the same generator, the logits last
        scores = {name: scores[name] for name in names}
    pruned(network, images, words(criterion, kind, sparsity=0.5, scope=scope))
    for group in [names] if scope == "global" else [[name] for name in names]:
        masks = [network.masks()[name] for name in group]
        kept = np.concatenate(
            [(mask.weight if kind == "weight" else mask.unit).numpy().ravel() for mask in masks]
        )
        values = np.concatenate([scores[name].ravel() for name in group])
        assert values[~kept].max() <= values[kept].min()


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("criterion", "kind"), NOT_SHUFFLED)
def test_what_is_pruned_already_goes_first_whatever_its_score(
    digits: Dataset, criterion: str, kind: str, scope: str
) -> None:
    network, images = made(CNN), few(digits, 20)
    pruned(network, images, words("random", kind, sparsity=0.4))
    first = network.masks()
    pruned(network, images, words(criterion, kind, sparsity=0.7, scope=scope))
    for name, mask in network.masks().items():
        assert (mask.weight <= first[name].weight).all()
        assert (mask.unit <= first[name].unit).all()
    sizes = totals(made(CNN), kind)
    assert sum(gone(network, kind).values()) == (
        round(0.7 * sum(sizes.values()))
        if scope == "global"
        else sum(round(0.7 * size) for size in sizes.values())
    )


WIDE = {
    "layers": [
        shrunk(8), conv(8, padding=1), NORM, POOL, conv(6, padding=1),
        FLATTEN, linear(12), linear(8), linear(),
    ]
}  # fmt: skip


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("criterion", "kind"), PAIRS)
def test_shares_are_of_the_full_network_also_after_compaction(
    digits: Dataset, criterion: str, kind: str, scope: str
) -> None:
    images, sizes = few(digits, 20), totals(made(WIDE), kind)
    network = made(WIDE)
    for part in ("unit", "filter"):
        pruned(network, images, words("magnitude", part, sparsity=0.5))
    network = compact(network)
    assert network.is_compacted
    pruned(network, images, words(criterion, kind, sparsity=0.875, scope=scope))
    found = gone(network, kind)
    if scope == "global":
        assert sum(found.values()) == round(0.875 * sum(sizes.values()))
    else:
        assert found == {name: round(0.875 * size) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("kind", "layers", "told"),
    [
        ("unit", {"linear_1": {"sparsity": 1}}, "prune: linear_1 loses the last of its 12 units"),
        ("filter", {"conv2d_2": {"sparsity": 1}}, "prune: conv2d_2 loses the last of its 6 filters"),
        ("weight", {"linear_2": {"sparsity": 1}}, "prune: linear_2 loses the last of its 96 weights"),
    ],
)
def test_a_layer_that_loses_everything_is_told_once_and_by_name(
    digits: Dataset, kind: str, layers: dict, told: str
) -> None:
    state = begin(made(WIDE).net, digits, 0)
    for _ in range(2):
        run_stage(state, words("magnitude", kind, sparsity=0.5, layers=layers))
    (line,) = state.notes
    assert line.startswith(told)


def test_nobody_is_warned_while_something_is_left(digits: Dataset) -> None:
    assert pruned(made(WIDE), few(digits, 1), words("magnitude", "unit", sparsity=0.9)) == []
