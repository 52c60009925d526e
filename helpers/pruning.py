"""Pruning: scores say what matters least, exact counts make them masks, masks make zeros.

A unit is an output neuron, so a row of torch's [out, in] weight; a filter is the same for a
convolution's output channel. The logits layer is left alone unless a stage names it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import PruneAmount, PruneStage
from .errors import UserError
from .masked_body_builder import LayerMask, MaskedBodyBuilder
from .shapes import prunable_names

Score = Callable[[nn.Module, str, torch.Generator], Tensor]


def magnitude(layer: nn.Module, kind: str, generator: torch.Generator) -> Tensor:
    """|w| of each weight, or the L2 norm of each unit's or filter's incoming weights."""
    weight = layer.weight.detach()
    return weight.abs() if kind == "weight" else weight.flatten(1).norm(dim=1)


def random(layer: nn.Module, kind: str, generator: torch.Generator) -> Tensor:
    """Uniform numbers, drawn on the CPU: the control that any criterion has to beat."""
    shape = layer.weight.shape if kind == "weight" else layer.bias.shape
    return torch.rand(shape, generator=generator).to(layer.weight.device)


CRITERIA: dict[str, Score] = {"magnitude": magnitude, "random": random, "shuffle": magnitude}
"""From a config's word to the scores of one layer: [out, in, …] for weights, [out] for units and filters."""


def prune(
    network: MaskedBodyBuilder,
    stage: PruneStage,
    generator: torch.Generator,
    reference: dict[str, Tensor] | None = None,
) -> None:
    """Prune the network in place as a config's prune stage says.

    Exactly round(sparsity × n) are pruned (Python's round): those that are pruned already first,
    then the lowest score, then the lowest index. Criterion `shuffle` then moves each layer's mask
    to random places; what it revives takes its value from `reference`, a state_dict (default: 0).

    Raises UserError where more is pruned already than the stage asks for, or a score is not a number.
    """
    masks = network.masks()
    for names, amount in _groups(network, stage):
        layers = [network.weighted()[name] for name in names]
        scores = [CRITERIA[stage.criterion](layer, stage.kind, generator).flatten() for layer in layers]
        kept = [_of_kind(masks[name], stage.kind).flatten() for name in names]
        if amount is not None:
            kept = _rank(torch.cat(scores), torch.cat(kept), amount, ", ".join(names)).split(
                [len(k) for k in kept]
            )
        for name, keep in zip(names, kept, strict=True):
            if stage.criterion == "shuffle":
                keep = _shuffled(keep, masks[name], stage.kind, generator)
            masks[name] = _with(masks[name], stage.kind, keep)
    if stage.criterion == "shuffle" and reference is not None:
        with torch.no_grad():
            for name, layer in network.weighted().items():
                layer.weight.copy_(reference[f"layers.{name}.weight"])
                layer.bias.copy_(reference[f"layers.{name}.bias"])
    network.set_masks(masks)


def _groups(network: MaskedBodyBuilder, stage: PruneStage) -> list[tuple[list[str], PruneAmount | None]]:
    """Layers that are ranked together, and how much of them goes; None: no more than is pruned now."""
    names, logits = prunable_names(network.net, stage.kind)
    overrides = {} if stage.layers == "all" else dict(stage.layers)
    if stage.layers == "all" or logits in overrides:
        names.append(logits)
    default = PruneAmount(sparsity=stage.sparsity, rate=stage.rate)
    own = {name: amount for name, amount in overrides.items() if amount != PruneAmount()}
    together = [name for name in names if name not in own]
    groups = [together] if stage.scope == "global" and together else [[name] for name in together]
    pairs = [(group, default) for group in groups] + [([name], amount) for name, amount in own.items()]
    # Ranked in the network's order, so that random draws do not depend on the order of a dict.
    pairs.sort(key=lambda pair: names.index(pair[0][0]))
    return [(group, amount if amount != PruneAmount() else None) for group, amount in pairs]


def _rank(scores: Tensor, kept: Tensor, amount: PruneAmount, where: str) -> Tensor:
    """What is still kept after pruning by rank. All [n]; raises UserError."""
    if scores.isnan().any():
        raise UserError(
            f"prune: {where}: expected scores that are numbers, found NaN: has the training diverged?"
        )
    total, already = len(kept), int((~kept).sum())
    if amount.sparsity is not None:
        count = round(amount.sparsity * total)
    else:
        count = already + round(amount.rate * (total - already))
    if count < already:
        raise UserError(
            f"prune: {where}: {already} of {total} are pruned already, more than the {count} asked for; "
            f"ask for a sparsity of at least {already / total:g}"
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
