"""Data: what is read, how it is split and normalised, what is said of damaged files, and shifts."""

import gzip
import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import datasets

from helpers.foundations import data, data_files
from helpers.foundations.data import Dataset, load_dataset, shift_images
from helpers.foundations.datasets import DataConfig
from helpers.foundations.errors import UserError

FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MNIST's archives as they ship and, beside them, the unpacked files."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in FILES:
        (raw / f"{file}.gz").write_bytes((data_files.DATA_ROOT / "MNIST" / "raw" / f"{file}.gz").read_bytes())
    data_files._provide_idx("mnist", root)
    return root


@pytest.fixture
def root(unpacked: Path, tmp_path: Path) -> Path:
    """The same, for damaging: hard links, so a test replaces a file and never writes into it."""
    link_files(unpacked / "MNIST" / "raw", tmp_path / "data" / "MNIST" / "raw")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def mnist(unpacked: Path) -> Dataset:
    return load_dataset(DataConfig(dataset="mnist"), root=unpacked)


@pytest.fixture(autouse=True)
def no_debian_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether or not this machine has Debian's Fashion-MNIST, the tests run as if it had not."""
    monkeypatch.setattr(data_files, "DEBIAN_FASHION_MNIST", tmp_path / "debian")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def link_files(source: Path, target: Path, suffix: str = "") -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob(f"*{suffix}"):
        os.link(path, target / path.name)


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def leftovers(root: Path) -> list[Path]:
    """Scratch files and folders, which are all hidden."""
    return list(root.rglob(".*"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What MNIST is


def test_mnist_is_the_published_one(mnist: Dataset) -> None:
    assert mnist.name == "mnist"
    assert mnist.classes == 10
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    assert mnist.train.images.shape == (55_000, 1, 28, 28)
    assert mnist.train.images.dtype == torch.float32
    assert mnist.train.labels.dtype == mnist.train.index.dtype == torch.int64

    labels = torch.empty(60_000, dtype=torch.int64)
    for part in (mnist.train, mnist.validation):
        labels[part.index] = part.labels
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert labels.bincount().tolist() == counts
    assert mnist.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_images_are_torchvisions_at_their_index(mnist: Dataset, unpacked: Path) -> None:
    for part, is_train in ((mnist.train, True), (mnist.validation, True), (mnist.test, False)):
        raw = datasets.MNIST(unpacked, train=is_train).data[part.index[:500]]
        pixels = (part.images[:500] * mnist.std + mnist.mean) * 255
        assert torch.equal(pixels.round().to(torch.uint8).squeeze(1), raw)
    assert torch.equal(mnist.test.index, torch.arange(10_000))


def test_checksum_is_of_raw_pixels_and_labels(mnist: Dataset, unpacked: Path) -> None:
    # The IDX files without their headers (16 bytes for images, 8 for labels) are just that.
    digest = hashlib.sha256()
    for file in FILES:
        digest.update((unpacked / "MNIST" / "raw" / file).read_bytes()[16 if "images" in file else 8 :])
    assert mnist.checksum == digest.hexdigest()


def test_a_second_call_returns_the_same_object(mnist: Dataset, unpacked: Path) -> None:
    again = load_dataset(DataConfig(dataset="mnist"), torch.device("cpu"), str(unpacked))
    assert again is mnist


# Split


def split(n: int, **fields: int) -> tuple[list[int], list[int]]:
    train, validation = data._split(n, DataConfig(dataset="mnist", **fields))
    return train.tolist(), validation.tolist()


def test_the_split_of_mnist_stays_what_it_was(mnist: Dataset) -> None:
    # Pinned: results in committed logs are of this split.
    assert mnist.train.index[:5].tolist() == [36044, 10678, 57327, 55074, 21567]
    assert mnist.validation.index[:5].tolist() == [30102, 43764, 35133, 50409, 21161]
    assert torch.cat([mnist.train.index, mnist.validation.index]).sort()[0].equal(torch.arange(60_000))


@given(n=st.integers(2, 300), seed=st.integers(0, 2**31), chosen=st.data())
@settings(deadline=None)
def test_parts_are_disjoint_cover_and_nest(n: int, seed: int, chosen: st.DataObject) -> None:
    validation_size = chosen.draw(st.integers(0, n - 1))
    train_size = chosen.draw(st.integers(1, n - validation_size))
    train, validation = split(n, validation_size=validation_size, split_seed=seed)
    assert len(validation) == validation_size
    assert sorted(train + validation) == list(range(n))

    fewer, same = split(n, validation_size=validation_size, split_seed=seed, train_size=train_size)
    assert same == validation
    assert fewer == train[:train_size]


def test_the_split_depends_on_split_seed_alone() -> None:
    torch.manual_seed(1)
    first = split(1000, validation_size=100)
    torch.manual_seed(2)
    torch.rand(1)
    state = torch.get_rng_state()
    assert split(1000, validation_size=100) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert split(1000, validation_size=100, split_seed=1) != first


def test_no_validation(unpacked: Path) -> None:
    dataset = load_dataset(DataConfig(dataset="mnist", validation_size=0, train_size=500), root=unpacked)
    assert len(dataset.train) == 500
    assert len(dataset.validation) == 0
    assert dataset.validation.images.shape == (0, 1, 28, 28)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"validation_size": 60_000}, ["data.validation_size", "0 to 59999", "found 60000"]),
        ({"train_size": 55_001}, ["data.train_size", "1 to 55000", "takes 5000", "found 55001"]),
    ],
)
def test_sizes_that_do_not_fit(unpacked: Path, fields: dict[str, int], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="mnist", **fields), root=unpacked)
    assert all(part in str(error.value) for part in parts)


