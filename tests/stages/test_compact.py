"""Compaction: a smaller network that does the same, for nets and prunings of any kind, and its checkpoint."""

import copy
import io
import json
import math
from typing import Any

import pytest
import torch
from conftest import conv, linear, without_defaults
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.foundations.data import Dataset
from helpers.foundations.layers import ACTIVATIONS
from helpers.foundations.nets import NetConfig
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.compaction import alive_units, compact, effective_cost, largest_difference
from helpers.methods.stage_settings import CompactStage, PruneStage, TrainStage
from helpers.running.checkpoints import from_checkpoint, to_checkpoint
from helpers.stages.registry import run_stage
from helpers.stages.state import State, begin

torch.set_num_threads(1)

FLATTEN, BATCH_NORM, DROPOUT = {"type": "flatten"}, {"type": "batch_norm"}, {"type": "dropout"}
ALL = slice(None)


def grid(size: int) -> dict:
    return {"type": "adaptive_avgpool", "size": size}


def select(*index: int) -> dict:
    return {"type": "select", "index": list(index)}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(dataset: str = "mnist") -> Tensor:
    return random(8, *((3, 32, 32) if dataset == "cifar10" else (1, 28, 28)), seed=1)


def difference(one: nn.Module, other: nn.Module) -> float:
    """Largest difference of logits, as a share of the largest logit where that is more than 1."""
    with torch.no_grad():
        logits, others = one(images(one.dataset)), other(images(one.dataset))
    return ((logits - others).abs().max() / logits.abs().max().clamp(min=1)).item()


# Random networks, randomly pruned

EXTRAS = st.lists(st.sampled_from(["batch_norm", "dropout", "select"]), max_size=2, unique=True)


@st.composite
def nets(draw: st.DrawFn, with_padding: bool = True, with_select: bool = True) -> tuple[dict, str]:
    """A small net of any layers in any order that fits, and its data set."""
    dataset = draw(st.sampled_from(["mnist", "cifar10"]))
    size, channels = draw(st.integers(2, 6)), 3 if dataset == "cifar10" else 1
    layers = [grid(size)]

    def add_extras() -> None:
        nonlocal channels
        for word in draw(EXTRAS):
            if word != "select":
                layers.append({"type": word})
            elif with_select:
                index = draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=4))
                layers.append(select(*index))
                channels = len(index)

    for _ in range(draw(st.integers(0, 3))):
        padding = draw(st.integers(0, 2)) if with_padding else 0
        kernel, stride = draw(st.integers(1, min(3, size + 2 * padding))), draw(st.integers(1, 2))
        channels = draw(st.integers(1, 4))
        layers.append(conv(channels, kernel, stride=stride, padding=padding))
        size = (size + 2 * padding - kernel) // stride + 1
        add_extras()
        pool = draw(st.sampled_from([None, "maxpool", "avgpool", "adaptive_avgpool"]))
        if pool == "adaptive_avgpool":
            size = draw(st.integers(1, 4))
            layers.append(grid(size))
        elif pool is not None and size > 1:
            layers.append({"type": pool, "stride": 1})
            size -= 1
    layers.append(FLATTEN)
    channels *= size**2
    for _ in range(draw(st.integers(0, 3))):
        add_extras()
        channels = draw(st.integers(1, 5))
        layers.append(linear(channels))
    add_extras()
    activation = draw(st.sampled_from(list(ACTIVATIONS)))
    return {"layers": [*layers, linear()], "activation": activation}, dataset


def built(net: dict, dataset: str = "mnist", seed: int = 0) -> MaskedBodyBuilder:
    """In evaluation mode, with no bias and no statistic of a batch norm at its default."""
    network = MaskedBodyBuilder(net, dataset, seed).eval()
    without_defaults(network, seed)
    return network


