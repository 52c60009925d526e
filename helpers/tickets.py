"""Lottery tickets in numbers: early stopping, levels, paired comparisons, and what masks have in common.

Frankle and Carbin (2019): a subnetwork that, trained from its own initial weights, does as well as the whole.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from .comparison import interval
from .errors import UserError


def trainings(log: Any) -> pd.DataFrame:
    """Each training once, under the first arm that has it: the dense one and a prefix are the ticket's.

    Columns: arm, seed, run, stage, result, status, train_flops, kept (share of all weights, at its end),
    val_accuracy; early_step (of least validation loss among the logged steps), early_accuracy (on test,
    there), end_accuracy (on test), and these three with dense_ before them: of the same seed's training
    with all weights. Where the training itself pruned, no step before its end is of the network that came
    out, and early_step and early_accuracy are NaN. Raises UserError where there is no validation split.
    """
    curves = log.curves
    if curves["val_loss"].isna().all():
        raise UserError("tickets: expected validation images, found none; give the data a validation_size")
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
    columns = {"test_accuracy": "end_accuracy"}
    rows = rows.merge(ended.rename(columns=columns)[["run", "stage", "end_accuracy"]], on=["run", "stage"])
    rows["kept"] = (1 - rows["sparsity_all"]).round(9)
    order = {arm: place for place, arm in enumerate(dict.fromkeys(log.results["arm"]))}
    rows = rows.sort_values(["arm", "seed", "stage"], key=lambda c: c.map(order) if c.name == "arm" else c)
    rows = rows.drop_duplicates("result").reset_index(drop=True)
    values = ["early_step", "early_accuracy", "end_accuracy"]
    # Only the ticket's own: another arm's dense training may be a longer one.
    dense = rows[rows["kept"].eq(1) & rows["status"].eq("ok") & rows["arm"].eq("ticket")]
    dense = dense.set_index("seed")[values]
    rows = rows.join(dense.add_prefix("dense_"), on="seed")
    wanted = [
        "arm",
        "seed",
        "run",
        "stage",
        "result",
        "status",
        "train_flops",
        "kept",
        "val_accuracy",
        *values,
    ]
    return rows[[*wanted, *dense.add_prefix("dense_").columns]]


def at_level(table: pd.DataFrame, arm: str, kept: float) -> pd.DataFrame:
    """The trainings of an arm at the level nearest to `kept` (in ratio), by seed; UserError if none."""
    rows = table[(table["arm"] == arm) & table["status"].eq("ok")]
    if rows.empty:
        arms = ", ".join(table.loc[table["status"].eq("ok"), "arm"].unique())
        raise UserError(
            f"tickets: expected a training of the arm {arm} that ended well, found some of {arms}"
        )
    return rows[rows["kept"] == nearest_level(rows["kept"], kept)].set_index("seed")


def nearest_level(levels: Iterable[float], kept: float) -> float:
    """The level nearest to a share kept, in ratio."""
    return min(levels, key=lambda level: abs(np.log(level / kept)))


def ratio_interval(one: pd.Series, other: pd.Series) -> tuple[float, float, float, int]:
    """Geometric mean of the paired ratios one / other, with its interval from their logarithms."""
    mean, low, high, n = interval(np.log(one.astype(float)) - np.log(other.astype(float)))
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high)), n


def gaps(table: pd.DataFrame, arm: str, quantity: str = "early_accuracy") -> pd.DataFrame:
    """An arm less the dense network of the same seed, a row a level: kept, mean, low, high, n."""
    rows = table[(table["arm"] == arm) & table["status"].eq("ok") & (table["kept"] < 1)]
    found = [
        (kept, *interval(of_level[quantity] - of_level[f"dense_{quantity}"]))
        for kept, of_level in rows.groupby("kept")
    ]
    frame = pd.DataFrame(found, columns=["kept", "mean", "low", "high", "n"])
    return frame.sort_values("kept", ascending=False).reset_index(drop=True)


def falls_below(table: pd.DataFrame, arm: str, quantity: str = "early_accuracy") -> tuple[float, float]:
    """Largest share kept from which on, to the last level, an arm is below the dense network.

    First where its mean is, then where the whole interval of the paired difference is; NaN for never.
    """
    found = gaps(table, arm, quantity)
    levels = []
    for below in (found["mean"] < 0, found["high"] < 0):
        to_the_end = below[::-1].cummin()[::-1]
        levels.append(float(found.loc[to_the_end, "kept"].max()))
    return levels[0], levels[1]


def rewinds(log: Any, arm: str = "ticket") -> pd.DataFrame:
    """An arm's rewound networks, each once, with `kept`, the share of all weights. UserError if none."""
    rows = log.results[log.results["type"].eq("rewind") & log.results["arm"].eq(arm)]
    rows = rows[rows["status"].eq("ok")].drop_duplicates("result")
    if rows.empty:
        raise UserError(f"tickets: expected rewound networks of the arm {arm}, found none")
    return rows.assign(kept=(1 - rows["sparsity_all"]).round(9))


