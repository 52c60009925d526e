"""Seeds: what a seed draws today it drew when the logs were made, and no two purposes draw alike."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor

from helpers import pruning
from helpers.config.hashing import expand_repeats, stage_hashes
from helpers.config.schema import RunSpec
from helpers.foundations.data import Dataset, shift_images
from helpers.foundations.nets import NetConfig
from helpers.foundations.seeds import generator, seed_for
from helpers.logger import read_record
from helpers.methods.stage_settings import StageOrRepeat, TrainStage
from helpers.running.tasks import Task, perform, record_path
from helpers.stages import registry as stages
from helpers.stages.registry import run_stage
from helpers.stages.state import State, begin
from helpers.train_dojo import TrainDojo

DATA = {"dataset": "mnist", "train_size": 1000, "validation_size": 500}
LOGITS = {"type": "linear", "units": 10}
SMALL = {
    "layers": [
        {"type": "adaptive_avgpool", "size": 7},
        {"type": "flatten"},
        {"type": "linear", "units": 16},
        LOGITS,
    ]
}
TINY = {
    "layers": [{"type": "adaptive_avgpool", "size": 4}, *SMALL["layers"][1:2], LOGITS | {"units": 4}, LOGITS]
}
DROPOUT = {"layers": [{"type": "flatten"}, {"type": "dropout", "p": 0.5}, LOGITS]}
TRAIN = {"type": "train", "steps": 40, "batch_size": 50, "shift": 1, "optimizer": {"type": "sgd", "lr": 0.3}}
RANDOM = {"type": "prune", "kind": "weight", "sparsity": 0.3, "criterion": "random"}


def stage(words: dict[str, Any]) -> Any:
    return TypeAdapter(StageOrRepeat).validate_python(words)


def new_state(digits: Dataset, net: dict[str, Any] = TINY, seed: int = 0) -> State:
    return begin(NetConfig.model_validate(net), digits, seed)


# Pinned


def test_derived_seeds_are_pinned() -> None:
    assert seed_for(0, "init") == 1519069808562059438
    assert seed_for(1, "init") == 5267816590608909949
    assert seed_for(0, "order", 0) == 3955691223199900983
    assert seed_for(0, "dropout", 1) == 248420055756719262
    assert seed_for(0, "masks", 0, 2) == 7229008886853368277


@pytest.mark.parametrize(
    ("trained_before", "places"),
    [(0, [111, 519, 998, 871, 607, 909, 249, 152]), (1, [170, 398, 564, 365, 757, 478, 461, 669])],
)
def test_the_order_of_the_data_is_pinned(digits: Dataset, trained_before: int, places: list[int]) -> None:
    """Whole numbers all through, so the same on every processor."""
    words = TrainStage.model_validate(TRAIN | {"batch_size": 8})
    dojo = TrainDojo(new_state(digits).network, digits, words, 0, trained_before)
    assert next(dojo._batches()).tolist() == places


def test_initial_weights_are_pinned(digits: Dataset) -> None:
    """To three digits: the last ones depend on the processor's vector instructions."""
    weight = new_state(digits).network.weighted()["linear_1"].weight.detach()
    assert weight[0, :4].tolist() == pytest.approx([0.3527, 0.0731, -0.1789, 0.2396], abs=1e-4)
    assert weight.sum().item() == pytest.approx(-1.1336, abs=1e-3)


@pytest.mark.parametrize(
    ("criterion", "mask"), [("magnitude", "974c269db9964a71"), ("random", "4b3d388b88c2767b")]
)
def test_masks_are_pinned(digits: Dataset, criterion: str, mask: str) -> None:
    """Magnitudes on the two sides of the cut are 0.006 apart: no rounding changes the mask."""
    state = new_state(digits)
    run_stage(state, stage(RANDOM | {"sparsity": 0.5, "criterion": criterion}))
    found = state.network.weighted()["linear_1"].weight_mask
    assert np.packbits(found.numpy()).tobytes().hex() == mask


def test_a_record_is_pinned(tmp_path: Path) -> None:
    """Initial weights, order, shifts and random masks in one number.

    No test image is nearer than 4e-4 to the border between right and wrong, and a float32 training so short
    differs by about 1e-5 between processors. Without dropout, whose draws depend on how torch was built.
    """
    spec = RunSpec.model_validate({"data": DATA, "net": SMALL, "stages": [TRAIN, RANDOM, TRAIN]})
    stages_run = [step.stage for step in expand_repeats(spec.stages)]
    hashes = next(stage_hashes(spec.data, spec.net, [0], stages_run))
    perform(Task(spec.data, spec.net, 0, stages_run, hashes, 0, frozenset(hashes[-1:]), tmp_path))
    row = read_record(record_path(tmp_path, hashes[-1])).row
    assert row["test_errors"] == 2474
    assert row["val_loss"] == pytest.approx(0.9003, abs=1e-3)


