"""Mini-helpers for the notebook: logs as pandas tables."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import UserError
from .files import user_path
from .logger import CURVE_COLUMNS, Log, Record, read_log

RUN_COLUMNS = ["experiment", "arm", "seed", "run", "result", "stage", "stage_name", "type", "round", "status"]
MEASURED = [
    "val_loss", "val_accuracy", "test_loss", "test_accuracy", "test_errors",
    "sparsity", "sparsity_all", "effective_sparsity", "unit_sparsity", "filter_sparsity",
    "params", "macs", "epochs", "train_flops", "wall_s",
]  # fmt: skip
"""Columns of `results` that every log has, empty where a stage failed."""


@dataclass
class Results:
    """An experiment's tables, as its config is now."""

    experiment: str
    profile: str
    results: pd.DataFrame
    """A row a run and a stage."""
    curves: pd.DataFrame
    """A row a run and a logged step."""
    arrays: dict[str, dict[str, np.ndarray]]
    """Small named arrays by stage result (column `result`): confusion, keep_by_layer, input_map, …"""
    net: list[dict[str, Any]]
    """The architecture, a dict a layer from the input on: layer, type, output_shape, params, macs, …"""
    path: Path
    loaded: int = 0
    """Runs whose results were all there."""
    computed: int = 0
    """Runs of which some result was computed in this call."""
    trained: int = 0
    """Train stages that ran in this call."""
    failed: dict[str, str] = field(default_factory=dict)
    """Tracebacks by task, of what failed in this call."""

    def final(self) -> pd.DataFrame:
        """The rows of each run's last stage."""
        return self.results[self.results["result"] == self.results["run"]].reset_index(drop=True)

    def __repr__(self) -> str:
        here = Path.cwd()
        path = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        diverged = self.final()["status"].eq("diverged").sum()
        mishaps = f", {diverged} diverged" if diverged else ""
        mishaps += f", {len(self.failed)} tasks failed" if self.failed else ""
        return (
            f"{self.experiment} ({self.profile}): {len(self.final())} runs, {self.loaded} loaded, "
            f"{self.computed} computed, {self.trained} train stages trained{mishaps} → {path}"
        )


def load_log(path: str | Path) -> Results:
    """The tables of a log: the runs of its config file, as that was when it last ran without overrides.

    What has not been computed has the status `missing`. Raises UserError where the file is missing or
    damaged.
    """
    path = user_path(path)
    log = read_log(path)
    if not log.runs:
        raise UserError(f"{path}: expected a log, found nothing there; run the experiment first")
    found = tables(log, path)
    found.loaded = int(found.final()["status"].ne("missing").sum())
    return found


def tables(log: Log, path: Path) -> Results:
    """Records, seen from the runs that share them."""
    plan = log.runs
    rows: list[dict[str, Any]] = []
    curves: list[tuple[str, int, int, dict[str, np.ndarray]]] = []
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for run in plan["runs"]:
        last = run["steps"][-1][0]
        axes = {f"sweep.{axis}": _cell(run["axes"].get(axis)) for axis in plan["axes"]}
        broken = None
        for index, (key, kind, name, round_) in enumerate(run["steps"]):
            record = log.records.get(key)
            broken = broken or _status(record)
            head = (
                plan["experiment"],
                run["arm"],
                run["seed"],
                last,
                key,
                index,
                name,
                kind,
                round_,
                broken or "ok",
            )
            row = dict(zip(RUN_COLUMNS, head, strict=True)) | axes
            rows.append(row | ({k: v for k, v in record.row.items() if k != "status"} if record else {}))
            if record is None:
                continue
            arrays[key] = record.arrays
            if record.curves:
                curves.append((last, run["seed"], index, record.curves))
    results = pd.DataFrame(rows)
    # Where every run failed, nothing was measured; tables and figures then say so themselves.
    results = results.reindex(columns=list(dict.fromkeys([*results.columns, *MEASURED])))
    return Results(
        plan["experiment"], plan["profile"], results, _end_to_end(curves), arrays, plan["net"], path
    )


def _cell(value: Any) -> Any:
    """An axis's value as a table can group by it: objects and lists become their canonical JSON text."""
    if not isinstance(value, dict | list):
        return value
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _canonical(value: Any) -> Any:
    """Plain values in one form, as in the hashes: 1.0 is 1, and what is null is left out."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _end_to_end(curves: list[tuple[str, int, int, dict[str, np.ndarray]]]) -> pd.DataFrame:
    """Curves (run, seed, stage, columns) as one table; thousands of them in a moment."""
    lengths = [len(columns["step"]) for *_, columns in curves]
    heads = zip(*(head for *head, _ in curves), strict=True) if curves else ((), (), ())
    table = {
        name: np.repeat(np.array(values), lengths)
        for name, values in zip(("run", "seed", "stage"), heads, strict=True)
    }
    for name in CURVE_COLUMNS:
        table[name] = np.concatenate([columns[name] for *_, columns in curves]) if curves else np.empty(0)
    return pd.DataFrame(table)


def _status(record: Record | None) -> str | None:
    """What keeps a run from going on after this record: missing, diverged, failed, or nothing."""
    if record is None:
        return "missing"
    return None if record.row["status"] == "ok" else record.row["status"]
