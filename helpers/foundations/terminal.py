"""What the user is told, on any terminal."""

import sys
from typing import TextIO

from tqdm import tqdm


def say(text: str, file: TextIO | None = None, end: str = "\n") -> None:
    """Print above a progress bar, if there is one; characters that the terminal lacks become '?'."""
    stream = file or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    tqdm.write(text.encode(encoding, "replace").decode(encoding), file=stream, end=end)
    stream.flush()
