"""Tidy frames of a log: a row a run, a training, a layer, a class, or a pair of masks.

Every function takes a log (`load_log`, `run_experiment`) or some of its rows, and gives rows that keep the
columns of `results`, so that any of them can be selected, summarised and drawn.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ..foundations.errors import UserError
from ..utils import Results
from .selection import check_numbers, known

SHARE_OF_KIND = {"weight": "sparsity", "unit": "unit_sparsity", "filter": "filter_sparsity"}
"""The column with the realised share that a kind of pruning prunes."""


def dense(log: Results) -> pd.DataFrame:
    """The network to begin with, a row a seed: as the earliest train stage left it, in the first such arm.

    It is not dense where something was pruned before that stage, or during it. Raises UserError where nothing
    was trained.
    """
    rows = log.results[log.results["type"].eq("train")].sort_values("stage", kind="stable")
    if rows.empty:
        raise UserError(f"{log.experiment}: expected a train stage, found none")
    return rows.drop_duplicates("seed").reset_index(drop=True)


def at_stage(log: Results, kind: str) -> pd.DataFrame:
    """Each run's row of its last stage of a type, such as prune, refit or train.

    A run that broke off before has the row where it did, so that it is counted as left out. Raises UserError
    where no run has such a stage.
    """
    rows = log.results
    is_meant = rows["type"].eq(kind)
    if not is_meant.any():
        known(kind, rows["type"].unique(), f"{log.experiment}: stage type")
    rows = rows.assign(is_meant=is_meant)[is_meant | rows["status"].ne("ok")]
    rows = rows.sort_values(["is_meant", "stage"], kind="stable").groupby(["arm", "run"]).tail(1)
    return rows.drop(columns="is_meant").sort_index().reset_index(drop=True)


def pruned(log: Results) -> pd.DataFrame:
    """Each run as its last prune stage left it, before any later training, with the realised `share`.

    Under a rate there is no nominal share: `target` is then what was realised.
    """
    rows = at_stage(log, "prune")
    if rows.loc[rows["type"].eq("prune"), "kind"].isna().any():
        text = "expected a log that knows the settings of its rows, found one from before they were kept"
        raise UserError(f"{log.experiment}: {text}; run its experiment, which adds them and computes nothing")
    rows["share"] = sum(
        rows[column].where(rows["kind"].eq(kind), 0) for kind, column in SHARE_OF_KIND.items()
    )
    rows["target"] = rows["target"].fillna(rows["share"])
    return rows


def trainings(log: Results, reference: str | None = None) -> pd.DataFrame:
    """Each training once, under the first arm that has it, with its early stop.

    Columns beside those of `results`: kept (share of all weights, at its end); early_step (of least
    validation loss among the logged steps), early_accuracy (on test, there), end_accuracy (on test); and
    these three with dense_ before them: of the same seed's first training with all weights under the arm
    `reference` (default: the first), NaN where a sweep has several. val_accuracy is that of the early step.
    Where the training itself pruned, no step before its end is of the network that came out, and early_step
    and early_accuracy are NaN. Raises UserError where there is no validation split.
    """
    curves = log.curves
    if curves["val_loss"].isna().all():
        raise UserError(
            f"{log.experiment}: early stop: expected validation images, found none; give the data a "
            "validation_size"
        )
    rows = log.results.sort_values(["run", "stage"])
    before = rows.groupby("run")["sparsity_all"].shift(fill_value=0.0)
    rows = rows.assign(pruned_meanwhile=rows["sparsity_all"] > before + 1e-9)
    rows = rows[rows["type"].eq("train")]
    ended = curves.sort_values("step", kind="stable").groupby(["run", "stage"]).tail(1)
    finite = curves.dropna(subset="val_loss")
    early = finite.loc[finite.groupby(["run", "stage"])["val_loss"].idxmin()]
    columns = {"step": "early_step", "test_accuracy": "early_accuracy", "val_accuracy": "val_accuracy"}
    rows = rows.drop(columns=["test_accuracy", "val_accuracy"]).merge(
        early.rename(columns=columns)[["run", "stage", *columns.values()]], on=["run", "stage"], how="left"
    )
    rows.loc[rows.pop("pruned_meanwhile"), ["early_step", "early_accuracy"]] = np.nan
    ended = ended.rename(columns={"test_accuracy": "end_accuracy"})[["run", "stage", "end_accuracy"]]
    rows = rows.merge(ended, on=["run", "stage"])
    rows["kept"] = (1 - rows["sparsity_all"]).round(9)
    order = {arm: place for place, arm in enumerate(dict.fromkeys(log.results["arm"]))}
    rows = rows.sort_values(["arm", "seed", "stage"], key=lambda c: c.map(order) if c.name == "arm" else c)
    rows = rows.drop_duplicates("result").reset_index(drop=True)
    arm = known(reference or next(iter(order)), order, f"{log.experiment}: arm")
    whole = rows[rows["kept"].eq(1) & rows["status"].eq("ok") & rows["arm"].eq(arm)]
    whole = whole[whole["stage"].eq(whole.groupby("seed")["stage"].transform("min"))]
    whole = whole[~whole.duplicated("seed", keep=False)]
    values = ["early_step", "early_accuracy", "end_accuracy"]
    return rows.join(whole.set_index("seed")[values].add_prefix("dense_"), on="seed")


def nearest(rows: pd.DataFrame, column: str, *values: float) -> pd.DataFrame:
    """The rows at the values of a column that are nearest to those asked for, in ratio where all are above 0.

    Raises UserError where there are no rows.
    """
    check_numbers(rows, known(column, rows.columns, "column"))
    levels = rows[column].dropna().unique()
    if not len(levels):
        raise UserError(f"{column}: expected rows near {values[0]:g}, found none")
    found = []
    for value in values:
        is_ratio = value > 0 and (levels > 0).all()
        distance = np.abs(np.log(levels / value)) if is_ratio else np.abs(levels - value)
        found.append(levels[distance.argmin()])
    return rows[rows[column].isin(found)]


def curves(log: Results, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The logged steps of these rows' trainings, a row a step and split (training, validation, test).

    Columns: those of `rows` (default: the dense networks), step, epoch, split, accuracy, error and loss.
    """
    rows = dense(log) if rows is None else rows
    found = log.curves.drop(columns=["seed", "lr"])
    heads = rows.drop(columns=[c for c in found if c in rows and c not in ("run", "stage")])
    found = heads.merge(found, on=["run", "stage"])
    parts = []
    for split, name in {"train": "training", "val": "validation", "test": "test"}.items():
        own = found.rename(columns={f"{split}_accuracy": "accuracy", f"{split}_loss": "loss"})
        others = [c for c in own if c.split("_")[0] in ("train", "val", "test") and c in log.curves]
        parts.append(own.drop(columns=others).assign(split=name))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(error=1 - table["accuracy"])


