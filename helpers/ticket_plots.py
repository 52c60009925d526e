"""Figures of lottery tickets: accuracy, early stopping, learning curves, and a look inside."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .comparison import interval
from .plots import finish, mean_interval, seeds_note, styled
from .recovery_plots import arm_style, error_scale
from .tickets import at_level, digit_errors, keep_share_by_weight, nearest_level, overlaps, rewinds, trainings

LEVELS = (1, 0.512, 0.211, 0.07, 0.036, 0.019)
"""Shares kept that curves and axes show: those that Frankle and Carbin name, and our last."""

PAIR_STYLES = {
    "longer, same seed": ("#D55E00", "*", "trained longer, same seed"),
    "late_rewind, same seed": ("#009E73", "v", "rewound late, same seed"),
    "oneshot_ticket, same seed": ("#56B4E9", "D", "pruned at once, same seed"),
    "other seeds": ("#0072B2", "o", "another seed's ticket"),
}
"""Colour, marker and name of the masks that a ticket's is compared with."""


@styled
def ticket_figure(log: Any, convolutional: Any) -> Figure:
    """Accuracy at early stop and early-stop step over weights kept, of an MLP (above) and a CNN (below).

    Beside them, the MLP's accuracy at the end of training, also over all the training that it took.
    """
    fig, axes = plt.subplots(2, 3, figsize=(12.2, 7.8))
    tables = []
    for row, (found, name, low) in enumerate(((log, "LeNet-300-100", 94), (convolutional, "LeNet-5", 97.5))):
        table = trainings(found)
        tables.append(level_lines(axes[row, 0], table, "early_accuracy"))
        error_scale(axes[row, 0], low, 98.7 if row == 0 else 99.4)
        axes[row, 0].set_title(f"{name}: test accuracy at early stop")
        level_lines(axes[row, 1], table, "early_step")
        end_line(axes[row, 1], found)
        axes[row, 1].set(title=f"{name}: early-stop step", ylabel="step of least validation loss")
    table = trainings(log)
    level_lines(axes[0, 2], table, "end_accuracy")
    error_scale(axes[0, 2], 94, 98.7)
    axes[0, 2].set_title("LeNet-300-100: test accuracy at the end")
    compute_panel(axes[1, 2], table)
    axes[1, 2].set_title(f"LeNet-300-100 {axes[1, 2].get_title()}", fontsize=9)
    return finish(fig, [log, convolutional], seeds_note(tables), axes=axes.flatten())


def end_line(ax: Axes, log: Any) -> None:
    """Where training ends: no early stop can come later, and one that is near may have been cut off."""
    runs = log.results.loc[log.results["arm"].eq("ticket"), "run"]
    last = log.curves.loc[log.curves["run"].isin(runs), "step"].max()
    ax.axhline(last, color="0.35", linewidth=1, linestyle=":")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "top"}
    ax.annotate("end of training", (0.02, last), (0, -3), color="0.35", fontsize=7.5, **place)


