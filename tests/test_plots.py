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
from conftest import with_settings
from scipy import stats

from helpers.diagrams import architecture, overview_viz
from helpers.errors import UserError
from helpers.plots import (
    QUICK_NOTE,
    base_learning_curves,
    compact_number,
    mean_interval,
    prune_curves,
    save_figure,
)
from helpers.x_ray import (
    confusions,
    digits,
    first_filters,
    input_maps,
    look_rows,
    mistakes,
    weight_histograms,
)

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

    def __post_init__(self) -> None:
        self.results = with_settings(self.results)


def net_records(*layers: tuple) -> list[dict]:
    """Records from (type, output shape, kernel, params, macs) after a 28 × 28 input."""
    records = [{"layer": "input", "type": "input", "output_shape": (1, 28, 28), "params": 0, "macs": 0}]
    for index, (kind, shape, kernel, params, macs) in enumerate(layers):
        record = {
            "layer": f"{kind}_{index}",
            "type": kind,
            "output_shape": shape,
            "params": params,
            "macs": macs,
        }
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
    accuracies = {seed: 1 - dense_error + random.normal(0, 0.0008) for seed in seeds}
    dense_cost = {column: sum(record[column] for record in net) for column in ("params", "macs")}
    arrays = {f"dense{seed}": fake_arrays(net, accuracies[seed], 0.0) for seed in seeds}
    results, curves = [], []
    for kind, arm, sparsity, seed in product(kinds, arms, sparsities, seeds):
        run, is_ok = f"{kind}-{arm}-{sparsity}-{seed}", (kind, arm, sparsity, seed) not in diverged
        accuracy = fake_accuracy(accuracies[seed], kind, arm, sparsity, random) if is_ok else np.nan
        left = max((1 - sparsity) ** (1 if kind == "weight" else 1.8), 1e-5)
        share = {f"{other}_sparsity": sparsity * (kind in ("weight", other)) for other in ("unit", "filter")}
        common = {"experiment": "synthetic", "arm": arm, "seed": seed, "run": run, "round": 0}
        common |= {"sweep.kind": kind, "sweep.sparsity": sparsity, "epochs": 10.0, "wall_s": 30.0}
        train = {"result": f"dense{seed}", "stage": 0, "type": "train", "status": "ok", "sparsity": 0.0}
        train |= {"unit_sparsity": 0.0, "filter_sparsity": 0.0} | dense_cost
        prune = {"result": run, "stage": 1, "type": "prune", "status": "ok" if is_ok else "diverged"}
        prune |= {"sparsity": sparsity} | share | {column: left * dense_cost[column] for column in dense_cost}
        for stage, value in ((train, accuracies[seed]), (prune, accuracy)):
            errors = round(10000 * (1 - np.nan_to_num(value)))
            measured = {"test_accuracy": value, "test_errors": errors, "val_accuracy": value - 0.001}
            results.append(common | stage | {"stage_name": stage["type"]} | measured)
        if is_ok:
            arrays[run] = fake_arrays(net, accuracy, sparsity)
        curves += [{"run": run, "seed": seed, "stage": 0} | point for point in fake_curve(seed, dense_error)]
    return FakeLog("synthetic", profile, pd.DataFrame(results), pd.DataFrame(curves), arrays, net)


def fake_accuracy(dense: float, kind: str, arm: str, sparsity: float, random: np.random.Generator) -> float:
    """Dense up to a knee, chance beyond it."""
    if sparsity == 0:
        return dense
    knee = KNEE[kind] - (0.35 if arm == "random" else 0)
    fall = 1 / (1 + (max(1 - sparsity, 0.002) / max(1 - knee, 0.01)) ** 4.5)
    return dense - (dense - 0.1) * fall + random.normal(0, 0.02) * (fall > 0.05)


def fake_curve(seed: int, dense_error: float) -> list[dict]:
    """Ten epochs of a network that learns."""
    random, points = np.random.default_rng(seed), []
    for step in range(100, 4300, 100):
        decay = 0.25 * math.exp(-3 * (step / 430) ** 0.5) * (1 + random.normal(0, 0.08))
        error = dense_error + decay - 0.0004 * random.random()
        point = {"step": step, "epoch": step / 430, "lr": 1e-3, "wall_s": step / 100}
        for split, factor in (("train", 0.5), ("val", 1.05), ("test", 1.0)):
            point |= {f"{split}_loss": 3 * factor * error, f"{split}_accuracy": 1 - factor * error}
        points.append(point)
    return points


