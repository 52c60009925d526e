"""The stages in a config: each mistake is told where it stands, what is right loads, hashes are pinned."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.config.expansion import load_config
from helpers.experiment import main
from helpers.foundations.errors import UserError

FLATTEN = {"type": "flatten"}
HIDDEN, LOGITS = {"type": "linear", "units": 8}, {"type": "linear", "units": 10}
CONV = {"type": "conv2d", "filters": 4, "kernel": 3}
BASE = {
    "data": {"dataset": "mnist", "train_size": 3000},
    "net": {"layers": [FLATTEN, HIDDEN, LOGITS]},
    "stages": [],
}
CNN = {"net": {"layers": [CONV, FLATTEN, HIDDEN, LOGITS]}}
TWO = {"net": {"layers": [FLATTEN, HIDDEN, HIDDEN, LOGITS]}}
TRAIN = {"type": "train", "epochs": 2, "batch_size": 100}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.5}
UNIT, FILTER = PRUNE | {"kind": "unit"}, PRUNE | {"kind": "filter"}
SHUFFLE = {"type": "prune", "kind": "weight", "criterion": "shuffle"}
RAMP = {"kind": "weight", "sparsity": 0.5, "every": 10}
NORM = {"type": "batch_norm"}
NORMED = {"net": {"layers": [FLATTEN, HIDDEN, NORM, LOGITS]}}
NORMED_CNN = {"net": {"layers": [CONV, NORM, FLATTEN, LOGITS]}}
POOLED = {"net": {"layers": [CONV, {"type": "adaptive_avgpool"}, NORM, FLATTEN, LOGITS]}}
REFIT, COMPACT = {"type": "refit", "samples": 3000}, {"type": "compact"}
ANEW = {"type": "reconstruct", "kind": "weight", "sparsity": 0.5}


def to(point: Any) -> dict[str, Any]:
    return {"type": "rewind", "to": {"step": point} if isinstance(point, int) else point}


def ramp(**words: Any) -> dict[str, Any]:
    """A train stage of 60 steps with this ramp."""
    return TRAIN | {"ramp": RAMP | words}


def repeat(*stages: dict[str, Any]) -> dict[str, Any]:
    return {"type": "repeat", "times": 2, "stages": list(stages)}


def activated(word: str) -> dict[str, Any]:
    return {"net": {"layers": [FLATTEN, HIDDEN | {"activation": word}, LOGITS]}}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes BASE with these stages, and with other parts changed, into a file."""

    def write_config(stages: list[dict[str, Any]], **changes: Any) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(copy.deepcopy(BASE | changes | {"stages": stages})), "utf-8")
        return path

    return write_config


