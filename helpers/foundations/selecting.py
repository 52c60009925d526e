"""The module that compaction puts before layers some of whose inputs are dead."""

import torch
from torch import nn


class Selection(nn.Module):
    """Passes on some features or channels: [N, C, …] → [N, len(index), …]."""

    def __init__(self, index: list[int]):
        super().__init__()
        # Part of the architecture, so no part of what is learned and saved.
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values at the places of `index`, in its order."""
        return values.index_select(1, self.index)
