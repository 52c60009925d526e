"""Logger: records in, one HDF5 file an experiment out; whole or not at all."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .foundations.errors import UserError
from .foundations.files import atomic, read_whole

FAMILY = "prune-playground log "

FORMAT = FAMILY + "1"
"""Stands in every log; another number means another format, another text a foreign file."""

LAYOUT = ("v110", "v110")
"""The oldest HDF5 that every admitted h5py reads, whichever writes: a log outlives its writer's version."""


@dataclass
class Record:
    """What is known of one stage's result."""

    row: dict[str, Any]
    """Its columns of `results` that do not depend on which run it is seen from."""
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    """A column each, all of one length; empty where the stage did not train."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    """All that decides the result: data, net, seed, stages."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where and when it was computed; decides nothing."""


@dataclass
class Log:
    """A log's contents: records by hash, and the runs of its config file as it stands."""

    records: dict[str, Record] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)


def read_log(path: Path) -> Log:
    """Everything in a log; empty where there is none. Raises UserError where the file is no intact log."""
    try:
        # From memory: HDF5 itself refuses files that a program left open when it died, or cannot lock.
        content = io.BytesIO(read_whole(path))
    except FileNotFoundError:
        return Log()
    except OSError as error:
        raise UserError(f"{path}: expected a log that may be read, found: {error.strerror}") from None
    try:
        with h5py.File(content, "r") as file:
            found = file.attrs.get("format")
            if found != FORMAT:
                raise UserError(f"{path}: expected a log ({FORMAT!r}), found {_foreign(found)}")
            return _read(file)
    except (OSError, RuntimeError, KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        reason = str(error).strip("'\"")
        if "version number" in reason:
            raise UserError(
                f"{path}: expected a log that HDF5 {h5py.version.hdf5_version} reads, found a newer format "
                f"({reason}); install a newer h5py than {h5py.__version__}"
            ) from None
        raise UserError(
            f"{path}: expected a log, found a damaged file ({reason}); restore it (git), or move it "
            "elsewhere and what networks/ still holds is loaded from there, the rest computed again"
        ) from None


def _foreign(name: object) -> str:
    """What to say of an HDF5 file with another name of its format."""
    if isinstance(name, str) and name.startswith(FAMILY):
        return f"one of another version of this playground ({name!r}); read it with that version"
    return "a foreign HDF5 file; move it elsewhere"


def _read(file: h5py.File) -> Log:
    """Columns back into records."""
    hashes = _texts(file["records/hash"])
    rows, configs = _texts(file["records/row"]), _texts(file["records/config"])
    provenances = _texts(file["records/provenance"])
    records = {
        key: Record(json.loads(row), config=json.loads(config), provenance=json.loads(provenance))
        for key, row, config, provenance in zip(hashes, rows, configs, provenances, strict=True)
    }
    for group in ("curves", "arrays"):
        for name, ragged in file[group].items():
            owners, values, ends = ragged["record"][()], ragged["values"][()], ragged["ends"][()]
            shapes = [tuple(json.loads(text)) for text in _texts(ragged["shapes"])]
            starts = np.concatenate([[0], ends[:-1]])
            for owner, start, end, shape in zip(owners, starts, ends, shapes, strict=True):
                getattr(records[hashes[owner]], group)[name] = values[start:end].reshape(shape)
    return Log(records, json.loads(_texts(file["runs"])[0]))


def write_log(path: Path, log: Log) -> None:
    """Write beside the log and move in: whoever is killed at any moment leaves the old file or the new."""
    # By way of memory: HDF5 tells of a full disk in many ways, and some of them leave the file open.
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=LAYOUT) as file:
        file.attrs["format"] = FORMAT
        records = list(log.records.values())
        _put_texts(file, "runs", [json.dumps(log.runs)])
        _put_texts(file, "records/hash", list(log.records))
        for words in ("row", "config", "provenance"):
            _put_texts(file, f"records/{words}", [json.dumps(getattr(r, words)) for r in records])
        for group in ("curves", "arrays"):
            file.create_group(group, track_order=True)  # columns come back in the order they were written
            names = dict.fromkeys(name for r in records for name in getattr(r, group))
            for name in names:
                _put_ragged(file, f"{group}/{name}", [getattr(r, group).get(name) for r in records])
    with atomic(path) as draft:
        draft.write_bytes(memory.getbuffer())


def _put_ragged(file: h5py.File, name: str, arrays: list[np.ndarray | None]) -> None:
    """Arrays of unlike shapes end to end: one compressed data set instead of one an array."""
    owners = [index for index, array in enumerate(arrays) if array is not None]
    present = [np.asarray(arrays[index]) for index in owners]
    _put(file, f"{name}/record", np.array(owners, np.int32))
    _put(file, f"{name}/values", np.concatenate([array.ravel() for array in present]))
    _put(file, f"{name}/ends", np.cumsum([array.size for array in present]))
    _put_texts(file, f"{name}/shapes", [json.dumps(array.shape) for array in present])


def _put(file: h5py.File, name: str, values: np.ndarray) -> None:
    """A data set, compressed."""
    packed = {"compression": "gzip", "shuffle": True} if values.size else {}
    file.create_dataset(name, data=values, **packed)


def _put_texts(file: h5py.File, name: str, texts: list[str]) -> None:
    """Texts at a fixed width, since HDF5 does not compress those of varying width."""
    _put(file, name, np.array([text.encode() for text in texts], dtype=bytes if texts else "S1"))


def _texts(dataset: h5py.Dataset) -> list[str]:
    """The texts of a data set."""
    return [text.decode() for text in dataset[()]]


def write_record(path: Path, record: Record) -> None:
    """One record as a file of its own, for the cache: an .npz of numbers and one JSON text."""
    words = {key: getattr(record, key) for key in ("row", "config", "provenance")}
    parts = {
        f"{group}/{n}": np.asarray(v)
        for group in ("curves", "arrays")
        for n, v in getattr(record, group).items()
    }
    words["result"] = path.stem
    text = np.frombuffer(json.dumps(words).encode(), np.uint8)
    with atomic(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, words=text, **parts)


def read_record(path: Path) -> Record:
    """A record of the cache. Raises OSError, ValueError or KeyError where it is damaged or another's."""
    # Opened here, since np.load leaves a cut file open.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as parts:
        words = json.loads(parts["words"].tobytes())
        result = words.pop("result", path.stem)
        if result != path.stem:
            raise ValueError(f"it is of the result {result}")
        record = Record(**words)
        for key in parts.files:
            group, _, name = key.partition("/")
            if name:
                getattr(record, group)[name] = parts[key]
    return record
