"""From a recorded result back to its network: its sentence as a task, whoever computed it."""

from pathlib import Path

from pydantic import ValidationError

from .config import Sentence
from .errors import UserError
from .logger import Record, read_log
from .sentence import stage_hashes
from .stages import PERSISTENT
from .tasks import Task, cached_record, recorded_threads
from .terminal import say


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
    """A record's whole sentence as a task, its teachers' too, and what is known of the weights on its way.

    A teacher that neither a log nor the cache knows is left out: it may not be needed.
    Raises UserError where this version of the verbs gives it another hash, or does not know its words.
    """
    words = records[run].config
    try:
        sentence = Sentence.model_validate({key: words[key] for key in ("data", "net", "stages")})
        hashes = next(stage_hashes(sentence.data, sentence.net, [words["seed"]], sentence.stages))
    except (KeyError, ValidationError):
        hashes = [""]
    if hashes[-1] != run:
        raise UserError(f"{run}: recorded by another version of the playground; run its experiment again")
    expected = {
        key: records[key].row
        for key, stage in zip(hashes, sentence.stages, strict=True)
        if stage.type in PERSISTENT and key in records
    }
    teachers = {}
    for key in (key for stage in sentence.stages for key in getattr(stage, "teacher", None) or ()):
        # A teacher need be no run of any experiment: then only the cache knows it.
        record = records.get(key) or cached_record(networks, key, say)
        if record is not None:
            teachers[key] = task_of(records | {key: record}, key, networks)
    return Task(
        sentence.data, sentence.net, words["seed"], sentence.stages, hashes, 0, frozenset(), networks,
        teachers=teachers, expected=expected, recorded_threads=recorded_threads(records, hashes),
    )  # fmt: skip
