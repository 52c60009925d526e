"""Tables of lottery tickets, made from logs: the paper's quantities beside ours, and every arm by level."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .comparison import interval
from .files import ROOT
from .recovery_plots import arm_style
from .recovery_report import points
from .report import percent
from .tickets import at_level, falls_below, gaps, nearest_level, ratio_interval, trainings

PAPER = ROOT / "data" / "lottery_ticket.csv"
MATCHING, BEST, SPARSE, SPARSER = 0.211, 0.135, 0.07, 0.036
"""Shares kept at which Frankle and Carbin (2019, section 2) report."""


def paper_table(log: Any) -> pd.DataFrame:
    """A row a quantity: Frankle and Carbin's (2019) value, ours with its interval, and whether they agree.

    "yes" where our interval holds their value (or reaches above it, where they say "more than") and
    excludes no effect; "undecided" where it holds both; "less" or "more" where it holds neither and has the
    same sign; "no" else.
    """
    table = trainings(log)
    # Where the reinitialised were trained longer, their early stop is not cut off by the end of training.
    patient = "reinit_longer" if "reinit_longer" in set(table["arm"]) else "reinit"
    ticket, reinit = (at_level(table, arm, MATCHING) for arm in ("ticket", patient))
    earlier = ratio_interval(ticket["early_step"], ticket["dense_early_step"])
    # The ends change places: less time is more gained.
    earlier = (1 - earlier[0], 1 - earlier[2], 1 - earlier[1], earlier[3])
    rows = [
        _row("early_stop_to_dense", f"early stop, ticket before dense, {_kept(ticket)}", earlier, "share"),
        _row(
            "early_stop_to_reinit",
            f"early stop, steps reinitialised / ticket, {_kept(ticket)}",
            ratio_interval(reinit["early_step"], ticket["early_step"]),
            "ratio",
        ),
    ]
    for place, level in enumerate((MATCHING, SPARSE, SPARSER)):
        pair = [at_level(table, arm, level) for arm in ("ticket", "reinit")]
        name = f"accuracy at early stop, ticket less reinitialised, {_kept(pair[0])}"
        gap = interval(pair[0]["early_accuracy"] - pair[1]["early_accuracy"])
        rows.append(_row("" if place else "accuracy_to_reinit", name, gap, "points"))
    if patient == "reinit_longer":
        for level in (SPARSE, SPARSER):
            pair = [at_level(table, arm, level) for arm in ("ticket", "reinit_longer")]
            name = f"the same, reinitialised trained longer, {_kept(pair[1])}"
            rows.append(
                _row("", name, interval(pair[0]["early_accuracy"] - pair[1]["early_accuracy"]), "points")
            )
    best = at_level(table, "ticket", BEST)
    gain = interval(best["early_accuracy"] - best["dense_early_accuracy"])
    rows.append(_row("gain_over_dense", f"accuracy, ticket less dense, {_kept(best)}", gain, "points"))
    for arm in ("ticket", "reinit"):
        rows.append(_level_row(f"{arm}_below_dense", f"{arm_style(arm)[2]}: below dense from", table, arm))
    return pd.DataFrame(rows).set_index("quantity")


def _kept(rows: pd.DataFrame) -> str:
    """'21.1 % kept'."""
    return f"{100 * rows['kept'].iloc[0]:.3g} % kept"


def _published(quantity: str) -> pd.Series | None:
    """The paper's row of a quantity, if it has one."""
    paper = pd.read_csv(PAPER).set_index("quantity")
    return paper.loc[quantity] if quantity in paper.index else None


def _row(quantity: str, name: str, found: tuple[float, float, float, int], unit: str) -> dict[str, Any]:
    """One quantity: `found` is mean, low, high, n."""
    paper, (mean, low, high, n) = _published(quantity), found
    form = {"share": _share, "ratio": _ratio, "points": points}[unit]
    row = {"quantity": name, "paper": "", "here": form(mean, low, high), "agrees": "", "seeds": n}
    if paper is None:
        return row
    bound = "> " if paper["kind"] == "more than" else ""
    row["paper"] = bound + form(paper["value"], np.nan, np.nan)
    row["agrees"] = agreement(low, high, paper["value"], bool(bound), 1.0 if unit == "ratio" else 0.0)
    return row


