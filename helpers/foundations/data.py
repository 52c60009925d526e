"""Data sets as tensors in memory: read once, split, normalised; augmentation by the batch."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .data_files import DATA_ROOT, read_files
from .datasets import DataConfig
from .errors import UserError
from .own_data import read_own
from .seeds import generator


@dataclass(frozen=True, eq=False)  # equal means the same object: tensors do not compare
class Split:
    """A part of a data set, all of it on one device.

    images: [n, C, H, W] float32, normalised. labels: [n] int64. index: [n] int64, the place of
    each sample in the data set's own file; cached teacher logits are keyed by it.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and normalised; every tensor is on one device.

    mean, std: [C], of the training part's pixels on the scale 0 to 1. background: [C], what a black pixel
    (raw 0) is after normalisation. checksum: SHA-256 in hex over raw pixels and labels, train and test.
    """

    name: str
    train: Split
    validation: Split  # may have length 0
    test: Split
    mean: Tensor
    std: Tensor
    background: Tensor
    classes: int
    checksum: str


def load_dataset(
    config: DataConfig,
    device: str | torch.device = "cpu",
    root: str | Path | None = None,
    seed: int | None = None,
) -> Dataset:
    """The data set of a config on a device; read from `root` (default: the repo's `data/`).

    A permutation drawn from `split_seed` orders the training file; its last `validation_size` entries are
    the validation part, its first `train_size` the training part, kept in that order. So `train_size`
    leaves validation as it is, and a smaller training part is a prefix of a larger one. Test keeps the
    order of its file. Mean and std are those of the training part actually used. With the `split_seed`
    "seed", validation is that of 0, and the run's `seed` draws the training part from all that it leaves.

    A second call with the same arguments returns the same object: treat its tensors as read-only.
    Raises UserError where sizes do not fit, or files are missing, damaged or cannot be written.
    """
    draws = seed if config.split_seed == "seed" else None
    if config.split_seed == "seed" and seed is None:
        raise UserError("data.split_seed: expected the seed of a run with 'seed', found none; pass seed=")
    return _load_dataset(config, str(torch.device(device)), Path(root or DATA_ROOT).absolute(), draws)


def shift_images(images: Tensor, pixels: int, background: Tensor, generator: torch.Generator) -> Tensor:
    """Shift every image by its own whole number of pixels, from −pixels to pixels on each axis.

    images: [n, C, H, W]. background: [C], what enters at the edges, on the images' device.
    generator: a CPU generator, whatever the images' device, so that a seed means the same shifts on any
    of them. Returns a new [n, C, H, W]; with 0 pixels the images themselves, and nothing is drawn.
    """
    if pixels == 0:
        return images
    n, channels, height, width = images.shape
    padded = images.new_empty(n, channels, height + 2 * pixels, width + 2 * pixels)
    padded[:] = background.view(1, -1, 1, 1)
    padded[:, :, pixels : pixels + height, pixels : pixels + width] = images
    top, left = torch.randint(2 * pixels + 1, (2, n), generator=generator).to(images.device)
    # A view of all windows, of which one a sample is copied: five times faster than indexing by pixel.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, top, left]


# Two: a student's data and its teacher's. More would only hold memory (0.2 GB each for MNIST).
@lru_cache(maxsize=2)
def _load_dataset(config: DataConfig, device: str, root: Path, seed: int | None) -> Dataset:
    (images, labels), test, classes = read_files(config.dataset, root)
    if config.sha256 is not None and read_own(root / config.dataset).sha256 != config.sha256:
        raise UserError(
            f"{root / config.dataset}: expected the images that the result was computed with, found others; "
            "put those back, or run its experiment again"
        )
    train_index, validation_index = _split(len(labels), config, seed)
    mean, std = (statistic.to(device) for statistic in _mean_and_std(images[train_index]))

    def part(images: Tensor, labels: Tensor, index: Tensor) -> Split:
        pixels = _normalise(images[index].to(device), mean, std)
        return Split(pixels, labels[index].to(device), index.to(device))

    return Dataset(
        name=config.dataset,
        train=part(images, labels, train_index),
        validation=part(images, labels, validation_index),
        test=part(*test, torch.arange(len(test[1]))),
        mean=mean,
        std=std,
        background=-mean / std,  # a black pixel's own arithmetic, so equal to it in every bit
        classes=classes,
        checksum=_checksum(images, labels, *test),
    )


def _split(n: int, config: DataConfig, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """File indices of the training and the validation part of n training images.

    With a `seed`, which of the images that validation leaves are trained on is drawn from it.
    """
    if not 0 <= config.validation_size < n:
        raise UserError(
            f"data.validation_size: expected 0 to {n - 1} (of {config.dataset}'s {n} training images, one at "
            f"least must be left to train on), found {config.validation_size}; choose a smaller one"
        )
    available = n - config.validation_size
    size = available if config.train_size is None else config.train_size
    if not 1 <= size <= available:
        raise UserError(
            f"data.train_size: expected 1 to {available} ({config.dataset} has {n} training images, of which "
            f"data.validation_size takes {config.validation_size}), found {size}; choose a smaller one"
        )
    split_seed = config.split_seed if seed is None else 0
    order = torch.randperm(n, generator=torch.Generator().manual_seed(split_seed))
    left, validation = order[:available], order[available:]
    if seed is not None:
        left = left[torch.randperm(available, generator=generator(seed, "subset"))]
    return left[:size], validation


def _mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of raw uint8 images [n, C, H, W], on the scale 0 to 1."""
    # From a histogram, so in whole numbers: exact, and the same for any number of threads.
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])
    weights = counts.double() / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(1)
    return mean.float(), variance.sqrt().float()


def _normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(pixel / 255 − mean) / std, channel by channel, in float32 [n, C, H, W]."""
    return images.float().div_(255).sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))


def _checksum(*tensors: Tensor) -> str:
    """SHA-256 in hex over the tensors' bytes as uint8, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.to(torch.uint8).contiguous().numpy())
    return digest.hexdigest()
