"""Ramps, rewinds and refits: exact counts on the way, and bit by bit the weights that were there before."""

import io
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from helpers.config.checks import cross_mistakes
from helpers.config.hashing import expand_repeats, stage_hashes
from helpers.config.schema import RunSpec
from helpers.foundations.data import Dataset
from helpers.foundations.datasets import DataConfig
from helpers.foundations.nets import NetConfig
from helpers.foundations.numerics import numerics
from helpers.logger import read_record
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.stage_settings import StageOrRepeat, TrainStage
from helpers.running.checkpoints import from_checkpoint, to_checkpoint
from helpers.running.tasks import Task, perform, record_path, restore, weights_path
from helpers.stages.registry import run_stage
from helpers.stages.state import State, begin
from helpers.train_dojo import TrainDojo

DATA = {"dataset": "mnist", "train_size": 1000, "validation_size": 500}
SMALL = {"type": "adaptive_avgpool", "size": 7}
MLP = {
    "layers": [SMALL, {"type": "flatten"}, {"type": "linear", "units": 16}, {"type": "linear", "units": 10}]
}
NORM = {
    "layers": [
        SMALL,
        {"type": "conv2d", "filters": 8, "kernel": 3, "stride": 2},
        {"type": "batch_norm"},
        {"type": "flatten"},
        {"type": "linear", "units": 12},
        {"type": "dropout", "p": 0.2},
        {"type": "linear", "units": 10},
    ]
}
SGD = {"type": "sgd", "lr": 0.05}
MOMENTUM = SGD | {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
OPTIMIZERS = [
    MOMENTUM,
    {"type": "adam", "weight_decay": 0.1},
    {"type": "adamw", "weight_decay": 0.1},
]
TRAIN = {"type": "train", "steps": 25, "batch_size": 100}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.5}
MORE = PRUNE | {"sparsity": 0.8}
UNITS = {"type": "prune", "kind": "unit", "sparsity": 0.25}
SHUFFLE = {"type": "prune", "kind": "weight", "criterion": "shuffle"}
REFIT = {"type": "refit", "samples": 200}
ANEW = {"type": "reconstruct", "kind": "weight", "sparsity": 0.6, "samples": 200}
ANEW_UNITS = ANEW | {"kind": "unit", "sparsity": 0.25, "scope": "global"}
RANDOM_ANEW = ANEW | {"method": "random"}
BIAS, RESCALE = REFIT | {"mode": "bias"}, REFIT | {"mode": "rescale"}
COMPACT = {"type": "compact"}
RAMP = {"kind": "weight", "sparsity": 0.9, "every": 5}


def to(point: str | int) -> dict[str, Any]:
    return {"type": "rewind", "to": point if isinstance(point, str) else {"step": point}}


def weights(state: State | TrainDojo) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in state.network.state_dict().items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[key]) for key, value in one.items())


def after(state: State, *stages: dict[str, Any]) -> State:
    """The state after these stages, repeats written out; it begins as it was given."""
    for step in expand_repeats([TypeAdapter(StageOrRepeat).validate_python(words) for words in stages]):
        if state.first_train is None and step.stage.type == "train":
            state.first_train = step.stage
        run_stage(state, step.stage)
        state.network.check_masks()
    return state


@pytest.fixture
def start(digits: Dataset) -> Callable[..., State]:
    """A new state with these stages behind it."""

    def make(*stages: dict[str, Any], net: dict[str, Any] = MLP, seed: int = 0) -> State:
        return after(begin(NetConfig.model_validate(net), digits, seed), *stages)

    return make


# Ramps


class Watched(TrainDojo):
    """Notes the masks of every step, checks them after it, and raises before a step if asked to."""

    raises_at: int | None = None

    def _step(self, batch: Tensor) -> Tensor:
        if self.progress.step == self.raises_at:
            raise KeyboardInterrupt
        found = super()._step(batch)
        self.network.check_masks()
        self.__dict__.setdefault("seen", []).append(self.network.masks())
        return found


