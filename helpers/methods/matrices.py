"""Layers with weights as matrices: what they multiply and what they put out, a row an image (and place)."""

import torch.nn.functional as F
from torch import Tensor, nn


def patches(values: Tensor, layer: nn.Module) -> Tensor:
    """What a layer's weights, as [out, in × kernel²], are multiplied by: [rows, in × kernel²]."""
    if isinstance(layer, nn.Linear):
        return values
    columns = F.unfold(values, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    return columns.transpose(1, 2).flatten(0, 1)


def rows(values: Tensor) -> Tensor:
    """[n, out] as it is, [n, out, height, width] with a row a place: [rows, out], as `patches`."""
    return values.flatten(2).transpose(1, 2).flatten(0, 1) if values.dim() > 2 else values
