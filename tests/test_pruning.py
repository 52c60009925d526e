"""Pruning: the same masks as torch's own pruning, exact counts, and a unit is a row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as oracle

from helpers.body_builder import BodyBuilder
from helpers.foundations.errors import UserError
from helpers.foundations.seeds import generator
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.stage_settings import PruneStage
from helpers.pruning import prune

torch.set_num_threads(1)

FLATTEN = {"type": "flatten"}


def linear(units: int = 10) -> dict:
    return {"type": "linear", "units": units}


def conv(filters: int, kernel: int) -> dict:
    return {"type": "conv2d", "filters": filters, "kernel": kernel}


CNN = {"layers": [conv(6, 5), conv(8, 3), FLATTEN, linear(30), linear(20), linear()]}


def tiny(*units: int) -> dict:
    """A net of linear layers with 4 inputs: the means of the image's quarters."""
    return {
        "layers": [{"type": "adaptive_avgpool", "size": 2}, FLATTEN, *map(linear, units), linear()],
        "activation": "tanh",
    }


def pruned(
    network: MaskedBodyBuilder, reference: dict | None = None, seed: int = 0, **words
) -> MaskedBodyBuilder:
    """The network after a prune stage of these words."""
    stage = PruneStage.model_validate({"type": "prune", "kind": "weight", **words})
    prune(network, stage, generator(seed, "masks", 0), reference)
    network.check_masks()
    return network


def set_weights(network: MaskedBodyBuilder, **weights: list) -> MaskedBodyBuilder:
    """Put numbers into layers by name."""
    with torch.no_grad():
        for name, values in weights.items():
            network.weighted()[name].weight.copy_(torch.tensor(values))
    return network


def counts(network: MaskedBodyBuilder, kind: str = "weight") -> dict[str, int]:
    """How many weights, or units and filters, each layer has lost."""
    masks = network.masks().items()
    return {name: int((~(mask.weight if kind == "weight" else mask.unit)).sum()) for name, mask in masks}


SPARSITIES = [0.0, 0.1, 0.35, 0.5, 0.9, 0.99, 1.0]
LAYERS = {"weight": slice(0, 4), "unit": slice(2, 4), "filter": slice(0, 2)}


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("kind", LAYERS)
def test_layer_pruning_gives_the_masks_of_torch(kind, sparsity):
    network, theirs = (
        pruned(MaskedBodyBuilder(CNN, seed=1), kind=kind, sparsity=sparsity),
        BodyBuilder(CNN, seed=1),
    )
    mine = list(network.weighted().values())
    for place, layer in enumerate(theirs.weighted().values()):
        if place not in range(5)[LAYERS[kind]]:
            expected = torch.ones_like(layer.weight)
        elif kind == "weight":
            expected = oracle.l1_unstructured(layer, "weight", sparsity).weight_mask
        else:
            expected = oracle.ln_structured(layer, "weight", sparsity, n=2, dim=0).weight_mask
        assert torch.equal(mine[place].weight_mask, expected.bool())
        assert torch.equal(mine[place].weight, layer.weight)


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_global_weight_pruning_gives_the_masks_of_torch(sparsity):
    network = pruned(MaskedBodyBuilder(CNN, seed=1), scope="global", sparsity=sparsity)
    theirs = list(BodyBuilder(CNN, seed=1).weighted().values())[:4]
    oracle.global_unstructured(
        [(layer, "weight") for layer in theirs], oracle.L1Unstructured, amount=sparsity
    )
    for layer, expected in zip(network.weighted().values(), theirs, strict=False):
        assert torch.equal(layer.weight_mask, expected.weight_mask.bool())


@pytest.mark.parametrize(
    ("kind", "names"), [("unit", ["linear_1", "linear_2"]), ("filter", ["conv2d_1", "conv2d_2"])]
)
def test_global_unit_pruning_ranks_the_norms_of_all_layers_together(kind, names):
    network = MaskedBodyBuilder(CNN, seed=1)
    norms = [np.linalg.norm(network.weighted()[n].weight.detach().double().flatten(1), axis=1) for n in names]
    threshold = np.sort(np.concatenate(norms))[round(0.6 * sum(map(len, norms))) - 1]
    pruned(network, kind=kind, scope="global", sparsity=0.6)
    for name, norm in zip(names, norms, strict=True):
        assert network.masks()[name].unit.tolist() == (norm > threshold).tolist()
    assert all(mask.unit.all() for name, mask in network.masks().items() if name not in names)


@settings(deadline=None, max_examples=60)
@given(
    units=st.integers(1, 12),
    levels=st.integers(1, 5),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["weight", "unit"]),
    first=st.floats(0, 1),
    rate=st.floats(0, 1),
)
def test_exactly_the_rounded_share_goes_lowest_score_and_index_first(units, levels, seed, kind, first, rate):
    """Few levels make many ties. The second prune takes its rate of what the first has left."""
    network = MaskedBodyBuilder(tiny(units))
    weight = torch.randint(levels, (units, 4), generator=torch.Generator().manual_seed(seed)).float()
    set_weights(network, linear_1=weight.tolist())
    score = weight.flatten() if kind == "weight" else (weight**2).sum(1)
    order = sorted(range(len(score)), key=lambda index: (float(score[index]), index))
    gone = round(first * len(order))
    for amount in ({"sparsity": first}, {"rate": rate}):
        pruned(network, kind=kind, **amount)
        mask = network.masks()["linear_1"]
        kept = mask.weight.flatten() if kind == "weight" else mask.unit
        assert (~kept).nonzero().flatten().tolist() == sorted(order[:gone])
        assert mask.unit.all() or kind == "unit"
        gone += round(rate * (len(order) - gone))


