"""Frames of a log: which rows they take, early stop, levels, arrays by layer and class, masks in common."""

import numpy as np
import pandas as pd
import pytest
from fakes import LEVELS, SIZES, STEPS, as_told, curve, make_log, mask, run, ticket_log

from helpers.analysis.frames import (
    array,
    at_stage,
    chance,
    classes,
    curves,
    dense,
    first_step,
    jaccard,
    kept_by_weight,
    layers,
    masks,
    nearest,
    overlaps,
    pruned,
    trainings,
)
from helpers.foundations.errors import UserError

TRAIN, PRUNE = {"type": "train"}, {"type": "prune", "kind": "weight"}
SEEDS = range(3)
ARMS = {"own_ticket": SEEDS, "own_longer": [0], "fresh": SEEDS, "late": SEEDS}
LOG = ticket_log(ARMS)
TABLE = trainings(LOG)


# Which rows


def test_the_dense_network_is_the_first_arms_first_training_once_a_seed():
    rows, again = [], TRAIN | {"test_accuracy": 0.5}
    for seed in (0, 1):
        base = TRAIN | {"result": f"base-{seed}", "test_accuracy": 0.9 + seed / 100}
        rows += run(f"a{seed}", base, PRUNE, again, arm="a", seed=seed)
        rows += run(f"more{seed}", base, PRUNE, arm="a", seed=seed)
        rows += run(f"b{seed}", again, arm="b", seed=seed)
    found = dense(make_log(rows))
    assert found["result"].tolist() == ["base-0", "base-1"]
    assert found["test_accuracy"].tolist() == [0.9, 0.91]
    own = [row for row in rows if row["run"].startswith("a")]
    assert dense(make_log(own[::-1]))["result"].tolist() == ["base-1", "base-0"]
    with pytest.raises(UserError, match="fake: expected a train stage"):
        dense(make_log(run("x", PRUNE)))


def test_a_runs_last_stage_of_a_type_and_where_it_broke_off():
    rows = run("a", TRAIN, PRUNE, TRAIN, PRUNE, TRAIN)
    rows += run("b", TRAIN, PRUNE | {"status": "failed"}, TRAIN | {"status": "failed"})
    rows += run("c", TRAIN, TRAIN | {"status": "diverged"}, TRAIN | {"status": "diverged"})
    rows += run("d", TRAIN, TRAIN)
    found = at_stage(make_log(rows), "prune")
    assert found["result"].tolist() == ["a-3", "b-1", "c-2"]  # d never prunes, and ended well
    assert found["status"].tolist() == ["ok", "failed", "diverged"]
    assert at_stage(make_log(rows), "train")["result"].tolist() == ["a-4", "b-2", "c-2", "d-1"]
    with pytest.raises(UserError, match=r"fake: stage type: unknown 'prun'; did you mean 'prune'\?"):
        at_stage(make_log(rows), "prun")


def test_an_arm_that_shares_a_run_keeps_its_row():
    stage = [TRAIN, PRUNE | {"result": "same"}]
    log = make_log(run("a", *stage, arm="a") + run("a", *stage, arm="b"))
    assert at_stage(log, "prune")["arm"].tolist() == ["a", "b"]


@pytest.mark.parametrize(("kind", "share"), [("weight", 0.51), ("unit", 0.22), ("filter", 0.33)])
def test_what_is_pruned_is_counted_in_its_kind_before_any_later_training(kind, share):
    shares = {"sparsity": 0.51, "unit_sparsity": 0.22, "filter_sparsity": 0.33}
    prune = PRUNE | shares | {"kind": kind, "target": 0.2, "test_accuracy": 0.7}
    after = TRAIN | {"sparsity": 0.9, "unit_sparsity": 0.9, "kind": kind, "test_accuracy": 0.9}
    (row,) = pruned(make_log(run("a", TRAIN, prune, after))).itertuples()
    assert (row.share, row.target, row.test_accuracy) == (share, 0.2, 0.7)


def test_under_a_rate_the_target_is_what_was_realised():
    first, second = (PRUNE | {"sparsity": share, "target": np.nan} for share in (0.2, 0.36))
    found = pruned(make_log(run("a", TRAIN, first) + run("b", TRAIN, first, TRAIN, second)))
    assert found["target"].tolist() == [0.2, 0.36]


