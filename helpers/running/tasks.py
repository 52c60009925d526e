"""One task of an experiment: from a kept state through some stages to records, in any process."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..config.hashing import canonical
from ..foundations.data import Dataset, load_dataset
from ..foundations.datasets import DataConfig
from ..foundations.errors import UserError
from ..foundations.nets import NetConfig
from ..foundations.numerics import best_device, numerics, with_threads
from ..foundations.tensors import read_tensors, write_tensors
from ..logger import Record, read_record, write_record
from ..methods.distillation import TrainedNetwork, split_logits
from ..methods.stage_settings import AnyStage, RewindStep, TrainStage
from ..stages.registry import run_stage
from ..stages.state import State, TeacherLogits, begin
from .checkpoints import from_checkpoint, to_checkpoint
from .measures import measure
from .provenance import criterion_code, provenance_of

Say = Callable[[str], None]
"""Hears what the user should be told."""

Report = Callable[[int, int], None]
"""Hears, as often as there is news, the index of the stage in hand and the step of its training."""


@dataclass(frozen=True)
class Task:
    """Stages that end in something worth keeping, for one network and one seed."""

    data: DataConfig
    net: NetConfig
    seed: int
    stages: list[AnyStage]
    """The stages of the run, from its first to this task's last."""
    hashes: list[str]
    """Identity of each stage's result."""
    first: int
    """Index of the first stage that this task runs; what comes before is kept, or another task's."""
    wanted: frozenset[str]
    """Results to record."""
    networks: Path
    """The cache: weights and records by hash."""
    needs: tuple[str, ...] = ()
    """Keys of the tasks that have to run first: whose weights this one starts from, and its teachers'."""
    teachers: dict[str, "Task"] = field(default_factory=dict)
    """The runs that led to its teachers, by hash."""
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Rows that a log already holds, of results that are computed again for their weights."""
    provenance: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    """Of results that are computed for the first time."""
    recorded_threads: dict[str, int] = field(default_factory=dict)
    """Of results that are there already and computed again, by hash: their last bits depend on it."""

    @property
    def key(self) -> str:
        """Hash of the last stage."""
        return self.hashes[-1]


@dataclass(frozen=True)
class TaskResult:
    """What a task reports: it has written its records, or why not, and what the user should hear."""

    key: str
    messages: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    """Results whose records it has written."""
    trained: tuple[str, ...] = ()
    """Results for which it has trained."""
    error: str | None = None
    """A traceback, or a message where the input was bad."""
    is_input: bool = False
    """Whether the error is for the user to mend."""


def weights_path(networks: Path, key: str) -> Path:
    """Where a result's weights are kept."""
    return networks / f"{key}.pt"


def record_path(networks: Path, key: str) -> Path:
    """Where a result's record is kept."""
    return networks / f"{key}.npz"


def partial_path(networks: Path, key: str) -> Path:
    """Where an unfinished training keeps itself."""
    return networks / f"{key}.partial.pt"


def perform(task: Task, worker: int = 0, report: Report | None = None) -> TaskResult:
    """Run the task's stages and write its records and weights.

    Single-threaded unless told otherwise, so that results do not depend on how many workers there are.
    Ends early, without a record, where a stage before has diverged.
    """
    messages: list[str] = []
    ran: list[str] = []
    with numerics(task.threads):
        state = restore(task, task.first, messages.append, best_device(worker), report)
        for index in range(task.first, len(task.stages)):
            if state.status == "ok":
                advance(task, index, state, messages.append, report)
                ran.append(task.hashes[index])
    trained = [key for key in ran if task.stages[task.hashes.index(key)].type == "train"]
    return TaskResult(
        task.key, tuple(messages), tuple(key for key in ran if key in task.wanted), tuple(trained)
    )


