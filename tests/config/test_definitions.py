"""Definitions: a config that uses them is the same as one that is written out, and mistakes are told once."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import loaded_or_told
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from helpers.config.definitions import write_out
from helpers.config.expansion import load_config
from helpers.config.json_schema import json_schema
from helpers.foundations.errors import UserError
from helpers.running.describing import describe

FLATTEN, LOGITS = {"type": "flatten"}, {"type": "linear", "units": 10}
NET = {"layers": [FLATTEN, {"type": "linear", "units": 8}, LOGITS]}
SMALL_NET = {"layers": [FLATTEN, {"type": "linear", "units": 4}, LOGITS]}
TRAIN = {"type": "train", "epochs": 2, "batch_size": 100}
SGD = {"type": "sgd", "lr": 0.1, "momentum": 0.9}
FINE_TUNE = TRAIN | {"name": "retrain", "optimizer": SGD}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.5}
COMPACT = {"type": "compact"}
BASE = {"data": {"dataset": "mnist"}, "net": NET, "stages": [TRAIN]}


def use(name: Any, /, **changes: Any) -> dict[str, Any]:
    return {"use": name} | changes


def repeat(*stages: dict[str, Any]) -> dict[str, Any]:
    return {"type": "repeat", "times": 2, "stages": list(stages)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes BASE with other parts into a file."""

    def write_config(name: str = "config", **parts: Any) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(BASE | parts))
        return path

    return write_config


def runs(path: Path, *how: Any) -> list[Any]:
    """All that a config says of its runs, hashes too."""
    found = load_config(path, *how)
    return [describe(found), [[step.stage for step in run.steps] for run in found.runs]]


PARTS = {
    "fine_tune": FINE_TUNE,
    "prune": PRUNE,
    "small_net": SMALL_NET,
    "sgd": SGD,
    "teacher": {"arm": "dense"},
    "amount": {"kind": "weight", "sparsity": 0.5},
    "prune_and_retrain": [use("prune"), use("fine_tune")],
    "swept": {"type": "prune", "kind": "weight", "sparsity": "$sparsity"},
    "longer": use("fine_tune", epochs=3),
    "longest": use("longer", epochs=4, log_every=5),
    "twice": [use("prune_and_retrain"), COMPACT],
    "others": [FLATTEN, {"type": "linear", "units": 4}],
}
LONG = FINE_TUNE | {"epochs": 3}
SWEPT = {"sweep": {"sparsity": [0.5, 0.9]}}