def test_a_run_that_failed_before_it_pruned_is_told():
    failed = run("b", TRAIN | {"status": "failed"}, TRAIN | {"status": "failed"}, seed=1)
    found = pruned(make_log(run("a", TRAIN, PRUNE | {"sparsity": 0.5, "target": 0.5}) + failed))
    assert found["status"].tolist() == ["ok", "failed"]


def test_a_log_from_before_settings_were_kept_says_what_to_do():
    with pytest.raises(UserError, match=r"fake: expected a log that knows the settings.*run its experiment"):
        pruned(make_log(run("a", TRAIN, {"type": "prune"})))


# Trainings and their early stop


def test_early_stop_is_at_the_least_validation_loss_and_the_end_is_the_last_step():
    table = TABLE.set_index(["arm", "kept", "seed"])
    keys = [("own_ticket", 0.036, 2), ("fresh", 0.211, 1), ("own_longer", 0.512, 0), ("own_ticket", 1, 1)]
    for key in keys:
        row = table.loc[key]
        assert tuple(row[["early_step", "early_accuracy", "end_accuracy"]]) == as_told(*key)
        assert row["val_accuracy"] == pytest.approx(0.96)
        whole = as_told("own_ticket", 1, key[2])
        assert tuple(row[["dense_early_step", "dense_early_accuracy", "dense_end_accuracy"]]) == whole


def test_levels_that_are_near_are_looked_for_among_numbers():
    with pytest.raises(UserError, match="column: unknown 'kpt'; did you mean 'kept'"):
        nearest(TABLE, "kpt", 0.5)
    with pytest.raises(UserError, match="arm: expected a column of numbers"):
        nearest(TABLE, "arm", 0.5)


def test_each_training_is_there_once_where_a_sweep_or_an_arm_has_several_dense_ones():
    rows, steps = [], []
    for rate in (0.1, 0.2):
        rows += run(f"a{rate}", TRAIN | {"sparsity_all": 0.0}, arm="a", seed=0)
    rows += run("b", *[TRAIN | {"sparsity_all": 0.0}] * 2, arm="b", seed=0)
    for name, stage in (("a0.1-0", 0), ("a0.2-0", 0), ("b-1", 0), ("b-1", 1)):
        steps.append(curve(name, stage, test_accuracy=0.9 + 0.01 * len(steps)))
    log = make_log(rows, steps)
    assert trainings(log)["result"].tolist() == ["a0.1-0", "a0.2-0", "b-0", "b-1"]
    assert trainings(log)["dense_end_accuracy"].isna().all()
    assert trainings(log, "b")["dense_end_accuracy"].tolist() == pytest.approx([0.92] * 4)


def test_the_dense_reference_is_the_arms_that_is_asked_for():
    table = trainings(LOG, "own_longer").set_index(["arm", "kept", "seed"])
    assert table.loc[("fresh", 0.07, 0), "dense_early_step"] == as_told("own_longer", 1, 0)[0]
    assert np.isnan(table.loc[("fresh", 0.07, 1), "dense_early_step"])  # of seed 1 it has none
    with pytest.raises(UserError, match=r"fake: arm: unknown 'own_tickt'; did you mean 'own_ticket'\?"):
        trainings(LOG, "own_tickt")


def test_of_equal_losses_the_first_counts_whatever_the_order_of_the_rows():
    log = ticket_log({"own": [0]}, levels=(1, 0.5))
    log.curves["val_loss"] = log.curves["step"].map({500: 0.1, 1500: 0.1}).fillna(0.2)
    log.curves["test_accuracy"] = log.curves["step"] / 1e4
    found = trainings(log)[["early_step", "early_accuracy", "end_accuracy"]]
    assert found.to_numpy().tolist() == [[500, 0.05, 0.3]] * 2
    log.curves = log.curves.sort_values("test_accuracy", key=lambda c: c == 0.3, ascending=False)
    assert trainings(log)["end_accuracy"].tolist() == [0.3, 0.3]


def test_each_training_stands_once_under_the_first_arm_that_has_it():
    counts = {"own_ticket": 7 * 3, "own_longer": 7, "fresh": 6 * 3, "late": 6 * 3}
    assert TABLE["arm"].value_counts(sort=False).to_dict() == counts
    assert (TABLE["result"].str.split("-").str[0] == TABLE["arm"]).all()
    assert TABLE["kept"].unique().tolist() == list(LEVELS)
    swapped = ticket_log(ARMS)
    swapped.results = swapped.results[::-1].reset_index(drop=True)
    assert not trainings(swapped).query("arm == 'late' and kept == 1").empty


