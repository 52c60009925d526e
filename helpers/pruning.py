"""Pruning: scores say what matters least, exact counts make them masks, masks make zeros.

Shares are of the network that the config describes: what compaction has removed counts as pruned.
The logits layer is left alone unless a stage names it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .config import PruneAmount, PruneWords, Pruning
from .criteria import CRITERIA, NEEDS_DATA, Scene
from .data import Split
from .errors import UserError
from .masked_body_builder import LayerMask, MaskedBodyBuilder
from .prune_bounds import prune_amounts


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


def prune(
    network: MaskedBodyBuilder,
    words: PruneWords,
    generator: torch.Generator,
    reference: dict[str, Tensor] | None = None,
    images: Split | None = None,
    groups: list[Group] | None = None,
    progress: float = 1.0,
) -> list[str]:
    """Prune the network in place as a prune stage says, or a ramp at some progress; warnings, if any.

    Exactly round(sparsity × n) are pruned (Python's round): those that are pruned already first,
    then the lowest score, then the lowest index. `images` are what criteria in NEEDS_DATA read, the
    first `words.samples` of them. `groups` (default: those of now) say where a ramp began. Criterion
    `shuffle` then moves each layer's mask to random places; what it revives takes its value from
    `reference`, a state_dict (default: 0).

    Raises UserError where more is pruned already than the stage asks for, or a score is not a number.
    """
    groups = groups if groups is not None else prune_groups(network, words)
    names = [name for group in groups for name in group.names]
    masks, before = network.masks(), network.masks()
    scores, warnings = _scores(network, words, names, generator, images), []
    for group in groups:
        kept = [_of_kind(masks[name], words.kind).flatten() for name in group.names]
        flat = torch.cat([scores[name].flatten() for name in group.names])
        gone = _full_count(network, words.kind, group.names) - len(flat)
        keep = _rank(flat, torch.cat(kept), group.count(progress) - gone, ", ".join(group.names))
        for name, new, old in zip(group.names, keep.split([len(k) for k in kept]), kept, strict=True):
            if old.any() and not new.any():
                noun = f"{words.kind}s" if len(old) > 1 else words.kind
                warnings.append(
                    f"prune: {name} loses the last of its {len(old)} {noun}: nothing passes it any more"
                )
            if words.criterion == "shuffle":
                new = _shuffled(new, masks[name], words.kind, generator)
            masks[name] = _with(masks[name], words.kind, new)
    if words.criterion == "shuffle" and reference is not None:
        _revive(network, before, reference)
    network.set_masks(masks)
    return warnings


@torch.no_grad()
def _revive(network: MaskedBodyBuilder, before: dict[str, LayerMask], reference: dict[str, Tensor]) -> None:
    """Give what is pruned now its value in the reference; the new masks decide what of it stays."""
    for name, layer in network.weighted().items():
        mask = before[name]
        layer.weight.copy_(torch.where(mask.weight, layer.weight, reference[f"layers.{name}.weight"]))
        layer.bias.copy_(torch.where(mask.unit, layer.bias, reference[f"layers.{name}.bias"]))


def _scores(
    network: MaskedBodyBuilder,
    words: PruneWords,
    names: list[str],
    generator: torch.Generator,
    images: Split | None,
) -> dict[str, Tensor]:
    """The criterion's scores; the network is in evaluation mode meanwhile, as later readers will be."""
    data = {}
    if words.criterion in NEEDS_DATA:
        data = {"images": images.images[: words.samples], "labels": images.labels[: words.samples]}
    was_training = network.training
    network.eval()
    scores = CRITERIA[words.criterion](Scene(network, names, words.kind, generator, **data))
    network.train(was_training)
    return scores


def prune_groups(network: MaskedBodyBuilder, words: Pruning) -> list[Group]:
    """Layers that are ranked together, and how many go. Raises UserError where too many are gone."""
    return [
        _group(network, words, list(names), amount) for names, amount, _ in prune_amounts(network.net, words)
    ]


def _group(network: MaskedBodyBuilder, words: Pruning, names: list[str], amount: PruneAmount) -> Group:
    """What is pruned of these layers now, and in the end."""
    kind, stage = words.kind, "prune" if isinstance(words, PruneWords) else "reconstruct"
    total = _full_count(network, kind, names)
    kept = sum(int(_of_kind(network.masks_of(name), kind).sum()) for name in names)
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


def _full_count(network: MaskedBodyBuilder, kind: str, names: list[str]) -> int:
    """How many weights, units or filters these layers have in the network that the config describes."""
    return sum(getattr(network.full[name], "weights" if kind == "weight" else "units") for name in names)


def _rank(scores: Tensor, kept: Tensor, count: int, where: str) -> Tensor:
    """What is still kept when `count` are pruned, by rank. All [n]; raises UserError."""
    if scores.isnan().any():
        raise UserError(
            f"prune: {where}: expected scores that are numbers, found NaN: has the training diverged?"
        )
    order = scores.masked_fill(~kept, -torch.inf).argsort(stable=True)
    keep = torch.ones_like(kept)
    keep[order[:count]] = False
    return keep


def _shuffled(keep: Tensor, mask: LayerMask, kind: str, generator: torch.Generator) -> Tensor:
    """As many kept, at random places; weights stay in the rows of units that are kept."""
    if kind == "weight":
        rows = mask.unit.view(-1, *[1] * (mask.weight.dim() - 1)).expand_as(mask.weight)
        places = rows.flatten().nonzero().flatten()
    else:
        places = torch.arange(len(keep), device=keep.device)
    shuffled = keep.clone()
    shuffled[places] = keep[places[torch.randperm(len(places), generator=generator).to(keep.device)]]
    return shuffled


def _of_kind(mask: LayerMask, kind: str) -> Tensor:
    """The mask that this kind of pruning changes."""
    return mask.weight if kind == "weight" else mask.unit


def _with(mask: LayerMask, kind: str, keep: Tensor) -> LayerMask:
    """The layer's mask with a new part; a unit that comes back brings its whole row."""
    if kind == "weight":
        return LayerMask(keep.view_as(mask.weight), mask.unit)
    back = (keep & ~mask.unit).view(-1, *[1] * (mask.weight.dim() - 1))
    return LayerMask(mask.weight | back, keep)
