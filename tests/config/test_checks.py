"""Configs: every mistake is told before anything runs, in one line that says where and what is near."""

import copy
import json
from pathlib import Path

import pytest
from conftest import loaded_or_told
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from helpers.config.expansion import load_config
from helpers.config.json_schema import json_schema
from helpers.foundations.errors import UserError
from helpers.foundations.settings import StrictModel

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(path for path in CONFIGS.glob("*.json") if path.name != "schema.json")
GONE = object()
BASE = {
    "description": "A small example",
    "data": {"dataset": "mnist", "validation_size": 100},
    "net": {
        "layers": [{"type": "flatten"}, {"type": "linear", "units": 8}, {"type": "linear", "units": 10}],
        "activation": "relu",
    },
    "seeds": [0, 1],
    "stages": [
        {"type": "train", "epochs": 10, "optimizer": {"type": "sgd", "lr": 0.1}},
        {"type": "prune", "kind": "weight", "sparsity": 0.5},
    ],
}
CONV = {"type": "conv2d", "filters": 2, "kernel": 3}
PRUNE = {"type": "prune", "kind": "weight"}
UNITS = {"stages/1/kind": "unit"}


def changed(edits: dict) -> dict:
    """BASE with a value put at each dotted place, or what stands there taken out."""
    raw = copy.deepcopy(BASE)
    for place, value in edits.items():
        *path, last = [int(part) if part.isdigit() else part for part in place.split("/")]
        node = raw
        for part in path:
            node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
        if value is GONE:
            del node[last]
        elif isinstance(node, list) and last == len(node):
            node.append(value)
        else:
            node[last] = copy.deepcopy(value)
    return raw


@pytest.fixture
def write(tmp_path):
    """Writes BASE with edits into a file."""

    def write_config(edits: dict) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(changed(edits)), "utf-8")
        return path

    return write_config


def mistakes(path: Path, **how) -> tuple[str, ...]:
    """The lines that loading this config raises."""
    with pytest.raises(UserError) as caught:
        load_config(path, **how)
    return caught.value.lines


