"""Figures as files."""

import os
from contextlib import suppress
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.style import context as style_context

from ..foundations.errors import UserError


@style_context("default")  # what is laid out only now does not follow the user's matplotlibrc either
def save(fig: Figure, name: str, folder: str | Path) -> Path:
    """Writes folder/name.png (200 dpi) and name.pdf, the same bytes for the same figure; returns the former.

    Both are written aside and then moved in, so a failure leaves the old files as they were. Raises UserError
    where the folder cannot be written.
    """
    folder = Path(folder)
    if Path(name).name != name:
        raise UserError(f"figure {name}: expected a plain name, found a path; say where with folder=…")
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    aside = {suffix: folder / f".{name}.{os.getpid()}.{suffix}" for suffix in metadata}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, path in aside.items():
            fig.savefig(path, format=suffix, dpi=200, metadata=metadata[suffix])
        for suffix, path in aside.items():
            os.replace(path, folder / f"{name}.{suffix}")
    except OSError as error:
        text = f"expected a folder for figures that can be written, found {error.strerror or error}"
        raise UserError(f"{folder}: {text}; say another with folder=…") from error
    finally:
        for path in aside.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return folder / f"{name}.png"