MISTAKES = [
    # refit and shuffle need what compaction has taken away
    ([TRAIN, UNIT, COMPACT, REFIT], {}, "stages[3].type", "put refit before compact"),
    ([TRAIN, repeat(UNIT, REFIT, COMPACT)], {}, "stages[1].stages[1].type", "put refit before"),
    ([TRAIN, UNIT, COMPACT, SHUFFLE], {}, "stages[3].criterion", "shuffle before compact"),
    # rewind
    ([TRAIN, UNIT, COMPACT, to("init")], {}, "stages[3].to", "after 'compact' only 'fresh' fits"),
    ([TRAIN, UNIT, COMPACT, TRAIN, to("init")], {}, "stages[4].to", "after 'compact' only 'fresh' fits"),
    ([TRAIN, UNIT, COMPACT, to(3)], {}, "stages[3].to", "after 'compact' only 'fresh' fits"),
    ([TRAIN, to(61)], {}, "stages[1].to.step", "expected at most 60"),
    ([TRAIN | {"epochs": None, "steps": 7}, TRAIN, to(8)], {}, "stages[2].to.step", "expected at most 7"),
    ([to(5)], {}, "stages[0].to.step", "no training comes before"),
    ([PRUNE, to(0), TRAIN], {}, "stages[1].to.step", "no training comes before"),
    ([TRAIN, to(60), TRAIN], {}, "stages[2].epochs", "expected more than the 60 steps of the rewind"),
    ([TRAIN, to(9), PRUNE, TRAIN | {"epochs": None, "steps": 9}], {}, "stages[3].steps", "than the 9 steps"),
    ([TRAIN, to("intit")], {}, "stages[1].to", "unknown 'intit'; did you mean 'init'?"),
    ([TRAIN, to(5) | {"to": {"step": 1.5}}], {}, "stages[1].to.step", "expected a valid integer"),
    ([TRAIN, to(5) | {"to": {"step": -1}}], {}, "stages[1].to.step", "found -1"),
    ([TRAIN, to(5) | {"to": {"step": 1, "at": 1}}], {}, "stages[1].to.at", "expected one of 'step'"),
    ([TRAIN, {"type": "rewind"}], {}, "stages[1].to", "is missing"),
    # criteria
    ([UNIT | {"criterion": "obd"}], {}, "stages[0].criterion", "'obd' does not rank units"),
    ([UNIT | {"criterion": "wanda"}], {}, "stages[0].criterion", "'wanda' does not rank units"),
    ([FILTER | {"criterion": "obd"}], CNN, "stages[0].criterion", "'obd' does not rank filters"),
    ([PRUNE | {"criterion": "apoz"}], {}, "stages[0].criterion", "'apoz' does not rank weights"),
    ([PRUNE | {"criterion": "l1"}], {}, "stages[0].criterion", "'l1' does not rank weights; expected one of"),
    ([PRUNE | {"criterion": "in_out"}], {}, "stages[0].criterion", "'in_out' does not rank weights"),
    ([ramp(criterion="apoz")], {}, "stages[0].ramp.criterion", "'apoz' does not rank weights"),
    ([UNIT | {"criterion": "apoz"}], activated("tanh"), "stages[0].criterion", "needs the activation 'relu'"),
    ([UNIT | {"criterion": "apoz"}], activated("gelu"), "stages[0].criterion", "needs the activation 'relu'"),
    ([PRUNE | {"criterion": "wandda"}], {}, "stages[0].criterion", "unknown 'wandda'; did you mean 'wanda'?"),
    ([PRUNE | {"samples": 3001}], {}, "stages[0].samples", "at most the 3000 training images, found 3001"),
    ([PRUNE | {"samples": 0}], {}, "stages[0].samples", "expected greater than or equal to 1, found 0"),
    ([ramp(samples=3001)], {}, "stages[0].ramp.samples", "expected at most the 3000 training images"),
    ([TRAIN, REFIT | {"samples": 3001}], {}, "stages[1].samples", "at most the 3000 training images"),
    # batch norm, as torch has it: more than one value per channel
    ([TRAIN | {"batch_size": 1}], NORMED, "stages[0].batch_size", "expected at least 2 images a batch"),
    ([TRAIN | {"batch_size": 2999}], NORMED, "stages[0].batch_size", "3000 images leave one"),
    ([TRAIN | {"batch_size": 2999}], POOLED, "stages[0].batch_size", "3000 images leave one"),
    # ramps
    ([ramp(criterion="shuffle")], {}, "stages[0].ramp", "a ramp only ever prunes more"),
    ([ramp(every=46)], {}, "stages[0].ramp.every", "at most 45, or nothing is pruned in 60 steps"),
    ([ramp(every=60, end=1)], {}, "stages[0].ramp.every", "expected at most 59"),
    ([ramp(every=0)], {}, "stages[0].ramp.every", "found 0"),
    ([ramp(end=0)], {}, "stages[0].ramp.end", "expected greater than 0"),
    ([ramp(evry=5)], {}, "stages[0].ramp.evry", "unknown key; did you mean 'every'?"),
    ([ramp(rate=0.5)], {}, "stages[0].ramp", "expected one of 'sparsity' and 'rate', found both"),
    ([ramp(sparsity=None)], {}, "stages[0].ramp", "expected one of 'sparsity' and 'rate', found neither"),
    ([ramp(layers={"linaer_1": {}})], {}, "stages[0].ramp.layers.linaer_1", "did you mean 'linear_1'?"),
    ([ramp(layers={"linear_1": {"rat": 1}})], {}, "stages[0].ramp.layers.linear_1.rat", "mean 'rate'?"),
    ([ramp(kind="filter")], {}, "stages[0].ramp.kind", "'filter' needs a conv2d layer"),
    ([PRUNE, ramp(sparsity=0.4)], {}, "stages[1].ramp.sparsity", "expected at least 0.5"),
    ([ramp(), ramp(sparsity=0.4)], {}, "stages[1].ramp.sparsity", "expected at least 0.5"),
    ([ramp(), PRUNE | {"sparsity": 0.4}], {}, "stages[1].sparsity", "expected at least 0.5"),
    # less than an earlier stage, whatever that was
    ([PRUNE | {"scope": "global"}, PRUNE | {"scope": "global", "sparsity": 0.4}], TWO, "stages[1].sparsity",
     "expected at least 0.5, which an earlier stage pruned of linear_1, linear_2 together, found 0.4"),
    ([ramp(scope="global"), PRUNE | {"sparsity": 0.4}], TWO, "stages[1].sparsity", "expected at least 0.5"),
    ([PRUNE | {"sparsity": None, "rate": 0.5}, PRUNE | {"sparsity": 0.4}], {}, "stages[1].sparsity",
     "expected at least 0.5, which an earlier stage pruned, found 0.4"),
    ([PRUNE, PRUNE | {"sparsity": None, "rate": 0.5}, PRUNE | {"sparsity": 0.7}], {}, "stages[2].sparsity",
     "expected at least 0.75"),
    ([PRUNE, PRUNE | {"scope": "global", "sparsity": 0.4}], TWO, "stages[1].sparsity", "at least 0.5"),
    ([UNIT | {"scope": "global"}, UNIT | {"sparsity": 0.1}], TWO, "stages[1].sparsity",
     "expected at least 0.5, which an earlier stage pruned of linear_1, linear_2 together, found 0.1"),
    ([UNIT | {"sparsity": 0.9}, PRUNE | {"scope": "global"}], TWO, "stages[1].sparsity",
     "together, found 0.5"),
    ([PRUNE | {"layers": {"linear_1": {"sparsity": 0.8}}},
      PRUNE | {"layers": {"linear_1": {"sparsity": 0.7}}}], {},
     "stages[1].layers.linear_1.sparsity", "expected at least 0.8"),
    ([UNIT, ramp(sparsity=0.4)], {}, "stages[1].ramp.sparsity", "expected at least 0.5"),
    ([PRUNE, ramp(sparsity=0.9, layers={"linear_1": {"sparsity": 0.1}})], {},
     "stages[1].ramp.layers.linear_1.sparsity", "expected at least 0.5"),
    ([repeat(ramp()), repeat(ramp())], {}, "stages[1].stages[0].ramp.sparsity", "at least 0.5"),
    # reconstruct
    ([TRAIN, UNIT, COMPACT, ANEW], {}, "stages[3].type", "put reconstruct before compact"),
    ([TRAIN, repeat(ANEW, COMPACT)], {}, "stages[1].stages[0].type", "put reconstruct before"),
    ([TRAIN, ANEW | {"samples": 3001}], {}, "stages[1].samples", "at most the 3000 training images, found"),
    ([TRAIN, ANEW | {"samples": 1}], {}, "stages[1].samples", "found 1"),
    ([{k: v for k, v in ANEW.items() if k != "sparsity"}], {}, "stages[0].sparsity", "is missing"),
    ([{k: v for k, v in ANEW.items() if k != "kind"}], {}, "stages[0].kind", "is missing"),
    ([ANEW | {"sparsity": 99}], {}, "stages[0].sparsity", "a share is meant, not percent"),
    ([ANEW | {"rate": 0.5}], {}, "stages[0].rate", "unknown key"),
    ([ANEW | {"criterion": "obd"}], {}, "stages[0].criterion", "unknown key"),
    ([ANEW | {"kind": "filter"}], {}, "stages[0].kind", "'filter' needs a conv2d layer"),
    ([ANEW | {"method": "pursiut"}], {}, "stages[0].method", "did you mean 'pursuit'?"),
    ([ANEW | {"weigh": "taylor"}], {}, "stages[0].weigh", "expected one of 'none', 'outgoing', "),
    ([ANEW | {"fit": "rectify"}], {}, "stages[0].fit", "did you mean 'rectified'?"),
    ([ANEW | {"rounds": 0}], {}, "stages[0].rounds", "found 0"),
    ([ANEW | {"ridge": -1}], {}, "stages[0].ridge", "found -1"),
    ([ANEW | {"fit": "linear", "rounds": 2}], {}, "stages[0]", "the fit 'linear' has no 'rounds'"),
    ([ANEW | {"method": "random", "weigh": "none"}], {}, "stages[0]", "'random' weighs nothing"),
    ([ANEW | {"fit": "rectified"}], activated("tanh"), "stages[0].fit", "no activation 'relu': use 'linear'"),
    ([ANEW | {"layers": {"linaer_1": {}}}], {}, "stages[0].layers.linaer_1", "did you mean 'linear_1'?"),
    ([ANEW | {"kind": "unit", "layers": "all"}], {}, "stages[0].layers", "no unit pruning of 'all'"),
    ([PRUNE, ANEW | {"sparsity": 0.4}], {}, "stages[1].sparsity", "expected at least 0.5"),
    ([ANEW, PRUNE | {"sparsity": 0.4}], {}, "stages[1].sparsity", "expected at least 0.5"),
    ([ANEW | {"kind": "unit", "sparsity": 0.9}, ANEW], {}, "stages[1].sparsity", "an earlier stage pruned"),
    # words
    ([TRAIN, REFIT | {"mode": "logits", "ridge": 0.1}], {}, "stages[1]", "'logits' knows no 'ridge'"),
    ([TRAIN, REFIT | {"mode": "ful"}], {}, "stages[1].mode", "unknown 'ful'; did you mean 'full'?"),
    ([TRAIN, REFIT | {"ridge": -1}], {}, "stages[1].ridge", "found -1"),
    ([TRAIN, COMPACT | {"to": "init"}], {}, "stages[1].to", "unknown key"),
    ([{"type": "refitt"}], {}, "stages[0].type", "unknown 'refitt'; did you mean 'refit'?"),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "changes", "field", "hint"), MISTAKES)