def fake_arrays(net: list[dict], accuracy: float, share: float) -> dict[str, np.ndarray]:
    """What a stage records beside its row."""
    random, edges = np.random.default_rng(0), np.linspace(-0.15, 0.15, 62)
    layers = [record for record in net if record["type"] in ("linear", "conv2d")]
    weights = [random.normal(0, 0.03, min(record["params"], 20000)) for record in layers]
    limits = [np.quantile(np.abs(weight), share) for weight in weights[:-1]] + [0]
    kept = [w[np.abs(w) >= limit].clip(-0.15, 0.15) for w, limit in zip(weights, limits, strict=True)]
    confusion = np.full((10, 10), int(1000 * (1 - accuracy) / 9))
    np.fill_diagonal(confusion, int(1000 * accuracy))
    wrong = np.flatnonzero(np.random.default_rng(3).random(10000) > accuracy)[:100]
    arrays = {
        "confusion": confusion,
        "layer_names": np.array([record["layer"] for record in layers], dtype="S"),
        "keep_by_layer": np.array([1 - share] * (len(layers) - 1) + [1.0]),
        "weight_histogram": np.array([np.histogram(weight, edges)[0] for weight in kept]),
        "histogram_edges": edges,
        "wrong_index": wrong,
        "wrong_prediction": (LABELS[wrong] + 1 + wrong % 9) % 10,
    }
    if layers[0]["type"] == "linear":
        centre = np.exp(-(np.hypot(*np.mgrid[-14:14, -14:14]) ** 2) / 90)
        return arrays | {"input_map": np.clip((1 - share) * (0.4 + 2 * centre), 0, 1)[None]}
    filters = random.normal(0, 0.3, (layers[0]["output_shape"][0], 1, 5, 5))
    filters[np.argsort(np.abs(filters).sum((1, 2, 3)))[: round(share * len(filters))]] = 0
    return arrays | {"first_filters": filters}


@pytest.fixture(scope="module")
def mlp() -> FakeLog:
    return make_log(sparsities=(0, 0.5, 0.9, 0.99), seeds=range(3))


@pytest.fixture(scope="module")
def lenet() -> FakeLog:
    return make_log(("weight", "filter"), net=LENET, sparsities=(0, 0.5, 0.9), seeds=range(3))


@pytest.fixture(scope="module")
def quick() -> FakeLog:
    return make_log(sparsities=(0, 0.9), seeds=range(2), profile="quick")


def every_figure(log: FakeLog) -> dict[str, plt.Figure]:
    """All figures that this log's network allows."""
    figures = {
        "base_learning_curves": base_learning_curves({"Net": log}),
        "prune_curves": prune_curves({"Net": log}),
        "overview_viz": overview_viz({"Net": log, "Again": log}),
        "weight_histograms": weight_histograms(log),
        "mistakes": mistakes(log, IMAGES, LABELS, sparsities=[0.9]),
        "confusions": confusions(log),
    }
    if log.net is MLP:
        return figures | {"input_maps": input_maps(log, sparsities=[0.9])}
    return figures | {"first_filters": first_filters(log, sparsities=[0.5])}


def texts(fig: plt.Figure) -> str:
    """Everything written in a figure."""
    return "\n".join(text.get_text() for text in fig.findobj(matplotlib.text.Text))


def line(ax: plt.Axes, label: str) -> matplotlib.lines.Line2D:
    """The one line of this label."""
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def test_mean_interval_equals_scipy_and_hand():
    frame = pd.DataFrame({"arm": ["a"] * 3 + ["b"], "seed": [0, 1, 2, 0], "value": [0.90, 0.92, 0.94, 0.5]})
    table = mean_interval(frame, "arm", "value").set_index("arm")
    low, high = stats.t.interval(0.95, 2, loc=0.92, scale=stats.sem([0.90, 0.92, 0.94]))
    assert table.loc["a", ["mean", "low", "high"]].to_numpy() == pytest.approx([0.92, low, high])
    assert table.loc["a", "high"] - 0.92 == pytest.approx(4.302653 * 0.02 / math.sqrt(3), rel=1e-6)
    assert table.loc["b", "mean"] == 0.5
    assert table.loc["b", "n"] == 1
    assert table.loc["b", ["low", "high"]].isna().all()


