"""Layers: what a config says of each, and its shapes, parameters and MACs, without torch."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from .datasets import DATASETS
from .settings import Count, Share, StrictModel, Word

ActivationName = Literal["relu", "gelu", "sigmoid", "tanh", "identity"]


Activation = Annotated[
    ActivationName | None, Field(description="After this layer (and its batch norm); default: the net's.")
]


class LayerBase(StrictModel):
    """What every layer may have."""

    name: Word | None = Field(
        None,
        description="Address for prune stages; default: its type and number, such as linear_1.",
    )


class Flatten(LayerBase):
    """Images or feature maps to vectors."""

    type: Literal["flatten"]


class Linear(LayerBase):
    """Fully connected. The last one gives the logits and has no activation."""

    type: Literal["linear"]
    units: Count = Field(ge=1, description="Output neurons.")
    activation: Activation = None


class Conv2d(LayerBase):
    """Convolution with square kernels."""

    type: Literal["conv2d"]
    filters: Count = Field(ge=1, description="Output channels.")
    kernel: Count = Field(ge=1, description="Kernel side, pixels.")
    stride: Count = Field(1, ge=1, description="Step of the kernel, pixels.")
    padding: Count = Field(0, ge=0, description="Zeros around the input, pixels on each side.")
    activation: Activation = None


class Pool(LayerBase):
    """What max and average pooling share."""

    kernel: Count = Field(2, ge=1, description="Window side, pixels.")
    stride: Count | None = Field(None, ge=1, description="Step of the window, pixels; default: the kernel.")


class MaxPool(Pool):
    """Largest value of each window."""

    type: Literal["maxpool"]


class AvgPool(Pool):
    """Mean of each window."""

    type: Literal["avgpool"]


class AdaptiveAvgPool(LayerBase):
    """Means over a fixed grid of windows, whatever the input's size."""

    type: Literal["adaptive_avgpool"]
    size: Count = Field(1, ge=1, description="Output side, pixels.")


class BatchNorm(LayerBase):
    """Batch normalisation (Ioffe and Szegedy 2015), between a layer and its activation."""

    type: Literal["batch_norm"]


class Dropout(LayerBase):
    """Dropout (Srivastava et al. 2014), while training only."""

    type: Literal["dropout"]
    p: Share = Field(0.5, lt=1, description="Probability that a value is dropped.")


class Select(LayerBase):
    """Only some features, or some channels, in this order; compact puts it before layers with dead inputs."""

    type: Literal["select"]
    index: list[Annotated[Count, Field(ge=0)]] = Field(min_length=1, description="Places from 0.")


Layer = Annotated[
    Flatten | Linear | Conv2d | MaxPool | AvgPool | AdaptiveAvgPool | BatchNorm | Dropout | Select,
    Field(discriminator="type"),
]


class NetConfig(StrictModel):
    """The network: layers from input to logits."""

    layers: list[Layer] = Field(min_length=1, description="From input to logits.")
    activation: ActivationName = Field("relu", description="After every layer with weights but the last.")
    init: Literal["kaiming_normal", "kaiming_uniform", "glorot_normal", "glorot_uniform"] = Field(
        "kaiming_normal",
        description="Initial weights: He et al. 2015 or Glorot and Bengio 2010; biases start at 0.",
    )


WEIGHTED = ("linear", "conv2d")
"""Layers that have a weight, and so can be pruned."""


@dataclass(frozen=True)
class LayerShape:
    """One layer's place in the network. Shapes are without the batch: (C, H, W) or (features,)."""

    name: str
    layer: Layer
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    params: int
    macs: int

    @property
    def type(self) -> str:
        """The config's word for this layer."""
        return self.layer.type


class ShapeError(ValueError):
    """A layer that does not fit what comes before it; `index` is its place in `net.layers`."""

    def __init__(self, index: int, message: str, field: str | None = None):
        super().__init__(message)
        self.index, self.field = index, field


def layer_names(net: NetConfig) -> list[str]:
    """Each layer's name, given or default: its type and number among its type, from 1.

    Raises ShapeError where two layers have the same name.
    """
    count: Counter[str] = Counter()
    names: list[str] = []
    for index, layer in enumerate(net.layers):
        count[layer.type] += 1
        name = layer.name or f"{layer.type}_{count[layer.type]}"
        if name in names:
            raise ShapeError(index, f"layer {names.index(name)} is called {name!r} already", "name")
        names.append(name)
    return names