def prune(network: MaskedBodyBuilder, how: list[str], keep: float, seed: int) -> MaskedBodyBuilder:
    """Layer by layer from the input, as `how` says in turn: these weights or units go."""
    draw, masks = torch.Generator().manual_seed(seed), network.masks()
    for place, (name, mask) in enumerate(masks.items()):
        word = how[place % len(how)]
        weight, unit = mask
        if "weight" in word:
            weight = torch.rand(weight.shape, generator=draw) < keep
        if "unit" in word:
            unit = torch.rand(unit.shape, generator=draw) < keep
        if word == "all weights":
            weight = torch.zeros_like(weight)
        if word == "all units":
            unit = torch.zeros_like(unit)
        masks[name] = LayerMask(weight, unit)
    network.set_masks(masks)
    return network


HOW = ["weight", "unit", "weight and unit", "nothing"]


@st.composite
def pruned(draw: st.DrawFn, **words: bool) -> MaskedBodyBuilder:
    """Such a network, pruned in such a way."""
    network = built(*draw(nets(**words)), seed=draw(st.integers(0, 999)))
    how = draw(st.lists(st.sampled_from([*HOW, "all weights", "all units"]), min_size=1, max_size=5))
    keep = draw(st.sampled_from([0.05, 0.15, 0.3, 0.5, 0.8]))
    return prune(network, how, keep, draw(st.integers(0, 999)))


often = settings(deadline=None, max_examples=60)


@often
@given(network=pruned())
def test_the_small_network_has_the_same_logits_and_the_large_one_stays(network):
    before = copy.deepcopy(network.state_dict())
    small = compact(network)
    assert difference(network, small) < 1e-5
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())
    assert not network.training
    assert not small.training


@often
@given(network=pruned())
def test_shares_and_costs_remain_those_of_the_network_that_the_config_describes(network):
    small = compact(network)
    cost, after = effective_cost(network), effective_cost(small)
    assert after == pytest.approx(cost)
    assert small.full == network.full
    assert small.sparsity() >= network.sparsity() - 1e-12
    assert small.sparsity() <= cost.sparsity + 1e-12 or not small.is_compacted
    for kind in ("unit", "filter"):
        assert small.unit_sparsity(kind) >= network.unit_sparsity(kind) - 1e-12
    for name, rate in small.keep_rates().items():
        assert rate <= network.keep_rates()[name]


@often
@given(network=pruned())
def test_what_is_compact_is_not_made_smaller_by_another_compaction(network):
    once = compact(network)
    twice = compact(once)
    assert twice.net == once.net
    assert twice.full == once.full
    for key, value in twice.state_dict().items():
        torch.testing.assert_close(value, once.state_dict()[key], msg=key)


@often
@given(network=pruned(with_padding=False))
def test_without_padding_only_what_is_alive_remains_or_one_unit_of_a_dead_layer(network):
    small = compact(network)
    for shape in network.shapes:
        alive = max(int(alive_units(network)[shape.name][1].sum()), 1)
        if shape.name in network.weighted():
            assert len(small.layers[shape.name].bias) == alive
    for name, layer in small.weighted().items():
        inputs = int(alive_units(network)[name][0].sum())
        assert layer.weight.shape[1] == inputs or not alive_units(small)[name][0].any()


@often
@given(network=pruned())
def test_the_small_network_is_what_its_config_builds_and_its_state_fits(network):
    small = compact(network)
    again = MaskedBodyBuilder(NetConfig.model_validate_json(small.net.model_dump_json()), small.dataset, 7)
    again.load_state_dict(small.state_dict())
    again.check_masks()
    assert difference(small, again.eval()) < 1e-5
    assert [str(module) for module in again.layers.values()] == [str(m) for m in small.layers.values()]


