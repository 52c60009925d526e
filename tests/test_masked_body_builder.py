"""Masks: what is pruned is exactly 0, stays 0 whatever happens, and its readers see nothing of it."""

import copy
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.foundations.layers import ACTIVATIONS
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.stage_settings import TrainStage
from helpers.train_dojo import make_optimizer

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
FLATTEN, BATCH_NORM, DROPOUT = {"type": "flatten"}, {"type": "batch_norm"}, {"type": "dropout"}
POOLS = [{"type": "maxpool"}, {"type": "avgpool"}]


def linear(units: int = 10, **more) -> dict:
    return {"type": "linear", "units": units, **more}


def conv(filters: int, kernel: int = 3, **more) -> dict:
    return {"type": "conv2d", "filters": filters, "kernel": kernel, **more}


SMALL = {
    "layers": [conv(6), BATCH_NORM, *POOLS, FLATTEN, linear(12), BATCH_NORM, linear()],
    "activation": "sigmoid",
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(count: int = 16) -> Tensor:
    return random(count, 1, 28, 28, seed=1)


def random_masks(network: MaskedBodyBuilder) -> dict[str, LayerMask]:
    """About half of the weights; every third unit but the logits'."""
    masks = {}
    for seed, (name, mask) in enumerate(network.masks().items()):
        unit = torch.arange(len(mask.unit)) % 3 != 0
        masks[name] = LayerMask(
            random(*mask.weight.shape, seed=seed) > 0,
            torch.ones_like(unit) if name == network.logits_name else unit,
        )
    return masks


def masked(net: dict) -> tuple[MaskedBodyBuilder, dict[str, LayerMask]]:
    """A network whose biases and batch norms are nowhere 0, half pruned; and the masks that went in."""
    network = MaskedBodyBuilder(net, seed=0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(getattr(module, "bias", None), Tensor):
                module.bias.copy_(1 + random(len(module.bias)).abs())
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(-1 - random(len(module.bias)).abs())
                module.running_var.uniform_(0.5, 2)
    masks = random_masks(network)
    network.set_masks(masks)
    return network, masks


def test_masks_come_out_as_they_went_in_and_weights_are_exactly_0():
    dense = MaskedBodyBuilder(SMALL, seed=0)
    network, masks = masked(SMALL)
    for name, layer in network.weighted().items():
        row = masks[name].unit.view(-1, *[1] * (layer.weight.dim() - 1))
        kept = masks[name].weight & row
        out = network.masks()[name]
        assert torch.equal(out.weight, kept), "a pruned unit loses its whole row"
        assert torch.equal(out.unit, masks[name].unit)
        assert torch.equal(layer.weight, dense.weighted()[name].weight * kept), "what is kept is untouched"
        assert torch.equal(layer.bias != 0, out.unit)
    network.check_masks()


def test_masks_out_are_copies():
    network, _ = masked(SMALL)
    network.masks()["linear_1"].weight.fill_(True)
    assert not network.masks()["linear_1"].weight.all()


def test_sparsities_are_shares_of_what_the_masks_say():
    network, _ = masked(SMALL)
    kept = {name: mask.weight for name, mask in network.masks().items()}
    sizes = {"conv2d_1": 6 * 9, "linear_1": 12 * 6 * 36, "linear_2": 10 * 12}
    pruned = {name: sizes[name] - int(mask.sum()) for name, mask in kept.items()}
    assert network.sparsity() == pytest.approx((pruned["conv2d_1"] + pruned["linear_1"]) / (54 + 2592))
    assert network.sparsity(include_logits=True) == pytest.approx(sum(pruned.values()) / (54 + 2592 + 120))
    assert network.keep_rates() == pytest.approx({name: 1 - pruned[name] / sizes[name] for name in sizes})
    assert network.unit_sparsity("unit") == pytest.approx(4 / 12)
    assert network.unit_sparsity("filter") == pytest.approx(2 / 6)


def test_masks_survive_save_and_load_in_this_process_and_in_a_new_one(tmp_path):
    network, _ = masked(SMALL)
    logits = network.eval()(images())
    torch.save(network.state_dict(), tmp_path / "state.pt")
    torch.save(images(), tmp_path / "images.pt")
    script = """if True:
        import json, sys, torch
        from helpers.masked_body_builder import MaskedBodyBuilder
        torch.set_num_threads(1)
        net, folder = json.loads(sys.argv[1]), sys.argv[2]
        network = MaskedBodyBuilder(net, seed=99).eval()
        network.load_state_dict(torch.load(f"{folder}/state.pt", weights_only=True))
        network.check_masks()
        masks = {name: tuple(mask) for name, mask in network.masks().items()}
        logits = network(torch.load(f"{folder}/images.pt", weights_only=True)).detach()
        torch.save({"masks": masks, "logits": logits}, f"{folder}/out.pt")"""
    here = [sys.executable, "-c", script, json.dumps(SMALL), str(tmp_path)]
    subprocess.run(here, cwd=ROOT, check=True)
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(out["logits"], logits)
    for name, mask in network.masks().items():
        assert all(map(torch.equal, out["masks"][name], mask))
    loaded = MaskedBodyBuilder(SMALL, seed=99).eval()
    loaded.load_state_dict(network.state_dict())
    assert torch.equal(loaded(images()), logits)


def test_a_deep_copy_has_masks_of_its_own():
    network, _ = masked(SMALL)
    network.eval()
    twin, before = copy.deepcopy(network), network(images())
    everything = {name: LayerMask(*map(torch.zeros_like, mask)) for name, mask in network.masks().items()}
    twin.set_masks({name: mask for name, mask in everything.items() if name != "linear_2"})
    assert torch.equal(network(images()), before)
    assert twin(images()).var(0).max() == 0, "the copy's gates follow the copy's masks"


READERS = {
    "mlp": [FLATTEN, linear(9), linear(7), linear()],
    "mlp with batch norm": [FLATTEN, linear(9), BATCH_NORM, linear(7), BATCH_NORM, linear()],
    "mlp with dropout": [FLATTEN, linear(9), DROPOUT, linear(7), BATCH_NORM, DROPOUT, linear()],
    "mlp with late batch norm": [FLATTEN, linear(9), DROPOUT, BATCH_NORM, linear()],
    "cnn": [conv(6), conv(7), FLATTEN, linear(9), linear()],
    "cnn with batch norm": [conv(6), BATCH_NORM, *POOLS, conv(7), BATCH_NORM, FLATTEN, DROPOUT, linear()],
    "cnn with late batch norm": [conv(6), *POOLS, BATCH_NORM, conv(7), FLATTEN, BATCH_NORM, linear()],
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("layers", READERS)
def test_readers_of_a_pruned_unit_receive_exactly_0_and_of_others_something(layers, activation, mode):
    network, masks = masked({"layers": READERS[layers], "activation": activation})
    weighted, received = network.weighted(), {}
    for name, layer in weighted.items():
        layer.register_forward_pre_hook(lambda m, inputs, name=name: received.update({name: inputs[0]}))
    network.train(mode == "train")(images())
    names = list(weighted)
    for source, reader in pairwise(names):
        kept = masks[source].unit
        by_unit = received[reader].unflatten(1, (len(kept), -1)).flatten(2).abs().amax((0, 2))
        assert not by_unit[~kept].any(), f"what {reader} sees of {source}"
        assert by_unit[kept].any()


OPTIMIZERS = {
    "adam": {"type": "adam", "lr": 0.01, "weight_decay": 0.01},
    "adamw": {"type": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "momentum": {"type": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {"type": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}
MLP = {"layers": [FLATTEN, linear(12), BATCH_NORM, linear()]}


def steps(network: MaskedBodyBuilder, optimizer: torch.optim.Optimizer, count: int) -> None:
    """Gradient steps on random labels."""
    labels = torch.arange(16) % 10
    for _ in range(count):
        optimizer.zero_grad()
        F.cross_entropy(network(images()), labels).backward()
        optimizer.step()


def optimizer_of(network: MaskedBodyBuilder, words: dict) -> torch.optim.Optimizer:
    stage = TrainStage.model_validate({"type": "train", "steps": 1, "optimizer": words})
    return make_optimizer(network, stage.optimizer)


@pytest.mark.parametrize("words", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_no_momentum_and_no_decay_revives_a_pruned_weight(words):
    """The moments are warm when the masks come: dense steps first."""
    network = MaskedBodyBuilder(MLP, seed=0)
    optimizer = optimizer_of(network, words)
    steps(network, optimizer, 5)
    network.set_masks(random_masks(network))
    network.keep_masks(optimizer)
    before = copy.deepcopy(network)
    steps(network, optimizer, 200)
    for name, layer in network.weighted().items():
        mask = network.masks()[name]
        assert torch.equal(layer.weight != 0, mask.weight)
        assert not layer.bias[~mask.unit].any()
        assert not torch.equal(layer.weight, before.weighted()[name].weight), "it did learn"
    network.check_masks()


@pytest.mark.parametrize("words", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_revived_weight_is_an_error(words):
    network = MaskedBodyBuilder(MLP, seed=0)
    optimizer = optimizer_of(network, words)
    steps(network, optimizer, 5)
    network.set_masks(random_masks(network))
    network.check_masks()
    steps(network, optimizer, 1)
    with pytest.raises(RuntimeError, match=r"linear_1: \d+ pruned values are not 0"):
        network.check_masks()


@pytest.mark.parametrize("field", ["weight", "bias"])
def test_one_revived_value_is_named_and_counted(field):
    network, masks = masked(MLP)
    with torch.no_grad():
        getattr(network.weighted()["linear_1"], field).view(-1)[0] = 1e-30
    with pytest.raises(RuntimeError, match="linear_1: 1 pruned values are not 0"):
        network.check_masks()
    assert not masks["linear_1"].unit[0]


@pytest.mark.parametrize(
    ("field", "shape"), [("weight", (10, 11)), ("weight", (120,)), ("unit", (1,)), ("unit", (12,))]
)
def test_a_mask_of_another_shape_is_refused_by_name_and_changes_nothing(field, shape):
    network, _ = masked(MLP)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    masks = {name: LayerMask(*map(torch.zeros_like, mask)) for name, mask in network.masks().items()}
    masks["linear_2"] = masks["linear_2"]._replace(**{field: torch.ones(shape, dtype=torch.bool)})
    with pytest.raises(ValueError, match=f"linear_2: expected a {field} mask"):
        network.set_masks(masks)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
