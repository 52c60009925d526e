"""What a config compares: an arm less its control, paired by seed and every axis that both have joined."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..foundations.errors import UserError
from ..utils import Results
from .selection import known
from .statistics import family, single


class Contrast(NamedTuple):
    """One arm less another, as the config says."""

    key: str
    claim: str
    """What a positive difference speaks for."""
    of: str
    less: str
    measure: str = "test_accuracy"
    planned: bool = False
    """Decided before anything was run."""


def contrasts(log: Results, planned: bool | None = None) -> list[Contrast]:
    """What the experiment's config compares: all of it, what was planned, or what was not.

    Raises UserError where it compares nothing.
    """
    if not log.contrasts:
        raise UserError(f"{log.experiment}: expected a config with 'contrasts', found none in its log")
    found = [
        Contrast(key, words["claim"], words["of"], words["less"], words["measure"], words["planned"])
        for key, words in log.contrasts.items()
    ]
    return [contrast for contrast in found if planned is None or contrast.planned == planned]


def beside_plan(log: Results) -> tuple[list[Contrast], list[Contrast]]:
    """The contrasts that were not planned: of claims planned with other arms, and of other claims."""
    claims = {contrast.claim for contrast in contrasts(log, planned=True)}
    others = contrasts(log, planned=False)
    again = [contrast for contrast in others if contrast.claim in claims]
    return again, [contrast for contrast in others if contrast.claim not in claims]


def differences(log: Results, contrast: Contrast | str) -> pd.DataFrame:
    """One arm less the other, paired by seed and every axis that both have joined.

    Columns seed, level, difference, is_alike; a level is the value of the axis that either has joined, a text
    where they are several, NaN where there is none. An arm without an axis is paired with all its values.
    Where a run of the two diverged or failed, the difference is NaN. The two are alike where one machine
    computed all of both, and gave them the same precision for the same one asked. Raises UserError where the
    log has no pair.
    """
    if isinstance(contrast, str):
        by_key = {own.key: own for own in contrasts(log)}
        contrast = by_key[known(contrast, by_key, f"{log.experiment}: contrast")]
    rows = log.final()
    known(contrast.measure, rows.columns, "column")
    rows["value"] = rows[contrast.measure].where(rows["status"].eq("ok"))
    axes = [column for column in rows if column.startswith("sweep.")]
    found, joined = [], []
    for arm in (contrast.of, contrast.less):
        own = rows[rows["arm"] == known(arm, rows["arm"], f"{log.experiment}: arm")]
        joined.append([axis for axis in axes if own[axis].notna().any()])
        own = single(own, [*joined[-1], "seed"])
        found.append(own[["seed", *joined[-1], "value", "run"]])
    both = found[0].merge(
        found[1], on=["seed", *(axis for axis in joined[0] if axis in joined[1])], suffixes=("", "_other")
    )
    if both.empty:
        text = f"expected runs of the arms {contrast.of} and {contrast.less} with a seed and level in common"
        raise UserError(f"contrast {contrast.key}: {text}, found none")
    gaps = both["value"] - both["value_other"]
    with_what = _computed_with(log.results[log.results["arm"].isin([contrast.of, contrast.less])])
    is_alike = [
        np.isnan(gap) or all(len(one[key] | other[key]) == 1 for key in one.keys() & other.keys())
        for gap, one, other in zip(
            gaps, both["run"].map(with_what), both["run_other"].map(with_what), strict=True
        )
    ]
    columns = {"seed": both["seed"], "level": _levels(both, axes), "difference": gaps, "is_alike": is_alike}
    return pd.DataFrame(columns)


def _computed_with(rows: pd.DataFrame) -> dict[str, dict[str, set[str]]]:
    """By run: the machines of its stages, and what each precision that they ask for really was."""
    found: dict[str, dict[str, set[str]]] = {}
    words = rows[["run", "machine", "precision", "used_precision"]].astype(object)
    words = words.where(words.notna(), "").drop_duplicates()
    for run, machine, precision, used in words.itertuples(index=False):
        own = found.setdefault(run, {"machine": set()})
        own["machine"].add(machine)
        own.setdefault(precision, set()).add(used)
    return found


def _levels(both: pd.DataFrame, axes: list[str]) -> pd.Series | float:
    """The value of the axis that these pairs have, or the text of all of them."""
    own = [axis for axis in axes if axis in both]
    if len(own) < 2:
        return both[own[0]] if own else np.nan
    texts = [both[axis].map(lambda value, name=axis[6:]: f"{name} {value}") for axis in own]
    return texts[0].str.cat(texts[1:], sep=", ")


def over_levels(gaps: pd.DataFrame) -> pd.Series:
    """Each seed's mean difference over the levels, of the seeds that have one at all of them; by seed."""
    wide = gaps.assign(level=gaps["level"].fillna(0)).pivot(
        index="seed", columns="level", values="difference"
    )
    return wide.dropna().mean(axis=1)


def compared(log: Results, own: Sequence[Contrast]) -> pd.DataFrame:
    """The differences of several contrasts, a row a seed and level; `level` is NaN for the mean over levels.

    Columns: contrast ("(key) claim"), key, claim, level, seed, difference, is_alike (over all levels: of all
    pairs).
    """
    found = []
    for contrast in own:
        gaps = differences(log, contrast)
        mean = over_levels(gaps).rename("difference").reset_index()
        nothing = pd.Series(np.nan, mean.index, gaps["level"].dtype)
        mean = mean.assign(level=nothing, is_alike=bool(gaps["is_alike"].all()))
        words = {"key": contrast.key, "claim": contrast.claim}
        words |= {"contrast": f"({contrast.key}) {contrast.claim}"}
        found += [part.assign(**words) for part in (mean, gaps.dropna(subset="level").sort_values("level"))]
    columns = ["contrast", "key", "claim", "level", "seed", "difference", "is_alike"]
    found = [part for part in found if len(part)]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def contrast_tests(logs: Mapping[str, Results], by_level: bool = False) -> pd.DataFrame:
    """The planned contrasts of these logs as one family of tests, a row each; or at every level, a row each.

    Columns: network (the key of `logs`), key, claim, is_alike (whether every pair is, see `differences`),
    with `by_level` also level, and those of `family`. Raises UserError where a config planned nothing.
    """
    if not isinstance(logs, Mapping) or not logs:
        raise UserError("contrast_tests: expected logs by name, such as {'LeNet': log}, found none")
    groups: list[tuple[dict[str, Any], pd.Series]] = []
    for network, log in logs.items():
        own = contrasts(log, planned=True)
        if not own:
            text = "expected a contrast that was planned, found none, and so nothing to test"
            raise UserError(f'{log.experiment}: {text}; say "planned": true in its config')
        for contrast in own:
            found = differences(log, contrast)
            words = {"network": network, "key": contrast.key, "claim": contrast.claim}
            if not by_level:
                words["is_alike"] = bool(found["is_alike"].all())
                groups.append((words, over_levels(found)))
                continue
            for level, gaps in found.groupby("level", dropna=False):
                words_here = {"is_alike": bool(gaps["is_alike"].all()), "level": level}
                groups.append((words | words_here, gaps.set_index("seed")["difference"]))
    return family(groups)