# Apart


def test_what_the_stages_of_a_run_draw_from_is_another_generator_each_time(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seed that a long run uses, as its generators have it."""
    seeds: list[int] = []

    class Listening(TrainDojo):
        def __init__(self, *words: Any, **more: Any):
            super().__init__(*words, **more)
            seeds.extend([self.order.initial_seed(), self.augmentation.initial_seed(), self.dropout_seed])

    def listen(network: Any, words: Any, draws: torch.Generator, *more: Any, **named: Any) -> list[str]:
        seeds.append(draws.initial_seed())
        return pruning.prune(network, words, draws, *more, **named)

    monkeypatch.setattr(stages, "TrainDojo", Listening)
    monkeypatch.setattr(stages, "prune", listen)
    monkeypatch.setattr("helpers.train_dojo.prune", listen)
    for seed in (0, 1):
        state = new_state(digits, seed=seed)
        seeds.append(seed_for(seed, "init"))
        ramp = {"kind": "weight", "rate": 0.1, "every": 5}
        fresh = {"type": "rewind", "to": "fresh"}
        short = TRAIN | {"steps": 20}
        for words in (RANDOM, short, RANDOM | {"sparsity": 0.5}, fresh, short | {"ramp": ramp}, fresh, short):
            run_stage(state, stage(words))
        seeds += [seed_for(seed, "init", "fresh", draw) for draw in (1, 2)]
        assert state.drawn == 2
    assert len(seeds) == 2 * (3 + 3 * 3 + 2 + 3)
    assert len(set(seeds)) == len(seeds)


def test_fresh_weights_are_those_of_their_own_seed(digits: Dataset) -> None:
    state = new_state(digits)
    found = []
    for draw in (1, 2):
        run_stage(state, stage({"type": "rewind", "to": "fresh"}))
        expected = type(state.network)(TINY, seed=seed_for(0, "init", "fresh", draw))
        found.append(state.network.layers["linear_1"].weight.clone())
        assert found[-1].equal(expected.layers["linear_1"].weight)
    assert not found[0].equal(found[1])


def views(
    digits: Dataset, net: dict[str, Any], trained_before: int = 0, **words: Any
) -> tuple[list[int], Tensor]:
    """Places of the first batch, and what the last layer was given of it."""
    seen: list[Tensor] = []
    places: list[list[int]] = []

    class Watched(TrainDojo):
        def loss(self, logits: Tensor, labels: Tensor, batch: Tensor, images: Tensor) -> Tensor:
            places.append(batch.tolist())
            return super().loss(logits, labels, batch, images)

    network = new_state(digits, net).network
    network.weighted()["linear_1"].register_forward_pre_hook(
        lambda layer, args: seen.append(args[0].detach())
    )
    words = {"type": "train", "steps": 1, "batch_size": 50} | words
    Watched(network, digits, TrainStage.model_validate(words), 0, trained_before).train()
    return places[0], seen[0]


@pytest.mark.parametrize("trained_before", [0, 1])
def test_dropout_draws_from_its_own_seed_and_not_from_that_of_the_order(
    digits: Dataset, trained_before: int
) -> None:
    places, given = views(digits, DROPOUT, trained_before)
    images = digits.train.images[places].flatten(1)
    dropped = {}
    for purpose in ("dropout", "order", "augmentation", "masks"):
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(0, purpose, trained_before))
            dropped[purpose] = F.dropout(images, 0.5)
    assert given.equal(dropped["dropout"])
    assert not any(one.equal(other) for one, other in combinations(dropped.values(), 2))


@pytest.mark.parametrize("trained_before", [0, 1])
def test_shifts_draw_from_their_own_seed_and_not_from_that_of_the_order(
    digits: Dataset, trained_before: int
) -> None:
    plain = {"layers": [{"type": "flatten"}, LOGITS]}
    places, given = views(digits, plain, trained_before, shift=2)
    images, shifted = digits.train.images[places], {}
    for purpose in ("augmentation", "order", "dropout", "masks"):
        draws = generator(0, purpose, trained_before)
        shifted[purpose] = shift_images(images, 2, digits.background, draws).flatten(1)
    assert given.equal(shifted["augmentation"])
    assert not any(one.equal(other) for one, other in combinations(shifted.values(), 2))
