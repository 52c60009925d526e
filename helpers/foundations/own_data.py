"""Images of one's own: a .npz file in data/ with four arrays, identified by what is in it."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, eq=False)
class OwnData:
    """What is in such a file: images uint8 [n, C, H, W] and labels int64 [n], of training and of test."""

    arrays: "dict[str, np.ndarray]"
    classes: int
    """One more than the largest training label."""
    sha256: str
    """Of the arrays, so that the same images in another file are the same data."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.arrays["train_images"].shape[1:]

    @property
    def images(self) -> int:
        """Of training."""
        return len(self.arrays["train_images"])


def read_own(path: Path) -> OwnData:
    """A user's own images; read once, as long as the file stays as it is. Raises ValueError."""
    try:
        about = os.stat(path)
    except OSError as error:
        raise ValueError(f"expected images in {path}, found: {error.strerror}") from None
    return _read(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int, size: int) -> OwnData:
    """The file, as it was changed last."""
    import numpy as np  # here, so that a config of another data set is checked without it

    try:
        # Opened here, since np.load leaves a cut file open.
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            found = {name: file[name] for name in ARRAYS if name in file.files}
    except Exception as error:  # zip, zlib, format or memory: whatever it is, the file is no such file
        raise ValueError(f"{path}: expected a .npz of {', '.join(ARRAYS)}, found: {error}") from None
    if missing := [name for name in ARRAYS if name not in found]:
        raise ValueError(f"{path}: expected the arrays {', '.join(ARRAYS)}, found no {', '.join(missing)}")
    for part in ("train", "test"):
        images, labels = found[f"{part}_images"], found[f"{part}_labels"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(
                f"{path}: {part}_images: expected uint8 [n, height, width] or [n, channels, height, width], "
                f"found {images.dtype} {list(images.shape)}"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1] or not len(labels):
            raise ValueError(
                f"{path}: {part}_labels: expected {len(images)} whole numbers, one an image, found "
                f"{labels.dtype} {list(labels.shape)}"
            )
        images = images[:, None] if images.ndim == 3 else images
        found |= {f"{part}_images": np.ascontiguousarray(images), f"{part}_labels": labels.astype(np.int64)}
    train, test = found["train_images"], found["test_images"]
    if train.shape[1:] != test.shape[1:]:
        shapes = [list(part.shape[1:]) for part in (train, test)]
        raise ValueError(f"{path}: test_images: expected {shapes[0]} as in training, found {shapes[1]}")
    classes = int(found["train_labels"].max()) + 1
    for name in ("train_labels", "test_labels"):
        if found[name].min() < 0 or found[name].max() >= classes:
            raise ValueError(f"{path}: {name}: expected labels from 0 to {classes - 1}, found others")
    digest = hashlib.sha256()
    for name in ARRAYS:
        digest.update(f"{name} {found[name].shape}".encode() + found[name].tobytes())
    return OwnData(found, classes, digest.hexdigest())