def test_without_validation_images_there_is_no_early_stop():
    log = ticket_log({"own": [0]})
    log.curves["val_loss"] = np.nan
    with pytest.raises(UserError, match=r"fake: early stop: expected validation images.*validation_size"):
        trainings(log)


def test_a_training_that_diverged_before_its_first_logged_step_is_kept_and_has_no_early_stop():
    log = ticket_log({"own": SEEDS, "fresh": SEEDS})
    (last,) = log.results.loc[log.results["result"] == "fresh-train-0.07-2", "stage"]
    log.results.loc[log.results["result"] == "fresh-train-0.07-2", "status"] = "diverged"
    log.curves.loc[log.curves["run"].eq("fresh-train-0.07-2") & log.curves["stage"].eq(last), "val_loss"] = (
        np.nan
    )
    found = trainings(log).query("arm == 'fresh' and kept == 0.07").set_index("seed")
    assert found["status"].tolist() == ["ok", "ok", "diverged"]
    assert found["early_step"].isna().tolist() == [False, False, True]


def test_a_dense_network_that_diverged_is_no_reference():
    log = ticket_log({"own": SEEDS})
    log.results.loc[log.results["result"] == "own-train-1-1", "status"] = "diverged"
    assert trainings(log).groupby("seed")["dense_early_step"].count().tolist() == [7, 0, 7]


def test_a_training_that_pruned_meanwhile_has_no_early_stop():
    """Its steps before the end are of a network with more weights than it came out with."""
    log = ticket_log({"own": [0, 1], "ramp": [0, 1]}, levels=(1, 0.5))
    is_before = log.results["arm"].eq("ramp") & log.results["result"].ne(log.results["run"])
    log.results.loc[is_before, "sparsity_all"] = 0.2
    table = trainings(log)
    ramp, own = (table[table["arm"] == arm] for arm in ("ramp", "own"))
    assert len(ramp) == 2
    assert ramp[["early_step", "early_accuracy"]].isna().all(axis=None)
    assert ramp["end_accuracy"].notna().all()
    assert own["early_step"].notna().all()


# Levels and steps


def test_a_level_is_the_nearest_in_ratio():
    assert nearest(TABLE, "kept", 0.101)["kept"].unique() == [0.135]  # 0.07 is nearer in difference
    assert nearest(TABLE, "kept", 0.09)["kept"].unique() == [0.07]
    assert nearest(TABLE, "kept", 0.9, 0.09, 0.08)["kept"].unique().tolist() == [1, 0.07]
    assert len(nearest(TABLE, "kept", 1)) == 4
    with pytest.raises(UserError, match=r"kept: expected rows near 0\.5, found none"):
        nearest(TABLE[:0], "kept", 0.5)


def test_a_level_is_the_nearest_in_difference_where_a_ratio_to_nothing_has_no_meaning():
    rows = pd.DataFrame({"target": [0, 0.1, 0.9, np.nan]})
    assert nearest(rows, "target", 0.04)["target"].tolist() == [0]
    assert nearest(rows[1:], "target", 0)["target"].tolist() == [0.1]


def test_curves_are_a_row_a_step_and_split_of_the_rows_asked_for():
    values = {
        "train_accuracy": 0.7,
        "val_accuracy": 0.8,
        "test_accuracy": 0.9,
        "val_loss": 0.3,
        "test_loss": 0.4,
    }
    logged = [curve(f"{name}-1", stage, **values) for name in "ab" for stage in (0, 1)]
    logged[0] = logged[0].assign(test_accuracy=STEPS / 1e4)
    log = make_log(run("a", TRAIN, TRAIN, kind="weight") + run("b", TRAIN, TRAIN), logged)
    found = curves(log)
    assert found["split"].value_counts().to_dict() == dict.fromkeys(
        ("training", "validation", "test"), len(STEPS)
    )
    assert set(found["result"]) == {"a-0"}
    assert set(found["kind"]) == {"weight"}
    first = found[found["split"] == "test"]
    np.testing.assert_allclose(
        first[["step", "accuracy", "error"]], np.array([STEPS, STEPS / 1e4, 1 - STEPS / 1e4]).T
    )
    means = found.groupby("split")[["accuracy", "loss"]].mean()
    assert means.loc["training"].tolist() == pytest.approx([0.7, 0.5])
    assert means.loc["validation"].tolist() == pytest.approx([0.8, 0.3])
    assert means.loc["test", "loss"] == pytest.approx(0.4)
    assert not [c for c in found if c.startswith(("train_", "val_", "test_")) and c in log.curves]
    second = log.results[log.results["result"] == "b-1"]
    assert len(curves(log, second)) == 3 * len(STEPS)


