"""Distillation and pruning together: planned contrasts, paired by seed and corrected (Holm 1979)."""

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


PRIMARY = (
    Contrast("a", "fine-tune with the dense self as teacher", "finetune_self", "finetune_ce"),
    Contrast("b", "train a ticket, dense self as teacher", "ticket_self", "ticket_ce"),
    Contrast("c", "distil before pruning, not after it", "distil_first", "finetune_strong"),
    Contrast("d", "learn from a pruned, not a dense teacher", "small_pruned_teacher", "small_dense_teacher"),
)
"""Decided before anything was run."""

HOT = tuple(
    Contrast(f"{contrast.key}, T 8", contrast.claim, one, other)
    for contrast, one, other in zip(
        PRIMARY,
        ("finetune_hot", "ticket_hot", "distil_first_hot", "small_pruned_teacher_hot"),
        ("finetune_ce", "ticket_ce", "finetune_strong_hot", "small_dense_teacher_hot"),
        strict=True,
    )
)
"""The same four at temperature 8 and alpha 0.9, where a teacher tells of the wrong classes; no verdicts."""

CONTEXT = (
    Contrast("e", "fine-tune with label smoothing", "finetune_smooth", "finetune_ce"),
    Contrast("f", "fine-tune with a strong teacher", "finetune_strong", "finetune_ce"),
    Contrast("f, T 8", "fine-tune with a strong teacher", "finetune_strong_hot", "finetune_ce"),
    Contrast("g", "distil before pruning, fine-tune without", "distil_first", "finetune_ce"),
    Contrast("g, T 8", "distil before pruning, fine-tune without", "distil_first_hot", "finetune_ce"),
    Contrast("h", "train a random mask with a teacher", "random_self", "random_ce"),
    Contrast("i", "train a small dense one with a teacher", "small_dense_teacher", "small_ce"),
    Contrast("i, T 8", "train a small dense one with a teacher", "small_dense_teacher_hot", "small_ce"),
)
"""What stands beside the four, to tell what they mean; no verdicts."""

ARM_TEXTS = {
    "dense": "dense",
    "dense_longer": "dense, trained twice as long",
    "finetune_ce": "pruned, fine-tuned",
    "finetune_self": "… dense self as teacher",
    "finetune_hot": "… the same, T 8",
    "finetune_smooth": "… label smoothing",
    "finetune_strong": "… strong teacher",
    "finetune_strong_hot": "… the same, T 8",
    "distil_first": "distilled, pruned, fine-tuned",
    "distil_first_hot": "… the same, T 8",
    "ticket_ce": "ticket",
    "ticket_self": "… dense self as teacher",
    "ticket_hot": "… the same, T 8",
    "random_ce": "random mask",
    "random_self": "… dense self as teacher",
    "small_ce": "30-30, dense",
    "small_dense_teacher": "… dense teacher",
    "small_dense_teacher_hot": "… the same, T 8",
    "small_pruned_teacher": "… pruned teacher",
    "small_pruned_teacher_hot": "… the same, T 8",
}
"""What tables call an arm."""


def setting_table(log: Any, controls: dict[str, Any] | None = None) -> pd.DataFrame:
    """Of distill_prune_select: mean validation accuracy in percent over levels and seeds.

    A row a temperature and alpha, a column a network; empty where a run diverged or failed. `controls`, logs
    of the contrasts by column, add a row without a teacher, of the same levels and seeds.
    """
    axes = ["sweep.temperature", "sweep.alpha"]
    rows = final_rows(log, axes=axes)
    levels = [axis for axis in ("sweep.sparsity", "sweep.unit_sparsity") if axis in rows]
    rows = check_single(rows, ["arm", *axes, *levels, "seed"], log.experiment)
    means = mean_interval(rows, ["arm", *axes], "val_accuracy")
    means["text"] = [
        "" if excluded else f"{100 * mean:.2f}"
        for mean, excluded in means[["mean", "excluded"]].itertuples(index=False)
    ]
    table = means.pivot(index=axes, columns="arm", values="text")[list(dict.fromkeys(rows["arm"]))]
    table.index = pd.Index([f"T {t:g}, alpha {alpha:g}" for t, alpha in table.index], name="setting")
    for arm, control in (controls or {}).items():
        own, plain = rows[rows["arm"] == arm], final_rows(control, ["finetune_ce"], ["sweep.sparsity"])
        levels = own[["sweep.sparsity", "sweep.unit_sparsity"]].stack().astype(float).unique()
        plain = plain[plain["arm"].eq("finetune_ce") & plain["seed"].isin(own["seed"])]
        plain = plain[plain["sweep.sparsity"].astype(float).isin(levels) & plain["status"].eq("ok")]
        table.loc["labels alone", arm] = f"{100 * plain['val_accuracy'].mean():.2f}"
    return table.rename_axis(columns=None)


