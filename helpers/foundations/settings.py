"""What all settings of a config have in common: unknown keys and wrong types are errors (pydantic)."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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


class StrictModel(BaseModel):
    """What all parts of a config have in common: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Loc = tuple[str | int, ...]
