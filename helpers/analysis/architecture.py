"""Networks as drawings, from the record that every log keeps of its network."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from ..utils import Results
from .look import Look
from .panels import Mark, Panel
from .scales import compact

COLOURS = {"input": "#999999", "conv2d": "#0072B2", "linear": "#D55E00"}
POOL_COLOUR = "#009E73"
SUFFIXES = {"batch_norm": "norm", "dropout": "drop"}
LABEL_HEIGHT, TOTALS_HEIGHT = -0.6, -1.25


def architecture(log: Results) -> Panel:
    """A log's network, input left, logits right; totals below.

    Heights grow with the root of pixels a side or of units (10 and 1000 fit one drawing), widths with the
    logarithm of channels. Flatten is left out; normalisation and dropout are named at the layer that they
    follow.
    """

    def draw(ax: Axes, look: Look) -> None:
        draw_network(ax, log.net)

    return Panel((Mark(draw),), {"legend": False})


def draw_network(ax: Axes, records: list[dict[str, Any]]) -> None:
    """Draws records of layers: `layer`, `type`, `output_shape` ((C, H, W) or (features,)), `params`, `macs`,
    and what there is of `kernel`, `stride` and `padding`.
    """
    boxes = _boxes(records)
    slot = max(0.62, *(box["width"] + box["depth"] + 0.14 for box in boxes))
    size = 8 if len(boxes) <= 6 else 7 if len(boxes) <= 9 else 5.2
    previous = None
    for index, box in enumerate(boxes):
        left = index * slot - (box["width"] + box["depth"]) / 2
        right, half = left + box["width"], box["height"] / 2
        if previous:
            start, start_half = previous
            fan = [(start, start_half), (left, half), (left, -half), (start, -start_half)]
            ax.add_patch(Polygon(fan, facecolor="0.9", edgecolor="none", zorder=0))
        _draw_box(ax, left, half, box)
        ax.text(index * slot, LABEL_HEIGHT, box["label"], ha="center", va="top", fontsize=size)
        previous = right, half
    params, macs = (sum(record[column] for record in records) for column in ("params", "macs"))
    totals = f"{compact(params)} parameters · {compact(macs)} multiply-accumulates"
    style = {"ha": "center", "va": "top", "color": "0.35", "fontsize": 8}
    ax.text((len(boxes) - 1) * slot / 2, TOTALS_HEIGHT, totals, **style)
    ax.set(xlim=(-0.6 * slot, (len(boxes) - 0.4) * slot), ylim=(TOTALS_HEIGHT - 0.2, 0.75))
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
    name = f"conv{stride}" if kind == "conv2d" else "pool" if kind.endswith("pool") else kind
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
