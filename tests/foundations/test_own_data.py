"""Images of one's own: what a file may hold, how it is identified, and what is told of one that is unfit."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch

from helpers.config.expansion import load_config
from helpers.experiment import load_network, run_experiment
from helpers.foundations.data import load_dataset
from helpers.foundations.datasets import DATA_ROOT, DataConfig, dataset_info
from helpers.foundations.errors import UserError
from helpers.foundations.own_data import read_own

NET = {"layers": [{"type": "flatten"}, {"type": "linear", "units": 8}, {"type": "linear", "units": 3}]}


def images(n: int, channels: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise around a brightness that tells the class, 0 to 2."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    shape = (n, channels, 6, 5) if channels else (n, 6, 5)
    pixels = draw.integers(0, 60, shape) + 70 * labels.reshape(-1, *[1] * (len(shape) - 1))
    return pixels.astype(np.uint8), labels


@pytest.fixture
def own() -> Iterator[Callable[..., Path]]:
    """Writes a file of one's own into data/ and takes it away again."""
    path = DATA_ROOT / f"own-{uuid4().hex}.npz"

    def write(channels: int = 0, **changes: np.ndarray | None) -> Path:
        train, test = images(60, channels), images(30, channels, 1)
        arrays = {"train_images": train[0], "train_labels": train[1]}
        arrays |= {"test_images": test[0], "test_labels": test[1]} | changes
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    yield write
    path.unlink(missing_ok=True)


def config_of(path: Path, **data: object) -> dict:
    return {
        "data": {"dataset": path.name, "validation_size": 12, **data},
        "net": NET,
        "stages": [
            {"type": "train", "steps": 120, "batch_size": 10, "optimizer": {"type": "adam", "lr": 0.01}}
        ],
    }


@pytest.mark.parametrize("channels", [0, 2])
def test_a_file_of_ones_own_is_split_and_normalised_like_any_other(
    own: Callable[..., Path], channels: int
) -> None:
    path = own(channels)
    data = load_dataset(DataConfig(dataset=path.name, validation_size=12))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48, 12, 30]
    assert data.train.images.shape[1:] == (channels or 1, 6, 5)
    assert dataset_info(path.name) == ((channels or 1, 6, 5), 3, 60)
    assert data.train.images.mean().abs() < 1e-5
    raw, labels = images(60, channels)
    back = data.train.images * data.std.view(1, -1, 1, 1) + data.mean.view(1, -1, 1, 1)
    there = torch.from_numpy(raw).view(60, -1, 6, 5)[data.train.index]
    torch.testing.assert_close(back * 255, there.float(), atol=1e-3, rtol=0)
    assert data.train.labels.tolist() == labels[data.train.index].tolist()


def test_it_trains_and_its_network_comes_back(own, write_config, tmp_path) -> None:
    config = write_config(config_of(own()), "own")
    last = run_experiment(config, out=tmp_path).final().iloc[0]
    assert last["test_accuracy"] > 0.9
    assert last["dataset"].endswith(".npz")
    network = load_network(last["run"], tmp_path)
    data = load_dataset(load_config(config).runs[0].data)
    predicted = network(data.test.images).argmax(1)
    assert (predicted == data.test.labels).double().mean().item() == pytest.approx(last["test_accuracy"])


def test_other_content_is_another_result_and_the_same_in_another_file_is_not(own, write_config) -> None:
    path = own()
    before = load_config(write_config(config_of(path), "own")).runs[0].hashes
    np.savez(path, **dict(np.load(path)))  # the same arrays, written anew
    assert load_config(write_config(config_of(path), "own")).runs[0].hashes == before
    own(train_images=images(60, seed=5)[0])
    assert load_config(write_config(config_of(path), "own")).runs[0].hashes != before


LABELS = images(60)[1]
UNFIT = [
    ({"test_labels": None}, "found no test_labels"),
    ({"train_images": images(60)[0].astype(float)}, "train_images: expected uint8"),
    ({"train_images": images(60)[0].reshape(60, 30)}, r"found uint8 \[60, 30\]"),
    ({"train_labels": LABELS[:50]}, "expected 60 whole numbers, one an image"),
    ({"train_labels": LABELS / 2}, "train_labels: expected 60 whole numbers"),
    ({"test_labels": np.full(30, 7)}, "test_labels: expected labels from 0 to 2"),
    ({"train_labels": LABELS - 1}, "train_labels: expected labels from 0"),
    ({"test_images": np.zeros((30, 5, 5), np.uint8)}, r"test_images: expected \[1, 6, 5\] as in training"),
]


@pytest.mark.parametrize(("changes", "message"), UNFIT, ids=[message[:24] for _, message in UNFIT])
def test_what_is_wrong_with_a_file_is_told_before_anything_runs(
    own, write_config, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message) as told:
        load_config(write_config(config_of(own(**changes)), "own"))
    assert all("data" in line for line in told.value.lines)


def test_a_missing_or_damaged_file_and_one_elsewhere_are_told(own, write_config) -> None:
    path = own()
    path.write_bytes(path.read_bytes()[:200])
    for name, message in (
        (path.name, "expected a .npz of train_images"),
        ("absent.npz", "found: No such file or directory"),
        ("../absent.npz", "expected the name of a file in"),
        ("mnst", "unknown 'mnst'; did you mean 'mnist'"),
    ):
        with pytest.raises(UserError, match=message) as told:
            load_config(write_config(config_of(Path("x")) | {"data": {"dataset": name}}, "own"))
        assert len(told.value.lines) == 1


def test_a_file_that_has_changed_since_is_not_taken_for_what_it_was(own) -> None:
    path = own()
    before = DataConfig(dataset=path.name, validation_size=12)
    own(train_images=images(60, seed=5)[0])
    with pytest.raises(UserError, match="expected the images that the result was computed with"):
        load_dataset(before)


def test_a_file_is_read_once(own) -> None:
    path = own()
    assert read_own(path) is read_own(path)
