"""Figures of recovery: what repair, retraining and their controls bring back, and at which cost."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .comparison import arm_table
from .plots import KINDS, compact_number, dense_rows, finish, mean_interval, seeds_note, styled

ARM_STYLES = {
    "oneshot": ("#999999", "x", "one-shot"),
    "bias": ("#CC79A7", "v", "bias refitted"),
    "rescale": ("#E69F00", "^", "scale and bias refitted"),
    "refit": ("#56B4E9", "s", "refit"),
    "iterative_refit": ("#0072B2", "o", "refit in 4 steps"),
    "finetune": ("#E69F00", "s", "fine-tuned"),
    "refit_finetune": ("#56B4E9", "P", "refit, then fine-tuned"),
    "iterative": ("#CC79A7", "D", "iterative"),
    "gradual": ("#D55E00", "o", "gradual"),
    "random_finetune": ("#555555", "+", "random, fine-tuned"),
    "small_dense": ("#009E73", "^", "small dense, from scratch"),
    "small_dense_long": ("#009E73", "v", "small dense, trained longer"),
    "dense_long": ("#000000", "*", "dense, trained longer"),
    "filters_refit": ("#56B4E9", "s", "filters and units, refit"),
    "filters_finetune": ("#E69F00", "s", "filters and units, fine-tuned"),
    "filters_refit_finetune": ("#56B4E9", "P", "filters and units, refit, then fine-tuned"),
    "filters_random": ("#555555", "+", "random filters and units, fine-tuned"),
    "filters_small_dense": ("#009E73", "^", "small dense, from scratch"),
    "ticket": ("#0072B2", "o", "ticket"),
    "reinit": ("#000000", "s", "its mask, fresh weights"),
    "reinit_longer": ("#000000", "*", "fresh weights, trained longer"),
    "shuffle": ("#E69F00", "^", "random mask, initial weights"),
    "untrained_mask": ("#CC79A7", "P", "largest initial weights"),
    "oneshot_ticket": ("#56B4E9", "D", "ticket, pruned at once"),
    "late_rewind": ("#009E73", "v", "ticket, rewound late"),
    "longer": ("#0072B2", "*", "ticket, trained longer"),
}
"""An arm's colour (Okabe–Ito), marker, and name in legends."""

OTHER_STYLES = (("#F0E442", "h"), ("#0072B2", "p"), ("#D55E00", "8"), ("#009E73", ">"), ("#CC79A7", "<"))


def arm_style(arm: str) -> tuple[str, str, str]:
    """Colour, marker and name of an arm; one of your own gets some, and keeps its name."""
    return ARM_STYLES.get(arm) or (*OTHER_STYLES[sum(arm.encode()) % len(OTHER_STYLES)], arm)


UNTRAINED = ("oneshot", "bias", "rescale", "refit", "iterative_refit")
"""Arms without a gradient step after the dense training."""

ACCURACY_TICKS = (10, 30, 50, 70, 80, 90, 95, 97, 98, 98.5, 99, 99.3, 99.5)


def error_scale(ax: Axes, low: float, high: float, axis: str = "y") -> None:
    """Accuracy in percent on the log scale of its error, so that collapse and the last tenth both show."""

    def forward(accuracy: Any) -> np.ndarray:
        return -np.log10(np.clip(100 - np.asarray(accuracy, float), 1e-3, None))

    def backward(place: Any) -> np.ndarray:
        return 100 - 10 ** -np.asarray(place, float)

    (ax.set_yscale if axis == "y" else ax.set_xscale)("function", functions=(forward, backward))
    ax.set(**{f"{axis}lim": (low, high), f"{axis}label": "test accuracy (%), log scale of the error"})
    scale = getattr(ax, f"{axis}axis")
    scale.set_major_locator(FixedLocator([tick for tick in ACCURACY_TICKS if low <= tick <= high]))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_locator(NullLocator())


