"""What several test files share: one thread, real digits in a small helping, small configs, a scheduler."""

import copy
import dataclasses
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from distributed import LocalCluster

from helpers.config.expansion import load_config
from helpers.foundations.columns import COMPUTED, SETTINGS
from helpers.foundations.data import Dataset, Split, load_dataset
from helpers.foundations.datasets import DataConfig
from helpers.foundations.errors import UserError
from helpers.logger import Log
from helpers.running.describing import describe
from helpers.utils import Results, tables

ROOT = Path(__file__).parents[1]
TRAIN = {"type": "train", "epochs": 1, "batch_size": 100}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": "$sparsity"}
TINY = {
    "data": {"dataset": "mnist", "train_size": 1000, "validation_size": 500},
    "net": {
        "layers": [{"type": "flatten"}, {"type": "linear", "units": 16}, {"type": "linear", "units": 10}]
    },
    "seeds": [0, 1],
    "stages": [TRAIN, PRUNE],
    "sweep": {"sparsity": [0, 0.5, 0.9]},
}


def loaded_or_told(path: Path) -> tuple[str, ...]:
    """The lines that a config's mistakes are told in, of which each is one line; none where it has runs."""
    lines: tuple[str, ...] = ()
    try:
        runs = load_config(path).runs
    except UserError as error:
        runs, lines = [], error.lines
    assert bool(runs) != bool(lines)
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in lines)
    return lines


def results_of(config: Path) -> Results:
    """The tables of a config without any record."""
    return tables(Log(runs=json.loads(json.dumps(describe(load_config(config))))), config)


def with_settings(results: pd.DataFrame) -> pd.DataFrame:
    """A made-up frame with the columns of settings: those of the axes of that name, else empty."""
    axes = {"target": "sparsity"}
    given = {name: f"sweep.{axes.get(name, name)}" for name in SETTINGS if name not in results}
    filled = {name: results[axis] for name, axis in given.items() if axis in results}
    results = results.assign(**(dict.fromkeys(given, np.nan) | filled))
    absent = [name for name in COMPUTED if name not in results]
    runs = {} if "run" in results else {"run": [str(place) for place in range(len(results))]}
    return results.assign(**runs, **dict.fromkeys(absent))


@dataclasses.dataclass
class FakeLog:
    """The attributes of Results that tables and figures of distillation read."""

    results: pd.DataFrame
    profile: str = "full"
    curves: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    experiment: str = "fake"
    contrasts: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.results = with_settings(self.results)

    def label(self, column: str, value: Any) -> str:
        """Without labels of its own."""
        return str(value)

    def final(self) -> pd.DataFrame:
        """Every row is a run's last."""
        return self.results.copy()


def linear(units: int = 10, **more: Any) -> dict[str, Any]:
    """A linear layer of a config."""
    return {"type": "linear", "units": units, **more}


def conv(filters: int, kernel: int, **more: Any) -> dict[str, Any]:
    """A convolution of a config."""
    return {"type": "conv2d", "filters": filters, "kernel": kernel, **more}


def without_defaults(network: torch.nn.Module, seed: int) -> None:
    """Draws every bias and every statistic of a batch norm, in place: none has its default."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.bias.normal_(generator=draw)
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                for part in (module.weight, module.running_var):
                    part.uniform_(0.5, 2, generator=draw)
                for part in (module.bias, module.running_mean):
                    part.normal_(generator=draw)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As in a worker: what is computed here compares bit by bit with what is computed there."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """MNIST with 1,000 images to train on, 500 to validate and 1,234 to test: no multiple of a batch."""
    dataset = load_dataset(DataConfig.model_validate(TINY["data"]))
    return dataclasses.replace(dataset, test=Split(*(part[:1234] for part in vars(dataset.test).values())))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., dict[str, Any]]:
    """A config of 2 seeds × 3 sparsities, with these parts changed."""
    return lambda **changes: copy.deepcopy(TINY | changes)


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A dict → a config file of that name in a folder of its own."""

    def write(words: dict[str, Any], name: str = "tiny") -> Path:
        path = tmp_path_factory.mktemp("configs") / f"{name}.json"
        path.write_text(json.dumps(words))
        return path

    return write


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with two workers, for tests that are not about the engine."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
        scheduler_kwargs={"dashboard": False}, silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def command_line() -> Callable[..., subprocess.CompletedProcess[str]]:
    """python -m helpers.experiment with these words, as a user would call it."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "helpers.experiment", *map(str, words)]
        # Read as the terminal would that the test imagines.
        encoding = os.environ.get("PYTHONIOENCODING")
        return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, encoding=encoding, timeout=300)

    return run


@pytest.fixture(scope="session")
def same_tables() -> Callable[[Any, Any], None]:
    """Asserts that two Results agree in every bit, in every table, wall_s aside."""

    def check(one: Any, other: Any) -> None:
        for table in ("results", "curves"):
            left, right = (getattr(found, table).drop(columns="wall_s") for found in (one, other))
            pd.testing.assert_frame_equal(left, right, check_exact=True)
        assert one.arrays.keys() == other.arrays.keys()
        for key, arrays in one.arrays.items():
            assert arrays.keys() == other.arrays[key].keys()
            for name, array in arrays.items():
                assert array.tobytes() == other.arrays[key][name].tobytes(), f"{key} {name}"

    return check
