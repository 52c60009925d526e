"""The engine: performs tasks on every core, or on a cluster, with Dask distributed.

The parent keeps the order and hands out only what is ready, one task a worker thread, so its
memory does not grow with the number of runs; workers write their results to the cache themselves.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import math
import os
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from .errors import UserError
from .sentence import step_count
from .shapes import LayerShape, layer_shapes
from .stages import PERSISTENT
from .tasks import Done, Task, best_device, perform
from .train_dojo import actual_precision

if TYPE_CHECKING:  # Dask is imported where it is needed: what is there already is loaded without it
    from distributed import Client, Future, LocalCluster

ADDRESS = "DASK_SCHEDULER_ADDRESS"
"""Variable of the environment that names a running scheduler."""

ATTEMPTS = 3
"""How often a task may fail, or its worker die, before it is recorded as failed."""


def execute(tasks: list[Task], workers: int | None = None, scheduler: str | None = None) -> Iterator[Done]:
    """Perform all tasks, each after the one it needs; yields them as they end.

    `workers`: processes to start, default a core each (on a GPU machine, a GPU each). `scheduler`:
    address of a running Dask scheduler to use instead. A task that fails three times yields a Done
    with its traceback; so do those that need it. Starts nothing if there is nothing to do.
    """
    if not tasks:
        return
    ahead = _Queue(tasks)
    cost = {task.key: _cost(task) for task in tasks}
    with _caller_as_it_was(), _client(min(workers or _default_workers(), len(tasks)), scheduler) as client:
        from distributed import as_completed

        call, running = uuid.uuid4().hex[:8], as_completed(loop=client.loop)
        with tqdm(total=sum(cost.values()), bar_format=BAR) as bar:
            while ahead or running.count():
                # One a thread and none ahead: a task that waits at a busy worker leaves another idle.
                for _ in range(max(1, sum(client.nthreads().values())) - running.count()):
                    if not ahead:
                        break
                    task = ahead.pop()
                    # The key names the output too: two calls with unlike folders share no future.
                    key = f"{task.key}-{_digest(task.networks)}-{call}"
                    running.add(client.submit(_attempt, task, key=key, retries=ATTEMPTS - 1))
                future = next(running)
                done = _outcome(future)
                for ended in ahead.finish(done):
                    bar.set_postfix_str(f"{ahead.ended}/{len(tasks)} tasks", refresh=False)
                    bar.update(cost[ended.key])
                    yield ended


BAR = "{percentage:3.0f}%|{bar:30}| {elapsed}<{remaining}{postfix}"


class _Queue:
    """Tasks that are ready, those that others wait for first; short ones then fill the gaps."""

    def __init__(self, tasks: list[Task]):
        self.waiting: dict[str, list[Task]] = {}
        self.ready: list[tuple[bool, int, Task]] = []
        self.place = {task.key: index for index, task in enumerate(tasks)}
        self.lacks = {task.key: set(task.needs) for task in tasks}
        self.ended = 0
        for task in tasks:
            for key in self.lacks[task.key]:
                self.waiting.setdefault(key, []).append(task)
            if not task.needs:
                self._push(task)

    def _push(self, task: Task) -> None:
        leaf = task.stages[-1].type not in PERSISTENT
        heapq.heappush(self.ready, (leaf, self.place[task.key], task))

    def __bool__(self) -> bool:
        return bool(self.ready)

    def pop(self) -> Task:
        """The next task to hand out."""
        return heapq.heappop(self.ready)[2]

    def finish(self, done: Done) -> Iterator[Done]:
        """Release what waited for this task; where it failed, what waited for it fails too."""
        self.ended += 1
        yield done
        for task in self.waiting.pop(done.key, []):
            if task.key not in self.lacks:
                continue  # something else that it needs has failed
            if done.error is None:
                self.lacks[task.key].discard(done.key)
                if not self.lacks[task.key]:
                    self._push(task)
            else:
                del self.lacks[task.key]
                yield from self.finish(Done(task.key, error=f"needs {done.key}, which failed"))


_ONE_AT_A_TIME = threading.Lock()
"""Torch's thread count and the generator of dropout belong to a process; a worker may have many threads."""


def _attempt(task: Task) -> Done:
    """What a worker runs. Bad input fails at once; anything else is Dask's to try again."""
    try:
        with _ONE_AT_A_TIME:
            return perform(task, _worker_number())
    except UserError as error:
        return Done(task.key, error=str(error), is_input=True)


def _worker_number() -> int:
    """This worker's number, which chooses its GPU where there are several."""
    from distributed import get_worker

    name = str(get_worker().name)
    return int(name) if name.isdigit() else 0


def _outcome(future: Future) -> Done:
    """A future as a report; a lost worker or an exception becomes its traceback."""
    key = future.key.split("-")[0]
    if future.cancelled():  # nobody here cancels
        raise OSError("the scheduler is gone")
    try:
        return future.result()
    except Exception as error:
        lines = traceback.format_exception(type(error), error, future.traceback() or error.__traceback__)
        return Done(key, error="".join(lines))


