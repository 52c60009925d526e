"""Pruning: scores say what matters least, exact counts make them masks, masks make zeros.

Shares are of the network that the config describes: what compaction has removed counts as pruned.
The logits layer is left alone unless a stage names it.
"""

import torch
from torch import Tensor

from .foundations.data import Split
from .foundations.errors import UserError
from .masked_body_builder import LayerMask, MaskedBodyBuilder
from .methods.budgets import Group, full_count, of_kind, prune_groups
from .methods.criteria import CRITERIA
from .methods.prune_settings import PruneSettings
from .methods.scoring import ScoringContext


def prune(
    network: MaskedBodyBuilder,
    settings: PruneSettings,
    generator: torch.Generator,
    reference: dict[str, Tensor] | None = None,
    images: Split | None = None,
    groups: list[Group] | None = None,
    progress: float = 1.0,
) -> list[str]:
    """Prune the network in place as a prune stage says, or a ramp at some progress; warnings, if any.

    Exactly round(sparsity × n) are pruned (Python's round): those that are pruned already first,
    then the lowest score, then the lowest index. `images` are what criteria that read images see, the
    first `settings.samples` of them. `groups` (default: those of now) say where a ramp began. Criterion
    `shuffle` then moves each layer's mask to random places; what it revives takes its value from
    `reference`, a state_dict (default: 0).

    Raises UserError where more is pruned already than the stage asks for, or a score is not a number.
    """
    groups = groups if groups is not None else prune_groups(network, settings)
    names = [name for group in groups for name in group.names]
    masks, before = network.masks(), network.masks()
    scores, warnings = _scores(network, settings, names, generator, images), []
    for group in groups:
        kept = [of_kind(masks[name], settings.kind).flatten() for name in group.names]
        flat = torch.cat([scores[name].flatten() for name in group.names])
        gone = full_count(network, settings.kind, group.names) - len(flat)
        keep = _rank(flat, torch.cat(kept), group.count(progress) - gone, ", ".join(group.names))
        for name, new, old in zip(group.names, keep.split([len(k) for k in kept]), kept, strict=True):
            if old.any() and not new.any():
                noun = f"{settings.kind}s" if len(old) > 1 else settings.kind
                warnings.append(
                    f"prune: {name} loses the last of its {len(old)} {noun}: nothing passes it any more"
                )
            if settings.criterion == "shuffle":
                new = _shuffled(new, masks[name], settings.kind, generator)
            masks[name] = _with(masks[name], settings.kind, new)
    if settings.criterion == "shuffle" and reference is not None:
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
    settings: PruneSettings,
    names: list[str],
    generator: torch.Generator,
    images: Split | None,
) -> dict[str, Tensor]:
    """The criterion's scores; the network is in evaluation mode meanwhile, as later readers will be."""
    data = {}
    criterion = CRITERIA[settings.criterion]
    if criterion.reads_images:
        data = {"images": images.images[: settings.samples], "labels": images.labels[: settings.samples]}
    was_training = network.training
    network.eval()
    scores = criterion.score(ScoringContext(network, names, settings.kind, generator, **data))
    network.train(was_training)
    return scores


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


def _with(mask: LayerMask, kind: str, keep: Tensor) -> LayerMask:
    """The layer's mask with a new part; a unit that comes back brings its whole row."""
    if kind == "weight":
        return LayerMask(keep.view_as(mask.weight), mask.unit)
    back = (keep & ~mask.unit).view(-1, *[1] * (mask.weight.dim() - 1))
    return LayerMask(mask.weight | back, keep)
