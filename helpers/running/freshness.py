"""Whether code, data and settings are still those that a process started with."""

import os

from ..foundations.files import ROOT

WATCHED = ("helpers", "data")
"""Folders whose files decide what a worker computes, or that it keeps in memory."""

SETTINGS = ("ATEN_", "CUDA_", "DNNL_", "GOMP_", "KMP_", "LD_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_",
            "PYTHONHOME", "PYTHONPATH", "PYTORCH_")  # fmt: skip
"""How the names of variables begin that decide how torch computes, or which code is found. Numbers of
threads do not: a task asks torch for its own."""

Stamp = frozenset[tuple[str, int, int]]


def files_stamp(watched: tuple[str, ...] = WATCHED) -> Stamp:
    """Path, time and size of every file of these folders; a few milliseconds."""
    found = []
    for folder in watched:
        for place, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
            for name in names:
                if not name.startswith("."):
                    path = os.path.join(place, name)
                    try:
                        about = os.stat(path)
                    except OSError:  # a link to nowhere, or gone meanwhile
                        continue
                    found.append((path, about.st_mtime_ns, about.st_size))
    return frozenset(found)


def settings_stamp() -> dict[str, str]:
    """The variables of the environment that matter to a worker."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(SETTINGS) and not name.endswith("_NUM_THREADS")
    }


LOADED = files_stamp(("helpers",)), settings_stamp()
"""Code and settings as they were when this process loaded them."""


def is_as_loaded() -> bool:
    """Whether this process would compute what the files say now, as its environment says now."""
    return (files_stamp(("helpers",)), settings_stamp()) == LOADED
