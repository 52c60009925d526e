"""State: a network on its way through the stages of a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..foundations.data import Dataset
from ..foundations.nets import NetConfig
from ..foundations.seeds import seed_for
from ..masked_body_builder import MaskedBodyBuilder
from ..methods.distillation import TrainedNetwork
from ..methods.stage_settings import AnyStage, TrainStage


class TeacherLogits(NamedTuple):
    """Teachers, and what they say of the training split."""

    teachers: list[TrainedNetwork]
    logits: Tensor | None
    """[teachers, n, classes]; None where they look on live."""
    diverged: str | None = None
    """Hash of a teacher that has diverged and can teach nothing."""


@dataclass
class State:
    """A network on its way through its stages, and what the next one has to know."""

    network: MaskedBodyBuilder
    dataset: Dataset
    seed: int
    reference: dict[str, Tensor]
    """Weights as the last training left them: what refit and reconstruct fit to."""
    unpruned: dict[str, Tensor]
    """Weights of the last training or rewind, with nothing pruned since: what shuffle revives from."""
    first_train: TrainStage | None = None
    """The first training of the run: what a rewind to one of its steps repeats."""
    before_first_train: list[AnyStage] = field(default_factory=list)
    """What stands before the first training, and is repeated with it."""
    trained: int = 0
    """Train stages so far: each has its own data order."""
    pruned: int = 0
    """Stages so far that pruned: each has its own random masks."""
    drawn: int = 0
    """Fresh initial weights drawn so far."""
    resume_at: int | None = None
    """Step of the first training at which the next one begins, after a rewind to it."""
    precision: str = "float32"
    """Of the last training, and so of every evaluation after it."""
    epochs: float = 0.0
    train_flops: float = 0.0
    wall_s: float = 0.0
    status: str = "ok"
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Learning curve of the last stage; empty where it did not train."""
    same_sign: dict[str, float] = field(default_factory=dict)
    """Where the last stage rewound: share of each layer's kept weights whose sign is as it was before."""
    compact_difference: float = math.nan
    """Where the last stage removed something: largest change of a test logit."""
    teachers: Callable[[TrainStage], TeacherLogits] | None = None
    """Finds the teachers of a train stage that has some."""
    teacher_logits: TeacherLogits | None = None
    """Those of the last stage, where it distilled."""
    partial: Path | None = None
    """Where a training may keep itself while it runs."""
    report: Callable[[int], None] | None = None
    """Hears the step of a training, after every step."""
    notes: list[str] = field(default_factory=list)
    """What the user should hear."""


def begin(net: NetConfig, dataset: Dataset, seed: int) -> State:
    """A freshly initialised network on the data's device."""
    network = MaskedBodyBuilder(net, dataset.name, seed_for(seed, "init")).to(dataset.train.labels.device)
    if network.is_convolutional:
        network = network.to(memory_format=torch.channels_last)
    weights = learned(network)
    return State(network, dataset, seed, weights, weights)


def learned(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    """A copy of all that is learned, without the masks."""
    return {
        key: value.detach().clone()
        for key, value in network.state_dict().items()
        if not key.endswith("_mask")
    }