def level_lines(ax: Axes, table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Draws the mean of a quantity over weights kept, a line an arm, with its interval; returns the means."""
    means = mean_interval(table, ["arm", "kept"], quantity)
    factor = 100 if "accuracy" in quantity else 1
    dense = means[(means["arm"] == "ticket") & (means["kept"] == 1)].iloc[0]
    ax.axhline(factor * dense["mean"], color="0.35", linewidth=1)
    for arm in table["arm"].unique():
        drawn = means[(means["arm"] == arm) & (means["n"] > 0)].sort_values("kept")
        if drawn.empty:
            continue
        colour, marker, name = arm_style(arm)
        # A single seed has no interval, and says so by a thin line.
        width = 1.5 if drawn["n"].max() > 1 else 0.8
        label = name if drawn["n"].max() == means["n"].max() else f"{name} (n = {drawn['n'].max()})"
        draw_band(ax, drawn, "kept", quantity, color=colour, marker=marker, label=label, linewidth=width)
    kept_axis(ax, table.loc[table["arm"] == "ticket", "kept"])
    return means


def kept_axis(ax: Axes, kept: pd.Series) -> None:
    """Weights kept on a log axis, all of them on the left."""
    ax.set_xscale("log")
    ax.xaxis.set_inverted(True)
    ticks = nearest_levels(kept, LEVELS)
    ax.set_xticks(ticks, [f"{100 * tick:.3g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("weights kept (%)")


def nearest_levels(kept: pd.Series, wanted: tuple[float, ...]) -> list[float]:
    """The levels nearest (in ratio) to the wanted ones, each once, most kept first."""
    return sorted({nearest_level(kept.unique(), share) for share in wanted}, reverse=True)


COMPUTE_LEVELS = (0.211, "full"), (0.036, "none")


def compute_panel(ax: Axes, table: pd.DataFrame) -> None:
    """Draws accuracy at the end over all training so far, at two levels: filled and hollow."""
    dense = at_level(table, "ticket", 1)
    unit = dense["train_flops"].mean()
    ax.axhline(100 * dense["end_accuracy"].mean(), color="0.35", linewidth=1)
    shown = []
    for arm in (arm for arm in table["arm"].unique() if not arm.endswith("longer")):
        colour, marker, _ = arm_style(arm)
        for kept, fill in COMPUTE_LEVELS:
            rows = at_level(table, arm, kept)
            mean, low, high, _ = interval(rows["end_accuracy"])
            # A random mask needs nobody to have trained before, only the counts.
            flops = unit if arm == "shuffle" else rows["train_flops"].mean()
            style = {"color": colour, "fillstyle": fill, "linestyle": "none", "markersize": 6}
            ax.plot(flops / unit, 100 * mean, marker, **style)
            ax.vlines(flops / unit, 100 * low, 100 * high, color=colour, linewidth=1)
            shown.append(f"{100 * rows['kept'].iloc[0]:.3g}")
    ax.set(xscale="log", xlabel="all training so far (dense training = 1)")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"at the end; filled: {shown[0]} %, hollow: {shown[1]} % kept", fontsize=9)
    error_scale(ax, 94, 98.7)


@styled
def ticket_curves(log: Any, arms: tuple[str, ...] = ("ticket", "reinit")) -> Figure:
    """Test accuracy and validation loss over the steps at a few levels: a column an arm, dense in grey."""
    table = trainings(log)
    fig, axes = plt.subplots(2, len(arms), figsize=(1 + 4.4 * len(arms), 6.8), sharex=True, sharey="row")
    tables = []
    for column, arm in enumerate(arms):
        levels = nearest_levels(table.loc[table["arm"] == arm, "kept"], LEVELS[1:])
        shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(levels)))
        for kept, colour in zip((1.0, *levels), ("0.35", *shades), strict=True):
            rows = at_level(table, "ticket" if kept == 1 else arm, kept)
            curves = rows.reset_index()[["run", "stage", "status"]].merge(log.curves, on=["run", "stage"])
            label = "dense" if kept == 1 else f"{100 * kept:.3g} % kept"
            for ax, quantity in zip(axes[:, column], ("test_accuracy", "val_loss"), strict=True):
                means = mean_interval(curves, "step", quantity)
                draw_band(ax, means, "step", quantity, color=colour, label=label, linewidth=1.1)
                tables.append(means)
            step = rows["early_step"].mean()
            axes[1, column].plot(step, np.interp(step, means["step"], means["mean"]), "o", color=colour)
        axes[0, column].set_title(arm_style(arm)[2])
        error_scale(axes[0, column], 90, 98.7)
        axes[1, column].set(yscale="log", ylabel="validation loss", xlabel="step", ylim=(0.06, 0.5))
        axes[1, column].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes[1, column].yaxis.set_minor_locator(NullLocator())
        axes[1, column].set_yticks([0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5])
        for row in range(2):
            axes[row, column].tick_params(labelleft=True)
    note = seeds_note(tables) + " Dots: mean early-stop step."
    return finish(fig, [log], note, axes=axes[0])


def draw_band(ax: Axes, means: pd.DataFrame, x: str, quantity: str, **style: Any) -> None:
    """A line of means with its interval as a band, accuracies in percent. The means decide the view."""
    values = (100 if "accuracy" in quantity else 1) * means[["mean", "low", "high"]]
    ax.plot(means[x], values["mean"], **style)
    in_view = ax.dataLim.frozen()
    ax.fill_between(means[x], values["low"], values["high"], color=style["color"], alpha=0.13, linewidth=0)
    ax.dataLim.set(in_view)


@styled
def ticket_insides(log: Any) -> Figure:
    """Inside the tickets: pixels, layers, overlap, initial weights, signs, digits, and accuracy untrained."""
    fig, axes = plt.subplots(3, 3, figsize=(12.2, 10.6))
    table = trainings(log)
    rows = rewinds(log)
    for ax, level in zip(axes[0], (LEVELS[1], LEVELS[3], LEVELS[5]), strict=True):
        pixel_panel(fig, ax, log, rows, level)
    layer_panel(axes[1, 0], log, rows, "keep_by_layer", "share (%)")
    layer_panel(axes[1, 0], log, rows, "alive_by_layer", "share (%)", "--", ", units alive")
    axes[1, 0].set(yscale="log", title="what each layer keeps: weights, and units alive")
    axes[1, 0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    overlap_panel(axes[1, 1], log)
    weight_panel(axes[1, 2], log, rows)
    layer_panel(axes[2, 0], log, rows, "same_sign_by_layer", "kept weights that keep their sign (%)")
    axes[2, 0].set(title="sign before training and after")
    axes[2, 0].axhline(50, color="0.35", linewidth=1)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes[2, 0].annotate("chance", (0.98, 50), (0, 3), color="0.35", fontsize=7.5, **place)
    digit_panel(axes[2, 1], log, table)
    untrained_panel(axes[2, 2], log)
    means = mean_interval(table[table["arm"] == "ticket"], "kept", "end_accuracy")
    note = seeds_note([means]).replace("band:", "band and whisker:")
    return finish(fig, [log], f"{note} Masks are those of the rewound networks.")


def pixel_panel(fig: Figure, ax: Axes, log: Any, rows: pd.DataFrame, level: float) -> None:
    """Draws the share of its first-layer weights that each pixel keeps, mean over the seeds' tickets."""
    kept = nearest_level(rows["kept"], level)
    maps = [log.arrays[result]["input_map"] for result in rows.loc[rows["kept"] == kept, "result"]]
    image = ax.imshow(np.mean(maps, 0).mean(0), cmap="cividis", vmin=0)
    percent = FuncFormatter(lambda share, _: f"{100 * share:.3g} %")
    fig.colorbar(image, ax=ax, fraction=0.046, format=percent, label="first-layer weights kept")
    ax.set(xlabel="pixel column", ylabel="pixel row", title=f"pixels, {100 * kept:.3g} % of all weights kept")
    ax.grid(False)


LAYER_STYLES = ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v")


def layer_panel(
    ax: Axes, log: Any, rows: pd.DataFrame, name: str, label: str, line: str = "-", suffix: str = ""
) -> None:
    """Draws a share by layer over the weights kept, mean and interval over seeds; of units, those alive."""
    units = {layer["layer"]: layer["output_shape"][0] for layer in log.net}
    names = [word.decode() for word in log.arrays[rows["result"].iloc[0]]["layer_names"]]
    for place, (layer, (colour, marker)) in enumerate(zip(names, LAYER_STYLES, strict=False)):
        whole = units[layer] if name == "alive_by_layer" else 1
        values = [100 * log.arrays[result][name][place] / whole for result in rows["result"]]
        means = mean_interval(rows.assign(value=values), "kept", "value")
        draw_band(ax, means, "kept", name, linestyle=line, marker=marker, color=colour, label=layer + suffix)
    kept_axis(ax, rows["kept"])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.set_ylabel(label)
    ax.legend()


def overlap_panel(ax: Axes, log: Any) -> None:
    """Draws how much of a ticket's first-layer mask others share, beside two kinds of chance."""
    found = overlaps(log)
    for pair, (colour, marker, name) in PAIR_STYLES.items():
        means = mean_interval(found[found["pair"] == pair], "kept", "jaccard")
        if len(means):
            # Pairs of seeds are not independent: their mean goes without a band.
            means = means.assign(low=np.nan, high=np.nan) if pair == "other seeds" else means
            draw_band(ax, means, "kept", "jaccard", marker=marker, color=colour, label=name)
    others = found[found["pair"] == "other seeds"].groupby("kept")[["chance_by_pixel", "chance"]].mean()
    ax.plot(
        others.index, others["chance_by_pixel"], "--", color="0.35", label="chance, same pixels preferred"
    )
    ax.plot(others.index, others["chance"], ":", color="0.35", label="chance")
    kept_axis(ax, found["kept"])
    ax.set(
        ylim=(0, 1.4 * ax.get_ylim()[1]),
        ylabel="Jaccard index",
        title="first-layer masks: overlap with the ticket's",
    )
    ax.legend(fontsize=7)


def weight_panel(ax: Axes, log: Any, rows: pd.DataFrame) -> None:
    """Draws which initial weights of the first layer become part of the ticket."""
    levels = nearest_levels(rows["kept"], LEVELS[1:5])
    for kept, colour in zip(levels, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(levels))), strict=True):
        shares = keep_share_by_weight(log, 0, kept)
        shares[["mean", "low", "high"]] *= 100
        draw_band(ax, shares, "weight", "share", color=colour, label=f"{100 * kept:.3g} % kept")
    ax.set(xlabel="initial weight, first layer", ylabel="in the ticket (%)", ylim=(0, 102))
    ax.set_title("which initial weights win")
    ax.legend(loc="upper center")