@pytest.mark.parametrize(
    ("edits", "field", "hint"),
    [
        ({"stages/0/epoch": 3}, "stages[0].epoch", "unknown key; did you mean 'epochs'?"),
        ({"data/split_seed": "seed"}, "data", "the split_seed 'seed' draws a subset: say its 'train_size'"),
        ({"data/split_seed": "seeds"}, "data.split_seed", "expected 'seed' or a whole number from 0"),
        ({"data/split_seed": -1}, "data.split_seed", "expected 'seed' or a whole number from 0, found -1"),
        ({"seed": [1]}, "seed", "unknown key; did you mean 'seeds'?"),
        ({"arms": {"a": {"nett": {}}}}, "arms.a.nett", "did you mean 'net'?"),
        ({"net/layers/1/units": "many"}, "net.layers[1].units", 'expected a valid integer, found "many"'),
        ({"net/layers/1/units": True}, "net.layers[1].units", "expected a valid integer, found true"),
        ({"net/layers/1/type": "linaer"}, "net.layers[1].type", "unknown 'linaer'; did you mean 'linear'?"),
        ({"net/layers/1/type": GONE}, "net.layers[1].type", "is missing"),
        ({"stages/0/optimizer": {"lr": 0.1}}, "stages[0].optimizer.type", "expected one of ['adam', 'adamw'"),
        ({"net/layers/0": GONE}, "net.layers[0]", "put a flatten layer before it"),
        ({"net/layers/0": CONV | {"kernel": 29}}, "net.layers[0].kernel", "fits 28×28 pixels, found 29"),
        ({"net/layers/2/units": 7}, "net.layers[2].units", "expected 10, the classes of mnist, found 7"),
        ({"net/layers/2": {"type": "dropout"}}, "net.layers[2]", "expected a linear layer with the logits"),
        ({"net/layers/2/activation": "relu"}, "net.layers[2].activation", "logits"),
        ({"net/layers/1/name": "linear_2"}, "net.layers[2].name", "layer 1 is called 'linear_2' already"),
        ({"data/dataset": "mnsit"}, "data.dataset", "unknown 'mnsit'; did you mean 'mnist'?"),
        ({"data/validation_size": 60000}, "data.validation_size", "less than the 60000 training images"),
        ({"data/train_size": 59901}, "data.train_size", "at most the 59900 that validation leaves"),
        ({"stages": GONE}, "stages", "is missing"),
        ({"stages": []}, "stages", "at least 1 item"),
        ({"stages/0/epochs": -1}, "stages[0].epochs", "greater than or equal to 0, found -1"),
        ({"stages/0/steps": 5}, "stages[0]", "exactly one of 'epochs' and 'steps'"),
        ({"stages/0/epochs": GONE}, "stages[0]", "exactly one of 'epochs' and 'steps'"),
        ({"stages/0/optimizer/nesterov": True}, "stages[0].optimizer", "nesterov needs momentum > 0"),
        ({"stages/2": BASE["stages"][0] | {"name": "train"}}, "stages[2].name", "choose another"),
        ({"stages/0/name": "net"}, "stages[0].name", "'net' addresses another part of a config"),
        ({"stages/1/criterion": "magnitud"}, "stages[1].criterion", "did you mean 'magnitude'?"),
        ({"stages/1/sparsity": 1.5}, "stages[1].sparsity", "less than or equal to 1, found 1.5"),
        ({"stages/1/sparsity": 50}, "stages[1].sparsity", "1, found 50; a share is meant, not percent"),
        ({"stages/1/sparsity": GONE}, "stages[1]", "expected one of 'sparsity' and 'rate', found neither"),
        ({"stages/1/rate": 0.5}, "stages[1]", "expected one of 'sparsity' and 'rate', found both"),
        ({"stages/1/kind": "filter"}, "stages[1].kind", "'filter' needs a conv2d layer"),
        (UNITS | {"net/layers/1": GONE}, "stages[1].kind", "'unit' needs a linear layer"),
        ({"net/layers/1": GONE}, "stages[1].kind", "expected 'layers' to name 'linear_1'"),
        ({"stages/1/layers": 5}, "stages[1].layers", "found 5"),
        ({"stages/1/layers": "al"}, "stages[1].layers", "unknown 'al'; did you mean 'all'?"),
        ({"stages/1/layers/linear_1/sparsity": 2}, "stages[1].layers.linear_1.sparsity", "found 2"),
        ({"stages/1/layers/linaer_1": {}}, "stages[1].layers.linaer_1", "did you mean 'linear_1'?"),
        ({"stages/1/layers/flatten_1": {}}, "stages[1].layers.flatten_1", "it acts on linear_1, linear_2"),
        (UNITS | {"stages/1/layers/linear_2": {}}, "stages[1].layers.linear_2", "are the classes"),
        ({"stages/2": PRUNE | {"sparsity": 0.4}}, "stages[2].sparsity", "expected at least 0.5"),
        ({"stages/2": PRUNE | {"sparsity": 0.9, "layers": {"linear_1": {"sparsity": 0.4}}}},
         "stages[2].layers.linear_1.sparsity", "expected at least 0.5"),
        (UNITS | {"stages/2": PRUNE | {"sparsity": 0.4}}, "stages[2].sparsity", "expected at least 0.5"),
        ({"stages/1": {"type": "repeat", "times": 2, "stages": [{"type": "repeat"}]}},
         "stages[1].stages[0].type", "unknown 'repeat'"),
        ({"seeds": [0, 1, 0.0]}, "seeds", "different whole numbers"),
        ({"sweep": {"s": []}, "stages/1/sparsity": "$s"}, "sweep.s", "a list of at least one value"),
        ({"sweep": {"s": [0, 0.0]}, "stages/1/sparsity": "$s"}, "sweep.s", "0 stands twice"),
        ({"sweep": {"s": [0.1]}}, "sweep.s", "no field mentions '$s'"),
        ({"sweep": {"share": [1]}, "data/split_seed": "$share", "stages/1/sparsity": "$shere"},
         "stages[1].sparsity", "unknown axis '$shere'; did you mean '$share'?"),
        ({"profiles": {"full": {}}}, "profiles.full", "choose another"),
        ({"profiles/quick/train.epoch": 1}, "profiles.quick['train.epoch']", "did you mean 'epochs'?"),
        ({"profiles/quick/trian.epochs": 1}, "profiles.quick['trian.epochs']", "did you mean 'train.…'?"),
        ({"profiles/quick/sweep.s": [1]}, "profiles.quick['sweep.s']", "unknown axis 's'"),
        ({"description": 5}, "description", "found 5"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line_with_file_field_and_hint(write, edits, field, hint):
    path = write(edits)
    (line,) = mistakes(path)
    assert line.startswith(f"{path}: {field}: ")
    assert hint in line


def test_an_unknown_key_hides_no_other_mistake(write):
    arms = {"one": {"stagse": BASE["stages"]}}
    path = write({"sead": [3], "data/dataset": "mnsit", "net/activation": "rleu", "arms": arms})
    lines = mistakes(path)
    assert len(lines) == 4
    for start in ("sead: unknown key; did you mean 'seeds'?", "data.dataset: ", "net.activation: "):
        assert any(line.startswith(f"{path}: {start}") for line in lines)
    assert any("arms.one.stagse: unknown key; did you mean 'stages'?" in line for line in lines)


def test_a_key_that_is_nearly_right_counts_as_what_it_means(write):
    """Its axis is no mistake too, and what stands inside is checked."""
    path = write({"swep": {"s": [0.5, 50]}, "stages/1/sparsity": "$s"})
    first, second = mistakes(path)
    assert first == f"{path}: swep: unknown key; did you mean 'sweep'?"
    assert second.startswith(f"{path}: sweep.s[1]: expected")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (b'{"data": {},}', "not valid JSON: a comma before '}': remove it"),
        (b'{"seeds": [0, 1, ]}', "not valid JSON: a comma before ']': remove it"),
        (b'{"data": {} "net": {}}', "line 1, column 13: not valid JSON: Expecting ',' delimiter"),
        (b'{"data": {}, // which\n "net": {}}', "a comment, which JSON does not have: put it into 'desc"),
        (b"{'data': {}}", "a text in single quotes"),
        (b'{"net": {"init": 1, "init": 2}}', "'init' stands twice in one object"),
        (b'{"seeds": [NaN]}', "expected a number, found NaN"),
        (b'{"description": "\xff"}', "found no text in UTF-8"),
        (b"[1, 2]", "expected an object, found [1, 2]"),
        (b'{"seeds": [' + b"1" * 5000 + b"]}", "could not read it"),
    ],
)
def test_a_file_that_is_no_json_object_is_told_by_name(tmp_path, text, hint):
    path = tmp_path / "config.json"
    path.write_bytes(text)
    (line,) = mistakes(path)
    assert line.startswith(f"{path}: ")
    assert hint in line


def test_a_missing_file_is_told_with_the_nearest_one(write):
    path = write({})
    (line,) = mistakes(path.with_name("confg.json"))
    assert line.endswith(f"did you mean {str(path)!r}?")


@pytest.mark.parametrize(
    "edits",
    [
        {"data/dataset": "mnsit", "net/init": "he", "stages/0/epoch": 1},
        {"data/validation_size": 60000, "net/layers/1": CONV, "stages/0/name": "net"},
        {"stages/0/epoch": 1, "stages/1/sparsity": "$unknown", "net/init": "he"},
    ],
    ids=["words", "between fields", "words and axes"],
)  # fmt: skip
def test_three_mistakes_give_three_lines(write, edits):
    path = write(edits)
    lines = mistakes(path)
    assert len(lines) == len(set(lines)) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)


