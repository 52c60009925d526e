"""A look inside: what is drawn are the recorded arrays, and the images are the data set's own."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import legend, log_of, made, outside, ticks, words

from helpers.analysis import confusion, digits, filters, histograms, idx_images, input_maps, mistakes, show
from helpers.analysis.inspection import _row_label
from helpers.foundations.data_files import DATA_ROOT, read_files
from helpers.foundations.errors import UserError
from helpers.utils import Results

IMAGES = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 100)


def recorded(share: float, seed: int, wrong: list[int]) -> dict[str, np.ndarray]:
    """What a stage records of a network with two layers, of which a share is pruned."""
    random = np.random.default_rng([int(100 * share), seed])
    kept = np.arange(4) >= round(4 * share)
    counts = random.integers(0, 5, (10, 10)) + np.diag(np.full(10, 50))
    counts[7] = 0  # no image of this class
    return {
        "layer_names": np.array(["linear_1", "linear_2"], dtype="S"),
        "keep_by_layer": np.array([1 - share, 1.0]),
        "weight_histogram": random.integers(1, 99, (2, 6)),
        "histogram_edges": np.linspace(-0.3, 0.3, 7),
        "first_filters": random.normal(size=(4, 3, 5, 5)) * kept[:, None, None, None],
        "input_map": random.random((2, 28, 28)),
        "confusion": counts,
        "wrong_index": np.array(wrong),
        "wrong_prediction": (LABELS[wrong] + 1) % 10,
    }


@pytest.fixture(scope="module")
def log() -> Results:
    """The dense network and two that are pruned, of two seeds."""
    rows = made(seeds=[0, 1], target=[0, 0.5, 0.9])
    wrong = {0: [3, 50], 0.5: [3, 7, 20, 60, 99], 0.9: []}
    errors = rows["target"].map({share: float(len(found)) for share, found in wrong.items()})
    arrays = {row.run: recorded(row.target, row.seed, wrong[row.target]) for row in rows.itertuples()}
    return log_of(rows.assign(test_errors=errors), arrays=arrays)


def at(log: Results, *shares: float, seed: int = 0) -> pd.DataFrame:
    """The rows of a seed at these shares."""
    rows = log.results[log.results["seed"].eq(seed)]
    return rows.set_index("target", drop=False).loc[list(shares)]


def test_histograms_draw_the_recorded_counts_of_both_networks(log):
    before, after = at(log, 0, 0.9, seed=1).iloc
    fig = show("", [histograms(log, before, after)], log)
    assert [ax.get_title() for ax in fig.axes] == ["linear_1: 10 % left", "linear_2: 100 % left"]
    for layer, ax in enumerate(fig.axes):
        for patch, row in zip(ax.patches, (before, after), strict=True):
            arrays = log.arrays[row["run"]]
            assert (patch.get_data().values == arrays["weight_histogram"][layer]).all()
            assert (patch.get_data().edges == arrays["histogram_edges"]).all()
        assert ax.get_yscale() == "log"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight", "weights a bin")
    assert legend(fig) == ["before pruning", "after pruning"]
    assert outside(fig) == []


def test_filters_hatch_what_is_pruned_and_have_one_colour_scale(log):
    fig = show("", filters(log, at(log, 0, 0.5)), log)
    dense, pruned = fig.axes
    assert (len(dense.images), len(dense.patches)) == (4, 0)
    assert (len(pruned.images), len(pruned.patches)) == (2, 2)
    weights = log.arrays[at(log, 0.5).iloc[0]["run"]]["first_filters"].mean(1)
    assert pruned.images[0].get_array().data == pytest.approx(weights[2])
    limit = np.abs(log.arrays[at(log, 0).iloc[0]["run"]]["first_filters"].mean(1)).max()
    assert {image.get_clim() for ax in fig.axes for image in ax.images} == {(-limit, limit)}
    assert [ax.get_ylabel() for ax in fig.axes] == ["dense", "50 %\npruned"]
    assert list(ticks(pruned)) == ["1", "2", "3", "4"]
    assert outside(fig) == []


def test_filters_of_a_network_of_which_nothing_is_left_are_hatched(log):
    arrays = {key: own | {"first_filters": np.zeros((4, 1, 5, 5))} for key, own in log.arrays.items()}
    empty = log_of(log.results, arrays=arrays)
    (ax,) = show("", filters(empty, at(log, 0.9)), log).axes
    assert (len(ax.images), len(ax.patches)) == (0, 4)


def test_input_maps_draw_the_mean_share_of_the_channels(log):
    rows = at(log, 0.5, 0.9, seed=1)
    fig = show("", [input_maps(log, rows)], log)
    maps = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    for ax, run in zip(maps, rows["run"], strict=True):
        assert ax.images[0].get_array().data == pytest.approx(100 * log.arrays[run]["input_map"].mean(0))
    assert [ax.get_title() for ax in maps] == ["50 % pruned", "90 % pruned"]
    assert outside(fig) == []


def test_mistakes_are_new_ones_with_true_and_predicted_class(log):
    before, rows = at(log, 0).iloc[0], at(log, 0.5, 0.9)
    fig = show("", mistakes(log, before, rows, IMAGES, LABELS), log)
    some, none = fig.axes
    captions = [text.get_text() for text in some.get_xticklabels()]
    assert captions == [f"{LABELS[i]} → {(LABELS[i] + 1) % 10}" for i in (7, 20, 60, 99)]
    for image, i in zip(some.images, (7, 20, 60, 99), strict=True):
        assert (image.get_array().data == IMAGES[i]).all()
    assert some.get_ylabel() == "50 %\npruned\n5 errors"
    assert [text.get_text() for text in none.texts] == ["none on record"]
    # Beyond the last mistake on record nobody knows what the dense network gets wrong.
    more = pd.Series(before.to_dict() | {"test_errors": 9})
    assert len(show("", mistakes(log, more, rows, IMAGES, LABELS), log).axes[0].images) == 2
    few = show("", mistakes(log, before, rows, IMAGES, LABELS, columns=3), log).axes[0]
    assert len(few.images) == 3


def test_confusions_add_up_rows_and_are_shares_of_the_true_class(log):
    rows = log.results[log.results["target"].eq(0.9)]
    fig = show("", confusion(log, rows).set(title="90 %"), log)
    counts = sum(log.arrays[run]["confusion"] for run in rows["run"])
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    assert fig.axes[0].images[0].get_array().data == pytest.approx(shares)
    assert f"{shares[0, 0]:.0f}" in words(fig)
    assert len(fig.axes[0].texts) == (shares >= 0.5).sum()


def test_what_is_not_recorded_is_told(log):
    arrays = {key: {"confusion": own["confusion"]} for key, own in log.arrays.items()}
    bare = log_of(log.results, arrays=arrays)
    for draw in (
        lambda: input_maps(bare, at(log, 0.5)), lambda: filters(bare, at(log, 0.5)),
        lambda: histograms(bare, *at(log, 0, 0.9).iloc),
    ):  # fmt: skip
        with pytest.raises(
            UserError, match=r"made: result run\d: array: unknown .* expected one of confusion"
        ):
            draw()
    none = log.results.iloc[:0]
    for draw in (filters, confusion):
        with pytest.raises(UserError, match="expected rows, a network each, found none"):
            draw(log, none)
    assert input_maps(log, none) == []
    assert plt.get_fignums() == []


# Images


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_are_those_that_the_data_sets_own_reader_gives(part):
    images, labels = idx_images(part)
    own = dict(zip(("train", "test"), read_files("mnist", DATA_ROOT), strict=False))[part]
    assert (images[:, None] == own[0].numpy()).all()
    assert (labels == own[1].numpy()).all()


def test_a_part_or_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz: expected a file that comes with"):
        idx_images("test", tmp_path)
    with pytest.raises(UserError, match="unknown 'tset'; did you mean 'test'"):
        idx_images("tset")


def test_digits_are_the_first_ones_with_their_labels():
    images, labels = idx_images("test")
    fig = show("", digits(images, labels, 2, 4))
    assert len(fig.axes) == 2
    for row, ax in enumerate(fig.axes):
        assert [text.get_text() for text in ax.get_xticklabels()] == [str(n) for n in labels[4 * row :][:4]]
        for image, expected in zip(ax.images, images[4 * row :], strict=False):
            assert (image.get_array().data == expected).all()
    assert outside(fig) == []
    few = show("", digits(images[:5], labels[:5], 2, 4))
    assert [len(ax.images) for ax in few.axes] == [4, 1]


def test_what_is_pruned_under_a_rate_is_called_by_what_was_realised():
    row = pd.Series({"target": np.nan, "sparsity_all": 0.875})
    assert _row_label(row, " ") == "87.5 % pruned"
    assert _row_label(row * 0) == "dense"
    assert _row_label(pd.Series({"target": 0.9, "sparsity_all": 0.89}), " ") == "90 % pruned"
