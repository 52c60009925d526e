"""Tables of recovery, made from logs: accuracy by arm, verdicts, published errors, compaction."""

from collections.abc import Iterable, Sequence

import pandas as pd

from .comparison import arm_rows, arm_table, final_rows, interval, paired_difference
from .recovery_plots import arm_style
from .report import PUBLISHED, percent
from .utils import Results


def recovery_table(log: Results, kind: str, arms: Sequence[str]) -> pd.DataFrame:
    """Test accuracy in percent with its interval: a row a sparsity of this kind, a column an arm."""
    table = arm_table(log)
    table = table[(table["kind"] == kind) & table["arm"].isin(arms) & table["target"].notna()]
    table = table.assign(
        text=[percent(*row) for row in table[["mean", "low", "high"]].itertuples(index=False)]
    )
    wide = table.pivot(index="target", columns="arm", values="text")
    wide = wide[[arm for arm in arms if arm in wide]].rename(columns=lambda arm: arm_style(arm)[2])
    wide.index = pd.Index([f"{100 * sparsity:g} %" for sparsity in wide.index], name=f"{kind}s pruned")
    return wide.rename_axis(columns=None)


def verdict_table(log: Results, arms: Sequence[str]) -> pd.DataFrame:
    """A row an arm, kind and sparsity: accuracy, paired difference to the dense base, and what that says.

    Intervals are of 95 % each, not corrected for the number of rows.
    """
    table = arm_table(log)
    table = table[table["arm"].isin(arms)]
    columns = ["difference", "difference_low", "difference_high"]
    longer = [_against(log, row, "dense_long") for _, row in table.iterrows()]
    return pd.DataFrame(
        {
            "arm": [arm_style(arm)[2] for arm in table["arm"]],
            "pruned": [pruned(*row) for row in table[["kind", "target"]].itertuples(index=False)],
            "effective parameters": [f"{params:,.0f}" for params in table["params"]],
            "accuracy, %": [percent(*row) for row in table[["mean", "low", "high"]].itertuples(index=False)],
            "difference to dense, points": [points(*row) for row in table[columns].itertuples(index=False)],
            "verdict": table["verdict"].to_list(),
            "to dense trained longer, points": longer,
            "seeds": table["n"].to_list(),
        }
    )


def _against(log: Results, row: pd.Series, control: str) -> str:
    """Paired difference of a row of `arm_table` to an arm without sparsities, in points; "" for itself."""
    rows = arm_rows(log)
    if row["arm"] == control or control not in set(rows["arm"]):
        return ""
    is_row = (rows["arm"] == row["arm"]) & (rows["kind"] == row["kind"]) & (rows["target"] == row["target"])
    both = rows[is_row | (rows["arm"] == control)].assign(group="")
    gap = paired_difference(both, row["arm"], control, ["group"]).iloc[0]
    return points(gap["mean"], gap["low"], gap["high"])


def pruned(kind: str, target: float) -> str:
    """'99 % of weights'; '' for what is not pruned."""
    return "" if pd.isna(target) else f"{100 * target:g} % of {kind}s"


def points(mean: float, low: float, high: float) -> str:
    """'-0.12 ± 0.08': a mean difference of shares and half its 95 % interval, in points."""
    half = "" if pd.isna(low) else f" ± {50 * (high - low):.2f}"
    return f"{100 * mean:+.2f}{half}"


def points_of(gaps: pd.Series) -> str:
    """The same of paired differences, one a seed; "" where there is none."""
    return "" if gaps.isna().all() else points(*interval(gaps)[:3])


def published_errors(names: Iterable[str]) -> pd.DataFrame:
    """Published errors after retraining of the networks of these names: log (the name), label, method, …"""
    table = pd.read_csv(PUBLISHED).rename(columns={"source": "label"})
    table = table[table["retrained"].isin(["yes", "from scratch"]) & table["error_percent"].notna()]
    found = [table[table["network"] == NETWORKS[name]].assign(log=name) for name in names]
    return pd.concat(found, ignore_index=True)


NETWORKS = {"LeNet-300-100": "lenet-300-100", "LeNet-5": "lenet-5-caffe"}
"""What data/published.csv calls them."""


