"""The stages and what is known after each: checkpoints, rows, arrays."""

import math
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from helpers.foundations.data import Dataset
from helpers.foundations.nets import NetConfig
from helpers.methods.evaluation import evaluate
from helpers.methods.stage_settings import StageOrRepeat
from helpers.running.checkpoints import from_checkpoint, to_checkpoint
from helpers.running.measures import HISTOGRAM_EDGES, measure
from helpers.stages.registry import run_stage
from helpers.stages.state import State, begin

ROOT = Path(__file__).parents[2]
MLP = {"layers": [{"type": "flatten"}, {"type": "linear", "units": 16}, {"type": "linear", "units": 10}]}
CNN = {
    "layers": [
        {"type": "conv2d", "filters": 4, "kernel": 3, "stride": 2},
        {"type": "batch_norm"},
        {"type": "maxpool"},
        {"type": "flatten"},
        {"type": "linear", "units": 10},
    ],
    "activation": "sigmoid",
}
TRAIN = {"type": "train", "epochs": 2, "batch_size": 100}
WEIGHT = {"type": "prune", "kind": "weight", "sparsity": 0.5}
UNIT = {"type": "prune", "kind": "unit", "sparsity": 0.25}
FILTER = {"type": "prune", "kind": "filter", "sparsity": 0.5}
SHUFFLE = {"type": "prune", "kind": "weight", "criterion": "shuffle"}


def after(state: State, *stages: dict[str, Any]) -> State:
    """The state after these stages, which begins as it was given."""
    for words in stages:
        stage = TypeAdapter(StageOrRepeat).validate_python(words)
        run_stage(state, stage)
    return state


@pytest.fixture
def start(digits: Dataset) -> Callable[..., State]:
    """A new state with these stages behind it."""

    def make(*stages: dict[str, Any], net: dict[str, Any] = MLP, seed: int = 0) -> State:
        return after(begin(NetConfig.model_validate(net), digits, seed), *stages)

    return make


def weights(state: State) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in state.network.state_dict().items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[key]) for key, value in one.items())


# Checkpoints

READER = """
import sys, torch
from helpers import DataConfig, load_dataset
from helpers.foundations.nets import NetConfig
from helpers.running.checkpoints import from_checkpoint

torch.set_num_threads(1)
words = torch.load(sys.argv[1], weights_only=True)
data = load_dataset(DataConfig(dataset="mnist", train_size=1000, validation_size=500))
found = {}
for name, (net, checkpoint) in words.items():
    state = from_checkpoint(checkpoint, NetConfig.model_validate(net), data, 0)
    logits = state.network.eval()(data.test.images[:200]).detach()
    found[name] = [logits, state.network.state_dict(), state.trained, state.epochs, state.train_flops]
torch.save(found, sys.argv[2])
"""


def test_another_process_gets_the_same_network_from_a_checkpoint(
    start: Callable[..., State], tmp_path: Path
) -> None:
    states = {"mlp": start(TRAIN, WEIGHT, UNIT), "cnn": start(TRAIN, FILTER, net=CNN), "whole": start()}
    nets = {"mlp": MLP, "cnn": CNN, "whole": MLP}
    torch.save({name: (nets[name], to_checkpoint(state)) for name, state in states.items()}, tmp_path / "a")
    subprocess.run([sys.executable, "-c", READER, tmp_path / "a", tmp_path / "b"], check=True, cwd=ROOT)
    for name, (logits, values, trained, epochs, flops) in torch.load(tmp_path / "b").items():
        state = states[name]
        assert are_equal(values, state.network.state_dict())
        assert logits.equal(state.network.eval()(state.dataset.test.images[:200]))
        assert (trained, epochs, flops) == (state.trained, state.epochs, state.train_flops)