def test_a_mistake_about_a_verb_is_told_in_one_line_with_its_place(
    write: Callable[..., Path], stages: list[dict[str, Any]], changes: dict, field: str, hint: str
) -> None:
    path = write(stages, **changes)
    with pytest.raises(UserError) as caught:
        load_config(path)
    (line,) = caught.value.lines
    assert line.startswith(f"{path}: {field}: ")
    assert hint in line
    assert "\n" not in line


def test_a_layer_may_be_called_like_a_word_of_the_vocabulary(write: Callable[..., Path]) -> None:
    """Pydantic tells an object that may be one of several by such names."""
    net = {"layers": [FLATTEN, HIDDEN | {"name": "RewindStep"}, LOGITS]}
    bad = PRUNE | {"layers": {"RewindStep": "all"}}
    with pytest.raises(UserError, match=r"stages\[0\]\.layers\.RewindStep: expected .*, found \"all\""):
        load_config(write([bad], net=net))
    assert load_config(write([PRUNE | {"layers": {"RewindStep": {"sparsity": 0.1}}}], net=net)).runs


def test_the_command_line_ends_with_code_2_and_one_line_a_mistake(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write([to(5), TRAIN | {"ramp": RAMP | {"every": 50}}, UNIT | {"criterion": "obd"}, COMPACT, REFIT])
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()
    places = ["stages[0].to.step", "stages[1].ramp.every", "stages[2].criterion", "stages[4].type"]
    assert sorted(line.split(": ")[1] for line in said) == places
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stages", "changes"),
    [
        ([TRAIN, UNIT, REFIT, COMPACT, TRAIN, PRUNE, REFIT], {}),
        ([TRAIN, PRUNE, SHUFFLE, to("init"), TRAIN], {}),
        ([TRAIN, UNIT, COMPACT, TRAIN, SHUFFLE], {}),
        ([TRAIN, UNIT, COMPACT, to("fresh"), TRAIN], {}),
        ([TRAIN, PRUNE, to(59), TRAIN], {}),
        ([TRAIN | {"batch_size": 1}], NORMED_CNN),
        ([TRAIN | {"batch_size": 2999}], NORMED_CNN),
        ([TRAIN | {"batch_size": 2999, "epochs": None, "steps": 1}], NORMED),  # the single image is not met
        ([TRAIN | {"batch_size": 1, "epochs": 0}], NORMED),
        ([TRAIN, PRUNE, to(60)], {}),
        ([TRAIN, to(0), TRAIN], {}),
        ([TRAIN, to(9), to("init"), TRAIN | {"epochs": None, "steps": 9}], {}),
        ([to("init"), to("fresh"), TRAIN, repeat(PRUNE, to(30), TRAIN)], {}),
        ([UNIT | {"criterion": "apoz"}], activated("relu")),
        ([FILTER | {"criterion": "apoz", "samples": 3000}], CNN | {"data": BASE["data"]}),
        ([ramp(every=45), ramp(sparsity=0.5)], {}),
        ([repeat(ramp(), REFIT)], {}),
        ([PRUNE, ramp(rate=0.1, sparsity=None)], {}),
        ([ramp(scope="global"), ramp(sparsity=0.5, scope="global")], {}),
        # What single layers have lost is known only when it runs.
        (
            [PRUNE | {"scope": "global"}, PRUNE | {"sparsity": 0.6, "layers": {"linear_2": {"sparsity": 0}}}],
            TWO,
        ),
        ([PRUNE | {"sparsity": 0.9}, UNIT | {"criterion": "shuffle", "sparsity": 0.5}, PRUNE], {}),
        ([PRUNE | {"sparsity": None, "rate": 0.5}, PRUNE, PRUNE | {"sparsity": None, "rate": 0.1}], {}),
        ([UNIT | {"sparsity": 0.9}, COMPACT, PRUNE], {}),  # compaction may take more than was asked for
        ([TRAIN, ANEW, COMPACT, TRAIN, PRUNE], {}),
        ([TRAIN, ANEW | {"kind": "unit"}, ANEW | {"sparsity": 0.9}, REFIT | {"mode": "logits"}], {}),
        ([ANEW | {"kind": "filter", "scope": "global"}], CNN),
        ([ANEW | {"layers": "all", "rounds": 1, "weigh": "none", "method": "magnitude"}], {}),
        ([ANEW], activated("tanh")),  # linear there, which is told when it runs
        ([ANEW, ANEW | {"method": "random"}, PRUNE | {"sparsity": None, "rate": 0.5}], {}),
        ([TRAIN, ANEW], {"data": {"dataset": "mnist", "train_size": 100}}),
        ([TRAIN, PRUNE | {"criterion": "wanda"}], {"data": {"dataset": "mnist", "train_size": 100}}),
    ],
)
def test_what_is_right_loads(write: Callable[..., Path], stages: list[dict[str, Any]], changes: dict) -> None:
    assert load_config(write(stages, **changes)).runs