def agreement(low: float, high: float, value: float, is_bound: bool = False, none: float = 0.0) -> str:
    """Whether an interval agrees with a published value that lies above `none`, which is no effect."""
    if np.isnan(low):
        return "one seed"
    if low <= none:
        return "undecided" if high >= value else "no"
    if high > value if is_bound else low <= value <= high:
        return "yes"
    return "more" if low > value else "less"


def _level_row(quantity: str, name: str, table: pd.DataFrame, arm: str) -> dict[str, Any]:
    """The level from which on an arm is below the dense network: of its mean, and of its whole interval."""
    mean, whole = falls_below(table, arm)
    levels = gaps(table, arm)["kept"]
    value = _published(quantity)["value"]
    nearest = nearest_level(levels, value)
    last = f"not down to {100 * levels.min():.3g} %"
    first, second = (last if np.isnan(level) else f"{100 * level:.3g} %" for level in (mean, whole))
    n = int(gaps(table, arm)["n"].max())
    holds = "one seed" if n == 1 else level_agreement(mean, whole, nearest)
    return {
        "quantity": name,
        "paper": f"{100 * value:.3g} %",
        "here": f"mean: {first}; whole interval: {second}",
        "agrees": holds,
        "seeds": n,
    }


def level_agreement(mean: float, whole: float, published: float) -> str:
    """Whether a published level is between those where our mean and our whole interval fall below dense.

    NaN: never. The published level is the nearest of ours, which need not be the paper's to the digit.
    """
    high, low = (0.0 if np.isnan(level) else level for level in (mean, whole))
    if low <= published <= high:
        return "yes"
    return "holds longer" if high < published else "falls earlier"


def _share(mean: float, low: float, high: float) -> str:
    """'38 %', with its interval where there is one."""
    return (
        f"{100 * mean:.0f} %"
        if np.isnan(low)
        else f"{100 * mean:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
    )


def _ratio(mean: float, low: float, high: float) -> str:
    """'2.51 ×', with its interval where there is one."""
    return f"{mean:.2f} ×" if np.isnan(low) else f"{mean:.2f} × ({low:.2f} to {high:.2f})"


def levels_table(log: Any, arms: Sequence[str], against: Sequence[str] = ("reinit",)) -> pd.DataFrame:
    """Test accuracy at early stop, in percent: a row a level of the control `against`, a column an arm.

    The last columns are the ticket less each of `against`, paired by seed, in points.
    """
    table = trainings(log)
    table = table[table["status"].eq("ok")]
    levels = sorted(table.loc[table["arm"] == against[0], "kept"].unique(), reverse=True)
    rows = []
    for kept in (1.0, *levels):
        row = {"kept": "dense" if kept == 1 else f"{100 * kept:.3g} %"}
        for arm in arms:
            found = table[(table["arm"] == arm) & (table["kept"] == kept)]
            text = percent(*interval(found["early_accuracy"])[:3]) if len(found) else ""
            row[arm_style(arm)[2]] = text
        for arm in against:
            is_paired = kept < 1 and {"ticket", arm} <= set(table.loc[table["kept"] == kept, "arm"])
            text = ""
            if is_paired:
                ours, theirs = (at_level(table, name, kept)["early_accuracy"] for name in ("ticket", arm))
                text = points(*interval(ours - theirs)[:3])
            row[f"ticket less {arm_style(arm)[2]}, points"] = text
        rows.append(row)
    return pd.DataFrame(rows).set_index("kept")


def longer_table(log: Any) -> pd.DataFrame:
    """What training longer changes, on the seeds that did: a row a level, early stop and accuracy of both.

    The last column is of all seeds' tickets at that level, trained as long as the others.
    """
    table = trainings(log)
    table = table[table["status"].eq("ok")]
    rows = []
    for kept, longer in table[table["arm"] == "longer"].groupby("kept", sort=False):
        tickets = at_level(table, "ticket", kept)
        same = tickets.loc[tickets.index.intersection(longer["seed"])]
        ends = tickets["early_accuracy"].min(), tickets["early_accuracy"].max()
        rows.append(
            {
                "kept": f"{100 * kept:.3g} %",
                "early-stop step": f"{same['early_step'].mean():,.0f}",
                "trained longer": f"{longer['early_step'].mean():,.0f}",
                "accuracy at early stop, %": f"{100 * same['early_accuracy'].mean():.2f}",
                "trained longer, %": f"{100 * longer['early_accuracy'].mean():.2f}",
                "all seeds, %": " to ".join(f"{100 * end:.2f}" for end in ends),
            }
        )
    return pd.DataFrame(rows).set_index("kept") if rows else pd.DataFrame()
