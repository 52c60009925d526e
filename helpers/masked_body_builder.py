"""MaskedBodyBuilder: a BodyBuilder whose layers carry masks. Masks in, exact zeros and sparsity out."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .body_builder import ACTIVATION_CLASSES, BodyBuilder
from .foundations.nets import NetConfig


class LayerMask(NamedTuple):
    """What a layer keeps (True) and what is pruned (False)."""

    weight: Tensor
    """[out, in] or [out, in, kernel, kernel], bool."""
    unit: Tensor
    """[out], bool: output neurons of a linear layer, filters of a convolution."""


class FullSize(NamedTuple):
    """How large a layer is in the network that the config describes, before any compaction."""

    weights: int
    units: int
    """Output neurons or filters."""


REVIVES_ZERO = (
    *(own for own in ACTIVATION_CLASSES if own()(torch.zeros(1)).item() != 0),
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)
"""What turns the 0 of a pruned unit into something."""


class Gate(nn.Module):
    """Lets nothing of a layer's pruned units pass to its reader."""

    def __init__(self, layer: nn.Module, source_units: Tensor):
        """`source_units` [in]: the unit that each value is of; after flatten a channel has many."""
        super().__init__()
        # In a tuple, so that the layer does not become a submodule of the gate as well.
        self.layer = (layer,)
        self.register_buffer("source_units", source_units, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """[N, in, …] → the same, exactly 0 for pruned units. Selects, since 0 × inf is no 0."""
        mask = self.layer[0].unit_mask[self.source_units]
        return torch.where(mask.view(1, -1, *[1] * (values.dim() - 2)), values, 0)


class MaskedBodyBuilder(BodyBuilder):
    """A network with a mask buffer for every weight and every unit or filter.

    Pruned weights *are* 0: the masks are applied to the weights themselves, after every optimizer
    step (`keep_masks`), so the forward pass costs nothing extra. Masks are buffers and survive
    `state_dict`, save and load. The idea goes back to the masked layers of wanglouis49's
    pytorch-weights_pruning, by way of Lange's notebook; the mechanism differs.
    """

    def __init__(self, net: NetConfig | dict[str, Any], dataset: str = "mnist", seed: int = 0):
        """Like BodyBuilder, with nothing pruned."""
        super().__init__(net, dataset, seed)
        for layer in self.weighted().values():
            layer.register_buffer("weight_mask", torch.ones_like(layer.weight, dtype=torch.bool))
            layer.register_buffer("unit_mask", torch.ones_like(layer.bias, dtype=torch.bool))
        self.full = {name: FullSize(la.weight.numel(), len(la.bias)) for name, la in self.weighted().items()}
        self._add_gates()

    @property
    def is_compacted(self) -> bool:
        """Whether something has been removed for good."""
        return any(self.full[name].weights > la.weight.numel() for name, la in self.weighted().items())

    def _add_gates(self) -> None:
        """A gate before each reader that would not receive exactly 0 from pruned units."""
        modules, weighted = list(self.layers.items()), self.weighted()
        self.layers = nn.ModuleDict()
        source: str | None = None
        leaky = False
        for name, module in modules:
            if name in weighted:
                if leaky:
                    self.layers[f"{name}:gate"] = Gate(weighted[source], self.next_layer(source)[1])
                source, leaky = name, False
            elif source is not None and isinstance(module, REVIVES_ZERO):
                leaky = True
            self.layers[name] = module

    def dense_twin(self, reference: dict[str, Tensor]) -> "MaskedBodyBuilder":
        """A copy with nothing pruned and the reference's weights, a state_dict's, in evaluation mode."""
        twin = copy.deepcopy(self).eval()
        for layer in twin.weighted().values():
            layer.weight_mask.fill_(True)
            layer.unit_mask.fill_(True)
        twin.load_state_dict(reference, strict=False)
        return twin

    def masks_of(self, name: str) -> LayerMask:
        """A layer's masks themselves."""
        layer = self.layers[name]
        return LayerMask(layer.weight_mask, layer.unit_mask)

    def masks(self) -> dict[str, LayerMask]:
        """Copies of the masks by layer name."""
        return {name: LayerMask(*(part.clone() for part in self.masks_of(name))) for name in self.weighted()}

    @torch.no_grad()
    def set_masks(self, masks: dict[str, LayerMask]) -> None:
        """Put masks in and set what they prune to exactly 0; a pruned unit loses its whole row and its bias.

        Raises ValueError where a mask's shape is not its layer's.
        """
        layers = self.weighted()
        for name, mask in masks.items():
            layer = layers[name]
            for what, new, old in (
                ("weight", mask.weight, layer.weight_mask),
                ("unit", mask.unit, layer.unit_mask),
            ):
                if new.shape != old.shape:
                    raise ValueError(
                        f"{name}: expected a {what} mask {tuple(old.shape)}, found {tuple(new.shape)}"
                    )
        for name, mask in masks.items():
            layer = layers[name]
            layer.unit_mask.copy_(mask.unit)
            row = layer.unit_mask.view(-1, *[1] * (layer.weight.dim() - 1))
            layer.weight_mask.copy_(mask.weight & row)
        self.apply_masks()

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set pruned weights and the biases of pruned units to exactly 0."""
        for layer in self.weighted().values():
            layer.weight.masked_fill_(~layer.weight_mask, 0)
            layer.bias.masked_fill_(~layer.unit_mask, 0)

    def keep_masks(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Have this optimizer end each step with the masks applied: no momentum or decay revives a weight.

        The masks are those of now; after `set_masks`, remove the handle and call it again.
        """
        layers = self.weighted().values()
        pruned = [layer for layer in layers if not layer.weight_mask.all() or not layer.unit_mask.all()]
        # Multiplying by a float mask is the fastest way to write many scattered zeros.
        pairs = [(layer.weight, layer.weight_mask.to(layer.weight.dtype)) for layer in pruned]
        pairs += [(layer.bias, layer.unit_mask.to(layer.bias.dtype)) for layer in pruned]

        def zero_again(*_: Any) -> None:
            with torch.no_grad():
                for values, mask in pairs:
                    values.mul_(mask)

        return optimizer.register_step_post_hook(zero_again)

    def check_masks(self) -> None:
        """Raises RuntimeError where a pruned weight or bias is not exactly 0."""
        for name, layer in self.weighted().items():
            revived = (
                layer.weight[~layer.weight_mask].count_nonzero()
                + layer.bias[~layer.unit_mask].count_nonzero()
            )
            if revived:
                raise RuntimeError(f"{name}: {int(revived)} pruned values are not 0: something revived them")

    def keep_rates(self) -> dict[str, float]:
        """Share of each layer's weights that is kept, by layer name; removed ones are not."""
        return {
            name: layer.weight_mask.double().sum().item() / self.full[name].weights
            for name, layer in self.weighted().items()
        }

    def sparsity(self, include_logits: bool = False) -> float:
        """Share of weights pruned or removed, of the prunable ones or of all with the logits layer's."""
        names = [name for name in self.weighted() if include_logits or name != self.logits_name]
        return _gone(
            sum(int(self.layers[name].weight_mask.sum()) for name in names),
            sum(self.full[name].weights for name in names),
        )

    def unit_sparsity(self, kind: str) -> float:
        """Share of units (kind "unit": linear layers but the logits) or filters ("filter") that is gone."""
        wanted = nn.Linear if kind == "unit" else nn.Conv2d
        names = [
            name
            for name, layer in self.weighted().items()
            if isinstance(layer, wanted) and name != self.logits_name
        ]
        return _gone(
            sum(int(self.layers[name].unit_mask.sum()) for name in names),
            sum(self.full[name].units for name in names),
        )


def _gone(kept: int, total: int) -> float:
    """One less the share that is kept; 0 of nothing."""
    return 1 - kept / total if total else 0.0
