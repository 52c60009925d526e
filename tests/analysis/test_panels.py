"""Figures: what is drawn equals the means of the rows, what is left out is counted, every word has room."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import bands, curve, ends, legend, log_of, made, means, outside, ticks, values_at, words
from scipy import stats

from helpers.analysis import (
    bars,
    baseline,
    dots,
    forest,
    image,
    lines,
    marks,
    rule,
    rules,
    show,
    strip,
    tiles,
)
from helpers.analysis.look import COLOURS, Look
from helpers.analysis.panels import QUICK_NOTE, Panel, figures_of, save
from helpers.analysis.scales import compact
from helpers.foundations.errors import UserError

SHARES = (0, 0.5, 0.9, 0.99)


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Two kinds by four shares, three seeds each."""
    return made(kind=["weight", "unit"], target=SHARES)


@pytest.fixture(scope="module")
def one(rows) -> pd.DataFrame:
    """Weights alone."""
    return rows[rows["kind"].eq("weight")]


def diverged(rows: pd.DataFrame, *runs: str, status: str = "diverged") -> pd.DataFrame:
    """The rows, of which these runs did not end well."""
    is_bad = rows["run"].isin(runs)
    accuracy = rows["test_accuracy"].mask(is_bad)
    return rows.assign(status=rows["status"].mask(is_bad, status), test_accuracy=accuracy)


def interval(values: pd.Series) -> tuple[float, float]:
    """Ends of the 95 % t-interval of shares, by scipy, in percent."""
    found = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return tuple(100 * np.array(found))


def alike(ax: plt.Axes) -> list[tuple]:
    """Looks of the labelled lines of axes."""
    shown = [line for line in ax.lines if not line.get_label().startswith("_")]
    return [(str(line.get_color()), line.get_marker(), line.get_linestyle()) for line in shown]


# What is drawn


def test_lines_go_through_the_means_and_bands_are_t_intervals(rows):
    fig = show("", lines(rows, "target", hue="kind"), log_of(rows))
    (ax,) = fig.axes
    for place, kind in enumerate(("weight", "unit")):
        own = rows[rows["kind"].eq(kind)]
        found = means(own, "target")
        at = {round(1 - share, 9): 100 * mean for share, mean in found.items()}
        assert values_at(curve(ax, kind)) == pytest.approx(at)
        for share, values in own.groupby("target")["test_accuracy"]:
            assert ends(bands(ax)[place])[round(1 - share, 9)] == pytest.approx(interval(values))
    assert ax.xaxis_inverted()
    assert ticks(ax) == pytest.approx({"0": 1, "50": 0.5, "90": 0.1, "99": 0.01})
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pruned (%)", "test accuracy (%)")


def test_whiskers_and_small_dots_are_the_same_interval_and_the_single_seeds(one):
    ax = show("", lines(one, "target", label="a", whisker=True, dots=True), log_of(one)).axes[0]
    (bar,) = ax.containers
    levels = list(one.groupby("target")["test_accuracy"])[::-1]
    for (low, high), (_, values) in zip(bar.lines[2][0].get_segments(), levels, strict=True):
        assert (low[1], high[1]) == pytest.approx(interval(values))
    (cloud,) = (line for line in ax.lines if line.get_marker() == ".")
    assert sorted(cloud.get_ydata()) == pytest.approx(sorted(100 * one["test_accuracy"]))


def test_points_of_a_column_stand_at_the_mean_of_what_differs_by_seed(one):
    ax = show("", lines(one, "params", by="target", label="a"), log_of(one)).axes[0]
    at = one.groupby("target")[["params", "test_accuracy"]].mean()
    expected = dict(zip(at["params"], 100 * at["test_accuracy"], strict=True))
    assert values_at(curve(ax, "a")) == pytest.approx(expected)
    assert ax.get_xscale() == "log"


