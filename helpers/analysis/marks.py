"""What is drawn of results: lines with bands, dots with intervals, paired differences, bars.

Each function takes rows and gives a `Panel`; panels add up. Rows are raw, a row a seed: the marks take the
mean and the interval themselves (`statistics.summary`), so only seeds are pooled. Columns that are shares of
1, such as accuracies, are drawn in percent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import scales
from .look import Look, fitted, key_of
from .panels import Mark, Panel, left_out
from .references import rule, strip
from .selection import check_numbers, known
from .statistics import summary


def lines(
    rows: pd.DataFrame,
    x: str,
    y: str = "test_accuracy",
    hue: str | None = None,
    line: str | None = None,
    by: str | None = None,
    band: bool = True,
    whisker: bool = False,
    dodge: bool = False,
    dots: bool = False,
    label: str = "",
    ends: str = "",
    **style: Any,
) -> Panel:
    """The mean of `y` over `x`, a colour a value of `hue`, a kind of line a value of `line`.

    `dodge`: lines of several hues a little beside one another, so that no whisker hides another.
    `by`: the column whose values make the points, where `x` itself differs by seed (and is then their mean):
    lines(rows, "params", by="target"). `band` or `whisker` is the 95 % interval, `dots` the single seeds;
    `label` names a line where there is no `hue`, and stands behind its label where there is; `ends` is a
    format ("{:.2f} %") of the mean at the largest x, to stand behind it too; other words are matplotlib's
    (color, marker, linestyle, linewidth, fillstyle).
    """
    columns = list(dict.fromkeys(name for name in (hue, line, by or x) if name))
    for name in (*columns, x, y):
        known(name, rows.columns, "column")
    check_numbers(rows, x, y)
    across, up = scales.quantity(x), scales.measured(y)
    everything = summary(rows, columns, y)
    table = everything.assign(**({x: summary(rows, columns, x)["mean"]} if by else {}))
    table = table[(table["n"] > 0) & table[x].notna()]

    def draw(ax: Axes, look: Look) -> None:
        heads = [name for name in (hue, line) if name]
        groups = table.groupby(heads, dropna=False, sort=False) if heads else [((), table)]
        for step, (key, drawn) in enumerate(_in_order(groups, look, hue)):
            named = dict(zip(heads, key, strict=True))
            own = look.style(hue, named.get(hue)) | _line(look, line, named)
            if len(drawn) > 20:
                own["marker"] = ""
            elif len(drawn) == 1:
                own["marker"] = own["marker"] or "o"  # a line of one point would not show
            text = _words(look, named, label)
            n = drawn["n"].max()
            if n < table["n"].max():
                own["linewidth"], text = 0.8, f"{text} (n = {n})"
            places = scales.place(drawn[x], across, look.nothing_left)
            drawn = drawn.assign(place=places).sort_values("place")
            if dodge and step:
                is_log = across.scale != "linear" and (drawn["place"] > 0).all()
                beside = 0.01 * step * (table[x].max() - table[x].min())
                drawn["place"] = drawn["place"] * 1.035**step if is_log else drawn["place"] + beside
            values = up.factor * drawn[["mean", "low", "high"]]
            if ends:
                text += f", ends at {ends.format(values.loc[drawn[x].idxmax(), 'mean'])}"
            own |= style
            colour = own["color"]
            if dots:
                seeds = rows[rows["status"].eq("ok")] if "status" in rows else rows
                for name, value in named.items():
                    seeds = _of(seeds, name, value)
                at = scales.place(seeds[x], across, look.nothing_left)
                ax.plot(at, up.factor * seeds[y], ".", color=colour, markersize=2.5, alpha=0.55)
            if whisker:
                half = ((values["high"] - values["low"]) / 2).fillna(0)
                ax.errorbar(drawn["place"], values["mean"], yerr=half, elinewidth=1, label=text, **own)
                continue
            ax.plot(drawn["place"], values["mean"], label=text, **own)
            if band:
                # The means decide what is in view: an interval of two seeds reaches far beyond any error.
                in_view = ax.dataLim.frozen()
                ax.fill_between(
                    drawn["place"], values["low"], values["high"], color=colour, alpha=0.15, linewidth=0
                )
                ax.dataLim.set(in_view)

    words = ("line", *(["whisker"] if whisker else ["band"] if band else []), *(["dots"] if dots else []))
    settings = {"x": across.label, "y": up.label, "x_scale": across.scale, "y_scale": up.scale}
    coloured = tuple((name, tuple(table[name].drop_duplicates())) for name in (hue, line) if name)
    return Panel(
        (Mark(draw, everything, words, coloured, left_out=left_out(rows)),),
        settings,
        tuple(scales.place(table[x], across)),
        tuple(up.factor * table["mean"]),
    )


def _line(look: Look, line: str | None, named: dict[str, Any]) -> dict[str, Any]:
    """The kind of line of a second column's value."""
    return {"linestyle": look.line(line, named[line])} if line else {}