def dojo(digits: Dataset, net: dict[str, Any] = MLP, sparsity: float = 0, **words: Any) -> Watched:
    """A dojo with a fresh network, of whose weights and units a share may be pruned already."""
    stage = TrainStage.model_validate({"type": "train", "batch_size": 100} | words)
    network = MaskedBodyBuilder(net, seed=3)
    draw, masks = torch.Generator().manual_seed(0), {}
    for name, mask in network.masks().items():
        count = round(sparsity * mask.weight.numel())
        weight = torch.ones(mask.weight.numel(), dtype=torch.bool)
        weight[torch.randperm(len(weight), generator=draw)[:count]] = False
        masks[name] = LayerMask(weight.view_as(mask.weight), mask.unit)
    network.set_masks(masks)
    return Watched(network, digits, stage, 0)


def lost(masks: dict[str, LayerMask], kind: str, name: str) -> int:
    mask = masks[name]
    return int((~(mask.weight if kind == "weight" else mask.unit)).sum())


def cubic(first: int, final: int, event: int, events: int) -> int:
    """How many are pruned after an event (Zhu and Gupta 2017, equation 1), in exact arithmetic."""
    return first + round((final - first) * (1 - (1 - Fraction(event, events)) ** 3))


@pytest.mark.parametrize(
    ("words", "steps", "points"),
    [
        ({"every": 5}, 40, [5, 10, 15, 20, 25, 30]),  # the last at 0.75 of the way
        ({"every": 5, "end": 1}, 40, [5, 10, 15, 20, 25, 30, 35]),  # a step has to follow
        ({"every": 7, "end": 0.5}, 40, [7, 14]),
        ({"every": 1, "end": 0.1}, 40, [1, 2, 3, 4]),
        ({"every": 3, "end": 0.3}, 12, [3]),
    ],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda words: words["type"])
def test_a_ramp_prunes_on_the_cubic_schedule_to_the_weight_and_never_less(
    digits: Dataset, words: dict[str, Any], steps: int, points: list[int], optimizer: dict[str, Any]
) -> None:
    ramp = {"kind": "weight", "sparsity": 0.9, "layers": {"linear_2": {"sparsity": 0.4}}} | words
    watched = dojo(digits, sparsity=0.2, steps=steps, optimizer=optimizer, ramp=ramp)
    first = watched.network.masks()
    watched.train()
    assert len(watched.seen) == steps
    for name, final in (("linear_1", round(0.9 * 784)), ("linear_2", round(0.4 * 160))):
        begun = lost(first, "weight", name)
        for step, masks in enumerate(watched.seen):
            event = sum(point <= step for point in points)
            assert lost(masks, "weight", name) == cubic(begun, final, event, len(points))
        assert lost(watched.network.masks(), "weight", name) == final
    for earlier, later in zip([first, *watched.seen], watched.seen, strict=False):
        assert all((later[name].weight <= earlier[name].weight).all() for name in later)


@pytest.mark.parametrize(
    ("ramp", "final"),
    [
        ({"kind": "weight", "rate": 0.5}, {"linear_1": 157 + round(0.5 * (784 - 157))}),
        ({"kind": "unit", "sparsity": 0.7}, {"linear_1": 11}),
        ({"kind": "unit", "sparsity": 0.7, "criterion": "taylor", "samples": 50}, {"linear_1": 11}),
        ({"kind": "weight", "sparsity": 0.9, "criterion": "wanda", "samples": 50}, {"linear_1": 706}),
        ({"kind": "weight", "sparsity": 0.9, "criterion": "random"}, {"linear_1": 706}),
    ],
)
def test_rates_units_and_criteria_ramp_as_well(
    digits: Dataset, ramp: dict[str, Any], final: dict[str, int]
) -> None:
    """A rate is of what was left when the ramp began."""
    words = {"steps": 20, "optimizer": MOMENTUM, "ramp": ramp | {"every": 5}}
    watched = dojo(digits, MLP | {"activation": "relu"}, sparsity=0.2, **words)
    assert lost(watched.network.masks(), "weight", "linear_1") == 157
    watched.train()
    kind = ramp["kind"]
    for name, count in final.items():
        begun = 157 if kind == "weight" else 0
        found = [lost(masks, kind, name) for masks in watched.seen[::5]]
        assert found == [cubic(begun, count, event, 3) for event in range(4)]


