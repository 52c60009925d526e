"""The engine: whatever is killed, cut, full or missing, the tables end the same to the last bit."""

import dataclasses
import json
import logging
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from helpers.experiment import load_network, main, run_experiment
from helpers.foundations.datasets import DataConfig
from helpers.foundations.errors import UserError
from helpers.foundations.nets import NetConfig
from helpers.logger import read_log
from helpers.methods.stage_settings import TrainStage
from helpers.running import orchestration
from helpers.running.engine import execute
from helpers.running.tasks import Task, TaskResult, perform
from helpers.utils import Results, load_log

ROOT = Path(__file__).parents[2]
TRAIN = {"type": "train", "epochs": 12, "batch_size": 16, "shift": 1}
RETRAIN = TRAIN | {"epochs": 6, "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9}}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": "$sparsity"}
LAYERS = [
    {"type": "flatten"},
    {"type": "linear", "units": 64},
    {"type": "dropout", "p": 0.2},
    {"type": "linear", "units": 10},
]
SHORT = {
    "data": {"dataset": "mnist", "train_size": 2000, "validation_size": 500},
    "net": {"layers": LAYERS},
    "stages": [TRAIN, PRUNE, RETRAIN],
    "seeds": [0, 1, 2],
    "sweep": {"sparsity": [0.5, 0.8, 0.9]},
    "profiles": {
        "short": {"train.epochs": 2, "train_2.epochs": 1},
        "middle": {"train.epochs": 5, "train_2.epochs": 3},
    },
}


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> None:
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def start(*words: str | Path) -> subprocess.Popen[str]:
    """The command line as a process group of its own."""
    call = [sys.executable, "-m", "helpers.experiment", *map(str, words)]

    def heed_interrupts() -> None:
        """A shell has its background jobs, these tests too, ignore Ctrl-C."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        call, cwd=ROOT, start_new_session=True, preexec_fn=heed_interrupts, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def written(out: Path) -> dict[str, int]:
    """What is in the cache, and when it came there."""
    folder = out / "networks"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*")} if folder.exists() else {}


@pytest.fixture(scope="module")
def config(write_config: Callable) -> Path:
    """About 20 s on one core: 3 seeds × 3 sparsities, pruned between two trainings; profiles are shorter."""
    return write_config(SHORT, "kill")


@pytest.fixture(scope="module")
def expected(
    config: Path, scheduler: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Results]:
    """The tables of a run that nothing disturbs, by profile."""
    out, found = tmp_path_factory.mktemp("undisturbed"), {}

    def get(profile: str | None = None) -> Results:
        if profile not in found:
            found[profile] = run_experiment(config, profile, out=out / str(profile), scheduler=scheduler)
        return found[profile]

    return get


@pytest.fixture(scope="module")
def finished(expected: Callable) -> Path:
    """The output of the short profile."""
    return expected("short").path.parents[2]


# Workers


def test_one_worker_of_our_own_gives_the_same_tables_as_two_of_a_running_scheduler(
    config: Path, expected: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    found = run_experiment(config, "short", out=tmp_path, workers=1)
    assert found.computed == 9
    same_tables(found, expected("short"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_processor_that_would_only_emulate_bfloat16_computes_in_float32_and_says_so_once(
    tiny: Callable, write_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, precision
) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")  # what torch takes the workers' processors for
    train = {"type": "train", "epochs": 1, "batch_size": 100, "precision": precision}
    found = run_experiment(write_config(tiny(stages=[train], sweep={})), out=tmp_path, workers=1)
    assert len(found.results) == 2
    assert capsys.readouterr().out.count("would only emulate") == (precision == "bfloat16")
    records = read_log(tmp_path / "logs" / "tiny.hdf5").records.values()
    assert {record.provenance["precision"] for record in records} == {"float32"}


def test_a_script_needs_no_guard(tiny: Callable, write_config: Callable, tmp_path: Path) -> None:
    """Workers are new interpreters, and would start workers of their own."""
    call = f"run_experiment({str(write_config(tiny()))!r}, out={str(tmp_path)!r}, workers=2)"
    (tmp_path / "package").mkdir()
    script = tmp_path / "script.py"
    script.write_text(f"from helpers.experiment import run_experiment\nprint('begun')\n{call}\n")
    shutil.copy(script, tmp_path / "package" / "study.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    calls = [([script], None), (["-"], script.read_text())]
    calls += [(["-m", "script"], None), (["-m", "package.study"], None)]
    for words, text in calls:
        done = subprocess.run(
            [sys.executable, *words], input=text, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("begun") == 1
        assert "Traceback" not in done.stdout + done.stderr
        (tmp_path / "logs" / "tiny.hdf5").unlink()
        shutil.rmtree(tmp_path / "networks")


class Cluster:
    """A scheduler and workers as `dask scheduler` and `dask worker` start them."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, []
        words = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"]
        self.scheduler = self._start("scheduler", *words)
        wait_for(lambda: (folder / "s.json").exists())
        self.address = json.loads((folder / "s.json").read_text())["address"]

    def worker(self) -> subprocess.Popen[bytes]:
        """One more worker, with the two threads that two cores give it by default."""
        return self._start("worker", "--nthreads", "2", "--no-nanny", "--local-directory", str(self.folder))

    def _start(self, what: str, *words: str) -> subprocess.Popen[bytes]:
        call = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
        with open(self.folder / f"{what}{len(self.processes)}.txt", "w") as log:
            started = subprocess.Popen(
                [*call, "--scheduler-file", str(self.folder / "s.json")], cwd=ROOT, stdout=log, stderr=log
            )
        self.processes.append(started)
        return started

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.worker()
    yield made
    made.end()