def layer_shapes(net: NetConfig, dataset: str) -> list[LayerShape]:
    """The network's layers, from input to logits.

    MACs are multiply-accumulates of one sample in linear and conv2d layers, padding included.
    Raises ShapeError where a layer does not fit its input or the last is not the logits.
    """
    shape, classes, _ = DATASETS[dataset]
    shapes = []
    for index, (name, layer) in enumerate(zip(layer_names(net), net.layers, strict=True)):
        output = _output_shape(index, layer, shape)
        shapes.append(LayerShape(name, layer, shape, output, *_cost(layer, shape, output)))
        shape = output
    last = len(net.layers) - 1
    if net.layers[last].type != "linear":
        raise ShapeError(last, f"expected a linear layer with the logits, found {net.layers[last].type!r}")
    if shape != (classes,):
        raise ShapeError(last, f"expected {classes}, the classes of {dataset}, found {shape[0]}", "units")
    return shapes


def next_layer_of(shapes: list[LayerShape], name: str) -> tuple[str, list[int]]:
    """The layer that reads a layer's output, and which unit or filter each of its inputs is of."""
    place = next(index for index, shape in enumerate(shapes) if shape.name == name)
    owners = list(range(shapes[place].output_shape[0]))
    for shape in shapes[place + 1 :]:
        if shape.type in WEIGHTED:
            return shape.name, owners
        if shape.type == "flatten":
            size = math.prod(shape.input_shape[1:])
            owners = [owner for owner in owners for _ in range(size)]
        elif shape.type == "select":
            owners = [owners[place] for place in shape.layer.index]
    raise ValueError(f"{name}: nothing reads the logits")


def prunable_names(net: NetConfig, kind: str) -> tuple[list[str], str]:
    """Names of the layers that this kind of pruning acts on, logits layer left out; and its name."""
    weighted = [
        (n, la.type) for n, la in zip(layer_names(net), net.layers, strict=True) if la.type in WEIGHTED
    ]
    logits = weighted.pop()[0]
    types = {"weight": WEIGHTED, "unit": ("linear",), "filter": ("conv2d",)}[kind]
    return [name for name, type_ in weighted if type_ in types], logits


def _output_shape(index: int, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the layer makes of an input of this shape."""
    if layer.type == "flatten":
        return (math.prod(shape),)
    if layer.type == "linear":
        if len(shape) != 1:
            raise ShapeError(index, f"expected a flat input, found {shape}: put a flatten layer before it")
        return (layer.units,)
    if layer.type in ("batch_norm", "dropout"):
        return shape
    if layer.type == "select":
        if max(layer.index) >= shape[0]:
            raise ShapeError(index, f"expected places below {shape[0]}, found {max(layer.index)}", "index")
        return (len(layer.index), *shape[1:])
    if len(shape) != 3:
        raise ShapeError(index, f"expected (channels, height, width), found {shape}: it is flat already")
    channels, height, width = shape
    if layer.type == "adaptive_avgpool":
        return (channels, layer.size, layer.size)
    conv = layer.type == "conv2d"
    padding = layer.padding if conv else 0
    stride = layer.stride or layer.kernel
    if layer.kernel > min(height, width) + 2 * padding:
        where = f"{height}×{width} pixels" + (f" with padding {padding}" if padding else "")
        raise ShapeError(index, f"expected a kernel that fits {where}, found {layer.kernel}", "kernel")
    sides = [(side + 2 * padding - layer.kernel) // stride + 1 for side in (height, width)]
    return (layer.filters if conv else channels, *sides)


def _cost(layer: Layer, shape: tuple[int, ...], output: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and MACs."""
    if layer.type == "linear":
        return (shape[0] + 1) * layer.units, shape[0] * layer.units
    if layer.type == "conv2d":
        weights = shape[0] * layer.kernel**2 * layer.filters
        return weights + layer.filters, weights * output[1] * output[2]
    return (2 * shape[0], 0) if layer.type == "batch_norm" else (0, 0)