def digit_panel(ax: Axes, log: Any, table: pd.DataFrame) -> None:
    """Draws each digit's error, dense and in sparse tickets, at the end of training."""
    levels = nearest_levels(table.loc[table["arm"] == "ticket", "kept"], (1, *LEVELS[3:]))
    colours = ("0.35", *plt.get_cmap("viridis")(np.linspace(0.3, 0.9, len(levels) - 1)))
    for place, (kept, colour) in enumerate(zip(levels, colours, strict=True)):
        errors = 100 * digit_errors(log, table, "ticket", kept)
        found = np.array([interval(values)[:3] for values in errors.T])
        half = np.nan_to_num(found[:, 2] - found[:, 0])
        x = np.arange(len(found)) + 0.2 * (place - (len(levels) - 1) / 2)
        label = "dense" if kept == 1 else f"{100 * kept:.3g} % kept"
        ax.bar(
            x,
            found[:, 0],
            0.2,
            yerr=half,
            color=colour,
            label=label,
            ecolor="0.2",
            error_kw={"elinewidth": 0.7},
        )
    ax.set_xticks(range(10))
    ax.set(
        xlabel="digit",
        ylabel="test images wrong (%)",
        title="which digits a sparse ticket loses",
        ylim=(0, 1.3 * ax.get_ylim()[1]),
    )
    ax.legend()


def untrained_panel(ax: Axes, log: Any) -> None:
    """Draws the accuracy of the masked initial weights, before any training of theirs."""
    masked = log.results["type"].eq("rewind") | log.results["stage_name"].eq("shuffle")
    masked |= log.results["arm"].eq("untrained_mask") & log.results["type"].eq("prune")
    rows = log.results[masked].drop_duplicates("result").assign(kept=lambda found: 1 - found["sparsity_all"])
    for arm in ("ticket", "oneshot_ticket", "untrained_mask", "reinit", "shuffle"):
        colour, marker, name = arm_style(arm)
        means = mean_interval(rows[rows["arm"] == arm], "kept", "test_accuracy")
        if len(means):
            draw_band(ax, means, "kept", "test_accuracy", marker=marker, color=colour, label=name)
    kept_axis(ax, rows.loc[rows["arm"] == "ticket", "kept"])
    ax.set(ylim=(0, 100), ylabel="test accuracy (%)", title="the mask alone: initial weights, untrained")
    ax.legend(fontsize=7)
