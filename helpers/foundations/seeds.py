"""Seeds: one for each purpose, derived from a run's seed and a name."""

import hashlib

import torch


def seed_for(seed: int, *names: str | int) -> int:
    """A seed of 63 bits for one purpose, such as seed_for(0, "order", 1).

    Purposes do not share draws, so arms with the same seed share init and data order (paired),
    whatever else they draw.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one purpose: what it draws is the same whatever the device."""
    return torch.Generator().manual_seed(seed_for(seed, *names))