@pytest.mark.parametrize(
    ("used", "written"),
    [
        ({"stages": [TRAIN, use("fine_tune")]}, {"stages": [TRAIN, FINE_TUNE]}),
        ({"stages": [use("fine_tune", epochs=5, log_every=7)]},
         {"stages": [FINE_TUNE | {"epochs": 5, "log_every": 7}]}),
        ({"stages": [use("fine_tune", optimizer={"lr": 0.3})]},
         {"stages": [FINE_TUNE | {"optimizer": SGD | {"lr": 0.3}}]}),
        ({"stages": [use("fine_tune", optimizer={"momentum": None})]},
         {"stages": [FINE_TUNE | {"optimizer": {"type": "sgd", "lr": 0.1}}]}),
        ({"stages": [use("fine_tune", epochs=None, steps=9, name=None)]},
         {"stages": [{"type": "train", "steps": 9, "batch_size": 100, "optimizer": SGD}]}),
        ({"stages": [TRAIN | {"optimizer": use("sgd", momentum=None)}]},
         {"stages": [TRAIN | {"optimizer": {"type": "sgd", "lr": 0.1}}]}),
        ({"stages": [use("fine_tune", ramp=use("amount", every=30))]},
         {"stages": [FINE_TUNE | {"ramp": {"kind": "weight", "sparsity": 0.5, "every": 30}}]}),
        ({"stages": [TRAIN | {"ramp": use("prune", type=None)}]},
         {"stages": [TRAIN | {"ramp": {"kind": "weight", "sparsity": 0.5}}]}),
        # lists
        ({"stages": [TRAIN, use("prune_and_retrain"), COMPACT]},
         {"stages": [TRAIN, PRUNE, FINE_TUNE, COMPACT]}),
        ({"stages": use("prune_and_retrain")}, {"stages": [PRUNE, FINE_TUNE]}),
        ({"stages": [TRAIN, repeat(use("prune_and_retrain"))]},
         {"stages": [TRAIN, repeat(PRUNE, FINE_TUNE)]}),
        ({"stages": [use("twice")]}, {"stages": [PRUNE, FINE_TUNE, COMPACT]}),
        ({"arms": {"a": {"then": [use("twice")]}, "b": {"then": use("prune_and_retrain")}}},
         {"arms": {"a": {"then": [PRUNE, FINE_TUNE, COMPACT]}, "b": {"then": [PRUNE, FINE_TUNE]}}}),
        ({"net": {"layers": [use("others"), LOGITS]}}, {"net": SMALL_NET}),
        # definitions of definitions
        ({"stages": [use("longer")]}, {"stages": [LONG]}),
        ({"stages": [use("longest", batch_size=50)]},
         {"stages": [FINE_TUNE | {"epochs": 4, "log_every": 5, "batch_size": 50}]}),
        # nets, arms, axes
        ({"net": use("small_net", activation="tanh")}, {"net": SMALL_NET | {"activation": "tanh"}}),
        ({"net": NET | {"init": "glorot_normal"}, "arms": {"a": {"net": use("small_net")}}},
         {"net": NET | {"init": "glorot_normal"}, "arms": {"a": {"net": SMALL_NET}}}),
        (SWEPT | {"arms": {"a": {"then": [use("swept")]}, "b": {"stages": [use("swept")]}}},
         SWEPT | {"arms": {"a": {"then": [PARTS["swept"]]}, "b": {"stages": [PARTS["swept"]]}}}),
        (SWEPT | {"stages": [use("prune", sparsity="$sparsity")]}, SWEPT | {"stages": [PARTS["swept"]]}),
        ({"net": "$net", "sweep": {"net": [NET, use("small_net")]}},
         {"net": "$net", "sweep": {"net": [NET, SMALL_NET]}}),
        ({"arms": {"dense": {}, "kd": {"stages": [TRAIN | {"teacher": use("teacher")}]}}},
         {"arms": {"dense": {}, "kd": {"stages": [TRAIN | {"teacher": {"arm": "dense"}}]}}}),
        # what is called 'use' by the user is no use
        ({"arms": {"use": {"stages": [PRUNE]}}}, {"arms": {"use": {"stages": [PRUNE]}}}),
        ({"sweep": {"use": [1, 2]}, "stages": [TRAIN | {"epochs": "$use"}]},
         {"sweep": {"use": [1, 2]}, "stages": [TRAIN | {"epochs": "$use"}]}),
        ({"net": {"layers": [FLATTEN, {"type": "linear", "units": 8, "name": "use"}, LOGITS]},
          "stages": [PRUNE | {"layers": {"use": {"sparsity": 0.7}}}]},
         {"stages": [PRUNE | {"layers": {"linear_1": {"sparsity": 0.7}}}]}),
    ],
)  # fmt: skip
def test_a_use_means_what_its_definition_says(write, used, written):
    named = json.dumps(used)
    define: dict[str, Any] = {}
    while missing := [name for name in PARTS if f'"use": "{name}"' in named and name not in define]:
        define |= {name: PARTS[name] for name in missing}
        named += json.dumps(define)
    assert runs(write(**used, define=define)) == runs(write(**written))


def test_profiles_and_set_address_stages_by_their_names(write):
    profiles = {"quick": {"retrain.epochs": 1, "again.optimizer.lr": 0.5, "net.layers.1.units": 3}}
    used = {
        "stages": [TRAIN, use("a"), use("a", name="again")],
        "net": use("b"),
        "define": {"a": FINE_TUNE, "b": NET},
    }
    written = {"stages": [TRAIN, FINE_TUNE, FINE_TUNE | {"name": "again"}]}
    paths = write("config", **used, profiles=profiles), write("config_2", **written, profiles=profiles)
    for how in ((None, ["retrain.epochs=7"]), ("quick",), ("quick", ["retrain.optimizer.momentum=0"])):
        one, other = (load_config(path, *how).runs for path in paths)
        assert [run.hashes for run in one] == [run.hashes for run in other]
    stages = [step.stage for step in load_config(paths[0], "quick").runs[0].steps]
    assert [stage.epochs for stage in stages] == [2, 1, 2]
    assert [stage.optimizer.lr for stage in stages[1:]] == [0.1, 0.5]