def test_the_first_step_with_so_much_validation_accuracy_or_none():
    log = make_log(
        run("a", TRAIN) + run("b", TRAIN),
        [curve("a-0", val_accuracy=STEPS / 3000), curve("b-0", val_accuracy=0.6)],
    )
    found = first_step(log, log.results, 0.7)
    assert found["steps"].tolist() == pytest.approx([2100, np.nan], nan_ok=True)
    assert first_step(log, log.results, 0.6)["steps"].tolist() == [1800, 50]


# Arrays


def test_an_array_is_that_of_the_row_and_an_unknown_one_is_told_with_the_nearest():
    log = make_log(
        run("a", TRAIN, PRUNE), arrays={"a-0": {"confusion": np.eye(2)}, "a-1": {"other": np.eye(3)}}
    )
    for row in (log.results.iloc[0], next(log.results.itertuples()), {"result": "a-0"}):
        assert array(log, row, "confusion").shape == (2, 2)
    with pytest.raises(
        UserError, match=r"fake: result a-0: array: unknown 'confusions'; did you mean 'confusion'"
    ):
        array(log, log.results.iloc[0], "confusions")
    with pytest.raises(UserError, match="result nowhere: array: unknown 'confusion'"):
        array(log, {"result": "nowhere"}, "confusion")


def test_layers_are_a_row_each_and_units_alive_a_share_of_their_layers():
    rows = LOG.results[LOG.results["result"].eq("own_ticket-rewind-0.07-1")].drop_duplicates("result")
    found = layers(LOG, rows)
    assert found["layer"].tolist() == ["linear_1", "linear_2"]
    assert found["value"].tolist() == [layer.mean() for layer in mask("own_ticket", 0.07, 1)]
    assert found["result"].tolist() == ["own_ticket-rewind-0.07-1"] * 2
    assert layers(LOG, rows, "alive_by_layer")["value"].tolist() == pytest.approx([0.07, 0.5])
    # Arms may have networks of their own: a share is of the row's units, not of the first network's.
    other = rows.assign(net="5c3p1-62-20")
    assert layers(LOG, other, "alive_by_layer")["value"].tolist() == pytest.approx([0.035, 0.25])
    assert layers(LOG, rows[:0]).columns[-2:].tolist() == ["layer", "value"]


