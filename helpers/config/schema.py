"""The config file as a whole: one run without its seed, and what makes many of it."""

from typing import Annotated, Any

from pydantic import Field

from ..foundations.datasets import DataConfig
from ..foundations.nets import NetConfig
from ..foundations.settings import Count, StrictModel
from ..methods.stage_settings import StageOrRepeat
from .meaning import Meaning


class RunSpec(StrictModel):
    """One run without its seed: data, network, stages."""

    data: DataConfig = Field(description="Images to learn from.")
    net: NetConfig = Field(description="The network.")
    stages: list[StageOrRepeat] = Field(min_length=1, description="What happens to the network, in order.")


class ConfigFile(RunSpec, Meaning):
    """A config file. Any field may take "$axis", a name of the sweep."""

    schema_: str | None = Field(None, alias="$schema", description="Where the editor finds this schema.")
    description: str = Field("", description="What the experiment asks, in a sentence.")
    define: dict[str, Any] = Field({}, description="Stages, nets, lists by name; {'use': name} takes one.")
    seeds: list[Annotated[Count, Field(ge=0)]] = Field(
        [0], min_length=1, description="A run for each: initial weights, data order, masks, augmentation."
    )
    sweep: dict[str, list[Any]] = Field({}, description="Axes by name; their values form a grid.")
    arms: dict[str, dict[str, Any]] = Field(
        {}, description="Unequal variants by name: each overrides parts of this config; 'then' adds stages."
    )
    profiles: dict[str, dict[str, Any]] = Field(
        {}, description="Overrides by name, such as quick: {'train.epochs': 1, 'sweep.sparsity': [0.9]}."
    )
