"""Networks as drawings, from the records that every log keeps; and the one-page summary."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from .contrast_plots import contrast_summary
from .distill_plots import rate_panel
from .hinton_plots import errors_panel
from .plots import compact_number, finish, learning_panel, prune_panel, seeds_note, styled
from .recovery_plots import error_scale, recovery_lines
from .ticket_plots import compute_panel, end_line, level_lines
from .tickets import trainings

COLOURS = {"input": "#999999", "conv2d": "#0072B2", "linear": "#D55E00"}
POOL_COLOUR = "#009E73"
SUFFIXES = {"batch_norm": "norm", "dropout": "drop"}
LABEL_HEIGHT, TOTALS_HEIGHT = -0.6, -1.25


def architecture(ax: Axes, net_records: list[dict], title: str) -> None:
    """Draws a network, input left, logits right; totals below.

    A record has `layer`, `type`, `output_shape` ((C, H, W) or (features,)), `params`, `macs`, and may
    have `kernel`, `stride` and `padding`. Heights grow with the root of pixels a side or of units
    (10 and 1000 fit one drawing), widths with the logarithm of channels. Flatten is left out;
    normalisation and dropout are named at the layer that they follow.
    """
    boxes = _boxes(net_records)
    slot = max(0.62, *(box["width"] + box["depth"] + 0.14 for box in boxes))
    fontsize = 8 if len(boxes) <= 6 else 7 if len(boxes) <= 9 else 5.2
    previous = None
    for index, box in enumerate(boxes):
        left = index * slot - (box["width"] + box["depth"]) / 2
        right, half = left + box["width"], box["height"] / 2
        if previous:
            start, start_half = previous
            fan = [(start, start_half), (left, half), (left, -half), (start, -start_half)]
            ax.add_patch(Polygon(fan, facecolor="0.9", edgecolor="none", zorder=0))
        _draw_box(ax, left, half, box)
        ax.text(index * slot, LABEL_HEIGHT, box["label"], ha="center", va="top", fontsize=fontsize)
        previous = right, half
    params, macs = (sum(record[column] for record in net_records) for column in ("params", "macs"))
    totals = f"{compact_number(params)} parameters · {compact_number(macs)} multiply-accumulates"
    style = {"ha": "center", "va": "top", "color": "0.35", "fontsize": 8}
    ax.text((len(boxes) - 1) * slot / 2, TOTALS_HEIGHT, totals, **style)
    ax.set(xlim=(-0.6 * slot, (len(boxes) - 0.4) * slot), ylim=(TOTALS_HEIGHT - 0.2, 0.75), title=title)
    ax.set_axis_off()


def _boxes(net_records: list[dict]) -> list[dict]:
    """What is drawn of each record: colour, height, width, depth (data units) and label."""
    units = [record["output_shape"][0] for record in net_records if len(record["output_shape"]) == 1]
    pixels = [record["output_shape"][-1] for record in net_records if len(record["output_shape"]) == 3]
    boxes = []
    for record in net_records:
        kind, shape = record["type"], record["output_shape"]
        if kind in SUFFIXES and boxes:
            boxes[-1]["label"] += f"\n+{SUFFIXES[kind]}"
            continue
        if kind == "flatten":
            continue
        is_image = len(shape) == 3
        height = math.sqrt(shape[-1] / max(pixels if is_image else units))
        width = 0.035 * math.log2(2 * shape[0]) + 0.02 if is_image else 0.1
        depth = 0.22 * height if is_image else 0.05
        colour = COLOURS.get(kind, POOL_COLOUR)
        box = {"height": height, "width": width, "depth": depth, "colour": colour}
        boxes.append(box | {"label": _label(record)})
    return boxes


def _label(record: dict) -> str:
    """Up to three short lines: what it is, how many of them, how many pixels come out."""
    kind, shape = record["type"], record["output_shape"]
    if kind == "linear":
        return f"linear\n{shape[0]}"
    stride = f"/{record['stride']}" if (record.get("stride") or 1) > 1 else ""
    name = {"conv2d": f"conv{stride}", "input": "input"}.get(kind, "pool")
    if len(shape) == 1:
        return f"{name}\n{shape[0]}"
    height, width = shape[-2:]
    kernel = f"@{record['kernel']}" if record.get("kernel") else ""
    count = f"{shape[0]}{kernel}"
    is_counted = kind == "conv2d" or (kind == "input" and shape[0] > 1)
    return "\n".join([name, *([count] if is_counted else []), f"{height}×{width}"])


def _draw_box(ax: Axes, left: float, half: float, box: dict) -> None:
    """A cuboid: its front face, and lighter, its top and its right side."""
    right, depth, rise = left + box["width"], box["depth"], box["depth"] * 0.5
    front = [(left, -half), (right, -half), (right, half), (left, half)]
    top = [(left, half), (right, half), (right + depth, half + rise), (left + depth, half + rise)]
    side = [(right, -half), (right + depth, rise - half), (right + depth, half + rise), (right, half)]
    for face, alpha in ((front, 1.0), (top, 0.45), (side, 0.7)):
        ax.add_patch(Polygon(face, facecolor="white", edgecolor="none", zorder=2))
        style = {"facecolor": box["colour"], "alpha": alpha, "edgecolor": "white", "linewidth": 0.5}
        ax.add_patch(Polygon(face, zorder=2, **style))


@styled
def overview_viz(
    logs: dict[str, Any],
    recovered: dict[str, Any] | None = None,
    tickets: Any | None = None,
    distilled: dict[str, Any] | None = None,
) -> Figure:
    """The one-page summary: architecture, learning and pruning curves, a column a log; tickets, distillation.

    `recovered`: by the same key, a log of recovery, two of whose arms are drawn beside the one-shot curves.
    `distilled`: the logs "classic" and "rates", and "together", a dict of logs by network.
    """
    rows = {"networks": 0.8, "trained": 1, "pruned": 1.25}
    rows |= ({} if tickets is None else {"tickets": 1.25}) | (
        {} if distilled is None else {"distilled": 1.25}
    )
    heights = list(rows.values())
    ratios = {
        "height_ratios": heights,
        "width_ratios": [max(8, len(_boxes(log.net))) for log in logs.values()],
    }
    size = (11.69, 2.71 * sum(heights))
    fig, grid = plt.subplots(len(heights), len(logs), figsize=size, squeeze=False, gridspec_kw=ratios)
    axes = dict(zip(rows, grid, strict=True))
    tables = []
    for ax in axes["trained"][1:]:
        ax.sharey(axes["trained"][0])
    for place, (title, log) in enumerate(logs.items()):
        architecture(axes["networks"][place], log.net, title)
        learning_panel(axes["trained"][place], log, "error", f"{title}: trained")
        tables.append(prune_panel(axes["pruned"][place], log, f"{title}: pruned"))
        if recovered and title in recovered:
            recovery_lines(axes["pruned"][place], recovered[title])
            _lift_texts(axes["pruned"][place])
    shown = list(logs.values())
    if tickets is not None:
        _ticket_row(axes["tickets"], tickets)
        shown.append(tickets)
    if distilled is not None:
        _distilled_row(axes["distilled"], distilled)
        shown += [distilled["classic"], distilled["rates"], *distilled["together"].values()]
    tables.append(pd.DataFrame({"n": [log.results["seed"].nunique() for log in shown], "excluded": 0}))
    note = seeds_note(tables, has_dots=True).replace("band:", "band and whisker:")
    note += " Legend: the curves of pruned networks, third row."
    return finish(fig, shown, note, "Small networks: trained, pruned, distilled", axes["pruned"])


def _lift_texts(ax: Axes) -> None:
    """Labels above the lines that they stand below, where others now run."""
    ax.set_ylim(top=111)
    ax.set_yticks(range(0, 101, 20))
    for text in ax.texts:
        text.set(verticalalignment="bottom")
        text.xyann = (0, 4)


def _distilled_row(axes: Sequence[Axes], logs: dict[str, Any]) -> None:
    """Draws the classic, the range of learning rates, and the planned contrasts, on as many as there are."""
    panels = (
        lambda ax: errors_panel(ax, logs["classic"]),
        lambda ax: rate_panel(ax, logs["rates"], "test_accuracy"),
        lambda ax: contrast_summary(ax, logs["together"]),
    )
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, draw in zip(axes, panels, strict=False):
        draw(ax)
    axes[0].set_title("distillation: the classic, here and there")
    if len(axes) > 1:
        axes[1].set_title("distillation: one student, every learning rate")
        axes[1].legend(loc="lower left", fontsize=7)


def _ticket_row(axes: Sequence[Axes], log: Any) -> None:
    """Draws what tickets reach, how early, and what they cost, on as many of these axes as there are."""
    table = trainings(log)
    table = table[table["arm"].isin(("ticket", "reinit", "shuffle", "oneshot_ticket"))]
    for ax in axes[len(TICKET_PANELS) :]:
        ax.remove()
    for ax, (quantity, title) in zip(axes, TICKET_PANELS.items(), strict=False):
        if quantity == "compute":
            compute_panel(ax, table)
        else:
            level_lines(ax, table, quantity)
            ax.set_title(title)
        if quantity == "early_accuracy":
            error_scale(ax, 94, 98.7)
            ax.legend(loc="lower left", fontsize=7)
        elif quantity == "early_step":
            ax.set_ylabel("step of least validation loss")
            end_line(ax, log)


TICKET_PANELS = {
    "early_accuracy": "lottery tickets: accuracy at early stop",
    "early_step": "lottery tickets: early-stop step",
    "compute": "",
}
"""What the lowest row shows, and its titles."""
