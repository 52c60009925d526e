"""A result's identity: what decides a number is in the hash, what does not is out of it."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.config.expansion import load_config
from helpers.config.hashing import Run
from helpers.config.schema import RunSpec

BASE = {
    "data": {"dataset": "mnist"},
    "net": {"layers": [{"type": "flatten"}, {"type": "linear", "units": 8}, {"type": "linear", "units": 10}]},
    "stages": [
        {"type": "train", "epochs": 1, "optimizer": {"type": "sgd", "lr": 0.5}},
        {"type": "prune", "kind": "weight", "sparsity": 0},
    ],
}


@pytest.fixture(scope="module")
def runs_of(tmp_path_factory):
    """From a config, as a dict or as the text of a file, to its runs."""

    def load(raw: dict | str) -> list[Run]:
        path: Path = tmp_path_factory.mktemp("sentence") / "config.json"
        path.write_text(raw if isinstance(raw, str) else json.dumps(raw), "utf-8")
        return load_config(path).runs

    return load


PINNED = {
    "c830af2e67e11288": (
        '{"data":{"dataset":"mnist"},"net":{"layers":[{"type":"flatten"},{"type":"linear","units":10}]},'
        '"schema":1,"seed":0,"stages":[{"epochs":1,"type":"train","version":1}]}',
        """{"data": {"dataset": "mnist", "validation_size": 5000},
            "net": {"layers": [{"type": "flatten"}, {"type": "linear", "units": 10}], "activation": "relu"},
            "stages": [{"type": "train", "epochs": 1, "batch_size": 128}]}""",
    ),
    "f9d2a42c854635b3": (
        '{"data":{"dataset":"cifar10","train_size":1000,"validation_size":0},"net":{"activation":"gelu","init":'
        '"glorot_uniform","layers":[{"filters":4,"kernel":3,"padding":1,"type":"conv2d"},{"type":"batch_norm"},'
        '{"activation":"tanh","filters":8,"kernel":3,"type":"conv2d"},{"size":2,"type":"adaptive_avgpool"},'
        '{"type":"flatten"},{"type":"linear","units":10}]},"schema":1,"seed":7,"stages":[{"log_every":100,'
        '"optimizer":{"betas":[0.9,0.99],"lr":1,"type":"adamw"},"precision":"bfloat16","schedule":{"type":"cosine",'
        '"warmup_steps":10},"steps":1000,"type":"train","version":1}]}',
        """{"data": {"dataset": "cifar10", "train_size": 1e3, "validation_size": 0}, "seeds": [7],
            "net": {"activation": "gelu", "init": "glorot_uniform", "layers": [
                {"type": "conv2d", "name": "eye", "filters": 4, "kernel": 3, "padding": 1},
                {"type": "batch_norm"},
                {"type": "conv2d", "filters": 8, "kernel": 3, "activation": "tanh"},
                {"type": "adaptive_avgpool", "size": 2},
                {"type": "flatten"}, {"type": "linear", "units": 10}]},
            "stages": [{"type": "train", "name": "learn", "steps": 1e3,
                "log_every": 100, "precision": "bfloat16",
                "optimizer": {"type": "adamw", "lr": 1.0, "betas": [0.90, 0.99], "eps": 1e-8},
                "schedule": {"type": "cosine", "warmup_steps": 10, "final": 0}}]}""",
    ),
    "37ac725245f4180d": (
        '{"data":{"dataset":"mnist"},"net":{"layers":[{"type":"flatten"},{"type":"linear","units":8},'
        '{"type":"linear","units":10}]},"schema":1,"seed":0,"stages":[{"kind":"weight","layers":{"linear_1":'
        '{"rate":0.25},"linear_2":{"sparsity":0}},"scope":"global","sparsity":0.5,"type":"prune","version":1}]}',
        """{"description": "Layers by name", "data": {"dataset": "mnist"},
            "net": {"layers": [{"type": "flatten"}, {"type": "linear", "units": 8, "name": "hidden"},
                               {"type": "linear", "units": 10, "name": "linear_1"}]},
            "stages": [{"type": "prune", "kind": "weight", "scope": "global", "sparsity": 0.5,
                        "layers": {"linear_1": {"sparsity": 0.0}, "hidden": {"rate": 0.25}}}]}""",
    ),
    "1b3a3d437a69c2bc": (
        '{"data":{"dataset":"mnist"},"net":{"layers":[{"filters":2,"kernel":5,"type":"conv2d"},{"kernel":3,"type":'
        '"maxpool"},{"type":"flatten"},{"type":"linear","units":10}]},"schema":1,"seed":0,"stages":[{"epochs":0,'
        '"optimizer":{"type":"adamw","weight_decay":0.1},"type":"train","version":1},{"kind":"filter",'
        '"rate":0.5,"type":"prune","version":1}]}',
        """{"data": {"dataset": "mnist"}, "sweep": {"kind": ["filter", "weight"]},
            "net": {"layers": [{"type": "conv2d", "filters": 2, "kernel": 5},
                               {"type": "maxpool", "kernel": 3},
                               {"type": "flatten"}, {"type": "linear", "units": 10}]},
            "stages": [{"type": "train", "epochs": 0,
                        "optimizer": {"type": "adamw", "lr": 1e-3, "weight_decay": 0.1}},
                       {"type": "prune", "kind": "$kind", "scope": "layer",
                        "rate": 0.5, "sparsity": null}]}""",
    ),
    "d17ece6125093261": (
        '{"data":{"dataset":"mnist"},"net":{"layers":[{"type":"flatten"},{"type":"linear","units":8},'
        '{"type":"linear","units":10}]},"schema":1,"seed":3,"stages":['
        '{"criterion":"random","kind":"unit","sparsity":0.5,"type":"prune","version":1},'
        '{"optimizer":{"lr":0.5,"momentum":0.9,"nesterov":true,"type":"sgd"},"steps":5,"type":"train","version":1},'
        '{"criterion":"random","kind":"unit","sparsity":0.75,"type":"prune","version":1},'
        '{"optimizer":{"lr":0.5,"momentum":0.9,"nesterov":true,"type":"sgd"},"steps":5,"type":"train","version":1}]}',
        """{"data": {"dataset": "mnist"}, "seeds": [3], "sweep": {"lr": [0.5]},
            "net": {"layers": [{"type": "flatten"},
                               {"type": "linear", "units": 8}, {"type": "linear", "units": 10}]},
            "stages": [{"type": "repeat", "times": 2, "stages": [
                {"type": "prune", "kind": "unit", "criterion": "random", "sparsity": 0.75},
                {"type": "train", "steps": 5,
                 "optimizer": {"type": "sgd", "lr": "$lr", "momentum": 0.9, "nesterov": true}}]}]}""",
    ),
}


@pytest.mark.parametrize("pinned", PINNED)
def test_a_hash_is_pinned_and_is_the_digest_of_the_canonical_text(runs_of, pinned):
    """Where this fails, all recorded results are orphaned: raise a version instead, on purpose."""
    text, config = PINNED[pinned]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == pinned
    assert runs_of(config)[0].hashes[-1] == pinned


def changed(place: str, value: object) -> dict:
    """BASE with a value at a place such as "stages/0/epochs"."""
    raw = copy.deepcopy(BASE)
    *path, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    node = raw
    for part in path:
        node = node[part]
    node[last] = value
    return raw


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("description", "Whatever"),
        ("stages/0/name", "warm_up"),
        ("net/layers/1/name", "hidden"),
        ("data/validation_size", 5000),
        ("net/layers/0/name", None),
        ("stages/0/epochs", 1.0),
        ("stages/0/schedule", {"type": "constant", "warmup_steps": 0}),
        ("stages/1/sparsity", 0.0),
        ("stages/1/sparsity", -0.0),
        ("stages/1/layers", {}),
        ("profiles", {"quick": {"seeds": [9]}}),
        ("seeds", [0, 1]),
        ("arms", {"only": {}}),
        ("stages/0/batch_size", 128.0),
        ("stages/0/checkpoint_epochs", 7),
        ("stages/0/checkpoint_epochs", None),
        ("net/activation", "relu"),
    ],
)
def test_what_changes_no_result_changes_no_hash(runs_of, place, value):
    assert runs_of(changed(place, value))[0].hashes == runs_of(BASE)[0].hashes


@pytest.mark.parametrize(
    ("place", "value", "same_prefix"),
    [
        ("seeds", [1], 0),
        ("data/dataset", "kmnist", 0),
        ("data/split_seed", 1, 0),
        ("data/train_size", 55000, 0),
        ("net/init", "glorot_normal", 0),
        ("net/layers/1/units", 9, 0),
        ("net/layers/1/activation", "tanh", 0),
        ("stages/0/epochs", 2, 0),
        ("stages/0/precision", "bfloat16", 0),
        ("stages/0/log_every", 10, 0),
        ("stages/0/optimizer/lr", 0.25, 0),
        ("stages/0/optimizer", {"type": "adam", "lr": 0.5}, 0),
        ("stages/1/sparsity", 0.5, 1),
        ("stages/1/kind", "unit", 1),
        ("stages/1/layers", {"linear_2": {}}, 1),
        ("stages/1", {"type": "train", "epochs": 1}, 1),
    ],
)
def test_what_changes_a_result_changes_its_hash_and_all_after_it_but_none_before(
    runs_of, place, value, same_prefix
):
    before, after = runs_of(BASE)[0].hashes, runs_of(changed(place, value))[0].hashes
    assert [old == new for old, new in zip(before, after, strict=True)] == [same_prefix > 0, False]


def test_runs_that_share_a_prefix_share_its_hash(runs_of):
    swept = changed("stages/1/sparsity", "$s") | {"sweep": {"s": [0, 0.5, 0.9]}, "seeds": [0, 1]}
    hashes = [run.hashes for run in runs_of(swept)]
    assert len({first for first, _ in hashes}) == 2, "one training a seed"
    assert len({last for _, last in hashes}) == 6


def repeated(stages: list[dict], times: int = 3) -> dict:
    """BASE with its stages in a repeat."""
    return BASE | {"stages": [{"type": "repeat", "times": times, "stages": stages}]}


@pytest.mark.parametrize("sparsity", [0, 0.5, 1 / 3, 0.973, 1])
def test_copy_i_of_n_prunes_on_the_way_to_exactly_the_last_sparsity(runs_of, sparsity):
    layers = {"linear_2": {"sparsity": 0.4}, "linear_1": {"rate": 0.5}}
    stage = {"type": "prune", "kind": "weight", "sparsity": sparsity, "layers": layers}
    steps = runs_of(repeated([stage]))[0].steps
    for asked, found in (
        (sparsity, [step.stage.sparsity for step in steps]),
        (0.4, [step.stage.layers["linear_2"].sparsity for step in steps]),
    ):
        assert found == pytest.approx([1 - (1 - asked) ** (i / 3) for i in (1, 2, 3)], abs=1e-11)
        assert found[-1] == asked
    assert [step.stage.layers["linear_1"].rate for step in steps] == [0.5] * 3


def test_a_repeat_is_the_same_as_its_stages_written_out(runs_of):
    train, prune = BASE["stages"][0], {"type": "prune", "kind": "weight"}
    short = repeated([prune | {"sparsity": 0.75}, train], 2)
    long = [prune | {"sparsity": 0.5}, train | {"name": "a"}, prune | {"sparsity": 0.75, "name": "b"}, train]
    assert runs_of(short)[0].hashes == runs_of(BASE | {"stages": long})[0].hashes


def test_stages_are_called_by_name_else_type_and_number_and_know_their_round(runs_of):
    train, prune = BASE["stages"]
    block = [prune | {"rate": 0.5, "sparsity": None}, train, train | {"name": "tune"}]
    stages = [train, {"type": "repeat", "times": 2, "stages": block}, train, train | {"name": "last"}]
    steps = runs_of(BASE | {"stages": stages})[0].steps
    copy_of = ["prune", "train_2", "tune"]
    assert [step.name for step in steps] == ["train", *copy_of, *copy_of, "train_3", "last"]
    assert [step.round for step in steps] == [0, 1, 1, 1, 2, 2, 2, 0, 0]


def spelt_out(written: object, full: object, data: st.DataObject) -> object:
    """The same config with keys in any order, any of its defaults spelt out, and any number as a float."""
    if isinstance(full, dict):
        keys = [key for key in full if key in written or data.draw(st.booleans(), label=f"spell out {key}")]
        return {
            key: spelt_out(written.get(key, full[key]), full[key], data)
            for key in data.draw(st.permutations(keys))
        }
    if isinstance(full, list):
        return [spelt_out(*pair, data) for pair in zip(written, full, strict=True)]
    if isinstance(full, int | float) and not isinstance(full, bool):
        return data.draw(st.sampled_from([full, float(full)]))
    return full


@settings(deadline=None, max_examples=50)
@given(data=st.data(), base=st.sampled_from([config for _, config in PINNED.values() if "$" not in config]))
def test_however_a_config_is_spelt_its_hash_is_the_same(runs_of, data, base):
    raw = json.loads(base)
    spec = {key: raw[key] for key in ("data", "net", "stages")}
    full = RunSpec.model_validate(spec).model_dump()
    spelt = spelt_out(spec, full, data)
    assert runs_of(raw | spelt)[0].hashes == runs_of(raw)[0].hashes