def test_mean_interval_leaves_out_and_counts_what_diverged():
    frame = pd.DataFrame({"status": ["ok", "ok", "diverged", "failed"], "value": [1.0, 3.0, 1e9, np.nan]})
    frame = frame.assign(arm=["a", "a", "a", "b"], kind=[np.nan, np.nan, np.nan, "unit"])
    table = mean_interval(frame, ["arm", "kind"], "value").set_index("arm")
    assert table.loc["a", ["mean", "n", "excluded"]].tolist() == [2.0, 2, 1]
    assert table.loc["b", ["n", "excluded"]].tolist() == [0, 1]
    assert math.isnan(table.loc["b", "mean"])


@pytest.mark.parametrize("kind", ["weight", "unit"])
@pytest.mark.parametrize("arm", ["magnitude", "random"])
def test_prune_curves_draw_the_means_of_the_log(mlp, kind, arm):
    share, params, *zoomed = prune_curves({"MLP": mlp}).axes
    rows = mlp.results[(mlp.results["type"] == "prune") & (mlp.results["arm"] == arm)]
    means = rows[rows["sweep.kind"] == kind].groupby("sweep.sparsity").mean(numeric_only=True)
    for ax in (share, zoomed[0]):
        drawn = dict(zip(*line(ax, f"{kind}, {arm}").get_data(), strict=True))
        assert sorted(drawn) == pytest.approx([0.01, 0.1, 0.5, 1])
        assert [drawn[x] for x in sorted(drawn, reverse=True)] == pytest.approx(100 * means["test_accuracy"])
    x = np.sort(line(params, f"{kind}, {arm}").get_xdata())[::-1]
    assert x == pytest.approx(means["params"].to_numpy())
    assert line(share, f"{kind}, {arm}").get_linestyle() == ("--" if arm == "random" else "-")


def test_prune_curves_put_the_realised_share_where_it_differs_from_the_nominal(mlp):
    results = mlp.results.assign(unit_sparsity=mlp.results["unit_sparsity"] * 0.8)
    fig = prune_curves({"MLP": FakeLog("a", "full", results, mlp.curves, {}, MLP)})
    assert min(line(fig.axes[0], "unit, magnitude").get_xdata()) == pytest.approx(1 - 0.8 * 0.99)
    assert min(line(fig.axes[0], "weight, magnitude").get_xdata()) == pytest.approx(0.01)


def test_diverged_seeds_are_neither_drawn_nor_forgotten():
    log = make_log(sparsities=(0, 0.9), seeds=range(3), diverged=[("weight", "magnitude", 0.9, 1)])
    fig = prune_curves({"MLP": log})
    rows = log.results[log.results["run"].isin(["weight-magnitude-0.9-0", "weight-magnitude-0.9-2"])]
    expected = 100 * rows[rows["type"] == "prune"]["test_accuracy"].mean()
    assert line(fig.axes[0], "weight, magnitude").get_ydata()[0] == pytest.approx(expected)
    assert "n = 2 to 3 seeds, 1 diverged or failed left out" in texts(fig)
    is_cut_short = (log.results["status"] == "ok") & (log.results["run"] == "unit-random-0.9-0")
    results = log.results[~(is_cut_short & (log.results["type"] == "prune"))].copy()
    results.loc[is_cut_short, "status"] = "failed"
    cut_short = FakeLog("a", "full", results, log.curves, {}, MLP)
    assert "2 diverged or failed left out" in texts(prune_curves({"MLP": cut_short}))