@pytest.mark.parametrize("kind", ["weight", "unit"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_sparsity_0_changes_nothing_even_where_all_weights_are_equal(kind, scope):
    network = MaskedBodyBuilder(tiny(5))
    set_weights(network, linear_1=[[0.0] * 4] * 5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pruned(network, kind=kind, scope=scope, sparsity=0)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_pruned_stays_pruned_whatever_its_score(kind, criterion):
    network = pruned(MaskedBodyBuilder(CNN), kind=kind, criterion="random", sparsity=0.5)
    first = network.masks()
    pruned(network, kind=kind, criterion=criterion, seed=1, sparsity=0.8)
    assert all((mask.weight <= first[name].weight).all() for name, mask in network.masks().items())
    assert all((mask.unit <= first[name].unit).all() for name, mask in network.masks().items())
    assert network.sparsity() > 0


@pytest.mark.parametrize(
    ("scope", "named"), [("layer", "conv2d_1"), ("global", "conv2d_1, conv2d_2, linear_1, linear_2")]
)
def test_a_lower_target_than_what_is_pruned_is_refused(scope, named):
    network = pruned(MaskedBodyBuilder(CNN), sparsity=0.5)
    with pytest.raises(UserError, match=rf"{named}: \d+ of \d+ are pruned already.* at least 0\.5"):
        pruned(network, scope=scope, sparsity=0.4)


@pytest.mark.parametrize("bad", [float("nan"), -float("nan")])
@pytest.mark.parametrize("kind", ["weight", "unit"])
def test_a_weight_that_is_no_number_is_refused(bad, kind):
    network = MaskedBodyBuilder(CNN)
    with torch.no_grad():
        network.weighted()["linear_1"].weight[3, 4] = bad
    with pytest.raises(UserError, match=r"linear_1: .*NaN.*diverged"):
        pruned(network, kind=kind, sparsity=0.5)


SIZES = {"linear_1": 400, "linear_2": 2000, "linear_3": 200}
MLP = tiny(100, 20)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"sparsity": 0.5}, (200, 1000, 0)),
        ({"rate": 0.5}, (200, 1000, 0)),
        ({"sparsity": 0.5, "layers": "all"}, (200, 1000, 100)),
        ({"sparsity": 0.5, "layers": {"linear_3": {}}}, (200, 1000, 100)),
        ({"sparsity": 0.5, "layers": {"linear_3": {"sparsity": 0.1}}}, (200, 1000, 20)),
        ({"sparsity": 0.5, "layers": {"linear_1": {"rate": 0.25}}}, (100, 1000, 0)),
        (
            {"sparsity": 0.5, "layers": {"linear_1": {"sparsity": 0}, "linear_2": {"sparsity": 1}}},
            (0, 2000, 0),
        ),
        ({"sparsity": 0.5, "kind": "unit"}, (50, 10, 0)),
        ({"sparsity": 0.5, "kind": "unit", "layers": {"linear_2": {"sparsity": 0.05}}}, (50, 1, 0)),
    ],
)
@pytest.mark.parametrize("criterion", ["magnitude", "random", "shuffle"])
def test_each_layer_loses_its_own_share_and_the_logits_only_where_named(words, expected, criterion):
    network = pruned(MaskedBodyBuilder(MLP), criterion=criterion, **words)
    assert tuple(counts(network, words.get("kind", "weight")).values()) == expected


def test_global_pruning_leaves_layers_with_an_amount_of_their_own_to_themselves():
    network = MaskedBodyBuilder(MLP, seed=2)
    words = {"sparsity": 0.5, "layers": {"linear_2": {"sparsity": 0.25}, "linear_3": {}}}
    together = torch.cat(
        [network.weighted()[n].weight.detach().abs().flatten() for n in ("linear_1", "linear_3")]
    )
    threshold = together.sort().values[300 - 1]
    pruned(network, scope="global", **words)
    assert counts(network)["linear_2"] == 500
    for name in ("linear_1", "linear_3"):
        dense = MaskedBodyBuilder(MLP, seed=2).weighted()[name].weight.abs()
        assert torch.equal(network.masks()[name].weight, dense > threshold)


def test_the_logits_are_left_alone_by_a_global_rank_even_where_they_are_smallest():
    network = MaskedBodyBuilder(MLP)
    set_weights(network, linear_3=torch.full((10, 20), 1e-9).tolist())
    assert counts(pruned(network, scope="global", sparsity=0.5))["linear_3"] == 0
    assert sum(counts(network).values()) == 1200