def test_a_subset_may_follow_the_runs_seed_and_validation_stays(mnist: Dataset, unpacked: Path) -> None:
    def drawn(seed: int, size: int = 64) -> Dataset:
        config = DataConfig(dataset="mnist", train_size=size, split_seed="seed")
        return load_dataset(config, root=unpacked, seed=seed)

    first, second = drawn(0), drawn(1)
    assert not torch.equal(first.train.index, second.train.index)
    for dataset in (first, second):
        assert torch.equal(dataset.validation.index, mnist.validation.index)
        assert not set(dataset.train.index.tolist()) & set(mnist.validation.index.tolist())
    assert torch.equal(drawn(0).train.index, first.train.index)
    assert torch.equal(drawn(0, 200).train.index[:64], first.train.index)
    one_draw = load_dataset(DataConfig(dataset="mnist", train_size=64), root=unpacked, seed=1)
    assert torch.equal(one_draw.train.index, mnist.train.index[:64])
    with pytest.raises(UserError, match=r"^data\.split_seed: .* found none; pass seed=$"):
        load_dataset(DataConfig(dataset="mnist", train_size=64, split_seed="seed"), root=unpacked)


# Normalisation


@pytest.mark.parametrize("train_size", [64, 5000])
def test_normalised_by_the_training_part_used(mnist: Dataset, unpacked: Path, train_size: int) -> None:
    dataset = load_dataset(DataConfig(dataset="mnist", train_size=train_size), root=unpacked)
    raw = datasets.MNIST(unpacked).data[dataset.train.index].numpy() / 255
    assert dataset.mean.item() == pytest.approx(raw.mean(), rel=1e-6)
    assert dataset.std.item() == pytest.approx(raw.std(), rel=1e-6)
    assert dataset.train.images.mean().item() == pytest.approx(0, abs=1e-5)
    assert dataset.train.images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert dataset.mean.item() != mnist.mean.item()
    assert torch.equal(dataset.validation.index, mnist.validation.index)
    assert torch.equal(dataset.train.index, mnist.train.index[:train_size])


def test_background_is_a_black_pixel_to_the_last_bit(mnist: Dataset) -> None:
    assert mnist.background.shape == (1,)
    assert mnist.train.images[0, 0, 0, 0] == mnist.background[0] == mnist.train.images.min()


# Files


def test_truncated_and_altered_unpacked_files_are_made_again(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    truncated, altered = raw / "t10k-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    expected = {path: sha256(path) for path in (truncated, altered)}
    replace(truncated, truncated.read_bytes()[:-1])
    labels = bytearray(altered.read_bytes())
    labels[-1] ^= 1
    replace(altered, bytes(labels))
    (raw / "t10k-labels-idx1-ubyte").unlink()

    dataset = load_dataset(DataConfig(dataset="mnist", train_size=1), root=root)
    assert len(dataset.test) == 10_000
    assert {path: sha256(path) for path in (truncated, altered)} == expected
    assert not leftovers(root)


def test_unpacked_files_suffice(root: Path) -> None:
    for archive in root.rglob("*.gz"):
        archive.unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (root / "MNIST" / "raw").iterdir()}
    data_files.provide_files("mnist", root)
    assert before == {path.name: path.stat().st_mtime_ns for path in (root / "MNIST" / "raw").iterdir()}
    assert len(before) == 4