def test_bars_and_dots_show_means_and_their_numbers(rows):
    some = rows[rows["target"].isin((0.5, 0.9))]
    log = log_of(rows)
    drawn = show("", bars(some, "kind", "test_accuracy", hue="target", numbers=".2f"), log).axes[0]
    heights = {tuple(np.round(100 * some.groupby(["target", "kind"])["test_accuracy"].mean(), 9))}
    found = [patch.get_height() for bars_ in drawn.containers for patch in getattr(bars_, "patches", ())]
    assert sorted(found) == pytest.approx(sorted(*heights))
    assert {text.get_text() for text in drawn.texts} == {f"{height:.2f}" for height in found}
    dotted = show("", dots(some, "test_accuracy", "kind", hue="target", numbers=".2f"), log).axes[0]
    points = {bar.get_label(): bar.lines[0] for bar in dotted.containers}
    for share, label in ((0.5, "50 % pruned"), (0.9, "90 % pruned")):
        own = means(some[some["target"].eq(share)], "kind")
        assert points[label].get_xdata() == pytest.approx([100 * own["weight"], 100 * own["unit"]])
    assert list(ticks(dotted, "y")) == ["weight", "unit"]
    assert dotted.yaxis_inverted()
    assert all(f"{x:.2f}" in words(dotted.figure) for point in points.values() for x in point.get_xdata())


def test_the_order_of_dots_is_the_one_asked_for_and_leaves_out_the_rest(rows):
    some = rows[rows["target"].eq(0.5)].assign(arm=list("aabbcc"), seed=[0, 1] * 3)
    ax = show("", dots(some, "test_accuracy", "arm", order=["c", "a"]), log_of(some)).axes[0]
    assert ticks(ax, "y") == {"c": 0, "a": 1}
    found = means(some, "arm")
    assert ax.containers[0].lines[0].get_xdata() == pytest.approx([100 * found["a"], 100 * found["c"]])
    assert sorted(ax.lines[0].get_xdata()) == pytest.approx(
        sorted(100 * some.loc[some["arm"].ne("b"), "test_accuracy"])
    )


def test_a_baseline_is_a_line_at_its_mean_with_its_interval_and_always_in_view(one):
    dense = made(seeds=range(4)).assign(test_accuracy=[0.7, 0.71, 0.72, 0.73])
    for scale in ("linear", "error"):
        panel = lines(one, "target").set(y_scale=scale) + baseline(dense)
        ax = show("", panel, log_of(one)).axes[0]
        assert ax.lines[-1].get_ydata() == pytest.approx([71.5, 71.5])
        low, high = ax.get_ylim()
        assert low <= 71.5 <= high
        assert "dense 71.50 %" in words(ax.figure)
        (span,) = (patch for patch in ax.patches if patch.get_label() != "_")
        box = span.get_extents().transformed(ax.transData.inverted())
        assert (box.y0, box.y1) == pytest.approx(interval(dense["test_accuracy"]), rel=1e-3)
    hidden = (lines(one, "target") + baseline(dense)).set(y_limits=(90, 96))
    assert outside(show("", hidden, log_of(one))) == []


def test_published_points_are_hollow_and_stand_where_their_numbers_say():
    points = pd.DataFrame({"who": ["A 2020", "B 2021"], "target": [0.95, 1.0], "test_accuracy": [0.9, 0.5]})
    rows = made(target=[0, 0.99])
    panel = lines(rows, "target") + marks(points, "target", "test_accuracy", hue="who", texts="who")
    fig = show("", panel, log_of(rows))
    assert values_at(curve(fig.axes[0], "A 2020")) == pytest.approx({0.05: 90})
    assert curve(fig.axes[0], "A 2020").get_fillstyle() == "none"
    assert values_at(curve(fig.axes[0], "B 2021")) == {round(ticks(fig.axes[0])["100"], 9): 50}
    assert {text.get_text() for text in fig.axes[0].texts} >= {"A 2020", "B 2021"}


