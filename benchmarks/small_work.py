"""What a small experiment costs beside its own time: 20 steps, with and without workers, interleaved.

By the command line everything is counted, the start of Python too; again in one process, what a call
takes beyond the time of its training.

    python -m benchmarks.small_work
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.engine import FOLDER, config
from helpers.experiment import run_experiment
from helpers.running.provenance import machine, versions


def from_nothing(path: Path, out: Path, workers: int | None) -> float:
    """Seconds of the command line; without `workers` it may do the work itself."""
    command = [sys.executable, "-m", "helpers.experiment", path, "--out", out]
    command += ["--workers", str(workers)] if workers else []
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=FOLDER.parent)
    return time.perf_counter() - started


def again(path: Path, out: Path, workers: int | None, repetitions: int) -> list[float]:
    """Seconds of calls beyond their training, in this process, after a first that loads or starts things."""
    found = []
    for steps in range(20, 21 + repetitions):
        started = time.perf_counter()
        rows = run_experiment(path, overrides=[f"train.steps={steps}"], out=out, workers=workers).final()
        found.append(time.perf_counter() - started - rows["wall_s"].max())
    return found[1:]


def main() -> None:
    """Print what was found and keep it beside this file as JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.small_work", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = config(folder, "small", 16, 1, 600, steps=20, batch_size=50)
        times: dict[str, list[float]] = {"from_nothing_here": [], "from_nothing_workers": []}
        for i in range(repetitions):
            times["from_nothing_here"].append(from_nothing(path, folder / f"here-{i}", None))
            times["from_nothing_workers"].append(from_nothing(path, folder / f"workers-{i}", 1))
        times["again_here"] = again(path, folder / "here", None, repetitions)
        times["again_workers"] = again(path, folder / "workers", 1, repetitions)
    found = {f"{name}_s": statistics.median(values) for name, values in times.items()}
    found |= {"repetitions": repetitions, "machine": machine(), "versions": versions(), "all": times}
    for name, value in found.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    (FOLDER / "small_work.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
