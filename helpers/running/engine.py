"""The engine: performs tasks in this process, on every core, or on a cluster, with Dask distributed.

The parent keeps the order and hands out only what is ready, one task a worker thread, so its
memory does not grow with the number of runs; workers write their results to the cache themselves.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import queue
import sys
import threading
import time
import traceback
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import TYPE_CHECKING

import torch

from ..foundations.errors import UserError
from ..foundations.terminal import say
from .connecting import connected, name_of
from .costs import ATTEMPTS, STARTING_S, longest_chain, seconds_of
from .freshness import is_as_loaded
from .progress import Bar
from .tasks import Task, TaskResult, perform

if TYPE_CHECKING:  # Dask is imported where it is needed: what is there already is loaded without it
    from distributed import Client, Future

LOOK_S = 1.0
"""Seconds between two looks at how many workers there are, and between two reports of a training."""

LONELY_S = 10.0
"""Seconds without any worker after which that is said."""

IDLE_S = 120.0
"""Seconds for which cores have to be idle before that is said."""


def execute(
    tasks: list[Task], workers: int | None = None, scheduler: str | None = None
) -> Iterator[TaskResult]:
    """Perform all tasks, each after those it needs; yields them as they end.

    `workers`: processes to use, default a core each (on a GPU machine, a GPU each). `scheduler`:
    address of a running Dask scheduler to use instead. With neither, what takes less time than starting
    workers is done in this process. A task that fails three times (here: once) yields a TaskResult with its
    traceback; so do those that need it. Starts nothing if there is nothing to do.
    """
    if not tasks:
        return
    stages = {task.key: seconds_of(task) for task in tasks}
    seconds = {key: sum(parts) for key, parts in stages.items()}
    is_small = workers is None and scheduler is None and sum(seconds.values()) < STARTING_S
    is_small = is_small and not any(task.teachers for task in tasks)  # their passes are not counted
    ahead, threads = _Queue(tasks), max(task.threads for task in tasks)
    with Bar(tasks, stages) as bar:
        if is_small and not _workers_run() and is_as_loaded():
            steps = _perform_here(ahead, bar)
        else:
            if scheduler is None:
                _say_what_is_idle(tasks, seconds, threads)
            wanted = min(workers or _default_workers(threads), len(tasks))
            steps = _perform_on_workers(ahead, bar, wanted, workers is None, scheduler)
        with closing(steps):
            for done in steps:
                for ended in ahead.finish(done):
                    bar.end(ended.key, ahead.ended)
                    yield ended


def _workers_run() -> bool:
    """Whether workers of our own are there already; those of a parent or of older code do not count."""
    room = sys.modules.get(f"{__package__}.workers")
    return room is not None and room.is_running()


def _default_workers(threads: int) -> int:
    """Workers that keep every core busy that this process may use, or a worker a GPU."""
    return torch.cuda.device_count() or max(1, usable_cores() // threads)


def usable_cores() -> int:
    """Cores that this process may use; not every system can tell, and then all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say_what_is_idle(tasks: list[Task], seconds: dict[str, float], threads: int) -> None:
    """One line where for minutes fewer trainings can run side by side than there are cores for."""
    chain, cores = longest_chain(tasks, seconds), usable_cores()
    busy = max(1, round(sum(seconds.values()) / chain)) * threads
    if chain > IDLE_S and 2 * busy <= cores and not torch.cuda.is_available():
        say(
            f"{busy} of {cores} cores have something to do: --threads-per-run {threads * cores // busy} (in "
            "Python: threads_per_run) would use the others too; results differ then in their last digits"
        )


def _perform_here(ahead: _Queue, bar: Bar) -> Iterator[TaskResult]:
    """Task by task in this process: in a thread made for it, which torch sets up as it does a worker's."""
    bar.start()
    stop = threading.Event()
    with ThreadPoolExecutor(1, "prune-playground") as pool:
        try:
            while ahead:
                future = pool.submit(_attempt_here, ahead.pop(), bar, stop)
                while not wait([future], timeout=LOOK_S).done:
                    bar.show_latest()
                yield future.result()
        finally:
            stop.set()  # after Ctrl-C; a training looks at it after every step


def _attempt_here(task: Task, bar: Bar, stop: threading.Event) -> TaskResult:
    """A task in this process; what goes wrong would do so again."""
    tell = _now_and_then(lambda *place: bar.hear(task.key, *place))

    def report(index: int, step: int) -> None:
        if stop.is_set():
            raise RuntimeError("stopped")
        tell(index, step)

    try:
        with _ONE_AT_A_TIME:
            return perform(task, 0, report)
    except UserError as error:
        return TaskResult(task.key, error=str(error), is_input=True)
    except Exception:
        return TaskResult(task.key, error=traceback.format_exc())