def test_a_global_ramp_counts_over_all_layers(digits: Dataset) -> None:
    ramp = RAMP | {"scope": "global", "layers": "all"}
    watched = dojo(digits, NORM, steps=24, optimizer=MOMENTUM, ramp=ramp)
    names = list(watched.network.weighted())
    total = sum(layer.weight.numel() for layer in watched.network.weighted().values())
    watched.train()
    found = [sum(lost(masks, "weight", name) for name in names) for masks in watched.seen[::5]]
    assert found == [cubic(0, round(0.9 * total), min(event, 3), 3) for event in range(5)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:2], ids=lambda words: words["type"])
@pytest.mark.parametrize("raises_at", [12, 29, 38])
@pytest.mark.parametrize(
    "words",
    [
        {"sparsity": 0.9},
        {"sparsity": 0.9, "criterion": "random", "scope": "global"},
        {"rate": 0.8, "criterion": "obd", "samples": 40},
        {"kind": "unit", "sparsity": 0.5, "criterion": "taylor", "samples": 40},
    ],
    ids=lambda words: words.get("criterion", "magnitude"),
)
def test_a_killed_ramp_goes_on_bit_by_bit(
    digits: Dataset, words: dict[str, Any], raises_at: int, optimizer: dict[str, Any]
) -> None:
    """Saves are at steps 10, 20 and 30, prunings at every fourth to 28, also right after a save."""

    def fresh() -> Watched:
        ramp = {"kind": "weight", "every": 4} | words
        schedule = {"type": "cosine"}
        return dojo(digits, NORM, 0.2, steps=40, optimizer=optimizer, ramp=ramp, schedule=schedule)

    straight, killed, resumed, file = fresh(), fresh(), fresh(), io.BytesIO()

    def keep(state: dict[str, Any]) -> None:
        file.seek(0)
        torch.save(state, file)

    killed.raises_at = raises_at
    with pytest.raises(KeyboardInterrupt):
        killed.train(keep)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.progress.step == raises_at // 10 * 10
    straight.train()
    resumed.train()
    assert are_equal(weights(resumed), weights(straight))
    for mine, theirs in zip(reversed(resumed.seen), reversed(straight.seen), strict=False):
        assert all(torch.equal(mine[name].weight, theirs[name].weight) for name in mine)


