"""What a config says of pruning: what goes, by which score, and how much of it."""

from typing import Literal

from pydantic import Field, model_validator

from ..foundations.settings import Count, Share, StrictModel
from .criteria import CRITERIA

CriterionName = Literal[tuple(CRITERIA)]


class PruneAmount(StrictModel):
    """How much to prune: of everything, or of what is left."""

    sparsity: Share | None = Field(None, description="Share of all that is pruned afterwards.")
    rate: Share | None = Field(None, description="Share of what is left that is pruned now.")

    @model_validator(mode="after")
    def _not_both(self) -> "PruneAmount":
        if self.sparsity is not None and self.rate is not None:
            raise ValueError("expected one of 'sparsity' and 'rate', found both")
        return self


class PrunedPart(StrictModel):
    """What to prune, and where."""

    kind: Literal["weight", "unit", "filter"] = Field(
        description="What goes: single weights, output neurons of linear layers, or filters of convolutions."
    )
    scope: Literal["layer", "global"] = Field(
        "layer", description="Rank inside each layer, or all layers together."
    )
    layers: Literal["all"] | dict[str, PruneAmount] = Field(
        {},
        description="Amounts of single layers by name; naming the logits layer, or 'all', prunes it as well.",
    )


class PruneSettings(PruneAmount, PrunedPart):
    """What to prune, by which score, and how much of it."""

    criterion: CriterionName = Field(
        "magnitude",
        description="The score; the lowest go first. "
        + " ".join(f"{name}: {found.about}" for name, found in CRITERIA.items()),
    )
    samples: Count = Field(
        2000, ge=1, description="Training images that a criterion which needs data reads: the first ones."
    )

    @model_validator(mode="after")
    def _some_amount(self) -> "PruneSettings":
        if self.sparsity is None and self.rate is None and self.criterion != "shuffle":
            raise ValueError("expected one of 'sparsity' and 'rate', found neither")
        return self


class Ramp(PruneSettings):
    """Prune while training, on a cubic schedule: fast at first, slow at the end (Zhu and Gupta 2017)."""

    every: Count = Field(100, ge=1, description="Steps from one pruning to the next.")
    end: Share = Field(0.75, gt=0, description="Share of the stage's steps after which the masks stay.")

    @model_validator(mode="after")
    def _no_shuffle(self) -> "Ramp":
        if self.criterion == "shuffle":
            raise ValueError("'shuffle' moves masks; a ramp only ever prunes more: choose another criterion")
        return self
