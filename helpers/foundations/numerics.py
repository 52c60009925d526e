"""Torch as every result is computed with it, whatever the caller has set."""

import contextlib
from collections.abc import Iterator

import torch


def best_device(worker: int = 0) -> str:
    """A GPU if there is one, else the CPU; workers share out several GPUs by their number."""
    return f"cuda:{worker % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def numerics(threads: int) -> Iterator[None]:
    """Torch as a worker has it, whatever the caller has set: a result's last bits depend on all of it."""
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    flushes = not torch.full((1,), 2e-38, dtype=torch.float32, device="cpu").mul(0.25).any()
    # Entered only where it is needed, since it costs every call of torch a little.
    on_cpu = contextlib.nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    # Denormal numbers, which a converging Adam makes by the million, are 2.5 times as slow on CPUs.
    torch.set_flush_denormal(True)
    try:
        with with_threads(threads), on_cpu, torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
        torch.set_flush_denormal(flushes)


@contextlib.contextmanager
def with_threads(number: int) -> Iterator[None]:
    """So many threads in every product."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
