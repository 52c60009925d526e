"""Prune Playground: build, prune, distil and measure small networks, one JSON file an experiment."""

from importlib import import_module
from typing import Any

_HOMES = {
    "run_experiment": "experiment",
    "load_network": "experiment",
    "load_log": "utils",
    "load_dataset": "foundations.data",
    "DataConfig": "foundations.datasets",
    "BodyBuilder": "body_builder",
    "MaskedBodyBuilder": "masked_body_builder",
}
"""What a notebook needs, and where it lives; loaded when first asked for, so that logs need no torch."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """A name of `__all__` (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
