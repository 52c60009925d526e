"""Figure of distillation and pruning together: paired differences with intervals."""

import textwrap
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .comparison import interval
from .contrasts import (
    Contrast,
    contrasts_of,
    differences,
    over_levels,
    planned,
    primary_tests,
    unplanned,
)
from .plots import finish, styled

LEVEL_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
VERDICT_COLOURS = {"helps": "#009E73", "harms": "#D55E00", "does not": "#555555", "undecided": "#999999"}


@styled
def contrast_figure(logs: dict[str, Any], reach: float = 1.0) -> Figure:
    """Paired differences in test accuracy with 95 % intervals: a column a network, a row a contrast.

    Above, the planned contrasts with their verdicts; then their claims with other arms; below, the context.
    `reach`: points shown to either side; what lies beyond stands at the edge
    with its value.
    """
    titles = ("planned", "the same claims at another setting", "beside them")
    parts = {network: (planned(log), *unplanned(log)) for network, log in logs.items()}
    ratios = {"height_ratios": [len(contrasts) + 0.4 for contrasts in next(iter(parts.values()))]}
    size = {"figsize": (12.2, 11.4), "gridspec_kw": ratios}
    fig, axes = plt.subplots(len(titles), len(logs), squeeze=False, sharex=True, sharey="row", **size)
    verdicts = primary_tests(logs).set_index(["network", "key"])["verdict"]
    gaps = [differences(log, contrast) for log in logs.values() for contrast in contrasts_of(log)]
    levels = sorted({level for found in gaps for level in found["level"].dropna()})
    colours = dict(zip(levels, cycle(LEVEL_COLOURS), strict=False))
    for level in levels:  # so that the legend has them in their order
        axes[0, 0].plot([], [], "o", color=colours[level], markersize=4, label=f"{100 * level:g} % pruned")
    seeds = set()
    for column, (network, log) in zip(axes.T, logs.items(), strict=True):
        for ax, title, contrasts in zip(column, titles, parts[network], strict=True):
            seeds |= contrast_panel(ax, log, contrasts, colours, reach)
            ax.set_title(f"{network}: {title}{_taught(log, contrasts)}", loc="left")
        for place, contrast in enumerate(parts[network][0]):
            verdict = verdicts[network, contrast.key]
            style = {"fontsize": 8, "ha": "right", "va": "center", "fontweight": "bold"}
            column[0].text(0.99 * reach, place - 0.12, verdict, color=VERDICT_COLOURS[verdict], **style)
        column[-1].set_xlabel("paired difference in test accuracy, points")
    n = " to ".join(dict.fromkeys(map(str, (min(seeds), max(seeds)))))
    whisker = "so no interval" if max(seeds) < 2 else "whisker: 95 % t-interval over seeds"
    note = f"n = {n} seeds; {whisker}. Diamond: mean over all levels; dots: seeds; "
    note += "grey: within 0.1 points. Verdicts: of the planned, on the mean over levels, corrected (Holm)."
    return finish(fig, logs.values(), note, axes=axes[0])


def _taught(log: Any, contrasts: list[Contrast]) -> str:
    """' (T 8, alpha 0.9)', where all that these contrasts are about learned with one setting."""
    rows = log.results[log.results["arm"].isin([contrast.one for contrast in contrasts])]
    settings = rows.loc[rows["teacher"].notna(), ["temperature", "alpha"]].drop_duplicates()
    if len(settings) != 1:
        return ""
    temperature, alpha = settings.iloc[0]
    return f" (T {temperature:g}, alpha {alpha:g})"


def contrast_panel(
    ax: Axes, log: Any, contrasts: list[Contrast], colours: dict[float, str], reach: float
) -> set[int]:
    """Draws a row a contrast: the mean over levels, and below it every level; returns the seeds' counts.

    `colours`: of the levels.
    """
    counts = set()
    for place, contrast in enumerate(contrasts):
        gaps = differences(log, contrast)
        counts.add(_whisker(ax, over_levels(gaps), place - 0.12, "black", "D", reach, "all levels"))
        levels = gaps.groupby("level")
        for step, (sparsity, own) in enumerate(levels, 1):
            of_level = own.set_index("seed")["difference"]
            y = place - 0.12 + 0.62 * step / (len(levels) + 1)
            _whisker(ax, of_level, y, colours[sparsity], "o", reach, f"{100 * sparsity:g} % pruned")
    _difference_axis(ax, contrasts, reach)
    return counts


def contrast_summary(ax: Axes, logs: dict[str, Any], reach: float = 1.0) -> None:
    """Draws the planned contrasts alone, each a mean over levels, a colour a network."""
    for step, (network, log) in enumerate(logs.items()):
        colour = ("#0072B2", "#D55E00")[step % 2]
        for place, contrast in enumerate(planned(log)):
            y = place + 0.3 * (step - (len(logs) - 1) / 2)
            _whisker(ax, over_levels(differences(log, contrast)), y, colour, "D", reach, network)
    contrasts = planned(next(iter(logs.values())))
    _difference_axis(ax, contrasts, reach)
    ax.set_yticklabels([textwrap.fill(contrast.claim, 22) for contrast in contrasts], fontsize=7)
    ax.set(xlabel="gain in test accuracy, points", title="distillation and pruning: the planned contrasts")
    ax.legend(loc="upper right", fontsize=7, labelcolor="linecolor", handlelength=0, markerscale=0)


def _difference_axis(ax: Axes, contrasts: list[Contrast], reach: float) -> None:
    """A row a contrast, no difference in the middle."""
    ax.axvspan(-0.1, 0.1, color="0.9", linewidth=0, zorder=0)
    ax.axvline(0, color="0.35", linewidth=1, zorder=1)
    texts = [f"({contrast.key}) {contrast.claim}" for contrast in contrasts]
    ax.set_yticks(np.arange(len(contrasts)), texts)
    ax.set(ylim=(len(contrasts) - 0.35, -0.6), xlim=(-reach, reach))
    ax.grid(axis="y", visible=False)


def _whisker(ax: Axes, gaps: pd.Series, y: float, colour: str, marker: str, reach: float, label: str) -> int:
    """Draws seeds, mean and interval of a difference; returns how many seeds.

    What lies beyond the reach stands at the edge, with its value.
    """
    gaps = 100 * gaps.dropna()
    mean, low, high, n = interval(gaps)
    if n == 0:
        return 0
    label = "" if label in ax.get_legend_handles_labels()[1] else label
    style = {"color": colour, "marker": marker, "markersize": 5.5 if marker == "D" else 4, "linestyle": ""}
    ax.plot(np.clip(gaps, -reach, reach), np.full(n, y), ".", color=colour, markersize=2.5, alpha=0.5)
    if np.isfinite(low):
        ax.hlines(y, max(low, -reach), min(high, reach), color=colour, linewidth=1.2)
    ax.plot(np.clip(mean, -0.985 * reach, 0.985 * reach), y, label=label, **style)
    if abs(mean) > 0.985 * reach:
        place = {"xytext": (-4 if mean > 0 else 4, 3), "textcoords": "offset points"}
        side = "right" if mean > 0 else "left"
        ax.annotate(f"{mean:+.1f}", (np.sign(mean) * reach, y), fontsize=6.5, color=colour, ha=side, **place)
    return n
