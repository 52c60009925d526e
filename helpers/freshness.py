"""Whether code, data and settings are still those that a process started with."""

import os

from .files import ROOT

WATCHED = ("helpers", "data")
"""Folders whose files decide what a worker computes, or that it keeps in memory."""

SETTINGS = ("ATEN_", "CUDA_", "DNNL_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "ONEDNN_",
            "OPENBLAS_", "PYTHON", "PYTORCH_", "TORCH")  # fmt: skip
"""How the names of variables begin that decide how torch computes, or which code is found."""

Stamp = frozenset[tuple[str, int, int]]


def files_stamp() -> Stamp:
    """Path, time and size of every file of the watched folders; a few milliseconds."""
    found = []
    for folder in WATCHED:
        for place, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
            for name in names:
                if not name.startswith("."):
                    path = os.path.join(place, name)
                    about = os.stat(path)
                    found.append((path, about.st_mtime_ns, about.st_size))
    return frozenset(found)


def settings_stamp() -> dict[str, str]:
    """The variables of the environment that matter to a worker."""
    return {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}


def code_stamp() -> Stamp:
    """The part of `files_stamp` that this process has loaded as code."""
    return frozenset(file for file in files_stamp() if file[0].endswith(".py"))


LOADED = code_stamp()
"""The code as it was when this process loaded it."""
