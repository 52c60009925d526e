"""What a config says of an optimizer and of the learning rate over a stage."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .settings import Count, Share, StrictModel


class AdamBase(StrictModel):
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


class SGD(StrictModel):
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


class ScheduleBase(StrictModel):
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