def _in_order(groups: Any, look: Look, hue: str | None) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Groups with their keys, in the order of the legend."""
    found = [(key if isinstance(key, tuple) else (key,), group) for key, group in groups]
    return sorted(found, key=lambda item: look.place_of(hue, item[0][0])) if hue else found


def _of(rows: pd.DataFrame, column: str | None, value: Any) -> pd.DataFrame:
    """The rows with a value of a column, or with its empty cells; all of them where there is no column."""
    if column is None:
        return rows
    return rows[rows[column].isna() if key_of(value) is None else rows[column].eq(value)]


def _hues(look: Look, hue: str | None, table: pd.DataFrame) -> list[Any]:
    """The values of a column that are drawn here, in the figure's order; None alone where there is none."""
    if hue is None:
        return [None]
    return sorted({key_of(value) for value in table[hue]}, key=lambda value: look.place_of(hue, value))


def _words(look: Look, named: dict[str, Any], label: str = "") -> str:
    """What the legend calls values of columns, and a label behind them; an empty cell says of what."""
    texts = [text for name, value in named.items() if (text := look.label(name, value))]
    if not texts and not label:
        texts = [f"no {name.removeprefix('sweep.')}" for name in named]
    return ", ".join([*texts, *([label] if label else [])])


def _rank(values: pd.Series, names: Sequence[Any]) -> np.ndarray:
    """The places of values among names; empty cells are one name."""
    places = {key_of(name): place for place, name in enumerate(names)}
    return np.array([places[key_of(value)] for value in values], float)


def dots(
    rows: pd.DataFrame,
    value: str,
    category: str,
    hue: str | None = None,
    seeds: bool = True,
    numbers: str = "",
    order: Sequence[Any] | None = None,
    label: str = "",
    reach: float | None = None,
    shift: float = 0,
    **style: Any,
) -> Panel:
    """Means with whiskers, from left to right, a row a value of `category`, from the top as they appear.

    Values of `hue` stand below one another. `seeds`: small dots; `numbers`: a format for the mean beside
    each; `order`: the categories from the top, where another is wanted. `reach`: what is shown to either
    side of 0; a mean beyond it stands at the edge with its value. `shift`: by how much of a row all stand
    lower.
    """
    columns = [category, *([hue] if hue else [])]
    for name in (*columns, value):
        known(name, rows.columns, "column")
    check_numbers(rows, value)
    along = scales.measured(value)
    names = list(rows[category].drop_duplicates()) if order is None else list(order)
    rows = rows[rows[category].isin(names)]
    everything = summary(rows, columns, value)
    table = everything[everything["n"] > 0]
    edge = np.inf if reach is None else reach

    def draw(ax: Axes, look: Look) -> None:
        hues = _hues(look, hue, table)
        for step, of in enumerate(hues):
            own = look.style(hue, of) | style | {"linestyle": ""}
            drawn = _of(table, hue, of)
            text = _words(look, {hue: of} if hue else {}, label)
            lower = shift + 0.6 * ((step + 0.5) / len(hues) - 0.5)
            y = _rank(drawn[category], names) + lower
            values = along.factor * drawn[["mean", "low", "high"]]
            if seeds:
                single = _of(rows, hue, of)
                single = single[single["status"].eq("ok")] if "status" in single else single
                at = _rank(single[category], names) + lower
                ax.plot(
                    (along.factor * single[value]).clip(-edge, edge),
                    at,
                    ".",
                    color=own["color"],
                    markersize=3,
                    alpha=0.45,
                    zorder=1,
                )
            mean = values["mean"].clip(-0.985 * edge, 0.985 * edge)
            ends = [mean - values["low"].clip(-edge, edge), values["high"].clip(-edge, edge) - mean]
            half = [end.fillna(0).clip(lower=0) for end in ends]
            ax.errorbar(mean, y, xerr=half, elinewidth=1.2, label=text, **own)
            for far, at in zip(values["mean"], y, strict=True):
                if abs(far) > 0.985 * edge:
                    side = np.sign(far)
                    place = {"textcoords": "offset points", "xytext": (-4 * side, 2), "va": "bottom"}
                    place |= {"ha": "right" if side > 0 else "left", "fontsize": 6.5, "color": own["color"]}
                    ax.annotate(f"{far:+.1f}", (side * edge, at), **place)
            for number, at in zip(values["mean"] if numbers else (), y, strict=False):
                place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 7}
                ax.annotate(f"{number:{numbers}}", (number, at), **place)
        room = 0.4 * ax.figure.get_figwidth()
        ax.set_yticks(range(len(names)), [fitted(_words(look, {category: name}), room) for name in names])
        ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)

    settings = {"x": along.label, "x_scale": along.scale, "y": "", "y_scale": None}
    settings |= {} if reach is None else {"x_limits": (-reach, reach)}
    coloured = ((hue, tuple(table[hue].drop_duplicates())),) if hue else ()
    words = ("marker", "whisker", *(["dots"] if seeds else []))
    values = tuple((along.factor * table["mean"]).clip(-edge, edge))
    mark = Mark(draw, everything, words, coloured, left_out=left_out(rows))
    return Panel((mark,), settings, x_values=values)


