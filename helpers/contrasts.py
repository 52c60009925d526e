"""Distillation and pruning together: planned contrasts, paired by seed and corrected (Holm 1979)."""

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t, ttest_1samp

from .comparison import MARGIN, check_single, final_rows, interval
from .errors import UserError
from .plots import mean_interval
from .recovery_report import points, points_of
from .report import percent

LEVEL = 0.05
"""Chance, over a whole family of contrasts, to call one of them different that is not."""


UNLIKE = "†"
"""Marks a comparison that holds, or may hold, a difference of machines or of their precisions as well."""

CONTEXT_COLUMNS = ["network", "does it help to", "difference, points", "at each level", "seeds"]

ROUNDING = 1e-9
"""Accuracies that differ by less are the same number of images."""


class Contrast(NamedTuple):
    """A way to train less its control: the same seed, data order and number of student steps."""

    key: str
    claim: str
    """What a positive difference speaks for."""
    one: str
    """Arm."""
    other: str
    """Its control."""
    measure: str = "test_accuracy"
    planned: bool = False
    """Decided before anything was run."""


def contrasts_of(log: Any) -> list[Contrast]:
    """What the experiment's config compares. Raises UserError where it compares nothing."""
    if not log.contrasts:
        raise UserError(f"{log.experiment}: expected a config with 'contrasts', found none in its log")
    return [
        Contrast(key, words["claim"], words["of"], words["less"], words["measure"], words["planned"])
        for key, words in log.contrasts.items()
    ]


def planned(log: Any) -> list[Contrast]:
    """The contrasts that get a verdict: decided before anything was run."""
    return [contrast for contrast in contrasts_of(log) if contrast.planned]


def unplanned(log: Any) -> tuple[list[Contrast], list[Contrast]]:
    """The contrasts without verdicts: of claims that are planned with other arms, and of other claims."""
    claims = {contrast.claim for contrast in planned(log)}
    others = [contrast for contrast in contrasts_of(log) if not contrast.planned]
    again = [contrast for contrast in others if contrast.claim in claims]
    return again, [contrast for contrast in others if contrast.claim not in claims]


def setting_table(log: Any, controls: dict[str, Any] | None = None) -> pd.DataFrame:
    """Of distill_prune_select: mean validation accuracy in percent over levels and seeds.

    A row a temperature and alpha, a column a network; empty where a run diverged or failed. `controls`, logs
    of the contrasts by column, add a row without a teacher, of the same levels and seeds.
    """
    axes = ["temperature", "alpha"]
    rows = check_single(final_rows(log, axes=axes), ["arm", *axes, "target", "seed"], log.experiment)
    means = mean_interval(rows, ["arm", *axes], "val_accuracy")
    means["text"] = [
        "" if excluded else f"{100 * mean:.2f}"
        for mean, excluded in means[["mean", "excluded"]].itertuples(index=False)
    ]
    table = means.pivot(index=axes, columns="arm", values="text")[list(dict.fromkeys(rows["arm"]))]
    table.index = pd.Index([f"T {t:g}, alpha {alpha:g}" for t, alpha in table.index], name="setting")
    for arm, control in (controls or {}).items():
        own, plain = rows[rows["arm"] == arm], final_rows(control, ["finetune_ce"])
        plain = plain[plain["arm"].eq("finetune_ce") & plain["seed"].isin(own["seed"])]
        plain = plain[plain["target"].isin(own["target"]) & plain["status"].eq("ok")]
        table.loc["labels alone", arm] = f"{100 * plain['val_accuracy'].mean():.2f}"
    return table.rename_axis(columns=None)


