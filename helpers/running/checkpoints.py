"""States on disk: tensors and plain values only, nothing that could run."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..foundations.data import Dataset
from ..foundations.nets import NetConfig
from ..masked_body_builder import LayerMask
from ..stages.state import State, begin, learned

SCALARS = (
    "trained", "pruned", "drawn", "resume_at", "precision", "epochs", "train_flops", "wall_s", "status",
)  # fmt: skip
"""What a checkpoint keeps of a state beside weights and masks, where it is not None."""


def to_checkpoint(state: State) -> dict[str, Any]:
    """Weights, masks as bits and plain values: all that a later stage needs, nothing that could run.

    Of a pruned layer's weights only the kept ones are there, in a row. What shuffle revives from is there
    after a rewind alone; else it is the reference, which is no part of the file.
    """
    network, masks = state.network, {}
    weights = {key: value.cpu().contiguous() for key, value in learned(network).items()}
    for name, mask in network.masks().items():
        if not mask.weight.all() or not mask.unit.all():
            masks[name] = {what: _pack(getattr(mask, what)) for what in mask._fields}
            weights[f"layers.{name}.weight"] = weights[f"layers.{name}.weight"][mask.weight.cpu()]
    scalars = {key: getattr(state, key) for key in SCALARS if getattr(state, key) is not None}
    content = {"weights": weights, "masks": masks, "scalars": scalars}
    if state.unpruned is not state.reference:
        content["unpruned"] = {key: value.cpu().contiguous() for key, value in state.unpruned.items()}
    return content | ({"net": network.net.model_dump_json()} if network.is_compacted else {})


def from_checkpoint(checkpoint: dict[str, Any], net: NetConfig, dataset: Dataset, seed: int) -> State:
    """The state that `to_checkpoint` saw; its reference is its own weights, `unpruned` too if not kept.

    Raises KeyError, ValueError or RuntimeError where unfit.
    """
    state = begin(net, dataset, seed)
    if "net" in checkpoint:
        full, small = state.network.full, NetConfig.model_validate_json(checkpoint["net"])
        state.network = begin(small, dataset, seed).network
        state.network.full = full
    network, device, weights = state.network, dataset.train.labels.device, dict(checkpoint["weights"])
    masks = network.masks()
    for name, bits in checkpoint["masks"].items():
        parts = (_unpack(bits[what], getattr(masks[name], what), device) for what in LayerMask._fields)
        masks[name] = mask = LayerMask(*parts)
        kept = weights[f"layers.{name}.weight"].to(device)
        if len(kept) != int(mask.weight.sum()):
            raise ValueError(f"{name}: expected {int(mask.weight.sum())} kept weights, found {len(kept)}")
        weights[f"layers.{name}.weight"] = torch.zeros(mask.weight.shape, device=device).masked_scatter(
            mask.weight, kept
        )
    unknown = network.load_state_dict(weights, strict=False)
    missing = [key for key in unknown.missing_keys if not key.endswith("_mask")]
    if missing or unknown.unexpected_keys:
        raise ValueError(f"expected the weights of this network, found {missing} missing")
    network.set_masks(masks)
    # One that was added since has its default: older checkpoints stay good.
    for key in checkpoint["scalars"].keys() & set(SCALARS):
        setattr(state, key, checkpoint["scalars"][key])
    state.reference = state.unpruned = learned(network)
    if "unpruned" in checkpoint:
        state.unpruned = {key: value.to(device) for key, value in checkpoint["unpruned"].items()}
        if _shapes(state.unpruned) != _shapes(state.reference):
            raise ValueError("expected the weights to revive from to be of this network")
    return state


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes by name."""
    return {key: value.shape for key, value in weights.items()}


def _pack(mask: Tensor) -> Tensor:
    """A mask as bits, uint8."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def _unpack(bits: Tensor, like: Tensor, device: torch.device) -> Tensor:
    """A mask of this shape from its bits. Raises ValueError where they are too few or too many."""
    if len(bits) != -(-like.numel() // 8):
        raise ValueError(f"expected the bits of {like.numel()} mask entries, found {8 * len(bits)}")
    flat = np.unpackbits(bits.numpy(), count=like.numel()).astype(bool)
    return torch.from_numpy(flat).view(like.shape).to(device)