def draw_dense(ax: Axes, log: Any, axis: str = "y") -> None:
    """The dense base network: a line, and a band for its interval."""
    dense = mean_interval(dense_rows(log).assign(base=""), "base", "test_accuracy").iloc[0]
    line, span = (ax.axhline, ax.axhspan) if axis == "y" else (ax.axvline, ax.axvspan)
    line(100 * dense["mean"], color="0.35", linewidth=1)
    if dense["n"] > 1:
        span(100 * dense["low"], 100 * dense["high"], color="0.35", alpha=0.2, linewidth=0)
    if axis == "x":
        return
    text = f"dense {100 * dense['mean']:.2f} %"
    place = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "ha": "right",
        "va": "bottom",
    }
    ax.annotate(text, (0.99, 100 * dense["mean"]), (0, 2), color="0.35", fontsize=7.5, **place)


def draw_arms(
    ax: Axes, table: pd.DataFrame, arms: Iterable[str], x: str, line: str = "-", suffix: str = ""
) -> None:
    """Mean accuracy of each arm over a column, with its interval as a band."""
    for arm in arms:
        drawn = table[(table["arm"] == arm) & (table["n"] > 0)].sort_values(x)
        if drawn.empty:
            continue
        colour, marker, name = arm_style(arm)
        ax.plot(drawn[x], 100 * drawn["mean"], line, marker=marker, color=colour, label=name + suffix)
        ax.fill_between(
            drawn[x], 100 * drawn["low"], 100 * drawn["high"], color=colour, alpha=0.15, linewidth=0
        )


def share_axis(ax: Axes, kept: Sequence[float], label: str) -> None:
    """What is left on a log axis, labelled with what is pruned."""
    ax.set_xscale("log")
    ax.xaxis.set_inverted(True)
    ticks = sorted(set(np.round(kept, 6)))
    ax.set_xticks(ticks, [f"{100 * (1 - tick):g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


@styled
def recovery_curves(log: Any) -> Figure:
    """Accuracy over what is pruned: weights and units, without a gradient step above and retrained below."""
    table = arm_table(log)
    table["left"] = 1 - table["target"]
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 7.4), sharey="row")
    retrained = [arm for arm in table["arm"].unique() if arm not in UNTRAINED]
    for column, kind in enumerate(("weight", "unit")):
        of_kind = table[table["kind"] == kind]
        for row, arms in enumerate((UNTRAINED, retrained)):
            ax = axes[row, column]
            draw_dense(ax, log)
            draw_arms(ax, of_kind, arms, "left")
            error_scale(ax, *((8, 99.3) if row == 0 else (70, 99.3)))
            share_axis(ax, of_kind["left"].dropna(), f"{kind}s pruned (%)")
            ax.tick_params(labelleft=True)
            ax.set_title(
                f"{kind}s, {'no gradient step after pruning' if row == 0 else 'retrained (above 70 %)'}"
            )
    longer = table[table["arm"] == "dense_long"]
    if len(longer):
        colour, marker, name = arm_style("dense_long")
        for ax in axes[1]:
            ax.plot(
                table["left"].max(), 100 * longer["mean"], marker, color=colour, label=name, linestyle="none"
            )
    return finish(fig, [log], seeds_note([table]), axes=axes.flatten())


LINE_COLOURS = {"iterative_refit": "#CC79A7", "gradual": "#000000"}
"""Where an arm has to stand out among the colours of weights and units."""


def recovery_lines(ax: Axes, log: Any) -> None:
    """Draws what repair and retraining reach, over the share left, onto a panel of one-shot curves."""
    table = arm_table(log)
    for arm, colour in LINE_COLOURS.items():
        for kind, line in (("weight", "-"), ("unit", "--")):
            drawn = table[(table["kind"] == kind) & (table["arm"] == arm)].sort_values("target")
            style = {"color": colour, "marker": KINDS[kind][1], "label": f"{kind}, {arm_style(arm)[2]}"}
            ax.plot(1 - drawn["target"], 100 * drawn["mean"], line, **style)