def array(log: Results, row: Any, name: str) -> np.ndarray:
    """An array that a row's stage recorded. Raises UserError where it recorded none of this name."""
    result = row["result"] if isinstance(row, pd.Series | dict) else row.result
    arrays = log.arrays.get(result, {})
    if name not in arrays:
        known(name, arrays, f"{log.experiment}: result {result}: array")
    return arrays[name]


def layers(log: Results, rows: pd.DataFrame, name: str = "keep_by_layer") -> pd.DataFrame:
    """An array by layer: the rows' columns, `layer` and `value`; of units alive, their share."""

    def values(row: pd.Series) -> tuple[list[str], np.ndarray]:
        names = [word.decode() for word in array(log, row, "layer_names")]
        found = np.asarray(array(log, row, name), float)
        return names, found / _units(log, row, names) if name == "alive_by_layer" else found

    return _spread(rows, values, "layer")


def _units(log: Results, row: pd.Series, names: list[str]) -> list[int]:
    """Units and filters of a row's layers with weights, from the text of its net.

    The log's own record is of its first network; it serves where no row has a text.
    """
    if isinstance(row["net"], str):
        counts = [int(found[0]) for part in row["net"].split("-") if (found := re.match(r"\d+", part))]
        return counts[-len(names) :]
    units = {layer["layer"]: layer["output_shape"][0] for layer in log.net}
    return [units[layer] for layer in names]


