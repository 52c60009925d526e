"""Whether what a config says of the reading of its results fits what it runs."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ..foundations.columns import COLUMNS, MEASURES, SETTINGS, TAKEN, value_text
from ..foundations.settings import Loc
from .file import WORD
from .meaning import ArmMeaning, AxisLabels, Meaning, WholeMeaning
from .messages import nearest, validation_mistakes


@dataclass(frozen=True)
class FileMeaning:
    """A file's labels, factors and contrasts, and what is wrong with them."""

    words: WholeMeaning = field(default_factory=WholeMeaning)
    mistakes: list[tuple[Loc, str]] = field(default_factory=list)


def meaning_of(raw: dict[str, Any]) -> FileMeaning:
    """What a config file says of how its results are read; `raw` is right in its outline."""
    arms = raw.get("arms") or {"main": {}}
    keys = ArmMeaning.model_fields
    words = {key: raw[key] for key in Meaning.model_fields if key in raw}
    words["arms"] = {arm: {k: v for k, v in said.items() if k in keys} for arm, said in arms.items()}
    try:
        found = WholeMeaning.model_validate(words)
    except ValidationError as error:
        return FileMeaning(mistakes=validation_mistakes(error, WholeMeaning))
    return FileMeaning(
        found, _factor_mistakes(found, raw) + _label_mistakes(found, raw) + _contrast_mistakes(found)
    )


def _factor_mistakes(found: WholeMeaning, raw: dict[str, Any]) -> list[tuple[Loc, str]]:
    """Factors that cannot be a column of their own."""
    mistakes: list[tuple[Loc, str]] = []
    for arm, said in found.arms.items():
        for name in said.factors:
            place = ("arms", arm, "factors", name)
            if not WORD.fullmatch(name):
                mistakes.append((place, f"expected a name of letters, digits and _, found {name!r}"))
            elif name in TAKEN:
                mistakes.append((place, f"{name!r} is a column of the results already; choose another name"))
            elif name in raw.get("sweep", {}):
                mistakes.append((place, f"{name!r} is an axis already; choose another name"))
    return mistakes


def _label_mistakes(found: WholeMeaning, raw: dict[str, Any]) -> list[tuple[Loc, str]]:
    """Labels of what is not there."""
    mistakes: list[tuple[Loc, str]] = []
    values = _values(found, raw)
    called: dict[str, str] = {}
    for arm, said in found.arms.items():
        place = ("arms", arm, "label")
        if said.label and arm in found.labels.get("arm", AxisLabels()).values:
            mistakes.append((place, "'labels' says what this arm is called too; keep one"))
        elif said.label and (other := called.setdefault(said.label, arm)) != arm:
            mistakes.append((place, f"arm {other!r} is called {said.label!r} already; choose another"))
    valid = [*values, *(name for name in COLUMNS if name not in values)]
    for name, labels in found.labels.items():
        if name not in valid:
            text = "no axis, factor or column is called that" + nearest(name, valid)
            mistakes.append((("labels", name), text))
            continue
        for value in labels.values:
            # The values of a column are not known before anything runs.
            if name in values and name not in SETTINGS and value not in values[name]:
                text = f"{name!r} has no such value" + nearest(value, values[name])
                mistakes.append((("labels", name, "values", value), text))
    return mistakes


def _values(found: WholeMeaning, raw: dict[str, Any]) -> dict[str, list[str]]:
    """Every axis and factor, and `arm`, with the texts of its values, those of profiles too."""
    values = {axis: [value_text(value) for value in items] for axis, items in raw.get("sweep", {}).items()}
    for profile in raw.get("profiles", {}).values():
        for axis in values:
            own = profile.get(f"sweep.{axis}", [])
            values[axis] += [value_text(value) for value in (own if isinstance(own, list) else [own])]
    values["arm"] = list(found.arms)
    for said in found.arms.values():
        for name, value in said.factors.items():
            values.setdefault(name, []).append(value_text(value))
    return {name: list(dict.fromkeys(texts)) for name, texts in values.items()}


def _contrast_mistakes(found: WholeMeaning) -> list[tuple[Loc, str]]:
    """Contrasts of arms or measures that are not there."""
    mistakes: list[tuple[Loc, str]] = []
    for key, contrast in found.contrasts.items():
        for role in ("of", "less"):
            arm = getattr(contrast, role)
            if arm not in found.arms:
                text = f"unknown arm {arm!r}" + nearest(arm, list(found.arms))
                mistakes.append((("contrasts", key, role), text))
        if contrast.measure not in MEASURES:
            text = f"unknown measure {contrast.measure!r}" + nearest(contrast.measure, MEASURES)
            mistakes.append((("contrasts", key, "measure"), text))
    return mistakes