def test_what_is_measured_as_a_share_is_in_percent(one):
    rows = one.assign(sparsity=one["target"], step=np.repeat([1, 2, 3, 4], 3))
    log = log_of(rows)
    ax = show("", lines(rows, "step", "sparsity", label="a"), log).axes[0]
    assert values_at(curve(ax, "a")) == pytest.approx({1: 0, 2: 50, 3: 90, 4: 99})
    assert not ax.yaxis_inverted()
    ax = show("", bars(rows, "step", "sparsity"), log).axes[0]
    assert [patch.get_height() for patch in ax.containers[-1].patches] == pytest.approx([0, 50, 90, 99])
    ax = show("", lines(rows, "val_accuracy", by="step", label="a"), log).axes[0]
    assert min(curve(ax, "a").get_xdata()) == pytest.approx(
        100 * min(means(rows, "step", "val_accuracy").values())
    )


def test_differences_below_zero_and_rules_and_strips_are_where_they_say():
    rows = made(step=[1, 2, 3]).assign(difference=lambda frame: frame["test_accuracy"] - 0.98)
    panel = lines(rows, "step", "difference", label="a") + rule(0, "none") + strip(-0.5, 0.5, axis="y")
    ax = show("", panel, log_of(rows)).axes[0]
    assert curve(ax, "a").get_ydata() == pytest.approx(list(100 * rows.groupby("step")["difference"].mean()))
    assert max(curve(ax, "a").get_ydata()) < 0
    assert ax.lines[1].get_ydata() == [0, 0]
    assert [text.get_text() for text in ax.texts] == ["none"]


def test_images_and_tiles_show_the_pixels_that_they_were_given():
    pixels = np.arange(12.0).reshape(3, 4) / 12
    ax = show("", image(pixels, "kept")).axes[0]
    assert ax.images[0].get_array().data == pytest.approx(100 * pixels)
    ax = show("", tiles([pixels, None], ["a", "b"], label="row")).axes[0]
    assert ax.images[0].get_array().data == pytest.approx(pixels)
    assert (len(ax.images), len(ax.patches)) == (1, 1)
    assert list(ticks(ax)) == ["a", "b"]
    with pytest.raises(UserError, match="a caption an image, found 1 for 2"):
        tiles([pixels, None], ["a"])
    assert "none on record" in words(show("", tiles([], [])))


# What is left out


def test_seeds_that_diverged_are_neither_drawn_nor_forgotten(one):
    rows = diverged(one, "run1")
    panels = [lines(rows, "target", label="a"), lines(rows, "params", by="target"), baseline(rows[:3])]
    fig = show("", [panels], log_of(rows))
    expected = 100 * one[one["run"].isin(["run0", "run2"])]["test_accuracy"].mean()
    assert values_at(curve(fig.axes[0], "a"))[1] == pytest.approx(expected)
    assert "n = 2 to 3 seeds, 1 diverged or failed left out; line: mean" in words(fig)


@pytest.mark.parametrize("draw", [
    lambda rows: lines(rows, "target"), lambda rows: dots(rows, "test_accuracy", "target"),
    lambda rows: bars(rows, "target", "test_accuracy"),
])  # fmt: skip
def test_a_point_where_nothing_ended_well_is_counted_though_it_is_not_there(one, draw):
    rows = diverged(one, "run3", "run4", "run5")
    assert "n = 3 seeds, 3 diverged or failed left out" in words(show("", draw(rows), log_of(rows)))
    everything = diverged(rows, *rows["run"], status="failed")
    assert "Nothing ended well: 12 diverged or failed." in words(show("", draw(everything), log_of(rows)))


def test_what_has_not_been_computed_is_no_divergence(one):
    rows = diverged(diverged(one, "run1"), "run2", "run4", status="missing")
    note = "n = 1 to 3 seeds, 1 diverged or failed left out, 2 not computed left out"
    assert note in words(show("", lines(rows, "target"), log_of(rows)))