HEAD = (
    '{"data":{"dataset":"mnist","train_size":3000},"net":{"layers":[{"type":"flatten"},{"type":"linear",'
    '"units":8},{"type":"linear","units":10}]},"schema":1,"seed":0,"stages":['
    '{"batch_size":100,"epochs":2,"type":"train","version":1},'
)
PINNED = {
    "6f8cc5701c3df34a": (
        [TRAIN, {"type": "refit", "mode": "full", "samples": 1e4 / 5, "ridge": 0.001}],
        '{"samples":2000,"type":"refit","version":1}',
    ),
    "7819ed8b6f6ff2e9": (
        [TRAIN, REFIT | {"mode": "bias", "ridge": 1}],
        '{"mode":"bias","ridge":1,"samples":3000,"type":"refit","version":1}',
    ),
    "92174b8ea17fb278": (
        [TRAIN, {
            "type": "reconstruct", "kind": "weight", "sparsity": 0.99, "method": "pursuit", "ridge": 1e-3,
            "weigh": "sensitivity", "fit": "rectified", "rounds": 3, "layers": {},
        }],
        '{"kind":"weight","sparsity":0.99,"type":"reconstruct","version":1}',
    ),
    "26bff8eabfc65dc6": (
        [TRAIN, ANEW | {
            "kind": "unit", "method": "contribution", "weigh": "none", "fit": "linear", "samples": 3000,
            "ridge": 1, "scope": "global",
        }],
        '{"fit":"linear","kind":"unit","method":"contribution","ridge":1,"samples":3000,"scope":"global",'
        '"sparsity":0.5,"type":"reconstruct","version":1,"weigh":"none"}',
    ),
    "d31df8f2a36a03db": ([TRAIN, to("init")], '{"to":"init","type":"rewind","version":1}'),
    "4b7f6dcfcf171204": (
        [TRAIN, to(12) | {"name": "back"}],
        '{"to":{"step":12},"type":"rewind","version":1}',
    ),
    "04e1f94ae16721b0": ([TRAIN, COMPACT], '{"type":"compact","version":1}'),
    "ea0f4c96584bec8a": (
        [TRAIN, ramp(every=100, end=0.75, samples=2000) | {"steps": 200, "epochs": None}],
        '{"batch_size":100,"ramp":{"kind":"weight","sparsity":0.5},"steps":200,"type":"train","version":1}',
    ),
    "569831a21e48a51c": (
        [TRAIN, ramp(criterion="wanda", end=1.0, layers={"linear_2": {"rate": 0.5}}, samples=10)],
        '{"batch_size":100,"epochs":2,"ramp":{"criterion":"wanda","end":1,"every":10,"kind":"weight",'
        '"layers":{"linear_2":{"rate":0.5}},"samples":10,"sparsity":0.5},"type":"train","version":1}',
    ),
    "a88ede9bc59d87b5": (
        [TRAIN, UNIT | {"criterion": "taylor", "samples": 2e3, "name": "cut"}],
        '{"criterion":"taylor","kind":"unit","sparsity":0.5,"type":"prune","version":1}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("pinned", PINNED)
def test_the_hash_of_each_verb_is_pinned_and_is_the_digest_of_its_canonical_text(
    write: Callable[..., Path], pinned: str
) -> None:
    """Where this fails, recorded results are orphaned: raise that stage's version instead, on purpose."""
    stages, text = PINNED[pinned]
    assert hashlib.sha256(f"{HEAD}{text}]}}".encode()).hexdigest()[:16] == pinned
    assert load_config(write(stages)).runs[0].hashes[1] == pinned


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (to("init"), to("fresh")),
        (to(0), to("init")),
        (to(4), to(5)),
        (REFIT, REFIT | {"ridge": 0.1}),
        (REFIT, REFIT | {"mode": "logits"}),
        (ANEW, ANEW | {"method": "magnitude"}),
        (ANEW, ANEW | {"weigh": "outgoing"}),
        (ANEW, ANEW | {"fit": "linear"}),
        (ANEW, ANEW | {"rounds": 4}),
        (ANEW, ANEW | {"samples": 100}),
        (ANEW, ANEW | {"ridge": 0.1}),
        (ANEW, ANEW | {"scope": "global"}),
        (ANEW, PRUNE),
        (REFIT, REFIT | {"samples": 2999}),
        (TRAIN, ramp()),
        (ramp(), ramp(every=11)),
        (ramp(), ramp(end=0.5)),
        (ramp(), ramp(samples=100)),
        (ramp(), ramp(kind="unit")),
        (PRUNE | {"criterion": "wanda"}, PRUNE | {"criterion": "wanda", "samples": 1999}),
    ],
)
def test_what_changes_a_verb_changes_its_hash_alone(
    write: Callable[..., Path], before: dict[str, Any], after: dict[str, Any]
) -> None:
    one, other = (load_config(write([TRAIN, words])).runs[0].hashes for words in (before, after))
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, False]