def differences(log: Any, contrast: Contrast) -> pd.DataFrame:
    """One arm less the other, paired by seed and every axis that both have joined.

    Columns seed, level, difference, is_alike; a level is the value of the axis that either has joined, a text
    where they are several, NaN where there is none. An arm without an axis is paired with all its values.
    Where a run of the two diverged or failed, the difference is NaN. The two are alike where one machine
    computed all of both, and gave them the same precision for the same one asked. Raises UserError where the
    log has no pair.
    """
    rows = final_rows(log, axes=[contrast.measure])
    rows["value"] = rows[contrast.measure].where(rows["status"].eq("ok"))
    axes = [column for column in rows if column.startswith("sweep.")]
    found, joined = [], []
    for arm in (contrast.one, contrast.other):
        own = rows[rows["arm"] == arm]
        joined.append([axis for axis in axes if own[axis].notna().any()])
        own = check_single(own, ["seed", *joined[-1]], f"arm {arm}")
        found.append(own[["seed", *joined[-1], "value", "run"]])
    both = found[0].merge(
        found[1], on=["seed", *(axis for axis in joined[0] if axis in joined[1])], suffixes=("", "_other")
    )
    if both.empty:
        text = (
            f"expected runs of the arms {contrast.one} and {contrast.other} with a seed and level in common"
        )
        raise UserError(f"contrast {contrast.key}: {text}, found none")
    gaps = both["value"] - both["value_other"]
    with_what = _computed_with(log.results[log.results["arm"].isin([contrast.one, contrast.other])])
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


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment (Holm 1979): below a level, they keep the family's error below it.

    The i-th smallest of m is multiplied by m - i + 1, and is no smaller than those before it. NaN (a test
    that could not be made) stays NaN and still counts.
    """
    p = np.asarray(p, float)
    order = np.argsort(p)
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


def family_tests(groups: list[tuple[dict[str, Any], pd.Series]]) -> pd.DataFrame:
    """A row a family member (its words, and paired differences by seed), tested and corrected together.

    Columns: the words', mean, low, high (its own 95 % interval), n, p (two-sided, paired t-test), holm,
    most (the upper end of the family's joint 95 % interval, Bonferroni), and verdict.
    """
    table = []
    for words, gaps in groups:
        gaps = gaps.dropna()
        mean, low, high, n = interval(gaps)
        p = most = np.nan
        # Differences that are equal but for rounding have no spread to test against: no evidence.
        if n > 1 and gaps.std() > ROUNDING:
            p = ttest_1samp(gaps, 0).pvalue
            most = mean + gaps.std() / np.sqrt(n) * t.ppf(1 - LEVEL / (2 * len(groups)), n - 1)
        table.append(words | {"mean": mean, "low": low, "high": high, "n": n, "p": p, "most": most})
    table = pd.DataFrame(table)
    table["holm"] = holm(table["p"])
    table["verdict"] = [_verdict(*row) for row in table[["mean", "holm", "most"]].itertuples(index=False)]
    return table


def _verdict(mean: float, p: float, most: float) -> str:
    """helps, harms, does not, or undecided.

    "does not": no difference is shown, and a gain of MARGIN is outside the family's joint interval.
    """
    if p < LEVEL:
        return "helps" if mean > 0 else "harms"
    return "does not" if most < MARGIN else "undecided"


def primary_tests(logs: dict[str, Any]) -> pd.DataFrame:
    """The planned contrasts in every network, over all levels: one family.

    Columns: see `family_tests`; and is_alike, whether every pair is (see `differences`).
    """
    groups = []
    for network, log in logs.items():
        if not planned(log):
            text = "expected a contrast that was planned, found none, and so nothing to test"
            raise UserError(
                f'{log.experiment}: {text}; say "planned": true in its config, or use context_table'
            )
        for contrast in planned(log):
            words = {"network": network, "key": contrast.key, "claim": contrast.claim}
            found = differences(log, contrast)
            groups.append((words | {"is_alike": found["is_alike"].all()}, over_levels(found)))
    return family_tests(groups)


def level_tests(logs: dict[str, Any]) -> pd.DataFrame:
    """The planned contrasts at every level of every network: a second family, of the same data."""
    groups = []
    for network, log in logs.items():
        for contrast in planned(log):
            words = {"network": network, "key": contrast.key, "claim": contrast.claim}
            for level, gaps in differences(log, contrast).groupby("level", dropna=False):
                groups.append((words | {"level": level}, gaps.set_index("seed")["difference"]))
    return family_tests(groups)


def contrast_table(logs: dict[str, Any]) -> pd.DataFrame:
    """A row a network and planned contrast: difference in points, corrected p, verdict, and by level."""
    tests, levels = primary_tests(logs), level_tests(logs)
    rows = []
    for test in tests.itertuples():
        own = levels[(levels["network"] == test.network) & (levels["key"] == test.key)]
        each = ["–" if level.n == 0 else _starred(level) for level in own.itertuples()]
        rows.append(
            {
                "network": test.network,
                "does it help to": f"({test.key}) {test.claim}",
                "difference, points": "" if test.n == 0 else points(test.mean, test.low, test.high),
                "p, corrected": _p(test.holm),
                "verdict": test.verdict,
                "at each level": " / ".join(each),
                "seeds": f"{test.n}{'' if test.is_alike else UNLIKE}",
            }
        )
    return pd.DataFrame(rows).set_index("network")


def _p(p: float) -> str:
    """Three decimals of a probability; "" where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _starred(test: Any) -> str:
    """A difference in points, with a star where it stands on its own."""
    return f"{100 * test.mean:+.2f}{'*' if test.holm < LEVEL else ''}"


def context_table(logs: dict[str, Any]) -> pd.DataFrame:
    """A row a network and unplanned contrast: difference over all levels, with its own interval."""
    rows = []
    for network, log in logs.items():
        for contrast in chain(*unplanned(log)):
            found = differences(log, contrast)
            gaps, mark = over_levels(found), "" if found["is_alike"].all() else UNLIKE
            levels = found.groupby("level", dropna=False)["difference"].mean()
            row = {
                "network": network,
                "does it help to": f"({contrast.key}) {contrast.claim}",
                "difference, points": points_of(gaps),
                "at each level": " / ".join(f"{100 * mean:+.2f}" for mean in levels)
                if len(levels) > 1
                else "",
            }
            rows.append(row | {"seeds": f"{len(gaps)}{mark}"})
    return pd.DataFrame(rows, columns=CONTEXT_COLUMNS).set_index("network")


def arms_table(log: Any) -> pd.DataFrame:
    """Test accuracy in percent with its interval: a row an arm, a column a level of the one axis.

    That of a small dense student is its teacher's.
    """
    rows = final_rows(log)
    axis = next((column for column in rows if column.startswith("sweep.")), "target")
    rows = check_single(rows, ["arm", axis, "seed"], log.experiment)
    table = mean_interval(rows, ["arm", axis], "test_accuracy")
    table["text"] = [percent(*row) for row in table[["mean", "low", "high"]].itertuples(index=False)]
    levels = sorted(table[axis].dropna().unique())
    is_share = axis in ("target", "sweep.sparsity")
    found = []
    for arm in dict.fromkeys(rows["arm"]):
        own = table[table["arm"] == arm]
        texts = dict(zip(own[axis], own["text"], strict=True))
        every = next((text for level, text in texts.items() if pd.isna(level)), "")
        line = {"arm": log.label("arm", arm), "unpruned": every}
        heads = {level: f"{100 * level:g} %" if is_share else log.label(axis, level) for level in levels}
        found.append(line | {head: texts.get(level, "") for level, head in heads.items()})
    return pd.DataFrame(found).set_index("arm")
