"""TrainDojo: where networks practise. One loop for every training in this project."""

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Optimizer, Schedule, TrainStage
from .data import Dataset, Split, shift_images
from .masked_body_builder import MaskedBodyBuilder
from .seeds import generator, seed_for

EVALUATION_BATCH = 1000
"""Images at a time where nothing is learned; measured: larger batches fall out of the cache."""

CURVE_COLUMNS = (
    "step", "epoch", "lr", "train_loss", "train_accuracy",
    "val_loss", "val_accuracy", "test_loss", "test_accuracy", "wall_s",
)  # fmt: skip


class Evaluation(NamedTuple):
    """How a network does on one split."""

    loss: float
    """Mean cross-entropy over the samples, nats; NaN without samples."""
    accuracy: float
    """Share of samples whose largest logit is the label; NaN without samples."""
    errors: int
    predictions: Tensor
    """[n], int64, on the CPU."""


class TrainOutcome(NamedTuple):
    """What a training leaves behind beside the trained network."""

    curves: dict[str, list[float]]
    """A list a column of CURVE_COLUMNS, an entry a logged step."""
    diverged: bool
    """Whether the loss became NaN or infinite."""
    epochs: float
    samples: int
    wall_s: float


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, precision: str = "float32") -> Evaluation:
    """Loss, accuracy and predictions over a split, in evaluation mode; the mode is put back."""
    if not len(split):
        return Evaluation(math.nan, math.nan, 0, torch.empty(0, dtype=torch.int64))
    was_training = network.training
    network.eval()
    loss, predictions = torch.zeros((), dtype=torch.float64, device=split.labels.device), []
    for images, labels in zip(
        split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
    ):
        with autocast(images.device, precision):
            logits = network(images)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").double()
        predictions.append(logits.argmax(1))
    network.train(was_training)
    found = torch.cat(predictions)
    errors = int((found != split.labels).sum())
    return Evaluation(loss.item() / len(split), 1 - errors / len(split), errors, found.cpu())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 products where the config asks for them; the weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def make_optimizer(network: nn.Module, words: Optimizer) -> torch.optim.Optimizer:
    """The optimizer that a config describes, fused: one pass over all weights."""
    if words.type == "sgd":
        return torch.optim.SGD(
            network.parameters(), words.lr, words.momentum, nesterov=words.nesterov,
            weight_decay=words.weight_decay, fused=True,
        )  # fmt: skip
    make = torch.optim.AdamW if words.type == "adamw" else torch.optim.Adam
    return make(
        network.parameters(), words.lr, tuple(words.betas), words.eps, words.weight_decay, fused=True
    )


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the peak learning rate is multiplied by at `step`, counted from 0, of `steps`.

    Warm-up rises in equal parts and reaches 1 at its last step; the decay begins there and would
    reach `final` at step `steps`, one after the last.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if schedule.type == "linear":
        return 1 - (1 - schedule.final) * progress
    if schedule.type == "cosine":
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2
    if schedule.type == "multi_step":
        return schedule.factor ** sum(step >= milestone * steps for milestone in schedule.milestones)
    return 1.0


class TrainDojo:
    """One train stage: a network, its data, and the loop.

    Data order, augmentation and dropout each draw from a generator of their own, derived from the
    seed and from how many train stages came before, so runs with the same seed are paired.
    """

    def __init__(
        self, network: MaskedBodyBuilder, dataset: Dataset, stage: TrainStage, seed: int, trained_before: int = 0
    ):
        self.network, self.dataset, self.stage = network, dataset, stage
        self.steps_per_epoch = math.ceil(len(dataset.train) / stage.batch_size)
        self.steps = stage.steps if stage.steps is not None else stage.epochs * self.steps_per_epoch
        self.order = generator(seed, "order", trained_before)
        self.augmentation = generator(seed, "augmentation", trained_before)
        self.dropout_seed = seed_for(seed, "dropout", trained_before)
        self.optimizer = make_optimizer(network, stage.optimizer)
        network.keep_masks(self.optimizer)

    def loss(self, logits: Tensor, labels: Tensor, batch: Tensor) -> Tensor:
        """Cross-entropy, mean over the samples. `batch` [B] are the samples' places in the training split."""
        return F.cross_entropy(logits, labels, label_smoothing=self.stage.label_smoothing)

    def train(self) -> TrainOutcome:
        """Train the network in place; ends early, and says so, when the loss is no longer finite."""
        device = self.dataset.train.labels.device
        curves: dict[str, list[float]] = {column: [] for column in CURVE_COLUMNS}
        log_every = self.stage.log_every or self.steps_per_epoch
        tally, seen, samples, wall_s, diverged = torch.zeros(2, device=device), 0, 0, 0.0, False
        lr = self.stage.optimizer.lr
        with torch.random.fork_rng():
            # Dropout draws from the global generator: the only one that torch lets it have.
            torch.manual_seed(self.dropout_seed)
            self.network.train()
            started = time.perf_counter()
            for step, batch in zip(range(self.steps), self._batches(), strict=False):
                lr = self.stage.optimizer.lr * learning_rate_factor(self.stage.schedule, step, self.steps)
                self.optimizer.param_groups[0]["lr"] = lr
                tally += self._step(batch)
                seen += len(batch)
                if (step + 1) % log_every and step + 1 < self.steps:
                    continue
                samples, (loss, correct) = samples + seen, tally.tolist()
                wall_s += time.perf_counter() - started
                epoch = samples / len(self.dataset.train)
                row = (step + 1, epoch, lr, loss / seen, correct / seen, *self._measure(), wall_s)
                for column, value in zip(CURVE_COLUMNS, row, strict=True):
                    curves[column].append(value)
                diverged = not math.isfinite(loss)
                if diverged:
                    break
                tally.zero_()
                seen, started = 0, time.perf_counter()
        if not diverged:
            self.network.check_masks()
        return TrainOutcome(curves, diverged, samples / len(self.dataset.train), samples, wall_s)

    def _step(self, batch: Tensor) -> Tensor:
        """One gradient step on the samples at these places; summed loss and number right, [2]."""
        split = self.dataset.train
        images, labels = split.images.index_select(0, batch), split.labels.index_select(0, batch)
        if self.stage.shift:
            images = shift_images(images, self.stage.shift, self.dataset.background, self.augmentation)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(images.device, self.stage.precision):
            logits = self.network(images)
        logits = logits.float()
        loss = self.loss(logits, labels, batch)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            return torch.stack([loss.detach() * len(batch), (logits.argmax(1) == labels).sum()])

    def _batches(self) -> Iterator[Tensor]:
        """Places in the training split, [B] at a time, a new permutation an epoch, without end."""
        device = self.dataset.train.labels.device
        while True:
            order = torch.randperm(len(self.dataset.train), generator=self.order)
            yield from order.to(device).split(self.stage.batch_size)

    def _measure(self) -> tuple[float, float, float, float]:
        """Validation loss and accuracy, test loss and accuracy. Nothing here selects on test."""
        validation = evaluate(self.network, self.dataset.validation, self.stage.precision)
        test = evaluate(self.network, self.dataset.test, self.stage.precision)
        return validation.loss, validation.accuracy, test.loss, test.accuracy