VERDICTS = {"helps": "#009E73", "harms": "#D55E00", "does not": "0.35", "undecided": "0.6"}
"""Colours of what a family of tests says."""


def forest(
    rows: pd.DataFrame,
    value: str = "difference",
    category: str = "contrast",
    hue: str = "level",
    reach: float = 1,
    near: float = 0.1,
    verdicts: Mapping[Any, str] | None = None,
) -> Panel:
    """Paired differences: a row a `category`, with a diamond where `hue` is empty, and its levels below that.

    Rows are those of `contrasts.compared`. Grey is what lies within `near` of 0, `reach` as of `dots`;
    `verdicts` by category stand at the right.
    """
    for name in (category, hue, value):
        known(name, rows.columns, "column")
    names, is_mean = list(rows[category].drop_duplicates()), rows[hue].isna()
    own = {"order": names, "reach": reach}
    panel = strip(-near, near) + rule(0, axis="x", zorder=1)
    if is_mean.any():
        style = {"color": "black", "marker": "D", "markersize": 5.5, "label": "all levels"}
        panel += dots(rows[is_mean], value, category, shift=0 if is_mean.all() else -0.27, **own, **style)
    if not is_mean.all():
        panel += dots(rows[~is_mean], value, category, hue, shift=0.1, markersize=4, marker="o", **own)

    def write(ax: Axes, look: Look) -> None:
        for place, name in enumerate(names):
            if text := (verdicts or {}).get(name, ""):
                style = {"fontsize": 8, "fontweight": "bold", "va": "center", "color": VERDICTS.get(text)}
                ax.text(1.02, place - 0.1, text, transform=ax.get_yaxis_transform(), **style)

    return panel + Panel((Mark(write),))


def bars(rows: pd.DataFrame, category: str, y: str, hue: str | None = None, numbers: str = "") -> Panel:
    """Means as bars with whiskers, a group a value of `category`, a bar a value of `hue`."""
    columns = [category, *([hue] if hue else [])]
    for name in (*columns, y):
        known(name, rows.columns, "column")
    check_numbers(rows, y)
    up = scales.measured(y)
    table = summary(rows, columns, y)
    names = list(rows[category].drop_duplicates())

    def draw(ax: Axes, look: Look) -> None:
        hues = _hues(look, hue, table)
        for step, of in enumerate(hues):
            drawn, width = _of(table, hue, of), 0.8 / len(hues)
            drawn = drawn[drawn["n"] > 0]
            x = _rank(drawn[category], names) + width * (step - (len(hues) - 1) / 2)
            values = up.factor * drawn[["mean", "low", "high"]]
            half = ((values["high"] - values["low"]) / 2).fillna(0)
            style = {"color": look.style(hue, of)["color"], "ecolor": "0.2", "error_kw": {"elinewidth": 0.7}}
            text = _words(look, {hue: of} if hue else {})
            ax.bar(x, values["mean"], width, yerr=half, label=text, **style)
            for number, at in zip(values["mean"] if numbers else (), x, strict=False):
                place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "fontsize": 6}
                ax.annotate(f"{number:{numbers}}", (at, number), **place)
        # The axis says what numbers are of.
        is_plain = pd.api.types.is_numeric_dtype(rows[category])
        room = 0.9 * ax.get_position().width * ax.figure.get_figwidth() / max(len(names), 1)
        ticks = [f"{name:g}" if is_plain else fitted(_words(look, {category: name}), room) for name in names]
        ax.set_xticks(range(len(names)), ticks)
        ax.margins(y=0.25)
        ax.grid(axis="x", visible=False)

    coloured = ((hue, tuple(table[hue].drop_duplicates())),) if hue else ()
    values = tuple(up.factor * table["mean"])
    settings = {"x": scales.quantity(category).label} if pd.api.types.is_numeric_dtype(rows[category]) else {}
    settings["y"] = up.label
    mark = Mark(draw, table, ("bar", "whisker"), coloured, left_out=left_out(rows))
    return Panel((mark,), settings, y_values=values)
