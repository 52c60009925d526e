"""What a config says about data, network, optimisation and teachers (pydantic), and what its parts share."""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)


def whole(value: Any) -> Any:
    """Admit 1e3 where a count is meant: JSON has one number type."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def seed_or_word(seed: Any, word: str) -> Any:
    """A seed as a config may have it. Raises ValueError where it is neither a whole number nor the word."""
    number = whole(seed)
    if seed != word and (type(number) is not int or not 0 <= number < 2**63):
        raise ValueError(f"expected {word!r} or a whole number from 0, found {json.dumps(seed)}")
    return seed


Count = Annotated[int, BeforeValidator(whole), Field(lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


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
    split_seed: Count | Literal["seed"] = Field(
        0,
        description="Draws the split, from 0; independent of the run's seed. 'seed': the run's seed draws "
        "the train_size images that are trained on; those of validation are the ones of 0.",
    )
    train_size: Count | None = Field(
        None, ge=1, description="Images to train on; default: all that validation leaves."
    )

    @field_validator("split_seed", mode="before")
    @classmethod
    def _is_a_seed(cls, seed: Any) -> Any:
        return seed_or_word(seed, "seed")

    @model_validator(mode="after")
    def _has_a_subset(self) -> "DataConfig":
        if self.split_seed == "seed" and self.train_size is None:
            raise ValueError("the split_seed 'seed' draws a subset: say its 'train_size'")
        return self


def training_images(data: DataConfig) -> int:
    """How many images there are to train on, also where a config leaves their number out."""
    return data.train_size or DATASETS[data.dataset][2] - data.validation_size


# Net

ActivationName = Literal["relu", "gelu", "sigmoid", "tanh", "identity"]
Activation = Annotated[
    ActivationName | None, Field(description="After this layer (and its batch norm); default: the net's.")
]


class LayerBase(Vocabulary):
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


# Teachers


class Teacher(Vocabulary):
    """A result whose logits are learned from; it has to be exactly one. It inherits the profile."""

    config: str | None = Field(
        None, description="File of its experiment, in the folder of this one; default: this one."
    )
    arm: str | None = Field(
        None, description="Its arm; default: the only one, or in this experiment the student's own."
    )
    sweep: dict[str, Any] = Field({}, description="Its values of the axes that its arm has joined.")
    stage: str | None = Field(None, description="Name of its stage; default: the last one.")
    seed: Count | Literal["same"] = Field("same", description="Its seed, from 0; 'same': the student's.")

    @field_validator("seed", mode="before")
    @classmethod
    def _is_a_seed(cls, seed: Any) -> Any:
        return seed_or_word(seed, "same")


def _one_or_several(value: Any) -> str:
    """Which form of the field `teacher` a value is, so that mistakes are told of that form alone."""
    return "several teachers" if isinstance(value, list) else "one teacher"


def _words_or_hash(value: Any) -> str:
    """Which form one of several teachers has."""
    return "a hash" if isinstance(value, str) else "one teacher"


OneTeacher = Annotated[Teacher, Tag("one teacher")]
OneOfSeveral = Annotated[OneTeacher | Annotated[str, Tag("a hash")], Discriminator(_words_or_hash)]
TeacherWords = Annotated[
    OneTeacher | Annotated[list[OneOfSeveral], Tag("several teachers")], Discriminator(_one_or_several)
]
