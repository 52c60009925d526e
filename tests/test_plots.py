"""Figures: what is drawn equals the means of the log, what is left out is counted, quick results say so."""

import math
from dataclasses import dataclass
from itertools import product

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.diagrams import architecture, overview_viz
from helpers.errors import UserError
from helpers.plots import QUICK_NOTE, base_learning_curves, compact_number, mean_interval, prune_curves, save_figure
from helpers.x_ray import confusions, first_filters, input_maps, look_rows, mistakes, weight_histograms

SPARSITIES = (0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
KNEE = {"weight": 0.965, "unit": 0.62, "filter": 0.35}
IMAGES = np.random.default_rng(0).random((10000, 1, 28, 28))
LABELS = np.random.default_rng(1).integers(0, 10, 10000)


@dataclass
class FakeLog:
    """The attributes of a log that figures read."""

    experiment: str
    profile: str
    results: pd.DataFrame
    curves: pd.DataFrame
    arrays: dict
    net: list


def net_records(*layers: tuple) -> list[dict]:
    """Records from (type, output shape, kernel, params, macs) after a 28 × 28 input."""
    records = [{"layer": "input", "type": "input", "output_shape": (1, 28, 28), "params": 0, "macs": 0}]
    for index, (kind, shape, kernel, params, macs) in enumerate(layers):
        record = {"layer": f"{kind}_{index}", "type": kind, "output_shape": shape, "params": params, "macs": macs}
        records.append(record | ({"kernel": kernel} if kernel else {}))
    return records


MLP = net_records(
    ("flatten", (784,), None, 0, 0),
    ("linear", (1000,), None, 785000, 784000),
    ("linear", (1000,), None, 1001000, 1000000),
    ("linear", (500,), None, 500500, 500000),
    ("linear", (200,), None, 100200, 100000),
    ("linear", (10,), None, 2010, 2000),
)
LENET = net_records(
    ("conv2d", (20, 24, 24), 5, 520, 288000),
    ("maxpool", (20, 12, 12), 2, 0, 0),
    ("conv2d", (50, 8, 8), 5, 25050, 1600000),
    ("maxpool", (50, 4, 4), 2, 0, 0),
    ("flatten", (800,), None, 0, 0),
    ("linear", (500,), None, 400500, 400000),
    ("linear", (10,), None, 5010, 5000),
)
CNN = net_records(
    ("conv2d", (32, 28, 28), 3, 320, 225792),
    ("conv2d", (32, 28, 28), 3, 9248, 7225344),
    ("maxpool", (32, 14, 14), 2, 0, 0),
    ("conv2d", (64, 14, 14), 3, 18496, 3612672),
    ("conv2d", (64, 14, 14), 3, 36928, 7225344),
    ("maxpool", (64, 7, 7), 2, 0, 0),
    ("conv2d", (128, 7, 7), 3, 73856, 3612672),
    ("conv2d", (128, 7, 7), 3, 147584, 7225344),
    ("maxpool", (128, 3, 3), 2, 0, 0),
    ("flatten", (1152,), None, 0, 0),
    ("linear", (500,), None, 576500, 576000),
    ("dropout", (500,), None, 0, 0),
    ("linear", (200,), None, 100200, 100000),
    ("linear", (10,), None, 2010, 2000),
)


def make_log(
    kinds=("weight", "unit"),
    seeds=range(5),
    arms=("magnitude", "random"),
    net=MLP,
    profile="full",
    sparsities=SPARSITIES,
    diverged=(),
    dense_error=0.017,
) -> FakeLog:
    """A log such as one-shot pruning leaves; `diverged`: (kind, arm, sparsity, seed) of runs that did."""
    random = np.random.default_rng(0)
    layers = [r for r in net if r["type"] in ("linear", "conv2d")]
    params, macs = (sum(r[column] for r in net) for column in ("params", "macs"))
    results, curves, arrays = [], [], {}
    weights = [random.normal(0, 0.03, min(r["params"], 20000)) for r in layers]
    filters = random.normal(0, 0.3, (layers[0]["output_shape"][0], 1, 5, 5))
    edges = np.linspace(-0.15, 0.15, 62)
    accuracies = {seed: 1 - dense_error + random.normal(0, 0.0008) for seed in seeds}

    def record(name: str, accuracy: float, share: float, kind: str) -> None:
        keep = 1 - share
        thresholds = [np.quantile(np.abs(w), share) for w in weights]
        kept = [np.clip(w[np.abs(w) >= limit], edges[0], edges[-1]) for w, limit in zip(weights, thresholds, strict=True)]
        wrong = np.flatnonzero(np.random.default_rng(3).random(10000) > accuracy)[:100]
        confusion = np.full((10, 10), int(1000 * (1 - accuracy) / 9))
        np.fill_diagonal(confusion, int(1000 * accuracy))
        first = filters.copy()
        first[np.argsort(np.abs(filters).sum((1, 2, 3)))[: round(share * len(first))]] = 0
        centre = np.exp(-(np.hypot(*np.mgrid[-14:14, -14:14]) ** 2) / 90)
        arrays[name] = {
            "confusion": confusion,
            "layer_names": np.array([r["layer"] for r in layers], dtype="S"),
            "keep_by_layer": np.array([keep] * (len(layers) - 1) + [1.0]),
            "weight_histogram": np.array([np.histogram(k, edges)[0] for k in kept]),
            "histogram_edges": edges,
            "wrong_index": wrong,
            "wrong_prediction": (LABELS[wrong] + 1 + wrong % 9) % 10,
        } | (
            {"first_filters": first}
            if layers[0]["type"] == "conv2d"
            else {"input_map": np.clip(keep * (0.4 + 2 * centre), 0, 1)[None]}
        )

    for seed in seeds:
        record(f"dense{seed}", accuracies[seed], 0.0, "weight")
    for kind, arm, sparsity, seed in product(kinds, arms, sparsities, seeds):
        run = f"{kind}-{arm}-{sparsity}-{seed}"
        floor, knee = 0.1, KNEE[kind] - (0.35 if arm == "random" else 0)
        drop = 1 / (1 + math.exp(-9 * (math.log(max(1 - knee, 0.01)) - math.log(max(1 - sparsity, 0.002))) / 2))
        accuracy = accuracies[seed] - (accuracies[seed] - floor) * drop * (0 if sparsity == 0 else 1)
        accuracy += random.normal(0, 0.02) * (drop > 0.05) * (sparsity > 0)
        is_ok = (kind, arm, sparsity, seed) not in diverged
        common = {"experiment": "synthetic", "arm": arm, "seed": seed, "run": run, "round": 0, "sweep.kind": kind}
        common |= {"sweep.sparsity": sparsity, "epochs": 10.0, "train_flops": 1e14, "wall_s": 30.0}
        dense_macs, left = {"params": params, "macs": macs}, (1 - sparsity) ** (1 if kind == "weight" else 1.8)
        shares = dict.fromkeys(("sparsity", "unit_sparsity", "filter_sparsity"), 0.0)
        for name, type_, share, value, result in (
            ("train", "train", 0.0, accuracies[seed], f"dense{seed}"),
            ("prune", "prune", sparsity, accuracy if is_ok else np.nan, run),
        ):
            shares = {column: share for column in shares} if kind == "weight" else shares | {f"{kind}_sparsity": share}
            cost = dense_macs if type_ == "train" else {c: max(20, left * v) for c, v in dense_macs.items()}
            results.append(
                {"result": result, "stage": int(type_ == "prune"), "stage_name": name, "type": type_}
                | {"status": "ok" if is_ok or type_ == "train" else "diverged", "val_accuracy": value - 0.001}
                | {"test_accuracy": value, "test_errors": round(10000 * (1 - np.nan_to_num(value)))}
                | {"val_loss": 1 - value, "test_loss": 1 - value}
                | common | shares | cost
            )  # fmt: skip
        if is_ok:
            record(run, accuracy, sparsity, kind)
        noise = np.random.default_rng(seed)
        for step in range(100, 4300, 100):
            epoch = step / 430
            error = dense_error + 0.25 * math.exp(-3 * epoch**0.5) * (1 + noise.normal(0, 0.08)) - 0.0004 * noise.random()
            curves.append(
                {"run": run, "seed": seed, "stage": 0, "step": step, "epoch": epoch, "lr": 1e-3, "wall_s": step / 100}
                | {"train_loss": max(1e-3, 2 * error - 0.035), "train_accuracy": 1 - error / 2}
                | {"val_loss": 3 * error, "val_accuracy": 1 - error - 0.001}
                | {"test_loss": 3 * error, "test_accuracy": 1 - error}
            )
    return FakeLog("synthetic", profile, pd.DataFrame(results), pd.DataFrame(curves), arrays, net)
