"""The logger: what goes in comes out, and a log is the old one or the new one, never a part of it."""

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foundations.columns import CURVE_COLUMNS
from helpers.foundations.errors import UserError
from helpers.foundations.files import atomic, locked, remove_drafts
from helpers.logger import Log, Record, read_log, read_record, write_log, write_record
from helpers.running.tasks import cached_record
from helpers.utils import load_log, tables

ROOT = Path(__file__).parents[1]
DRAW = np.random.default_rng(0)
CURVES = {column: DRAW.random(2) for column in CURVE_COLUMNS} | {
    "step": np.array([10, 20]),
    "val_loss": np.array([np.nan, 1]),
}
RECORDS = {
    "a": Record({"status": "ok", "test_loss": 0.1, "val_loss": float("nan")}, CURVES, {}, {"seed": 1}),
    "b": Record({"status": "ok"}, {}, {"keep": np.array([0.5]), "map": DRAW.random((1, 28, 28), np.float32)}),
    "c": Record({"status": "ok"}, {}, {"keep": np.array([0.1, 1 / 3]), "map": np.zeros((0, 3), np.float32)}),
    "d": Record({"status": "failed", "traceback": "line\n‘line’"}, provenance={"commit": "…"}),
    "e": Record({"status": "diverged"}, {"step": np.array([3])}, {"names": np.array([b"conv2d_1", b"fc"])}),
    "f": Record({"status": "ok"}, {}, {"map": np.float32([[[np.nan]]]), "small": np.array([-1, 9], np.int8)}),
}
RUN = {
    "arm": "main",
    "seed": 0,
    "axes": {},
    "steps": [["a", "train", "train", 0], ["b", "prune", "prune", 0]],
}
RUNS = {"experiment": "x", "profile": "full", "axes": [], "net": [], "runs": [RUN]}


def assert_same(found: Record, expected: Record) -> None:
    """Texts and numbers equal, NaN equal to NaN; arrays in order, with dtype and shape."""
    for words in ("row", "config", "provenance"):
        assert json.dumps(getattr(found, words)) == json.dumps(getattr(expected, words))
    for group in ("curves", "arrays"):
        one, other = getattr(found, group), getattr(expected, group)
        assert list(one) == list(other)
        for name in one:
            assert (one[name].shape, one[name].dtype) == (other[name].shape, other[name].dtype), name
            assert one[name].tobytes() == other[name].tobytes(), name


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*") if not path.name.endswith(".lock")]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with every kind of record."""
    write_log(tmp_path / "x.hdf5", Log(RECORDS, RUNS))
    return tmp_path / "x.hdf5"


def test_a_log_gives_back_what_was_written(log: Path) -> None:
    found = read_log(log)
    assert found.runs == RUNS
    assert list(found.records) == list(RECORDS)
    for key, record in RECORDS.items():
        assert_same(found.records[key], record)


@pytest.mark.parametrize("key", RECORDS)
def test_the_cache_gives_back_what_was_written(tmp_path: Path, key: str) -> None:
    write_record(tmp_path / "x.npz", RECORDS[key])
    assert_same(read_record(tmp_path / "x.npz"), RECORDS[key])


def test_no_log_is_an_empty_log_but_nothing_to_load(tmp_path: Path) -> None:
    assert read_log(tmp_path / "x.hdf5") == Log()
    write_log(tmp_path / "empty.hdf5", Log())
    assert read_log(tmp_path / "empty.hdf5") == Log()
    with pytest.raises(UserError, match="found nothing there; run the experiment first"):
        load_log(tmp_path / "x.hdf5")


def test_a_shared_prefix_is_stored_once_and_seen_from_every_run(tmp_path: Path) -> None:
    base = Record({"status": "ok"}, {}, {"noise": DRAW.random(10_000)})
    runs = [
        RUN | {"steps": [["base", "train", "train", 0], [f"r{i}", "prune", "prune", 0]]} for i in range(50)
    ]
    records = {"base": base} | {f"r{i}": Record({"status": "ok"}) for i in range(50)}
    write_log(tmp_path / "x.hdf5", Log(records, RUNS | {"runs": runs}))
    found = load_log(tmp_path / "x.hdf5")
    assert (tmp_path / "x.hdf5").stat().st_size < 1.5 * base.arrays["noise"].nbytes
    assert (found.results["result"] == "base").sum() == 50
    assert found.results["run"].nunique() == 50