def flip_a_byte(content: bytes) -> bytes:
    return content[:2000] + bytes([content[2000] ^ 255]) + content[2001:]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (flip_a_byte, "cannot be read"),
        (lambda content: content[:-100], "cannot be read"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "cannot be read"),
        (lambda content: gzip.compress(b"something else"), "14 bytes with sha256"),
        (None, "no such file"),
    ],
    ids=["corrupted", "truncated", "not a gzip", "another file", "missing"],
)
def test_a_bad_archive_is_told(root: Path, damage: Callable[[bytes], bytes] | None, found: str) -> None:
    raw = root / "MNIST" / "raw"
    archive = raw / "t10k-labels-idx1-ubyte.gz"
    (raw / "t10k-labels-idx1-ubyte").unlink()
    if damage is None:
        archive.unlink()
    else:
        replace(archive, damage(archive.read_bytes()))

    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="mnist"), root=root)
    (line,) = error.value.lines
    assert line.startswith(f"{archive}: expected a gzip of 10008 bytes with sha256 ff7bcfd416de")
    assert found in line
    assert f"`git checkout -- data/MNIST/raw`, or put an intact copy into {raw}" in line
    assert not leftovers(root)


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="mnist"), root=tmp_path)
    assert [line.split(":")[0] for line in error.value.lines] == [
        str(tmp_path / "MNIST" / "raw" / f"{file}.gz") for file in FILES
    ]


def test_a_bad_archive_names_a_damaged_unpacked_file_too(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    replace(raw / "t10k-labels-idx1-ubyte", b"half")
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"found no such file; and unpacked, as .* found 4 bytes"):
        load_dataset(DataConfig(dataset="mnist"), root=root)


def test_a_folder_that_cannot_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.unlink()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="mnist"), root=root)
    assert str(error.value).startswith(f"{path}: ")
    assert f"Permission denied; make {path.parent} writable" in str(error.value)
    assert not path.exists()
    assert not leftovers(root)


def test_an_interrupted_unpacking_leaves_nothing_half(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            data_files._provide_idx("mnist", root)
    assert not path.exists()
    assert not leftovers(root)
    data_files._provide_idx("mnist", root)
    assert path.exists()


def test_two_processes_unpack_at_once(unpacked: Path, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    link_files(unpacked / "MNIST" / "raw", raw, ".gz")
    script = (
        "import sys; from pathlib import Path; from helpers.foundations.data_files import _provide_idx\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "_provide_idx('mnist', Path(sys.argv[1]))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path],
            cwd=data_files.DATA_ROOT.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert {file: sha256(raw / file) for file in FILES} == data_files._IDX_SHA256["mnist"]
    assert not leftovers(tmp_path)


# Data sets that do not ship


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("fashion_mnist", "FashionMNIST/raw", [f"{file}.gz" for file in FILES]),
        ("kmnist", "KMNIST/raw", [f"{file}.gz" for file in FILES]),
        ("cifar10", "", ["cifar-10-python.tar.gz"]),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError("Tried a mirror,\ngot: 404"), URLError("unreachable"), None])
def test_without_a_network_the_files_to_put_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    folder: str,
    files: list[str],
    error: Exception | None,
) -> None:
    def refuse(*_: object) -> None:
        raise error

    if error is not None:  # else torchvision's own code runs, and finds no network
        monkeypatch.setattr(getattr(datasets, data_files._READER[name]), "download", refuse)
    with pytest.raises(UserError) as raised:
        load_dataset(DataConfig(dataset=name), root=tmp_path)
    (line,) = raised.value.lines
    assert "\n" not in line
    assert f"expected {name}" in line
    assert f"put {', '.join(files)} into {tmp_path / folder}" in line
    assert ("dataset-fashion-mnist" in line) == (name == "fashion_mnist")
    assert not leftovers(tmp_path)