def masks(log: Any) -> pd.DataFrame:
    """Recorded masks of rewound networks: arm, seed, kept, layers (a list of bool arrays, flat).

    Each once: an arm that takes another's mask over is left out.
    """
    rows = log.results[log.results["type"].eq("rewind")].drop_duplicates("result")
    found, seen = [], set()
    for row in rows.itertuples():
        arrays = log.arrays.get(row.result, {})
        if "mask_bits" not in arrays or (same := (row.seed, arrays["mask_bits"].tobytes())) in seen:
            continue
        seen.add(same)
        sizes = arrays["weights_by_layer"]
        bits = np.unpackbits(arrays["mask_bits"], count=int(sizes.sum())).astype(bool)
        layers = np.split(bits, np.cumsum(sizes)[:-1])
        found.append((row.arm, row.seed, round(1 - row.sparsity_all, 9), layers))
    return pd.DataFrame(found, columns=["arm", "seed", "kept", "layers"])


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


def overlaps(log: Any) -> pd.DataFrame:
    """First-layer masks of two networks at the same level: kept, pair, jaccard, chance, chance_by_pixel.

    `pair` is "other seeds" (tickets of different seeds) or "ARM, same seed" (a ticket and that arm's mask).
    `chance` is of masks that keep as many weights, `chance_by_pixel` of such that keep as many at each pixel.
    """
    found = masks(log)
    pixels = int(np.prod(log.net[0]["output_shape"]))
    tickets, rows = found[found["arm"] == "ticket"], []
    for one in tickets.itertuples():
        for other in found[found["kept"] == one.kept].itertuples():
            is_pair = other.seed > one.seed if other.arm == "ticket" else other.seed == one.seed
            if not is_pair:
                continue
            pair = "other seeds" if other.arm == "ticket" else f"{other.arm}, same seed"
            first, second = (m.layers[0].reshape(-1, pixels) for m in (one, other))
            by_pixel = chance(first, second)
            plain = chance(first.reshape(-1, 1), second.reshape(-1, 1))
            rows.append((one.kept, pair, jaccard(first, second), plain, by_pixel))
    return pd.DataFrame(rows, columns=["kept", "pair", "jaccard", "chance", "chance_by_pixel"])


def digit_errors(log: Any, table: pd.DataFrame, arm: str, kept: float) -> np.ndarray:
    """Share of each digit's test images that an arm's networks get wrong at the end, [seeds, classes]."""
    confusions = np.stack(
        [log.arrays[result]["confusion"] for result in at_level(table, arm, kept)["result"]]
    )
    return 1 - np.diagonal(confusions, axis1=1, axis2=2) / confusions.sum(2)


def keep_share_by_weight(log: Any, layer: int, kept: float, arm: str = "ticket") -> pd.DataFrame:
    """Share of a layer's initial weights that an arm keeps, by the weight: weight, mean, low, high, n.

    `weight` is the middle of a bin, n the seeds. The two outermost bins, which hold the tails, are left out,
    and bins that hold fewer than a hundred weights of some seed.
    """
    rows = rewinds(log, arm)
    rows = rows[rows["kept"] == nearest_level(rows["kept"], kept)]
    shares = []
    for result in rows["result"]:
        arrays = log.arrays[result]
        ours, rest = (arrays[name][layer].astype(float) for name in ("weight_histogram", "pruned_histogram"))
        total = ours + rest
        shares.append(np.where(total >= 100, ours / np.maximum(total, 1), np.nan)[1:-1])
    edges = log.arrays[rows["result"].iloc[0]]["histogram_edges"]
    middles = ((edges[1:] + edges[:-1]) / 2)[1:-1]
    found = [(x, *interval(values)) for x, values in zip(middles, np.array(shares).T, strict=True)]
    frame = pd.DataFrame(found, columns=["weight", "mean", "low", "high", "n"])
    return frame[frame["n"] == len(shares)].reset_index(drop=True)