def differences(log: Any, contrast: Contrast) -> pd.DataFrame:
    """Accuracy of one arm less the other's, paired by seed: columns seed, sparsity, difference.

    An arm that has no sparsity is paired with every level of the other. Where a run of the two diverged or
    failed, the difference is NaN. Raises UserError where the log has no pair.
    """
    rows = final_rows(log, axes=["sweep.sparsity"])
    rows["accuracy"] = rows["test_accuracy"].where(rows["status"].eq("ok"))
    rows["level"] = rows["sweep.sparsity"].astype(float)
    columns = ["seed", "level", "accuracy"]
    one, other = (
        check_single(rows[rows["arm"] == arm], ["seed", "level"], f"arm {arm}")[columns]
        for arm in (contrast.one, contrast.other)
    )
    keys = ["seed"]
    if one["level"].notna().any() and other["level"].notna().any():
        keys.append("level")
    elif one["level"].notna().any():
        other = other.drop(columns="level")
    else:
        one = one.drop(columns="level")
    both = one.merge(other, on=keys, suffixes=("", "_other"))
    if both.empty:
        text = (
            f"expected runs of the arms {contrast.one} and {contrast.other} with a seed and level in common"
        )
        raise UserError(f"contrast {contrast.key}: {text}, found none")
    gaps = both["accuracy"] - both["accuracy_other"]
    return pd.DataFrame({"seed": both["seed"], "sparsity": both["level"], "difference": gaps})


def over_levels(gaps: pd.DataFrame) -> pd.Series:
    """Each seed's mean difference over the levels, of the seeds that have one at all of them; by seed."""
    wide = gaps.assign(sparsity=gaps["sparsity"].fillna(0)).pivot(
        index="seed", columns="sparsity", values="difference"
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
    """The planned contrasts in every network, over all levels: one family. Columns: see `family_tests`."""
    return family_tests(
        [
            (
                {"network": network, "key": contrast.key, "claim": contrast.claim},
                over_levels(differences(log, contrast)),
            )
            for network, log in logs.items()
            for contrast in PRIMARY
        ]
    )


def level_tests(logs: dict[str, Any], contrasts: tuple[Contrast, ...] = PRIMARY) -> pd.DataFrame:
    """The contrasts at every level of every network: a second family, of the same data."""
    groups = []
    for network, log in logs.items():
        for contrast in contrasts:
            for sparsity, gaps in differences(log, contrast).groupby("sparsity", dropna=False):
                words = {
                    "network": network,
                    "key": contrast.key,
                    "claim": contrast.claim,
                    "sparsity": sparsity,
                }
                groups.append((words, gaps.set_index("seed")["difference"]))
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
                "seeds": test.n,
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
    """A row a network and contrast of HOT and CONTEXT: difference over all levels, with its own interval."""
    rows = []
    for network, log in logs.items():
        for contrast in HOT + CONTEXT:
            found = differences(log, contrast)
            gaps = over_levels(found)
            levels = found.groupby("sparsity", dropna=False)["difference"].mean()
            row = {
                "network": network,
                "does it help to": f"({contrast.key}) {contrast.claim}",
                "difference, points": points_of(gaps),
                "at each level": " / ".join(f"{100 * mean:+.2f}" for mean in levels)
                if len(levels) > 1
                else "",
            }
            rows.append(row | {"seeds": len(gaps)})
    return pd.DataFrame(rows).set_index("network")


def arms_table(log: Any) -> pd.DataFrame:
    """Test accuracy in percent with its interval: a row an arm, a column a sparsity.

    That of a small dense student is its teacher's.
    """
    rows = final_rows(log, axes=["sweep.sparsity"])
    rows = check_single(rows, ["arm", "sweep.sparsity", "seed"], log.experiment)
    table = mean_interval(rows, ["arm", "sweep.sparsity"], "test_accuracy")
    table["text"] = [percent(*row) for row in table[["mean", "low", "high"]].itertuples(index=False)]
    levels = sorted(table["sweep.sparsity"].dropna().unique())
    found = []
    for arm in dict.fromkeys(rows["arm"]):
        own = table[table["arm"] == arm]
        texts = dict(zip(own["sweep.sparsity"], own["text"], strict=True))
        every = next((text for level, text in texts.items() if pd.isna(level)), "")
        line = {"arm": ARM_TEXTS.get(arm, arm), "unpruned": every}
        found.append(line | {f"{100 * level:g} %": texts.get(level, "") for level in levels})
    return pd.DataFrame(found).set_index("arm")
