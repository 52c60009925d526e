"""BodyBuilder: a config's `net` becomes an MLP or a CNN."""

from typing import Any

import pandas as pd
import torch
from torch import nn

from .foundations.errors import UserError
from .foundations.layers import ACTIVATIONS, ShapeError
from .foundations.nets import WEIGHTED, LayerShape, NetConfig, layer_shapes, next_layer_of

ACTIVATION_CLASSES = tuple(getattr(nn, name) for name in ACTIVATIONS.values())

INITS = {
    "kaiming_normal": lambda weight, g: nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=g),
    "kaiming_uniform": lambda weight, g: nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=g),
    "glorot_normal": lambda weight, g: nn.init.xavier_normal_(weight, generator=g),
    "glorot_uniform": lambda weight, g: nn.init.xavier_uniform_(weight, generator=g),
}


class BodyBuilder(nn.Module):
    """The network that a config describes: images [N, C, H, W] → logits [N, classes].

    An activation follows each layer with weights, after its batch norm if that comes next; the
    logits have none. Weights are drawn on the CPU from `seed` alone, so any device starts alike.

    >>> net = {"layers": [{"type": "flatten"}, {"type": "linear", "units": 10}]}
    >>> BodyBuilder(net)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, net: NetConfig | dict[str, Any], dataset: str = "mnist", seed: int = 0):
        """Raises UserError where a layer does not fit, pydantic's ValidationError where a word is unknown."""
        super().__init__()
        self.net = net if isinstance(net, NetConfig) else NetConfig.model_validate(net)
        self.dataset = dataset
        try:
            self.shapes: list[LayerShape] = layer_shapes(self.net, dataset)
        except ShapeError as error:
            raise UserError(f"net.layers[{error.index}]: {error}") from None
        self.layers = nn.ModuleDict()
        waiting: LayerShape | None = None
        for place, shape in enumerate(self.shapes):
            if hasattr(nn.ModuleDict, shape.name):
                raise UserError(
                    f"net.layers[{place}].name: {shape.name!r} means something to torch; choose another"
                )
            self.layers[shape.name] = shape.layer.module(shape.input_shape)
            if shape.type in WEIGHTED:
                waiting = shape
            following = self.shapes[place + 1].type if place + 1 < len(self.shapes) else None
            if waiting is not None and following not in ("batch_norm", None):
                self._activate(shape.name, waiting)
                waiting = None
        self._initialise(seed)

    def _activate(self, after: str, shape: LayerShape) -> None:
        """Put the activation of that weighted layer after the module of that name."""
        word = self.activation_of(shape)
        if word != "identity":
            self.layers[f"{after}:{word}"] = getattr(nn, ACTIVATIONS[word])()

    def activation_of(self, shape: LayerShape) -> str:
        """The config's word for the activation of a layer with weights."""
        return shape.layer.activation or self.net.activation

    def norm_after(self, name: str) -> nn.Module | None:
        """The batch norm between a layer with weights and its activation, if there is one."""
        place = next(index for index, shape in enumerate(self.shapes) if shape.name == name) + 1
        is_norm = place < len(self.shapes) and self.shapes[place].type == "batch_norm"
        return self.layers[self.shapes[place].name] if is_norm else None

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        """Draw the weights in order from the input; biases start at 0."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.weighted().values():
            INITS[self.net.init](layer.weight, generator)
            layer.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, C, H, W], normalised → logits [N, classes]."""
        values = images
        for layer in self.layers.values():
            values = layer(values)
        return values

    def weighted(self) -> dict[str, nn.Module]:
        """Layers with a weight by name, from input to logits."""
        return {s.name: self.layers[s.name] for s in self.shapes if s.type in WEIGHTED}

    def next_layer(self, name: str) -> tuple[str, torch.Tensor]:
        """The layer that reads a layer with weights, and which unit or filter each of its inputs is of, [in].

        Raises ValueError for the logits, which nothing reads.
        """
        reader, source_units = next_layer_of(self.shapes, name)
        return reader, torch.tensor(source_units, device=self.layers[name].weight.device)

    def activated(self, names: list[str]) -> dict[str, nn.Module]:
        """By layer name, the module that puts out the layer's activation, after any batch norm."""
        found: dict[str, nn.Module] = {}
        current, weighted = None, self.weighted()
        for key, module in self.layers.items():
            if key in weighted:
                current = key
            elif not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, *ACTIVATION_CLASSES)):
                current = None
            if current is not None:
                found[current] = module
        return {name: found[name] for name in names}

    @property
    def logits_name(self) -> str:
        """Name of the layer that gives the logits."""
        return self.shapes[-1].name

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, dense."""
        return sum(shape.macs for shape in self.shapes)

    @property
    def is_convolutional(self) -> bool:
        """Whether any layer convolves."""
        return any(shape.type == "conv2d" for shape in self.shapes)

    def summary(self) -> pd.DataFrame:
        """A row a layer: layer, type, output_shape (without the batch), params, macs (of one sample)."""
        rows = [(s.name, s.type, s.output_shape, s.params, s.macs) for s in self.shapes]
        return pd.DataFrame(rows, columns=["layer", "type", "output_shape", "params", "macs"])