def test_2000_records_take_seconds_and_few_bytes(tmp_path: Path) -> None:
    def record(i: int) -> Record:
        column = DRAW.random(10)
        arrays = {
            "confusion": DRAW.integers(0, 100, (10, 10), np.int32),
            "map": np.ones((1, 28, 28), np.float32),
        }
        words = {"stages": 5 * [{"type": "train", "epochs": 10, "batch_size": 128}]}
        return Record({"status": "ok", "test_loss": i / 7}, dict.fromkeys(CURVES, column), arrays, words)

    records = {f"{i:016x}": record(i) for i in range(2000)}
    runs = [RUN | {"steps": [[key, "train", "train", 0]]} for key in records]
    started = time.perf_counter()
    write_log(tmp_path / "x.hdf5", Log(records, RUNS | {"runs": runs}))
    found = read_log(tmp_path / "x.hdf5")
    assert len(tables(found, tmp_path).results) == 2000
    assert time.perf_counter() - started < 20
    assert (tmp_path / "x.hdf5").stat().st_size < 2e6
    assert_same(found.records[f"{1234:016x}"], records[f"{1234:016x}"])


# Damage


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_log_is_told_in_one_line_with_what_to_do(log: Path, share: float) -> None:
    log.write_bytes(log.read_bytes()[: int(share * log.stat().st_size)])
    with pytest.raises(UserError) as caught:
        read_log(log)
    (line,) = caught.value.lines
    assert line.startswith(f"{log}: expected a log, found a damaged file")
    assert "\n" not in line
    assert "restore it (git), or move it elsewhere" in line


