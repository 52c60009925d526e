"""What a pruned network really costs, and the smaller dense network that does the same.

Alive is what some input reaches and some output reads.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..foundations.nets import WEIGHTED, NetConfig
from ..masked_body_builder import MaskedBodyBuilder


class EffectiveCost(NamedTuple):
    """What is left of a network when everything dead is taken away."""

    params: int
    """Weights, biases and batch-norm parameters."""
    macs: int
    """Multiply-accumulates of one sample."""
    sparsity: float
    """Share of the prunable weights (all but the logits layer's) that is pruned or dead."""


def effective_cost(network: MaskedBodyBuilder) -> EffectiveCost:
    """Count what is alive: reached from the input through kept weights and read by an output.

    A unit that no input reaches emits a constant, which the next bias can take over (but for the
    padded border of a convolution, which does not see it); one that no output reads changes nothing.
    Convolutions, pooling and batch norm pass life on by channel, flatten from a channel to all its
    features.
    """
    alive = alive_units(network)
    params = macs = kept = total = 0
    for shape in network.shapes:
        inputs, outputs = alive[shape.name]
        if shape.type == "batch_norm":
            params += 2 * int(outputs.sum())
        if shape.type not in WEIGHTED:
            continue
        mask = network.layers[shape.name].weight_mask
        edge = (-1, *[1] * (mask.dim() - 1))
        weights = int((mask & outputs.view(edge) & inputs.view(1, *edge[:-1])).sum())
        params += weights + int(outputs.sum())
        macs += weights * shape.macs // mask.numel()
        if shape.name != network.logits_name:
            kept, total = kept + weights, total + network.full[shape.name].weights
    return EffectiveCost(params, macs, 1 - kept / total if total else 0.0)


def alive_units(network: MaskedBodyBuilder) -> dict[str, tuple[Tensor, Tensor]]:
    """Per layer, which inputs and which outputs are alive: bool, by channel before flatten, else by feature.

    Logits always count as alive: their biases are the network's last word.
    """
    edges, reached = _edges(network), reached_units(network)
    read = torch.ones_like(reached[network.logits_name][1])
    alive: dict[str, tuple[Tensor, Tensor]] = {}
    for shape in reversed(network.shapes):
        inputs, outputs = reached[shape.name]
        last = shape.name == network.logits_name
        outputs = read if last else outputs & read
        if shape.type in WEIGHTED:
            read = (edges[shape.name] & outputs.view(-1, 1)).any(0)
        elif shape.type == "flatten":
            read = read.view(len(inputs), -1).any(1)
        elif shape.type == "select":
            # It may give a value twice, of which either may be read.
            read = torch.zeros_like(inputs).index_fill(0, network.layers[shape.name].index[read], True)
        alive[shape.name] = (inputs & read, outputs)
    return alive


def reached_units(network: MaskedBodyBuilder) -> dict[str, tuple[Tensor, Tensor]]:
    """Per layer, which inputs and which outputs some input of the network reaches; as `alive_units`."""
    edges = _edges(network)
    reached: dict[str, tuple[Tensor, Tensor]] = {}
    device = next(iter(edges.values())).device
    values = torch.ones(network.shapes[0].input_shape[0], dtype=torch.bool, device=device)
    for shape in network.shapes:
        before = values
        if shape.type in WEIGHTED:
            values = (edges[shape.name] & before).any(1)
        elif shape.type == "flatten":
            values = before.repeat_interleave(shape.output_shape[0] // len(before))
        elif shape.type == "select":
            values = before[network.layers[shape.name].index]
        reached[shape.name] = (before, values)
    return reached


def _edges(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    """Per layer with weights, which output keeps a weight to which input or channel: [out, in] bool."""
    return {
        name: layer.weight_mask.flatten(2).any(2) if layer.weight_mask.dim() > 2 else layer.weight_mask
        for name, layer in network.weighted().items()
    }


@torch.no_grad()
def compact(network: MaskedBodyBuilder) -> MaskedBodyBuilder:
    """A smaller network with the same logits, up to rounding, in evaluation mode.

    Removed for good are units and filters that no input reaches or no output reads, and inputs that
    nobody reads (`select` leaves them out). What unreached ones still emit, a constant, goes into the
    next bias. Two things stay: one unit of a layer that is dead altogether, since no layer is empty; and
    an unreached filter that a convolution reads not as one constant, but together with its padding.
    Single pruned weights between living units stay zeros under a mask.
    """
    constants, alive = _constant_inputs(network), alive_units(network)
    must_stay = _must_stay(network, constants, alive)
    layers: list[dict[str, Any]] = []
    parts: dict[str, dict[str, Tensor]] = {}
    # Which of the full network's values the small one still has at this place.
    present = torch.arange(network.shapes[0].input_shape[0], device=next(network.parameters()).device)
    staying: set[int] = set()  # among them, those of units that are dead and yet kept
    for shape in network.shapes:
        fields, module = shape.layer.model_dump(), network.layers[shape.name]
        inputs, outputs = (part.clone() for part in alive[shape.name])
        if shape.type == "flatten":
            size = shape.output_shape[0] // shape.input_shape[0]
            spread = torch.arange(size, device=present.device)
            present = (present.view(-1, 1) * size + spread).flatten()
            staying = {place * size + offset for place in staying for offset in range(size)}
        elif shape.type == "select":
            staying = {new for new, old in enumerate(shape.layer.index) if old in staying}
            outputs[list(staying)] = True
            kept = outputs.nonzero().flatten()
            # Where nobody reads anything, one place of whatever value will do.
            fields["index"] = torch.searchsorted(present, module.index[kept]).tolist() or [0]
            present = kept if len(kept) else kept.new_zeros(1)
        elif shape.type == "batch_norm":
            parts[shape.name] = {
                key: value[present] if value.dim() else value for key, value in module.state_dict().items()
            }
        elif shape.type in WEIGHTED:
            inputs[list(staying)] = True
            folded = _folded(module, constants[shape.name], ~inputs)
            is_severed = not inputs.any()
            if is_severed:
                inputs[present[0]] = True
            if int(inputs.sum()) < len(present):
                index = inputs[present].nonzero().flatten().tolist()
                layers.append({"type": "select", "index": index})
            staying = set()
            if shape.name != network.logits_name:
                staying = must_stay[shape.name]
                outputs[list(staying)] = True
                fields["units" if shape.type == "linear" else "filters"] = int(outputs.sum())
            parts[shape.name] = {
                "weight": module.weight[outputs][:, inputs] * (not is_severed),
                "bias": (module.bias + folded)[outputs],
                "weight_mask": module.weight_mask[outputs][:, inputs] & (not is_severed),
                "unit_mask": module.unit_mask[outputs],
            }
            present = outputs.nonzero().flatten()
        layers.append(fields)
    net = network.net.model_dump() | {"layers": layers}
    small = MaskedBodyBuilder(NetConfig.model_validate(net), network.dataset).to(present.device)
    if small.is_convolutional:
        small = small.to(memory_format=torch.channels_last)
    small.load_state_dict(
        {f"layers.{name}.{key}": v for name, part in parts.items() for key, v in part.items()}
    )
    small.full = network.full
    return small.train(network.training)


def _constant_inputs(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    """What each layer with weights is given for zeros: for what no input reaches, always the same.

    [in] for linear layers, [in, height, width] for convolutions.
    """
    device = next(network.parameters()).device
    image = torch.zeros(1, *network.shapes[0].input_shape, device=device)
    seen: dict[str, Tensor] = {}
    was_training = network.training
    network.eval()
    values = image
    for name, module in network.layers.items():
        seen[name] = values[0]
        values = module(values)
    network.train(was_training)
    return {name: seen[name] for name in network.weighted()}


def _folded(layer: nn.Module, constants: Tensor, removed: Tensor) -> Tensor:
    """What a layer's removed inputs, constants all, add to its pre-activations: [out]."""
    weight = layer.weight.flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight
    # Of a convolution's removed inputs the maps are uniform, so that one place tells all.
    values = constants.flatten(1)[:, 0] if constants.dim() > 1 else constants
    return weight[:, removed] @ values[removed]


def _must_stay(
    network: MaskedBodyBuilder, constants: dict[str, Tensor], alive: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, set[int]]:
    """By layer, places of dead units or filters that cannot be removed: see `compact`."""
    reached = reached_units(network)
    found: dict[str, set[int]] = {}
    # From the logits back, since what only a removed filter reads need not stay.
    for name in reversed([name for name in network.weighted() if name != network.logits_name]):
        reader_name, source_units = network.next_layer(name)
        reader, staying = network.layers[reader_name], set()
        if isinstance(reader, nn.Conv2d):
            maps = constants[reader_name].flatten(1)
            is_uniform = (maps == maps[:, :1]).all(1)
            is_silent = is_uniform & (maps[:, 0] == 0)
            is_foldable = is_silent | (is_uniform & (max(reader.padding) == 0))
            readers = alive[reader_name][1].clone()
            readers[list(found[reader_name])] = True
            is_read = reader.weight_mask[readers].flatten(2).any(2).any(0)
            staying = set(source_units[~is_foldable & is_read & ~reached[name][1][source_units]].tolist())
        found[name] = staying if staying or alive[name][1].any() else {0}
    return found


@torch.inference_mode()
def largest_difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Largest difference between two networks' logits over these images, in evaluation mode."""
    modes = [one.training, other.training]
    one.eval()
    other.eval()
    largest = (
        torch.stack([(one(batch) - other(batch)).abs().max() for batch in images.split(1000)]).max().item()
    )
    one.train(modes[0])
    other.train(modes[1])
    return largest
