"""The stages: each takes a network in its state and leaves it in the next."""

import copy
import math
import time
from collections.abc import Callable
from typing import Any

from ..foundations.seeds import generator, seed_for
from ..foundations.tensors import read_tensors, write_tensors
from ..masked_body_builder import MaskedBodyBuilder
from ..methods.compaction import compact, largest_difference
from ..methods.evaluation import actual_precision
from ..methods.reconstruction import reconstruct
from ..methods.refit import refit
from ..methods.stage_settings import (
    AnyStage,
    CompactStage,
    PruneStage,
    ReconstructStage,
    RefitStage,
    RewindStage,
    TrainStage,
)
from ..pruning import prune
from ..train_dojo import DistillDojo, TrainDojo
from .state import State, begin, learned

SAME_LOGITS = 0.01
"""Rounding changes a logit by far less than this."""

SLOW_BFLOAT16 = "bfloat16: this processor would only emulate it, so its products are computed in float32"


def run_train(state: State, stage: TrainStage) -> None:
    """Gradient steps: new moments, own schedule, own data order; goes on where a killed one left off."""
    state.teacher_logits = state.teachers(stage) if stage.teacher else None
    if state.teacher_logits is not None and (diverged := state.teacher_logits.diverged):
        state.notes.append(f"its teacher {diverged} has diverged: nothing to learn from it")
        state.status, state.teacher_logits = "diverged", None
        return
    dojo, partial = _dojo(state, stage), state.partial
    if partial is not None and partial.exists():
        before = copy.deepcopy(state.network.state_dict())
        try:
            dojo.load_state_dict(read_tensors(partial))
        except FileNotFoundError:
            pass  # another process has just come to the end of this very training
        # Whatever is wrong with the file, a new start is the cure; half of it may be loaded by then.
        except Exception as error:
            reason = str(error).split("\n")[0]
            state.notes.append(f"{partial}: damaged or not a save of this training ({reason}); begun again")
            state.network.load_state_dict(before)
            dojo = _dojo(state, stage)

    def keep(content: dict[str, Any]) -> None:
        write_tensors(partial, content)

    device = state.dataset.train.labels.device
    teachers = state.teacher_logits.teachers if state.teacher_logits else []
    asked = {stage.precision, *(teacher.precision for teacher in teachers)}
    if any(actual_precision(device, precision) != precision for precision in asked):
        state.notes.append(SLOW_BFLOAT16)
    progress = dojo.train(keep if partial is not None else None, report=state.report)
    state.notes += dojo.warnings
    state.trained += 1
    state.pruned += stage.ramp is not None
    state.resume_at = None
    state.precision = stage.precision
    state.epochs += progress.samples / len(state.dataset.train)
    # Backward costs two forward passes; a MAC is two operations; masked weights compute like dense ones.
    state.train_flops += 6.0 * state.network.macs * progress.samples
    state.train_flops += dojo.teacher_flops
    state.wall_s += progress.wall_s
    state.curves = progress.curves if progress.curves["step"] else {}
    state.status = "diverged" if progress.diverged else "ok"
    state.reference = state.unpruned = learned(state.network)


def _dojo(state: State, stage: TrainStage) -> TrainDojo:
    """The training of this stage, at its beginning."""
    trained = state.trained if state.resume_at is None else 0
    arguments = state.network, state.dataset, stage, state.seed, trained, state.pruned
    if stage.teacher is None:
        dojo = TrainDojo(*arguments)
    else:
        found = state.teacher_logits or state.teachers(stage)
        dojo = DistillDojo(*arguments, teachers=found.teachers, cached=found.logits)
    if state.resume_at is not None:
        dojo.begin_at(state.resume_at)
    return dojo


def run_prune(state: State, stage: PruneStage) -> None:
    """Scores, masks, zeros."""
    draws = generator(state.seed, "masks", state.pruned)
    state.notes += prune(state.network, stage, draws, state.unpruned, state.dataset.train)
    state.pruned += 1


def run_refit(state: State, stage: RefitStage) -> None:
    """Closed-form repair toward the reference."""
    images = state.dataset.train.images[: stage.samples]
    flops = refit(state.network, state.reference, images, stage.mode, stage.ridge)
    state.train_flops += flops
    state.network.check_masks()


def run_reconstruct(state: State, stage: ReconstructStage) -> None:
    """Survivors chosen anew and fitted toward the reference."""
    draws, images = generator(state.seed, "masks", state.pruned), state.dataset.train.images
    flops, notes = reconstruct(state.network, stage, state.reference, images, draws)
    state.train_flops += flops
    state.notes += notes
    state.pruned += 1
    state.network.check_masks()


def run_rewind(state: State, stage: RewindStage) -> None:
    """Other weights under the same masks."""
    state.resume_at = None
    if stage.to == "fresh":
        state.drawn += 1
        seed = seed_for(state.seed, "init", "fresh", state.drawn)
        device = state.dataset.train.labels.device
        earlier = MaskedBodyBuilder(state.network.net, state.dataset.name, seed).to(device)
    else:
        again = begin(state.network.net, state.dataset, state.seed)
        again.teachers = state.teachers
        if stage.to != "init":
            # Trained again rather than kept: no result's identity depends on what may be asked of it later.
            for before in state.before_first_train:
                run_stage(again, before)
            _dojo(again, state.first_train).train(until=stage.to.step)
            state.resume_at = stage.to.step
        earlier = again.network
    state.unpruned = learned(earlier)
    state.same_sign = {
        name: float((layer.weight.sign() == then.weight.sign())[layer.weight_mask].float().mean())
        for (name, layer), then in zip(
            state.network.weighted().items(), earlier.weighted().values(), strict=True
        )
    }
    state.network.load_state_dict(state.unpruned, strict=False)
    state.network.apply_masks()


def run_compact(state: State, stage: CompactStage) -> None:
    """A smaller network in its place."""
    small = compact(state.network)
    state.compact_difference = largest_difference(state.network, small, state.dataset.test.images)
    if not state.compact_difference < SAME_LOGITS:
        state.notes.append(
            f"compact: a test logit changed by {state.compact_difference:.3g}: please report this"
        )
    state.network = small


STAGE_FUNCTIONS: dict[str, Callable[[State, Any], None]] = {
    "train": run_train,
    "prune": run_prune,
    "refit": run_refit,
    "reconstruct": run_reconstruct,
    "rewind": run_rewind,
    "compact": run_compact,
}
"""From a stage's type to what it does to the state, in place."""


def run_stage(state: State, stage: AnyStage) -> None:
    """One stage."""
    state.curves, state.same_sign, state.compact_difference, state.teacher_logits = {}, {}, math.nan, None
    began = time.perf_counter()
    STAGE_FUNCTIONS[stage.type](state, stage)
    if stage.type != "train":  # whose measuring on the way does not count
        state.wall_s += time.perf_counter() - began
