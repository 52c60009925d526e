"""Small made-up logs, in the form in which `load_log` gives real ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.foundations.columns import MEASURED, RUN_COLUMNS, SETTINGS
from helpers.utils import Results

NET = [
    {"layer": name, "output_shape": shape}
    for name, shape in {"input": [1, 2, 2], "linear_1": [31], "linear_2": [10]}.items()
]
SIZES = (31 * 4, 10 * 31)
"""Weights of four pixels, 31 units, ten classes: neither ends with a byte."""

LEVELS = (1, 0.512, 0.211, 0.135, 0.07, 0.036, 0.019)
STEPS = np.arange(50, 3001, 50)
Truth = Callable[[str, float, int], tuple[int, float, float]]
"""From arm, share kept and seed to the early-stop step, the test accuracy there, and that at the end."""


def run(name: str, *stages: Mapping[str, Any], **words: Any) -> list[dict[str, Any]]:
    """A run's rows: a stage each, with the words of all; a result is NAME-PLACE where its stage says none."""
    rows = [
        words | {"stage": place, "stage_name": stage["type"], "result": f"{name}-{place}"} | dict(stage)
        for place, stage in enumerate(stages)
    ]
    return [row | {"run": rows[-1]["result"]} for row in rows]


def make_log(
    rows: Iterable[Mapping[str, Any]],
    curves: Sequence[pd.DataFrame] = (),
    arrays: dict[str, dict[str, np.ndarray]] | None = None,
    **words: Any,
) -> Results:
    """A log of these rows; what they leave out is empty, but for experiment, arm, seed and status."""
    table = pd.DataFrame(rows)
    common = {"experiment": "fake", "arm": "main", "seed": 0, "status": "ok"}
    absent = [name for name in (*RUN_COLUMNS, *SETTINGS, *MEASURED) if name not in table]
    table = table.assign(**dict.fromkeys(absent, np.nan))
    table = table.assign(**{name: table[name].astype(object).fillna(value) for name, value in common.items()})
    table["seed"] = table["seed"].astype(int)
    curves = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    return Results("fake", "full", table, curves, arrays or {}, NET, Path("logs/fake.hdf5"), **words)


def curve(run: str, stage: int = 0, seed: int = 0, **columns: Any) -> pd.DataFrame:
    """The logged steps of a training; columns are those of `curves`."""
    blank = {"epoch": 0.0, "lr": 0.1, "train_loss": 0.5, "train_accuracy": 0.5, "val_loss": 0.5}
    blank |= {"val_accuracy": 0.5, "test_loss": 0.5, "test_accuracy": 0.5, "wall_s": 0.0}
    return pd.DataFrame({"run": run, "seed": seed, "stage": stage, "step": STEPS} | blank | columns)


def as_told(arm: str, kept: float, seed: int) -> tuple[int, float, float]:
    """An early stop, and the accuracies, that tell arms, levels and seeds apart."""
    step = 1000 + 100 * seed - (400 if kept < 1 else 0) + 50 * (len(arm) % 5)
    return step, 0.9 + 0.01 * kept + 0.001 * seed, 0.8 + 0.01 * kept + 0.001 * seed + 0.0001 * len(arm)


def ticket_log(
    arms: Mapping[str, Iterable[int]], truth: Truth = as_told, levels: Sequence[float] = LEVELS
) -> Results:
    """Iterative pruning with rewinding, by arm and seed: one whose name begins with "own" has its own rounds.

    Its run goes down through all levels; others have a run a level, with the rounds of the first arm.
    """
    first, rows, curves, arrays = next(iter(arms)), [], [], {}
    for arm, seed in ((arm, seed) for arm, seeds in arms.items() for seed in seeds):
        is_own = arm.startswith("own")
        for last in levels[-1:] if is_own else levels[1:]:
            path = [level for level in levels if level >= last]
            owner = arm if is_own else first
            stages = [(owner, kind, level) for level in path for kind in ("rewind", "train")][1:]
            stages = stages if is_own else [*stages[:-2], (arm, "rewind", last), (arm, "train", last)]
            names = [f"{of}-{kind}-{kept}-{seed}" for of, kind, kept in stages]
            told = [
                {"type": kind, "result": name, "sparsity_all": 1 - kept}
                for name, (_, kind, kept) in zip(names, stages, strict=True)
            ]
            rows += run("", *told, arm=arm, seed=seed)
            for stage, (name, (of, kind, kept)) in enumerate(zip(names, stages, strict=True)):
                arrays[name] = recorded(of, kept, seed)
                if kind == "train":
                    curves.append(learning(names[-1], stage, seed, *truth(of, kept, seed)))
    return make_log(rows, curves, arrays)


def learning(run: str, stage: int, seed: int, step: int, early: float, end: float) -> pd.DataFrame:
    """Least validation loss at `step`, with test accuracy `early` there and `end` at the end."""
    test = np.where(step == STEPS, early, 0.5)
    test[-1] = end
    loss = 0.1 + np.abs(STEPS - step) / 1e4
    return curve(run, stage, seed, val_loss=loss, val_accuracy=0.97 - loss / 10, test_accuracy=test)


def mask(owner: str, kept: float, seed: int) -> list[np.ndarray]:
    """A random mask by layer."""
    random = np.random.default_rng([seed, round(1e4 * kept), sum(owner.encode())])
    counts = [max(1, round(kept * size)) for size in SIZES]
    return [random.permutation(size) < count for size, count in zip(SIZES, counts, strict=True)]


def recorded(owner: str, kept: float, seed: int) -> dict[str, np.ndarray]:
    """What is recorded of a rewound network, and a trained one's confusion; masks of sparse ones alone."""
    found = mask(owner, kept, seed)
    arrays = {
        "confusion": np.full((10, 10), 1, np.int32) + np.diag(np.arange(10) + 90 + seed),
        "layer_names": np.array([b"linear_1", b"linear_2"]),
        "keep_by_layer": np.array([layer.mean() for layer in found]),
        "alive_by_layer": np.array([31 * kept, 5]),
        "weights_by_layer": np.array(SIZES, np.int32),
    }
    return arrays | ({"mask_bits": np.packbits(np.concatenate(found))} if kept < 0.25 else {})