def test_one_seed_has_no_band_and_the_note_says_so():
    rows = made(seeds=[0], target=SHARES)
    for panel in (lines(rows, "target", label="a"), lines(rows, "target", label="a", whisker=True)):
        fig = show("", panel, log_of(rows))
        assert "n = 1 seed; so no interval." in words(fig)
        assert "mean" not in words(fig)
        assert len(curve(fig.axes[0], "a").get_xdata()) == 4
        fig.draw_without_rendering()
    (band,) = bands(show("", lines(rows, "target"), log_of(rows)).axes[0])
    assert ends(band) == {}


def test_a_curve_of_fewer_seeds_says_so_in_the_legend(rows):
    fewer = rows[~(rows["kind"].eq("unit") & rows["seed"].eq(2))]
    fig = show("", lines(fewer, "target", hue="kind"), log_of(fewer))
    assert legend(fig) == ["weight", "unit (n = 2)"]
    assert curve(fig.axes[0], "unit (n = 2)").get_linewidth() < curve(fig.axes[0], "weight").get_linewidth()


def test_settings_are_not_averaged_over(rows):
    with pytest.raises(UserError, match="kind: expected one value in each group of target"):
        lines(rows, "target")


# Axes


def test_everything_pruned_has_a_place_beyond_in_common_to_all_marks():
    less, more = made(target=[0, 0.9, 1.0]), made(target=[0.5, 0.99, 1.0])
    panel = lines(less, "target", label="a") + lines(more, "target", label="b")
    ax = show("", panel, log_of(less)).axes[0]
    place = ticks(ax)["100"]
    assert place < ticks(ax)["99"]
    assert min(curve(ax, "a").get_xdata()) == min(curve(ax, "b").get_xdata()) == place
    assert sorted(values_at(curve(ax, "b"))) == pytest.approx([place, 0.01, 0.5])
    kept = made(kept=[1, 0.1, 0.0])
    ax = show("", lines(kept, "kept", label="a"), log_of(kept)).axes[0]
    assert ticks(ax)["0"] == min(curve(ax, "a").get_xdata()) < ticks(ax)["10"]
    assert list(ticks(show("", lines(made(target=[1.0]), "target")).axes[0])) == ["100"]


def test_a_run_without_a_value_on_the_axis_has_no_place_on_it(one):
    rows = pd.concat([one, made().assign(target=np.nan, run="none", result=["x", "y", "z"])])
    ax = show("", lines(rows, "target", label="a"), log_of(rows)).axes[0]
    assert sorted(values_at(curve(ax, "a"))) == pytest.approx([0.01, 0.1, 0.5, 1])


def test_only_everything_is_called_100_percent():
    rows = made(target=[0.9, 0.99999])
    assert list(ticks(show("", lines(rows, "target"), log_of(rows)).axes[0])) == ["90", "99.999"]
    fig = show("", dots(rows, "test_accuracy", "arm", hue="target"), log_of(rows))
    assert legend(fig) == ["90 % pruned", "99.999 % pruned"]


def test_panels_that_share_an_axis_show_the_values_of_both(rows):
    low = rows.assign(test_accuracy=rows["test_accuracy"] - 0.6)
    for scale in ("error", "linear"):
        grid = [
            [
                lines(some[some["kind"].eq("unit")], "target").set(share_y=True, y_scale=scale)
                for some in (low, rows)
            ]
        ]
        for ax in show("", grid, log_of(rows)).axes:
            bottom, top = ax.get_ylim()
            assert bottom < 100 * low["test_accuracy"].min() + 1
            assert top > 100 * rows.loc[rows["kind"].eq("unit"), "test_accuracy"].max() - 0.5
    grid = [[None, lines(rows[rows["kind"].eq("unit")], "target").set(share_y=True)]]
    show("", grid, log_of(rows))


def test_limits_and_ticks_are_those_asked_for_and_the_axis_keeps_its_direction(one):
    panel = lines(one, "target").set(
        y_limits=(90, 96), y_ticks=[91, 95], x_limits=(0.005, 1.2), x="share", y="hits"
    )
    ax = show("", panel, log_of(one)).axes[0]
    assert ax.get_ylim() == (90, 96)
    assert list(ax.get_yticks()) == [91, 95]
    assert ax.get_xlim() == (1.2, 0.005)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("share", "hits")
    losses = made(step=[1, 2]).assign(test_loss=0.3)
    with pytest.raises(UserError, match="y_limits: expected both above 0 on a log axis"):
        show("", lines(losses, "step", "test_loss").set(y_limits=(0, 1)), log_of(one))