@pytest.mark.parametrize("kind", ["weight", "unit"])
def test_a_layer_of_a_ramp_is_known_by_its_place_and_not_by_its_name(
    write: Callable[..., Path], kind: str
) -> None:
    named = {"layers": [FLATTEN, HIDDEN | {"name": "hidden"}, LOGITS]}
    plain = load_config(write([ramp(kind=kind, layers={"linear_1": {"sparsity": 0.25}})])).runs[0]
    other = load_config(write([ramp(kind=kind, layers={"hidden": {"sparsity": 0.25}})], net=named)).runs[0]
    assert plain.hashes == other.hashes


@pytest.mark.parametrize("sparsity", [0, 0.5, 0.973, 1])
def test_copies_of_a_ramp_are_on_the_way_to_the_last_one_and_no_other_stage_changes(
    write: Callable[..., Path], sparsity: float
) -> None:
    words = ramp(sparsity=sparsity, layers={"linear_1": {"sparsity": 0.4}, "linear_2": {"rate": 0.5}})
    steps = load_config(write([TRAIN, {**repeat(words, REFIT, to("init")), "times": 3}])).runs[0].steps
    ramps = [step.stage.ramp for step in steps[1::3]]
    for asked, found in (
        (sparsity, [words.sparsity for words in ramps]),
        (0.4, [words.layers["linear_1"].sparsity for words in ramps]),
    ):
        assert found == pytest.approx([1 - (1 - asked) ** (i / 3) for i in (1, 2, 3)], abs=1e-11)
        assert found[-1] == asked
    assert {words.layers["linear_2"].rate for words in ramps} == {0.5}
    assert len({step.stage for step in steps if step.stage.type == "refit"}) == 1
    assert [step.stage.type for step in steps[1:]] == ["train", "refit", "rewind"] * 3