@often
@given(drawn=nets(), keep=st.sampled_from([0.2, 0.5, 0.8]), seed=st.integers(0, 999))
def test_without_units_and_filters_what_remains_is_dense_and_is_what_was_kept(drawn, keep, seed):
    """But for features and channels that a select layer leaves out, none is dead unless pruned."""
    net, dataset = drawn
    layers = [layer for layer in net["layers"] if layer["type"] != "select"]
    network = built(net | {"layers": layers}, dataset, seed)
    names = list(network.weighted())
    prune(network, ["unit"] * (len(names) - 1) + ["nothing"], keep, seed)
    masks = network.masks()
    assume(all(mask.unit.any() for mask in masks.values()))
    small = compact(network)
    for name, layer in small.weighted().items():
        assert layer.weight_mask.all()
        assert layer.unit_mask.all()
        kept = network.layers[name].weight[masks[name].unit]
        source = [other for other in names if names.index(other) < names.index(name)]
        if source:
            kept = kept[:, masks[source[-1]].unit[network.next_layer(source[-1])[1]]]
        assert layer.weight.equal(kept)
    for kind in ("unit", "filter"):
        assert small.unit_sparsity(kind) == network.unit_sparsity(kind)
    assert sum(value.numel() for value in small.parameters()) == effective_cost(network).params


# Networks with a hole in a certain place


def without(layers: list[dict], activation: str = "relu", **pruned: list) -> MaskedBodyBuilder:
    """A network that lacks these weights: by layer name, indices into its weight. Biases are positive."""
    network = built({"layers": layers, "activation": activation})
    masks = network.masks()
    for name, layer in network.weighted().items():
        layer.bias.data.abs_()
        for place in pruned.get(name, []):
            masks[name].weight[place] = False
    network.set_masks(masks)
    return network


def sizes(network: MaskedBodyBuilder) -> list[Any]:
    """Units, filters or index of each layer that has one."""
    words = [layer.model_dump() for layer in network.net.layers]
    return [w[key] for w in words for key in ("units", "filters", "index") if key in w]


TWO = [grid(2), FLATTEN, linear(5), linear(4), linear()]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ({}, [5, 4, 10]),
        ({"linear_1": [1]}, [4, 4, 10]),  # reached by nothing
        ({"linear_2": [(ALL, 1)]}, [4, 4, 10]),  # read by nobody
        ({"linear_1": [(ALL, 2)]}, [[0, 1, 3], 5, 4, 10]),
        ({"linear_2": [(slice(1, 4), 3)], "linear_3": [(ALL, 0)]}, [4, 3, 10]),
        ({"linear_2": [ALL]}, [1, 1, 10]),
        ({"linear_3": [ALL]}, [1, 1, 10]),
        ({"linear_3": [3]}, [5, 4, 10]),  # a logit stays, whatever it reads
    ],
)
def test_what_remains_of_an_mlp_is_what_one_sees(lost, expected):
    network = without(TWO, **lost)
    small = compact(network)
    assert difference(network, small) < 1e-6
    found = sizes(small)
    if expected == [1, 1, 10]:
        found = [size for size in found if isinstance(size, int)]
    assert found == expected


def test_the_constant_of_an_unreached_unit_goes_into_the_next_bias():
    network = without(TWO, activation="sigmoid", linear_1=[1])
    first, second = network.layers["linear_1"], network.layers["linear_2"]
    expected = second.bias + second.weight[:, 1] * torch.sigmoid(first.bias[1])
    assert first.bias[1] > 0
    torch.testing.assert_close(compact(network).layers["linear_2"].bias, expected)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_a_constant_filter_is_folded_unless_its_reader_sees_the_border(activation, padding):
    layers = [grid(4), conv(3, 2), conv(2, 2, padding=padding), FLATTEN, linear()]
    network = without(layers, activation, conv2d_1=[1])
    small = compact(network)
    assert sizes(small) == [2 + padding, 2, 10]
    assert difference(network, small) < 1e-6
    assert small.sparsity() == pytest.approx(
        network.sparsity() if padding else effective_cost(network).sparsity
    )


def test_a_silent_filter_is_removed_whatever_the_padding():
    network = without([grid(4), conv(3, 2), conv(2, 2, padding=1), FLATTEN, linear()], conv2d_1=[1])
    network.layers["conv2d_1"].bias.data[1] = -1
    assert sizes(compact(network)) == [2, 2, 10]


