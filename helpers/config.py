"""The vocabulary of a config: every word that an experiment's JSON file may use, and what it means.

A config is a sentence of stages about one network on one data set. This module says which words
exist (pydantic models) and exports the JSON Schema that lets an editor complete and check a config
while it is being written.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SCHEMA_PATH = Path(__file__).resolve().parent.parent / "configs" / "schema.json"
"""Written by `python -m helpers.config`."""


def whole(value: Any) -> Any:
    """Admit 1e3 where a count is meant: JSON has one number type."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(whole), Field(lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]


class Vocabulary(BaseModel):
    """What all parts of a config have in common: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# Data

DATASETS: dict[str, tuple[tuple[int, int, int], int, int]] = {
    "mnist": ((1, 28, 28), 10, 60_000),
    "fashion_mnist": ((1, 28, 28), 10, 60_000),
    "kmnist": ((1, 28, 28), 10, 60_000),
    "cifar10": ((3, 32, 32), 10, 50_000),
}
"""Image shape (channels, height, width), number of classes, number of training images."""


class DataConfig(Vocabulary):
    """Which images, and which of them train, validate and test."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "cifar10"] = Field(description="Which data set.")
    validation_size: Count = Field(
        5000, ge=0, description="Images held out of the training set for validation; 0: no validation."
    )
    split_seed: Count = Field(0, ge=0, description="Draws the split; independent of the run's seed.")
    train_size: Count | None = Field(
        None, ge=1, description="Images to train on; default: all that validation leaves."
    )


# Net

ActivationName = Literal["relu", "gelu", "sigmoid", "tanh", "identity"]
Activation = Annotated[
    ActivationName | None, Field(description="After this layer (and its batch norm); default: the net's.")
]


class LayerBase(Vocabulary):
    """What every layer may have."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
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


Layer = Annotated[
    Flatten | Linear | Conv2d | MaxPool | AvgPool | AdaptiveAvgPool | BatchNorm | Dropout,
    Field(discriminator="type"),
]


class NetConfig(Vocabulary):
    """The network: layers from input to logits."""

    layers: list[Layer] = Field(min_length=1, description="From input to logits.")
    activation: ActivationName = Field("relu", description="After every layer with weights but the last.")
    init: Literal["kaiming_normal", "kaiming_uniform", "glorot_normal", "glorot_uniform"] = Field(
        "kaiming_normal",
        description="Initial weights: He et al. 2015 or Glorot and Bengio 2010; biases start at 0.",
    )


# Optimisation


class AdamBase(Vocabulary):
    """What Adam and AdamW share (Kingma and Ba 2015)."""

    lr: float = Field(1e-3, gt=0, le=1e30, description="Peak learning rate.")
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.9, 0.999], min_length=2, max_length=2, description="Decay of the two moments, per step."
    )
    eps: float = Field(1e-8, gt=0, description="Added to the denominator.")


class Adam(AdamBase):
    """Adam; weight decay enters as an L2 penalty."""

    type: Literal["adam"]
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty.")


class AdamW(AdamBase):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    type: Literal["adamw"]
    weight_decay: float = Field(0.01, ge=0, description="Decay of weights and biases, per step and lr.")


class SGD(Vocabulary):
    """Stochastic gradient descent."""

    type: Literal["sgd"]
    lr: float = Field(gt=0, le=1e30, description="Peak learning rate.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Share of the last step that is kept.")
    nesterov: bool = Field(False, description="Look ahead along the momentum; needs momentum > 0.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty.")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "SGD":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0")
        return self


Optimizer = Annotated[Adam | AdamW | SGD, Field(discriminator="type")]


class ScheduleBase(Vocabulary):
    """What every learning-rate schedule may have."""

    warmup_steps: Count = Field(0, ge=0, description="Steps of linear warm-up from 0 to the peak.")


class Constant(ScheduleBase):
    """The peak learning rate throughout."""

    type: Literal["constant"]


class LinearDecay(ScheduleBase):
    """Straight down from the peak."""

    type: Literal["linear"]
    final: Share = Field(0.0, description="Share of the peak that is left at the end.")


class CosineDecay(ScheduleBase):
    """Half a cosine down from the peak (Loshchilov and Hutter 2017)."""

    type: Literal["cosine"]
    final: Share = Field(0.0, description="Share of the peak that is left at the end.")


class MultiStep(ScheduleBase):
    """Down by a factor at each milestone."""

    type: Literal["multi_step"]
    milestones: list[Share] = Field(min_length=1, description="Where it drops, as shares of the stage.")
    factor: float = Field(0.1, gt=0, le=1, description="What each milestone multiplies the rate by.")


Schedule = Annotated[Constant | LinearDecay | CosineDecay | MultiStep, Field(discriminator="type")]


# Stages


class StageBase(Vocabulary):
    """What every stage may have."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Address for profiles and --set, and its name in the tables; default: its type.",
    )