def classes(log: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """A row a class: the rows' columns, `class`, and `value`, the share of its test images that are wrong."""

    def values(row: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        counts = array(log, row, "confusion")
        return np.arange(len(counts)), 1 - np.diagonal(counts) / counts.sum(1)

    return _spread(rows, values, "class")


def kept_by_weight(log: Results, rows: pd.DataFrame, layer: int = 0, at_least: int = 100) -> pd.DataFrame:
    """Of rewound networks: the share of a layer's initial weights that is kept, by the weight.

    Columns: the rows', `weight` (the middle of a bin) and `value`. Left out are the two outermost bins, which
    hold the tails, and those with fewer than `at_least` weights in some row.
    """

    def values(row: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        edges = array(log, row, "histogram_edges")
        ours, rest = (array(log, row, n)[layer] for n in ("weight_histogram", "pruned_histogram"))
        total = ours.astype(float) + rest
        share = np.where(total >= at_least, ours / np.maximum(total, 1), np.nan)
        return ((edges[1:] + edges[:-1]) / 2)[1:-1], share[1:-1]

    found = _spread(rows, values, "weight")
    return found[~found["value"].isna().groupby(found["weight"]).transform("any")]


def _spread(rows: pd.DataFrame, values: Callable[[pd.Series], tuple[Any, Any]], column: str) -> pd.DataFrame:
    """Each row as many: a row a name in `column`, with its `value`."""
    parts = []
    for _, row in rows.iterrows():
        names, found = values(row)
        part = pd.DataFrame([row.to_dict()] * len(names))
        parts.append(part.assign(**{column: names, "value": found}))
    return pd.concat(parts, ignore_index=True) if parts else rows.assign(**{column: None, "value": np.nan})


def masks(log: Results, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """Recorded masks of rewound networks (of these rows): arm, seed, kept, layers (bool arrays, flat).

    Each once: an arm that takes another's mask over is left out.
    """
    rows = log.results if rows is None else rows
    rows = rows[rows["type"].eq("rewind")].drop_duplicates("result")
    found, seen = [], set()
    for row in rows.itertuples():
        arrays = log.arrays.get(row.result, {})
        if "mask_bits" not in arrays or (same := (row.seed, arrays["mask_bits"].tobytes())) in seen:
            continue
        seen.add(same)
        sizes = arrays["weights_by_layer"]
        bits = np.unpackbits(arrays["mask_bits"], count=int(sizes.sum())).astype(bool)
        flat = np.split(bits, np.cumsum(sizes)[:-1])
        found.append((row.arm, row.seed, round(1 - row.sparsity_all, 9), flat))
    return pd.DataFrame(found, columns=["arm", "seed", "kept", "layers"])


def overlaps(log: Results, arm: str) -> pd.DataFrame:
    """First-layer masks at the same level, each pair once: an arm's with its own of other seeds and with
    another arm's of the same seed.

    Columns: kept, other (the other mask's arm; the same arm's is of another seed), seed, jaccard, chance (of
    masks that keep as many weights) and chance_by_input (of such that keep as many at each input).
    """
    found = masks(log)
    inputs, rows = int(np.prod(log.net[0]["output_shape"])), []
    for one in found[
        found["arm"] == known(arm, found["arm"], f"{log.experiment}: arm with masks")
    ].itertuples():
        for other in found[found["kept"] == one.kept].itertuples():
            if not (other.seed > one.seed if other.arm == arm else other.seed == one.seed):
                continue
            first, second = (mask.layers[0].reshape(-1, inputs) for mask in (one, other))
            plain = chance(first.reshape(-1, 1), second.reshape(-1, 1))
            rows.append((one.kept, other.arm, one.seed, jaccard(first, second), plain, chance(first, second)))
    return pd.DataFrame(rows, columns=["kept", "other", "seed", "jaccard", "chance", "chance_by_input"])


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Weights that both masks keep, among those that either keeps."""
    return float((one & other).sum() / (one | other).sum())


def chance(one: np.ndarray, other: np.ndarray) -> float:
    """Jaccard index to expect of masks [units, inputs] that are independent but for each input's share kept.

    So what two masks have in common by preferring the same inputs is chance as well; [weights, 1] knows no
    inputs. The ratio of the expected counts, which is near the expected ratio for large masks.
    """
    both = len(one) * float((one.mean(0) * other.mean(0)).sum())
    return both / (one.sum() + other.sum() - both)


def first_step(log: Results, rows: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """The rows with `steps`: the first logged step with so much validation accuracy, NaN for never."""
    reached = log.curves[log.curves["val_accuracy"] >= accuracy].groupby("run")["step"].min()
    return rows.assign(steps=rows["run"].map(reached))
