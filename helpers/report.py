"""Tables for README and notebook, made from logs: dense networks, one-shot pruning, benchmarks."""

import json

import pandas as pd

from .files import ROOT
from .plots import KINDS, dense_rows, mean_interval, prune_rows
from .utils import Results

PUBLISHED = ROOT / "data" / "published.csv"


def percent(mean: float, low: float, high: float) -> str:
    """'98.57 ± 0.08': a mean share and half its 95 % interval, in percent; "" where there is no mean."""
    if pd.isna(mean):
        return ""
    half = "" if pd.isna(low) else f" ± {50 * (high - low):.2f}"
    return f"{100 * mean:.2f}{half}"


def dense_table(logs: dict[str, Results]) -> pd.DataFrame:
    """A row a network before pruning: size, training, test accuracy with its interval over seeds."""
    rows = []
    for name, log in logs.items():
        dense = dense_rows(log)
        found = mean_interval(dense, "stage", "test_accuracy").iloc[0]
        first = dense.iloc[0]
        rows.append(
            {
                "network": name,
                "parameters": f"{first['params']:,.0f}",
                "MACs": f"{first['macs']:,.0f}",
                "epochs": f"{first['epochs']:g}",
                "seeds": int(found["n"]),
                "test accuracy, %": percent(found["mean"], found["low"], found["high"]),
            }
        )
    return pd.DataFrame(rows).set_index("network")


def accuracy_table(log: Results) -> pd.DataFrame:
    """Test accuracy in percent with its 95 % interval: a row a sparsity, a column a kind and arm."""
    found = mean_interval(prune_rows(log), ["arm", "kind", "target"], "test_accuracy")
    found["text"] = [percent(*row) for row in found[["mean", "low", "high"]].itertuples(index=False)]
    arms = list(dict.fromkeys(found["arm"]))
    found["column"] = found["kind"] + (", " + found["arm"] if len(arms) > 1 else "")
    found["place"] = [
        (arms.index(arm), list(KINDS).index(kind))
        for arm, kind in found[["arm", "kind"]].itertuples(index=False)
    ]
    order = list(dict.fromkeys(found.sort_values("place")["column"]))
    table = found.pivot(index="target", columns="column", values="text")[order]
    table.index = pd.Index([f"{100 * sparsity:g} %" for sparsity in table.index], name="pruned")
    return table.rename_axis(columns=None)


def published(network: str, dataset: str = "mnist") -> pd.DataFrame:
    """Published one-shot points for a network: label, kind, sparsity_percent, accuracy (a fraction).

    Only those that prune by magnitude after ordinary training: heavy regularisation, which costs
    accuracy at 0 %, is another experiment.
    """
    table = pd.read_csv(PUBLISHED)
    chosen = table[
        (table["network"] == network)
        & (table["dataset"] == dataset)
        & (table["retrained"] == "no")
        & table["method"].isin(["magnitude", "magnitude re-ranked"])
    ]
    return pd.DataFrame(
        {
            "label": chosen["source"],
            "kind": chosen["granularity"],
            "sparsity_percent": chosen["sparsity_percent"].astype(float),
            "accuracy": 1 - chosen["error_percent"] / 100,
        }
    ).reset_index(drop=True)


def comparison_table(log: Results, network: str) -> pd.DataFrame:
    """Our accuracy beside each published point: percent, n seeds here, difference in points."""
    rows = prune_rows(log)
    main = rows[rows["arm"].isin(["main", "magnitude"])]
    ours = mean_interval(main, ["kind", "target"], "test_accuracy")
    ours["sparsity_percent"] = (100 * ours["target"]).round(6)
    table = published(network).merge(ours, on=["kind", "sparsity_percent"])
    here = [percent(*row) for row in table[["mean", "low", "high"]].itertuples(index=False)]
    return pd.DataFrame(
        {
            "kind": table["kind"],
            "pruned": [f"{s:g} %" for s in table["sparsity_percent"]],
            "published by": table["label"],
            "published, %": [f"{100 * a:.1f}" for a in table["accuracy"]],
            "here, %": here,
            "seeds": table["n"],
            "difference, points": [f"{100 * d:+.1f}" for d in table["mean"] - table["accuracy"]],
        }
    )


def benchmark_table() -> pd.DataFrame:
    """What benchmarks/training_step.py found: seconds an epoch, ratio, share of the peak."""
    found = json.loads((ROOT / "benchmarks" / "training_step.json").read_text())
    rows = [
        {
            "network": row["network"],
            "batch": row["batch_size"],
            "dojo, s an epoch": f"{row['dojo_s']:.2f}",
            "DataLoader loop, s": f"{row['loader_s']:.2f} ({row['loader_workers']} workers)",
            "ratio": f"{row['ratio']:.2f}",
            "ceiling": f"{row['ceiling']:.2f}",
            "share of the peak": f"{row['share_of_peak']:.0%}",
        }
        for row in found["rows"]
    ]
    return pd.DataFrame(rows).set_index("network")


def engine_table() -> pd.DataFrame:
    """What benchmarks/engine.py found."""
    found = json.loads((ROOT / "benchmarks" / "engine.json").read_text())
    both = found["parent_50_runs_mb"], found["parent_500_runs_mb"]
    rows = {
        "two workers over one, throughput": f"{found['two_over_one']:.2f} ×",
        "two workers, share of two processes without an engine": f"{found['share_of_two_processes']:.0%}",
        "one worker, time above that of one process without an engine": f"{found['overhead']:+.1%}",
        "a finished run": f"{1000 * found['finished_run_s']:.0f} ms",
        "planning 1,000 and 10,000 runs": f"{found['plan_1000_s']:.2f} s and {found['plan_10000_s']:.2f} s",
        "memory of the parent, 50 and 500 runs": f"{both[0]:.0f} MB and {both[1]:.0f} MB",
    }
    return pd.DataFrame({"measured": rows}).rename_axis("quantity")


def small_work_table() -> pd.DataFrame:
    """What benchmarks/small_work.py found: seconds of an experiment of 20 steps."""
    found = json.loads((ROOT / "benchmarks" / "small_work.json").read_text())
    rows = {
        "by the command line, from nothing, s": ("from_nothing_here_s", "from_nothing_workers_s"),
        "again in one process, beyond its training, s": ("again_here_s", "again_workers_s"),
    }
    columns = ("in the calling process", "on a worker")
    table = {
        name: dict(zip(columns, (f"{found[key]:.2f}" for key in keys), strict=True))
        for name, keys in rows.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("20 steps")


def distill_step_table() -> pd.DataFrame:
    """What benchmarks/distill_step.py found: seconds an epoch without and with a teacher."""
    found = json.loads((ROOT / "benchmarks" / "distill_step.json").read_text())
    rows = [
        {
            "student": row["student"],
            "without a teacher, s an epoch": f"{row['seconds']['none']:.2f}",
            "teacher's logits kept": f"{row['cached_ratio']:.2f} ×",
            "teacher live, both on shifted images": f"{row['live_ratio']:.2f} ×",
        }
        for row in found["rows"]
    ]
    return pd.DataFrame(rows).set_index("student")
