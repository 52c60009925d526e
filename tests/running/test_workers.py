"""Workers that stay, small work at once, clusters that grow: the same tables to the last bit."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from conftest import ROOT
from distributed import LocalCluster

from helpers.config.expansion import load_config
from helpers.experiment import run_experiment
from helpers.logger import Log
from helpers.running import engine, workers
from helpers.running.costs import longest_chain, seconds_of
from helpers.running.engine import execute
from helpers.running.planning import make_plan
from helpers.running.progress import Bar
from helpers.running.tasks import Task, TaskResult, perform
from helpers.utils import load_log

TRAIN = {"type": "train", "epochs": 1, "batch_size": 100}
LONG = {"type": "train", "epochs": 40, "batch_size": 10}


@pytest.fixture(autouse=True, scope="module")
def _no_workers_left() -> Iterator[None]:
    yield
    workers.end_workers()


def pids() -> set[int]:
    """Processes of our own workers."""
    return {nanny.pid for nanny in workers._own.cluster.workers.values()} if workers._own else set()


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def config(tiny: Callable, write_config: Callable) -> Path:
    return write_config(tiny())


# Workers that stay


def test_workers_outlive_a_call_and_are_rescaled(config: Path, tmp_path: Path, same_tables: Callable) -> None:
    first = run_experiment(config, out=tmp_path / "a", workers=1)
    (one,) = pids()
    same_tables(run_experiment(config, out=tmp_path / "b", workers=1), first)
    assert pids() == {one}
    same_tables(run_experiment(config, out=tmp_path / "c", workers=2), first)
    assert one in pids()
    assert len(pids()) == 2
    same_tables(run_experiment(config, out=tmp_path / "d"), first)  # those that run do small work, too
    assert len(pids()) == 2
    same_tables(run_experiment(config, out=tmp_path / "e", workers=1), first)
    wait_for(lambda: len(pids()) == 1)


@pytest.mark.parametrize("change", ["code", "setting"])
def test_workers_are_started_anew_where_code_or_settings_have_changed(
    config: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiment(config, out=tmp_path / "a", workers=1)
    before = pids()
    new = ROOT / "helpers" / "methods" / "scratch_of_a_test.py"
    try:
        if change == "code":
            new.write_text("# another file\n")
        else:
            monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
        run_experiment(config, out=tmp_path / "b", workers=1)
        assert not pids() & before
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in before))
    finally:
        new.unlink(missing_ok=True)


def test_a_worker_that_died_between_two_calls_is_replaced(
    config: Path, tmp_path: Path, same_tables: Callable
) -> None:
    first = run_experiment(config, out=tmp_path / "a", workers=1)
    environment = dict(os.environ)
    (dead,) = pids()
    os.kill(dead, signal.SIGKILL)
    same_tables(run_experiment(config, out=tmp_path / "b", workers=1), first)
    wait_for(lambda: pids() and dead not in pids())
    assert dict(os.environ) == environment  # Dask would set variables at every start


def test_an_interrupt_ends_the_workers_and_the_next_call_starts_others(
    tiny: Callable, write_config: Callable, tmp_path: Path
) -> None:
    long = write_config(tiny(stages=[LONG], sweep={}))
    seen: set[int] = set()

    def interrupt() -> None:
        seen.update(pids())
        os.kill(os.getpid(), signal.SIGINT)

    run_experiment(long, out=tmp_path, workers=1, overrides=["train.epochs=1"])
    threading.Timer(3, interrupt).start()
    # A shell that starts the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_experiment(long, out=tmp_path, workers=1, overrides=["train.epochs=4000"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen
    assert workers._own is None
    family = [child for child in psutil.Process().children(recursive=True) if child.pid in seen]
    assert not psutil.wait_procs(family, timeout=10)[1]
    found = run_experiment(long, out=tmp_path, workers=1, overrides=["train.epochs=2"])
    assert set(found.results["status"]) == {"ok"}


CALLS = """
import os, sys, time
from helpers.experiment import run_experiment
run_experiment(sys.argv[1], out=sys.argv[2], workers=2)
own = sys.modules["helpers.running.workers"]._own
print(*(nanny.pid for nanny in own.cluster.workers.values()), flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["pass", "time.sleep(60)", "1 / 0"])
def test_no_worker_is_an_orphan(config: Path, tmp_path: Path, end: str) -> None:
    """After the end of a script, an error in it, or SIGKILL."""
    call = [sys.executable, "-c", CALLS.format(end=end), config, tmp_path]
    process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    family: list[psutil.Process] = []
    for line in process.stdout:
        if line.strip().replace(" ", "").isdigit():
            family = [psutil.Process(int(pid)) for pid in line.split() if psutil.pid_exists(int(pid))]
            break
    if "sleep" in end:
        assert len(family) == 2
        process.kill()
    _, said = process.communicate(timeout=60)
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert "distributed" not in said


