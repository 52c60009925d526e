"""From a recorded result back to its network: its stages as a task, whoever computed it."""

from pathlib import Path

from pydantic import ValidationError

from ..config.hashing import stage_hashes
from ..config.schema import RunSpec
from ..foundations.errors import UserError
from ..foundations.files import check_folder
from ..foundations.numerics import best_device, numerics
from ..foundations.terminal import say
from ..logger import Record, read_log
from ..masked_body_builder import MaskedBodyBuilder
from .tasks import Task, cached_record, recorded_threads, restore


def restored_network(run: str, out: Path) -> MaskedBodyBuilder:
    """The network of a hash, in evaluation mode and on the CPU, from the logs and the cache under `out`.

    Raises UserError where no log knows the hash.
    """
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
    return state.network.eval().cpu()


def all_records(logs: Path) -> tuple[dict[str, Record], list[str]]:
    """Every record of every log, those of failures left out, and what is wrong with damaged logs."""
    records: dict[str, Record] = {}
    damaged: list[str] = []
    for path in sorted(logs.rglob("*.hdf5")):
        try:
            found = read_log(path).records
        except UserError as error:
            damaged += error.lines
            continue
        records |= {key: record for key, record in found.items() if record.config}
    return records, damaged


def task_of(records: dict[str, Record], run: str, networks: Path) -> Task:
    """A record's whole run as a task, its teachers' too, and what is known of the weights on its way.

    A teacher that neither a log nor the cache knows is left out: it may not be needed.
    Raises UserError where this version of the stages gives it another hash, or does not know its settings.
    """
    config = records[run].config
    try:
        spec = RunSpec.model_validate({key: config[key] for key in ("data", "net", "stages")})
        hashes = next(stage_hashes(spec.data, spec.net, [config["seed"]], spec.stages))
    except (KeyError, ValidationError):
        hashes = [""]
    if hashes[-1] != run:
        raise UserError(f"{run}: recorded by another version of the playground; run its experiment again")
    expected = {
        key: records[key].row
        for key, stage in zip(hashes, spec.stages, strict=True)
        if stage.keeps_weights and key in records
    }
    teachers = {}
    for key in (key for stage in spec.stages for key in getattr(stage, "teacher", None) or ()):
        # A teacher need be no run of any experiment: then only the cache knows it.
        record = records.get(key) or cached_record(networks, key, say)
        if record is not None:
            teachers[key] = task_of(records | {key: record}, key, networks)
    return Task(
        spec.data, spec.net, config["seed"], spec.stages, hashes, 0, frozenset(), networks,
        teachers=teachers, expected=expected, recorded_threads=recorded_threads(records, hashes),
    )  # fmt: skip
