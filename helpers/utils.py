"""Mini-helpers for the notebook: logs as pandas tables."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .foundations.columns import COMPUTED, CURVE_COLUMNS, MEASURED, NUMBERS, RUN_COLUMNS, SETTINGS, value_text
from .foundations.errors import UserError
from .foundations.files import user_path
from .foundations.terminal import say
from .logger import Log, Record, read_log

_NO_VALUE = object()


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
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the config calls axes, factors and columns, arms among them (`name`), and their `values`."""
    contrasts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the config compares, by key: arms `of` and `less`, `claim`, `measure`, `planned`, `planned_in`."""
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

    def label(self, column: str, value: Any = _NO_VALUE) -> str:
        """What the config calls a column, or one of its values; else the column, or the value's text.

        An empty value is "".
        """
        words = self.labels.get(column.removeprefix("sweep."), {})
        if value is _NO_VALUE:
            return words.get("name", column)
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or value != value:  # NaN, which an empty cell of a column of numbers is
            return ""
        text = value_text(value)
        return words.get("values", {}).get(text, text)

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
    if "settings" not in log.runs:
        say(
            f"{path}: has no settings (lr, criterion, …) yet; run its experiment once, which computes nothing"
        )
    found = tables(log, path)
    found.loaded = int(found.final()["status"].ne("missing").sum())
    return found


def tables(log: Log, path: Path) -> Results:
    """Records, seen from the runs that share them."""
    plan = log.runs
    settings = _settings(plan)
    meaning = {"labels": {}, "factors": {}, "contrasts": {}} | plan.get("meaning", {})
    factors = {name: None for words in meaning["factors"].values() for name in words}
    rows: list[dict[str, Any]] = []
    curves: list[tuple[str, int, int, dict[str, np.ndarray]]] = []
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for run in plan["runs"]:
        last = run["steps"][-1][0]
        axes = {f"sweep.{axis}": _cell(run["axes"].get(axis)) for axis in plan["axes"]}
        broken = None
        own = factors | meaning["factors"].get(run["arm"], {})
        places = run.get("settings", [0] * len(run["steps"]))
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
            row = dict(zip(RUN_COLUMNS, head, strict=True)) | axes | settings[places[index]] | own
            if record is None:
                rows.append(row)
                continue
            measured = {name: value for name, value in record.row.items() if name != "status"}
            rows.append(row | measured | computed_with(record, row["precision"]))
            arrays[key] = record.arrays
            if record.curves:
                curves.append((last, run["seed"], index, record.curves))
    results = pd.DataFrame(rows)
    # Where every run failed, nothing was measured; tables and figures then say so themselves.
    results = results.reindex(columns=list(dict.fromkeys([*results.columns, *MEASURED, *COMPUTED])))
    # Without any value too, a column of numbers can be compared with one.
    results = results.astype({name: float for name in NUMBERS if results[name].isna().all()})
    return Results(
        plan["experiment"], plan["profile"], results, _end_to_end(curves), arrays, plan["net"], path,
        meaning["labels"], meaning["contrasts"],
    )  # fmt: skip


def computed_with(record: Record, precision: str | None) -> dict[str, Any]:
    """Where and with what a result was computed; `precision` is what the config asks for."""
    found = record.provenance
    # Records of the first days tell no precision; float32 is what every processor has.
    used = found.get("precision", precision if precision == "float32" else None)
    versions = ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())
    words = {name: found.get(name) for name in ("machine", "device", "threads")}
    return words | {"used_precision": used, "versions": versions or None}


def _settings(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of settings that a log keeps; an empty one where it was written before they were kept."""
    nothing: dict[str, Any] = dict.fromkeys(SETTINGS)
    kept = plan.get("settings", {"columns": [], "rows": [[]]})
    return [nothing | dict(zip(kept["columns"], row, strict=True)) for row in kept["rows"]]


def _cell(value: Any) -> Any:
    """An axis's value as a table can group by it: objects and lists become their JSON text."""
    return value_text(value) if isinstance(value, dict | list) else value


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
