"""The files of data sets: found, unpacked or downloaded, checked and read; faults are told by name."""

import gzip
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .datasets import DATA_ROOT, DATASETS, OWN
from .errors import UserError
from .own_data import read_own

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

_READER = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10"}
_ABSENT = "no such file"
_IDX_IMAGES, _IDX_LABELS = 0x803, 0x801
"""First four bytes of an IDX file: unsigned bytes, in three dimensions or in one."""

# The unpacked files are pinned, not the archives: a .gz differs with whoever packed it.
_IDX_BYTES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
_IDX_SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "kmnist": {},  # size and gzip's own CRC only; its download is checked by torchvision
}


def provide_files(name: str, root: str | Path | None = None) -> None:
    """See that a data set's files are in place and intact, and fetch them if they are not.

    Raises UserError where that fails. Cheaper than loading: a fraction of a second for MNIST.
    """
    place = Path(root or DATA_ROOT).absolute()
    if name == "cifar10" or name.endswith(OWN):
        read_files(name, place)
    else:
        _provide_idx(name, place)


def read_files(name: str, root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]:
    """(images, labels) of train and of test, raw: uint8 [n, C, H, W], int64 [n]; the number of classes."""
    if name.endswith(OWN):
        return _read_own(root / name)
    train, test = _read_cifar10(root) if name == "cifar10" else _read_mnist_like(name, root)
    return train, test, DATASETS[name].classes


def _read_own(path: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]:
    """As `read_files`, of a user's own file."""
    try:
        own = read_own(path)
    except ValueError as error:
        raise UserError(f"data.dataset: {error}") from None
    parts = {name: torch.from_numpy(array) for name, array in own.arrays.items()}
    train, test = ((parts[f"{part}_images"], parts[f"{part}_labels"]) for part in ("train", "test"))
    return train, test, own.classes