def test_a_unit_is_a_row_and_not_a_column():
    """linear_2: rows have norms 1.0 and 3.0, so unit 0 goes; its columns would say input 1."""
    network = set_weights(
        MaskedBodyBuilder(tiny(2, 2)),
        linear_1=[[0.1, 0.1, 0.1, 0.1], [0.0, 0.0, 9.0, 0.0]],
        linear_2=[[1.0, 0.125], [3.0, 0.25]],
    )
    nn.init.ones_(network.weighted()["linear_1"].bias)
    nn.init.ones_(network.weighted()["linear_2"].bias)
    pruned(network, kind="unit", sparsity=0.5)
    assert network.weighted()["linear_1"].weight.tolist() == [[0, 0, 0, 0], [0, 0, 9, 0]]
    assert network.weighted()["linear_2"].weight.tolist() == [[0, 0], [3, 0.25]]
    for name in ("linear_1", "linear_2"):
        assert network.masks()[name].unit.tolist() == [False, True]
        assert network.weighted()[name].bias.tolist() == [0, 1]


def test_units_rank_by_the_l2_norm_and_not_by_the_sum_or_the_bias():
    """Norms 2.0 and 1.8, sums of |w| 2.0 and 3.6."""
    network = set_weights(MaskedBodyBuilder(tiny(2)), linear_1=[[0.0, 0.0, -2.0, 0.0], [0.9, 0.9, 0.9, 0.9]])
    network.weighted()["linear_1"].bias.data = torch.tensor([0.0, 100.0])
    assert pruned(network, kind="unit", sparsity=0.5).masks()["linear_1"].unit.tolist() == [True, False]


def kept(network: MaskedBodyBuilder) -> Tensor:
    return torch.cat([mask.weight.flatten() for mask in network.masks().values()])


@pytest.mark.parametrize("criterion", ["random", "shuffle"])
@pytest.mark.parametrize("kind", LAYERS)
def test_random_places_follow_the_seed_and_not_the_weights(kind, criterion):
    def places(init: int, seed: int, criterion: str = criterion) -> Tensor:
        return kept(
            pruned(MaskedBodyBuilder(CNN, seed=init), seed=seed, kind=kind, criterion=criterion, rate=0.5)
        )

    assert torch.equal(places(0, 0), places(0, 0))
    assert not torch.equal(places(0, 0), places(0, 1))
    assert not torch.equal(places(0, 0), places(0, 0, "magnitude"))
    assert torch.equal(places(0, 0), places(1, 0)) == (criterion == "random")


@pytest.mark.parametrize("amount", [{}, {"sparsity": 0.7}, {"rate": 0.4}], ids=str)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("kind", LAYERS)
def test_shuffle_keeps_each_layers_count_at_other_places_and_revives_from_the_reference(kind, scope, amount):
    """Without an amount the counts are those of the present masks, with one those of magnitude."""
    dense = {key: value.clone() for key, value in MaskedBodyBuilder(CNN).state_dict().items()}
    before = pruned(MaskedBodyBuilder(CNN), kind=kind, scope="global", sparsity=0.5)
    by_magnitude = before.masks()
    network = pruned(MaskedBodyBuilder(CNN), kind=kind, scope="global", sparsity=0.5)
    if amount:
        by_magnitude = pruned(before, kind=kind, scope=scope, **amount).masks()
    pruned(network, dense, kind=kind, scope=scope, criterion="shuffle", **amount)
    assert counts(network, kind) == {
        name: int((~(mask.weight if kind == "weight" else mask.unit)).sum())
        for name, mask in by_magnitude.items()
    }
    assert not torch.equal(
        kept(network), torch.cat([mask.weight.flatten() for mask in by_magnitude.values()])
    )
    for name, layer in network.weighted().items():
        assert torch.equal(layer.weight, dense[f"layers.{name}.weight"] * layer.weight_mask)
        assert torch.equal(layer.weight != 0, layer.weight_mask), "what came back is not 0"
        assert kind == "weight" or torch.equal(layer.weight_mask.flatten(1).all(1), layer.unit_mask)


def test_shuffling_weights_keeps_their_count_beside_pruned_units():
    network = pruned(MaskedBodyBuilder(MLP), kind="unit", sparsity=0.5)
    pruned(network, sparsity=0.8)
    before, units = counts(network), counts(network, "unit")
    pruned(network, criterion="shuffle")
    assert (counts(network), counts(network, "unit")) == (before, units)


def test_kinds_leave_each_others_masks_as_they_are():
    network = pruned(MaskedBodyBuilder(CNN), sparsity=0.5)
    first = network.masks()
    pruned(network, kind="unit", sparsity=0.5)
    pruned(network, kind="filter", sparsity=0.25)
    assert counts(network, "unit") == {
        "conv2d_1": 2,
        "conv2d_2": 2,
        "linear_1": 15,
        "linear_2": 10,
        "linear_3": 0,
    }
    for name, mask in network.masks().items():
        row = mask.unit.view(-1, *[1] * (mask.weight.dim() - 1))
        assert all(map(torch.equal, mask, LayerMask(first[name].weight & row, mask.unit)))