def _perform_on_workers(
    ahead: _Queue, bar: Bar, wanted: int, at_least: bool, scheduler: str | None
) -> Iterator[TaskResult]:
    """On workers of our own or of a running scheduler, whose number may change meanwhile."""
    with connected(wanted, at_least, scheduler) as client:
        bar.start()
        call, arrived, under_way = uuid.uuid4().hex[:8], queue.SimpleQueue(), {}
        listeners[call] = bar
        client.subscribe_topic(TOPIC, _pass_on)
        # Where workers may come, one more waits than there are threads, for those that come to take it at
        # once; else none, since a task that waits at a busy worker leaves another idle.
        crowd = _Crowd(client, scheduler)
        while ahead or under_way:
            room = crowd.room()
            while ahead and len(under_way) < room:
                task = ahead.pop()
                # One prefix for all, by which Dask learns how long they take. The key names the output too:
                # two calls with unlike folders share no future.
                key = f"perform-{task.key}-{_digest(task.networks)}-{call}"
                future = client.submit(_attempt, task, call, key=key, retries=ATTEMPTS - 1)
                under_way[future.key] = task, future
                future.add_done_callback(arrived.put)
            try:
                future = arrived.get(timeout=LOOK_S)
            except queue.Empty:
                bar.show_latest()
                continue
            task, _ = under_way.pop(future.key)
            bar.show_latest()
            yield _outcome(task.key, future)


TOPIC = "prune-playground"
"""Under which workers say where they are; one for all calls, since a scheduler keeps every topic."""

listeners: weakref.WeakValueDictionary[str, Bar] = weakref.WeakValueDictionary()
"""Bars by call; a bar is gone when its call is."""


def _pass_on(event: tuple[float, tuple[str, str, int, int]]) -> None:
    """What a worker has said, to the bar of the call that it works for."""
    call, *place = event[1]
    bar = listeners.get(call)
    if bar is not None:
        bar.hear(*place)


class _Crowd:
    """How many tasks to have at the workers of a client, who may come and go."""

    def __init__(self, client: Client, scheduler: str | None):
        self.client, self.scheduler = client, scheduler
        self.threads, self.looked_at, self.seen_at, self.has_said = 0, -LOOK_S, time.monotonic(), False

    def room(self) -> int:
        """Tasks that may be at the workers now; says where there are none."""
        now = time.monotonic()
        if now - self.looked_at >= LOOK_S:
            self.threads, self.looked_at = sum(self.client.nthreads().values()), now
        if self.threads:
            self.seen_at = now
        elif now - self.seen_at > LONELY_S and not self.has_said:
            self.has_said = True
            name = name_of(self.scheduler) if self.scheduler else "workers"
            say(f"{name}: there has been no worker for {LONELY_S:.0f} s; waiting for one")
        return max(1, self.threads + (1 if self.scheduler else 0))


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
        leaf = not task.stages[-1].keeps_weights
        heapq.heappush(self.ready, (leaf, self.place[task.key], task))

    def __bool__(self) -> bool:
        return bool(self.ready)

    def pop(self) -> Task:
        """The next task to hand out."""
        return heapq.heappop(self.ready)[2]

    def finish(self, done: TaskResult) -> Iterator[TaskResult]:
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
                yield from self.finish(TaskResult(task.key, error=f"needs {done.key}, which failed"))


_ONE_AT_A_TIME = threading.Lock()
"""Torch's thread count and the generator of dropout belong to a process; a worker may have many threads."""


def _attempt(task: Task, call: str) -> TaskResult:
    """What a worker runs. Bad input fails at once; anything else is Dask's to try again."""
    from distributed import get_worker

    worker = get_worker()
    number = int(worker.name) if str(worker.name).isdigit() else 0
    report = _now_and_then(lambda *place: worker.log_event(TOPIC, (call, task.key, *place)))
    try:
        with _ONE_AT_A_TIME:
            return perform(task, number, report)
    except UserError as error:
        return TaskResult(task.key, error=str(error), is_input=True)


def _now_and_then(report: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A report that is passed on at most once in LOOK_S."""
    last = 0.0

    def passed_on(index: int, step: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOOK_S:
            last = now
            report(index, step)

    return passed_on


def _outcome(key: str, future: Future) -> TaskResult:
    """A future as a report; a lost worker or an exception becomes its traceback."""
    if future.cancelled():  # nobody here cancels
        raise OSError("the scheduler is gone")
    try:
        return future.result()
    except Exception as error:
        lines = traceback.format_exception(type(error), error, future.traceback() or error.__traceback__)
        return TaskResult(key, error="".join(lines))


def _digest(text: object) -> str:
    """A short name for something long."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:8]
