"""README's tables of the benchmarks, from their JSON files."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.analysis.tables import Table

FOLDER = Path(__file__).resolve().parent


def benchmark_tables() -> dict[str, str]:
    """The Markdown of every benchmark's table, by its name."""
    tables = {
        "training_step": training_step(_read("training_step")),
        "distill_step": distill_step(_read("distill_step")),
        "engine": engine(_read("engine")),
        "small_work": small_work(_read("small_work")),
        "reconstruct": reconstruct(_read("reconstruct")),
    }
    return {name: Table(table).markdown() for name, table in tables.items()}


def _read(name: str) -> dict[str, Any]:
    """What a benchmark found."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def training_step(found: dict[str, Any]) -> pd.DataFrame:
    """What benchmarks/training_step.py found: seconds an epoch, ratio, share of the peak."""
    rows = [
        {
            "network": row["network"],
            "batch": row["batch_size"],
            "dojo, s an epoch": f"{row['dojo_s']:.2f}",
            "DataLoader loop, s": f"{row['loader_s']:.2f} ({row['loader_workers']} workers)",
            "ratio": f"{row['ratio']:.2f}",
            "ceiling": f"{row['ceiling']:.2f}",
            "share of the peak": f"{row['share_of_peak']:.0%}",
        }
        for row in found["rows"]
    ]
    return pd.DataFrame(rows).set_index("network")


def engine(found: dict[str, Any]) -> pd.DataFrame:
    """What benchmarks/engine.py found."""
    both = found["parent_50_runs_mb"], found["parent_500_runs_mb"]
    rows = {
        "two workers over one, throughput": f"{found['two_over_one']:.2f} ×",
        "two workers, share of two processes without an engine": f"{found['share_of_two_processes']:.0%}",
        "one worker, time above that of one process without an engine": f"{found['overhead']:+.1%}",
        "a finished run": f"{1000 * found['finished_run_s']:.0f} ms",
        "planning 1,000 and 10,000 runs": f"{found['plan_1000_s']:.2f} s and {found['plan_10000_s']:.2f} s",
        "memory of the parent, 50 and 500 runs": f"{both[0]:.0f} MB and {both[1]:.0f} MB",
    }
    return pd.DataFrame({"measured": rows}).rename_axis("quantity")


def small_work(found: dict[str, Any]) -> pd.DataFrame:
    """What benchmarks/small_work.py found: seconds of an experiment of 20 steps."""
    rows = {
        "by the command line, from nothing, s": ("from_nothing_here_s", "from_nothing_workers_s"),
        "again in one process, beyond its training, s": ("again_here_s", "again_workers_s"),
    }
    columns = ("in the calling process", "on a worker")
    table = {
        name: dict(zip(columns, (f"{found[key]:.2f}" for key in keys), strict=True))
        for name, keys in rows.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("20 steps")


def distill_step(found: dict[str, Any]) -> pd.DataFrame:
    """What benchmarks/distill_step.py found: seconds an epoch without and with a teacher."""
    rows = [
        {
            "student": row["student"],
            "without a teacher, s an epoch": f"{row['seconds']['none']:.2f}",
            "teacher's logits kept": f"{row['cached_ratio']:.2f} ×",
            "teacher live, both on shifted images": f"{row['live_ratio']:.2f} ×",
        }
        for row in found["rows"]
    ]
    return pd.DataFrame(rows).set_index("student")


def reconstruct(found: dict[str, Any]) -> pd.DataFrame:
    """What benchmarks/reconstruct.py found: seconds and memory of a reconstruct stage."""
    rows = [
        {
            "pruned": f"{100 * row['sparsity']:g} % of {row['kind']}s",
            "method": row["method"],
            "seconds": f"{row['seconds']:.0f}",
            "memory before, MB": f"{row['before_mb']:.0f}",
            "at its peak, MB": f"{row['peak_mb']:.0f}",
        }
        for row in found["rows"]
    ]
    return pd.DataFrame(rows).set_index("pruned")
