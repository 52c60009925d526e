"""A network as a chain of layers, without torch: its settings, names, shapes, and who reads whom."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from .datasets import dataset_info
from .layers import ActivationName, Layer, Shape, ShapeError
from .settings import StrictModel


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
    input_shape: Shape
    output_shape: Shape
    params: int
    macs: int

    @property
    def type(self) -> str:
        """The config's word for this layer."""
        return self.layer.type


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
            text = f"layer {names.index(name)} is called {name!r} already"
            raise ShapeError(text, "name", index)
        names.append(name)
    return names


def layer_shapes(net: NetConfig, dataset: str) -> list[LayerShape]:
    """The network's layers, from input to logits.

    MACs are multiply-accumulates of one sample in linear and conv2d layers, padding included.
    Raises ShapeError where a layer does not fit its input or the last is not the logits.
    """
    shape, classes, _ = dataset_info(dataset)
    shapes = []
    for index, (name, layer) in enumerate(zip(layer_names(net), net.layers, strict=True)):
        try:
            output = layer.output_shape(shape)
        except ShapeError as error:
            error.index = index
            raise
        shapes.append(LayerShape(name, layer, shape, output, *layer.cost(shape, output)))
        shape = output
    last = len(net.layers) - 1
    if net.layers[last].type != "linear":
        text = f"expected a linear layer with the logits, found {net.layers[last].type!r}"
        raise ShapeError(text, index=last)
    if shape != (classes,):
        text = f"expected {classes}, the classes of {dataset}, found {shape[0]}"
        raise ShapeError(text, "units", last)
    return shapes


def next_layer_of(shapes: list[LayerShape], name: str) -> tuple[str, list[int]]:
    """The layer that reads a layer's output, and which unit or filter each of its inputs is of."""
    place = next(index for index, shape in enumerate(shapes) if shape.name == name)
    source_units = list(range(shapes[place].output_shape[0]))
    for shape in shapes[place + 1 :]:
        if shape.type in WEIGHTED:
            return shape.name, source_units
        if shape.type == "flatten":
            size = math.prod(shape.input_shape[1:])
            source_units = [unit for unit in source_units for _ in range(size)]
        elif shape.type == "select":
            source_units = [source_units[place] for place in shape.layer.index]
    raise ValueError(f"{name}: nothing reads the logits")


def prunable_names(net: NetConfig, kind: str) -> tuple[list[str], str]:
    """Names of the layers that this kind of pruning acts on, logits layer left out; and its name."""
    weighted = [
        (n, la.type) for n, la in zip(layer_names(net), net.layers, strict=True) if la.type in WEIGHTED
    ]
    logits = weighted.pop()[0]
    types = {"weight": WEIGHTED, "unit": ("linear",), "filter": ("conv2d",)}[kind]
    return [name for name, type_ in weighted if type_ in types], logits
