"""Layers: one class a type, with what a config says of it, its shapes, its cost and its torch module.

Torch is loaded when a module is made, so that a config is checked without it.
"""

import math
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from .settings import Count, Share, StrictModel, Word

if TYPE_CHECKING:
    from torch import nn

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "identity": "Identity",
}
"""By the config's word, the class of torch.nn that computes it, as torch has it by default."""

ActivationName = Literal[tuple(ACTIVATIONS)]
Activation = Annotated[
    ActivationName | None, Field(description="After this layer (and its batch norm); default: the net's.")
]

Shape = tuple[int, ...]
"""Without the batch: (C, H, W) or (features,)."""


class ShapeError(ValueError):
    """A layer that does not fit what comes before it; `index` is its place in `net.layers`."""

    def __init__(self, message: str, field: str | None = None, index: int = 0):
        super().__init__(message)
        self.field, self.index = field, index


class LayerBase(StrictModel):
    """What every layer may have."""

    name: Word | None = Field(
        None,
        description="Address for prune stages; default: its type and number, such as linear_1.",
    )

    def output_shape(self, shape: Shape) -> Shape:
        """What it makes of an input of this shape. Raises ShapeError where it does not fit."""
        return shape

    def cost(self, shape: Shape, output: Shape) -> tuple[int, int]:
        """Parameters, and multiply-accumulates of one sample."""
        return 0, 0

    def module(self, shape: Shape) -> "nn.Module":
        """The module that computes it, for an input of this shape."""
        raise NotImplementedError


class Flatten(LayerBase):
    """Images or feature maps to vectors."""

    type: Literal["flatten"]

    def output_shape(self, shape: Shape) -> Shape:
        """All values in one dimension."""
        return (math.prod(shape),)

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().Flatten()


class Linear(LayerBase):
    """Fully connected. The last one gives the logits and has no activation."""

    type: Literal["linear"]
    units: Count = Field(ge=1, description="Output neurons.")
    activation: Activation = None

    def output_shape(self, shape: Shape) -> Shape:
        """A value a unit."""
        if len(shape) != 1:
            raise ShapeError(f"expected a flat input, found {shape}: put a flatten layer before it")
        return (self.units,)

    def cost(self, shape: Shape, output: Shape) -> tuple[int, int]:
        """A weight an input and unit, a bias a unit."""
        return (shape[0] + 1) * self.units, shape[0] * self.units

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().Linear(shape[0], self.units)


class Conv2d(LayerBase):
    """Convolution with square kernels."""

    type: Literal["conv2d"]
    filters: Count = Field(ge=1, description="Output channels.")
    kernel: Count = Field(ge=1, description="Kernel side, pixels.")
    stride: Count = Field(1, ge=1, description="Step of the kernel, pixels.")
    padding: Count = Field(0, ge=0, description="Zeros around the input, pixels on each side.")
    activation: Activation = None

    def output_shape(self, shape: Shape) -> Shape:
        """A map a filter."""
        return (self.filters, *_windows(shape, self.kernel, self.stride, self.padding))

    def cost(self, shape: Shape, output: Shape) -> tuple[int, int]:
        """Weights at every place, padding included; a bias a filter."""
        weights = shape[0] * self.kernel**2 * self.filters
        return weights + self.filters, weights * output[1] * output[2]

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().Conv2d(shape[0], self.filters, self.kernel, self.stride, self.padding)


class Pool(LayerBase):
    """What max and average pooling share."""

    kernel: Count = Field(2, ge=1, description="Window side, pixels.")
    stride: Count | None = Field(None, ge=1, description="Step of the window, pixels; default: the kernel.")

    def output_shape(self, shape: Shape) -> Shape:
        """A value a window."""
        windows = _windows(shape, self.kernel, self.stride or self.kernel)
        return (shape[0], *windows)


class MaxPool(Pool):
    """Largest value of each window."""

    type: Literal["maxpool"]

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().MaxPool2d(self.kernel, self.stride)


class AvgPool(Pool):
    """Mean of each window."""

    type: Literal["avgpool"]

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().AvgPool2d(self.kernel, self.stride)


class AdaptiveAvgPool(LayerBase):
    """Means over a fixed grid of windows, whatever the input's size."""

    type: Literal["adaptive_avgpool"]
    size: Count = Field(1, ge=1, description="Output side, pixels.")

    def output_shape(self, shape: Shape) -> Shape:
        """As many values as are asked for."""
        channels, _, _ = _map(shape)
        return (channels, self.size, self.size)

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().AdaptiveAvgPool2d(self.size)


class BatchNorm(LayerBase):
    """Batch normalisation (Ioffe and Szegedy 2015), between a layer and its activation."""

    type: Literal["batch_norm"]

    def cost(self, shape: Shape, output: Shape) -> tuple[int, int]:
        """A gain and an offset a feature or channel."""
        return 2 * shape[0], 0

    def module(self, shape: Shape) -> "nn.Module":
        """torch's for features, or for maps."""
        nn = _nn()
        return (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0])


class Dropout(LayerBase):
    """Dropout (Srivastava et al. 2014), while training only."""

    type: Literal["dropout"]
    p: Share = Field(0.5, lt=1, description="Probability that a value is dropped.")

    def module(self, shape: Shape) -> "nn.Module":
        """torch's."""
        return _nn().Dropout(self.p)


class Select(LayerBase):
    """Only some features, or some channels, in this order; compact puts it before layers with dead inputs."""

    type: Literal["select"]
    index: list[Annotated[Count, Field(ge=0)]] = Field(min_length=1, description="Places from 0.")

    def output_shape(self, shape: Shape) -> Shape:
        """As many features or channels as are selected."""
        if max(self.index) >= shape[0]:
            raise ShapeError(f"expected places below {shape[0]}, found {max(self.index)}", "index")
        return (len(self.index), *shape[1:])

    def module(self, shape: Shape) -> "nn.Module":
        """Our own: torch has none."""
        from .selecting import Selection

        return Selection(self.index)


Layer = Annotated[
    Flatten | Linear | Conv2d | MaxPool | AvgPool | AdaptiveAvgPool | BatchNorm | Dropout | Select,
    Field(discriminator="type"),
]


def _map(shape: Shape) -> Shape:
    """The shape, where it is that of maps. Raises ShapeError."""
    if len(shape) != 3:
        raise ShapeError(f"expected (channels, height, width), found {shape}: it is flat already")
    return shape


def _windows(shape: Shape, kernel: int, stride: int, padding: int = 0) -> Shape:
    """How many windows there are along each axis. Raises ShapeError where there is none."""
    _, height, width = _map(shape)
    if kernel > min(height, width) + 2 * padding:
        where = f"{height}×{width} pixels" + (f" with padding {padding}" if padding else "")
        raise ShapeError(f"expected a kernel that fits {where}, found {kernel}", "kernel")
    return tuple((side + 2 * padding - kernel) // stride + 1 for side in (height, width))


def _nn() -> ModuleType:
    """torch.nn, loaded when it is needed."""
    from torch import nn

    return nn