@styled
def compute_curves(log: Any, untrained: str = "iterative_refit", retrained: str = "gradual") -> Figure:
    """Accuracy over effective parameters, MACs and total training compute, weights against units."""
    table = arm_table(log)
    fig, axes = plt.subplots(1, 3, figsize=(11.4, 4.4))
    for ax, column, label in zip(
        axes, ("params", "macs"), ("effective parameters left", "effective MACs left"), strict=False
    ):
        draw_dense(ax, log)
        for kind, line in (("weight", "-"), ("unit", "--")):
            draw_arms(ax, table[table["kind"] == kind], (untrained, retrained), column, line, f", {kind}s")
        draw_arms(ax, table, ("small_dense_long",), column, ":")
        ax.set(xscale="log", xlabel=label, title=f"at equal {'parameters' if column == 'params' else 'MACs'}")
        ax.xaxis.set_inverted(True)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact_number(x)))
        error_scale(ax, 50, 99.3)
    ax = axes[2]
    draw_dense(ax, log)
    dense = dense_rows(log)["train_flops"].mean()
    titles = []
    for kind, wanted, fill in (("weight", 0.99, "full"), ("unit", 0.95, "none")):
        of_kind = table[table["kind"] == kind]
        target = min(of_kind["target"].unique(), key=lambda share: abs(share - wanted))
        titles.append(f"{'filled' if fill == 'full' else 'hollow'}: {100 * target:g} % of {kind}s")
        for arm, row in of_kind[np.isclose(of_kind["target"], target)].set_index("arm").iterrows():
            colour, marker, name = arm_style(arm)
            style = {"color": colour, "fillstyle": fill, "linestyle": "none", "markersize": 6}
            # A network that begins anew, small and dense, needs no large one before it.
            x = row["train_flops"] / dense - (row["rewound"] == "fresh")
            if row["mean"] > 0.85:
                ax.plot(x, 100 * row["mean"], marker, label=name, **style)
    ax.set_xlabel("compute so far (dense training = 1)")
    ax.set_title(f"{', '.join(titles)} (above 85 %)", fontsize=8.5)
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    ax.legend(handles.values(), handles.keys(), loc="lower left", fontsize=6.5)
    error_scale(ax, 85, 99.3)
    return finish(fig, [log], seeds_note([table]), axes=axes[:2])


@styled
def lenet_recovery(logs: dict[str, Any], published: pd.DataFrame) -> Figure:
    """Test error over the share of all weights pruned, beside published points; a column a log.

    Below, what each layer keeps in the gradual arm. `published`: columns log (its key), label,
    granularity, sparsity_percent, error_percent.
    """
    fig, axes = plt.subplots(2, len(logs), figsize=(1 + 4.6 * len(logs), 7.2), squeeze=False)
    tables = []
    for column, (title, log) in enumerate(logs.items()):
        table = arm_table(log)
        of_weights = table[table["kind"].isin(["weight", ""])]
        points = published[(published["log"] == title) & (published["granularity"] == "weight")]
        tables.append(error_panel(axes[0, column], log, of_weights, points))
        axes[0, column].set_title(title)
        keep_panel(axes[1, column], log)
    return finish(fig, logs.values(), seeds_note(tables), axes=axes[0])