def _cost(task: Task) -> float:
    """Roughly the multiply-accumulates of a task: what the progress bar counts. bfloat16 is cheaper."""
    shapes = [shape for shape in layer_shapes(task.net, task.data.dataset) if shape.macs]
    macs, total, device = sum(shape.macs for shape in shapes), 0.0, torch.device(best_device())
    images = task.data.train_size or 60_000 - task.data.validation_size
    for stage in task.stages[task.first :]:
        passes = 15_000.0  # validation and test
        if stage.type == "train":
            samples = step_count(stage, images) * stage.batch_size
            passes += 3 * samples * (0.3 if actual_precision(device, stage.precision) == "bfloat16" else 1)
        elif stage.type == "compact":
            passes += 20_000
        elif stage.type == "refit":
            total += sum(_fit_cost(shape, stage.samples) for shape in shapes) if stage.mode == "full" else 0
        total += macs * passes
    return total


def _fit_cost(shape: LayerShape, samples: int) -> float:
    """Moments of a layer's inputs, and a factorisation a unit with half of them."""
    outputs = shape.output_shape[0]
    places = math.prod(shape.output_shape[1:])
    inputs = shape.macs / outputs / places
    return samples * places * inputs**2 + outputs * (inputs / 2) ** 3 / 6


def _default_workers() -> int:
    """A worker a core that this process may use, or a GPU."""
    return torch.cuda.device_count() or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use; not every system can tell, and then all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest(text: object) -> str:
    """A short name for something long."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:8]


LOUD = ("distributed", "distributed.client")
"""Dask's loggers that have a level of their own. What goes wrong is told by the tasks; Dask's own lines are
about connections that it closes."""


@contextmanager
def _caller_as_it_was() -> Iterator[None]:
    """Put back what Dask changes of this process: its environment and log levels."""
    levels = {name: logging.getLogger(name).level for name in LOUD}
    environment = dict(os.environ)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for key in os.environ.keys() - environment.keys():
            del os.environ[key]
        os.environ.update(environment)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    """A client of the running scheduler, or of workers of our own that end with the block."""
    with ExitStack() as stack:
        try:
            from distributed import Client

            for name in LOUD:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            if scheduler:
                client = stack.enter_context(Client(scheduler, timeout=10, set_as_default=False))
            else:
                cluster = stack.enter_context(_own_workers(workers))
                client = Client(cluster, set_as_default=False)
                stack.callback(client.close)
                # All results are on disk, and after Ctrl-C a worker deep in a product would not listen.
                stack.callback(_kill, cluster)
        except Exception as error:  # as many kinds as Dask has settings
            raise UserError(_no_workers(scheduler, error)) from None
        try:
            yield client
        except OSError as error:
            if not scheduler:
                raise
            raise UserError(
                f"{_name_of(scheduler)}: lost it ({error}); start it again and repeat the command: what is "
                "finished is kept"
            ) from None


def _name_of(scheduler: str) -> str:
    """Where a scheduler's address was given."""
    is_variable = scheduler == os.environ.get(ADDRESS)
    return f"{ADDRESS}={scheduler}" if is_variable else f"--scheduler {scheduler}"


def _no_workers(scheduler: str | None, error: BaseException) -> str:
    """What to say where Dask cannot be started, or a running one not be found."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if not scheduler:
        return (
            f"Dask: expected to start workers, found {reason}; look at the environment's DASK_… variables "
            "and at Dask's configuration files"
        )
    remedy = "unset it" if _name_of(scheduler).startswith(ADDRESS) else "leave the option out"
    return (
        f"{_name_of(scheduler)}: expected the address of a running Dask scheduler ({reason}); start one "
        f"(dask scheduler) or {remedy}"
    )


@contextmanager
def _own_workers(workers: int) -> Iterator[LocalCluster]:
    """A scheduler and workers on this machine."""
    import dask
    from distributed import LocalCluster

    settings = {
        # Dask's own choices for data frames: they make the allocator give memory back at every step.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
        "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
        "distributed.comm.timeouts.connect": "60s",
    }
    with dask.config.set(settings), _script_hidden():
        yield LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
            # A free port and no page on it; with None, Dask takes port 8787 and warns if that is taken.
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        )  # fmt: skip


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Workers are new interpreters, which first run the script or module that they were started from.

    One that calls run_experiment without a guard would start workers in every worker.
    """
    main = sys.modules["__main__"].__dict__
    hidden = {name: main[name] for name in ("__file__", "__spec__") if main.get(name) is not None}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


def _kill(cluster: LocalCluster) -> None:
    """End the cluster and its workers at once."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.pid:
            os.kill(nanny.pid, signal.SIGKILL)
    cluster.close(timeout=5)
