"""The cost ledger: alive is what some input reaches and some output reads, no more and no less."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.compaction import alive_units, effective_cost

torch.set_num_threads(1)

FLATTEN, BATCH_NORM = {"type": "flatten"}, {"type": "batch_norm"}
QUARTERS = {"type": "adaptive_avgpool", "size": 2}


def linear(units: int = 10) -> dict:
    return {"type": "linear", "units": units}


def conv(filters: int, kernel: int) -> dict:
    return {"type": "conv2d", "filters": filters, "kernel": kernel}


LAYERS = {
    "mlp": [QUARTERS, FLATTEN, linear(5), linear(4), linear(3), linear()],
    "mlp with batch norm": [QUARTERS, FLATTEN, linear(5), BATCH_NORM, linear(4), BATCH_NORM, linear()],
    "cnn": [conv(4, 3), QUARTERS, conv(5, 2), FLATTEN, linear(6), linear()],
    "cnn with batch norm": [conv(4, 3), BATCH_NORM, conv(5, 4), BATCH_NORM, QUARTERS, FLATTEN, linear()],
}
NETS = {name: {"layers": layers} for name, layers in LAYERS.items()}


def masked(net: dict, seed: int = 0, **pruned: list) -> MaskedBodyBuilder:
    """A network that lacks these weights: by layer name, indices into its weight."""
    network = MaskedBodyBuilder(net, seed=seed)
    masks = network.masks()
    for name, places in pruned.items():
        for place in places:
            masks[name].weight[place] = False
    network.set_masks(masks)
    return network


def randomly_masked(net: dict, seed: int, keep: float) -> MaskedBodyBuilder:
    """A network with random biases that keeps a share of its weights and some of its units, at random."""
    draw = torch.Generator().manual_seed(seed)
    network = MaskedBodyBuilder(net, seed=seed).eval()
    with torch.no_grad():
        for layer in network.weighted().values():
            layer.bias.normal_(generator=draw)
    masks = {}
    for name, mask in network.masks().items():
        units = torch.rand(mask.unit.shape, generator=draw) < max(keep, 0.5)
        weights = torch.rand(mask.weight.shape, generator=draw) < keep
        masks[name] = LayerMask(weights, units | (name == network.logits_name))
    network.set_masks(masks)
    return network


ALL = slice(None)


@pytest.mark.parametrize("net", NETS)
def test_a_dense_network_costs_what_its_summary_says(net):
    network = MaskedBodyBuilder(NETS[net])
    table = network.summary()
    assert effective_cost(network) == (table["params"].sum(), table["macs"].sum(), 0.0)
    assert all(inputs.all() and outputs.all() for inputs, outputs in alive_units(network).values())


@pytest.mark.parametrize(
    ("pruned", "params", "weights"),
    [
        # 4 → 5 → 4 → 3 → 10; dense: 20+5 + 20+4 + 12+3 + 30+10 = 104 parameters, 82 weights.
        ({"linear_1": [(0, 0)]}, 103, 81),
        # Unit 0 of linear_1 without inputs: its bias and the 4 weights that read it die too.
        ({"linear_1": [(0, ALL)]}, 104 - 5 - 4, 82 - 4 - 4),
        # Unit 0 of linear_2 without readers: its 5 weights and bias die too.
        ({"linear_3": [(ALL, 0)]}, 104 - 3 - 6, 82 - 3 - 5),
        # A chain: unit 1 of linear_1 is read by unit 2 of linear_2 only, which nobody reads.
        ({"linear_2": [([0, 1, 3], 1)], "linear_3": [(ALL, 2)]}, 104 - 3 - 3 - 6 - 5, 82 - 3 - 3 - 5 - 4),
        # A chain forward: units 0…3 of linear_1 have no inputs, and unit 0 of linear_2 reads only these.
        ({"linear_1": [(slice(4), ALL)], "linear_2": [(0, 4)]}, 104 - 20 - 16 - 2 - 3, 82 - 16 - 16 - 1 - 3),
        # Nothing gets through: the logits are their 10 biases.
        ({"linear_2": [(ALL, ALL)]}, 10, 0),
        # A logit that reads nothing keeps its bias.
        ({"linear_4": [(7, ALL)]}, 101, 79),
    ],
)  # fmt: skip
def test_dead_units_of_an_mlp_take_with_them_what_hand_counting_says(pruned, params, weights):
    cost = effective_cost(masked(NETS["mlp"], **pruned))
    assert (cost.params, cost.macs) == (params, weights)


@pytest.mark.parametrize(
    ("pruned", "params", "macs"),
    [
        # 28² → 4×26² → 4×2² → 5×1² → 5 → 6 → 10; dense: 36+4 + 80+5 + 30+6 + 60+10 = 231 parameters.
        ({}, 231, 36 * 26**2 + 80 + 30 + 60),
        # One place of a kernel: one weight, 26² products.
        ({"conv2d_1": [(0, 0, 1, 1)]}, 230, 35 * 26**2 + 80 + 30 + 60),
        # A filter without inputs: 9 weights and its bias, and 5·4 weights that read it.
        ({"conv2d_1": [0]}, 231 - 10 - 20, 27 * 26**2 + 60 + 30 + 60),
        # A filter whose feature nobody reads after flatten: 6 readers, its 16 weights and bias.
        ({"linear_1": [(ALL, 3)]}, 231 - 6 - 17, 36 * 26**2 + 64 + 24 + 60),
    ],
)
def test_dead_filters_are_followed_through_pooling_and_flatten(pruned, params, macs):
    cost = effective_cost(masked(NETS["cnn"], **pruned))
    assert (cost.params, cost.macs) == (params, macs)


def test_a_channel_lives_as_long_as_one_of_its_flattened_features_is_read():
    """2 filters of 2 × 2 after pooling are features 0…3 and 4…7; each feature has 10 readers."""
    net = {"layers": [conv(2, 3), QUARTERS, FLATTEN, linear()]}
    some = masked(net, linear_1=[(ALL, slice(0, 3))])
    none = masked(net, linear_1=[(ALL, slice(0, 4))])
    assert effective_cost(some).params == 2 * 10 + 50 + 10
    assert effective_cost(none).params == 1 * 10 + 40 + 10
    assert alive_units(none)["conv2d_1"][1].tolist() == [False, True]
    assert alive_units(none)["linear_1"][0].tolist() == [False] * 4 + [True] * 4


def test_a_dead_unit_takes_its_batch_norm_with_it():
    """Dense: 20+5 + 10 + 20+4 + 8 + 40+10 = 117; the unit: 4+1, its norm: 2, its readers: 4."""
    assert effective_cost(masked(NETS["mlp with batch norm"])).params == 117
    assert effective_cost(masked(NETS["mlp with batch norm"], linear_1=[(0, ALL)])).params == 117 - 5 - 2 - 4


def test_effective_sparsity_leaves_the_logits_layer_out():
    """Unit 0 of linear_1 has no inputs: 4 pruned and 4 dead of 52 prunable weights."""
    network = masked(NETS["mlp"], linear_1=[(0, ALL)], linear_4=[(7, ALL)])
    assert effective_cost(network).sparsity == pytest.approx(8 / 52)
    assert network.sparsity() == pytest.approx(4 / 52)


def by_gradients(network: MaskedBodyBuilder) -> tuple[int, int, float]:
    """Params, MACs and sparsity by automatic differentiation.

    Where images and kept weights are positive and biases 0, nothing cancels: a weight has a gradient
    exactly where an input reaches it and an output reads it.
    """
    with torch.no_grad():
        for layer in network.weighted().values():
            layer.weight.copy_(layer.weight_mask * (0.5 + torch.rand_like(layer.weight)))
            layer.bias.zero_()
            layer.register_forward_hook(lambda layer, _, out: setattr(layer, "places", out[0, 0].numel()))
    network(1 + torch.rand(2, 1, 28, 28)).sum().backward()
    norms = [layer for layer in network.layers.values() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    params = 2 * sum(int(norm.weight.grad.count_nonzero()) for norm in norms)
    macs = kept = total = 0
    for name, layer in network.weighted().items():
        alive = (layer.weight.grad != 0) & layer.weight_mask
        biases = len(layer.bias) if name == network.logits_name else int(alive.flatten(1).any(1).sum())
        params += int(alive.sum()) + biases
        macs += int(alive.sum()) * layer.places
        if name != network.logits_name:
            kept, total = kept + int(alive.sum()), total + alive.numel()
    return params, macs, 1 - kept / total


RANDOM = {
    "net": st.sampled_from(list(NETS)),
    "seed": st.integers(0, 9999),
    "keep": st.sampled_from([0.05, 0.15, 0.25, 0.4, 0.7]),
}


@settings(deadline=None, max_examples=100)
@given(**RANDOM)
def test_the_ledger_agrees_with_automatic_differentiation(net, seed, keep):
    network = randomly_masked(NETS[net], seed, keep)
    cost = effective_cost(network)
    assert cost == pytest.approx(by_gradients(network))
    assert network.sparsity() <= cost.sparsity + 1e-12


def without_the_dead(network: MaskedBodyBuilder, images: Tensor) -> tuple[MaskedBodyBuilder, int]:
    """The same network with every dead weight and bias at 0, and how many are not dead.

    What dead inputs give to a live unit is the same for all images, so its bias takes that over.
    """
    twin, received, alive_params = copy.deepcopy(network), {}, 0
    for name, layer in network.weighted().items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: received.update({name: inputs[0]}))
    network(images[:1])
    for name, layer in twin.weighted().items():
        inputs, outputs = alive_units(network)[name]
        square = (1, 1) * (layer.weight.dim() // 4)
        given = layer(received[name].masked_fill(inputs.view(1, -1, *square), 0)).view(len(outputs), -1)
        layer.bias.copy_(torch.where(outputs, given[:, 0], 0))
        alive = outputs.view(-1, 1, *square) & inputs.view(1, -1, *square) & layer.weight_mask
        layer.weight.mul_(alive)
        alive_params += int(alive.sum()) + int(outputs.sum())
    return twin, alive_params


@settings(deadline=None, max_examples=100)
@given(**RANDOM)
def test_what_is_alive_is_all_that_the_function_needs(net, seed, keep):
    network = randomly_masked(NETS[net], seed, keep)
    images = 10 * torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        twin, alive_params = without_the_dead(network, images)
        assert torch.allclose(twin(images), network(images), atol=1e-4)
    assert "norm" in net or alive_params == effective_cost(network).params
