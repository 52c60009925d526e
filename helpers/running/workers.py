"""Workers of our own: one embedded Dask cluster a process, started at the first need and then kept."""

import atexit
import logging
import multiprocessing.spawn
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny

from .costs import ATTEMPTS
from .freshness import Stamp, files_stamp, settings_stamp

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""A worker's environment: threads are what a task asks torch for."""

SETTINGS = {
    # A worker gets its environment from us. Dask would put it into the caller's, at every start of a
    # worker; and its allocator would give memory back at every step.
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
    "distributed.comm.timeouts.connect": "60s",
}

LOUD = ("distributed", "distributed.client", "distributed.nanny", "distributed.scheduler", "bokeh")
"""Dask's loggers that say something. What goes wrong is told by the tasks; Dask's own lines are about
connections that it closes."""


@dataclass
class OwnCluster:
    """The cluster of this process, and what it was started from."""

    cluster: LocalCluster
    client: Client
    files: Stamp
    settings: dict[str, str]
    process: int

    def is_usable(self) -> bool:
        """Whether it is alive, and what it would compute is what the files say now."""
        return (
            self.process == os.getpid()
            and self.client.status == self.cluster.status.name == "running"
            and self.settings == settings_stamp()
            and self.files == files_stamp()
        )

    def is_complete(self) -> bool:
        """Whether all its workers are there, or back in a moment; Dask forgets those that take too long."""
        try:
            _wait_for(self.client, len(self.cluster.worker_spec), 20)
        except (OSError, TimeoutError):
            return False
        return True


_own: OwnCluster | None = None


def is_running() -> bool:
    """Whether workers are there that a call could use at once."""
    return _own is not None and _own.is_usable()


def own_client(wanted: int, at_least: bool) -> Client:
    """A client of so many workers, or of at least so many: those that run, others beside them, or new ones.

    Started anew where a file or a setting has changed since.
    """
    with _changing:
        return _client_of(wanted, at_least)


_changing = threading.Lock()
"""Two threads of one process share its workers."""


def _client_of(wanted: int, at_least: bool) -> Client:
    """See `own_client`."""
    global _own
    if _own is not None and not (_own.is_usable() and _own.is_complete()):
        end_workers()
    with dask.config.set(SETTINGS):
        if _own is None:
            _own = _start(wanted)
        running = len(_own.cluster.worker_spec)
        if running < wanted or (running > wanted and not at_least):
            _own.cluster.scale(wanted)
            _wait_for(_own.client, wanted)
    return _own.client


def _start(workers: int) -> OwnCluster:
    """A scheduler and workers on this machine; none is left behind where they cannot start, or at Ctrl-C."""
    files, settings = files_stamp(), settings_stamp()
    handlers = [handler for name in LOUD for handler in logging.getLogger(name).handlers]
    levels = [handler.level for handler in handlers]
    # In two steps, so that the cluster is known here if the second is broken off.
    cluster = LocalCluster.__new__(LocalCluster)
    try:
        cluster.__init__(
            n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
            # A free port and no page on it; with None, Dask takes port 8787 and warns if that is taken.
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL, worker_class=QuietNanny, env=settings | ONE_THREAD,
        )  # fmt: skip
        client = Client(cluster, set_as_default=False)
    except BaseException:
        _kill(cluster)
        raise
    finally:
        for handler, level in zip(handlers, levels, strict=True):  # silence is for the workers
            handler.setLevel(level)
    return OwnCluster(cluster, client, files, settings, os.getpid())


def _wait_for(client: Client, workers: int, seconds: float = 120) -> None:
    """Until there are just so many workers. Raises TimeoutError where they do not come."""
    end = time.monotonic() + seconds
    while len(client.nthreads()) != workers:
        if time.monotonic() > end:
            raise TimeoutError(f"{workers} workers have not come within {seconds:.0f} s")
        time.sleep(0.05)


def end_workers() -> None:
    """End the cluster at once, if there is one; the next call starts another."""
    global _own
    own, _own = _own, None
    if own is None or own.process != os.getpid():  # after a fork it is the other process's
        return
    with quiet():
        _kill(own.cluster)
        with suppress(Exception):
            own.client.close(timeout=5)


def _kill(cluster: LocalCluster) -> None:
    """End a cluster and its workers at once."""
    for nanny in list(getattr(cluster, "workers", {}).values()):
        nanny.auto_restart = False
        with suppress(ProcessLookupError):
            if nanny.pid:
                os.kill(nanny.pid, signal.SIGKILL)
    with suppress(Exception):
        cluster.close(timeout=5)


atexit.register(end_workers)


class QuietNanny(Nanny):
    """Starts workers without a trace in the caller's process, and without what the caller's script does.

    A worker is a new interpreter, which multiprocessing has run the script or module that it was started
    from: one that calls run_experiment without a guard would start workers in every worker.
    """

    def __init__(self, *args: Any, **settings: Any):
        """As Nanny; the environment of the process that it is in stays as it is."""
        super().__init__(*args, **settings)
        self.pre_spawn_env = {}

    async def instantiate(self) -> Any:
        """Start the process of the worker; Dask calls it for every start, restarts included."""
        with _without_main():
            try:
                return await super().instantiate()
            finally:
                os.environ.pop("__DASK_PARENT_PID", None)  # with which Dask names its processes


_hiding = 0


@contextmanager
def _without_main() -> Iterator[None]:
    """New processes do not learn which script or module this one runs; several such blocks may overlap."""
    global _hiding
    if not _hiding:
        real = multiprocessing.spawn.get_preparation_data

        def hidden(name: str) -> dict[str, Any]:
            return {key: value for key, value in real(name).items() if not key.startswith("init_main")}

        hidden.real = real
        multiprocessing.spawn.get_preparation_data = hidden
    _hiding += 1
    try:
        yield
    finally:
        _hiding -= 1
        if not _hiding:
            multiprocessing.spawn.get_preparation_data = multiprocessing.spawn.get_preparation_data.real


_quiet_blocks: list[dict[str, int]] = []
"""Levels of Dask's loggers before the first of the blocks that keep them quiet now."""


@contextmanager
def quiet() -> Iterator[None]:
    """Dask says nothing meanwhile; afterwards its loggers are as they were. Several blocks may overlap."""
    levels = _quiet_blocks[0] if _quiet_blocks else {name: logging.getLogger(name).level for name in LOUD}
    _quiet_blocks.append(levels)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        _quiet_blocks.pop()
        if not _quiet_blocks:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