def restore(task: Task, until: int, say: Say, device: str, report: Report | None = None) -> State:
    """The state before stage `until`: from the latest weights kept and intact, else from the start."""
    dataset = load_dataset(task.data, device, seed=task.seed)
    state, start = begin(task.net, dataset, task.seed), 0
    for index in range(until - 1, -1, -1):
        found = _kept_state(task, index, dataset, say) if task.stages[index].keeps_weights else None
        if found is not None and task.stages[index].fits_reference:
            found = _fitted(task, index, found, dataset, say)
        if found is not None:
            state, start = found, index + 1
            break
    state.teachers = partial(_teacher_logits, task, say=say, device=device)
    trains = [place for place, stage in enumerate(task.stages) if stage.type == "train"]
    if trains:
        state.before_first_train, state.first_train = task.stages[: trains[0]], task.stages[trains[0]]
    for index in range(start, until):
        if state.status == "ok":
            advance(task, index, state, say, report)
    return state


KEPT_LOGITS_LIMIT = 12
"""How many sets of teachers' logits a process remembers: a few megabytes each."""

_KEPT_LOGITS: dict[tuple[str, ...], Tensor] = {}
"""What teachers say of a training split, which many students in this process hear; see `_teacher_logits`."""


def _teacher_logits(task: Task, stage: TrainStage, say: Say, device: str) -> TeacherLogits:
    """The teachers of a stage, as the cache has them or computed again, and what they say.

    Raises UserError where nobody knows a teacher.
    """
    dataset, teachers = load_dataset(task.data, device, seed=task.seed), []
    for key in stage.teacher:
        if key not in task.teachers:
            raise UserError(
                f"{task.key}: expected its teacher {key} in a log or in {task.networks}, found it in none; "
                "run its experiment again"
            )
        run = task.teachers[key]
        state = restore(run, len(run.stages), say, device)
        if state.status != "ok":
            return TeacherLogits([], None, key)
        theirs = state.dataset
        network = state.network.eval().requires_grad_(False)
        teachers.append(TrainedNetwork(network, theirs.mean, theirs.std, state.precision, network.macs))
    if stage.shift:
        return TeacherLogits(teachers, None)
    # Weights may be computed again with other last digits: then their file tells.
    files = (weights_path(task.networks, key) for t in stage.teacher for key in task.teachers[t].hashes)
    stamps = (str(path.stat().st_mtime_ns) if path.exists() else "" for path in files)
    subset = str(task.seed) if task.data.split_seed == "seed" else ""
    name = (*stage.teacher, *stamps, str(task.networks), task.data.model_dump_json(), subset, device)
    if name not in _KEPT_LOGITS:
        while len(_KEPT_LOGITS) >= KEPT_LOGITS_LIMIT:
            _KEPT_LOGITS.pop(next(iter(_KEPT_LOGITS)))
        _KEPT_LOGITS[name] = split_logits(teachers, dataset.train, dataset)
    return TeacherLogits(teachers, _KEPT_LOGITS[name])


def _kept_state(task: Task, index: int, dataset: Dataset, say: Say) -> State | None:
    """The state after a stage as the cache has it; None where it has none or a damaged one (said)."""
    path = weights_path(task.networks, task.hashes[index])
    if not path.exists():
        return None
    try:
        checkpoint = read_tensors(path)
        if checkpoint.get("result", path.stem) != path.stem:
            raise ValueError(f"it is of the result {checkpoint['result']}")
        return from_checkpoint(checkpoint, task.net, dataset, task.seed)
    # Whatever is wrong with the file, from a cut tail to a forbidden class, the cure is the same.
    except Exception as error:
        reason = str(error).split("\n")[0]
        say(f"{path}: damaged or not a checkpoint of this network ({reason}); computed again")
        return None


