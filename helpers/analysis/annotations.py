"""Words beside points, on the side where they cover least."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

SIDES = ((1, 1, 4), (1, -1, 4), (-1, 1, 4), (-1, -1, 4), (1, 1, 11), (1, -1, 11))
"""Right or left of the point, above or below it, and how many points (of 1/72 inch) away."""


def write_apart(ax: Axes, at: np.ndarray, words: Sequence[str]) -> None:
    """Writes a word beside each point [n, 2], on the side where it covers least of other words and points."""
    ax.autoscale_view()
    places = 72 / ax.figure.dpi * ax.transData.transform(at)
    ends = 72 / ax.figure.dpi * ax.transAxes.transform([(0, 0), (1, 1)])
    taken = [np.array([place - 3, place + 3]) for place in places]
    for index in np.argsort(places[:, 0], kind="stable"):
        place, word = places[index], words[index]
        size, found = np.array([3.5 * len(word), 7.0]), []
        for right, up, far in SIDES:
            low = place + np.array([right * 4, up * far]) - size * [right < 0, up < 0]
            box = np.array([low, low + size])
            sides = [np.minimum(box[1], other[1]) - np.maximum(box[0], other[0]) for other in taken]
            covered = sum(side.prod() for side in sides if (side > 0).all())
            outside = np.maximum(ends[0] - box[0], 0).sum() + np.maximum(box[1] - ends[1], 0).sum()
            found.append((covered + 10 * outside, len(found), (right * 4, up * far), box))
        _, _, offset, box = min(found, key=lambda entry: entry[:2])
        taken.append(box)
        sides = {"ha": "left" if offset[0] > 0 else "right", "va": "bottom" if offset[1] > 0 else "top"}
        halo = [withStroke(linewidth=2, foreground="white")]
        style = {"textcoords": "offset points", "fontsize": 6, "color": "0.2", "path_effects": halo}
        ax.annotate(word, at[index], offset, **sides, **style)
