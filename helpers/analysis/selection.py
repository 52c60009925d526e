"""Rows by their values, panels by their places: what is not there, or is something else, is told."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from ..foundations.errors import UserError
from ..utils import Results


def known(name: Any, among: Iterable[Any], what: str) -> Any:
    """The name, if it is among these. Raises UserError, with the nearest, where it is not."""
    names = list(dict.fromkeys(among))
    if name in names:
        return name
    near = isinstance(name, str) and get_close_matches(name, [str(other) for other in names], 1)
    hint = f"expected one of {', '.join(map(str, names))}" if names else "there is none"
    hint = f"did you mean {near[0]!r}?" if near else hint
    raise UserError(f"{what}: unknown {name!r}; {hint}")


def check_numbers(rows: pd.DataFrame, *names: str) -> None:
    """Raises UserError where a column that an axis of numbers needs holds texts."""
    for name in names:
        texts = [value for value in rows[name].dropna() if isinstance(value, str)]
        if texts:
            text = f"{name}: expected a column of numbers, found {texts[0]!r}"
            raise UserError(f"{text}; a text can be a category of dots and bars, or what rows are grouped by")


def select(rows: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values of these columns: select(rows, kind="weight", arm=["refit", "gradual"]).

    A list takes what there is of it, in its order: a quick profile may lack the rest. None is an empty cell.
    Axes are named without their "sweep.". Raises UserError where a column, a value, or all of a list is not
    there, or where a name of a list is nearly one that is.
    """
    for name, values in wanted.items():
        column = name if name in rows else f"sweep.{name}"
        if column not in rows:
            known(name, [c.removeprefix("sweep.") for c in rows], "column")
        there = rows[column]
        place = np.full(len(rows), np.nan)
        several = values if isinstance(values, list | tuple) else [values]
        if not several:
            raise UserError(f"{name}: expected a value or a list of some, found an empty list")
        for i, value in enumerate(several):
            is_one = equal(there, value)
            if not is_one.any() and isinstance(value, str):
                others = [str(other) for other in there.dropna().unique() if other not in several]
                if near := get_close_matches(value, others, 1, 0.85):
                    raise UserError(f"{name}: unknown {value!r}; did you mean {near[0]!r}?")
            place[is_one.to_numpy(bool) & np.isnan(place)] = i
        if np.isnan(place).all():
            known(several[0], sorted(there.dropna().unique(), key=str), name)
        rows = rows.iloc[np.argsort(place, kind="stable")[: np.isfinite(place).sum()]]
    return rows


def equal(column: pd.Series, value: Any) -> pd.Series:
    """Which cells are the value; numbers up to rounding."""
    if value is None or value != value:
        return column.isna()
    if pd.api.types.is_numeric_dtype(column) and isinstance(value, int | float | np.number):
        return pd.Series(np.isclose(column.astype(float), float(value)), index=column.index)
    return column.eq(value)


def checked_grid(
    name: str, grid: Any, kind: type, logs: Iterable[Any], heights: Any, widths: Any
) -> list[list[Any]]:
    """The grid of a figure as rows of panels, which are of that kind.

    Raises UserError where it holds anything else, or its logs, heights and widths are none.
    """
    where = f"figure {name}" if name else "figure"
    grid = [[grid]] if isinstance(grid, kind) else grid
    rows = list(grid) if isinstance(grid, list | tuple) else [grid]
    if others := [row for row in rows if not isinstance(row, list | tuple)]:
        text = "expected a panel, or rows of panels such as [[left, right]]"
        raise UserError(f"{where}: {text}, found {kind_of(others[0])} in place of a row")
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise UserError(f"{where}: expected rows of panels of one length, found {[*map(len, rows)]}")
    if others := [item for row in rows for item in row if not isinstance(item, kind | None)]:
        raise UserError(f"{where}: expected panels, such as lines(…), found {kind_of(others[0])}")
    if others := [log for log in logs if not isinstance(log, Results)]:
        raise UserError(f"{where}: expected logs behind the grid, found {kind_of(others[0])}; say title=…")
    for word, shares, n in (("heights", heights, len(rows)), ("widths", widths, len(rows[0]))):
        if shares is not None and len(shares) != n:
            raise UserError(f"{where}: {word}: expected {n}, found {len(shares)}")
    return [list(row) for row in rows]


def kind_of(thing: Any) -> str:
    """What something is that should be something else."""
    return f"{'an' if type(thing).__name__[0] in 'AEIOUaeiou' else 'a'} {type(thing).__name__}"
