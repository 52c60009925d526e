"""What an experiment has already found, and the tasks that compute the rest."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.expansion import ExperimentConfig
from ..config.hashing import Run, Step
from ..foundations.files import ROOT
from ..foundations.terminal import say
from ..logger import Log, Record
from ..methods.stage_settings import AnyStage, RewindStep, TrainStage
from .provenance import code_version
from .tasks import Task, cached_record, recorded_threads


@dataclass
class Plan:
    """What there is of an experiment, and what is still to do."""

    records: dict[str, Record]
    """Finished results by hash."""
    tasks: list[Task] = field(default_factory=list)
    """What is missing; a task comes after the one it needs."""
    missing: set[str] = field(default_factory=set)
    """Results that the tasks will record."""


def make_plan(
    experiment: ExperimentConfig, log: Log, networks: Path, threads: int = 1, cached: bool = True
) -> Plan:
    """Which results are there, and the tasks that compute the rest; linear in the number of runs."""
    plan = Plan({key: record for key, record in log.records.items() if record.row["status"] != "failed"})
    kept = {path.name for path in networks.iterdir()} if cached else set()
    keys: dict[str, Task] = {}
    stages: dict[tuple[int, int], tuple[list[Step], list[AnyStage]]] = {}
    nothing: dict[str, dict[str, Any]] = {}
    provenance = code_version(ROOT) | {"experiment": experiment.name, "profile": experiment.profile}

    def finished(key: str) -> bool:
        if key not in plan.records and f"{key}.npz" in kept:
            record = cached_record(networks, key, say)
            if record is not None:
                plan.records[key] = record
            else:
                kept.discard(f"{key}.npz")
        return key in plan.records

    def plan_run(run: Run, need_weights: bool = False) -> None:
        """The tasks of one run; with `need_weights`, also those that lead to the weights it ends with."""
        if need_weights and (not run.steps or f"{run.hashes[-1]}.pt" in kept):
            return
        tasks, end = [], len(run.steps)
        # From the last stage back: a task needs the weights that the one before it leaves behind.
        for start in _segment_starts(run)[::-1]:
            wanted = {key for key in run.hashes[start:end] if not finished(key)}
            last = run.hashes[end - 1]
            again = need_weights and last not in wanted and f"{last}.pt" not in kept
            again = again and not _diverged(plan.records.get(last))  # nothing goes on from there
            if wanted or again:
                # Up to what is wanted: a lost record of a prune does not repeat the training after it.
                stop = end if again else 1 + max(i for i in range(start, end) if run.hashes[i] in wanted)
                tasks.append((start, stop, wanted, again))
            need_weights, end = bool(wanted or again), start
        broken = False
        for start, end, wanted, again in tasks[::-1]:
            broken = broken or any(_diverged(plan.records.get(key)) for key in run.hashes[:start])
            key = run.hashes[end - 1]
            if broken or key in keys:
                continue
            needs = [run.hashes[start - 1]] if start else []
            for teacher in _teachers_between(run, start, end):
                leading = _until_weights(run.teachers[teacher])
                plan_run(leading, need_weights=True)
                needs += leading.hashes[-1:]
            # Runs that differ in their seed share their stages: planning is a matter of few objects. The
            # steps are kept beside them, or their id could become that of others.
            shared = (run.steps, [step.stage for step in run.steps[:end]])
            words = stages.setdefault((id(run.steps), end), shared)[1]
            keys[key] = Task(
                run.data, run.net, run.seed, words, run.hashes[:end], start,
                frozenset(wanted - plan.missing), networks, tuple(need for need in needs if need in keys),
                _teacher_tasks(run, end, networks, threads, plan.records),
                {key: plan.records[key].row} if again and key in plan.records else nothing, provenance,
                threads, recorded_threads(plan.records, run.hashes[:end]) or nothing,
            )  # fmt: skip
            plan.missing |= wanted

    for run in experiment.runs:
        plan_run(run)
    plan.tasks = list(keys.values())
    return plan


def _teachers(stage: AnyStage) -> list[str]:
    """Hashes of a stage's teachers."""
    return (stage.teacher or []) if isinstance(stage, TrainStage) else []


def _teachers_between(run: Run, start: int, end: int) -> list[str]:
    """Hashes of the teachers that the stages from `start` to `end` learn from."""
    steps = run.steps[start:end]
    # A rewind to a step trains the first steps again.
    again = any(isinstance(getattr(step.stage, "to", None), RewindStep) for step in steps)
    return [key for step in (run.steps[:end] if again else steps) for key in _teachers(step.stage)]


def _until_weights(run: Run) -> Run:
    """The run up to the last stage whose weights are kept: what follows costs next to nothing."""
    end = max((i + 1 for i, step in enumerate(run.steps) if step.stage.keeps_weights), default=0)
    return replace(run, steps=run.steps[:end], hashes=run.hashes[:end])


def _teacher_tasks(
    run: Run, end: int, networks: Path, threads: int, records: dict[str, Record]
) -> dict[str, Task]:
    """The teachers of a run's first stages as tasks to restore, by hash."""
    found = {}
    # All of them: a stage may be repeated for its weights, or for a rewind.
    for key in (key for step in run.steps[:end] for key in _teachers(step.stage)):
        theirs = run.teachers[key]
        words, last = [step.stage for step in theirs.steps], len(theirs.steps)
        found[key] = Task(
            theirs.data, theirs.net, theirs.seed, words, theirs.hashes, last, frozenset(), networks,
            teachers=_teacher_tasks(theirs, last, networks, threads, records), threads=threads,
            recorded_threads=recorded_threads(records, theirs.hashes),
        )  # fmt: skip
    return found


def _segment_starts(run: Run) -> list[int]:
    """Where a run's segments begin: each ends with a stage whose weights are kept, or with the run."""
    ends = [i + 1 for i, step in enumerate(run.steps) if step.stage.keeps_weights]
    return [0, *(end for end in ends if end < len(run.steps))]


def _diverged(record: Record | None) -> bool:
    """Whether there is nothing to go on from."""
    return record is not None and record.row["status"] != "ok"
