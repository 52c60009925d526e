"""One call of an experiment, from its runs to its tables: what exists is skipped, the rest is done."""

import os
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..config.expansion import ExperimentConfig
from ..foundations.data_files import provide_files
from ..foundations.errors import UserError
from ..foundations.files import check_folder, check_name, remove_drafts
from ..foundations.numerics import best_device
from ..foundations.terminal import say
from ..logger import Log, Record, read_log
from ..utils import Results, tables
from .collecting import check_owner, collect, is_good, log_path, source_of, standing_runs
from .connecting import ADDRESS
from .describing import describe
from .engine import execute
from .planning import make_plan
from .provenance import edited_criteria, unlike
from .tasks import forget, record_path


def run_or_load(
    experiment: ExperimentConfig,
    config: Path,
    out: Path,
    *,
    overrides: Sequence[str],
    workers: int | None,
    scheduler: str | None,
    threads_per_run: int,
    force: bool,
) -> Results:
    """Run an experiment that has been read from `config`, into the folder `out`, or load what it has found.

    The rest is as in `helpers.experiment.run_experiment`. Raises UserError on bad input.
    """
    path = log_path(out, experiment.name, experiment.profile)
    networks = out / "networks"
    check_folder(path.parent)
    check_folder(networks)
    check_name(path.parent, path.name, config)
    # With --force too: a damaged log is told now, not when everything has been computed.
    known = read_log(path)
    runs = describe(experiment)
    standing = runs | source_of(config, out)
    if overrides:
        standing = standing_runs(config, experiment.profile, out) or standing
    check_owner(path, known, standing, config, out)
    if not force:
        own = {key: record for key, record in known.records.items() if is_good(record)}
        known.records |= _records_of_teachers(experiment, out) | own
    plan = make_plan(experiment, Log() if force else known, networks, threads_per_run, not force)
    own = {key for run in experiment.runs for key in run.hashes} & plan.records.keys()
    if edited := edited_criteria(plan.records[key] for key in own):
        say(
            f"{experiment.name}: results that are there already were computed with other code of "
            f"{', '.join(edited)}; --force computes them again, and a higher version of the stage "
            "(helpers/methods/stage_settings.py) keeps old and new apart"
        )
    if plan.tasks:
        # Only now: a finished experiment can be looked at where nothing can be written.
        for folder in (networks, path.parent):
            check_folder(folder, to_write=True)
            remove_drafts(folder)
        if force:
            forget(plan.tasks)
        for name in {task.data.dataset for task in plan.tasks}:
            # Here, so that missing or damaged files are told once, before any worker starts.
            provide_files(name)
        if notice := unlike((plan.records[key] for key in own), best_device()):
            say(f"{experiment.name}: {notice}")
    failed: dict[str, str] = {}
    wrong_input: list[str] = []
    said: set[str] = set()
    trained = 0
    try:
        # Closed as soon as this block is left: workers do not go on after Ctrl-C or an error.
        with closing(execute(plan.tasks, workers, scheduler or os.environ.get(ADDRESS))) as running:
            for done in running:
                for message in done.messages:
                    if message not in said:  # what holds for the whole machine, every task says
                        say(message)
                    said.add(message)
                if not all(record_path(networks, key).exists() for key in done.recorded):
                    failed[done.key] = (
                        f"{networks}: expected the records that a worker wrote, found none; every worker of "
                        "--scheduler has to see the folder that --out names"
                    )
                trained += len(done.trained)
                if done.error is not None:
                    failed[done.key] = done.error
                    wrong_input += [done.error] if done.is_input else []
    finally:
        # Also after Ctrl-C or an error: what is finished goes into the log.
        log = collect(path, runs, standing, bool(overrides), plan, networks, failed)
    if wrong_input:
        raise UserError(*dict.fromkeys(wrong_input))
    found = tables(log, path)
    found.failed = failed
    found.computed = sum(any(key in plan.missing for key in run.hashes) for run in experiment.runs)
    found.loaded, found.trained = len(experiment.runs) - found.computed, trained
    say(repr(found))
    for key, error in failed.items():
        say(f"failed: {key}: {_last_error(error)} (traceback: Results.failed[{key!r}])")
    return found


def _records_of_teachers(experiment: ExperimentConfig, out: Path) -> dict[str, Record]:
    """What the logs of other experiments hold, if they teach in this one; a damaged log is told of."""
    names, runs = set(), list(experiment.runs)
    while runs:
        teachers = runs.pop().teachers.values()
        names |= {teacher.experiment for teacher in teachers} - {experiment.name}
        runs += teachers
    records: dict[str, Record] = {}
    for name in sorted(names):
        try:
            records |= read_log(log_path(out, name, experiment.profile)).records
        except UserError as error:
            say("\n".join(error.lines))
    return records


def _last_error(text: str) -> str:
    """The line of a traceback that names the exception, or the last line of a message."""
    lines = text.strip().splitlines()
    return next(
        (line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Worker)\b", line)), lines[-1]
    )