def _read_mnist_like(name: str, root: Path) -> list[tuple[Tensor, Tensor]]:
    """Train and test of MNIST or its kin, from the bytes that have been checked."""
    content, shape, parts = _provide_idx(name, root), DATASETS[name].shape, []
    for part in ("train", "t10k"):
        images = np.frombuffer(content[f"{part}-images-idx3-ubyte"], np.uint8, offset=16)
        labels = np.frombuffer(content[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8)
        pixels = torch.from_numpy(images.copy()).view(-1, *shape)  # a copy, since bytes cannot be written to
        parts.append((pixels, torch.from_numpy(labels.astype(np.int64))))
    return parts


def _read_cifar10(root: Path) -> list[tuple[Tensor, Tensor]]:
    """Train and test of CIFAR-10, by torchvision."""
    from torchvision import datasets  # here, because importing it takes longer (1.1 s) than loading MNIST

    # Old pickles and tar archives set off deprecations in some versions: not the user's business.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            datasets.CIFAR10(root, train=False)  # checks the training batches too
        except (OSError, RuntimeError):  # absent, or not the MD5 that torchvision expects
            _download("cifar10", root, _damaged_cifar10(root))
        parts = [datasets.CIFAR10(root, train=is_train) for is_train in (True, False)]
    return [
        (torch.as_tensor(part.data).permute(0, 3, 1, 2).contiguous(), torch.as_tensor(part.targets))
        for part in parts
    ]


def _damaged_cifar10(root: Path) -> list[str]:
    """What is wrong with the files of CIFAR-10 that are there, by torchvision's own checksums."""
    from torchvision import datasets

    reader, damaged = datasets.CIFAR10, []
    pinned = [(reader.filename, reader.tgz_md5)]
    pinned += [(f"{reader.base_folder}/{file}", md5) for file, md5 in reader.train_list + reader.test_list]
    pinned.append((f"{reader.base_folder}/{reader.meta['filename']}", reader.meta["md5"]))
    for file, md5 in pinned:
        path = root / file
        try:
            found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        except FileNotFoundError:
            continue
        except OSError as error:
            damaged.append(f"{path}: expected a file that can be read, found: {error.strerror}")
            continue
        if found != md5:
            size = path.stat().st_size
            damaged.append(
                f"{path}: expected md5 {md5[:12]}, found a damaged file ({size} bytes, md5 {found[:12]}); "
                "move it away and put an intact one there"
            )
    return damaged


def _provide_idx(name: str, root: Path) -> dict[str, bytes]:
    """See that the four IDX files lie unpacked and intact where torchvision has them; what is in them."""
    raw, digests = root / _READER[name] / "raw", _IDX_SHA256[name]
    folders = [raw, DEBIAN_FASHION_MNIST] if name == "fashion_mnist" else [raw]
    missing, damaged, contents = [], [], {}
    for file, size in _IDX_BYTES.items():
        contents[file], fault = _read_idx(raw / file, name)
        if not fault:
            continue
        archives = [_read_idx(folder / f"{file}.gz", name) for folder in folders]
        content, archive_fault = min(archives, key=lambda archive: archive[1] != "")  # an intact one first
        if not archive_fault:
            _write_aside(raw / file, content)
            contents[file] = content
            continue
        (missing if fault == archive_fault == _ABSENT else damaged).append(
            f"{raw / file}.gz: expected a gzip of {size} bytes with sha256 {digests.get(file, 'any')[:12]}, "
            f"found {archive_fault}; and unpacked, as {file}, found {fault}"
        )
    if name == "mnist" and (missing or damaged):
        remedy = f"restore it with `git checkout -- data/MNIST/raw`, or put an intact copy into {raw}"
        raise UserError(*(f"{problem}; {remedy}" for problem in missing + damaged))
    if missing or damaged:
        _download(name, root, damaged)
        contents = {file: (raw / file).read_bytes() for file in _IDX_BYTES}
    return contents


def _read_idx(path: Path, name: str) -> tuple[bytes, str]:
    """The content of an IDX file, plain or gzipped, and what was found instead ("" where it is intact)."""
    file = path.name.removesuffix(".gz")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError:
        return b"", _ABSENT
    except (OSError, EOFError, zlib.error) as error:
        return b"", f"a file that cannot be read ({error})"
    digest = hashlib.sha256(content).hexdigest()
    if digest == _IDX_SHA256[name].get(file):
        return content, ""
    others = [other for other, digests in _IDX_SHA256.items() if other != name and digest in digests.values()]
    if others:
        return b"", f"a file of {others[0]}"
    if len(content) != _IDX_BYTES[file] or file in _IDX_SHA256[name]:
        return b"", f"{len(content)} bytes with sha256 {digest[:12]}"
    # What no digest pins is looked into.
    images = "images" in file
    if int.from_bytes(content[:4]) != (_IDX_IMAGES if images else _IDX_LABELS):
        return b"", "no IDX file"
    classes = DATASETS[name].classes
    if not images and max(content[8:]) >= classes:
        return b"", f"the label {max(content[8:])}, where the classes are 0 to {classes - 1}"
    return content, ""


def _write_aside(path: Path, content: bytes) -> None:
    """Write beside the path and move in, so that a kill or a second process leaves no half file."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        raise UserError(
            f"{path}: expected a folder that {len(content)} bytes can be unpacked into, found: {error}; "
            f"make {path.parent} writable (or make room), or unpack the .gz there beforehand: gunzip --keep"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _download(name: str, root: Path, damaged: list[str]) -> None:
    """Fetch a data set through torchvision into a scratch folder, then move its files in."""
    from torchvision import datasets

    archive = root / "cifar-10-python.tar.gz"
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none, and would wait for ever on a silent network
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
            if name == "cifar10" and archive.exists():  # put there by hand: torchvision unpacks it
                shutil.copyfile(archive, Path(scratch) / archive.name)
            getattr(datasets, _READER[name])(scratch, download=True)
            for path in filter(Path.is_file, sorted(Path(scratch).rglob("*"))):
                target = root / path.relative_to(scratch)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    except Exception as error:  # a dozen kinds (URL, HTTP, socket, tar, disk), the same remedy
        files, folder = ", ".join(f"{file}.gz" for file in _IDX_BYTES), root / _READER[name] / "raw"
        if name == "cifar10":
            files, folder = archive.name, root
        package = ", or install Debian's package dataset-fashion-mnist" if name == "fashion_mnist" else ""
        raise UserError(
            *damaged,
            f"data.dataset: expected {name} under {root}, or a network to download it; found neither "
            f"({' '.join(str(error).split())}); put {files} into {folder}{package}",
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
