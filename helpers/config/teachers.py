"""Which result a teacher is: from its words in a config to the one run, and hash, that they mean."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..foundations.errors import UserError
from ..foundations.settings import Loc, whole
from ..methods.stage_settings import Teacher, TrainStage
from .hashing import Run, stage_hashes
from .messages import nearest, path_text, short


class TeacherError(Exception):
    """The words of a teacher do not lead to one result; `loc` is where they stand."""

    def __init__(self, loc: Loc, message: str):
        super().__init__(message)
        self.loc = loc


def has_teacher(run: Run) -> bool:
    """Whether some stage distils."""
    return any(isinstance(step.stage, TrainStage) and step.stage.teacher for step in run.steps)


class Teachers:
    """Finds the teachers of one config's runs, under one profile.

    `own` are the runs of this config, still without seeds, and `expand` gives those of another file under
    a profile; a teacher may have any seed.
    """

    def __init__(self, path: Path, profile: str, expand: Callable[[Path, str], list[Run]], own: list[Run]):
        self.path, self.profile, self.expand = Path(os.path.normpath(path)), profile, expand
        self.variants: dict[Path, list[Run]] = {self.path: own}
        self.found: dict[tuple[Path, str, int], Run] = {}

    def resolve(self, run: Run, path: Path | None = None, above: tuple[Any, ...] = ()) -> Run:
        """The run with its teachers found and its hashes known. Raises TeacherError."""
        path = path or self.path
        name = (path, run.arm, run.seed, json.dumps(run.axes, sort_keys=True), len(run.steps))
        if name in above:
            raise TeacherError((), "leads back to itself: a teacher has to be there before its student")
        steps, teachers = [], {}
        for step in run.steps:
            stage = step.stage
            if isinstance(stage, TrainStage) and stage.teacher:
                keys = []
                for place, words in _each(stage.teacher):
                    loc = (*step.loc, "teacher", *place)
                    try:
                        found = self._find(words, run, path, (*above, name))
                    except TeacherError as mistake:
                        raise TeacherError((*loc, *mistake.loc), str(mistake)) from None
                    keys.append(found.hashes[-1])
                    teachers[keys[-1]] = found
                step = replace(step, stage=stage.model_copy(update={"teacher": keys}))
            steps.append(step)
        hashes = next(stage_hashes(run.data, run.net, [run.seed], [step.stage for step in steps]))
        return replace(run, steps=steps, hashes=hashes, teachers=teachers, experiment=path.stem)

    def _find(self, words: Teacher | str, student: Run, path: Path, above: tuple[Any, ...]) -> Run:
        """The run that ends with this teacher."""
        if isinstance(words, str):
            text = f"expected an object such as {{'arm': 'teacher'}}, found {short(words)}"
            raise TeacherError((), text)
        path = Path(os.path.normpath(path.parent / words.config)) if words.config else path
        seed = student.seed if words.seed == "same" else words.seed
        if words.arm is None and not words.config:
            words = words.model_copy(update={"arm": student.arm})
        key = (path, words.model_dump_json(), seed)
        if key not in self.found:
            results = {}
            for variant in self._chosen(words, path):
                try:
                    run = self.resolve(replace(variant, seed=seed), path, above)
                except TeacherError as mistake:
                    # Its place is one in the teacher's config, and not in the student's.
                    is_here = not mistake.loc or path == self.path
                    place = "" if is_here else f"{path}: {path_text(mistake.loc)}: "
                    raise TeacherError((), f"{place}{mistake}") from None
                results[run.hashes[-1]] = run
            if len(results) > 1:
                axes = ", ".join(f"'{axis}'" for axis in run.axes)
                text = f"expected one result, found {len(results)}: say which in 'sweep' (axes: {axes})"
                raise TeacherError((), text)
            (run,) = results.values()
            # Of its axes those that tell it from others; it is the same result for all values of the rest.
            self.found[key] = replace(run, axes={axis: run.axes[axis] for axis in words.sweep})
        found = self.found[key]
        _check_data(found, student)
        return found

    def _chosen(self, words: Teacher, path: Path) -> Iterator[Run]:
        """The variants of the teacher's arm with its values of the axes, up to its stage."""
        if path not in self.variants:
            try:
                self.variants[path] = self.expand(path, self.profile)
            except UserError as error:
                raise TeacherError(("config",), str(error)) from None
        variants = self.variants[path]
        arms = list(dict.fromkeys(run.arm for run in variants))
        if words.arm is None and len(arms) > 1:
            raise TeacherError((), f"expected an 'arm': {path.name} has {', '.join(arms)}")
        if words.arm is not None and words.arm not in arms:
            raise TeacherError(("arm",), f"unknown arm {words.arm!r}" + nearest(words.arm, arms))
        chosen = [run for run in variants if run.arm == (words.arm or arms[0])]
        for axis, value in words.sweep.items():
            if axis not in chosen[0].axes:
                text = f"unknown axis {axis!r}"
                text += nearest(axis, list(chosen[0].axes)) or "; its arm has joined none"
                raise TeacherError(("sweep",), text)
            values = dict.fromkeys(json.dumps(run.axes[axis]) for run in chosen)
            chosen = [run for run in chosen if whole(run.axes[axis]) == whole(value)]
            if not chosen:
                text = f"expected one of {', '.join(values)}, found {json.dumps(value)}"
                raise TeacherError(("sweep", axis), text)
        names = [step.name for step in chosen[0].steps]
        end = len(names)
        if words.stage is not None:
            if words.stage not in names:
                raise TeacherError(("stage",), f"unknown stage {words.stage!r}" + nearest(words.stage, names))
            if names.count(words.stage) > 1:
                text = f"{words.stage!r} is repeated, which makes several results: name a stage outside"
                raise TeacherError(("stage",), text)
            end = names.index(words.stage) + 1
        for run in chosen:
            yield replace(run, steps=run.steps[:end])


def _each(teacher: Teacher | list[Teacher | str]) -> Iterator[tuple[Loc, Teacher | str]]:
    """Each teacher of a stage, and its place."""
    if isinstance(teacher, list):
        yield from (((place,), words) for place, words in enumerate(teacher))
    else:
        yield (), teacher


def _check_data(teacher: Run, student: Run) -> None:
    """A teacher knows the student's images, and has not seen those that it validates on."""
    theirs, ours = teacher.data, student.data
    if theirs.dataset != ours.dataset:
        text = f"expected a teacher of {ours.dataset}, found one of {theirs.dataset}"
        raise TeacherError((), text)
    if theirs.sha256 != ours.sha256:
        raise TeacherError((), f"has learned from {ours.dataset} as it was before: run its experiment again")
    # Which images validate is the same for 'seed' as for 0.
    splits = [0 if data.split_seed == "seed" else data.split_seed for data in (theirs, ours)]
    is_apart = splits[0] == splits[1] and theirs.validation_size >= ours.validation_size
    if ours.validation_size and not is_apart:
        text = (
            f"has been trained on images that its student validates on (its validation_size "
            f"{theirs.validation_size}, split_seed {theirs.split_seed}; the student's "
            f"{ours.validation_size} and {ours.split_seed}): give both the same"
        )
        raise TeacherError((), text)