def test_fashion_mnist_of_debian_needs_no_network(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MNIST's digits stand in for the package's clothes; hence their digests.
    link_files(unpacked / "MNIST" / "raw", tmp_path / "debian", ".gz")
    monkeypatch.setitem(data_files._IDX_SHA256, "fashion_mnist", data_files._IDX_SHA256["mnist"])
    root = tmp_path / "data"
    dataset = load_dataset(DataConfig(dataset="fashion_mnist", train_size=10), root=root)
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert sorted(path.name for path in (root / "FashionMNIST" / "raw").iterdir()) == sorted(FILES)


def test_a_damaged_fashion_mnist_is_told_without_a_network(root: Path) -> None:
    # MNIST's files under Fashion-MNIST's names: intact gzips of the wrong content.
    os.rename(root / "MNIST", root / "FashionMNIST")
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="fashion_mnist"), root=root)
    assert len(error.value.lines) == 5
    expected = "expected a gzip of 47040016 bytes with sha256 c59f468a2f67, found a file of mnist"
    assert expected in error.value.lines[0]
    assert error.value.lines[-1].startswith("data.dataset: expected fashion_mnist")


def test_a_download_moves_in_whole(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks = True

    def download(self: datasets.KMNIST) -> None:
        link_files(unpacked / "MNIST" / "raw", Path(self.raw_folder))
        if breaks:
            raise URLError("connection lost")

    monkeypatch.setattr(datasets.KMNIST, "download", download)
    monkeypatch.setitem(data_files._IDX_SHA256, "kmnist", data_files._IDX_SHA256["mnist"])
    config = DataConfig(dataset="kmnist", train_size=10)
    with pytest.raises(UserError, match="connection lost"):
        load_dataset(config, root=tmp_path)
    assert not list(tmp_path.iterdir())
    breaks = False
    assert len(load_dataset(config, root=tmp_path).test) == 10_000
    assert not leftovers(tmp_path)


def test_mnist_under_kmnists_name_is_told(root: Path) -> None:
    """KMNIST's own files are not pinned, and MNIST's fit their names and sizes."""
    os.rename(root / "MNIST", root / "KMNIST")
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="kmnist"), root=root)
    assert len(error.value.lines) == 5
    assert all("found a file of mnist" in line for line in error.value.lines[:4])


@pytest.mark.parametrize(
    ("file", "place", "byte", "found"),
    [
        ("train-labels-idx1-ubyte", 8, 10, "found the label 10, where the classes are 0 to 9"),
        ("t10k-labels-idx1-ubyte", -1, 255, "found the label 255, where the classes are 0 to 9"),
        ("train-images-idx3-ubyte", 3, 4, "found no IDX file"),
    ],
)
def test_files_that_no_digest_pins_are_looked_into(
    root: Path, file: str, place: int, byte: int, found: str
) -> None:
    os.rename(root / "MNIST", root / "KMNIST")
    for name in FILES:
        content = bytearray((root / "KMNIST" / "raw" / name).read_bytes())
        content[20] ^= 1  # so that it is no file of MNIST's, and right in all that can be checked
        if name == file:
            content[place] = byte
        replace(root / "KMNIST" / "raw" / name, content)
        (root / "KMNIST" / "raw" / f"{name}.gz").unlink()
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(dataset="kmnist"), root=root)
    assert [found in line for line in error.value.lines] == [True, False]


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Six small batches in CIFAR-10's format; the training pixels [100, 3, 32, 32] and labels [100]."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    listed, pixels, labels = [], [], []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels.append(generator.integers(0, [[80], [160], [256]], (20, 3, 1024)).astype(np.uint8))
        labels.append(generator.integers(0, 10, 20))
        batch = {"data": pixels[-1].reshape(20, 3072), "labels": labels[-1].tolist()}
        # As in the published files, with flags that NumPy 2.4.0 to 2.4.4 warns of.
        content = pickle.dumps(batch, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
        (folder / name).write_bytes(content)
        listed.append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({"label_names": list("abcdefghij")}, protocol=2)
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[5:])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", hashlib.md5(meta).hexdigest())
    return np.concatenate(pixels[:5]).reshape(100, 3, 32, 32), np.concatenate(labels[:5])