# Small work


@pytest.fixture
def without_workers() -> None:
    workers.end_workers()


@pytest.mark.usefixtures("without_workers")
def test_small_work_is_done_here_and_the_same_to_the_last_bit(
    config: Path, tmp_path: Path, same_tables: Callable, scheduler: str
) -> None:
    here = run_experiment(config, out=tmp_path / "here")
    assert workers._own is None
    same_tables(run_experiment(config, out=tmp_path / "far", scheduler=scheduler), here)
    same_tables(run_experiment(config, out=tmp_path / "own", workers=1), here)


@pytest.mark.usefixtures("without_workers")
def test_small_work_does_not_follow_the_callers_torch_and_leaves_it(
    tiny: Callable, write_config: Callable, tmp_path: Path, same_tables: Callable, scheduler: str
) -> None:
    """With two threads, after the caller has used torch, on denormals: its threads do not flush them."""
    tiny_steps = {"type": "train", "epochs": 3, "batch_size": 100, "optimizer": {"type": "adam", "lr": 1e-30}}
    shrinking = {"type": "train", "steps": 40, "optimizer": {"type": "sgd", "lr": 1, "weight_decay": 0.9}}
    layers = [{"type": "flatten"}, {"type": "linear", "units": 300}, {"type": "linear", "units": 10}]
    words = tiny(stages=[tiny_steps, shrinking, TRAIN], sweep={}, net={"layers": layers}, seeds=[0])
    config = write_config(words)
    expected = run_experiment(config, out=tmp_path / "far", scheduler=scheduler, threads_per_run=2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.set_default_device("meta")
    try:
        with torch.device("cpu"):
            (torch.rand(2000, 2000) @ torch.rand(2000, 2000)).sum()
        with torch.inference_mode():
            found = run_experiment(config, out=tmp_path / "here", threads_per_run=2)
        assert workers._own is None
        assert torch.get_num_threads() == 2
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_default_device().type == "meta"
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.full((1,), 2e-38, dtype=torch.float32, device="cpu").mul(0.25).item() > 0  # not flushed
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.set_num_threads(before)
    same_tables(found, expected)


@pytest.mark.usefixtures("without_workers")
def test_what_fails_here_is_told_after_one_try_with_its_traceback(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fails(task: Task, *_: Any) -> TaskResult:
        tries.append(task.key)
        raise RuntimeError("cosmic ray")

    monkeypatch.setattr(engine, "perform", fails)
    found = run_experiment(config, out=tmp_path)
    assert len(tries) == 2  # a base a seed; what needs it is not tried
    assert all("Traceback" in found.failed[key] and "cosmic ray" in found.failed[key] for key in tries)


@pytest.mark.usefixtures("without_workers")
def test_code_that_has_changed_since_it_was_loaded_computes_nothing_here(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "is_as_loaded", lambda: False)
    run_experiment(config, out=tmp_path)
    assert len(pids()) > 0


# Clusters that grow


def test_workers_that_come_late_are_at_work_within_seconds(
    tiny: Callable, write_config: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    """README's recipe: scale, and call at once; then another worker comes while one computes."""
    monkeypatch.setattr(engine, "LONELY_S", 1.0)
    config = write_config(tiny(stages=[LONG], sweep={}, seeds=list(range(4))))
    busy: dict[str, float] = {}
    with LocalCluster(
        n_workers=0, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
        scheduler_kwargs={"dashboard": False}, silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        call = threading.Thread(
            target=run_experiment, args=(config,),
            kwargs={"out": tmp_path, "scheduler": cluster.scheduler_address},
        )  # fmt: skip
        call.start()
        wait_for(lambda: "no worker for 1 s" in capsys.readouterr().out)
        cluster.scale(1)

        def processing() -> int:
            states = cluster.scheduler.workers.values()
            return sum(bool(state.processing) for state in states)

        wait_for(lambda: processing() == 1)
        cluster.scale(2)
        wait_for(lambda: len(cluster.scheduler.workers) == 2)
        busy["came"] = time.monotonic()
        wait_for(lambda: processing() == 2, 10)
        assert time.monotonic() - busy["came"] < 5
        call.join(120)
    assert set(load_log(tmp_path / "logs" / "tiny.hdf5").results["status"]) == {"ok"}


def test_an_adaptive_cluster_grows_with_what_waits(
    tiny: Callable, write_config: Callable, tmp_path: Path
) -> None:
    config = write_config(tiny(stages=[LONG], sweep={}, seeds=list(range(5))))
    most = 0
    with LocalCluster(
        n_workers=0, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
        scheduler_kwargs={"dashboard": False}, silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        cluster.adapt(minimum=0, maximum=2, interval="200ms", target_duration="1s")
        call = threading.Thread(
            target=run_experiment, args=(config,),
            kwargs={"out": tmp_path, "scheduler": cluster.scheduler_address},
        )  # fmt: skip
        call.start()
        while call.is_alive():
            states = list(cluster.scheduler.workers.values())
            most = max(most, sum(bool(state.processing) for state in states))
            time.sleep(0.1)
    assert most == 2


# Progress


def a_plan(
    tiny: Callable, write_config: Callable, folder: Path, threads: int = 1, **changes: Any
) -> list[Task]:
    """The tasks of the tiny config with these changes."""
    folder.mkdir(parents=True, exist_ok=True)
    return make_plan(load_config(write_config(tiny(**changes))), Log(), folder, threads).tasks


def test_the_bar_moves_inside_a_training_and_says_what_is_done(
    tiny: Callable, write_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    tasks = a_plan(tiny, write_config, tmp_path / "networks", stages=[LONG], sweep={}, seeds=[3])
    heard: list[tuple[Any, ...]] = []
    real = Bar._note

    def listening(bar: Bar, task: Task, index: int, step: int) -> None:
        real(bar, task, index, step)
        bar._show()
        heard.append((step, bar.words, bar.bar.n / bar.bar.total))

    monkeypatch.setattr(Bar, "_note", listening)
    (done,) = execute(tasks, scheduler=scheduler)
    assert done.error is None
    assert len(heard) >= 2
    steps = [step for step, *_ in heard]
    shares = [share for *_, share in heard]
    assert steps == sorted(set(steps))
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 1
    assert heard[-1][1] == f", train {steps[-1]:,} of 4,000 (seed 3)"


def test_the_bar_ends_at_its_total_whatever_was_heard(
    tiny: Callable, write_config: Callable, tmp_path: Path
) -> None:
    tasks = a_plan(tiny, write_config, tmp_path / "networks")
    with Bar(tasks, {task.key: seconds_of(task) for task in tasks}) as bar:
        bar.start()
        for ended, task in enumerate(tasks, 1):
            bar.hear(task.key, task.first, 5)
            bar.show_latest()
            bar.end(task.key, ended)
            bar.hear(task.key, task.first, 7)  # too late
        bar.hear("unknown", 0, 1)
        bar.show_latest()
        assert bar.bar.n == bar.bar.total


# Idle cores


@pytest.mark.parametrize(
    ("seeds", "epochs", "threads", "cores", "said"),
    [
        (1, 30_000, 1, 2, "1 of 2 cores have something to do: --threads-per-run 2 "),
        (1, 30_000, 1, 8, "1 of 8 cores have something to do: --threads-per-run 8 "),
        (3, 30_000, 1, 8, "3 of 8 cores have something to do: --threads-per-run 2 "),
        (2, 30_000, 1, 2, ""),
        (1, 30_000, 2, 2, ""),
        (1, 3, 1, 2, ""),
    ],
)
def test_idle_cores_are_told_where_they_are_idle_for_minutes(
    tiny, write_config, tmp_path, monkeypatch, capsys, seeds, epochs, threads, cores, said
) -> None:
    stages = [TRAIN | {"epochs": epochs}, {"type": "prune", "kind": "weight", "sparsity": 0.5}]
    tasks = a_plan(tiny, write_config, tmp_path, threads, stages=stages, sweep={}, seeds=list(range(seeds)))
    seconds = {task.key: sum(seconds_of(task)) for task in tasks}
    assert longest_chain(tasks, seconds) < sum(seconds.values()) + 1e-9
    monkeypatch.setattr(engine, "usable_cores", lambda: cores)
    engine._say_what_is_idle(tasks, seconds, threads)
    found = capsys.readouterr().out
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_estimates_are_of_the_right_order(tiny: Callable, write_config: Callable, tmp_path: Path) -> None:
    """Small work has to be small on slow machines too."""
    (tmp_path / "networks").mkdir()
    tasks = a_plan(tiny, write_config, tmp_path / "networks", seeds=[0], sweep={"sparsity": [0.5]})
    perform(tasks[0])
    began = time.perf_counter()
    perform(tasks[0])
    assert sum(seconds_of(tasks[0])) > 0.02 * (time.perf_counter() - began)