@pytest.mark.parametrize(
    ("x", "values", "expected"),
    [
        ("lr", [0.001, 0.003], ["0.001", "0.003"]),
        ("lr", [0.001], ["0.001"]),
        ("temperature", [1, 4, 20], ["1", "4", "20"]),
        ("train_size", [600, 6000], ["600", "6,000"]),
        ("macs", [1e3, 1e6], ["1 k", "1 M"]),
        ("sweep.depth", [3], ["3"]),
    ],
)
def test_ticks_are_the_values_in_words(x, values, expected):
    rows = made(**{x: values})
    ax = show("", lines(rows, x, label="a"), log_of(rows)).axes[0]
    assert set(expected) <= set(ticks(ax))
    assert sorted(curve(ax, "a").get_xdata()) == pytest.approx(sorted(values))
    assert outside(ax.figure) == []


def test_the_error_scale_shows_collapse_and_the_last_tenth():
    rows = made(step=[1, 2, 3]).assign(test_accuracy=np.repeat([0.1, 0.9, 0.999], 3))
    ax = show("", lines(rows, "step").set(y_scale="error"), log_of(rows)).axes[0]
    at = [ax.transData.transform((1, y))[1] for y in (10, 90, 99, 99.9)]
    assert at[2] - at[1] == pytest.approx(at[3] - at[2])
    low, high = ax.get_ylim()
    assert low < 10
    assert 99.9 < high < 100


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (431080, "431 k"), (999999, "1 M"), (2.3e6, "2.3 M"), (1e13, "1e+04 G")],
)
def test_compact_numbers(number, text):
    assert compact(number) == text


# Colours, legends, words


def test_one_value_has_one_look_in_all_panels(rows):
    few = made(arm=["b", "a"], target=[0, 0.5])
    grid = [[lines(few[few["arm"].eq("a")], "target", hue="arm"), lines(few, "target", hue="arm")]]
    left, right = show("", grid, log_of(few)).axes
    assert alike(left) == [alike(right)[1]]
    # Arms go in the order of the log, not of the panels.
    assert legend(left.figure) == ["b", "a"]
    assert curve(right, "b").get_color() == COLOURS[0]
    fig = show("", lines(rows[rows["kind"].eq("unit")], "target", hue="kind"), log_of(rows))
    assert curve(fig.axes[0], "unit").get_color() == COLOURS[1]


@pytest.mark.parametrize("n", [4, 30])
def test_no_two_of_twenty_arms_are_alike(n):
    steps = list(range(1, n + 1))
    rows = made(seeds=[0], arm=[f"arm{i}" for i in range(20)], step=steps)
    fig = show("", lines(rows, "step", hue="arm"), log_of(rows))
    assert len(set(alike(fig.axes[0]))) == len(legend(fig)) == 20
    assert outside(fig) == []


def test_numbers_go_from_dark_to_light_and_empty_cells_have_a_name(one):
    rows = made(width=[30.0, np.nan, 10.0, 20.0], target=[0, 0.5])
    for order in (rows, rows.iloc[::-1]):
        grid = [
            [
                lines(order, "target", hue="width"),
                dots(order[order["target"].eq(0)], "test_accuracy", "width"),
            ]
        ]
        fig = show("", grid, log_of(rows))
        lightness = [sum(curve(fig.axes[0], f"width {width}").get_color()[:3]) for width in (10, 20, 30)]
        assert lightness == sorted(lightness)
        empty = means(rows[rows["width"].isna()], "target")
        assert curve(fig.axes[0], "no width").get_ydata() == pytest.approx([100 * empty[0.5], 100 * empty[0]])
        assert sorted(legend(fig)) == ["no width", "width 10", "width 20", "width 30"]
        assert set(ticks(fig.axes[1], "y")) == {"no width", "width 10", "width 20", "width 30"}
    lights = show("", dots(rows[rows["target"].eq(0)], "test_accuracy", "arm", hue="width"), log_of(rows))
    assert legend(lights) == ["width 10", "width 20", "width 30", "no width"]


