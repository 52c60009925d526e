"""What goes through a network: what its layers read and put out, as matrices where they have weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def watch(modules: dict[str, nn.Module], inputs: bool = False) -> Iterator[dict[str, Tensor]]:
    """What these modules put out (or take in) at the latest pass, by name."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, taken: tuple[Tensor, ...], put: Tensor) -> None:
            seen[name] = taken[0] if inputs else put

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def squares_by_input(layer: nn.Module) -> Tensor:
    """Squared norm of the weights that read each input feature or channel, [in]."""
    return (layer.weight.detach() ** 2).transpose(0, 1).flatten(1).sum(1)
