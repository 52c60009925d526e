"""To the workers: of a running Dask scheduler, or our own; what goes wrong is told in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..foundations.errors import UserError

if TYPE_CHECKING:  # Dask is imported where it is needed: what is there already is loaded without it
    from distributed import Client

ADDRESS = "DASK_SCHEDULER_ADDRESS"
"""Variable of the environment that names a running scheduler."""


@contextmanager
def connected(workers: int, at_least: bool, scheduler: str | None) -> Iterator[Client]:
    """A client of the running scheduler, or of workers of our own, who stay if all ends well."""
    with ExitStack() as stack:
        try:
            from distributed import Client

            from .workers import end_workers, own_client, quiet

            stack.enter_context(quiet())
            if scheduler:
                client = stack.enter_context(Client(scheduler, timeout=10, set_as_default=False))
            else:
                client = own_client(workers, at_least)
        except Exception as error:  # as many kinds as Dask has settings
            raise UserError(no_workers(scheduler, error)) from None
        try:
            yield client
        except OSError as error:
            if not scheduler:
                end_workers()
                raise
            raise UserError(
                f"{name_of(scheduler)}: lost it ({error}); start it again and repeat the command: what is "
                "finished is kept"
            ) from None
        except BaseException:
            if not scheduler:
                # All results are on disk, and after Ctrl-C a worker deep in a product would not listen.
                end_workers()
            raise


def name_of(scheduler: str) -> str:
    """Where a scheduler's address was given."""
    is_variable = scheduler == os.environ.get(ADDRESS)
    return f"{ADDRESS}={scheduler}" if is_variable else f"--scheduler {scheduler}"


def no_workers(scheduler: str | None, error: BaseException) -> str:
    """What to say where Dask cannot be started, or a running one not be found."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if not scheduler:
        return (
            f"Dask: expected to start workers, found {reason}; look at the environment's DASK_… variables "
            "and at Dask's configuration files"
        )
    remedy = "unset it" if name_of(scheduler).startswith(ADDRESS) else "leave the option out"
    return (
        f"{name_of(scheduler)}: expected the address of a running Dask scheduler ({reason}); start one "
        f"(dask scheduler) or {remedy}"
    )