def test_an_external_scheduler_gives_the_same_tables_though_its_workers_have_several_threads(
    cluster: Cluster, config: Path, expected: Callable, same_tables: Callable, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    assert main([str(config), "--profile", "short", "--out", str(tmp_path)]) == 0
    same_tables(load_log(tmp_path / "logs" / "short" / "kill.hdf5"), expected("short"))


def test_a_relative_output_is_one_folder_wherever_workers_stand(
    cluster: Cluster, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_experiment(
        config, "short", ["seeds=[0]", "sweep.sparsity=[0.5]"], out="here", scheduler=cluster.address
    )
    assert set(found.results["status"]) == {"ok"}
    assert (tmp_path / "here" / "logs" / "short" / "kill.hdf5").exists()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_scheduler_that_is_not_there_is_a_user_error(
    config: Path, tmp_path: Path, address: str, capsys: pytest.CaptureFixture
) -> None:
    assert main([str(config), "--out", str(tmp_path), "--scheduler", address]) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text]
    assert line.startswith(f"--scheduler {address}: expected the address of a running Dask scheduler")


def test_a_dead_scheduler_is_blamed_on_where_it_was_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    assert main([str(config), "--out", str(tmp_path)]) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text]
    assert line.startswith("DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1:1: expected the address of a running Dask")
    assert line.endswith("or unset it")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "mitosis"),
        ("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True"),
        ("DASK_TEMPORARY_DIRECTORY", "/proc/nowhere"),
    ],
)
def test_settings_of_dask_that_cannot_work_end_in_one_line(
    tiny: Callable, write_config: Callable, tmp_path: Path, variable: str, value: str
) -> None:
    words = [str(write_config(tiny())), "--out", str(tmp_path), "--workers", "1"]
    call, environment = [sys.executable, "-m", "helpers.experiment", *words], os.environ | {variable: value}
    said = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 2
    (line,) = [text for text in said.stderr.splitlines() if text]
    assert line.startswith("Dask: expected to start workers, found ")
    assert line.endswith("look at the environment's DASK_… variables and at Dask's configuration files")


