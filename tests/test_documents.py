"""Numbers in sentences of README and notebook are those of the logs."""

from collections.abc import Callable
from functools import cache

import nbformat
import pandas as pd
import pytest
from conftest import ROOT

from helpers.analysis import (
    contrast_tests,
    nearest,
    paired,
    points,
    select,
    summary,
    text,
    trainings,
    tuned,
)
from helpers.config.expansion import load_config
from helpers.utils import load_log

log = cache(lambda name: load_log(ROOT / "logs" / f"{name}.hdf5"))


@cache
def prose(where: str) -> str:
    """The text of README or of the notebook, every white space a single blank."""
    if where == "README":
        text = (ROOT / "README.md").read_text()
    else:
        cells = nbformat.read(ROOT / "prune_playground.ipynb", 4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return " ".join(text.split())


def gradual_weights_less_units(target: float) -> str:
    """Paired by seed, in points."""
    weights, units = (
        select(log("mlp_recovery").final(), arm="gradual", kind=kind, target=target)
        for kind in ("weight", "unit")
    )
    return text(paired(weights, units), "difference", points)


def gradual_less_ticket(kept: float) -> str:
    """At the end of both trainings, paired by seed, in points."""
    table = trainings(log("lottery_ticket"))
    gradual, ticket = (nearest(select(table, arm=arm), "kept", kept) for arm in ("gradual", "ticket"))
    return text(paired(gradual, ticket, "end_accuracy"), "difference", points)


def rate_ratio(accuracy: float, arm: str = "kd") -> float:
    """The largest learning rate over cross-entropy's, where so much validation accuracy counts as trained."""
    rows = log("distill_learning_rate").final()
    is_trained = rows["val_accuracy"].gt(accuracy) & rows["status"].eq("ok")
    usable = is_trained.groupby([rows["arm"], rows["lr"]]).all()
    largest = usable[usable].reset_index().groupby("arm")["lr"].max()
    return largest[arm] / largest["ce"]


def anew(arm: str, **chosen: object) -> pd.DataFrame:
    """Rows of survivors chosen anew, at 99 % of the weights or at 97 % of the units where nothing is said."""
    rows = select(log("mlp_reconstruct").final(), arm=arm, **chosen)
    share = 0.97 if set(rows["kind"]) == {"unit"} else 0.99
    return rows if "target" in chosen else select(rows, target=share)


def anew_less(arm: str, control: str = "weights", form: Callable[..., str] = points, **chosen: object) -> str:
    """A way to choose less a control, paired by seed, in points."""
    return text(paired(anew(arm, **chosen), anew(control)), "difference", form)


def unit_refit(target: float) -> str:
    """Refit in steps, of units."""
    return text(select(log("mlp_recovery").final(), arm="iterative_refit", kind="unit", target=target))


def hybrid_less_weights() -> str:
    """Units first, as many as validation says, and weights then, less weights alone, in points."""
    chosen = tuned(select(log("mlp_reconstruct").final(), arm="hybrid"), ["sweep.hybrid"])
    return text(paired(chosen.assign(unit_target=None), anew("weights")), "difference", points)


THRESHOLDS = (0.8, 0.9, 0.92, 0.94, 0.95, 0.96)
BOTH, NOTEBOOK = ("README", "notebook"), ("notebook",)
SENTENCES: list[tuple[str, Callable[[], list[str]], tuple[str, ...]]] = [
    ("(weights less units: {} points)", lambda: [gradual_weights_less_units(0.9)], BOTH),
    (
        "beyond, they do: {}, {} and {} points at 95, 97 and 99 %",
        lambda: [gradual_weights_less_units(target) for target in (0.95, 0.97, 0.99)],
        BOTH,
    ),
    (
        "{} to {} times the rate, by what counts as trained",
        lambda: [f"{end(map(rate_ratio, THRESHOLDS)):.1f}" for end in (min, max)],
        BOTH,
    ),
    (
        "{} times at 95 %, {} times at 96 %",
        lambda: [f"{rate_ratio(share):.1f}" for share in (0.95, 0.96)],
        BOTH,
    ),
    ("gains {} to {} points less than the dense one", lambda: losses_in_fine_tuning(), BOTH),
    ("passes over each some {} times", lambda: [str(passes_over_600_images())], NOTEBOOK),
    ("by {} and {} points", lambda: [large_less_small(weights) for weights in (119_200, 71_520)], BOTH),
    ("holds, without training**: {}", lambda: [text(anew("weights"))], BOTH),
    (
        "the largest weighed weights are {} points off",
        lambda: [anew_less("weighed_selection", method="magnitude")],
        BOTH,
    ),
    ("random ones {}", lambda: [anew_less("random")], BOTH),
    ("counted alike, it is {}", lambda: [anew_less("weighing", weigh="none")], BOTH),
    ("on the dense logits lifts it to {}", lambda: [text(anew("on_logits"))], BOTH),
    (
        "{} and {} at 95 and 97 %, where refit in steps has {} and {}",
        lambda: (
            [text(anew("units", target=share)) for share in (0.95, 0.97)]
            + [unit_refit(share) for share in (0.95, 0.97)]
        ),
        BOTH,
    ),
    ("for units ({})", lambda: [anew_less("unit_linear", "units")], NOTEBOOK),
    ("gain a little ({})", lambda: [hybrid_less_weights()], NOTEBOOK),
    ("have {} (three seeds)", lambda: [text(anew("on_logits_4"))], NOTEBOOK),
    (
        "by {} points, and still below gradual pruning, which chooses while it trains. At 99.9 % the start "
        "decides, by {} points.",
        lambda: [
            text(paired(anew("start", target=share), anew("refit_start", target=share)), "difference", points)
            for share in (0.99, 0.999)
        ],
        NOTEBOOK,
    ),
]
"""A sentence with its numbers left out, what gives them, and where it stands."""


def large_less_small(weights: int) -> str:
    """The challenge MLP less LeNet-300-100, gradually pruned to as many hidden weights, in points."""
    large = select(log("mlp_recovery").final(), arm="gradual", kind="weight", target=1 - weights / 2_384_000)
    small = select(log("equal_weights").final(), arm="gradual", target=1 - weights / 265_200)
    return text(paired(large, small), "difference", points)


def passes_over_600_images() -> int:
    """Steps of distill_train_size over the steps of an epoch of 600 images."""
    rows = log("distill_train_size").final().query("train_size == 600")
    (epochs,) = rows["epochs"].round().unique()
    return int(epochs)


def losses_in_fine_tuning() -> list[str]:
    """What a network at 98 % gains less than the dense one, least and most, in points."""
    rows, losses = log("distill_prune_few").final(), []
    for images in rows["train_size"].unique():
        gains = []
        for network, target in (("dense", None), ("pruned", 0.98)):
            here = select(rows, train_size=images, network=network, target=target)
            chosen = tuned(here, ["sweep.temperature"], ["taught"])
            plain, taught = (select(chosen, taught=when) for when in ("none", "last"))
            gains.append(paired(taught, plain)["difference"].mean())
        losses.append(100 * (gains[0] - gains[1]))
    return [f"{min(losses):.2f}", f"{max(losses):.2f}"]


@pytest.mark.parametrize(("sentence", "numbers", "places"), SENTENCES, ids=lambda words: str(words)[:30])
def test_numbers_in_sentences_are_those_of_the_logs(sentence, numbers, places):
    for where in places:
        assert sentence.format(*numbers()) in prose(where), where


def test_the_claim_holds_without_training_by_its_whole_interval():
    (found,) = summary(anew("weights"), "target").itertuples()
    assert found.low > 0.97
    assert found.n == 5


def test_tickets_and_gradual_pruning_are_compared_end_against_end():
    sparse, middle, dense = map(gradual_less_ticket, (0.036, 0.07, 0.211))
    sentence = f"it has {sparse} points at 3.6 % of the weights, where the ticket takes sixteen trainings, "
    assert sentence + f"{middle} at 7 % and {dense} at 21 %." in prose("README")
    sentence = (
        f"{sparse} points from that ticket, {middle} from the one at 7 % and {dense} from the one at 21 %"
    )
    assert sentence in prose("notebook")
    rounds = trainings(log("lottery_ticket")).query("arm == 'ticket' and seed == 0 and kept > 0.0358")
    assert len(rounds) == 15 + 1  # the sixteenth is that of the network with 3.58 %


def test_at_one_weight_in_a_hundred_the_small_network_does_as_well():
    few = [large_less_small(weights) for weights in (23_840, 11_920)]
    assert f"no difference ({few[0]} and {few[1]})" in prose("notebook")


def test_label_smoothing_gets_all_of_the_way_to_larger_rates_half_of_it_or_none():
    shares = [(rate_ratio(share, "smooth"), rate_ratio(share)) for share in THRESHOLDS]
    assert shares[0][0] == pytest.approx(shares[0][1])
    assert 1 < shares[1][0] < shares[1][1]
    assert [ratio for ratio, _ in shares[3:]] == pytest.approx([1, 1, 1])


def test_the_small_network_of_whole_filters_trains_only_the_epochs_of_fine_tuning():
    rows = log("lenet5_recovery").final().set_index("arm")
    epochs = rows["epochs"].groupby("arm").first()
    dense = log("lenet5_recovery").results.query("type == 'train' and stage == 0")["epochs"].iloc[0]
    fine_tuned = epochs["filters_finetune"] - dense
    assert (dense, fine_tuned) == (10, 12)
    assert epochs["filters_small_dense"] - dense == 12


def test_all_small_students_have_one_teacher():
    runs = load_config(ROOT / "configs" / "distill_small.json").runs
    teachers = {key for run in runs for key in run.teachers}
    assert len(teachers) == 1


def test_six_of_the_eight_planned_contrasts_say_teach_first_and_prune_then():
    logs = {"LeNet-300-100": log("distill_prune"), "800-800": log("distill_prune_units")}
    tests = contrast_tests(logs)
    verdicts = tests["verdict"].groupby(tests["key"]).agg(list).to_dict()
    assert verdicts == {
        "a": ["harms", "harms"],
        "b": ["harms", "harms"],
        "c": ["helps", "helps"],
        "d": ["harms", "undecided"],
    }
    assert "Six of the eight differences are against a teacher after pruning" in prose("README")
    for found in logs.values():
        planned = [words for words in found.contrasts.values() if words["planned"]]
        assert {words["planned_in"] for words in planned} == {"5fc66b4"}
        assert "(commit 5fc66b4, before the first run)" in prose("README")
        arms = {words["of"] for words in planned}
        taught = found.results[found.results["arm"].isin(arms) & found.results["teacher"].notna()]
        assert set(taught["temperature"]) == {8}
        assert set(taught["alpha"]) == {0.9}
