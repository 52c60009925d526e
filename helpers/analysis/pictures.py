"""Images and maps as panels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from ..foundations.errors import UserError
from .look import Look
from .panels import Mark, Panel


def image(values: np.ndarray, label: str = "", form: str = "{:.3g} %", factor: float = 100) -> Panel:
    """A map [height, width] with a colour bar, dark for 0."""

    def draw(ax: Axes, look: Look) -> None:
        drawn = ax.imshow(factor * values, cmap="cividis", vmin=0)
        text = FuncFormatter(lambda value, _: form.format(value))
        ax.figure.colorbar(drawn, ax=ax, fraction=0.046, format=text, label=label)
        ax.grid(False)

    return Panel((Mark(draw),), {"x": "pixel column", "y": "pixel row"})


def tiles(
    images: Sequence[np.ndarray | None],
    captions: Sequence[Any],
    columns: int = 0,
    label: str = "",
    **style: Any,
) -> Panel:
    """Images [height, width] side by side, a caption under each; None is a hatched tile.

    `columns`: room for as many; `label` stands on the left.
    """
    if len(images) != len(captions):
        raise UserError(f"tiles: expected a caption an image, found {len(captions)} for {len(images)}")

    def draw(ax: Axes, look: Look) -> None:
        for i, pixels in enumerate(images):
            if pixels is None:
                tile = {"fill": False, "hatch": "//////", "edgecolor": "0.75", "linewidth": 0.5}
                ax.add_patch(Rectangle((i + 0.06, 0.06), 0.88, 0.88, **tile))
            else:
                extent = (i + 0.06, i + 0.94, 0.06, 0.94)
                ax.imshow(pixels, extent=extent, interpolation="nearest", **({"cmap": "gray_r"} | style))
        ax.set(xlim=(0, columns or len(images) or 1), ylim=(0, 1), yticks=[], aspect="equal")
        ax.set_xticks(np.arange(len(images)) + 0.5, captions)
        ax.tick_params(length=0, pad=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_ylabel(label, rotation=0, ha="right", va="center", multialignment="right")
        if not images:
            ax.text(0.1, 0.5, "none on record", va="center", color="0.35")

    return Panel((Mark(draw),), {"legend": False})