def test_the_callers_process_is_left_as_it_was(
    tiny: Callable, write_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    names = ("", "distributed", "distributed.client", "distributed.worker", "bokeh")
    environment = dict(os.environ)
    levels = [logging.getLogger(name).level for name in names]
    run_experiment(write_config(tiny()), out=tmp_path, workers=1)
    assert dict(os.environ) == environment
    assert [logging.getLogger(name).level for name in names] == levels


# Failures


class Unspeakable:
    """A seed that notes when someone wants to know it, and refuses."""

    def __init__(self, notes: Path):
        self.notes = notes

    def __str__(self) -> str:
        with open(self.notes, "a") as file:
            file.write("asked\n")
        raise RuntimeError("not telling")


def a_task(networks: Path, key: str, seed: Any = 0, needs: str | None = None) -> Task:
    net = NetConfig.model_validate({"layers": [LAYERS[0], LAYERS[3]]})
    stage = TrainStage.model_validate({"type": "train", "steps": 2})
    data = DataConfig.model_validate(SHORT["data"])
    return Task(data, net, seed, [stage], [key], 0, frozenset([key]), networks, (needs,) if needs else ())


def test_a_task_that_raises_is_tried_three_times_and_reported_while_the_others_go_on(
    scheduler: str, tmp_path: Path
) -> None:
    networks, notes = tmp_path / "networks", tmp_path / "notes"
    tasks = [a_task(networks, "bad", Unspeakable(notes)), a_task(networks, "child", needs="bad")]
    tasks += [
        a_task(networks, "grandchild", needs="child"),
        *(a_task(networks, f"good{i}") for i in range(3)),
    ]
    done = {report.key: report for report in execute(tasks, scheduler=scheduler)}
    assert len(done) == len(tasks)
    assert notes.read_text() == 3 * "asked\n"
    assert "RuntimeError: not telling" in done["bad"].error
    assert "Traceback" in done["bad"].error
    assert not done["bad"].is_input
    assert done["child"].error == "needs bad, which failed"
    assert done["grandchild"].error == "needs child, which failed"
    assert [done[f"good{i}"].error for i in range(3)] == 3 * [None]
    assert {path.name for path in networks.iterdir()} == {
        f"good{i}.{end}" for i in range(3) for end in ("pt", "npz")
    }


def test_bad_input_is_reported_at_once(scheduler: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (done,) = execute([a_task(tmp_path / "file" / "networks", "k")], scheduler=scheduler)
    assert done.is_input
    assert str(tmp_path / "file") in done.error
    assert "Traceback" not in done.error


def test_what_failed_is_in_the_tables_and_is_computed_by_the_next_call(
    config: Path,
    scheduler: str,
    expected: Callable,
    same_tables: Callable,
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    words = [str(config), "--profile", "short", "--out", str(tmp_path), "--set", "seeds=[0,1]"]

    def one_fails(tasks: list[Task], *_: Any) -> Iterator[TaskResult]:
        for task in tasks:
            broken = task.seed == 1
            yield (
                TaskResult(task.key, error="Traceback …\nRuntimeError: cosmic ray")
                if broken
                else perform(task)
            )

    monkeypatch.setattr(orchestration, "execute", one_fails)
    assert main(words) == 1
    said = capsys.readouterr().out
    assert said.count("failed: ") == said.count(": RuntimeError: cosmic ray (traceback: ") == 4
    found = load_log(tmp_path / "logs" / "short" / "kill.hdf5").results
    said = found.groupby("seed")["status"].unique().str[0].to_dict()
    assert said == {0: "ok", 1: "failed", 2: "missing"}
    with pytest.raises(UserError, match="knows"):
        load_network(found.query("seed == 1")["run"].iloc[-1], tmp_path)
    monkeypatch.undo()
    again = run_experiment(config, "short", out=tmp_path, scheduler=scheduler)
    assert (again.loaded, again.computed) == (3, 6)
    same_tables(again, expected("short"))


def test_workers_that_do_not_see_the_output_folder_are_told_of(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def elsewhere(tasks: list[Task], *_: Any) -> Iterator[TaskResult]:
        for task in tasks:
            yield perform(dataclasses.replace(task, networks=tmp_path / "disk of another machine"))

    monkeypatch.setattr(orchestration, "execute", elsewhere)
    words = ["--profile", "short", "--set", "seeds=0", "--set", "sweep.sparsity=0.5"]
    assert main([str(config), *words, "--out", str(tmp_path)]) == 1
    assert "every worker of --scheduler has to see the folder that --out names" in capsys.readouterr().out


# Kills


def test_kills_at_random_moments_change_nothing(
    config: Path, scheduler: str, expected: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    draw, moments = random.Random(0), []
    # Five (each starts a process and its worker), and more until they were at different stages of the work.
    while len(moments) < 5 or (len(set(moments)) <= 3 and len(moments) < 30):
        kill = len(moments)
        process, before = start(config, "--out", tmp_path, "--workers", "1"), written(tmp_path)
        if kill % 3:  # in the work; else wherever it is after some seconds
            wait_for(lambda p=process, b=before: written(tmp_path) != b or p.poll() is not None)
        time.sleep(draw.uniform(0, 1 if kill % 3 else 6))
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        moments.append(len([name for name in written(tmp_path) if name.endswith(".npz")]))
    assert len(set(moments)) > 3
    found = run_experiment(config, out=tmp_path, scheduler=scheduler)
    assert found.computed > 0
    same_tables(found, expected())


def busiest_child(process: subprocess.Popen[str]) -> psutil.Process:
    """The worker that has computed most."""
    children = psutil.Process(process.pid).children(recursive=True)
    return max(children, key=lambda child: child.cpu_times().user)


def test_a_worker_that_dies_is_replaced_and_its_work_done_again(
    config: Path, expected: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    process = start(config, "--profile", "middle", "--out", tmp_path, "--workers", "2")
    wait_for(lambda: len(written(tmp_path)) > 3)
    victim = busiest_child(process)
    victim.kill()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert not victim.is_running()
    assert "9 computed" in stdout
    assert "failed" not in stdout
    same_tables(load_log(tmp_path / "logs" / "middle" / "kill.hdf5"), expected("middle"))


def test_a_worker_of_an_external_scheduler_may_die_too(
    cluster: Cluster, config: Path, expected: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    victim = cluster.worker()
    process = start(config, "--profile", "middle", "--out", tmp_path, "--scheduler", cluster.address)
    wait_for(lambda: len(written(tmp_path)) > 3 and psutil.Process(victim.pid).cpu_times().user > 3)
    victim.kill()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    same_tables(load_log(tmp_path / "logs" / "middle" / "kill.hdf5"), expected("middle"))


def test_a_lost_scheduler_is_told_in_a_line_and_the_next_call_goes_on(
    config: Path, scheduler: str, expected: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    (tmp_path / "cluster").mkdir()
    lost, out = Cluster(tmp_path / "cluster"), tmp_path / "out"
    try:
        lost.worker()
        process = start(config, "--profile", "middle", "--out", out, "--scheduler", lost.address)
        wait_for(lambda: any(name.endswith(".npz") for name in written(out)))
        lost.scheduler.kill()
        _, stderr = process.communicate(timeout=120)
    finally:
        lost.end()
    assert process.returncode == 2
    assert stderr.splitlines()[-1].startswith(f"--scheduler {lost.address}: lost it")
    found = run_experiment(config, "middle", out=out, scheduler=scheduler)
    same_tables(found, expected("middle"))


def test_an_interrupt_ends_every_process_and_the_next_call_goes_on(
    config: Path, scheduler: str, expected: Callable, same_tables: Callable, tmp_path: Path
) -> None:
    process = start(config, "--profile", "middle", "--out", tmp_path, "--workers", "2")
    wait_for(lambda: len(written(tmp_path)) > 3)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("stopped; what is finished is kept")
    assert "Traceback" not in stderr
    assert len(family) >= 2
    assert psutil.wait_procs(family, timeout=10)[1] == []
    kept = written(tmp_path)
    same_tables(run_experiment(config, "middle", out=tmp_path, scheduler=scheduler), expected("middle"))
    assert all(written(tmp_path)[name] == at for name, at in kept.items() if name.endswith(".npz"))


def test_two_processes_may_run_the_same_experiment_at_once(
    config: Path, expected: Callable, same_tables: Callable, scheduler: str, tmp_path: Path
) -> None:
    words = [config, "--profile", "short", "--out", tmp_path]
    both = [start(*words, "--scheduler", scheduler), start(*words, "--workers", "1")]
    for process in both:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        assert "damaged" not in stdout
    same_tables(load_log(tmp_path / "logs" / "short" / "kill.hdf5"), expected("short"))


# Damage


class Bomb:
    """Unpickled without care, it opens a file for writing."""

    def __init__(self, flag: Path):
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.flag), "w")


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "flipped", "bomb", "pickled bomb", "of another network", "of another seed"]
)
def test_a_damaged_checkpoint_is_told_and_computed_again(
    config: Path, finished: Path, scheduler: str, expected: Callable, same_tables: Callable, tmp_path: Path,
    capsys: pytest.CaptureFixture, damage: str,
) -> None:  # fmt: skip
    flag, out = tmp_path / "exploded", tmp_path / "out"
    shutil.copytree(finished, out)
    rows = load_log(out / "logs" / "short" / "kill.hdf5").results.query("seed == 0")
    path = out / "networks" / f"{rows['result'].iloc[0]}.pt"
    for key in rows.loc[rows["stage"] > 0, "result"]:  # what follows has to be computed again from it
        for file in path.parent.glob(f"{key}.*"):
            file.unlink()
    shutil.rmtree(out / "logs")
    whole = path.read_bytes()
    if damage == "bomb":
        torch.save({"weights": Bomb(flag)}, path)
    elif damage == "of another seed":
        others = load_log(finished / "logs" / "short" / "kill.hdf5").results.query("seed == 1")
        shutil.copy(path.with_name(f"{others['result'].iloc[0]}.pt"), path)
    elif damage == "of another network":
        torch.save(torch.load(path) | {"weights": {"layers.linear_1.weight": torch.zeros(3, 784)}}, path)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 64])
        contents = {"cut": whole[:middle], "empty": b"", "flipped": flipped + whole[middle + 64 :]}
        path.write_bytes(contents.get(damage, pickle.dumps(Bomb(flag))))
    found = run_experiment(config, "short", out=out, scheduler=scheduler)
    said = capsys.readouterr().out
    assert f"{path}: damaged or not a checkpoint of this network (" in said
    assert "computed again" in said
    assert not flag.exists()
    same_tables(found, expected("short"))
    weights = torch.load(path, weights_only=True)["weights"]
    assert weights["layers.linear_1.weight"].shape == (64, 784)
    assert list(path.parent.glob("*.partial.pt")) == []


@pytest.mark.parametrize("damage", ["bomb", "cut"])
def test_a_damaged_save_of_an_unfinished_training_is_told_and_changes_nothing(
    config: Path, scheduler: str, expected: Callable, same_tables: Callable, tmp_path: Path, damage: str,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    flag, networks = tmp_path / "exploded", tmp_path / "out" / "networks"
    networks.mkdir(parents=True)
    rows = expected("short").results
    for key in rows.loc[rows["type"] == "train", "result"].unique():
        path = networks / f"{key}.partial.pt"
        torch.save({"network": Bomb(flag)}, path)
        path.write_bytes(path.read_bytes()[: -100 if damage == "cut" else None])
    found = run_experiment(config, "short", out=tmp_path / "out", scheduler=scheduler)
    assert not flag.exists()
    assert capsys.readouterr().out.count(".partial.pt: damaged") == 12
    same_tables(found, expected("short"))
    assert list(networks.glob("*.partial.pt")) == []


def test_damaged_records_of_the_cache_are_told_and_computed_again(
    config: Path, finished: Path, scheduler: str, expected: Callable, same_tables: Callable, tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "logs")
    records = sorted((out / "networks").glob("*.npz"))
    for path in records[::2]:
        path.write_bytes(path.read_bytes()[:-300])
    shutil.copy(records[1], records[0])  # whole, but another's
    found = run_experiment(config, "short", out=out, scheduler=scheduler)
    said = capsys.readouterr().out
    assert all(said.count(f"{path}: damaged or not a record") == 1 for path in records[::2])
    assert said.count(": damaged or not a record") == len(records[::2])
    same_tables(found, expected("short"))


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_in_one_line_and_earlier_results_stay(
    config: Path, scheduler: str, disk: Path, same_tables: Callable, expected: Callable, capsys
) -> None:
    words = [str(config), "--profile", "short", "--out", str(disk), "--scheduler", scheduler]
    assert main([*words, "--set", "seeds=0"]) == 0
    log = disk / "logs" / "short" / "kill.hdf5"
    before, tables = log.read_bytes(), load_log(log)
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free - 30_000))
    capsys.readouterr()
    assert main(words) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text and "%|" not in text]
    assert line.startswith(str(disk))
    assert "No space left on device" in line
    assert log.read_bytes() == before
    same_tables(load_log(log), tables)
    (disk / "filler").unlink()
    assert main(words) == 0
    same_tables(load_log(log), expected("short"))


def test_a_read_only_disk_is_told_before_anything_is_computed_and_what_is_there_can_be_seen(
    config: Path, scheduler: str, disk: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [str(config), "--profile", "short", "--out", str(disk), "--scheduler", scheduler]
    assert main([*words, "--set", "seeds=0"]) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    capsys.readouterr()
    assert main([*words, "--set", "seeds=0"]) == 0
    assert "3 loaded, 0 computed" in capsys.readouterr().out
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()  # not even a progress bar
    assert line.startswith(str(disk))
    assert "--out" in line


def test_an_output_under_a_file_is_told_in_one_line(config: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main([str(config), "--out", str(tmp_path / "file")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'file' / 'logs'}: expected a folder to write to (")