def test_a_definition_is_no_name_of_a_stage(write):
    path = write(stages=[TRAIN, use("fine_tune")], define={"fine_tune": FINE_TUNE})
    with pytest.raises(UserError) as caught:
        load_config(path, overrides=["fine_tune.epochs=1"])
    (line,) = caught.value.lines
    assert line.startswith("--set fine_tune.epochs: nothing is called 'fine_tune.epochs'")


def test_a_teacher_may_stand_in_a_file_that_uses_definitions(write):
    write("teacher", net=use("net"), stages=[use("train")], define={"net": NET, "train": TRAIN})
    student = write(stages=[TRAIN | {"teacher": {"config": "teacher.json"}}])
    key = load_config(student).runs[0].hashes[-1]
    write("teacher")
    assert load_config(student).runs[0].hashes[-1] == key
    write("teacher", stages=[use("trian")], define={"train": TRAIN})
    with pytest.raises(UserError, match=r"teacher\.json: stages\[0\]\.use: unknown 'trian'; did you mean 't"):
        load_config(student)


D = {"retrain": FINE_TUNE, "prune": PRUNE, "both": [use("prune"), use("retrain")]}
BOTH = [TRAIN, use("both")]
MISTAKES = [
    # of definitions
    ("no object",
     {"define": [COMPACT]}, ['define: expected an object, found [{"type": "compact"}]']),
    ("no object, used",
     {"define": 5, "stages": BOTH}, ["define: expected an object, found 5"]),
    ("name",
     {"define": {"re-train": TRAIN}, "stages": [use("re-train")]},
     ["define: expected a name of letters, digits and _, found 're-train'"]),
    ("neither object nor list",
     {"define": {"a": "train"}, "stages": [use("a"), use("a")]},
     ['define.a: expected an object or a list, found "train"']),
    ("unused",
     {"define": {"a": TRAIN}}, ["define.a: nothing uses it: use it or leave it out"]),
    ("used by what is unused",
     {"define": {"a": TRAIN, "b": use("a")}},
     ["define.b: nothing uses it: use it or leave it out"]),
    ("key",
     {"defin": D, "stages": BOTH}, ["defin: unknown key; did you mean 'define'?"]),
    ("itself",
     {"define": {"a": use("a")}, "stages": [use("a")]}, ["define.a: leads back to itself: a → a"]),
    ("circle",
     {"define": {"a": [use("b")], "b": use("c", epochs=1), "c": use("a")},
      "stages": [use("c"), use("b"), use("a")]}, ["define.a: leads back to itself: a → b → c → a"]),
    ("too many",
     {"define": {f"d{i}": [use(f"d{i + 1}")] * 2 for i in range(40)} | {"d40": [TRAIN]},
      "stages": [use("d0")]},
     ["define: comes to values nested more than 50 deep, or to more than 10000 of them"]),
    ("too deep",
     {"define": {"d0": TRAIN} | {f"d{i + 1}": {"x": use(f"d{i}")} for i in range(999)},
      "stages": [use("d999")]},
     ["define: comes to values nested more than 50 deep, or to more than 10000 of them"]),
    ("a long way",
     {"define": {f"d{i}": use(f"d{i + 1}") for i in range(999)} | {"d999": TRAIN},
      "stages": [use("d0")]},
     ["define: comes to values nested more than 50 deep, or to more than 10000 of them"]),
    # of uses
    ("unknown",
     {"define": D, "stages": [*BOTH, use("retrian", name="again")]},
     ["stages[2].use: unknown 'retrian'; did you mean 'retrain'?"]),
    ("nothing near",
     {"define": D, "stages": [*BOTH, use("x", epochs=-1), TRAIN | {"epochs": -1}]},
     ["stages[2].use: unknown 'x'; expected one of 'retrain', 'prune', 'both'",
      "stages[3].epochs: expected greater than or equal to 0, found -1"]),
    ("nothing defined",
     {"stages": [use("retrain")]}, ["stages[0].use: unknown 'retrain': nothing is defined"]),
    ("in a definition",
     {"define": {"a": [use("x"), TRAIN]}, "stages": [use("a"), use("a")]},
     ["define.a[0].use: unknown 'x'; expected one of 'a'"]),
    ("no text",
     {"stages": [TRAIN, use(["a"])]},
     ['stages[1].use: expected the name of a definition, found ["a"]']),
    ("an axis",
     SWEPT | {"stages": [use("$sparsity")]},
     ["stages[0].use: expected a name, found the axis '$sparsity': let its values be {\"use\": …}"]),
    ("a list with changes",
     {"define": D, "stages": [TRAIN, use("both", epochs=1, name="x")]},
     ["stages[1]: 'both' is a list, and its use has no other key; found 'epochs', 'name'"]),
    ("a list as net",
     {"define": D, "stages": BOTH, "net": use("both")},
     ["net.use: expected an object, found 'both', which is a list"]),
    ("a list as ramp",
     {"define": D, "stages": [*BOTH, TRAIN | {"ramp": use("both")}]},
     ["stages[2].ramp.use: expected an object, found 'both', which is a list"]),
    ("a stage as net",
     {"define": D, "stages": BOTH, "arms": {"a": {"net": use("retrain")}}},
     ["arms.a.net.use: expected a net, found 'retrain', which is of type 'train'"]),
    ("a net as stage",
     {"define": {"small": NET}, "arms": {"a": {"then": [COMPACT, use("small")]}}},
     ["arms.a.then[1].use: expected a stage or a list of them, found 'small', which is a net"]),
    ("a stage as stages",
     {"define": {"a": TRAIN}, "stages": use("a"), "arms": {"b": {"then": use("a")}}},
     ["stages.use: expected a list of stages, found 'a', which is of type 'train'",
      "arms.b.then.use: expected a list of stages, found 'a', which is of type 'train'"]),
    ("an arm",
     {"define": {"a": TRAIN}, "stages": [use("a")], "arms": {"b": use("a")}},
     ["arms.b.use: unknown key: what takes a definition is a net, a stage or another part"]),
    # where a value stands
    ("in the definition",
     {"define": D | {"retrain": FINE_TUNE | {"epohcs": 1}}, "stages": BOTH,
      "arms": {"a": {}, "b": {"then": [use("retrain", name="again")]}},
      "profiles": {"quick": {"train.epochs": 1}}},
     ["define.retrain.epohcs: unknown key; did you mean 'epochs'?"]),
    ("deep in it",
     {"define": D | {"retrain": TRAIN | {"optimizer": SGD | {"lr": 0}}}, "stages": BOTH},
     ["define.retrain.optimizer.lr: expected greater than 0, found 0"]),
    ("in a change",
     {"define": D, "stages": [*BOTH, use("retrain", name="x", optimizer={"lr": 0})]},
     ["stages[2].optimizer.lr: expected greater than 0, found 0"]),
    ("after a list",
     {"define": D, "stages": [use("both"), COMPACT, TRAIN | {"epochs": "x"}]},
     ['stages[2].epochs: expected a valid integer, found "x"']),
    ("after a list in an arm",
     {"define": D, "arms": {"a": {"then": [use("both"), TRAIN | {"epochs": "x"}]}}},
     ['arms.a.then[1].epochs: expected a valid integer, found "x"']),
    ("in a repeat",
     {"define": {"a": [PRUNE, TRAIN | {"epochs": -1}], "b": repeat(use("a"))}, "stages": [use("b")]},
     ["define.a[1].epochs: expected greater than or equal to 0, found -1"]),
    ("missing",
     {"define": {"a": {"type": "prune", "sparsity": 0.5}}, "stages": [TRAIN, use("a"), use("a")]},
     ["define.a.kind: is missing (What goes: single weights, output neurons of linear layers, or filters of "
      "convolutions.)"]),
    ("taken away",
     {"define": D, "stages": [*BOTH, use("retrain", type=None)]},
     ["stages[2].type: is missing; expected one of ['compact', 'prune', 'reconstruct', 'refit', 'repeat', "
      "'rewind', 'train']"]),
    ("a stage, by its definition",
     {"define": {"a": TRAIN | {"steps": 1}},
      "stages": [use("a"), use("a", name="b"), use("a", batch_size=5, name="c")]},
     ["define.a: expected exactly one of 'epochs' and 'steps'"]),
    ("a stage, by a change",
     {"define": {"a": TRAIN}, "stages": [use("a"), use("a", steps=1)]},
     ["stages[1]: expected exactly one of 'epochs' and 'steps'"]),
    ("a stage, by what is taken",
     {"define": {"a": TRAIN}, "stages": [use("a"), use("a", epochs=None)]},
     ["stages[1]: expected exactly one of 'epochs' and 'steps'"]),
    ("a part, by a change",
     {"define": {"a": FINE_TUNE},
      "stages": [use("a", optimizer={"nesterov": True, "momentum": 0})]},
     ["stages[0].optimizer: nesterov needs momentum > 0"]),
    ("a null that takes nothing",
     {"define": {"a": TRAIN}, "stages": [use("a", epohcs=None)]},
     ["stages[0].epohcs: unknown key; did you mean 'epochs'?"]),
    ("a name twice",
     {"define": D, "stages": [*BOTH, use("retrain")]},
     ["define.retrain.name: stages[1] is called 'retrain' already; choose another"]),
    ("name in one list",
     {"define": {"a": [FINE_TUNE, FINE_TUNE]}, "stages": [use("a")]},
     ["define.a[1].name: define.a[0] is called 'retrain' already; choose another"]),
    ("axis",
     {"define": {"a": PRUNE | {"sparsity": "$spasity"}}, "stages": [use("a"), use("a")], **SWEPT,
       "arms": {"a": {}, "b": {"then": [PRUNE | {"sparsity": "$sparsity"}]}}},
     ["define.a.sparsity: unknown axis '$spasity'; did you mean '$sparsity'?"]),
    ("value of an axis",
     {"define": {"a": SGD | {"lr": -1}}, "stages": [TRAIN | {"optimizer": "$x"}],
     "sweep": {"x": [{"type": "adam"}, use("a")]}},
     ["define.a.lr: expected greater than 0, found -1"]),
    ("value for a definition",
     {"define": {"a": PRUNE | {"sparsity": "$s"}}, "stages": [use("a")], "sweep": {"s": [2]}},
     ["sweep.s[0]: expected less than or equal to 1, found 2; a share is meant, not percent"]),
    ("profile",
     {"define": D, "stages": BOTH, "profiles": {"quick": {"retrain.epochs": -1}}},
     ["profiles.quick['retrain.epochs']: expected greater than or equal to 0, found -1"]),
    ("use in a profile",
     {"define": D, "stages": BOTH, "profiles": {"quick": {"retrain.optimizer": use("sgd")}}},
     ["profiles.quick['retrain.optimizer'].type: is missing; expected one of ['adam', 'adamw', 'sgd']"]),
    ("teacher",
     {"define": {"a": {"arm": "dnse"}}, "arms": {
     "dense": {}, "kd": {"stages": [TRAIN | {"teacher": use("a"), "alpha": 0.5}]}}},
     ["define.a.arm: unknown arm 'dnse'; did you mean 'dense'?"]),
    ("several",
     {"define": {"a": use("b"), "c": FINE_TUNE | {"epochs": -1}}, "data": {"dataset": "mnsit"},
      "stages": [use("a"), use("c")]},
     ["define.a.use: unknown 'b'; expected one of 'a', 'c'",
     "data.dataset: unknown 'mnsit'; did you mean 'mnist'?",
     "define.c.epochs: expected greater than or equal to 0, found -1"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "lines"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES]
)
def test_a_mistake_is_told_once_where_its_value_stands(write, parts, lines):
    path = write(**parts)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert list(caught.value.lines) == [f"{path}: {line}" for line in lines]


def test_what_is_missing_makes_no_other_mistake(write):
    """What addresses it, and the axis that it takes, may be right."""
    profiles = {"quick": {"later.epochs": 1}}
    parts = {"stages": [TRAIN, use("x")], "profiles": profiles, **SWEPT}
    path = write(**parts)
    with pytest.raises(UserError) as caught:
        load_config(path, "quick", ["later.epochs=2"])
    assert caught.value.lines == (f"{path}: stages[1].use: unknown 'x': nothing is defined",)


def test_a_file_without_definitions_stays_as_it_is():
    raw = BASE | {"arms": {"a": {"then": [repeat(PRUNE)]}}, "profiles": {"quick": {"use": 1}}, **SWEPT}
    found = write_out(copy.deepcopy(raw))
    assert (found.raw, found.mistakes, found.is_complete) == (raw, [], True)


STAGES = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("train"), "epochs": st.integers(1, 3)},
        optional={
            "log_every": st.integers(1, 9),
            "optimizer": st.fixed_dictionaries(
                {"type": st.just("sgd"), "lr": st.sampled_from([0.1, 0.5])},
                optional={"momentum": st.sampled_from([0.5, 0.9])},
            ),
        },
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(stages=STAGES, data=st.data())
def test_whatever_is_defined_and_used_gives_the_same_runs(tmp_path_factory, stages, data):
    """Stages are replaced by uses of one of them, changed to what they were, and runs of them by lists."""
    kept, used = data.draw(st.sampled_from(stages)), []
    for stage in stages:
        changes = {key: value for key, value in stage.items() if kept.get(key) != value}
        changes |= {key: None for key in kept if key not in stage}
        if {"optimizer"} <= stage.keys() & kept.keys():
            missing = {key: None for key in kept["optimizer"] if key not in stage["optimizer"]}
            changes["optimizer"] = stage["optimizer"] | missing
        used.append(use("kept", **changes) if data.draw(st.booleans()) else stage)
    start = data.draw(st.integers(0, len(used)))
    end = data.draw(st.integers(start, len(used)))
    define = {"part": used[start:end], "kept": kept}
    used = [*used[:start], use("part"), *used[end:], use("kept")]
    folder = tmp_path_factory.mktemp("reuse")
    paths = folder / "used.json", folder / "written.json"
    paths[0].write_text(json.dumps(BASE | {"stages": used, "define": define}))
    paths[1].write_text(json.dumps(BASE | {"stages": [*stages, kept]}))
    one, other = (load_config(path).runs[0] for path in paths)
    assert one.hashes == other.hashes
    assert [step.name for step in one.steps] == [step.name for step in other.steps]


