"""Experiment: expand a config into runs, skip what exists, run the rest, collect.

python -m helpers.experiment configs/NAME.json --profile quick
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from .collecting import check_owner, collect, is_good, log_path, source_of, standing_runs
from .connecting import ADDRESS
from .data_files import provide_files
from .describing import describe
from .engine import execute
from .errors import UserError
from .expansion import ExperimentConfig, load_config
from .files import ROOT, check_folder, check_name, remove_drafts, user_path
from .logger import Log, Record, read_log
from .masked_body_builder import MaskedBodyBuilder
from .numerics import best_device, numerics
from .planning import make_plan
from .provenance import unlike
from .restoring import all_records, task_of
from .tasks import forget, record_path, restore
from .terminal import say
from .utils import Results, tables


def run_experiment(
    config: str | Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    threads_per_run: int = 1,
    force: bool = False,
) -> Results:
    """Run an experiment or load what it has already found; its tables, as the config is now.

    `overrides` are texts such as "train.epochs=2"; `out` is the folder that gets logs/, networks/
    and figures/ (default: the repository); `workers` are processes (default: a core each), with
    `threads_per_run` threads; `scheduler` is the address of a running Dask scheduler (default: the
    environment's DASK_SCHEDULER_ADDRESS, else workers of our own); `force` computes every result
    again. Raises UserError on bad input, before anything runs.
    """
    overrides = [overrides] if isinstance(overrides, str) else overrides
    for name, number in (("workers", workers), ("threads_per_run", threads_per_run)):
        if number is not None and number < 1:
            raise UserError(f"{name}: expected a whole number from 1, found {number}")
    config = user_path(config)
    out = user_path(out).absolute() if out is not None else ROOT  # workers may stand in another folder
    experiment = load_config(config, profile, overrides)
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
        standing = standing_runs(config, profile, out) or standing
    check_owner(path, known, standing, config, out)
    if not force:
        own = {key: record for key, record in known.records.items() if is_good(record)}
        known.records |= _records_of_teachers(experiment, out) | own
    plan = make_plan(experiment, Log() if force else known, networks, threads_per_run, not force)
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
        own = {key for run in experiment.runs for key in run.hashes} & plan.records.keys()
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


def load_network(run: str, out: str | Path | None = None) -> MaskedBodyBuilder:
    """The network that a run or a stage left behind, by its hash, ready to use and in evaluation mode.

    Computed again, from the latest weights that the cache holds, where it has to be.
    Raises UserError where no log knows the hash.
    """
    out = user_path(out) if out is not None else ROOT
    networks = out / "networks"
    check_folder(networks)
    records, damaged = all_records(out / "logs")
    if run not in records:
        raise UserError(
            *damaged,
            f"{run}: expected a run's hash that a log under {out / 'logs'} knows, found none; where its "
            "experiment ran with --out, name that folder with out=",
        )
    task = task_of(records, run, networks)
    with numerics(task.threads):
        state = restore(task, len(task.stages), say, best_device())
    return state.network.eval()


def _at_least_one(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _config_among(overrides: list[str]) -> str | None:
    """The config that stands behind --set, taken out of what --set has swallowed."""
    files = [text for text in overrides if "=" not in text] or [t for t in overrides if t.endswith(".json")]
    if not files:
        return None
    overrides.remove(files[-1])
    return files[-1]


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 2 on bad input, 1 where a task failed."""
    parser = argparse.ArgumentParser(
        "python -m helpers.experiment", description="Run an experiment, or load it."
    )
    parser.add_argument("config", nargs="?", help="a file such as configs/NAME.json")
    parser.add_argument(
        "--profile", help="a profile of the config, such as quick; default: the config as it stands"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", nargs="+",
        help="override fields: train.epochs=2 'sweep.sparsity=[0,0.9]' seeds=0",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="where logs/, networks/ and figures/ go; default: here")
    parser.add_argument(
        "--workers", type=_at_least_one, help="processes to compute with; default: a core each"
    )
    parser.add_argument(
        "--threads-per-run", type=_at_least_one, default=1, help="threads of each; default: 1"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="a running Dask scheduler, such as tcp://host:8786; default: DASK_SCHEDULER_ADDRESS, else none",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="compute every result again")
    options = parser.parse_args(arguments)
    overrides = [text for group in options.set for text in group]
    config = options.config or _config_among(overrides)
    if config is None:
        parser.error("expected a config file, such as configs/NAME.json")
    try:
        found = run_experiment(
            config, options.profile, overrides, options.out, options.workers,
            options.scheduler, options.threads_per_run, options.force,
        )  # fmt: skip
    except UserError as error:
        say("\n".join(error.lines), sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped; what is finished is kept, the same command goes on from there", sys.stderr)
        return 130
    _summarise(found)
    return 1 if found.failed else 0


def _summarise(found: Results) -> None:
    """A table of what was found, and a figure in figures/summary/; what fails is told and changes nothing."""
    try:
        # Only now: matplotlib takes a second, and a mistake is told before.
        from .analysis.automatic import summarise

        for line in summarise(found):
            say(line)
    except UserError as error:
        say("\n".join(error.lines))
    except Exception as error:  # results are there and logged, whatever a picture of them runs into
        say(f"no figure: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
