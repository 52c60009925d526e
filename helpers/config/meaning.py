"""What a config says of how its results are read: labels, factors, contrasts. None of it is in a hash."""

import json
import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ..foundations.settings import StrictModel


def _named(value: Any) -> Any:
    """A text is short for an object with that name."""
    return {"name": value} if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """A factor's value is one that tables can group by."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    is_number = is_number or (isinstance(value, float) and math.isfinite(value))
    if not is_number and (not isinstance(value, str) or value == ""):
        raise ValueError(f"expected a text or a number, found {json.dumps(value)}")
    if isinstance(value, str) and value.startswith("$"):
        raise ValueError(f"expected a text or a number, found the axis {value!r}: an axis has its own column")
    return value


class AxisLabels(StrictModel):
    """What an axis, a factor or a column is called, and its values, for whoever reads a log."""

    name: str | None = Field(None, min_length=1, description="What it is called; default: as in the config.")
    values: dict[str, str] = Field(
        {}, description="What its values are called, by their text: {'0.9': '90 % pruned'}."
    )


class Contrast(StrictModel):
    """One arm less another, its control, paired by seed and by every axis that both have joined."""

    of: str = Field(description="The arm that the claim is about.")
    less: str = Field(description="Its control.")
    claim: str = Field(min_length=1, description="What a positive difference speaks for.")
    measure: str = Field("test_accuracy", description="The column that is compared.")
    planned: bool = Field(
        False, description="Decided before anything was run: it gets a verdict, corrected for the others'."
    )
    planned_in: str | None = Field(None, description="Where that is on record, such as a commit.")

    @model_validator(mode="after")
    def _is_a_contrast(self) -> "Contrast":
        if self.of == self.less:
            raise ValueError(f"expected two arms, found {self.of!r} twice")
        if self.planned_in is not None and not self.planned:
            raise ValueError("'planned_in' is of a planned contrast: say \"planned\": true or leave it out")
        return self


class ArmMeaning(StrictModel):
    """What an arm is called, and which values of which factors it stands for."""

    label: str | None = Field(None, min_length=1, description="What tables call the arm.")
    factors: dict[str, Annotated[str | int | float, BeforeValidator(_plain)]] = Field(
        {}, description="What tells the arm from others, each a column: {'student': '64-64', 'loss': 'soft'}."
    )


class Meaning(StrictModel):
    """Labels of axes and values, factors of arms, and what is compared."""

    labels: dict[str, Annotated[AxisLabels, BeforeValidator(_named)]] = Field(
        {}, description="What axes, factors and columns are called; a text, or an object with their values'."
    )
    contrasts: dict[str, Contrast] = Field({}, description="Arms against their controls, by a short key.")


class WholeMeaning(Meaning):
    """That of a file, its arms' included."""

    arms: dict[str, ArmMeaning] = Field({}, description="What is said of each arm.")
