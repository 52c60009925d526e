"""From a config file to its runs: profile and overrides, arms, axes, seeds; all mistakes told at once."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..foundations.errors import UserError
from ..foundations.nets import layer_names
from ..foundations.settings import Loc, whole
from .checks import cross_mistakes
from .definitions import write_out
from .file import FULL, key_mistakes, outline_mistakes, read_json
from .hashing import Run, Step, expand_repeats, stage_hashes, stage_names, without_layer_names
from .meaning import WholeMeaning
from .meaning_checks import meaning_of
from .messages import nearest, path_text, short, validation_mistakes
from .overrides import Overrides, literal
from .places import WrittenOut, axis_places, fill, longest, merge, origin
from .schema import RunSpec
from .teachers import TeacherError, Teachers, has_teacher

PARTS = ("data", "net", "seeds", "stages")
"""What the file as a whole says of its runs, and an arm may override."""


@dataclass(frozen=True)
class ExperimentConfig:
    """A config file, resolved under one profile."""

    name: str
    profile: str
    axes: list[str]
    runs: list[Run]
    meaning: WholeMeaning
    """How its results are read; in no hash."""


def load_config(
    path: str | Path, profile: str | None = None, overrides: tuple[str, ...] | list[str] = ()
) -> ExperimentConfig:
    """Read and check a config file, and write out its runs.

    `overrides` are texts such as "train.epochs=2" or "sweep.sparsity=[0, 0.9]", applied after the
    profile. Raises UserError with a line for every mistake, also those in other profiles.
    """
    path, profile = Path(path), profile or FULL
    raw = read_json(path)
    mistakes, raw = key_mistakes(raw)
    written = write_out(raw)
    mistakes, raw = mistakes + written.mistakes, written.raw
    outline = outline_mistakes(raw)
    profiles = raw.get("profiles", {})
    if not outline and profile != FULL and profile not in profiles:
        outline.append(f"profiles: unknown profile {profile!r}" + nearest(profile, [FULL, *profiles]))
    if outline:
        raise UserError(*(f"{path}: {line}" for line in mistakes + outline))
    meaning = meaning_of(raw)
    mistakes += [f"{path_text(written.place(loc, text) or loc)}: {text}" for loc, text in meaning.mistakes]
    drafts = [_draft(path, written, profile, overrides), *(_draft(path, written, name) for name in profiles)]
    runs = list(drafts[0].runs())
    for draft in drafts[1:]:
        for _ in draft.runs():
            pass
    lines = dict.fromkeys(mistakes + [line for draft in drafts for line in draft.mistakes])
    if lines:
        raise UserError(*(line if line.startswith("--set") else f"{path}: {line}" for line in lines))
    return ExperimentConfig(path.stem, profile, list(raw.get("sweep", {})), runs, meaning.words)


def _draft(path: Path, written: WrittenOut, profile: str, texts: Sequence[str] = ()) -> "_Draft":
    """A config file under a profile, or as it stands where it has no such profile, and then --set."""
    changed = Overrides(copy.deepcopy(written.raw))
    for key, value in written.raw.get("profiles", {}).get(profile, {}).items():
        changed.set(key, value, f"profiles.{profile}['{key}']")
    for text in texts:
        key, equals, value = text.partition("=")
        if equals:
            name = f"--set {key.strip()}"
            try:
                changed.set(key.strip(), literal(value, name), name)
            except UserError as error:
                changed.mistakes += error.lines
        else:
            changed.mistakes.append(
                f"--set {text}: expected FIELD=VALUE, such as train.epochs=2, found no '='"
            )
    # What is missing may be what an override is for.
    mistakes = changed.mistakes if written.is_complete else []
    return _Draft(changed.raw, path, profile, written, changed.origins, mistakes)


def _variants_of(path: Path, profile: str) -> list[Run]:
    """A config's runs before they have a seed, for those that look for a teacher among them.

    Raises UserError where the file has mistakes, or not this profile.
    """
    raw = read_json(path)
    mistakes, raw = key_mistakes(raw)
    written = write_out(raw)
    raw = written.raw
    mistakes += written.mistakes + outline_mistakes(raw)
    if not mistakes and profile != FULL and profile not in raw.get("profiles", {}):
        mistakes = [f"profiles: expected the profile {profile!r}, which a teacher inherits, found none"]
    if not mistakes:
        draft = _draft(path, written, profile)
        variants = [run for run, *_ in draft.variants()]
        mistakes = draft.mistakes
    if mistakes:
        raise UserError(f"{path}: {mistakes[0]}")
    return variants


@dataclass
class _Draft:
    """A config file under one profile, on its way to runs; gathers mistakes instead of raising them."""

    raw: dict[str, Any]
    """The file, with its overrides applied."""
    path: Path
    profile: str
    written: WrittenOut
    """The file without overrides, and where it says what."""
    origins: dict[Loc, str]
    """Places whose value a profile or --set gave, and how a message calls them."""
    mistakes: list[str]

    def runs(self) -> Iterator[Run]:
        """Every run of the config as it is now; mistakes are gathered in `mistakes`."""
        variants = list(self.variants())
        if self.mistakes:
            return
        # A teacher of the same file is one as it is run now; other files know nothing of --set.
        own = [run for run, *_ in variants]
        teachers = Teachers(self.path, self.profile, _variants_of, own)
        for run, seeds, came_from, from_axis in variants:
            if not has_teacher(run):
                stages = [step.stage for step in run.steps]
                for seed, hashes in zip(seeds, stage_hashes(run.data, run.net, seeds, stages), strict=True):
                    yield Run(run.arm, seed, run.axes, run.data, run.net, run.steps, hashes)
                continue
            for seed in seeds:
                try:
                    yield teachers.resolve(replace(run, seed=seed))
                except TeacherError as mistake:
                    self._mistake(mistake.loc, str(mistake), came_from, from_axis)

    def variants(self) -> Iterator[tuple[Run, list[int], dict[Loc, Loc], dict[Loc, Loc]]]:
        """Each variant as a run without seed and hashes, its seeds, and where its parts come from."""
        arms, sweep = self.raw.get("arms") or {"main": {}}, self.raw.get("sweep", {})
        mentioned: set[str] = set()
        for arm, changes in arms.items():
            base = {key: self.raw[key] for key in PARTS if key in self.raw}
            came_from: dict[Loc, Loc] = {}
            own = {key: changes[key] for key in PARTS if key in changes}
            variant = merge(base, own, (), ("arms", arm), came_from)
            if "then" in changes:
                before = variant.get("stages", [])
                if isinstance(before, list):
                    for index in range(len(changes["then"])):
                        came_from["stages", len(before) + index] = ("arms", arm, "then", index)
                    variant["stages"] = before + changes["then"]
                else:
                    text = f"expected 'stages' to be a list, found {short(before)}: write the stages out"
                    self._mistake(("arms", arm, "then"), text, {}, {})
            seeds = self._seeds(variant.pop("seeds", [0]), came_from)
            holes = list(axis_places(variant, ()))
            mentioned |= {axis for _, axis in holes}
            unknown = [(loc, axis) for loc, axis in holes if axis not in sweep]
            for loc, axis in unknown:
                text = f"unknown axis '${axis}'" + nearest(f"${axis}", [f"${name}" for name in sweep])
                self._mistake(loc, text, came_from, {})
            joined = [axis for axis in sweep if any(axis == name for _, name in holes)]
            for choice in itertools.product(*(range(len(sweep[axis])) for axis in joined)):
                index = dict(zip(joined, choice, strict=True))
                values = {axis: sweep[axis][i] for axis, i in index.items()}
                filled = fill(variant, (), {loc: values[axis] for loc, axis in holes if axis in sweep})
                from_axis = {loc: ("sweep", axis, index[axis]) for loc, axis in holes if axis in sweep}
                reported = {loc for loc, _ in unknown}
                for run in self._run_spec(arm, values, filled, came_from, from_axis, reported):
                    yield run, seeds, came_from, from_axis
        for axis in sweep:
            if axis not in mentioned and self.written.is_complete:
                self._mistake(
                    ("sweep", axis), f"no field mentions '${axis}': write it where it belongs", {}, {}
                )

    def _run_spec(
        self, arm: str, axes: dict[str, Any], filled: dict[str, Any],
        came_from: dict[Loc, Loc], from_axis: dict[Loc, Loc], reported: set[Loc],
    ) -> Iterator[Run]:  # fmt: skip
        """One variant, still without a seed; none where it has mistakes, told but at `reported`."""
        try:
            spec = RunSpec.model_validate(filled)
            found = self._name_mistakes(filled, came_from) + cross_mistakes(spec)
        except ValidationError as error:
            found = validation_mistakes(error)
        for loc, message in found:
            if not any(loc[: len(place)] == place for place in reported):
                self._mistake(loc, message, came_from, from_axis)
        if found or self.mistakes:
            return
        steps = expand_repeats(spec.stages)
        names = layer_names(spec.net)
        net, stages = without_layer_names(spec.net, [step.stage for step in steps], names)
        steps = [Step(stage, s.name, s.round, s.loc) for stage, s in zip(stages, steps, strict=True)]
        yield Run(arm, 0, axes, spec.data, net, steps)

    def _name_mistakes(self, filled: dict[str, Any], came_from: dict[Loc, Loc]) -> list[tuple[Loc, str]]:
        """Stages that share a name."""
        seen: dict[str, Loc] = {}
        found = []
        for loc, name in stage_names(filled["stages"]):
            if name in seen:
                first = path_text(self.written.name(origin(seen[name], came_from), origin(loc, came_from)))
                found.append(((*loc, "name"), f"{first} is called {name!r} already; choose another"))
            elif name in ("data", "net", "seeds", "sweep"):
                found.append(((*loc, "name"), f"{name!r} addresses another part of a config; choose another"))
            seen.setdefault(name, loc)
        return found

    def _seeds(self, seeds: Any, came_from: dict[Loc, Loc]) -> list[int]:
        """The seeds as whole numbers."""
        whole_seeds = [whole(seed) for seed in seeds] if isinstance(seeds, list) else []
        right = all(type(seed) is int and 0 <= seed < 2**63 for seed in whole_seeds)
        if not whole_seeds or not right or len(set(whole_seeds)) < len(whole_seeds):
            text = f"expected a list of different whole numbers from 0, found {short(seeds)}"
            self._mistake(("seeds",), text, came_from, {})
            return [0]
        return whole_seeds

    def _mistake(self, loc: Loc, message: str, came_from: dict[Loc, Loc], from_axis: dict[Loc, Loc]) -> None:
        """Note a mistake under the place where the user wrote it: axis, arm, profile or --set."""
        loc = origin(loc, from_axis) if longest(loc, from_axis) else origin(loc, came_from)
        place = self.written.place(loc, message)
        if at := longest(loc, self.origins):
            text = path_text((self.origins[at], *loc[len(at) :]))
        elif place is None:
            return
        else:
            text = path_text(place)
        # What is wrong with a stage as a whole may come from a field that --set gave it.
        within = [label for inner, label in self.origins.items() if inner[: len(loc)] == loc != inner]
        given = dict.fromkeys(label for label in within if label.startswith("--set"))
        message += f" (part of it is {', '.join(given)})" if given else ""
        line = f"{text}: {message}"
        if line not in self.mistakes:
            self.mistakes.append(line)
