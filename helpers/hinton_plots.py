"""Figures of the classic of distillation, of small students, and of few images."""

from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .comparison import final_rows
from .distill_plots import ALPHA_COLOURS, loss_style
from .distillation import ARM_NAMES, tuned_rows
from .few_images import size_rows
from .hinton import (
    GRID,
    HINTON_ARMS,
    SELECT_ARMS,
    gain_rows,
    hinton_rows,
    published_test_errors,
)
from .plots import finish, mean_interval, seeds_note, styled
from .recovery_plots import error_scale


@styled
def hinton_figure(log: Any, select: Any, small: Any) -> Figure:
    """Test errors of teacher and students beside the paper's; what validation says of the temperature; and
    what a small student gains by each temperature.
    """
    fig, axes = plt.subplots(1, 3, figsize=(12.2, 4.2))
    tables = [errors_panel(axes[0], log), select_panel(axes[1], select), small_panel(axes[2], small)]
    note = seeds_note(tables, has_dots=True).replace("line: mean; band", "line, square: mean; whisker")
    note += f" Middle: n = {tables[1]['n'].max()}, no whiskers."
    return finish(fig, [log, select, small], note)


def errors_panel(ax: Axes, log: Any) -> pd.DataFrame:
    """Test errors by arm: seeds, mean and interval, and the published count; returns the means."""
    rows = hinton_rows(log)
    means = mean_interval(rows, "arm", "test_errors").set_index("arm").loc[list(HINTON_ARMS)]
    rows = rows[rows["status"].eq("ok")]
    for place, (arm, (_, name)) in enumerate(HINTON_ARMS.items()):
        own, mean = rows.loc[rows["arm"] == arm, "test_errors"], means.loc[arm]
        ax.plot(own, np.full(len(own), place), ".", color="0.6", markersize=4, zorder=1)
        half = None if np.isnan(mean["low"]) else (mean["high"] - mean["low"]) / 2
        ax.errorbar(mean["mean"], place, xerr=half, fmt="s", color="#0072B2", label="here")
        ax.annotate(
            f"{mean['mean']:.0f}", (mean["mean"], place), (0, 6), textcoords="offset points", ha="center"
        )
        published = published_test_errors(name)
        if np.isfinite(published):
            ax.plot(
                published, place, "D", color="#D55E00", markerfacecolor="none", label="Hinton et al. 2015"
            )
            style = {"textcoords": "offset points", "ha": "center", "color": "#D55E00"}
            ax.annotate(f"{published:.0f}", (published, place), (0, -12), **style)
    ax.set_yticks(
        range(len(HINTON_ARMS)), [shown.replace(", ", ",\n", 1) for shown, _ in HINTON_ARMS.values()]
    )
    ax.set(
        ylim=(len(HINTON_ARMS) - 0.5, -0.5), xlabel="test errors of 10,000", title="60,000 training images"
    )
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    ax.legend(handles.values(), handles.keys(), loc="best")
    return means.reset_index()


def select_panel(ax: Axes, log: Any) -> pd.DataFrame:
    """Validation accuracy over the temperature, a line a weight alpha and length; returns the means.

    The long trainings have the alpha that the short ones choose. Horizontal: cross-entropy, as long.
    """
    rows, tables = final_rows(log, SELECT_ARMS, GRID), []
    short, long = (rows[rows["arm"] == arm] for arm in ("student_kd", "long_kd"))
    settings = [*short.groupby("alpha"), *long.groupby("alpha")]
    for (alpha, drawn), colour in zip(settings, cycle(ALPHA_COLOURS)):
        is_short = drawn["arm"].eq("student_kd").all()
        line = "s-" if is_short else "D--"
        means = mean_interval(drawn, "temperature", "val_accuracy")
        label = f"alpha {alpha:g}, {drawn['epochs'].iloc[0]:g} epochs"
        ax.plot(means["temperature"], 100 * means["mean"], line, color=colour, label=label)
        ax.legend(loc="upper left")
        dots = drawn[drawn["status"].eq("ok")]
        ax.plot(dots["temperature"], 100 * dots["val_accuracy"], ".", color=colour, markersize=3, alpha=0.5)
        tables.append(means)
    plain = rows[rows["arm"].eq("length_ce") & rows["status"].eq("ok")]
    for own, line in ((short, "-"), (long, "--")):
        level = plain.loc[plain["epochs"].isin(own["epochs"]), "val_accuracy"].mean()
        label = f"cross-entropy, {own['epochs'].iloc[0]:g} epochs"
        ax.axhline(100 * level, color="#555555", linestyle=line, label=label)
        place = (short["temperature"].max(), 100 * level)
        ax.annotate(label, place, (0, 3), textcoords="offset points", ha="right", fontsize="small")
    _temperature_axis(ax, short["temperature"])
    ax.set(ylabel="validation accuracy (%)", title="800-800, distilled: on validation images")
    ax.margins(y=0.12)
    return pd.concat(tables)