def test_a_checkpoint_holds_tensors_numbers_and_texts_only_and_masks_as_bits(
    start: Callable[..., State],
) -> None:
    checkpoint = to_checkpoint(start(TRAIN, WEIGHT, UNIT))

    def leaves(value: Any) -> list[Any]:
        return [leaf for v in value.values() for leaf in leaves(v)] if isinstance(value, dict) else [value]

    assert {type(leaf) for leaf in leaves(checkpoint)} <= {Tensor, str, int, float}
    bits = checkpoint["masks"]["linear_1"]["weight"]
    assert (bits.dtype, len(bits)) == (torch.uint8, 784 * 16 // 8)
    assert "linear_2" not in checkpoint["masks"]  # nothing of it is pruned


def test_a_checkpoint_keeps_every_number_and_word_of_a_state(start: Callable[..., State]) -> None:
    """But the seed, which its reader knows, and what is of the last stage alone."""
    state = start()
    names = [
        field.name for field in fields(State) if isinstance(getattr(state, field.name), int | float | str)
    ]
    names = [name for name in [*names, "resume_at"] if name not in ("seed", "compact_difference")]
    for place, name in enumerate(names):
        setattr(state, name, type(getattr(state, name))(place + 3) if name != "resume_at" else 99)
    found = from_checkpoint(to_checkpoint(state), state.network.net, state.dataset, 0)
    assert {name: getattr(found, name) for name in names} == {name: getattr(state, name) for name in names}
    assert {"trained", "pruned", "drawn", "precision", "epochs", "train_flops", "wall_s", "status"} < {*names}


def test_what_follows_a_checkpoint_is_what_follows_the_state_itself(start: Callable[..., State]) -> None:
    straight = start(TRAIN, WEIGHT)
    restored = from_checkpoint(to_checkpoint(straight), straight.network.net, straight.dataset, 0)
    later = [TRAIN, UNIT | {"criterion": "random"}, TRAIN]
    assert are_equal(weights(after(straight, *later)), weights(after(restored, *later)))
    assert measure(straight)[0] | {"wall_s": 0} == measure(restored)[0] | {"wall_s": 0}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda words: words.pop("weights"),
        lambda words: words.pop("scalars"),
        lambda words: words["weights"].pop("layers.linear_1.bias"),
        lambda words: words["weights"].update({"layers.linear_9.bias": torch.zeros(1)}),
        lambda words: words["weights"].update({"layers.linear_1.weight": torch.zeros(17, 784)}),
        lambda words: words["masks"]["linear_1"].update(weight=torch.zeros(3, dtype=torch.uint8)),
    ],
)
def test_an_unfit_checkpoint_is_refused(start: Callable[..., State], spoil: Callable) -> None:
    state = start(WEIGHT)
    words = to_checkpoint(state)
    spoil(words)
    with pytest.raises((KeyError, ValueError, RuntimeError)):
        from_checkpoint(words, state.network.net, state.dataset, 0)


@pytest.mark.parametrize("content", ["truncated", "foreign", "half"])
def test_a_damaged_save_of_an_unfinished_training_costs_time_and_changes_nothing(
    start: Callable[..., State], tmp_path: Path, content: str
) -> None:
    expected, state, partial = start(TRAIN, WEIGHT, TRAIN), start(TRAIN, WEIGHT), tmp_path / "x.partial.pt"
    if content == "half":
        other = start(TRAIN)
        torch.save({"network": other.network.state_dict(), "optimizer": {}, "generators": []}, partial)
    else:
        partial.write_bytes(b"PK\x03\x04 cut" if content == "truncated" else b"a text")
    state.partial = partial
    assert are_equal(weights(after(state, TRAIN)), weights(expected))
    assert state.curves["train_loss"] == expected.curves["train_loss"]


