"""What a log keeps of a config: its runs, the settings that made each row, and how the results are read."""

from typing import Any

from ..config.expansion import ExperimentConfig
from ..config.hashing import Run, canonical_json
from ..config.meaning import WholeMeaning
from ..foundations.columns import ADDED, SETTINGS
from ..foundations.datasets import DataConfig
from ..foundations.nets import NetConfig, layer_shapes
from .row_settings import net_texts, settings_by_step


def describe(experiment: ExperimentConfig) -> dict[str, Any]:
    """The runs of a config as a log keeps them: plain values.

    A step of a run is [hash, type, name, round]; its settings are the row of `settings` at the place that the
    run has for it, so that each distinct row stands there once.
    """
    first = experiment.runs[0]
    texts = _texts_of_nets(experiment.runs)
    places: dict[tuple[Any, ...], int] = {}
    runs, before, found = [], None, []
    for run in experiment.runs:
        if before is None or run.steps is not before.steps:  # runs that differ in their seed share them
            rows = settings_by_step(run, texts[_name(run)])
            found = [places.setdefault(row, len(places)) for row in rows]
            before = run
        steps = [[k, s.stage.type, s.name, s.round] for k, s in zip(run.hashes, run.steps, strict=True)]
        runs.append(
            {"arm": run.arm, "seed": run.seed, "axes": run.axes, "steps": steps, "settings": list(found)}
        )
    return {
        "experiment": experiment.name,
        "profile": experiment.profile,
        "axes": experiment.axes,
        "net": _layers(first.net, first.data),
        "settings": _table(list(places)),
        "runs": runs,
        "meaning": _meaning(experiment.meaning),
    }


def _table(rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Columns and rows of settings; without what some logs are older than, where no row has a value."""
    filled = {name for row in rows for name, value in zip(SETTINGS, row, strict=True) if value is not None}
    kept = [place for place, name in enumerate(SETTINGS) if name not in ADDED or name in filled]
    return {
        "columns": [SETTINGS[place] for place in kept],
        "rows": [[row[place] for place in kept] for row in rows],
    }


def _texts_of_nets(runs: list[Run]) -> dict[str, str]:
    """What each network is called, by its JSON and that of what it sees."""
    nets, before = {}, None
    for run in runs:
        if before is None or run.net is not before.net or run.data is not before.data:
            before = run
            nets[_name(run)] = (run.net, run.data)
    return dict(zip(nets, net_texts(list(nets.values())), strict=True))


def _name(run: Run) -> str:
    """A network, with the shape of its images."""
    return f"{run.data.dataset} {canonical_json(run.net)}"


def _layers(net: NetConfig, data: DataConfig) -> list[dict[str, Any]]:
    """An architecture: its input, and then a dict a layer."""
    shapes = layer_shapes(net, data.dataset)
    image = list(shapes[0].input_shape)
    layers = [{"layer": "input", "type": "input", "output_shape": image, "params": 0, "macs": 0}]
    for shape in shapes:
        size = {"output_shape": list(shape.output_shape), "params": shape.params, "macs": shape.macs}
        words = shape.layer.model_dump(include={"kernel", "stride", "padding"})
        layers.append({"layer": shape.name, "type": shape.type} | size | words)
    return layers


def _meaning(meaning: WholeMeaning) -> dict[str, Any]:
    """Labels, factors and contrasts, without what is left out; labels of arms are those of `arm`'s values."""
    labels = {name: words.model_dump(exclude_none=True) for name, words in meaning.labels.items()}
    arms = {arm: words.label for arm, words in meaning.arms.items() if words.label}
    if arms:
        own = labels.get("arm", {})
        labels["arm"] = own | {"values": arms | own.get("values", {})}
    return {
        "labels": labels,
        "factors": {arm: words.factors for arm, words in meaning.arms.items() if words.factors},
        "contrasts": {key: words.model_dump(exclude_none=True) for key, words in meaning.contrasts.items()},
    }