def test_learning_curves_count_a_base_run_once_however_many_runs_start_from_it(mlp):
    is_kept = ~mlp.results["run"].str.endswith("-0") | (mlp.results["run"] == "unit-random-0.9-0")
    results = mlp.results[is_kept]
    curves = mlp.curves[mlp.curves["run"].isin(results["run"])]
    fig = base_learning_curves({"MLP": FakeLog("a", "full", results, curves, {}, MLP)})
    once = curves.drop_duplicates(["seed", "step"]).groupby("epoch").mean(numeric_only=True)
    test, loss = fig.axes[0].lines[1], fig.axes[1].lines[0]
    assert test.get_ydata() == pytest.approx(100 * (1 - once["test_accuracy"].to_numpy()))
    assert loss.get_ydata() == pytest.approx(once["train_loss"].to_numpy())
    assert test.get_xdata() == pytest.approx(once.index.to_numpy())
    assert "n = 3 seeds;" in texts(fig)


def test_learning_curves_without_validation_draw_the_test_curve_alone(mlp):
    curves = mlp.curves.assign(val_accuracy=np.nan, val_loss=np.nan)
    fig = base_learning_curves({"MLP": FakeLog("a", "full", mlp.results, curves, {}, MLP)})
    assert [line.get_label().split(",")[0] for line in fig.axes[0].lines] == ["test"]


def test_quick_figures_say_so_and_others_do_not(mlp, lenet, quick):
    for log in (mlp, lenet, quick):
        for name, fig in every_figure(log).items():
            assert (QUICK_NOTE in texts(fig)) == (log is quick), name
    assert QUICK_NOTE in texts(prune_curves({"full": mlp, "quick": quick}))


def test_every_axes_with_data_is_labelled_and_no_figure_stays_open(mlp, lenet):
    for log in (mlp, lenet):
        for name, fig in every_figure(log).items():
            for ax in fig.axes:
                is_row_of_tiles = name in ("mistakes", "first_filters")
                if ax.axison and ax.has_data() and ax.get_label() != "<colorbar>":
                    assert ax.get_ylabel(), name
                    assert is_row_of_tiles or ax.get_xlabel(), name
                    assert is_row_of_tiles or ax.get_title(), name
            assert not is_row_of_tiles or fig.axes[-1].get_xlabel(), name
    assert plt.get_fignums() == []


def test_one_seed_has_no_band_and_the_note_says_so():
    log = make_log(sparsities=(0, 0.9), seeds=[0], kinds=("filter",), arms=("main",), net=LENET)
    fig = prune_curves({"LeNet": log})
    assert "n = 1 seed, so no interval." in texts(fig)
    assert line(fig.axes[0], "filter").get_xdata() == pytest.approx([0.1, 1])
    assert fig.axes[0].get_xlabel() == "filters pruned (%)"
    fig.draw_without_rendering()
    base_learning_curves({"LeNet": log}).draw_without_rendering()


def test_everything_pruned_has_a_place_beyond_the_last_point():
    fig = prune_curves({"MLP": make_log(sparsities=(0, 0.9, 1), seeds=[0], arms=("main",))})
    ticks = dict(
        zip([t.get_text() for t in fig.axes[0].get_xticklabels()], fig.axes[0].get_xticks(), strict=True)
    )
    assert ticks["100"] < ticks["90"]
    assert min(line(fig.axes[0], "weight").get_xdata()) == ticks["100"]


def test_published_points_are_hollow_and_stay_with_their_log(mlp, lenet):
    reference = pd.DataFrame({"label": ["Someone 2020"] * 2, "kind": ["weight", "unit"], "log": "MLP"})
    reference = reference.assign(sparsity_percent=[95, 50], accuracy=[0.856, 0.783])
    fig = prune_curves({"MLP": mlp, "LeNet": lenet}, reference)
    point = line(fig.axes[0], "Someone 2020, weight")
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((0.05, 85.6))
    assert point.get_markerfacecolor() == "none"
    assert not [drawn for drawn in fig.axes[1].lines if "Someone" in drawn.get_label()]
    with pytest.raises(UserError, match="fraction"):
        prune_curves({"MLP": mlp}, reference.assign(accuracy=85.6))


