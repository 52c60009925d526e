"""Tensors and plain values on disk: nothing that could run."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from .files import atomic


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values to a file; by way of memory, since torch tells of full disks as its fault."""
    memory = io.BytesIO()
    torch.save(content, memory)
    with atomic(path) as draft:
        draft.write_bytes(memory.getbuffer())


def read_tensors(path: Path) -> dict[str, Any]:
    """What `write_tensors` wrote, whole: torch itself does not look at the checksums in its files.

    Raises FileNotFoundError, or an error of another kind, told in one line, where it is something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        raise ValueError("expected a file of torch's, found something else or a part of one") from None
    if damaged is not None:
        raise ValueError(f"{damaged} in it does not match its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)