def small_panel(ax: Axes, log: Any) -> pd.DataFrame:
    """Gain over cross-entropy by temperature, a line a student; returns the means."""
    gains, tables = gain_rows(log), []
    for (student, own), colour in zip(gains.groupby("student", sort=False), cycle(ALPHA_COLOURS)):
        means = mean_interval(own, "temperature", "gain")
        half = 50 * (means["high"] - means["low"]).fillna(0)
        style = {"color": colour, "marker": "s", "elinewidth": 1, "label": student}
        # Beside each other, so that no whisker hides another.
        x = means["temperature"] * (1 + 0.04 * len(tables))
        ax.errorbar(x, 100 * means["mean"], yerr=half, **style)
        tables.append(means)
    ax.axhline(0, color="#555555", linewidth=1)
    _temperature_axis(ax, gains["temperature"])
    ax.set(ylabel="test accuracy minus cross-entropy's, points", title="small students: gain by distillation")
    ax.legend(loc="lower left")
    return pd.concat(tables)


def _temperature_axis(ax: Axes, temperatures: pd.Series) -> None:
    """A log axis with a tick at every temperature that was tried."""
    ticks = sorted(temperatures.unique())
    ax.set(xscale="log", xlabel="temperature")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


@styled
def size_figure(few: Any, every: Any) -> Figure:
    """Over the number of training images: accuracy, and what it gains on cross-entropy, paired by seed.

    Each seed at the learning rate that the other seeds' validation chooses.
    """
    rows = size_rows(few, every)
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 4))
    tables = []
    tuned = {
        (images, arm): tuned_rows(own, ["lr"])
        for (images, arm), own in rows.groupby(["images", "arm"], sort=False)
    }
    for arm in dict.fromkeys(rows["arm"]):
        colour, marker, line = loss_style(arm)
        own = pd.concat([found.reset_index() for (_, of), found in tuned.items() if of == arm])
        plain = pd.concat([found.reset_index() for (_, of), found in tuned.items() if of == "ce"])
        control = plain.set_index(["images", "seed"])["test_accuracy"]
        own["gain"] = (
            own["test_accuracy"].to_numpy()
            - control.reindex(pd.MultiIndex.from_frame(own[["images", "seed"]])).to_numpy()
        )
        for ax, quantity in zip(axes, ("test_accuracy", "gain"), strict=True):
            if quantity == "gain" and arm == "ce":
                continue
            means = mean_interval(own, "images", quantity)
            tables.append(means)
            half = 50 * (means["high"] - means["low"]).fillna(0)
            style = {"color": colour, "marker": marker, "elinewidth": 1, "label": ARM_NAMES.get(arm, arm)}
            ax.errorbar(means["images"], 100 * means["mean"], yerr=half, linestyle=line, **style)
    for ax in axes:
        ax.set(xscale="log", xlabel="training images")
        sizes = sorted(rows["images"].unique())
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
    error_scale(axes[0], 80, 98.5)
    axes[0].set_title("learning rates chosen on validation")
    axes[1].axhline(0, color="#555555", linewidth=1)
    axes[1].set(ylabel="test accuracy minus cross-entropy's, points", title="paired differences")
    note = seeds_note(tables).replace("band", "whisker")
    return finish(fig, [few, every], note, axes=axes[:1])