def test_legends_speak_the_words_of_the_config():
    rows = made(arm=["kd", "ce"], temperature=[4.0, 20.0], target=[0, 0.5])
    labels = {
        "arm": {"values": {"kd": "distilled"}},
        "temperature": {"name": "T", "values": {"20": "hot"}},
        "target": {"values": {"0.5": "half"}},
    }
    log = log_of(rows, labels=labels)
    fig = show("", lines(rows, "target", hue="arm", line="temperature"), log)
    assert legend(fig) == ["distilled, T 4", "distilled, hot", "ce, T 4", "ce, hot"]
    assert curve(fig.axes[0], "ce, hot").get_linestyle() != curve(fig.axes[0], "ce, T 4").get_linestyle()
    assert curve(fig.axes[0], "ce, hot").get_color() == curve(fig.axes[0], "ce, T 4").get_color()
    look = Look([log])
    # A number is called the same, whether pandas has it as an integer or not.
    assert look.label("temperature", 4) == look.label("temperature", np.float64(4)) == "T 4"
    assert [look.label("target", share) for share in (0, 0.5, 0.9)] == ["0 % pruned", "half", "90 % pruned"]
    assert look.label("sweep.lr", 0.1 + 0.2) == "lr 0.3"
    assert look.label("train_size", 10**9) == "train_size 1000000000"
    assert Look().label("arm", "ce") == "ce"


def test_letters_that_matplotlib_reads_as_commands_are_written(rows):
    arms = ["_hidden", "$10 and $20", "a$b$^", "a_b"]
    few = made(arm=arms, target=[0, 0.5])
    fig = show("", lines(few, "target", hue="arm").set(title="$^$"), log_of(few), title="$_$")
    assert outside(fig) == []
    assert [text.strip().replace("\\", "") for text in legend(fig)] == arms
    fig = show("", dots(few[few["target"].eq(0)], "test_accuracy", "arm"), log_of(few))
    assert outside(fig) == []
    assert [text.strip().replace("\\", "") for text in ticks(fig.axes[0], "y")] == arms


def test_every_word_lies_inside_its_figure(rows, tmp_path):
    log, long = log_of(rows), "a name that goes on and on, as names of arms do that say all they stand for"
    many = made(seeds=[0], arm=[f"{long}, {i}" for i in range(40)], target=[0, 0.5])
    endless = made(arm=["x" * 150, "short"], target=[0, 0.5])
    two = endless[endless["target"].eq(0)]
    figures = {
        "lines": show("", lines(rows, "target", hue="kind") + baseline(made()), log, title="a title"),
        "many": show("", lines(many, "target", hue="arm"), log),
        "endless": show(
            "", lines(endless, "target", hue="arm").set(title="y" * 99), log, title=f"{long} " * 3
        ),
        "note": show("", [[lines(endless, "target", hue="arm")] * 3], log, note=f"{long}. " * 8),
        "dots": show("", dots(two, "test_accuracy", "arm", numbers=".1f"), log),
        "bars": show("", bars(two, "arm", "test_accuracy", numbers=".1f"), log),
        "narrow": show("", [[lines(endless, "target", hue="arm")]], log, size=(3, 2.5)),
        "map": show("", image(np.eye(28), "kept").set(title=long)),
        "tiles": show("", [[tiles([np.eye(8)] * 15, range(15), label="90 %\npruned")]] * 2),
    }
    assert {name: far for name, fig in figures.items() if (far := outside(fig))} == {}
    # The check itself finds a word that is outside.
    figures["lines"].text(1.5, 0.5, "far")
    assert outside(figures["lines"]) == ["far"]


