"""The log of an experiment: which config file it is of, and how new results come into it."""

import os
from pathlib import Path
from typing import Any

from ..config.expansion import load_config
from ..config.file import FULL
from ..foundations.errors import UserError
from ..foundations.files import locked
from ..foundations.terminal import say
from ..logger import Log, Record, read_log, write_log
from .describing import describe
from .planning import Plan
from .tasks import cached_record

SOURCE = "config"
"""Where a log names its config file, seen from the output folder; configs/NAME.json where it names none."""


def log_path(out: Path, name: str, profile: str) -> Path:
    """Where an experiment's log is."""
    return out / "logs" / ("" if profile == FULL else profile) / f"{name}.hdf5"


def source_of(config: Path, out: Path) -> dict[str, str]:
    """What a log says of where its config file is."""
    try:
        source = Path(os.path.relpath(os.path.realpath(config), os.path.realpath(out))).as_posix()
    except ValueError:  # on another drive
        source = str(config.absolute())
    return {} if source == _usual_source(config.stem) else {SOURCE: source}


def _usual_source(name: str) -> str:
    """Where the config file of an experiment is, unless its log says otherwise."""
    return f"configs/{name}.json"


def standing_runs(config: Path, profile: str | None, out: Path) -> dict[str, Any]:
    """The runs of a config file as it stands, without overrides; none where it needs them to be valid."""
    try:
        return describe(load_config(config, profile)) | source_of(config, out)
    except UserError:
        return {}


def check_owner(path: Path, log: Log, standing: dict[str, Any], config: Path, out: Path) -> None:
    """Raises UserError where a log is of another config file, which would lose it."""
    if not log.runs or _same_runs(log.runs, standing):
        return
    owner = out / log.runs.get(SOURCE, _usual_source(log.runs["experiment"]))
    if _is_another(owner, config):
        raise UserError(
            f"{config}: expected a log of its own, found {path} to be that of {owner}; give the file another "
            "name, or its results another folder with --out"
        )


def _is_another(owner: Path, config: Path) -> bool:
    """Whether the file that a log is of is there, and not this one."""
    try:
        return not owner.samefile(config)
    except OSError:  # moved away, or another user's
        return False


def _same_runs(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two plans ask for the same, wherever their config files are."""
    return {**one, SOURCE: ""} == {**other, SOURCE: ""}


def collect(
    path: Path,
    runs: dict[str, Any],
    standing: dict[str, Any],
    is_overridden: bool,
    plan: Plan,
    networks: Path,
    failed: dict[str, str],
) -> Log:
    """Bring new records from the cache into the log; returns its records, with the runs of this call.

    `runs` is what `describe` says of the call, `standing` of the config file as it stands, which is what a
    log shows; a call with overrides leaves what it shows already. The log is written once, and only if it
    changes.
    """
    found = dict(plan.records)
    for task in plan.tasks:
        for key in task.wanted:
            record = cached_record(networks, key, say)
            if record is not None:
                found[key] = record
            elif task.key in failed:
                found[key] = Record({"status": "failed", "traceback": failed[task.key]})
    mine = {key for run in runs["runs"] for key, *_ in run["steps"]}

    def brought_in(log: Log) -> Log:
        new = {
            key: record
            for key, record in found.items()
            if key in mine
            and (key in plan.missing or not is_good(log.records.get(key)))
            # What is found stays found, whatever fails later.
            and not (record.row["status"] == "failed" and is_good(log.records.get(key)))
        }
        stays = (is_overridden and log.runs) or _same_runs(log.runs, standing)
        return log if stays and not new else Log(log.records | new, log.runs if stays else standing)

    # Whoever has nothing to write needs no lock; whoever has looks again, since another may have written.
    log = found_there = read_log(path)
    wanted = brought_in(log)
    if wanted is not log:
        try:
            with locked(path, say):
                log = brought_in(read_log(path))
                write_log(path, log)
        except UserError:
            is_new = any(record is not found_there.records.get(key) for key, record in wanted.records.items())
            if is_new or _results_of(found_there.runs) != _results_of(wanted.runs):
                raise
            # Only what results are called has changed: whoever may not write can still look at them.
    return Log(log.records, runs)


def _results_of(plan: dict[str, Any]) -> list[list[Any]]:
    """Which results a plan asks for, whatever it says of them."""
    return [[run[key] for key in ("arm", "seed", "axes", "steps")] for run in plan.get("runs", [])]


def is_good(record: Record | None) -> bool:
    """Whether there is a record, and not one of a failure."""
    return record is not None and record.row["status"] != "failed"