def test_cifar10_keeps_its_channels_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    dataset = load_dataset(DataConfig(dataset="cifar10", validation_size=20), root=tmp_path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (80, 20, 20)
    assert dataset.classes == 10
    used = pixels[dataset.train.index.numpy()] / 255
    mean, std = used.mean((0, 2, 3), keepdims=True), used.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(dataset.train.images, (used - mean) / std, atol=1e-5)
    np.testing.assert_allclose(dataset.background, (-mean / std).ravel(), rtol=1e-5)
    assert dataset.train.labels.tolist() == labels[dataset.train.index.numpy()].tolist()


def test_torchvisions_deprecations_do_not_reach_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    monkeypatch.setattr(
        datasets.CIFAR10, "_load_meta", lambda self: warnings.warn("old", DeprecationWarning, stacklevel=2)
    )
    monkeypatch.setattr(datasets.CIFAR10, "classes", range(10), raising=False)
    assert load_dataset(DataConfig(dataset="cifar10", validation_size=0), root=tmp_path).classes == 10


def test_cifar10s_archive_put_there_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    archive = tmp_path / "data" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    dataset = load_dataset(DataConfig(dataset="cifar10", validation_size=0), root=archive.parent)
    assert len(dataset.train) == 100
    assert not leftovers(archive.parent)


# Shifts


def shift_one_by_one(images: Tensor, pixels: int, background: Tensor, seed: int) -> Tensor:
    """Pixel by pixel, from the same draw: offset 0 … 2·pixels of the window in the padded image."""
    generator = torch.Generator().manual_seed(seed)
    n, _, height, width = images.shape
    top, left = torch.randint(2 * pixels + 1, (2, n), generator=generator)
    shifted = torch.empty_like(images)
    for i in range(n):
        down, right = pixels - top[i].item(), pixels - left[i].item()
        for y in range(height):
            for x in range(width):
                inside = 0 <= y - down < height and 0 <= x - right < width
                shifted[i, :, y, x] = images[i, :, y - down, x - right] if inside else background
    return shifted


@given(
    shape=st.tuples(*(st.integers(1, limit) for limit in (4, 3, 6, 6))),
    pixels=st.integers(0, 7),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=50)
def test_shifts_equal_a_plain_loop(shape: tuple[int, int, int, int], pixels: int, seed: int) -> None:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    before = images.clone()
    background = torch.arange(shape[1]) - 10.0  # another one for each channel
    shifted = shift_images(images, pixels, background, torch.Generator().manual_seed(seed))
    assert torch.equal(shifted, shift_one_by_one(images, pixels, background, seed))
    assert torch.equal(images, before)


def test_zero_pixels_change_and_draw_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    images = torch.randn(5, 3, 8, 8)
    assert torch.equal(shift_images(images, 0, torch.zeros(3), generator), images)
    assert torch.equal(generator.get_state(), state)


def test_offsets_are_uniform_and_independent_on_both_axes() -> None:
    images = torch.zeros(5000, 1, 9, 9)
    images[:, :, 4, 4] = 1
    shifted = shift_images(images, 2, torch.zeros(1), torch.Generator().manual_seed(0))
    _, _, y, x = shifted.nonzero(as_tuple=True)
    counts = ((y - 2) * 5 + x - 2).bincount(minlength=25)
    assert len(counts) == 25
    assert counts.sum() == 5000
    # 200 ± 14 expected of each of the 25 offsets; five deviations either way.
    assert counts.min() > 130
    assert counts.max() < 270


def test_the_generator_decides_the_shifts(mnist: Dataset) -> None:
    images = mnist.train.images[:64]
    generator = torch.Generator().manual_seed(3)
    first, second = (shift_images(images, 2, mnist.background, generator) for _ in range(2))
    again = shift_images(images, 2, mnist.background, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert first.is_contiguous()


def test_a_damaged_archive_of_cifar10_is_told_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half of it")
    os.rename(tmp_path / "cifar-10-batches-py", tmp_path / "elsewhere")
    with pytest.raises(UserError) as raised:
        load_dataset(DataConfig(dataset="cifar10"), root=tmp_path)
    first, second = raised.value.lines
    assert first.startswith(f"{archive}: expected md5 {datasets.CIFAR10.tgz_md5[:12]}, found a damaged file")
    assert second.startswith("data.dataset: expected cifar10")
    os.rename(tmp_path / "elsewhere", tmp_path / "cifar-10-batches-py")
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(b"")
    archive.unlink()
    with pytest.raises(UserError) as raised:
        load_dataset(DataConfig(dataset="cifar10"), root=tmp_path)
    assert [line.split(": ")[0] for line in raised.value.lines] == [str(batch), "data.dataset"]
    assert archive.exists() is False
