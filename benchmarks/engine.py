"""What the engine costs: throughput of two workers, overhead, planning, memory of the parent.

Throughput is compared, in one call and interleaved, with two processes that each perform half of
the same tasks without an engine: what the machine can give at best. All times are wall-clock and
contain starting the processes.

    python -m benchmarks.engine
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from helpers.config.expansion import load_config
from helpers.experiment import run_experiment
from helpers.logger import Log
from helpers.running.planning import make_plan
from helpers.running.tasks import perform

FOLDER = Path(__file__).parent


def config(folder: Path, name: str, units: int, seeds: int, train_size: int, **train: Any) -> Path:
    """A config with one hidden layer, written to the folder: train, then prune to half."""
    words = {
        "data": {"dataset": "mnist", "validation_size": 500, "train_size": train_size},
        "net": {
            "layers": [
                {"type": "flatten"},
                {"type": "linear", "units": units},
                {"type": "linear", "units": 10},
            ]
        },
        "seeds": list(range(seeds)),
        "stages": [
            {"type": "train", **train},
            {"type": "prune", "kind": "weight", "sparsity": "$sparsity"},
        ],
        "sweep": {"sparsity": [0.5]},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(words))
    return path


def seconds_of(path: Path, out: Path, workers: int) -> float:
    """Wall-clock seconds of an experiment from nothing, in a process of its own."""
    command = [sys.executable, "-m", "helpers.experiment", path, "--out", out, "--workers", str(workers)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=FOLDER.parent)
    return time.perf_counter() - started


def seconds_without_engine(path: Path, out: Path, processes: int) -> float:
    """The same tasks, dealt out to independent processes that perform theirs one after the other."""
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine", "--perform", f"{path},{out},{part},{processes}"],
            cwd=FOLDER.parent,
        )
        for part in range(processes)
    ]
    for process in running:
        assert process.wait() == 0
    return time.perf_counter() - started


def perform_part(path: str, out: str, part: str, parts: str) -> None:
    """What one of the independent processes does."""
    networks = Path(out) / "networks"
    networks.mkdir(parents=True, exist_ok=True)
    experiment = load_config(path)
    mine = {run.hashes[0] for run in experiment.runs[int(part) :: int(parts)]}
    for task in make_plan(experiment, Log(), networks).tasks:
        if task.hashes[0] in mine:
            perform(task)


def throughput(folder: Path, repetitions: int) -> dict[str, Any]:
    """Two workers against one, and against two independent processes."""
    path = config(folder, "throughput", 600, 8, 50_000, epochs=15, batch_size=100)
    times: dict[str, list[float]] = {"one worker": [], "two workers": [], "two processes": []}
    for repetition in range(repetitions):
        for workers, name in ((1, "one worker"), (2, "two workers")):
            times[name].append(seconds_of(path, folder / f"{name}-{repetition}", workers))
        times["two processes"].append(seconds_without_engine(path, folder / f"bare-{repetition}", 2))
    median = {name: statistics.median(values) for name, values in times.items()}
    found = run_experiment(path, out=folder / "one worker-0")
    compute = found.final()["wall_s"].sum()
    started = time.perf_counter()
    run_experiment(path, out=folder / "two workers-0")
    loaded = (time.perf_counter() - started) / len(found.final())
    return {
        "runs": len(found.final()),
        "seconds_a_run": compute / len(found.final()),
        "two_over_one": median["one worker"] / median["two workers"],
        "share_of_two_processes": median["two processes"] / median["two workers"],
        "overhead": median["one worker"] / seconds_without_engine(path, folder / "bare-one", 1) - 1,
        "finished_run_s": loaded,
        "all": times,
    }


def planning(folder: Path) -> dict[str, float]:
    """Seconds to expand and plan 1,000 and 10,000 runs."""
    found = {}
    for runs in (1000, 10_000):
        path = config(folder, f"plan_{runs}", 300, runs, 50_000, epochs=1)
        started = time.perf_counter()
        make_plan(load_config(path), Log(), folder)
        found[f"plan_{runs}_s"] = time.perf_counter() - started
    return found


def parent_memory(folder: Path) -> dict[str, float]:
    """Largest resident memory of the parent, MB, after 50 and after 500 tiny runs."""
    found = {}
    for runs in (50, 500):
        path = config(folder, f"memory_{runs}", 10, runs, 500, steps=1)
        code = (
            "import resource, sys; from helpers.experiment import main; "
            f"main([{str(path)!r}, '--out', {str(folder / str(runs))!r}]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=FOLDER.parent
        )
        found[f"parent_{runs}_runs_mb"] = int(done.stdout.split()[-1]) / 1024
    return found


def main() -> None:
    """Print what was found and keep it beside this file as JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.engine", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--perform", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.perform:
        perform_part(*options.perform.split(","))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = planning(folder) | parent_memory(folder) | throughput(folder, options.repetitions)
    for name, value in found.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    (FOLDER / "engine.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