def lenet_table(logs: dict[str, Results], arms: Sequence[str] = ("finetune", "gradual")) -> pd.DataFrame:
    """A row a published error of weight pruning; each arm's at the same sparsity of all weights."""
    rows = []
    points = published_errors(logs).query("granularity == 'weight'")
    points = points.sort_values("sparsity_percent").sort_values(
        "log", kind="stable", key=lambda c: c.map(list(logs).index)
    )
    for _, point in points.iterrows():
        table = arm_table(logs[point["log"]])
        is_same = (table["target"] - point["sparsity_percent"] / 100).abs() < 1e-9
        found = table[is_same & (table["kind"] == "weight")].set_index("arm")
        if found.empty:
            continue
        row = {
            "network": point["log"],
            "all weights pruned": f"{point['sparsity_percent']:g} %",
            "published by": f"{point['label']}, {point['method']}",
            "published error, %": f"{point['error_percent']:.2f}",
        }
        for arm in (arm for arm in arms if arm in found.index):
            row[f"{arm_style(arm)[2]}, error %"] = error(found.loc[arm])
        rows.append(row | {"seeds": found["n"].max()})
    if not rows:
        return pd.DataFrame(rows)
    return pd.DataFrame(rows).fillna("").set_index("network")


def error(row: pd.Series) -> str:
    """'1.42 ± 0.08': the error of a row of `arm_table`, in percent."""
    return percent(1 - row["mean"], 1 - row["high"], 1 - row["low"])


def repair_comparison(log: Results, arm: str = "iterative_refit") -> pd.DataFrame:
    """A row a published result without retraining: accuracy there and, in percent, ours after repair."""
    table = pd.read_csv(PUBLISHED)
    table = table[(table["network"] == "mlp-1000-1000-500-200") & (table["retrained"] == "no")]
    table = table[table["method"].str.startswith("magnitude")]
    ours = arm_table(log).query("arm == @arm")
    rows = []
    for _, point in table[table["dataset"] == "mnist"].iterrows():
        is_same = (ours["target"] - point["sparsity_percent"] / 100).abs() < 1e-9
        for _, found in ours[is_same & (ours["kind"] == point["granularity"])].iterrows():
            row = {
                "pruned": pruned(found["kind"], found["target"]),
                "published by": f"{point['source']}, {point['method']}",
                "its dense, %": f"{100 - point['reference_error_percent']:.1f}",
                "published, %": f"{100 - point['error_percent']:.1f}",
                "here, %": percent(found["mean"], found["low"], found["high"]),
                "seeds": str(found["n"]),
            }
            rows.append((-len(found["kind"]), found["target"], row))
    return pd.DataFrame([row for *_, row in sorted(rows, key=lambda entry: entry[:2])])


def filter_table(log: Results) -> pd.DataFrame:
    """LeNet-5 with whole filters and units removed, arm by arm, and the published networks of that kind."""
    table = arm_table(log)
    rows = final_rows(log, axes=["removed"])
    table = table[table["arm"].isin(rows.loc[rows["removed"].notna(), "arm"])]
    ours = [
        {
            "network": arm_style(row["arm"])[2],
            "MACs": f"{row['macs']:,.0f}",
            "error, %": error(row),
            "seeds": str(row["n"]),
        }
        for _, row in table.iterrows()
    ]
    points = published_errors(["LeNet-5"]).query("granularity == 'unit and filter'")
    theirs = [
        {
            "network": f"{point['label']}, {point['method']}: {point['setting']}",
            "error, %": f"{point['error_percent']:.2f}",
        }
        for _, point in points.iterrows()
    ]
    return pd.DataFrame(ours + theirs).set_index("network")


def compaction_table(logs: dict[str, Results]) -> pd.DataFrame:
    """Largest change of a test logit by compaction: a row an arm, a column a log."""
    found = {}
    for name, log in logs.items():
        rows = log.results[log.results["type"] == "compact"]
        found[name] = rows.groupby("arm", sort=False)["compact_difference"].max()
    return pd.DataFrame(found).map(lambda value: "" if pd.isna(value) else f"{value:.1e}")