def test_pruning_curves_refuse_to_average_over_another_axis(mlp):
    results = mlp.results.assign(**{"sweep.width": np.arange(len(mlp.results)) // 2 % 2})
    with pytest.raises(UserError, match=r"sweep\.width"):
        prune_curves({"MLP": FakeLog("a", "full", results, mlp.curves, {}, MLP)})


def test_save_figure_writes_the_same_bytes_twice(mlp, tmp_path):
    first = save_figure(prune_curves({"MLP": mlp}), "prune", tmp_path / "a")
    second = save_figure(prune_curves({"MLP": mlp}), "prune", tmp_path / "b")
    assert first == tmp_path / "a" / "prune.png"
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".pdf").read_bytes() == second.with_suffix(".pdf").read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == ["prune.pdf", "prune.png"]


def test_save_figure_that_fails_leaves_the_old_files(tmp_path):
    fig = plt.Figure()
    path = save_figure(fig, "old", tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    fig.text(0.5, 0.5, "new")
    savefig = fig.savefig

    def fail_at_pdf(file, format, **options):
        file.write_bytes(b"half a file") if format == "pdf" else savefig(file, format=format, **options)
        if format == "pdf":
            raise OSError("disk full")

    fig.savefig = fail_at_pdf
    with pytest.raises(OSError, match="disk full"):
        save_figure(fig, "old", tmp_path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_weight_histograms_draw_the_recorded_counts(mlp):
    fig = weight_histograms(mlp, seed=1, kind="weight", sparsity=0.9)
    arrays = mlp.arrays["weight-magnitude-0.9-1"]
    assert len(fig.axes) == 5
    for i, ax in enumerate(fig.axes):
        dense, pruned = (patch.get_data() for patch in ax.patches)
        assert (pruned.values == arrays["weight_histogram"][i]).all()
        assert (dense.values == mlp.arrays["dense1"]["weight_histogram"][i]).all()
        assert (pruned.edges == arrays["histogram_edges"]).all()
    assert fig.axes[0].get_title() == "linear_1: 10 % left"


def test_first_filters_hatch_what_is_pruned(lenet):
    fig = first_filters(lenet, sparsities=[0.5])
    dense, pruned = fig.axes
    assert (len(dense.images), len(dense.patches)) == (20, 0)
    assert (len(pruned.images), len(pruned.patches)) == (10, 10)
    kept = lenet.arrays["filter-magnitude-0.5-0"]["first_filters"]
    assert pruned.images[0].get_array().data == pytest.approx(kept[kept.any((1, 2, 3))][0, 0])


def test_input_maps_draw_the_recorded_share(mlp):
    fig = input_maps(mlp, seed=2, sparsities=[0.9, 0.5])
    drawn = [ax.images[0].get_array().data for ax in fig.axes if ax.get_label() != "<colorbar>"]
    assert drawn[0] == pytest.approx(mlp.arrays["weight-magnitude-0.9-2"]["input_map"][0])
    assert len(drawn) == 2


def test_mistakes_are_new_ones_with_true_and_predicted_class(mlp):
    arrays = mlp.arrays | {
        "dense0": mlp.arrays["dense0"] | {"wrong_index": np.array([3, 50])},
        "weight-magnitude-0.9-0": mlp.arrays["weight-magnitude-0.9-0"]
        | {"wrong_index": np.array([3, 7, 20, 60]), "wrong_prediction": np.array([1, 2, 3, 4])},
    }

    def captions(dense_errors: int) -> list[str]:
        results = mlp.results.copy()
        results.loc[results["result"] == "dense0", "test_errors"] = dense_errors
        log = FakeLog("a", "full", results, mlp.curves, arrays, MLP)
        fig = mistakes(log, IMAGES, LABELS, sparsities=[0.9])
        assert fig.axes[0].images[0].get_array().data == pytest.approx(IMAGES[7, 0])
        return [label.get_text() for label in fig.axes[0].get_xticklabels()]

    expected = [f"{LABELS[i]} → {p}" for i, p in ((7, 2), (20, 3), (60, 4))]
    assert captions(dense_errors=2) == expected
    assert captions(dense_errors=170) == expected[:2]  # 60 lies beyond what the dense record covers


def test_confusions_add_up_seeds_and_are_shares_of_the_true_class(mlp):
    fig = confusions(mlp)
    images = [ax.images[0] for ax in fig.axes if ax.get_label() != "<colorbar>"]
    counts = sum(mlp.arrays[f"unit-magnitude-0.99-{seed}"]["confusion"] for seed in range(3))
    assert images[2].get_array().data == pytest.approx(100 * counts / counts.sum(1, keepdims=True))
    assert [ax.get_title() for ax in fig.axes[:2]] == ["dense (n = 3)", "99 % of weights pruned (n = 3)"]


def test_a_look_at_what_is_not_recorded_says_what_is(mlp, lenet):
    with pytest.raises(UserError, match=r"out of \[0.*0\.5.*0\.9.*0\.99.*found \[0\.33\]"):
        weight_histograms(mlp, sparsity=0.33)
    with pytest.raises(UserError, match="filter pruning, arm magnitude, seed 0: expected a finished run"):
        first_filters(mlp)
    with pytest.raises(UserError, match=r"expected the array 'input_map', found .*'first_filters'"):
        input_maps(lenet)
    with pytest.raises(UserError, match="out of"):
        confusions(mlp, sparsity=0.33)


def test_without_sparsities_a_look_takes_four_from_one_half_up():
    log = make_log(seeds=[0], kinds=("weight",), arms=("random", "magnitude"))
    rows = look_rows(log, 0, "weight")
    assert list(rows) == [0, 0.5, 0.7, 0.95, 0.99]
    assert rows[0]["result"] == "dense0"
    assert rows[0.7]["result"] == "weight-magnitude-0.7-0"


@pytest.mark.parametrize(
    ("net", "labels", "totals"),
    [
        (
            MLP,
            ["input\n28×28", "linear\n1000", "linear\n10"],
            "2.39 M parameters · 2.39 M multiply-accumulates",
        ),
        (LENET, ["conv\n20@5\n24×24", "pool\n12×12", "linear\n500"], "431 k parameters · 2.29 M multiply"),
        (CNN, ["conv\n128@3\n7×7", "linear\n500\n+drop"], "965 k parameters · 29.8 M multiply-accumulates"),
    ],
)
def test_architecture_names_layers_and_totals(net, labels, totals):
    ax = plt.Figure(figsize=(5, 2)).add_subplot()
    architecture(ax, net, "Net")
    written = [text.get_text() for text in ax.texts]
    assert set(labels) <= set(written)
    assert written[-1].startswith(totals)
    n_boxes = sum(record["type"] not in ("flatten", "dropout") for record in net)
    assert len(written) == n_boxes + 1
    assert len(ax.patches) == 7 * n_boxes - 1  # six faces a box, a fan between two


def test_architecture_without_kernel_and_with_a_stride():
    ax = plt.Figure().add_subplot()
    conv = {"layer": "a", "type": "conv2d", "output_shape": (8, 14, 14), "params": 1, "macs": 1}
    norm = {"layer": "b", "type": "batch_norm", "output_shape": (8, 14, 14), "params": 1, "macs": 0}
    architecture(ax, [MLP[0], conv, norm, conv | {"kernel": 3, "stride": 2}, MLP[-1]], "Net")
    assert [text.get_text() for text in ax.texts][1:3] == ["conv\n8\n14×14\n+norm", "conv/2\n8@3\n14×14"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (431080, "431 k"), (999999, "1 M"), (2.3e6, "2.3 M"), (1e13, "1e+04 G")],
)
def test_compact_number(number, text):
    assert compact_number(number) == text


def test_figures_do_not_follow_the_users_matplotlibrc(tmp_path):
    """`image.origin: lower` would turn digits upside down."""
    save_figure(digits(IMAGES, LABELS), "plain", tmp_path)
    theirs = {
        "image.origin": "lower", "font.size": 20, "axes.facecolor": "black", "savefig.facecolor": "red",
        "figure.autolayout": True, "savefig.bbox": "tight", "image.cmap": "jet",
    }  # fmt: skip
    with plt.rc_context(theirs):
        save_figure(digits(IMAGES, LABELS), "theirs", tmp_path)
        assert plt.rcParams["image.origin"] == "lower"
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"plain.{suffix}").read_bytes() == (tmp_path / f"theirs.{suffix}").read_bytes()