def _fitted(task: Task, index: int, found: State, dataset: Dataset, say: Say) -> State | None:
    """The state after a fit, as the cache has it, with what came before: None where that is missing."""
    trained = [place for place in range(index) if task.stages[place].type == "train"]
    start = trained[-1] + 1 if trained else 0
    before = _kept_state(task, trained[-1], dataset, say) if trained else begin(task.net, dataset, task.seed)
    if before is None:
        return None
    if all(stage.type != "rewind" for stage in task.stages[start:index]):
        found.unpruned = before.reference
    elif found.unpruned is found.reference:
        return None  # kept by an earlier version, without the rewound weights that shuffle revives from
    # Further fits are toward the same dense network.
    found.reference = before.reference
    return found


def advance(task: Task, index: int, state: State, say: Say, report: Report | None = None) -> None:
    """One stage: run it, then measure, record and keep what is wanted."""
    stage, key, began = task.stages[index], task.hashes[index], time.time()
    if report is not None:
        report(index, 0)
    state.report = partial(report, index) if report is not None else None
    state.partial = partial_path(task.networks, key)
    threads = _threads(task, index)
    with with_threads(threads):
        run_stage(state, stage)
        while state.notes:
            say(state.notes.pop(0))
        if stage.keeps_weights:
            write_tensors(weights_path(task.networks, key), to_checkpoint(state) | {"result": key})
        if key in task.expected:
            say(_compare(key, measure(state)[0], task.expected[key]))
        if key in task.wanted:
            provenance = task.provenance | provenance_of(state, threads, began) | criterion_code(stage)
            write_record(record_path(task.networks, key), _record(task, index, state, provenance))
    # Last, so that a kill just before loses no training.
    state.partial.unlink(missing_ok=True)


def _threads(task: Task, index: int) -> int:
    """Of a stage: those of its record, or of the first training's where it rewinds to a step of that."""
    keys = [task.hashes[index]]
    if isinstance(getattr(task.stages[index], "to", None), RewindStep):
        keys.append(
            next(key for key, stage in zip(task.hashes, task.stages, strict=True) if stage.type == "train")
        )
    return next((task.recorded_threads[key] for key in keys if key in task.recorded_threads), task.threads)


def _record(task: Task, index: int, state: State, provenance: dict[str, Any]) -> Record:
    """What is to be known of a stage's result."""
    row, arrays = measure(state)
    curves = {name: np.asarray(values) for name, values in state.curves.items()}
    words = {
        "data": canonical(task.data),
        "net": canonical(task.net),
        "seed": task.seed,
        "stages": [canonical(part) for part in task.stages[: index + 1]],
    }
    return Record(row, curves, arrays, words, provenance)


def _compare(key: str, row: dict[str, Any], expected: dict[str, Any]) -> str:
    """What to say of a result that was computed again for its weights."""
    same = all(
        row[name] == expected[name]
        for name in ("test_errors", "test_loss", "val_loss")
        if row[name] == row[name]
    )
    found = "same as the record"
    if not same:
        found = f"{row['test_errors']} test errors, the record has {expected['test_errors']} and stays"
        found += " (another machine or other versions)"
    return f"{key}: weights were not in the cache, computed again: {found}"


def cached_record(networks: Path, key: str, say: Say) -> Record | None:
    """A record of the cache, or None where there is none or it is damaged, which is said."""
    path = record_path(networks, key)
    try:
        return read_record(path)
    except FileNotFoundError:
        return None
    # A cut or foreign file fails in as many ways as there are formats; the cure is the same.
    except Exception as error:
        say(f"{path}: damaged or not a record ({str(error).splitlines()[0]}); computed again")
        return None


def recorded_threads(records: dict[str, Record], hashes: list[str]) -> dict[str, int]:
    """With how many threads these results were computed, by hash, as far as that is recorded."""
    found = {key: records[key].provenance.get("threads") for key in hashes if key in records}
    return {key: threads for key, threads in found.items() if threads}


def forget(tasks: list[Task]) -> None:
    """Take from the cache what these tasks are to find again; weights stay until they are replaced."""
    for task in tasks:
        for key in task.wanted:
            record_path(task.networks, key).unlink(missing_ok=True)
            partial_path(task.networks, key).unlink(missing_ok=True)