class TrainStage(StageBase):
    """Gradient steps with new optimizer moments, its own schedule and its own data order."""

    type: Literal["train"]
    epochs: Count | None = Field(None, ge=0, description="Passes over the training images.")
    steps: Count | None = Field(None, ge=0, description="Gradient steps, instead of epochs.")
    batch_size: Count = Field(128, ge=1, description="Images a step; an epoch's last batch may be smaller.")
    optimizer: Optimizer = Field(Adam(type="adam"), description="How a gradient becomes a step.")
    schedule: Schedule = Field(Constant(type="constant"), description="Learning rate over the stage.")
    label_smoothing: Share = Field(
        0.0, lt=1, description="Share of the target that is spread over all classes (Szegedy et al. 2016)."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the products in training and in every later evaluation; weights stay float32.",
    )
    shift: Count = Field(
        0, ge=0, description="Augmentation: each image moves by up to this many pixels along each axis."
    )
    log_every: Count | None = Field(
        None, ge=1, description="Steps between rows of the learning curve; default: an epoch."
    )

    checkpoint_epochs: Count | None = Field(
        1,
        ge=1,
        description="Epochs between saves of an unfinished training; null: none. In no hash.",
    )

    @model_validator(mode="after")
    def _one_length(self) -> "TrainStage":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("expected exactly one of 'epochs' and 'steps'")
        return self


class PruneAmount(Vocabulary):
    """How much to prune: of everything, or of what is left."""

    sparsity: Share | None = Field(None, description="Share of all that is pruned afterwards.")
    rate: Share | None = Field(None, description="Share of what is left that is pruned now.")

    @model_validator(mode="after")
    def _not_both(self) -> "PruneAmount":
        if self.sparsity is not None and self.rate is not None:
            raise ValueError("expected one of 'sparsity' and 'rate', found both")
        return self


class PruneStage(StageBase, PruneAmount):
    """Scores, then masks, then weights set to exactly 0."""

    type: Literal["prune"]
    kind: Literal["weight", "unit", "filter"] = Field(
        description="What goes: single weights, output neurons of linear layers, or filters of convolutions."
    )
    criterion: Literal["magnitude", "random", "shuffle"] = Field(
        "magnitude",
        description="What is removed first: the smallest (|w|; L2 norm of incoming weights), any at random, "
        "or as many as magnitude takes of each layer, at random places (without an amount: the present "
        "masks, shuffled).",
    )
    scope: Literal["layer", "global"] = Field(
        "layer", description="Rank inside each layer, or all layers together."
    )
    layers: Literal["all"] | dict[str, PruneAmount] = Field(
        {},
        description="Amounts of single layers by name; naming the logits layer, or 'all', prunes it as well.",
    )

    @model_validator(mode="after")
    def _some_amount(self) -> "PruneStage":
        if self.sparsity is None and self.rate is None and self.criterion != "shuffle":
            raise ValueError("expected one of 'sparsity' and 'rate', found neither")
        return self


class RepeatStage(StageBase):
    """A block of stages, n times; expanded before anything runs."""

    type: Literal["repeat"]
    times: Count = Field(ge=1, description="How many copies.")
    stages: "list[Annotated[TrainStage | PruneStage, Field(discriminator='type')]]" = Field(
        min_length=1,
        description="Copy i of n prunes to 1-(1-sparsity)^(i/n), or rate of what is left.",
    )


Stage = Annotated[TrainStage | PruneStage | RepeatStage, Field(discriminator="type")]


class Sentence(Vocabulary):
    """One run without its seed: data, network, stages."""

    data: DataConfig = Field(description="Images to learn from.")
    net: NetConfig = Field(description="The network.")
    stages: list[Stage] = Field(min_length=1, description="What happens to the network, in order.")


class ConfigFile(Sentence):
    """A config file. Any field may take "$axis", a name of the sweep."""

    schema_: str | None = Field(None, alias="$schema", description="Where the editor finds this schema.")
    description: str = Field("", description="What the experiment asks, in a sentence.")
    seeds: list[Annotated[Count, Field(ge=0)]] = Field(
        [0], min_length=1, description="A run for each: initial weights, data order, masks, augmentation."
    )
    sweep: dict[str, list[Any]] = Field({}, description="Axes by name; their values form a grid.")
    arms: dict[str, dict[str, Any]] = Field(
        {}, description="Unequal variants by name; each overrides parts of this config."
    )
    profiles: dict[str, dict[str, Any]] = Field(
        {}, description="Overrides by name, such as quick: {'train.epochs': 1, 'sweep.sparsity': [0.9]}."
    )


# JSON Schema


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config file, in which every value may also be "$axis"."""
    schema = ConfigFile.model_json_schema(by_alias=True)
    free = {"$schema", "description", "sweep", "arms", "profiles", "seeds", "type", "name"}
    for model in [schema, *schema["$defs"].values()]:
        for key, field in model.get("properties", {}).items():
            if key not in free:
                about = {name: field.pop(name) for name in ("description", "default") if name in field}
                model["properties"][key] = _or_axis(field) | about
    # An arm may bring what the file as a whole leaves out.
    schema["required"] = []
    return schema


def _or_axis(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field, of a list's items or of a dict's values, or "$axis" in its place."""
    for option in [field, *field.get("anyOf", [])]:
        for inner in ("items", "additionalProperties"):
            if isinstance(option.get(inner), dict):
                option[inner] = _or_axis(option[inner])
    return {"anyOf": [field, {"type": "string", "pattern": r"^\$[A-Za-z_][A-Za-z0-9_]*$"}]}


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json.dumps(json_schema(), indent=2) + "\n")