MORE = {"type": "prune", "kind": "weight", "rate": 0.5}
FULL = {
    "define": {"sgd": SGD, "a": TRAIN | {"optimizer": use("sgd")}, "b": [use("a"), MORE], "net": NET},
    "net": use("net", activation="tanh"),
    "stages": [use("a"), use("b"), repeat(use("b"))],
    "arms": {"x": {"then": [use("a", optimizer={"lr": 0.5})]}},
    "profiles": {"quick": {"train.epochs": 1}},
}
PLACES = [
    *("define", "define/sgd/lr", "define/a", "define/a/optimizer", "define/b", "define/b/0"),
    *("define/b/1/sparsity", "define/net", "define/net/layers", "net", "net/use", "stages", "stages/0"),
    *("stages/1", "stages/1/use", "stages/2/stages", "stages/2/stages/0/use", "arms/x", "arms/x/then"),
    "arms/x/then/0/optimizer",
]
NAMES = st.sampled_from(["a", "b", "net", "sgd", "c", "$x", "train", "all"])
KEYS = st.sampled_from(["use", "type", "epochs", "layers", "optimizer", "lr", "name"])
JSON = st.recursive(
    st.none() | st.integers(-1, 3) | NAMES,
    lambda item: st.lists(item, max_size=3) | st.dictionaries(KEYS, item, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=100)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_whatever_stands_in_definitions_and_uses_loads_or_is_told(tmp_path_factory, place, value):
    raw = copy.deepcopy(BASE | FULL)
    node = raw
    *way, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    for key in way:
        node = node[key]
    node[last] = value
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_text(json.dumps(raw))
    lines = loaded_or_told(path)
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(
    ("parts", "is_valid"),
    [
        ({"define": PARTS, "stages": [use("twice"), use("fine_tune", epochs=None)]}, True),
        ({"stages": [use("fine_tune", optimizer={"lr": 1})]}, True),
        ({"net": use("small"), "arms": {"a": {"net": use("small"), "then": [use("a")]}}}, True),
        ({"stages": use("twice")}, True),
        ({"stages": [TRAIN | {"teacher": [use("a")], "ramp": use("b"), "optimizer": use("c")}]}, True),
        ({"define": {"a": 5}}, False),
        ({"define": {"a": [{"type": "trian"}]}}, False),
        ({"stages": [use(5)]}, False),
        ({"seeds": use("a")}, False),
    ],
)  # fmt: skip
def test_the_schema_knows_definitions_and_uses(parts, is_valid):
    assert Draft202012Validator(json_schema()).is_valid(BASE | parts) == is_valid
