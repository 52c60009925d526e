"""Tables of text, made from summaries: numbers with their intervals, Markdown in a notebook and in README."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..foundations.errors import UserError
from ..utils import Results
from .scales import percent_text
from .selection import known
from .statistics import summary

UNLIKE = "†"
"""Marks a comparison that holds, or may hold, a difference of machines or of their precisions as well."""


class Table:
    """A table that a notebook shows as Markdown, and README copies by its name."""

    def __init__(self, frame: pd.DataFrame, name: str = ""):
        self.frame, self.name = frame, name

    def markdown(self) -> str:
        """The table in GitHub's Markdown; an index with a name becomes the first column."""
        frame = self.frame.reset_index() if any(self.frame.index.names) else self.frame
        lines = [list(map(str, frame.columns)), ["---"] * frame.shape[1]]
        lines += [
            ["" if pd.isna(cell) else str(cell).replace("|", r"\|") for cell in row]
            for row in frame.itertuples(index=False)
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def _repr_markdown_(self) -> str:
        head = f"<!-- table {self.name} -->\n" if self.name else ""
        return head + self.markdown()

    def __repr__(self) -> str:
        return self.frame.to_string()


def percent(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """'98.57 ± 0.08': a mean share and half its 95 % interval, in percent; "" where there is no mean."""
    return number(100 * mean, 100 * low, 100 * high, ".2f")


def error(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """'1.43 ± 0.08': the error of a mean accuracy, in percent."""
    return percent(1 - mean, 1 - high, 1 - low)


def points(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """'-0.12 ± 0.08': a mean difference of shares and half its 95 % interval, in points."""
    return number(100 * mean, 100 * low, 100 * high, "+.2f")


def number(mean: float, low: float = np.nan, high: float = np.nan, form: str = ",.0f") -> str:
    """'1,360 ± 68': a mean and half its 95 % interval in a format; "" where there is no mean."""
    if pd.isna(mean):
        return ""
    half = "" if pd.isna(low) else f" ± {(high - low) / 2:{form.replace('+', '')}}"
    return f"{mean:{form}}{half}"


def count(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """'136.6 ± 13.4': a mean count of images."""
    return number(mean, low, high, ",.1f")


def times(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """'3.11 × (1.98 to 4.90)': a ratio and the ends of its interval, which is not symmetric."""
    if pd.isna(mean):
        return ""
    return f"{mean:.2f} ×" + ("" if pd.isna(low) else f" ({low:.2f} to {high:.2f})")


def whole_percent(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """'58 % (49 to 65)': a share in whole percents and the ends of its interval."""
    if pd.isna(mean):
        return ""
    return f"{100 * mean:.0f} %" + ("" if pd.isna(low) else f" ({100 * low:.0f} to {100 * high:.0f})")


def p_value(p: float) -> str:
    """Three decimals of a probability; "" where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def share(value: float) -> str:
    """'3.58 %', '99.95 %': only all of it is 100 %; "" for none."""
    if pd.isna(value):
        return ""
    return f"{percent_text(value)} %" if 0.99 < value < 1 else f"{100 * value:.3g} %"


def pruned_text(kind: str, target: float) -> str:
    """'99 % of weights'; "" for what is not pruned."""
    return "" if pd.isna(target) or not kind else f"{100 * target:g} % of {kind}s"


def texts(found: pd.DataFrame, form: Callable[..., str] | str = percent) -> list[str]:
    """The text of each row's mean and interval (columns mean, low, high; the mean alone where it is alone).

    `form`: a function of the three, or the format of a number, such as ".1f". Raises UserError on another.
    """
    if isinstance(form, str):
        try:
            f"{0.0:{form}}"
        except ValueError:
            text = f"expected the format of a number, such as '.1f', found {form!r}"
            raise UserError(f"table: {text}") from None
        form = partial(number, form=form)
    ends = [name for name in ("mean", "low", "high") if name in found]
    return [form(*row) for row in found[ends].itertuples(index=False)]


def side_by_side(
    by: str | Sequence[str],
    found: Mapping[str, tuple[pd.DataFrame, Callable[..., str] | str]],
    log: Results | None = None,
) -> pd.DataFrame:
    """Several summaries as one table: a row a group of `by`, as the first has them, a column a heading.

    A heading is of a summary and the form of its texts, or the name of a column to copy; a cell is empty
    where a summary lacks the group. Groups are what `log` calls them. Raises UserError where a summary has a
    group twice.
    """
    by, table = [by] if isinstance(by, str) else list(by), pd.DataFrame()
    for heading, (own, form) in found.items():
        for name in by:
            known(name, own.columns, f"table, {heading}: column")
        if own.duplicated(by).any():
            raise UserError(f"table, {heading}: expected one row each {', '.join(by)}, found several")
        cells = own[form].astype(object) if isinstance(form, str) and form in own else texts(own, form)
        column = own[by].assign(**{heading: cells})
        table = table.merge(column, on=by, how="left") if len(table) else column
    table = table if log is None else labelled(table, log, *by)
    return table.where(table.notna(), "").reset_index(drop=True)


def text(rows: pd.DataFrame, value: str = "test_accuracy", form: Callable[..., str] = percent) -> str:
    """Mean and interval over the seeds of one setting, as a text; "" where there are no rows."""
    if rows.empty:
        return ""
    return texts(summary(rows.assign(_all=0), "_all", value), form)[0]


def labelled(found: pd.DataFrame, log: Results, *columns: str) -> pd.DataFrame:
    """The frame with these columns' values as the config calls them."""
    words = {name: [log.label(name, value) for value in found[name]] for name in columns}
    return found.assign(**words)


def wide(
    found: pd.DataFrame,
    index: str,
    columns: str | Sequence[str],
    form: Callable[..., str] | str = percent,
    log: Results | None = None,
) -> pd.DataFrame:
    """A summary as text: a row a value of `index`, a column a value of `columns`, empty where there is none.

    Rows are sorted where they are numbers, else both are in the order in which they appear; values are what
    `log` calls them, shares (`target`, `kept`, and axes of them) percentages. Several `columns` are joined by
    commas, those with a single value left out. Raises UserError where a cell would hold several.
    """
    columns = [columns] if isinstance(columns, str) else list(columns)
    for name in (index, *columns):
        known(name, found.columns, "column")
    if found.duplicated([index, *columns]).any():
        others = [c for c in found if c not in ("mean", "low", "high", "n", "excluded", index, *columns)]
        raise UserError(
            f"table: expected one row a cell of {', '.join([index, *columns])}, found several; select one "
            f"value of {', '.join(others) or 'what else differs'}"
        )
    names = [name for name in columns if found[name].nunique(dropna=False) > 1] or columns[-1:]
    heads = [
        ", ".join(text for text in (_text(name, row[name], log) for name in names) if text)
        for _, row in found[names].iterrows()
    ]
    cells = found.assign(_head=heads, _text=texts(found, form))
    if (twice := cells.duplicated([index, "_head"])).any():
        head = cells.loc[twice, "_head"].iloc[0]
        text = f"expected a name of its own for each column, found {head!r} twice"
        raise UserError(f"table: {text}; change a label, or leave log out")
    table = cells.pivot(index=index, columns="_head", values="_text")
    order = list(found[index].drop_duplicates())
    if pd.api.types.is_numeric_dtype(found[index]):
        order = sorted(order, key=lambda value: (pd.isna(value), value))
    table = table.loc[order, list(dict.fromkeys(heads))].fillna("")
    table.index = pd.Index([_text(index, value, log) for value in order], name=_name(index, log))
    return table.rename_axis(columns=None)


SHARES = ("target", "kept", "sparsity")
"""Columns, and axes by their last word, whose values are shares."""


def _text(name: str, value: Any, log: Results | None) -> str:
    """A value as a table shows it."""
    is_share = name.removeprefix("sweep.") in SHARES
    if is_share and isinstance(value, int | float | np.number):
        return share(value)
    if log is not None:
        return log.label(name, value)
    return "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def _name(name: str, log: Results | None) -> str:
    """A column as a table heads it."""
    shown = log.label(name) if log is not None else name
    return {"target": "pruned"}.get(shown, shown).removeprefix("sweep.")