SWEPT = {"sweep": {"x": [{"type": "adam"}, {"type": "adam", "lrr": 1}]}, "stages/0/optimizer": "$x"}
QUICK = {"sweep": {"x": [{"type": "adam"}]}, "profiles/quick/sweep.x": SWEPT["sweep"]["x"]}


@pytest.mark.parametrize(
    ("edits", "how", "origin"),
    [
        ({"sweep": {"s": [0.1, 1.5]}, "stages/1/sparsity": "$s"}, {}, "{path}: sweep.s[1]: "),
        (SWEPT, {}, "{path}: sweep.x[1].lrr: "),
        (SWEPT | QUICK, {}, "{path}: profiles.quick['sweep.x'][1].lrr: "),
        ({"sweep": {"l": [[{"type": "flat"}]]}, "net/layers": "$l"}, {}, "{path}: sweep.l[0][0].type: "),
        ({"profiles/quick/train.epochs": -1}, {}, "{path}: profiles.quick['train.epochs']: "),
        ({"profiles/quick/train.optimizer": {"type": "sgd"}}, {},
         "{path}: profiles.quick['train.optimizer'].lr: is missing"),
        ({"sweep": {"s": [0.1]}, "stages/1/sparsity": "$s", "profiles/quick/sweep.s": []}, {},
         "{path}: profiles.quick['sweep.s']: expected a list"),
        ({"arms": {"a": {"net": {"init": "he"}}}}, {}, "{path}: arms.a.net.init: "),
        ({"arms": {"a": {"stages": [{"type": "train"}]}}}, {}, "{path}: arms.a.stages[0]: "),
        ({}, {"overrides": ["train.optimizer.lr=-1"]}, "--set train.optimizer.lr: "),
        ({}, {"overrides": ["train.epohcs=1"]}, "--set train.epohcs: unknown key; did you mean 'epochs'?"),
        ({}, {"overrides": ["train.epochs"]}, "--set train.epochs: expected FIELD=VALUE"),
        ({}, {"overrides": ["sweep.sparsity=[0.9"]}, "--set sweep.sparsity: expected JSON, found '[0.9'"),
        ({}, {"overrides": ["trian.epochs=1"]}, "--set trian.epochs: nothing is called 'trian.epochs'"),
        ({}, {"overrides": ["sweep.s=1"]}, "--set sweep.s: unknown axis 's'"),
        ({}, {"overrides": ["net.layers.9.units=1"]}, "--set net.layers.9.units: "),
        ({}, {"overrides": ["seeds=" + "1" * 5000]}, "--set seeds: "),
        ({}, {"profile": "quik"}, "{path}: profiles: unknown profile 'quik'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_the_user_wrote_it(write, edits, how, origin):
    path = write(edits)
    (line,) = mistakes(path, **how)
    assert line.startswith(origin.format(path=path))


def test_a_mistake_of_a_whole_stage_names_what_was_set_in_it(write):
    (line,) = mistakes(write({}), overrides=["train.temperature=3"])
    assert "name a 'teacher'" in line
    assert line.endswith("(part of it is --set train.temperature)")


def places(node, path=()):
    """Every place in a config, its root left out."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        yield "/".join(map(str, (*path, key)))
        yield from places(item, (*path, key))


WORDS = st.sampled_from(["$x", "all", "type", "lr", "use", "a", "a b", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2000) | st.floats(allow_nan=False) | WORDS,
    lambda item: st.lists(item, max_size=2) | st.dictionaries(WORDS, item, max_size=2),
    max_leaves=4,
)
PLACES = [*places(BASE), "sweep", "sweep/x", "arms", "arms/a", "profiles", "profiles/p", "profiles/p/seeds"]
PLACES += ["define", "define/a"]


@settings(deadline=None, max_examples=150)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_whatever_stands_anywhere_loads_or_is_told(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_text(json.dumps(changed({place: value})))
    assert all(str(path) in line for line in loaded_or_told(path))  # which itself asserts one of the two


def resolved(path: Path, **how) -> list[dict]:
    """What each run of a config comes to, seed 0."""
    runs = [run for run in load_config(path, **how).runs if run.seed == 0]
    return [{"data": run.data, "net": run.net, "stages": [step.stage for step in run.steps]} for run in runs]


def test_set_wins_over_profile_and_profile_over_file(write):
    path = write({"profiles/quick": {"train.epochs": 2, "seeds": [5]}})

    def epochs(**how) -> int:
        return load_config(path, **how).runs[0].steps[0].stage.epochs

    assert (epochs(), epochs(profile="full"), epochs(profile="quick")) == (10, 10, 2)
    assert epochs(profile="quick", overrides=["train.epochs=3"]) == 3
    assert epochs(overrides=["train.epochs=3", "train.epochs = 4"]) == 4
    assert [run.seed for run in load_config(path, "quick").runs] == [5]


@pytest.mark.parametrize(
    ("override", "edit"),
    [
        ("train.optimizer.lr=1e-3", {"stages/0/optimizer/lr": 1e-3}),
        ("train.log_every=1e2", {"stages/0/log_every": 100}),
        ("net.activation=tanh", {"net/activation": "tanh"}),
        ('net.activation="tanh"', {"net/activation": "tanh"}),
        ("net.layers.1.units=3", {"net/layers/1/units": 3}),
        ('prune.layers={"linear_2": {"sparsity": 0.25}}', {"stages/1/layers/linear_2/sparsity": 0.25}),
        ("data.train_size=50", {"data/train_size": 50}),
    ],
)
def test_a_set_means_what_the_same_value_in_the_file_means(write, override, edit):
    by_set = load_config(write({}), overrides=[override]).runs
    assert [run.hashes for run in by_set] == [run.hashes for run in load_config(write(edit)).runs]


@pytest.mark.parametrize(
    ("override", "found", "value"),
    [
        ("seeds=7", lambda run: run.seed, 7),
        ("net.activation=gelu", lambda run: run.net.activation, "gelu"),
        ("net.layers.1.units=3", lambda run: run.net.layers[1].units, 3),
        ("train.epochs=4", lambda run: run.steps[0].stage.epochs, 4),
    ],
)
def test_a_set_reaches_what_arms_have_changed(write, override, found, value):
    own = {"seeds": [0, 1], "net": BASE["net"] | {"activation": "tanh"}, "stages": BASE["stages"]}
    runs = load_config(write({"arms": {"plain": {}, "own": own}}), overrides=[override]).runs
    assert {(run.arm, found(run)) for run in runs} == {("plain", value), ("own", value)}


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("data/validation_size", [10, 20]),
        ("net/activation", ["relu", "tanh"]),
        ("net/layers", [BASE["net"]["layers"], BASE["net"]["layers"][::2]]),
        ("net/layers/1", [{"type": "linear", "units": 3}, {"type": "dropout"}]),
        ("stages/0/optimizer", [{"type": "adam"}, {"type": "sgd", "lr": 1}]),
        ("stages/0/optimizer/lr", [0.1, 0.2]),
        ("stages/1/layers", [{}, "all", {"linear_2": {"rate": 0.1}}]),
    ],
)
def test_an_axis_may_stand_anywhere_and_means_its_values(write, place, values):
    fixed = {"stages/1/layers": "all"} if place.startswith("net") else {}
    written = [resolved(write(fixed | {place: value}))[0] for value in values]
    swept = write(fixed | {place: "$axis", "sweep": {"axis": values}})
    assert resolved(swept) == written
    assert [run.axes["axis"] for run in load_config(swept).runs[::2]] == values


def test_arms_merge_objects_replace_lists_and_join_only_the_axes_they_mention(write):
    other = {"net": {"init": "glorot_normal"}, "stages": [{"type": "train", "epochs": "$e"}]}
    arms = {"same": {}, "other": other}
    axes = {"s": [0.1, 0.2, 0.3], "e": [1, 2]}
    runs = load_config(write({"arms": arms, "sweep": axes, "stages/1/sparsity": "$s", "seeds": [0]})).runs
    assert [run.axes for run in runs] == [{"s": 0.1}, {"s": 0.2}, {"s": 0.3}, {"e": 1}, {"e": 2}]
    assert [run.arm for run in runs] == ["same"] * 3 + ["other"] * 2
    assert runs[0].net.init == "kaiming_normal"
    assert (runs[3].net.init, runs[3].net.layers[1].units, len(runs[3].steps)) == ("glorot_normal", 8, 1)


def test_the_schema_file_says_what_the_vocabulary_says():
    written = json.loads((CONFIGS / "schema.json").read_text("utf-8"))
    assert written == json_schema(), "configs/schema.json is old: run `python -m helpers.config`"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_fits_the_schema_and_loads_in_every_profile(path):
    raw = json.loads(path.read_text("utf-8"))
    Draft202012Validator(json_schema()).validate(raw)
    for profile in ("full", *raw.get("profiles", {})):
        assert load_config(path, profile).runs


@pytest.mark.parametrize(
    "edit",
    [
        ("stages/0/epohcs", 1),
        ("sedes", [0]),
        ("net/activation", "rleu"),
        ("stages/1/sparsity", 1.5),
        ("arms", {"a": {"stage": []}}),
        ("arms", {"a": {"net": {"activation": "rleu"}}}),
        ("arms", {"a": {"then": [{"type": "prune", "sparsity": 1.5}]}}),
        ("arms", {"a": {"stages": [BASE["stages"][0] | {"teacher": {"sed": 1}}]}}),
    ],
)
def test_the_schema_lets_an_editor_see_a_mistake(edit):
    Draft202012Validator.check_schema(json_schema())
    schema = Draft202012Validator(json_schema())
    assert schema.is_valid(BASE)
    assert schema.is_valid(changed({"stages/1/sparsity": "$s", "net/layers": "$layers"}))
    assert schema.is_valid(changed({"arms": {"a": {"net": {"activation": "tanh"}, "seeds": [1]}, "b": {}}}))
    assert not schema.is_valid(changed(dict([edit])))


def models_of(base: type) -> list[type]:
    """All that a config is made of."""
    return [model for own in base.__subclasses__() for model in (own, *models_of(own))]


MODELS = sorted(set(models_of(StrictModel)), key=lambda model: model.__name__)
assert len(MODELS) > 40


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_word_of_the_vocabulary_is_explained(model):
    """A type is explained by its class."""
    fields = model.model_fields.items()
    assert model.__doc__
    assert [name for name, field in fields if name != "type" and not field.description] == []
