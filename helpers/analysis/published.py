"""Published numbers, from data/*.csv, beside what is measured here."""

from typing import Any

import pandas as pd

from ..foundations.errors import UserError
from ..foundations.files import ROOT
from .selection import known, select


def published(file: str = "published", **wanted: Any) -> pd.DataFrame:
    """The rows of data/FILE.csv with these values, in its order: published(network="lenet-5-caffe").

    Where the file has them, also in the columns of results: kind (granularity), target (share pruned),
    accuracy (1 less the error). Raises UserError where the file or a value is not there.
    """
    path = ROOT / "data" / f"{file}.csv"
    if not path.is_file():
        names = ", ".join(sorted(other.stem for other in path.parent.glob("*.csv")))
        raise UserError(f"{path}: expected published numbers, found no such file; there are {names}")
    rows = select(pd.read_csv(path), **wanted).sort_index()
    if "error_percent" in rows:
        rows = rows.assign(
            kind=rows["granularity"],
            target=(rows["sparsity_percent"].astype(float) / 100).round(9),
            test_accuracy=1 - rows["error_percent"] / 100,
        )
    return rows.reset_index(drop=True)


def beside(
    points: pd.DataFrame, found: pd.DataFrame, on: tuple[str, ...] = ("kind", "target")
) -> pd.DataFrame:
    """Published points with the summary (mean, low, high, n) of ours at the same values; others are left out.

    Numbers are the same where they agree to nine digits.
    """
    for name in on:
        for table in (points, found):
            known(name, table.columns, "column")
    ours = found.assign(**{name: found[name].round(9) for name in on if found[name].dtype.kind == "f"})
    clash = [name for name in ("mean", "low", "high", "n", "excluded") if name in points]
    return points.drop(columns=clash).merge(ours, on=list(on), how="inner", suffixes=("", "_ours"))