def test_limits_chosen_for_full_results_hide_no_quick_ones(rows):
    panel = lines(rows, "target", hue="kind").set(y_limits=(99, 100))
    log = log_of(rows)
    assert show("", panel, log).axes[0].get_ylim() == (99, 100)
    low, high = show("", panel, replace(log, profile="quick")).axes[0].get_ylim()
    assert low < 100 * rows["test_accuracy"].min()
    assert high > 100 * rows["test_accuracy"].max()


def test_a_line_of_one_point_shows():
    rows = made(split=["validation", "test"], epoch=[1])
    ax = show("", lines(rows, "epoch", hue="split"), log_of(rows)).axes[0]
    assert {line.get_marker() for line in ax.lines} == {"o"}


def test_quick_figures_say_so_and_others_do_not(one):
    log = log_of(one)
    quick = replace(log, profile="quick")
    assert QUICK_NOTE in words(show("", lines(one, "target"), quick))
    assert QUICK_NOTE in words(show("", lines(one, "target"), log, quick, title="Both"))
    assert QUICK_NOTE not in words(show("", lines(one, "target"), log, title="Full"))


def test_a_legend_inside_a_panel_is_not_in_the_figures(rows):
    inside = lines(rows, "target", hue="kind").set(legend="lower left")
    fig = show("", inside, log_of(rows))
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["weight", "unit"]
    assert fig.legends == []
    assert "n = 3 seeds" in words(fig)
    assert show("", lines(rows, "target", hue="kind").set(legend=False), log_of(rows)).legends == []


# Mistakes


def test_unknown_words_are_told_with_the_nearest(one):
    with pytest.raises(UserError, match="unknown 'titel'; did you mean 'title'"):
        lines(one, "target").set(titel="a")
    with pytest.raises(UserError, match="y_scale: unknown 'eror'; did you mean 'error'"):
        lines(one, "target").set(y_scale="eror")
    with pytest.raises(UserError, match="x_scale: expected 'pruned', as what is drawn is placed"):
        lines(one, "target").set(x_scale="linear")
    for draw in (
        lambda: lines(one, "targt"), lambda: dots(one, "test_accuracy", "targt"),
        lambda: bars(one, "targt", "test_accuracy"), lambda: marks(one, "targt", "test_accuracy"),
    ):  # fmt: skip
        with pytest.raises(UserError, match="unknown 'targt'; did you mean 'target'"):
            draw()
    with pytest.raises(UserError, match="unknown 'test_acuracy'; did you mean 'test_accuracy'"):
        baseline(one, "test_acuracy")
    for draw in (
        lambda: lines(one, "kind"),
        lambda: lines(one, "target", "kind"),
        lambda: bars(one, "target", "kind"),
    ):
        with pytest.raises(UserError, match="kind: expected a column of numbers, found 'weight'"):
            draw()
    with pytest.raises(UserError, match=r"rows of panels of one length, found \[2, 1\]"):
        show("odd", [[Panel(), Panel()], [Panel()]])
    with pytest.raises(UserError, match="rows of panels"):
        show("none", [])


def test_what_is_no_grid_of_panels_is_told(one):
    panel, log = lines(one, "target"), log_of(one)
    for call, said in (
        (lambda: show("flat", [panel, panel], log), r"^figure flat: .*\[\[left, right\]\], found a Panel"),
        (lambda: show("", log), "found a Results in place of a row"),
        (lambda: show("", [[one]], log), "expected panels, such as lines.*, found a DataFrame"),
        (lambda: show("", panel, "a title"), "expected logs behind the grid, found a str; say title="),
        (lambda: show("", panel, log, heights=[1, 2]), "figure: heights: expected 1, found 2"),
        (lambda: panel + one, "expected a panel to add, such as lines.*, found a DataFrame"),
        (lambda: panel.set(y_limits=3), "panel: y_limits: expected two numbers, low and high, found 3"),
        (lambda: panel.set(legend="lower lef"), "legend: unknown 'lower lef'; did you mean 'lower left'"),
    ):
        with pytest.raises(UserError, match=said):
            call()
    with pytest.raises(UserError, match="column: unknown 'contrst'; did you mean 'contrast'"):
        forest(pd.DataFrame(columns=["contrast", "level", "difference"]), category="contrst")
    with pytest.raises(UserError, match="column: unknown 'targt'; did you mean 'target'"):
        rules(one, "targt", "kind")


