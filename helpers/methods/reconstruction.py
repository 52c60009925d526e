"""Reconstruct: what survives of a network is chosen anew by what it explains, and fitted; without any label.

Layer by layer from the input, each unit's weights are chosen and fitted from what the *pruned* network now
gives it, onto what the *dense* network had at that place: its pre-activation. Units and filters are chosen
by what the layer that reads them needs, after their own layer has been fitted. What the error of each unit
costs decides how the budget is shared out.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..masked_body_builder import LayerMask, MaskedBodyBuilder
from .block_pursuit import follow_blocks
from .budgets import prune_groups
from .least_squares import Moments, moment_flops, moments_of, normal_equations, solve, solve_flops
from .pursuit import Problem, best_of, filled, follow, support
from .rectified import rectified_moments, rectifier_of
from .refit import BATCH
from .sensitivity import SAMPLES, outgoing, sensitivity
from .stage_settings import ReconstructStage


@torch.no_grad()
def reconstruct(
    network: MaskedBodyBuilder,
    settings: ReconstructStage,
    reference: dict[str, Tensor],
    images: Tensor,
    generator: torch.Generator,
) -> tuple[float, list[str]]:
    """Choose and fit the survivors in place, in evaluation mode; what is pruned stays pruned.

    `reference`: the dense network's state_dict without masks. `images` [n, C, H, W], normalised; the first
    `settings.samples` are read. Returns the floating-point operations of it all, and notes for the user.
    Raises UserError where more is pruned already than the stage asks for, or a fit has no solution.
    """
    was_training = network.training
    network.eval()
    walk = Walk(network, settings, network.dense_twin(reference), images[: settings.samples], generator)
    before = network.masks()
    keep = walk.counts()
    walk.go(keep)
    network.apply_masks()
    network.train(was_training)
    return walk.flops, _notes(network, settings, before, keep)


@dataclass
class Walk:
    """One way through the layers, from input to logits, of a network and its dense twin."""

    network: MaskedBodyBuilder
    settings: ReconstructStage
    twin: MaskedBodyBuilder
    images: Tensor
    generator: torch.Generator
    flops: float = 0.0
    costs: dict[str, Tensor] = field(default_factory=dict)
    """[out] by layer: what a unit of each unit's squared error costs."""
    norms: dict[str, Tensor] = field(default_factory=dict)
    """[out] by layer: L2 norm of each unit's incoming weights, as they were before."""

    def __post_init__(self) -> None:
        layers, images = self.network.weighted(), self.images[:SAMPLES]
        self.norms = {name: layer.weight.flatten(1).norm(dim=1).double() for name, layer in layers.items()}
        if self.settings.method == "random" or self.settings.weigh == "none":
            self.costs = {name: torch.ones_like(norm) for name, norm in self.norms.items()}
        elif self.settings.weigh == "outgoing":
            self.costs = outgoing(self.twin)
        else:
            self.costs = sensitivity(self.twin, images)
            classes = len(self.network.layers[self.network.logits_name].bias)
            self.flops += 2.0 * self.network.macs * len(images) * (1 + 2 * classes)

    def counts(self) -> dict[str, int]:
        """How many weights, units or filters of each layer that is pruned are to stay."""
        keep: dict[str, int] = {}
        for group in prune_groups(self.network, self.settings):
            alive = sum(int(self._alive(name).sum()) for name in group.names)
            count = alive - (group.final - group.start)
            shared = self._share_out(group.names, count) if len(group.names) > 1 else [count]
            keep |= dict(zip(group.names, shared, strict=True))
        return keep

    def go(self, keep: dict[str, int]) -> None:
        """Choose and fit, layer by layer."""
        network, source = self.network, ""
        pruned = dense = list(self.images.split(BATCH))
        weighted, by_reader = network.weighted(), self.settings.kind != "weight"
        self.flops += 4.0 * network.macs * len(self.images)
        for name, layer in network.layers.items():
            targets = [self.twin.layers[name](values) for values in dense]
            if name in weighted:
                moments = moments_of(layer, pruned, targets)
                if by_reader and source in keep:
                    kept = self._choose_units(source, name, moments, keep[source])
                    network.set_masks({source: LayerMask(weighted[source].weight_mask, kept)})
                    pruned, moments = self._without(source, name, pruned, moments)
                elif not by_reader and name in keep:
                    kept = self._choose_weights(name, moments, keep[name])
                    layer.weight_mask.copy_(kept.view_as(layer.weight_mask))
                self._fit(name, pruned, targets, moments)
                source = name
            pruned = [layer(values) for values in pruned]
            dense = targets

    def _alive(self, name: str) -> Tensor:
        """What may survive of a layer, bool: its single weights, [out, in]; or its units, [out]."""
        mask = self.network.masks_of(name)
        return mask.weight.flatten(1) if self.settings.kind == "weight" else mask.unit

    # What stays

    def _choose_weights(self, name: str, moments: Moments, count: int) -> Tensor:
        """Which single weights of a layer stay, [out, in]."""
        if self.settings.method == "pursuit":
            kept, flops = support(self._problem(name, moments), count)
            self.flops += flops
            return kept
        return _best(self._weight_scores(name, moments), self._alive(name), count)

    def _problem(self, name: str, moments: Moments) -> Problem:
        """The regressions of a layer, as forward selection takes them."""
        gram, cross = normal_equations(moments, self.settings.ridge)
        return Problem(gram, cross, self._alive(name), self.costs[name])

    def _weight_scores(self, name: str, moments: Moments) -> Tensor:
        """[out, in], the most important highest: the square root of what the error may cost without it."""
        weight = self.network.layers[name].weight.flatten(1).double()
        if self.settings.method == "random":
            return torch.rand(weight.shape, generator=self.generator).to(weight.device)
        scores = weight.abs() * self.costs[name].sqrt().view(-1, 1)
        return scores * moments.gram.diagonal().sqrt() if self.settings.method == "contribution" else scores

    def _choose_units(self, source: str, reader: str, moments: Moments, count: int) -> Tensor:
        """Which units or filters of a layer stay, [units], by what its reader needs."""
        alive = self._alive(source)
        if self.settings.method != "pursuit":
            return _best(self._unit_scores(source, reader, moments), alive, count)
        kept = torch.zeros_like(alive)
        if 0 < count < int(alive.sum()):
            kept[self._follow_units(source, reader, moments, count)[0]] = True
        return filled(kept, alive, count)

    def _follow_units(self, source: str, reader: str, moments: Moments, steps: int) -> tuple[Tensor, Tensor]:
        """Units in the order in which the reader's targets, each at its cost, would take them, and values."""
        gram, cross = normal_equations(moments, self.settings.ridge)
        if reader == self.network.logits_name:
            cross = cross - cross.mean(1, keepdim=True)  # what all classes share decides nothing
        cross = cross * self.costs[reader].sqrt()
        source_units = self._source_units(source, reader)
        order, values, flops = follow_blocks(gram, cross, source_units, self._alive(source), steps)
        self.flops += flops
        return order, values

    def _unit_scores(self, source: str, reader: str, moments: Moments) -> Tensor:
        """[units], the most important highest."""
        if self.settings.method == "random":
            return torch.rand(self.norms[source].shape, generator=self.generator).to(moments.gram.device)
        if self.settings.method == "contribution":
            weight = self.network.layers[reader].weight.flatten(1).double()
            squares = moments.gram.diagonal() * (self.costs[reader].view(-1, 1) * weight**2).sum(0)
            source_units = self._source_units(source, reader)
            return torch.zeros_like(self.norms[source]).index_add_(0, source_units, squares).sqrt()
        return self.norms[source] * self.costs[source].sqrt()

    def _source_units(self, source: str, reader: str) -> Tensor:
        """Which unit or filter each input of the reader, as a matrix, is of: [in × kernel²]."""
        source_units = self.network.next_layer(source)[1]
        return source_units.repeat_interleave(
            self.network.layers[reader].weight[0].numel() // len(source_units)
        )

    def _without(
        self, source: str, reader: str, values: list[Tensor], moments: Moments
    ) -> tuple[list[Tensor], Moments]:
        """What the reader is given, and its moments, when the pruned units of a layer give exactly 0."""
        unit_mask = self.network.masks_of(source).unit
        passes, column = (
            unit_mask[self.network.next_layer(source)[1]],
            unit_mask[self._source_units(source, reader)],
        )
        values = [torch.where(passes.view(1, -1, *[1] * (v.dim() - 2)), v, 0) for v in values]
        gram = moments.gram * column * column.view(-1, 1)
        cross = moments.cross * column.view(-1, 1)
        return values, replace(moments, inputs=moments.inputs * column, gram=gram, cross=cross)

    # How many stay, where layers share

    def _share_out(self, names: list[str], count: int) -> list[int]:
        """How many of each layer are among the `count` that stay of them all, ranked on dense inputs."""
        values = self._dense_values(names, count) if count else [torch.zeros(0)] * len(names)
        shared = [int(part.sum()) for part in best_of(values, count)]
        for place, name in enumerate(names):  # what nothing tells, by its index
            room = int(self._alive(name).sum()) - shared[place]
            shared[place] += min(room, count - sum(shared))
        return shared

    def _dense_values(self, names: list[str], count: int) -> list[Tensor]:
        """What each weight, unit or filter of these layers is worth on dense inputs, in any order."""
        found: dict[str, Tensor] = {}
        problems: dict[str, Problem] = {}
        dense, source, is_pursuit = list(self.images.split(BATCH)), "", self.settings.method == "pursuit"
        self.flops += 2.0 * self.network.macs * len(self.images)
        for name, layer in self.twin.layers.items():
            targets = [layer(values) for values in dense]
            scored = name if self.settings.kind == "weight" else source
            if name in self.network.weighted() and scored in names:
                moments = moments_of(layer, dense, targets)
                self.flops += moment_flops(layer, targets)
                if self.settings.kind == "weight" and is_pursuit:
                    problems[name] = self._problem(name, moments)
                elif self.settings.kind == "weight":
                    found[name] = self._weight_scores(name, moments)[self._alive(name)]
                elif is_pursuit:
                    alive = int(self._alive(source).sum())
                    found[source] = self._follow_units(source, name, moments, alive)[1]
                else:
                    found[source] = self._unit_scores(source, name, moments)[self._alive(source)]
            source = name if name in self.network.weighted() else source
            dense = targets
        if problems:
            choices = follow(list(problems.values()), count)
            self.flops += sum(choice.flops for choice in choices)
            found = {name: choice.values for name, choice in zip(problems, choices, strict=True)}
        return [found[name] for name in names]

    # Its values

    def _fit(self, name: str, inputs: list[Tensor], targets: list[Tensor], moments: Moments) -> None:
        """Fit a layer's kept weights and biases, in float64, to the dense pre-activations."""
        layer, settings = self.network.layers[name], self.settings
        mask = layer.weight_mask.flatten(1)
        weight, solving = solve(moments, mask, settings.ridge, "reconstruct"), solve_flops(mask)
        self.flops += moment_flops(layer, targets) + solving
        rectifier = rectifier_of(self.twin, name) if settings.fit == "rectified" else None
        for _ in range(settings.rounds if rectifier is not None else 0):
            bias = moments.targets - weight @ moments.inputs
            moments, products = rectified_moments(layer, inputs, targets, moments, weight, bias, rectifier)
            weight = solve(moments, mask, settings.ridge, "reconstruct")
            self.flops += products + solving
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.copy_(moments.targets - weight @ moments.inputs)
        layer.bias.masked_fill_(~layer.unit_mask, 0)


def _best(scores: Tensor, alive: Tensor, count: int) -> Tensor:
    """Where the `count` highest scores of what is alive are, bool; of equal ones the first."""
    order = torch.where(alive, scores, -torch.inf).flatten().argsort(descending=True, stable=True)
    return torch.zeros_like(alive).view(-1).index_fill(0, order[:count], True).view_as(alive)


def _notes(
    network: MaskedBodyBuilder, settings: ReconstructStage, before: dict[str, LayerMask], keep: dict[str, int]
) -> list[str]:
    """What the user should hear: layers that are gone, and layers that no ReLU reads."""
    notes = []
    for name, count in keep.items():
        mask = before[name].weight if settings.kind == "weight" else before[name].unit
        if not count and mask.any():
            noun = f"{settings.kind}s" if mask.numel() > 1 else settings.kind
            text = f"loses the last of its {mask.numel()} {noun}: nothing passes it any more"
            notes.append(f"reconstruct: {name} {text}")
    layers = [name for name in network.weighted() if name != network.logits_name]
    others = [name for name in layers if rectifier_of(network, name) is None]
    if settings.fit == "rectified" and others:
        notes.append(f"reconstruct: no ReLU reads {', '.join(others)}: fitted to every dense pre-activation")
    return notes