def test_a_stage_with_a_ramp_goes_on_from_its_partial_save_bit_by_bit(
    start: Callable[..., State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pruned when the stage began is known again, though the save is of a later network."""
    stages = [TRAIN, PRUNE, TRAIN | {"ramp": RAMP | {"rate": 0.5, "sparsity": None}}]
    expected, state = start(*stages), start(*stages[:2])
    state.partial = tmp_path / "x.partial.pt"
    step = TrainDojo._step

    def killed(self: TrainDojo, batch: Tensor) -> Tensor:
        if self.progress.step == 18:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(TrainDojo, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        after(state, stages[2])
    monkeypatch.undo()
    again = start(*stages[:2])
    again.partial = state.partial
    assert are_equal(weights(after(again, stages[2])), weights(expected))
    assert lost(expected.network.masks(), "weight", "linear_1") == 392 + round(0.5 * 392)


def test_what_a_ramp_warned_of_before_a_save_is_told_after_it(digits: Dataset) -> None:
    def fresh() -> Watched:
        layers = {"linear_1": {"sparsity": 1.0}}
        return dojo(digits, steps=30, ramp=RAMP | {"end": 0.3, "layers": layers})

    straight, killed, resumed, saves = fresh(), fresh(), fresh(), []
    straight.train()
    killed.raises_at = 15
    with pytest.raises(KeyboardInterrupt):
        killed.train(lambda words: saves.append(deepcopy(words)))
    resumed.load_state_dict(saves[-1])
    resumed.train()
    assert resumed.warnings == straight.warnings
    assert ["linear_1 loses the last" in text for text in straight.warnings] == [True]


def test_repeated_ramps_begin_where_the_one_before_ended(start: Callable[..., State]) -> None:
    state, found = start(TRAIN), []
    repeat = {"type": "repeat", "times": 3, "stages": [TRAIN | {"ramp": RAMP | {"sparsity": 0.973}}]}
    for copy in expand_repeats([TypeAdapter(StageOrRepeat).validate_python(repeat)]):
        run_stage(state, copy.stage)
        found.append(lost(state.network.masks(), "weight", "linear_1"))
    # 0.973 = 1 − 0.3³: each copy leaves 0.3 of what the one before has left
    assert found == [round(share * 784) for share in (0.7, 0.91, 0.973)]
    assert state.pruned == 3


def test_random_ramps_and_prunes_of_one_run_draw_apart(start: Callable[..., State]) -> None:
    """Had they drawn alike, the second would take what the first has left in the first one's order."""
    words = {"kind": "weight", "criterion": "random"}
    ramped = TRAIN | {"ramp": words | {"sparsity": 0.5, "every": 18}}
    state = start(ramped)
    once = state.network.masks()["linear_1"].weight
    other = start(PRUNE | {"criterion": "random", "sparsity": 0}, ramped).network.masks()["linear_1"].weight
    assert not once.equal(other)
    assert once.equal(start(ramped).network.masks()["linear_1"].weight)


# Rewinds


@pytest.mark.parametrize("net", [MLP, NORM], ids=["mlp", "norm"])
def test_rewind_to_init_gives_the_initial_weights_and_statistics_under_the_present_masks(
    start: Callable[..., State], net: dict[str, Any]
) -> None:
    state, first = start(TRAIN, PRUNE, UNITS, net=net), weights(start(net=net))
    trained = weights(state)
    after(state, to("init"))
    for key, value in weights(state).items():
        if key.endswith("_mask"):
            assert value.equal(trained[key])
        elif key.endswith(("weight", "bias")) and f"{key.rsplit('.', 1)[0]}.weight_mask" in trained:
            layer = key.rsplit(".", 1)[0]
            mask = trained[f"{layer}.{'weight' if key.endswith('weight') else 'unit'}_mask"]
            assert value.equal(first[key] * mask)
        else:
            assert value.equal(first[key])
    assert any(key.endswith("running_var") for key in trained) == (net is NORM)


def test_fresh_weights_are_others_each_time_and_the_same_for_the_same_seed(
    start: Callable[..., State],
) -> None:
    first, one = start(TRAIN, PRUNE, to("init")), start(TRAIN, PRUNE, to("fresh"))
    two, again = start(TRAIN, PRUNE, to("fresh"), to("fresh")), start(TRAIN, PRUNE, to("fresh"))
    other_seed = start(TRAIN, PRUNE, to("fresh"), seed=1)
    found = [weights(state)["layers.linear_2.weight"] for state in (first, one, two, other_seed)]
    assert not any(a.equal(b) for place, a in enumerate(found) for b in found[:place])
    assert are_equal(weights(one), weights(again))
    # Kaiming: the same law as at first, wherever nothing is pruned.
    assert found[1].std() == pytest.approx(found[0].std().item(), rel=0.2)


STEPS = [0, 4, 10, 13, 25]


@pytest.mark.parametrize("k", STEPS)
@pytest.mark.parametrize(
    "train", [TRAIN, TRAIN | {"optimizer": MOMENTUM, "shift": 1, "schedule": {"type": "cosine"}}]
)
def test_rewind_to_a_step_gives_the_weights_that_the_first_training_had_then(
    start: Callable[..., State], digits: Dataset, train: dict[str, Any], k: int
) -> None:
    """Oracle: a spy on that training. Batch norm, dropout and augmentation are as they were."""
    seen = {}

    class Spy(TrainDojo):
        def _step(self, batch: Tensor) -> Tensor:
            seen[self.progress.step] = weights(self)
            return super()._step(batch)

    first = start(net=NORM)
    Spy(first.network, digits, TrainStage.model_validate(train), 0).train()
    seen[25] = weights(first)
    state = start(train, PRUNE, net=NORM)
    masks = state.network.masks()
    after(state, to(k))
    for key, value in weights(state).items():
        if not key.endswith("_mask"):
            name, _, what = key.removeprefix("layers.").rpartition(".")
            expected = seen[k][key]
            assert value.equal(
                expected * masks[name].weight if name in masks and what == "weight" else expected
            )
    assert state.resume_at == k


@pytest.mark.parametrize("k", STEPS[:-1])
@pytest.mark.parametrize("words", [{}, {"steps": None, "epochs": 3}, {"schedule": {"type": "cosine"}}])
def test_what_is_rewound_and_not_pruned_ends_where_the_first_training_ended(
    start: Callable[..., State], words: dict[str, Any], k: int
) -> None:
    """SGD without momentum carries nothing over: with the same schedule and order, the same steps follow."""
    train = TRAIN | {"optimizer": SGD, "schedule": {"type": "linear", "warmup_steps": 6}} | words
    once = start(train)
    again = start(train, PRUNE | {"sparsity": 0}, to(k), train)
    assert are_equal(weights(again), weights(once))
    assert again.resume_at is None


def test_what_trains_after_a_rewind_to_init_or_after_a_resumed_training_has_an_order_of_its_own(
    start: Callable[..., State],
) -> None:
    train = TRAIN | {"optimizer": SGD}
    once = weights(start(train))
    assert not are_equal(weights(start(train, to("init"), train)), once)
    resumed = start(train, to(4), train, to("init"), train)
    assert not are_equal(weights(resumed), once)
    assert not are_equal(weights(resumed), weights(start(train, to("init"), train)))


@pytest.mark.parametrize("point", ["init", "fresh"])
def test_a_later_rewind_takes_back_the_resuming_of_an_earlier_one(
    start: Callable[..., State], point: str
) -> None:
    train = TRAIN | {"optimizer": SGD}
    twice = start(train, to(20), to(point), train)
    assert are_equal(weights(twice), weights(start(train, to(point), train)))
    assert twice.epochs == 5


@pytest.mark.parametrize(("k", "left"), [(0, 2500), (4, 2100), (10, 1500), (13, 1200)])
def test_epochs_and_flops_count_only_what_ran(start: Callable[..., State], k: int, left: int) -> None:
    macs = 49 * 16 + 16 * 10
    state = start(TRAIN, PRUNE, to(k))
    assert (state.epochs, state.train_flops) == (2.5, 6 * macs * 2500)
    after(state, TRAIN | {"log_every": 5})
    assert state.epochs == pytest.approx(2.5 + left / 1000)
    assert state.train_flops == 6 * macs * (2500 + left)
    # The curve goes on along the first one's steps and epochs.
    assert state.curves["step"] == [step for step in (5, 10, 15, 20, 25) if step > k]
    assert state.curves["epoch"] == pytest.approx([step / 10 for step in state.curves["step"]])


def test_batches_smaller_than_the_others_are_left_out_with_their_epoch(start: Callable[..., State]) -> None:
    """Of 1,000 images at 384 a step, an epoch ends with 232."""
    train = {"type": "train", "epochs": 3, "batch_size": 384, "optimizer": SGD}
    once, again = start(train), start(train, to(4), train)
    assert are_equal(weights(again), weights(once))
    assert again.epochs == pytest.approx(3 + (616 + 1000) / 1000)
    assert again.curves["epoch"] == pytest.approx([2, 3])


# Through the cache


def a_task(networks: Path, stages: list[dict[str, Any]], net: dict[str, Any]) -> Task:
    spec = RunSpec.model_validate({"data": DATA, "net": net, "stages": stages})
    stages_run = [step.stage for step in expand_repeats(spec.stages)]
    hashes = next(stage_hashes(spec.data, spec.net, [0], stages_run))
    networks.mkdir(exist_ok=True)
    data = DataConfig.model_validate(DATA)
    return Task(data, spec.net, 0, stages_run, hashes, 0, frozenset(), networks)


def restored(task: Task, until: int | None = None) -> State:
    """The state after so many stages, from what the cache has."""
    with numerics(1):
        return restore(task, len(task.stages) if until is None else until, lambda text: None, "cpu")


SENTENCES = {
    "refit twice": [TRAIN, PRUNE, REFIT, MORE, REFIT],
    "refit in all modes": [TRAIN, UNITS, BIAS, PRUNE, RESCALE, MORE, REFIT],
    "refit without training": [PRUNE, REFIT, MORE, REFIT],
    "refit, then train": [TRAIN, PRUNE, REFIT, TRAIN, MORE, REFIT],
    "refit, then shuffle": [TRAIN, PRUNE, REFIT, SHUFFLE],
    "compact, then train": [TRAIN, UNITS, COMPACT, TRAIN, PRUNE, REFIT, COMPACT, TRAIN],
    "rewind to a step": [TRAIN, PRUNE, to(7), TRAIN, MORE, to(13), TRAIN],
    "rewind, refit, resume": [TRAIN, PRUNE, to(7), REFIT, TRAIN],
    "rewind to init": [TRAIN, PRUNE, to("init"), TRAIN, REFIT],
    "fresh twice": [TRAIN, to("fresh"), TRAIN, to("fresh"), PRUNE, TRAIN],
    "ramps": [
        TRAIN | {"ramp": RAMP | {"criterion": "random", "sparsity": 0.3}}, MORE | {"criterion": "random"},
        TRAIN | {"ramp": RAMP},
    ],
    "repeat": [TRAIN, {"type": "repeat", "times": 2, "stages": [PRUNE, REFIT, to(4), TRAIN]}],
    "precision": [TRAIN | {"precision": "bfloat16"}, PRUNE, REFIT, MORE],
    # Shuffle revives the weights of the latest training or rewind, the refit fits to those of the training.
    "init, refit, shuffle": [TRAIN, PRUNE, to("init"), REFIT, SHUFFLE],
    "fresh, refit, shuffle": [TRAIN, PRUNE, to("fresh"), REFIT, SHUFFLE],
    "step, refit, shuffle": [TRAIN, PRUNE, to(7), REFIT, SHUFFLE],
    "rewind, refit, prune, shuffle": [TRAIN, PRUNE, to("init"), REFIT, MORE, SHUFFLE],
    "rewind, refit twice, shuffle": [TRAIN, PRUNE, to(7), REFIT, MORE, REFIT, SHUFFLE, REFIT],
    "rewind twice, refit, shuffle": [TRAIN, PRUNE, to("init"), REFIT, to("fresh"), REFIT, SHUFFLE],
    "rewind, train, refit, shuffle": [TRAIN, PRUNE, to("fresh"), REFIT, TRAIN, MORE, REFIT, SHUFFLE],
    "rewind without training": [PRUNE, to("fresh"), REFIT, SHUFFLE],
    "refit on logits": [TRAIN, PRUNE, REFIT | {"mode": "logits"}, MORE, REFIT],
    "reconstruct": [TRAIN, ANEW, MORE, REFIT],
    "reconstruct twice": [TRAIN, ANEW_UNITS, RANDOM_ANEW, ANEW | {"sparsity": 0.9}, SHUFFLE],
    "reconstruct without training": [RANDOM_ANEW, TRAIN, ANEW_UNITS, REFIT],
    "reconstruct in steps": [TRAIN, {"type": "repeat", "times": 2, "stages": [ANEW]}, TRAIN],
    "rewind, reconstruct, shuffle": [TRAIN, PRUNE, to("init"), ANEW, SHUFFLE],
    "reconstruct, rewind, reconstruct": [TRAIN, ANEW, to(7), ANEW | {"sparsity": 0.7}, TRAIN],
    "compact, fresh, refit, shuffle": [
        TRAIN, UNITS, COMPACT, TRAIN, PRUNE, to("fresh"), REFIT, SHUFFLE,
    ],
}  # fmt: skip

OF_THE_LAST_STAGE = {"curves", "same_sign", "compact_difference", "teacher_logits"}
"""Recorded with it, and never read again."""

OF_THE_CALLER = {"dataset", "teachers", "partial", "report", "notes", "wall_s"}
"""What no result depends on, or the same for every stage."""


def assert_same_state(found: State, expected: State) -> None:
    """In every field that a later stage may read; new fields are compared until they are named above."""
    assert are_equal(weights(found), weights(expected))
    assert found.network.full == expected.network.full
    for name in {field.name for field in fields(State)} - OF_THE_LAST_STAGE - OF_THE_CALLER - {"network"}:
        mine, theirs = getattr(found, name), getattr(expected, name)
        is_same = are_equal(mine, theirs) if isinstance(theirs, dict) else mine == theirs
        assert is_same, f"{name} is another"


@pytest.mark.parametrize("net", [MLP, NORM], ids=["mlp", "norm"])
@pytest.mark.parametrize("stages", SENTENCES.values(), ids=SENTENCES)
def test_what_is_computed_in_pieces_from_the_cache_is_what_one_go_gives(
    stages: list[dict[str, Any]], net: dict[str, Any], tmp_path: Path
) -> None:
    """In one go; each stage that is kept in a process of its own; and with any one of the files lost."""
    whole, pieces = a_task(tmp_path / "whole", stages, net), a_task(tmp_path / "pieces", stages, net)
    expected = restored(whole)
    kept = [place for place, stage in enumerate(pieces.stages) if stage.keeps_weights]
    for place in kept:
        restored(pieces, place + 1)
    found = restored(pieces)
    assert_same_state(found, expected)
    if net is MLP:
        shutil.rmtree(tmp_path / "whole")
        for place in kept:
            shutil.copytree(tmp_path / "pieces", tmp_path / "whole")
            weights_path(tmp_path / "whole", whole.hashes[place]).unlink()
            assert_same_state(restored(whole), expected)
            shutil.rmtree(tmp_path / "whole")


def test_a_refit_kept_without_what_shuffle_revives_from_is_computed_again(tmp_path: Path) -> None:
    """As earlier versions kept it: of a rewound network, with its own weights alone."""
    task = a_task(tmp_path / "networks", SENTENCES["init, refit, shuffle"], MLP)
    expected, path = restored(task), weights_path(task.networks, task.hashes[3])
    words = torch.load(path)
    initial = words.pop("unpruned")
    torch.save(words, path)
    assert_same_state(restored(task), expected)
    assert are_equal(torch.load(path)["unpruned"], initial)


def test_only_a_refit_of_a_rewound_network_keeps_further_weights(start: Callable[..., State]) -> None:
    for stages in ([], [TRAIN], [PRUNE, REFIT], [TRAIN, PRUNE, REFIT], [TRAIN, to("init"), TRAIN, REFIT]):
        assert "unpruned" not in to_checkpoint(start(*stages))
    words, state = to_checkpoint(start(TRAIN, PRUNE, to("init"), REFIT)), start()
    assert are_equal(words["unpruned"], state.unpruned)
    words["unpruned"]["layers.linear_1.weight"] = torch.zeros(17, 49)
    with pytest.raises(ValueError, match="revive"):
        from_checkpoint(words, state.network.net, state.dataset, 0)


def test_a_refit_from_the_cache_is_toward_the_dense_network(tmp_path: Path) -> None:
    task = a_task(tmp_path / "networks", [TRAIN, PRUNE, REFIT, MORE], MLP)
    dense = weights(restored(task, 1))
    refitted = weights(restored(task, 3))
    state = restored(task)
    assert weights_path(task.networks, task.hashes[2]).exists()
    assert all(value.equal(dense[key]) for key, value in state.reference.items())
    assert not state.reference["layers.linear_2.weight"].equal(refitted["layers.linear_2.weight"])


def test_a_record_tells_the_stages_up_to_its_own(tmp_path: Path) -> None:
    task = a_task(tmp_path / "networks", [TRAIN, PRUNE, REFIT, MORE], MLP)
    perform(replace(task, wanted=frozenset(task.hashes)))
    for place, key in enumerate(task.hashes):
        words = read_record(record_path(task.networks, key)).config
        spec = RunSpec.model_validate({name: words[name] for name in ("data", "net", "stages")})
        assert len(spec.stages) == place + 1
        hashes = next(stage_hashes(spec.data, spec.net, [words["seed"]], spec.stages))
        assert hashes == task.hashes[: place + 1]


def test_a_refit_is_no_training_though_its_weights_are_kept(tmp_path: Path) -> None:
    task = a_task(tmp_path / "networks", [TRAIN, PRUNE, REFIT, MORE, REFIT], MLP)
    assert perform(task).trained == (task.hashes[0],)
    assert {path.stem for path in task.networks.iterdir()} == {task.hashes[place] for place in (0, 2, 4)}


@pytest.mark.parametrize(
    ("recorded", "expected"), [({}, [1, 1, 1]), ({0: 2}, [2, 1, 2]), ({0: 2, 3: 1}, [2, 1, 1])]
)
def test_a_rewind_to_a_step_trains_again_with_the_threads_of_the_first_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: dict[int, int], expected: list[int]
) -> None:
    """Unless it has a record of its own: the last bits of both depend on their number."""
    seen, train, short = [], TrainDojo.train, TRAIN | {"steps": 3}

    def watched(self: TrainDojo, *words: Any, **more: Any) -> Any:
        seen.append(torch.get_num_threads())
        return train(self, *words, **more)

    monkeypatch.setattr(TrainDojo, "train", watched)
    task = a_task(tmp_path / "networks", [short, PRUNE, short, to(2)], MLP)
    threads = {task.hashes[place]: number for place, number in recorded.items()}
    perform(replace(task, recorded_threads=threads))
    assert seen == expected


@pytest.mark.parametrize(
    "opening",
    [
        [PRUNE | {"criterion": "random"}],
        [PRUNE, REFIT],
        [UNITS, to("fresh")],
        [UNITS | {"criterion": "random"}, MORE],
    ],
)
@pytest.mark.parametrize(
    "words", [{}, {"ramp": {"kind": "weight", "rate": 0.5, "every": 4, "criterion": "random"}}]
)
def test_a_rewind_to_a_step_knows_what_came_before_the_first_training(
    opening: list[dict[str, Any]], words: dict[str, Any], tmp_path: Path
) -> None:
    """A training in two halves: the rewound network resumes as if nothing had been between."""
    train = TRAIN | {"optimizer": SGD} | words
    once = restored(a_task(tmp_path / "a", [*opening, train], MLP))
    again = restored(a_task(tmp_path / "b", [*opening, train, to(13)], MLP))
    fresh = restored(a_task(tmp_path / "b", opening, MLP))
    stage = TrainStage.model_validate(train)
    halfway = TrainDojo(fresh.network, fresh.dataset, stage, 0, 0, fresh.pruned)
    halfway.train(until=13)
    fresh.network.set_masks(once.network.masks())
    assert are_equal(weights(again), weights(fresh))


@pytest.mark.parametrize("point", ["init", "fresh", 7])
def test_a_rewind_leaves_what_refit_fits_to_and_changes_what_shuffle_revives(
    start: Callable[..., State], point: str | int
) -> None:
    state = start(TRAIN)
    trained = {key: value.clone() for key, value in state.reference.items()}
    assert state.unpruned is state.reference
    after(state, PRUNE, to(point), REFIT)
    assert are_equal(state.reference, trained)
    assert not are_equal(state.unpruned, trained)
    after(state, TRAIN)
    assert state.unpruned is state.reference


def test_what_shuffle_revives_after_a_rewind_is_the_rewound_weight(start: Callable[..., State]) -> None:
    """The lottery ticket's control: a random mask of equal counts over the initial weights."""
    initial = start().network
    for name, layer in start(TRAIN, PRUNE, to("init"), SHUFFLE).network.weighted().items():
        assert torch.equal(layer.weight, initial.layers[name].weight * layer.weight_mask)


def test_what_shuffle_keeps_after_a_refit_is_the_fitted_weight(start: Callable[..., State]) -> None:
    fitted = start(TRAIN, PRUNE, REFIT).network
    shuffled = start(TRAIN, PRUNE, REFIT, SHUFFLE).network
    for name, layer in shuffled.weighted().items():
        both = layer.weight_mask & fitted.layers[name].weight_mask
        assert torch.equal(layer.weight[both], fitted.layers[name].weight[both])


def test_a_training_that_diverges_before_its_ramp_prunes_is_no_bad_input(start: Callable[..., State]) -> None:
    wild = TRAIN | {"optimizer": {"type": "sgd", "lr": 1e30}, "ramp": RAMP, "log_every": 1000}
    network = begin(NetConfig.model_validate(MLP), start().dataset, 0)
    run_stage(network, TypeAdapter(StageOrRepeat).validate_python(wild))
    assert network.status == "diverged"


def test_a_ramp_that_is_over_where_the_rewind_enters_is_a_mistake() -> None:
    late = TRAIN | {"ramp": RAMP | {"end": 0.5}}
    words = {"data": DATA, "net": MLP, "stages": [TRAIN, PRUNE, to(20), late]}
    found = cross_mistakes(RunSpec.model_validate(words))
    assert [(place, "step 20" in text) for place, text in found] == [(("stages", 3, "ramp", "end"), True)]
