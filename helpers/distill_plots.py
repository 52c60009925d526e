"""Figures of distillation: students beside their controls, and the whole range of learning rates."""

from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from .comparison import check_single, final_rows
from .distillation import ARM_NAMES, STUDENT_ARMS, STUDENTS, largest_rate, rate_means, rate_rows
from .plots import finish, mean_interval, seeds_note, styled
from .recovery_plots import arm_style, error_scale

LOSS_STYLES = {
    "ce": ("#555555", "o", "-"),
    "smooth": ("#E69F00", "^", "-"),
    "kd": ("#0072B2", "s", "-"),
    "kd_unscaled": ("#56B4E9", "D", "--"),
    "logits": ("#CC79A7", "v", "-."),
}
"""Colour (Okabe–Ito), marker and line of a way to train."""


def loss_style(arm: str) -> tuple[str, str, str]:
    """Colour, marker and line of an arm; of one that a config adds, those that its name gives it."""
    return LOSS_STYLES.get(arm, (*arm_style(arm)[:2], "-"))


ALPHA_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#D55E00")


@styled
def students_figure(log: Any, low: float = 95.5, high: float = 98.5) -> Figure:
    """Test accuracy over the temperature: a row a learning rate, a column a student, a line a weight alpha.

    The bands are the same student with cross-entropy and with label smoothing, at the same learning rate.
    """
    axes_swept = ["lr", "temperature", "alpha"]
    rows = final_rows(log, STUDENT_ARMS, axes_swept)
    rows = check_single(rows, ["arm", *axes_swept, "seed"], log.experiment)
    rates = sorted(rows["lr"].unique())
    size = (1 + 4.2 * len(STUDENTS), 0.8 + 3 * len(rates))
    fig, axes = plt.subplots(len(rates), len(STUDENTS), figsize=size, squeeze=False, sharey=True)
    tables = []
    for column, (student, shown) in enumerate(STUDENTS.items()):
        for row, rate in enumerate(rates):
            ax, here = axes[row, column], rows[np.isclose(rows["lr"], rate)]
            for kind in ("ce", "smooth"):
                control_band(ax, here[here["arm"] == f"{student}_{kind}"], kind)
            distilled = here[here["arm"] == f"{student}_kd"]
            means = mean_interval(distilled, ["alpha", "temperature"], "test_accuracy")
            for (alpha, drawn), colour in zip(means.groupby("alpha"), cycle(ALPHA_COLOURS)):
                half = 50 * (drawn["high"] - drawn["low"]).fillna(0)
                # Beside each other, so that no whisker hides another.
                x = drawn["temperature"] * (1 + 0.03 * list(means["alpha"].unique()).index(alpha))
                style = {
                    "color": colour,
                    "marker": "s",
                    "elinewidth": 1,
                    "label": f"distilled, alpha {alpha:g}",
                }
                ax.errorbar(x, 100 * drawn["mean"], yerr=half, **style)
            tables.append(means)
            error_scale(ax, low, high)
            ax.set(xscale="log", xlabel="temperature", title=f"{shown}, learning rate {rate:g}")
            ticks = sorted(distilled["temperature"].unique())
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.tick_params(labelleft=True)
    note = seeds_note(tables).replace("band:", "band and whisker:")
    return finish(fig, [log], note, axes=axes.flatten())


def control_band(ax: Axes, rows: pd.DataFrame, kind: str) -> None:
    """A student without a teacher: a line, and a band for its interval."""
    if rows.empty:
        return
    colour, _, _ = LOSS_STYLES[kind]
    found = (
        100 * mean_interval(rows.assign(base=""), "base", "test_accuracy").iloc[0][["mean", "low", "high"]]
    )
    ax.axhline(found["mean"], color=colour, linewidth=1, label=ARM_NAMES[kind])
    if np.isfinite(found["low"]):
        ax.axhspan(found["low"], found["high"], color=colour, alpha=0.2, linewidth=0)


@styled
def learning_rate_figure(log: Any) -> Figure:
    """Validation and test accuracy over the learning rate, and steps to 97 % validation; a line a loss."""
    fig, axes = plt.subplots(1, 3, figsize=(12.2, 4.6))
    quantities = ("val_accuracy", "test_accuracy", "steps_97")
    tables = [rate_panel(ax, log, quantity) for ax, quantity in zip(axes, quantities, strict=True)]
    for ax, split in zip(axes, ("validation", "test"), strict=False):
        ax.set(ylabel=f"{split} accuracy (%), log scale of the error", title=f"{split} accuracy")
    note = seeds_note(tables).replace(
        "line: mean; band: 95 % t-interval over seeds", "line: mean; dots: seeds"
    )
    note += " Dotted: largest rate with every seed above 90 %. What did not end finite counts as 0. "
    note += "Steps: of the seeds that get there."
    return finish(fig, [log], note, axes=axes)


def rate_panel(ax: Axes, log: Any, quantity: str) -> pd.DataFrame:
    """Draws a quantity of `rate_rows` over the learning rate, a line a loss; returns the means."""
    rows, tables = rate_rows(log), []
    is_share = not quantity.startswith("steps")
    factor = 100 if is_share else 1
    for place, arm in enumerate(rows["arm"].unique()):
        colour, marker, line = loss_style(arm)
        own = rows[rows["arm"] == arm]
        means = rate_means(log, quantity).query("arm == @arm and n > 0")
        tables.append(means)
        ax.plot(own["lr"], factor * own[quantity], ".", color=colour, markersize=2.5, alpha=0.5)
        style = {"color": colour, "marker": marker, "label": ARM_NAMES.get(arm, arm), "markersize": 3.5}
        ax.plot(means["lr"], factor * means["mean"], line, **style)
        if quantity == "val_accuracy":
            dots = (3 * place, (1.5, 10.5))  # between each other, where two arms have the same rate
            ax.axvline(largest_rate(own), color=colour, linewidth=1.5, linestyle=dots)
    ax.set(xscale="log", xlabel="learning rate")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    if is_share:
        error_scale(ax, 10, 98.5)
    else:
        ax.set(yscale="log", ylabel="steps", title=f"steps to {quantity[-2:]} % validation accuracy")
        ax.set_yticks([500, 700, 1000, 1500, 2000], ["500", "700", "1000", "1500", "2000"])
        ax.yaxis.set_minor_locator(NullLocator())
    return pd.concat(tables)