def test_a_border_that_only_a_dead_filter_sees_keeps_nothing():
    layers = [grid(4), conv(3, 2), conv(2, 2, padding=1), conv(2, 2), FLATTEN, linear()]
    network = without(layers, conv2d_1=[1], conv2d_2=[(0, 1)], conv2d_3=[(ALL, 1)])
    small = compact(network)
    assert sizes(small) == [2, 1, 2, 10]
    assert difference(network, small) < 1e-6


@pytest.mark.parametrize(
    "layers",
    [
        [grid(2), FLATTEN, linear(5), select(3, 1), linear()],
        [grid(2), FLATTEN, linear(5), select(3, 1, 3), BATCH_NORM, select(2, 1), linear()],
        [grid(2), FLATTEN, select(3, 1), select(1), linear(5), linear()],
        [grid(3), conv(4, 2), select(2, 3), FLATTEN, select(6, 7, 1), linear(5), linear()],
        [grid(3), conv(4, 2, padding=1), select(2, 3), conv(4, 2, padding=1), FLATTEN, linear(5), linear()],
    ],
)
@pytest.mark.parametrize("how", ["all weights", "all units"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_layer_that_is_dead_altogether_leaves_a_network_that_works(layers, how, place):
    network = built({"layers": layers})
    pattern = ["nothing"] * len(network.weighted())
    pattern[place] = how
    prune(network, pattern, 1, 0)
    small = compact(network)
    assert difference(network, small) < 1e-6
    assert effective_cost(small) == pytest.approx(effective_cost(network))
    assert compact(small).net == small.net


@pytest.mark.parametrize("column", [0, 1])
def test_a_unit_that_a_select_layer_gives_twice_lives_as_long_as_either_is_read(column):
    network = without([grid(2), FLATTEN, linear(5), select(3, 3), linear()], linear_2=[(ALL, column)])
    assert alive_units(network)["linear_1"][1].tolist() == [False, False, False, True, False]
    small = compact(network)
    assert sizes(small) == [1, [0], 10]
    assert difference(network, small) < 1e-6


def test_everything_pruned_leaves_the_biases_of_the_logits():
    network = prune(built({"layers": TWO}), ["all weights"], 0, 0)
    small = compact(network)
    bias = network.layers["linear_3"].bias
    with torch.no_grad():
        constant = network(images())
        torch.testing.assert_close(small(images()), constant)
    assert effective_cost(small) == (len(bias), 0, 1.0)
    assert small.sparsity(include_logits=True) == 1


@pytest.mark.parametrize("is_training", [True, False])
def test_mode_device_and_memory_format_are_the_networks_own(is_training):
    network = without([grid(4), conv(3, 2), BATCH_NORM, FLATTEN, DROPOUT, linear()], conv2d_1=[1])
    network = network.to(memory_format=torch.channels_last).train(is_training)
    statistics = network.layers["batch_norm_1"].running_mean.clone()
    small = compact(network)
    assert all(module.training == is_training for one in (network, small) for module in one.modules())
    assert network.layers["batch_norm_1"].running_mean.equal(statistics)
    assert small.layers["conv2d_1"].weight.is_contiguous(memory_format=torch.channels_last)
    assert difference(network.eval(), small.eval()) < 1e-6


# The stage and its checkpoint

NET = {
    "layers": [conv(5, 5, stride=3), BATCH_NORM, grid(4), FLATTEN, linear(9), linear(8), linear()],
    "activation": "gelu",
}


@pytest.fixture
def compacted(digits: Dataset) -> State:
    """Pruned in all ways, compacted, and pruned once more."""
    state = begin(NetConfig.model_validate(NET), digits, 0)
    state.network.load_state_dict(built(NET, seed=3).state_dict())
    prune(state.network, ["weight and unit", "weight", "unit", "weight"], 0.5, 4)
    run_stage(state, CompactStage(type="compact"))
    prune(state.network, ["weight", "nothing"], 0.7, 5)
    return state


def test_the_stage_says_what_it_changed_and_a_network_that_lacks_nothing_stays_as_it_is(
    compacted: State, digits: Dataset
) -> None:
    assert 0 <= compacted.compact_difference < 1e-5
    assert compacted.network.is_compacted
    whole = begin(NetConfig.model_validate(NET), digits, 0)
    network = whole.network
    run_stage(whole, CompactStage(type="compact"))
    assert whole.compact_difference == 0
    assert whole.network.net == network.net
    assert not whole.network.is_compacted


@pytest.mark.parametrize(
    ("change", "is_told"), [(0.0, False), (0.001, False), (0.02, True), (-0.02, True), (math.nan, True)]
)
def test_a_compaction_that_changes_a_logit_says_so(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, change: float, is_told: bool
) -> None:
    """The network is spoilt where only the comparison of the two networks' logits could find it."""

    def spoilt(network: MaskedBodyBuilder) -> MaskedBodyBuilder:
        small = compact(network)
        with torch.no_grad():
            small.layers[small.logits_name].bias[3] += change
        return small

    monkeypatch.setattr("helpers.stages.registry.compact", spoilt)
    state = begin(NetConfig.model_validate(NET), digits, 0)
    prune(state.network, ["unit"], 0.5, 4)
    run_stage(state, CompactStage(type="compact"))
    assert state.compact_difference == pytest.approx(abs(change), abs=1e-5, nan_ok=True)
    assert [text.startswith("compact: a test logit changed") for text in state.notes] == [True] * is_told


@pytest.mark.parametrize("place", ["bias of a reader", "weight"])
def test_a_compaction_that_loses_something_says_so(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Of a constant unit's contribution to the next bias, or of one weight between living units."""

    def spoilt(network: MaskedBodyBuilder) -> MaskedBodyBuilder:
        small = compact(network)
        with torch.no_grad():
            if place == "weight":
                small.layers["linear_3"].weight[0, 0] = 0
            else:
                small.layers["linear_2"].bias.zero_()
        return small

    monkeypatch.setattr("helpers.stages.registry.compact", spoilt)
    state = begin(NetConfig.model_validate(NET), digits, 0)
    state.network.load_state_dict(built(NET, seed=3).state_dict())
    prune(state.network, ["weight and unit"], 0.5, 4)
    run_stage(state, CompactStage(type="compact"))
    assert state.compact_difference > 0.01
    assert len(state.notes) == 1


def saved_and_loaded(words: dict[str, Any]) -> dict[str, Any]:
    memory = io.BytesIO()
    torch.save(words, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=True)


def test_a_compacted_and_pruned_network_comes_back_from_a_checkpoint(compacted: State) -> None:
    network, net = compacted.network, NetConfig.model_validate(NET)
    compacted.train_flops, compacted.pruned = 1e9, 3
    restored = from_checkpoint(saved_and_loaded(to_checkpoint(compacted)), net, compacted.dataset, 0)
    again = restored.network
    assert again.net == network.net
    assert again.full == network.full == built(NET).full
    assert again.is_compacted
    assert again.state_dict().keys() == network.state_dict().keys()
    assert all(value.equal(again.state_dict()[key]) for key, value in network.state_dict().items())
    x = compacted.dataset.test.images[:50]
    assert again.eval()(x).equal(network.eval()(x))
    assert (again.sparsity(), again.unit_sparsity("unit")) == (
        network.sparsity(),
        network.unit_sparsity("unit"),
    )
    assert effective_cost(again) == effective_cost(network)
    assert (restored.train_flops, restored.pruned) == (1e9, 3)
    assert all(value.equal(again.state_dict()[key]) for key, value in restored.reference.items())


def test_a_checkpoint_names_its_net_only_where_something_was_removed(compacted: State) -> None:
    words = to_checkpoint(compacted)
    assert json.loads(words["net"]) == compacted.network.net.model_dump(mode="json")
    whole = begin(NetConfig.model_validate(NET), compacted.dataset, 0)
    assert "net" not in to_checkpoint(whole)


def test_a_checkpoint_has_of_a_pruned_layer_the_kept_weights_alone(compacted: State) -> None:
    words = to_checkpoint(compacted)
    for name, layer in compacted.network.weighted().items():
        kept = words["weights"][f"layers.{name}.weight"]
        is_pruned = not layer.weight_mask.all()
        assert is_pruned == (name in words["masks"])
        assert kept.equal(layer.weight[layer.weight_mask] if is_pruned else layer.weight)


@pytest.mark.parametrize("change", [lambda kept: kept[:-1], lambda kept: torch.cat([kept, kept[:1]])])
def test_kept_weights_that_are_too_few_or_too_many_are_refused_by_name(compacted: State, change: Any) -> None:
    words = to_checkpoint(compacted)
    assert "conv2d_1" in words["masks"]
    words["weights"]["layers.conv2d_1.weight"] = change(words["weights"]["layers.conv2d_1.weight"])
    with pytest.raises(ValueError, match=r"conv2d_1: expected \d+ kept weights, found \d+"):
        from_checkpoint(words, NetConfig.model_validate(NET), compacted.dataset, 0)


def test_a_checkpoint_without_its_net_does_not_pass_for_the_large_network(compacted: State) -> None:
    words = to_checkpoint(compacted)
    words.pop("net")
    with pytest.raises((ValueError, RuntimeError)):
        from_checkpoint(words, NetConfig.model_validate(NET), compacted.dataset, 0)


# largest_difference


@pytest.mark.parametrize("count", [1, 1000, 2300])
def test_the_largest_difference_is_that_of_any_image_in_evaluation_mode(count):
    layers = [grid(2), FLATTEN, DROPOUT, linear()]
    one, other = built({"layers": layers}).train(), built({"layers": layers}, seed=1)
    x = random(count, 1, 28, 28)
    x[-1] *= 50
    with torch.no_grad():
        expected = (copy.deepcopy(one).eval()(x) - other(x)).abs().max().item()
    assert largest_difference(one, other, x) == pytest.approx(expected)
    assert largest_difference(one, one, x) == 0
    assert one.training
    assert all(module.training for module in one.modules())
    assert not other.training


@pytest.mark.parametrize("place", [0, 1500])
def test_a_difference_that_is_not_a_number_is_not_hidden_by_one_that_is(place):
    one, other = built({"layers": [FLATTEN, linear()]}), built({"layers": [FLATTEN, linear()]}, seed=1)
    x = random(2000, 1, 28, 28)
    x[place] = torch.nan
    assert largest_difference(one, other, x) != largest_difference(one, other, x)


@pytest.mark.parametrize("kind", ["unit", "filter"])
def test_training_the_small_network_is_training_the_masked_one(digits: Dataset, kind: str):
    """So fine-tuning after unit or filter pruning may run compacted: the same steps, up to rounding."""
    net = {"layers": [conv(6, 5), {"type": "maxpool"}, FLATTEN, linear(20), linear()]}
    masked = begin(NetConfig.model_validate(net), digits, seed=3)
    prune = {"type": "prune", "kind": kind, "sparsity": 0.5}
    train = {"type": "train", "steps": 20, "batch_size": 50, "optimizer": {"type": "adamw", "lr": 1e-3}}
    run_stage(masked, PruneStage.model_validate(prune))
    small = copy.deepcopy(masked)
    run_stage(small, CompactStage(type="compact"))
    for state in (masked, small):
        run_stage(state, TrainStage.model_validate(train))
    assert small.network.is_compacted
    assert largest_difference(masked.network, small.network, digits.test.images) < 1e-4
    assert small.train_flops < masked.train_flops
