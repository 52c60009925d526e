"""Budgets: layers that are ranked together, and how many of their weights, units or filters go."""

from dataclasses import dataclass

from torch import Tensor

from ..foundations.errors import UserError
from ..masked_body_builder import LayerMask, MaskedBodyBuilder
from .prune_settings import PruneAmount, PruneSettings
from .stage_settings import Pruning, prune_amounts


@dataclass(frozen=True)
class Group:
    """Layers that are ranked together, and how many of their weights, units or filters go."""

    names: list[str]
    start: int
    """Pruned already, or removed."""
    final: int
    """Pruned in the end."""

    def count(self, progress: float) -> int:
        """How many are pruned at this share of the way, 0 to 1: 1 − (1 − progress)³ of those to come.

        Zhu and Gupta 2017, equation 1.
        """
        return self.start + round((self.final - self.start) * (1 - (1 - progress) ** 3))


def prune_groups(network: MaskedBodyBuilder, settings: Pruning) -> list[Group]:
    """Layers that are ranked together, and how many go. Raises UserError where too many are gone."""
    return [
        _group(network, settings, list(names), amount)
        for names, amount, _ in prune_amounts(network.net, settings)
    ]


def _group(network: MaskedBodyBuilder, settings: Pruning, names: list[str], amount: PruneAmount) -> Group:
    """What is pruned of these layers now, and in the end."""
    kind, stage = settings.kind, "prune" if isinstance(settings, PruneSettings) else "reconstruct"
    total = full_count(network, kind, names)
    kept = sum(int(of_kind(network.masks_of(name), kind).sum()) for name in names)
    already = total - kept
    if amount.sparsity is not None:
        count = round(amount.sparsity * total)
    else:
        count = already + round((amount.rate or 0.0) * kept)
    if count < already and not network.is_compacted:
        raise UserError(
            f"{stage}: {', '.join(names)}: {already} of {total} are pruned already, more than the {count} "
            f"asked for; ask for a sparsity of at least {already / total:g}"
        )
    # Compaction takes what is dead as well, and that may be more.
    return Group(names, already, max(count, already))


def full_count(network: MaskedBodyBuilder, kind: str, names: list[str]) -> int:
    """How many weights, units or filters these layers have in the network that the config describes."""
    return sum(getattr(network.full[name], "weights" if kind == "weight" else "units") for name in names)


def of_kind(mask: LayerMask, kind: str) -> Tensor:
    """The mask that this kind of pruning changes."""
    return mask.weight if kind == "weight" else mask.unit
