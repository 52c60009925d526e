"""TrainDojo: where networks practise. One loop for every training in this project."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .foundations.columns import CURVE_COLUMNS
from .foundations.data import Dataset, shift_images
from .foundations.optimizers import Optimizer, Schedule
from .foundations.seeds import generator, seed_for
from .masked_body_builder import MaskedBodyBuilder
from .methods.budgets import prune_groups
from .methods.distillation import TrainedNetwork, soft_loss, split_logits
from .methods.evaluation import autocast, evaluate
from .methods.stage_settings import TrainStage, ramp_events, step_count
from .pruning import prune


@dataclass
class Progress:
    """How far a training has come."""

    curves: dict[str, list[float]] = field(default_factory=lambda: {column: [] for column in CURVE_COLUMNS})
    """A list a column of CURVE_COLUMNS, an entry a logged step."""
    step: int = 0
    samples: int = 0
    """Samples seen, repeated ones too."""
    skipped: int = 0
    """Samples left out, where the training began at a later step."""
    tally: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Since the last logged step: loss summed over the samples, number right, number seen."""
    wall_s: float = 0.0
    """Seconds of gradient steps, evaluation left out."""
    diverged: bool = False
    """Whether the loss became NaN or infinite."""


def make_optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer that a config describes, fused: one pass over all weights."""
    if settings.type == "sgd":
        return torch.optim.SGD(
            network.parameters(), settings.lr, settings.momentum, nesterov=settings.nesterov,
            weight_decay=settings.weight_decay, fused=True,
        )  # fmt: skip
    make = torch.optim.AdamW if settings.type == "adamw" else torch.optim.Adam
    return make(
        network.parameters(),
        settings.lr,
        tuple(settings.betas),
        settings.eps,
        settings.weight_decay,
        fused=True,
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
    seed and from how many train stages came before, so runs with the same seed are paired. With a
    `ramp` it prunes on the way; `pruned_before` counts the stages that pruned before this one.
    """

    def __init__(
        self,
        network: MaskedBodyBuilder,
        dataset: Dataset,
        stage: TrainStage,
        seed: int,
        trained_before: int = 0,
        pruned_before: int = 0,
    ):
        self.network, self.dataset, self.stage = network, dataset, stage
        self.seed, self.pruned_before = seed, pruned_before
        self.steps_per_epoch = math.ceil(len(dataset.train) / stage.batch_size)
        self.steps = step_count(stage, len(dataset.train))
        self.order = generator(seed, "order", trained_before)
        self.augmentation = generator(seed, "augmentation", trained_before)
        self.dropout_seed = seed_for(seed, "dropout", trained_before)
        self.dropout = generator(seed, "dropout", trained_before).get_state()
        self.optimizer = make_optimizer(network, stage.optimizer)
        self.keeping = network.keep_masks(self.optimizer)
        self.progress = Progress()
        self.groups = prune_groups(network, stage.ramp) if stage.ramp else []
        self.warnings: list[str] = []

    def loss(self, logits: Tensor, labels: Tensor, batch: Tensor, images: Tensor) -> Tensor:
        """Cross-entropy, mean over the samples.

        `batch` [B] are the samples' places in the training split, `images` [B, C, H, W] as the network saw
        them: augmented, where the stage asks for it.
        """
        return F.cross_entropy(logits, labels, label_smoothing=self.stage.label_smoothing)

    @property
    def teacher_flops(self) -> float:
        """Operations of teachers' passes: here there are none."""
        return 0.0

    def begin_at(self, step: int) -> None:
        """Leave out the first steps: the schedule and the data order are those from `step` on."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        self.progress.step = step
        self.progress.skipped = epochs * len(self.dataset.train) + rest * self.stage.batch_size
        for _ in range(epochs):
            torch.randperm(len(self.dataset.train), generator=self.order)

    def train(
        self,
        keep: Callable[[dict[str, Any]], None] | None = None,
        until: int | None = None,
        report: Callable[[int], None] | None = None,
    ) -> Progress:
        """Train the network in place; ends early, and says so, when the loss is no longer finite.

        `keep` is called every `checkpoint_epochs` with a state_dict from which `load_state_dict` goes
        on, bit by bit as if nothing had happened. `until` is a step to stop before; no curve
        is kept then, nor is divergence looked for.
        `report` is called with the number of every step.
        """
        device, progress = self.dataset.train.labels.device, self.progress
        log_every = self.stage.log_every or self.steps_per_epoch
        keep_every = (self.stage.checkpoint_epochs or self.steps) * self.steps_per_epoch
        tally = torch.tensor(progress.tally, device=device)
        with torch.random.fork_rng():
            # Dropout draws from the global generator, the only one that torch lets it have: a GPU's
            # starts from the seed, the CPU's goes on where a saved training stood.
            torch.manual_seed(self.dropout_seed)
            torch.set_rng_state(self.dropout)
            self.network.train()
            started = time.perf_counter()
            for batch in self._batches():
                if progress.step in (self.steps, until):
                    break
                self._ramp()
                if progress.diverged:
                    return progress
                factor = learning_rate_factor(self.stage.schedule, progress.step, self.steps)
                self.optimizer.param_groups[0]["lr"] = lr = self.stage.optimizer.lr * factor
                tally += self._step(batch)
                progress.step += 1
                progress.samples += len(batch)
                if report is not None:
                    report(progress.step)
                if until is None and (progress.step % log_every == 0 or progress.step == self.steps):
                    progress.wall_s += time.perf_counter() - started
                    self._log(lr, *tally.tolist())
                    if progress.diverged:
                        return progress
                    tally.zero_()
                    started = time.perf_counter()
                if keep and progress.step % keep_every == 0 and progress.step < self.steps:
                    progress.wall_s += time.perf_counter() - started
                    progress.tally, self.dropout = tally.tolist(), torch.get_rng_state()
                    keep(self.state_dict())
                    started = time.perf_counter()
        self.network.check_masks()
        return progress

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": [self.order.get_state(), self.augmentation.get_state(), self.dropout],
            "progress": asdict(self.progress),
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken. Raises whatever torch raises where it does not fit."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        order, augmentation, self.dropout = state["generators"]
        self.order.set_state(order)
        self.augmentation.set_state(augmentation)
        self.progress = Progress(**state["progress"])
        self.warnings = list(state.get("warnings", []))  # saves of earlier versions have none
        self._keep_masks()

    def _keep_masks(self) -> None:
        """Have the optimizer keep the masks as they are now."""
        self.keeping.remove()
        self.keeping = self.network.keep_masks(self.optimizer)

    def _ramp(self) -> None:
        """Prune a little more, where the ramp has come to its next point."""
        ramp, step = self.stage.ramp, self.progress.step
        if ramp is None or step == 0 or step % ramp.every:
            return
        events, event = ramp_events(ramp, self.steps), step // ramp.every
        if not all(layer.weight.isfinite().all() for layer in self.network.weighted().values()):
            self.progress.diverged = True
        elif event <= events:
            draws = generator(self.seed, "masks", self.pruned_before, event)
            self.warnings += prune(
                self.network,
                ramp,
                draws,
                images=self.dataset.train,
                groups=self.groups,
                progress=event / events,
            )
            self._keep_masks()

    def _step(self, batch: Tensor) -> Tensor:
        """One gradient step on the samples at these places; summed loss, number right, number, [3]."""
        split = self.dataset.train
        images, labels = split.images.index_select(0, batch), split.labels.index_select(0, batch)
        if self.stage.shift:
            images = shift_images(images, self.stage.shift, self.dataset.background, self.augmentation)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(images.device, self.stage.precision):
            logits = self.network(images)
        logits = logits.float()
        loss = self.loss(logits, labels, batch, images)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            return torch.stack([loss.detach() * len(batch), correct, correct.new_tensor(len(batch))])

    def _batches(self) -> Iterator[Tensor]:
        """Places in the training split, [B] at a time, a new permutation an epoch, without end."""
        device = self.dataset.train.labels.device
        skip = self.progress.step % self.steps_per_epoch  # saves are made between epochs
        while True:
            order = torch.randperm(len(self.dataset.train), generator=self.order)
            yield from order.to(device).split(self.stage.batch_size)[skip:]
            skip = 0

    def _log(self, lr: float, loss: float, correct: float, seen: float) -> None:
        """A row of the learning curve. Test is measured here too, and selects nothing."""
        progress, precision = self.progress, self.stage.precision
        validation = evaluate(self.network, self.dataset.validation, precision)
        test = evaluate(self.network, self.dataset.test, precision)
        epoch = (progress.skipped + progress.samples) / len(self.dataset.train)
        row = (
            progress.step, epoch, lr, loss / seen, correct / seen,
            validation.loss, validation.accuracy, test.loss, test.accuracy, progress.wall_s,
        )  # fmt: skip
        for column, value in zip(CURVE_COLUMNS, row, strict=True):
            progress.curves[column].append(value)
        # The last step's damage shows in no training loss.
        progress.diverged = not (math.isfinite(loss) and math.isfinite(test.loss))


class DistillDojo(TrainDojo):
    """A train stage with teachers: (1 − α)·cross-entropy + α·soft loss (Hinton et al. 2015).

    What the teachers say is computed once and kept by the samples' places in the training split;
    under augmentation they look at the very view that the student sees.
    """

    def __init__(
        self, *arguments: Any, teachers: Sequence[TrainedNetwork], cached: Tensor | None = None, **more: Any
    ):
        """As TrainDojo; `cached` [teachers, n, classes] are the teachers' logits where they are known."""
        super().__init__(*arguments, **more)
        self.teachers, self.cached = teachers, cached
        if cached is None and not self.stage.shift:
            self.cached = split_logits(teachers, self.dataset.train, self.dataset)

    def loss(self, logits: Tensor, labels: Tensor, batch: Tensor, images: Tensor) -> Tensor:
        """As TrainDojo's, of cross-entropy and soft loss."""
        stage = self.stage
        if self.stage.shift:
            theirs = torch.stack([teacher.logits(images, self.dataset) for teacher in self.teachers])
        else:
            theirs = self.cached.index_select(1, batch)
        hard = super().loss(logits, labels, batch, images)
        soft = soft_loss(logits, theirs, stage.temperature, stage.soft_loss)
        return (1 - stage.alpha) * hard + stage.alpha * soft

    @property
    def teacher_flops(self) -> float:
        """Of the teachers' passes: two operations a MAC, each sample once, or each time it is seen."""
        samples = self.progress.samples if self.stage.shift else len(self.dataset.train)
        return 2.0 * samples * sum(teacher.macs for teacher in self.teachers)