def test_a_save_that_another_process_clears_away_meanwhile_is_no_damage(
    start: Callable[..., State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, **_: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    state = start()
    state.partial = tmp_path / "x.partial.pt"
    state.partial.write_bytes(b"")
    monkeypatch.setattr(zipfile, "ZipFile", gone)
    assert are_equal(weights(after(state, TRAIN)), weights(start(TRAIN)))
    assert state.notes == []


# Stages


def test_seeds_start_apart_and_each_train_stage_has_its_own_order(start: Callable[..., State]) -> None:
    assert not are_equal(weights(start(seed=0)), weights(start(seed=1)))
    assert are_equal(weights(start(TRAIN)), weights(start(TRAIN)))
    again = start(TRAIN)
    again.trained = 0
    assert not are_equal(weights(after(again, TRAIN)), weights(start(TRAIN, TRAIN)))


def test_prune_sets_weights_to_0_and_the_reference_stays_that_of_the_last_training(
    start: Callable[..., State],
) -> None:
    state = start(TRAIN)
    trained = weights(state)
    after(state, WEIGHT, UNIT)
    layer = state.network.weighted()["linear_1"]
    assert (layer.weight == 0).float().mean() >= 0.5
    assert layer.weight[~layer.weight_mask].count_nonzero() == 0
    assert all(value.equal(trained[key]) for key, value in state.reference.items())
    assert layer.weight[layer.weight_mask].equal(trained["layers.linear_1.weight"][layer.weight_mask])
    assert state.curves == {}
    after(state, TRAIN)
    assert all(value.equal(weights(state)[key]) for key, value in state.reference.items())


def test_shuffle_keeps_the_counts_and_brings_back_the_trained_values(start: Callable[..., State]) -> None:
    state = start(TRAIN)
    trained = weights(state)
    after(state, WEIGHT | {"layers": "all"})
    before = weights(state)
    after(state, SHUFFLE | {"layers": "all"})
    for name, layer in state.network.weighted().items():
        mask, old = layer.weight_mask, before[f"layers.{name}.weight_mask"]
        assert mask.sum() == old.sum()
        assert (mask & ~old).any()  # some come back, with the values that training gave them
        assert layer.weight.equal(trained[f"layers.{name}.weight"] * mask)


@pytest.mark.parametrize("criterion", ["wanda", "contribution", "obd"])
def test_a_criterion_reads_the_first_training_images_and_no_others(digits: Dataset, criterion: str) -> None:
    """The others are black or turned over, which would change the scores."""

    def masks(kept: int, dataset: Dataset, ramp: bool) -> Tensor:
        train, blank = dataset.train, torch.zeros_like
        images = torch.cat([train.images[:kept], train.images[kept:].flip(3)])
        parts = {name: getattr(dataset, name) for name in ("validation", "test")}
        parts = {name: replace(part, images=blank(part.images)) for name, part in parts.items()}
        data = replace(dataset, train=replace(train, images=images), **(parts if kept < 1000 else {}))
        state = begin(NetConfig.model_validate(MLP), data, 0)
        amount = {"kind": "weight", "sparsity": 0.5, "criterion": criterion, "samples": 200}
        last = {"type": "train", "steps": 3, "optimizer": {"type": "sgd", "lr": 1e-30}}
        after(state, last | {"ramp": amount | {"every": 1}} if ramp else {"type": "prune"} | amount)
        return state.network.weighted()["linear_1"].weight_mask

    for ramp in (False, True):
        whole = masks(1000, digits, ramp)
        assert masks(200, digits, ramp).equal(whole)
        assert not masks(100, digits, ramp).equal(whole)


def test_flops_and_epochs_add_up_over_the_run(start: Callable[..., State]) -> None:
    macs = 784 * 16 + 16 * 10
    row = measure(start(TRAIN))[0]
    # Two operations a MAC; forward, then the gradients of inputs and of weights.
    assert row["train_flops"] == 2 * 3 * macs * 2000
    assert row["epochs"] == 2
    row = measure(start(TRAIN, WEIGHT, {"type": "train", "steps": 15, "batch_size": 100}))[0]
    assert row["train_flops"] == 2 * 3 * macs * 3500  # masked weights compute like others
    assert row["epochs"] == pytest.approx(3.5)


# Rows and arrays

COLUMNS = (
    "status val_loss val_accuracy test_loss test_accuracy test_errors sparsity sparsity_all "
    "effective_sparsity params macs epochs train_flops wall_s"
)


def test_a_row_says_how_the_network_does_and_what_is_left_of_it(start: Callable[..., State]) -> None:
    state = start(TRAIN, UNIT)
    row, _ = measure(state)
    assert set(COLUMNS.split()) <= row.keys()
    test = evaluate(state.network, state.dataset.test)
    assert (row["status"], row["test_errors"], row["test_loss"]) == ("ok", test.errors, test.loss)
    assert row["val_accuracy"] == evaluate(state.network, state.dataset.validation).accuracy
    pruned, weights_of_logits = 4 * 784, 16 * 10
    assert row["sparsity"] == row["unit_sparsity"] == 0.25
    assert row["sparsity_all"] == pytest.approx(pruned / (784 * 16 + weights_of_logits))
    assert row["macs"] == 12 * 784 + 12 * 10
    assert row["params"] == 12 * 785 + 12 * 10 + 10
    assert row["wall_s"] > 0


def test_a_row_is_measured_in_the_precision_of_the_last_training(
    start: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    state = start(TRAIN)
    state.precision = "bfloat16"
    row, dataset = measure(state)[0], state.dataset
    for name, split in (("val", dataset.validation), ("test", dataset.test)):
        rough, fine = (evaluate(state.network, split, precision) for precision in ("bfloat16", "float32"))
        assert row[f"{name}_loss"] == rough.loss != fine.loss


def test_arrays_count_what_they_say(start: Callable[..., State]) -> None:
    state = start(TRAIN, WEIGHT, UNIT)
    row, arrays = measure(state)
    labels, network = state.dataset.test.labels.numpy(), state.network
    with torch.no_grad():
        predictions = network.eval()(state.dataset.test.images).argmax(1).numpy()
    pairs = np.zeros((10, 10), int)
    np.add.at(pairs, (labels, predictions), 1)
    np.testing.assert_array_equal(arrays["confusion"], pairs)
    assert arrays["confusion"].sum() == len(labels) == 1234
    np.testing.assert_array_equal(arrays["wrong_index"], np.flatnonzero(predictions != labels)[:100])
    np.testing.assert_array_equal(arrays["wrong_prediction"], predictions[arrays["wrong_index"]])
    assert row["test_errors"] >= len(arrays["wrong_index"])
    kept = [layer.weight_mask.sum().item() for layer in network.weighted().values()]
    assert arrays["weight_histogram"].sum(1).tolist() == kept
    assert arrays["weight_histogram"].shape[1] == len(HISTOGRAM_EDGES) - 1
    assert arrays["keep_by_layer"].tolist() == [kept[0] / (16 * 784), kept[1] / 160]
    assert arrays["layer_names"].tolist() == [b"linear_1", b"linear_2"]
    assert arrays["alive_by_layer"].tolist() == [12, 10]
    mask = network.weighted()["linear_1"].weight_mask
    np.testing.assert_allclose(arrays["input_map"], mask.float().mean(0).view(1, 28, 28))


def test_a_convolutional_network_records_its_first_filters(start: Callable[..., State]) -> None:
    state = start(TRAIN, FILTER, net=CNN)
    _, arrays = measure(state)
    assert "input_map" not in arrays
    np.testing.assert_array_equal(
        arrays["first_filters"], state.network.weighted()["conv2d_1"].weight.detach().numpy()
    )
    assert (np.abs(arrays["first_filters"]).sum((1, 2, 3)) == 0).sum() == 2


def test_a_diverged_state_is_measured_without_complaint(start: Callable[..., State]) -> None:
    state = start(TRAIN | {"optimizer": {"type": "sgd", "lr": 1e30}})
    row, arrays = measure(state)
    assert row["status"] == "diverged"
    assert not math.isfinite(row["test_loss"])
    assert arrays["confusion"].sum() == 1234
    assert from_checkpoint(to_checkpoint(state), state.network.net, state.dataset, 0).status == "diverged"
