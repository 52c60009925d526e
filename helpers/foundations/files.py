"""Files and folders: written whole or not at all, by one writer at a time, and read whatever holds them."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .errors import UserError

ROOT = Path(__file__).resolve().parents[2]
"""The repository: where logs/, networks/ and figures/ are unless --out says otherwise."""

DRAFT = ".draft-"
"""How the names of files begin that are still being written."""

LONGEST_NAME = 255
"""Bytes that a file's name may have, where the system does not tell."""

_UNGUARDED: set[Path] = set()
"""Files of which this process has said that writers are not kept apart."""


def user_path(path: str | Path) -> Path:
    """A path as a user writes it, ~ for the home. Raises UserError where no file can have it."""
    text = os.fspath(path)
    try:
        text.encode()
        return Path(text).expanduser()
    except UnicodeEncodeError:
        shown = text.encode(errors="backslashreplace").decode()
        raise UserError(f"{shown}: expected a path in UTF-8, found other bytes; rename it") from None
    except RuntimeError:
        raise UserError(f"{path}: expected a home to stand for ~, found none; write the path out") from None


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, moved in when the block ends well and removed when it does not.

    A link stays one: what it points to is replaced. Raises UserError where the folder cannot be written.
    """
    path, draft = Path(os.path.realpath(path)), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / _draft_name(path.name)
        draft.open("xb").close()  # made as any other new file is, with the rights that the user's umask gives
        yield draft
        os.replace(draft, path)
    except OSError as error:
        # Of the folder, so that a hundred files that meet the same full disk are one line.
        raise UserError(
            f"{path.parent}: could not be written to ({error.strerror or error}); free some space or choose "
            "another folder with --out; nothing that was there is lost"
        ) from None
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _draft_name(name: str) -> str:
    """A new name for a file while it is being written."""
    return f"{DRAFT}{name}.{uuid.uuid4().hex[:8]}"


def check_name(folder: Path, name: str, source: Path) -> None:
    """Raises UserError where a file of this name, named after `source`, cannot be written in the folder."""
    try:
        limit = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        limit = LONGEST_NAME
    excess = len(_draft_name(name).encode()) - limit
    if excess > 0:
        length = len(source.stem.encode())
        raise UserError(
            f"{source}: expected a name of at most {length - excess} bytes before {source.suffix}, since the "
            f"log's is made from it, found {length}; rename the file"
        )


@contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One writer at a time: others wait, until the block ends or the process dies.

    Where the system gives no lock, says so, once a file, and goes on.
    """
    path = Path(os.path.realpath(path))
    with ExitStack() as stack:
        fault = _take(path.parent / f".{path.name}.lock", stack)
        if fault and path not in _UNGUARDED:
            _UNGUARDED.add(path)
            say(
                f"{path}: two programs that write it at once are not kept apart here ({fault}): let one call "
                "at a time write there"
            )
        yield


def _take(lock: Path, stack: ExitStack) -> str:
    """Hold this lock until the stack unwinds; says why that is not possible, "" where it is."""
    try:
        import fcntl  # here: not every system has it
    except ImportError:
        return "this system has no flock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user's: to be read is enough for a lock
            handle = os.open(lock, os.O_RDONLY)
        stack.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        return f"{lock.name}: {error.strerror or error}"
    return ""


def read_whole(path: Path) -> bytes:
    """A file's content. Raises UserError where a program that may write to it holds it, and OSError."""
    with open(path, "rb") as file:
        if _is_held(file.fileno()):
            raise UserError(
                f"{path}: expected a complete file, found it in use by another program, which may write to "
                "it (an HDF5 viewer or h5py); close it there and repeat the command: nothing computed is lost"
            )
        return file.read()


def _is_held(handle: int) -> bool:
    """Whether somebody has locked an open file for writing. Whatever else the system answers means no."""
    try:
        import fcntl  # here: not every system has it

        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def check_folder(folder: Path, to_write: bool = False) -> None:
    """Raises UserError where the folder cannot be made or looked into or, if asked for, be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.X_OK):
            raise OSError("its files may not be read by this user")
        if to_write and not os.access(folder, os.W_OK):
            raise OSError("it is read-only")
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder to write to ({error}); choose another with --out"
        ) from None


def remove_drafts(folder: Path, older_than_s: float = 3600) -> None:
    """Clear away what killed processes were writing; younger drafts may be another process's."""
    for path in folder.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()