def test_a_log_that_may_not_be_read_is_not_called_damaged(log: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("helpers.logger.read_whole", refuse)
    with pytest.raises(UserError, match=r"may be read, found: Permission denied$"):
        read_log(log)


NEWEST = {0x01: 2, 0x02: 0, 0x03: 3, 0x05: 3, 0x08: 4, 0x0A: 0, 0x0B: 2, 0x0C: 3}
"""Newest version that HDF5 1.10 knows of a dataspace, link info, datatype, fill value, layout, group info,
filters and attribute message (HDF5 file format specification 3.0, section IV.A.2)."""


def message_versions(raw: bytes) -> set[tuple[int, int]]:
    """Type and version of the messages in the first part of every object header of version 2."""
    found = set()
    for place in (match.start() for match in re.finditer(b"OHDR\x02", raw)):
        flags, at = raw[place + 5], place + 6
        at += (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        end = at + width + int.from_bytes(raw[at : at + width], "little")
        at += width
        while at + 4 < end:
            kind, size = raw[at], int.from_bytes(raw[at + 1 : at + 3], "little")
            at += 4 + (2 if flags & 4 else 0)
            if kind in NEWEST:
                found.add((kind, raw[at] >> 4 if kind == 0x03 else raw[at]))
            at += size
    return found


@pytest.mark.parametrize("path", [None, *sorted((ROOT / "logs").glob("*.hdf5"))], ids=str)
def test_a_log_is_written_as_every_admitted_h5py_reads_it(log: Path, path: Path | None) -> None:
    """`python tests/h5py_matrix.py` shows it with the versions themselves."""
    raw = (path or log).read_bytes()
    assert raw[8] <= 3  # the superblock
    found = message_versions(raw)
    assert {kind for kind, _ in found} >= {0x01, 0x03, 0x08, 0x0B, 0x0C}
    assert all(version <= NEWEST[kind] for kind, version in found), found


def test_a_format_that_is_too_new_is_not_called_damaged(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_new(*_: object) -> None:
        raise KeyError("Unable to synchronously open object (bad version number for layout message)")

    monkeypatch.setattr("helpers.logger._read", too_new)
    with pytest.raises(UserError, match=r"found a newer format \(.*; install a newer h5py than") as caught:
        read_log(log)
    assert "damaged" not in str(caught.value)


def test_a_log_of_a_later_playground_is_neither_foreign_nor_damaged(log: Path) -> None:
    with h5py.File(log, "r+") as file:
        file.attrs["format"] = "prune-playground log 2"
    with pytest.raises(UserError, match=r"another version of this playground \('prune-playground log 2'\)"):
        read_log(log)


def test_a_log_that_another_program_may_be_writing_is_told_of(log: Path) -> None:
    with h5py.File(log, "r+"), pytest.raises(UserError, match=r"in use by another program.*nothing computed"):
        read_log(log)
    assert set(read_log(log).records) == set(RECORDS)


def test_a_log_that_a_dead_viewer_left_open_is_read(log: Path) -> None:
    words = "import h5py, os, sys; file = h5py.File(sys.argv[1], 'r+'); file.flush(); os._exit(0)"
    assert subprocess.run([sys.executable, "-c", words, log]).returncode == 0
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(log, "r")
    assert set(read_log(log).records) == set(RECORDS)


@pytest.mark.parametrize("answer", ["ENOLCK", "EOPNOTSUPP"])
def test_where_there_are_no_locks_logs_are_read_and_writers_are_told_once(
    log: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, answer), os.strerror(getattr(errno, answer)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert set(read_log(log).records) == set(RECORDS)
    said: list[str] = []
    for _ in range(2):
        with locked(log, said.append):
            write_log(log, Log(RECORDS, RUNS))
    (line,) = said
    assert line.startswith(f"{log}: two programs that write it at once are not kept apart here")


def test_the_lock_of_another_user_is_a_lock_too(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, taken, said = os.open, [], []

    def not_to_write(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    (log.parent / f".{log.name}.lock").touch()
    monkeypatch.setattr(os, "open", not_to_write)
    with locked(log, said.append):
        words = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        call = [sys.executable, "-c", words, log.parent / f".{log.name}.lock"]
        taken.append(subprocess.run(call, capture_output=True, text=True))
    assert "BlockingIOError" in taken[0].stderr
    assert said == []


def test_logs_are_read_and_figures_drawn_without_fcntl() -> None:
    """Windows has none; neither torch nor Dask is needed for it."""
    words = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from helpers.utils import load_log; from helpers.analysis import plot\n"
        "plot(load_log('logs/lenet5_oneshot.hdf5'))\n"
        "assert not sys.modules.keys() & {'torch', 'dask', 'distributed'}"
    )
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def assert_told_or_whole(log: Path) -> None:
    """A UserError, unless the damage is where nothing is stored."""
    try:
        found = read_log(log)
    except UserError:
        return
    for key, record in RECORDS.items():
        assert_same(found.records[key], record)


def test_no_flipped_bit_goes_unnoticed(log: Path) -> None:
    raw, draw = log.read_bytes(), np.random.default_rng(1)
    for place in draw.integers(0, len(raw), 40):
        spoilt = bytearray(raw)
        spoilt[place] ^= 1 << draw.integers(8)
        log.write_bytes(spoilt)
        assert_told_or_whole(log)


@pytest.mark.parametrize("part", [b"OHDR", b"FRHP", b"FHDB", b"BTHD", b"BTLF"])
def test_damage_to_hdf5s_own_structure_is_a_user_error_too(log: Path, part: bytes) -> None:
    raw = log.read_bytes()
    for place in (match.start() for match in re.finditer(part, raw)):
        log.write_bytes(raw[: place + 6] + b"\xaa\xaa" + raw[place + 8 :])
        assert_told_or_whole(log)


def test_a_text_under_a_logs_name_is_a_user_error(log: Path) -> None:
    log.write_text("not a log")
    with pytest.raises(UserError, match="damaged file"):
        read_log(log)


def test_a_foreign_hdf5_file_is_a_user_error_and_is_left_alone(log: Path) -> None:
    with h5py.File(log, "w") as file:
        file["treasure"] = [1, 2, 3]
    before = log.read_bytes()
    with pytest.raises(UserError, match=r"foreign HDF5 file; move it elsewhere"):
        read_log(log)
    assert log.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "words"])
def test_a_damaged_record_of_the_cache_is_told_and_counts_as_absent(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "k.npz"
    write_record(path, RECORDS["b"])
    raw = path.read_bytes()
    path.write_bytes({"cut": raw[: len(raw) // 2], "empty": b"", "text": b"text", "words": raw}[damage])
    if damage == "words":
        np.savez(path, words=np.frombuffer(b'{"row": {', np.uint8))
    said: list[str] = []
    assert cached_record(tmp_path, "k", said.append) is None
    (line,) = said
    assert line.startswith(f"{path}: damaged or not a record")
    assert line.endswith("; computed again")
    assert cached_record(tmp_path, "absent", said.append) is None
    assert len(said) == 1


# All or nothing


def test_an_error_while_writing_leaves_the_old_log_and_no_draft(log: Path) -> None:
    before, limits = log.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    more = Log({"new": Record({"status": "ok"}, {}, {"noise": DRAW.random(10_000)})}, RUNS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # as good as a full disk
    try:
        with pytest.raises(
            UserError, match=r"could not be written .*nothing that was there is lost"
        ) as caught:
            write_log(log, more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(log.parent) in str(caught.value)
    assert log.read_bytes() == before
    assert leftovers(log.parent) == []


def test_a_move_that_fails_leaves_the_old_file_and_no_draft(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    before = log.read_bytes()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match=str(log.parent)):
        write_log(log, Log({}, RUNS))
    assert log.read_bytes() == before
    assert leftovers(log.parent) == []


def test_a_stop_while_writing_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def stop() -> None:
        with atomic(path) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_kill_while_writing_leaves_the_old_file_and_a_draft_for_later_clearing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    words = (
        "import os, sys, pathlib; from helpers.foundations.files import atomic\n"
        "with atomic(pathlib.Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", words, path], cwd=ROOT).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (draft,) = leftovers(tmp_path)
    remove_drafts(tmp_path)
    assert leftovers(tmp_path) == [draft]  # a young one may be another process's
    os.utime(tmp_path / draft, (time.time() - 4000,) * 2)
    remove_drafts(tmp_path)
    assert leftovers(tmp_path) == []
    assert path.read_text() == "old"


def test_what_is_moved_in_can_be_read_by_others(tmp_path: Path) -> None:
    with atomic(tmp_path / "deep" / "x") as draft:
        draft.write_text("new")
    assert (tmp_path / "deep" / "x").read_text() == "new"
    before = os.umask(0o077)
    try:
        for mask, mode in ((0o022, 0o644), (0o002, 0o664), (0o077, 0o600)):
            os.umask(mask)
            with atomic(tmp_path / "deep" / "x") as draft:
                draft.write_text(oct(mask))
            assert (tmp_path / "deep" / "x").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_a_log_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "x.hdf5").symlink_to(tmp_path / "far" / "y.hdf5")
    for records in ({"a": RECORDS["a"]}, RECORDS):
        write_log(tmp_path / "x.hdf5", Log(records, RUNS))
        assert (tmp_path / "x.hdf5").is_symlink()
        assert set(read_log(tmp_path / "far" / "y.hdf5").records) == set(records)
    assert leftovers(tmp_path) == leftovers(tmp_path / "far") == []


WRITER = """
import sys
from pathlib import Path
from helpers.foundations.files import locked
from helpers.logger import Log, Record, read_log, write_log

path, name = Path(sys.argv[1]), sys.argv[2]
for i in range(25):
    with locked(path, print):
        log = read_log(path)
        write_log(path, Log(log.records | {f"{name}{i}": Record({"status": "ok"})}, {"last": name}))
"""


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    calls = [[sys.executable, "-c", WRITER, path, name] for name in "ab"]
    writers = [subprocess.Popen(call, cwd=ROOT) for call in calls]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert set(read_log(path).records) == {f"{name}{i}" for name in "ab" for i in range(25)}


def test_rows_curves_and_arrays_are_of_the_stage_that_has_them(tmp_path: Path) -> None:
    """Two runs share their first stage; the second trains again in its last."""
    curves = {
        key: {name: np.full(2, number) for name in CURVE_COLUMNS} for number, key in ((1.0, "t"), (2.0, "r"))
    }
    records = {
        key: Record(
            {"status": "ok", "test_errors": errors}, curves.get(key, {}), {"keep": np.array([errors])}
        )
        for errors, key in enumerate("tpqr")
    }
    kinds = {"t": "train", "p": "prune", "q": "prune", "r": "train"}
    runs = [RUN | {"steps": [[key, kinds[key], key, 0] for key in keys]} for keys in ("tp", "tqr")]
    found = tables(Log(records, RUNS | {"runs": runs}), tmp_path / "x.hdf5")
    rows = found.results[["run", "stage", "result", "test_errors"]]
    expected = [["p", 0, "t", 0], ["p", 1, "p", 1], ["r", 0, "t", 0], ["r", 1, "q", 2], ["r", 2, "r", 3]]
    assert rows.to_numpy().tolist() == expected
    assert {key: arrays["keep"].tolist() for key, arrays in found.arrays.items()} == {
        "t": [0], "p": [1], "q": [2], "r": [3],
    }  # fmt: skip
    places = found.curves[["run", "stage", "val_loss"]].drop_duplicates()
    assert places.to_numpy().tolist() == [["p", 0, 1.0], ["r", 0, 1.0], ["r", 2, 2.0]]