def test_a_small_measure_keeps_its_digits_on_the_baseline(one):
    against = baseline(one[:1].assign(test_loss=0.0625), "test_loss")
    fig = show("", lines(one, "target") + against, log_of(one))
    assert "dense 0.0625" in words(fig)


def test_no_rows_are_an_empty_figure_and_no_error(rows):
    none = rows.iloc[:0]
    for panel in (
        lines(none, "target", hue="kind"), dots(none, "test_accuracy", "arm", hue="kind"), baseline(none),
        bars(none, "arm", "test_accuracy", hue="kind"), marks(none, "target", "test_accuracy"), Panel(),
    ):  # fmt: skip
        assert outside(show("", panel, log_of(rows))) == []


def test_a_mark_that_fails_leaves_no_figure_open(one):
    with pytest.raises(AttributeError):
        show("", lines(one, "target", no_such_property=1), log_of(one))
    assert plt.get_fignums() == []


# Files


def test_files_are_the_same_bytes_twice_and_no_rcfile_is_followed(rows, tmp_path):
    def draw(folder):
        grid = [[lines(rows, "target", hue="kind"), tiles([np.eye(8)], ["1"])]]
        return show("a", grid, log_of(rows), folder=tmp_path / folder, title="a")

    draw("one")
    theirs = {
        "image.origin": "lower", "font.size": 20, "axes.facecolor": "black", "savefig.facecolor": "red",
        "figure.autolayout": True, "savefig.bbox": "tight", "lines.linewidth": 9,
    }  # fmt: skip
    with plt.rc_context(theirs):
        save(draw("two"), "a", tmp_path / "three")
        assert plt.rcParams["image.origin"] == "lower"
    for name in ("a.png", "a.pdf"):
        one, two, three = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two", "three"))
        assert one == two == three
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["a.pdf", "a.png"]


def test_a_failure_leaves_the_old_files_as_they_were(one, tmp_path):
    fig = show("old", lines(one, "target"), log_of(one), folder=tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    savefig = fig.savefig

    def fail_at_pdf(file, format, **options):
        file.write_bytes(b"half a file") if format == "pdf" else savefig(file, format=format, **options)
        if format == "pdf":
            raise OSError("disk full")

    fig.text(0.5, 0.5, "new")
    fig.savefig = fail_at_pdf
    with pytest.raises(UserError, match="expected a folder for figures that can be written, found disk full"):
        save(fig, "old", tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_told(one, tmp_path):
    (tmp_path / "taken").write_text("a file")
    for folder in ("taken", "taken/inside"):
        with pytest.raises(UserError, match=rf"{folder}: expected a folder for figures .* folder="):
            show("new", lines(one, "target"), log_of(one), folder=tmp_path / folder)
    with pytest.raises(UserError, match="figure a/b: expected a plain name"):
        show("a/b", lines(one, "target"), log_of(one), folder=tmp_path)


def test_figures_go_beside_the_logs_and_quick_ones_into_a_folder_of_theirs(one, tmp_path):
    log = log_of(one, tmp_path / "logs" / "made.hdf5")
    quick = log_of(one, tmp_path / "logs" / "quick" / "made.hdf5", profile="quick")
    assert figures_of([log, quick]) == tmp_path / "figures"
    assert figures_of([quick, log]) == tmp_path / "figures" / "quick"
    show("a", lines(one, "target"), quick)
    assert (tmp_path / "figures" / "quick" / "a.png").is_file()
    show("", lines(one, "target"), log)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["quick"]