def test_a_classs_errors_are_off_the_diagonal_of_its_row():
    log = ticket_log({"own": [0, 1]}, levels=(1, 0.5))
    for seed, counts in enumerate(([[8, 2], [1, 3]], [[10, 0], [4, 0]])):
        log.arrays[f"own-train-0.5-{seed}"]["confusion"] = np.array(counts)
    found = classes(log, nearest(trainings(log), "kept", 0.5))
    assert found[["seed", "class"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert found["value"].tolist() == pytest.approx([0.2, 0.25, 0, 1])


def test_the_share_kept_by_weight_leaves_out_tails_and_bins_with_few():
    log = ticket_log({"own": [0, 1]}, levels=(1, 0.5))
    counts = {
        0: ([9, 60, 50, 30, 10], [990, 40, 49, 70, 990]),
        1: ([9, 80, 99, 50, 10], [990, 20, 99, 150, 990]),
    }
    for seed, (ours, rest) in counts.items():
        log.arrays[f"own-rewind-0.5-{seed}"] |= {
            "histogram_edges": np.linspace(-0.25, 0.25, 6),
            "weight_histogram": np.array([[500] * 5, ours], np.int32),
            "pruned_histogram": np.array([[0] * 5, rest], np.int32),
        }
    rows = log.results[log.results["type"].eq("rewind")]
    found = kept_by_weight(log, rows, layer=1)
    assert found["weight"].tolist() == pytest.approx(
        [-0.1, 0.1] * 2
    )  # the middle one has 99 weights of seed 0
    assert found["value"].tolist() == pytest.approx([60 / 100, 30 / 100, 80 / 100, 50 / 200])
    assert found["seed"].tolist() == [0, 0, 1, 1]
    everything = kept_by_weight(log, rows, layer=1, at_least=99)
    assert everything["weight"].tolist() == pytest.approx([-0.1, 0, 0.1] * 2, abs=1e-12)
    assert set(kept_by_weight(log, rows)["value"]) == {1}  # the first layer keeps all


# Masks


def test_masks_come_back_by_layer_once_each():
    found = masks(LOG)
    sparse = [kept for kept in LEVELS if kept < 0.25]
    assert found["arm"].value_counts().to_dict() == {
        "own_ticket": len(sparse) * 3,
        "own_longer": len(sparse),
        "fresh": len(sparse) * 3,
        "late": len(sparse) * 3,
    }
    for row in found.itertuples():
        for layer, expected in zip(row.layers, mask(row.arm, row.kept, row.seed), strict=True):
            np.testing.assert_array_equal(layer, expected)


def test_an_arm_that_takes_anothers_mask_over_has_none_of_its_own():
    log = ticket_log({"own": [0, 1], "fresh": [0, 1]})
    for seed in (0, 1):
        log.arrays[f"fresh-rewind-0.07-{seed}"] = log.arrays[f"own-rewind-0.07-{seed}"]
    found = masks(log).query("kept == 0.07")
    assert found[["arm", "seed"]].to_numpy().tolist() == [["own", 0], ["own", 1]]
    log.arrays["own-rewind-0.07-1"] = log.arrays["own-rewind-0.07-0"]  # of another seed it is another mask
    assert len(masks(log).query("kept == 0.07 and arm == 'own'")) == 2


def test_masks_are_those_of_the_rows_asked_for():
    rows = LOG.results[LOG.results["arm"].eq("late")]
    assert set(masks(LOG, rows[rows["result"].str.startswith("late")])["arm"]) == {"late"}
    assert masks(LOG, LOG.results[LOG.results["type"].eq("train")]).empty


def test_overlap_is_counted_by_hand():
    one, other = (np.array(bits, bool) for bits in ([1, 1, 0, 0, 1], [0, 1, 1, 0, 1]))
    assert jaccard(one, other) == 2 / 4
    # Two units, two inputs: kept at an input with 1 × 1/2 and 0 × 1/2, so one weight in common of 2 + 2 - 1.
    one, other = np.array([[1, 0], [1, 0]], bool), np.array([[1, 0], [0, 1]], bool)
    assert chance(one, other) == 1 / 3
    assert chance(one.reshape(-1, 1), other.reshape(-1, 1)) == 1 / 3
    assert chance(one, ~one) == 0


@pytest.mark.parametrize("is_by_input", [True, False])
def test_chance_is_what_independent_masks_have_in_common(is_by_input):
    random = np.random.default_rng(0)
    shares = np.linspace(0.02, 0.6, 20) if is_by_input else np.full(20, 0.3)
    drawn = [(random.random((2, 500, 20)) < shares) for _ in range(30)]
    found = np.mean([jaccard(one, other) for one, other in drawn])
    assert np.mean([chance(one, other) for one, other in drawn]) == pytest.approx(found, rel=0.01)
    flat = np.mean([chance(one.reshape(-1, 1), other.reshape(-1, 1)) for one, other in drawn])
    assert flat == pytest.approx(found, rel=0.01) if not is_by_input else flat < 0.85 * found


def test_an_arms_masks_are_compared_with_other_seeds_and_with_other_arms_of_the_same():
    found = overlaps(LOG, "own_ticket")
    counts = found.groupby(["kept", "other"]).size().unstack()
    pairs = {"fresh": 3, "late": 3, "own_longer": 1, "own_ticket": 3}
    assert counts.to_dict("list") == {other: [count] * 5 for other, count in pairs.items()}
    assert found.loc[found["other"] == "own_longer", "seed"].tolist() == [0] * 5
    one, other = (mask(arm, 0.07, 0)[0] for arm in ("own_ticket", "own_longer"))
    row = found[found["kept"].eq(0.07) & found["other"].eq("own_longer")].iloc[0]
    assert row["jaccard"] == sum(one & other) / sum(one | other)
    kept, total = round(0.07 * SIZES[0]), SIZES[0]
    assert row["chance"] == pytest.approx((kept**2 / total) / (2 * kept - kept**2 / total))
    by_input = sum(one[pixel::4].sum() * other[pixel::4].sum() / 31 for pixel in range(4))
    assert row["chance_by_input"] == pytest.approx(by_input / (2 * kept - by_input))
    with pytest.raises(UserError, match=r"fake: arm with masks: unknown 'own'"):
        overlaps(LOG, "own")