def error_panel(ax: Axes, log: Any, table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Draws the error of every arm over the realised sparsity of all weights; returns what it drew."""
    table = table[table["sparsity_all"] > 0].assign(left=lambda t: 1 - t["sparsity_all"])
    dense = mean_interval(dense_rows(log).assign(base=""), "base", "test_accuracy").iloc[0]
    ax.axhline(100 - 100 * dense["mean"], color="0.35", linewidth=1, label="dense")
    if dense["n"] > 1:
        ax.axhspan(100 - 100 * dense["low"], 100 - 100 * dense["high"], color="0.35", alpha=0.2, linewidth=0)
    for arm in table["arm"].unique():
        drawn = table[table["arm"] == arm].sort_values("left")
        colour, marker, name = arm_style(arm)
        error = 100 - 100 * drawn[["mean", "low", "high"]]
        ax.plot(drawn["left"], error["mean"], marker=marker, color=colour, label=name)
        ax.fill_between(drawn["left"], error["low"], error["high"], color=colour, alpha=0.15, linewidth=0)
    for label, points in published.groupby("label"):
        left = 1 - points["sparsity_percent"] / 100
        ax.plot(left, points["error_percent"], "o", color="0.2", fillstyle="none", linestyle="none")
        for x, y in zip(left, points["error_percent"], strict=True):
            ax.annotate(label, (x, y), (4, 4), textcoords="offset points", fontsize=6, color="0.2")
    share_axis(ax, [0.1, 0.05, 0.02, 0.01], "all weights pruned (%)")
    ax.set(yscale="log", ylabel="test error (%)")
    ax.set_ylim(0.5, 20)
    ax.yaxis.set_major_locator(FixedLocator([0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    return table


def keep_panel(ax: Axes, log: Any, arm: str = "gradual") -> None:
    """Draws the share of weights that each layer keeps, a group a layer and a bar a sparsity."""
    rows = log.final()
    rows = rows[(rows["arm"] == arm) & (rows["status"] == "ok")]
    targets = sorted(rows["target"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0.2, 0.8, len(targets)))
    for place, target in enumerate(targets):
        results = rows.loc[rows["target"] == target, "result"]
        kept = 100 * np.stack([log.arrays[result]["keep_by_layer"] for result in results])
        names = [name.decode() for name in log.arrays[results.iloc[0]]["layer_names"]]
        x = np.arange(len(names)) + 0.8 * (place - (len(targets) - 1) / 2) / len(targets)
        low, high = kept.mean(0) - kept.min(0), kept.max(0) - kept.mean(0)
        label = f"{100 * target:g} % pruned"
        ax.bar(
            x,
            kept.mean(0),
            0.8 / len(targets),
            yerr=[low, high],
            color=shades[place],
            label=label,
            ecolor="0.3",
        )
        for at, value in zip(x, kept.mean(0), strict=True):
            ax.annotate(
                f"{value:.2g}", (at, value), (0, 3), textcoords="offset points", fontsize=6, ha="center"
            )
    ax.set_xticks(range(len(names)), names)
    ax.set(
        yscale="log",
        ylabel="weights kept (%); whiskers: range over seeds",
        title=f"what each layer keeps ({arm_style(arm)[2]})",
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.legend(loc="upper center", ncols=len(targets))
    ax.margins(y=0.25)


CRITERIA_STYLES = {"prune": ("one-shot", "x", "#999999"), "refit": ("after refit", "o", "#0072B2")}
"""Legend, marker and colour by stage."""


@styled
def criteria_dots(log: Any) -> Figure:
    """Accuracy by criterion, one-shot and after refit: a row a kind, a column a sparsity."""
    targets = sorted(log.results["target"].dropna().unique())
    arms = list(dict.fromkeys(log.results["arm"]))
    fig, axes = plt.subplots(len(arms), len(targets), figsize=(1.6 + 2.9 * len(targets), 5.8), squeeze=False)
    tables = []
    for row, arm in enumerate(arms):
        found = log.results[log.results["arm"].eq(arm) & log.results["type"].isin(CRITERIA_STYLES)]
        order = (
            found[found["type"] == "refit"].groupby("criterion")["test_accuracy"].mean().sort_values().index
        )
        for column, target in enumerate(targets):
            ax = axes[row, column]
            draw_dense(ax, log, axis="x")
            for kind, (label, marker, colour) in CRITERIA_STYLES.items():
                chosen = found[(found["type"] == kind) & np.isclose(found["target"], target)]
                table = mean_interval(chosen, "criterion", "test_accuracy").set_index("criterion")
                table = 100 * table.reindex(order)[["mean", "low", "high"]]
                tables.append(mean_interval(chosen, "criterion", "test_accuracy"))
                half = ((table["high"] - table["low"]) / 2).fillna(0)
                style = {"fmt": marker, "color": colour, "label": label, "elinewidth": 1}
                ax.errorbar(table["mean"], np.arange(len(order)), xerr=half, **style)
            ax.set_yticks(range(len(order)), order)
            ax.set_title(f"{100 * target:g} % of {arm}s")
            error_scale(ax, 0, 99.2, axis="x")
            ax.xaxis.set_major_locator(FixedLocator([10, 70, 90, 95, 97, 98, 98.7]))
    note = seeds_note(tables).replace("line: mean; band:", "marker: mean; whisker:")
    return finish(fig, [log], note, axes=axes.flatten())
