"""What a list of stages comes to: repeats written out, stages named, results identified by hash."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ..foundations.datasets import DataConfig
from ..foundations.nets import NetConfig
from ..foundations.settings import Loc, whole
from ..methods.stage_settings import AnyStage, RepeatStage, StageOrRepeat, TrainStage, prune_settings_of

SCHEMA_VERSION = 1
"""Part of every hash. Raise it when the meaning of configs changes as a whole."""


@dataclass(frozen=True)
class Step:
    """One stage as it runs: repeats written out, amounts as numbers."""

    stage: AnyStage
    name: str
    round: int
    """Copy inside a repeat, from 1; 0 outside."""
    loc: Loc
    """Where the config says it, for messages."""


@dataclass(frozen=True)
class Run:
    """One network, one seed, and the stages it goes through."""

    arm: str
    seed: int
    axes: dict[str, Any]
    """Values of the axes that the arm has joined."""
    data: DataConfig
    net: NetConfig
    steps: list[Step]
    hashes: list[str] = field(default_factory=list)
    """Identity of each step's result; empty before the seed and the teachers are known."""
    teachers: dict[str, "Run"] = field(default_factory=dict)
    """By hash, the runs that lead to its teachers."""
    experiment: str = ""
    """Whose run it is, by the name of the config file; known of those that teach."""


def stage_names(stages: list[Any]) -> list[tuple[Loc, str]]:
    """Place and name of every stage, those inside a repeat too, in order.

    `stages` are models, or what stands in a file that is not validated yet. A stage is called by its
    `name`, else by its type; further unnamed ones of that type become train_2, train_3, …
    """
    count: Counter[str] = Counter()
    named: list[tuple[Loc, str]] = []

    def visit(items: list[Any], prefix: Loc) -> None:
        for index, item in enumerate(items):
            fields = item if isinstance(item, dict) else getattr(item, "__dict__", {})
            name, type_ = fields.get("name"), str(fields.get("type"))
            if name is None:
                count[type_] += 1
                name = type_ if count[type_] == 1 else f"{type_}_{count[type_]}"
            named.append(((*prefix, index), str(name)))
            if type_ == "repeat" and isinstance(fields.get("stages"), list):
                visit(fields["stages"], (*prefix, index, "stages"))

    visit(stages, ("stages",))
    return named


def expand_repeats(stages: list[StageOrRepeat]) -> list[Step]:
    """The stages as they run. Copy i of n with sparsity s prunes to 1-(1-s)^(i/n)."""
    names = dict(stage_names(stages))
    steps = []
    for i, stage in enumerate(stages):
        if not isinstance(stage, RepeatStage):
            steps.append(Step(stage, names["stages", i], 0, ("stages", i)))
            continue
        for copy in range(1, stage.times + 1):
            for j, part in enumerate(stage.stages):
                loc = ("stages", i, "stages", j)
                steps.append(Step(_copy(part, copy, stage.times), names[loc], copy, loc))
    return steps


def _with_prune_settings(stage: AnyStage, changes: dict[str, Any]) -> AnyStage:
    """The stage with other settings of what it prunes."""
    if isinstance(stage, TrainStage):
        return stage.model_copy(update={"ramp": stage.ramp.model_copy(update=changes)})
    return stage.model_copy(update=changes)


def _copy(stage: AnyStage, copy: int, times: int) -> AnyStage:
    """A repeated stage with its sparsity on the way to the last copy's."""

    def on_the_way(sparsity: float | None) -> float | None:
        if sparsity is None or copy == times:
            return sparsity
        # Rounded, so that the last digit of a power on some other machine changes no hash.
        return round(1 - (1 - sparsity) ** (copy / times), 12)

    settings = prune_settings_of(stage)
    if settings is None:
        return stage
    layers = settings.layers
    if isinstance(layers, dict):
        layers = {
            name: amount.model_copy(update={"sparsity": on_the_way(amount.sparsity)})
            for name, amount in layers.items()
        }
    return _with_prune_settings(stage, {"sparsity": on_the_way(settings.sparsity), "layers": layers})


def canonical(value: Any) -> Any:
    """Plain JSON values without what cannot change a result: defaults, names, how often to save."""
    if isinstance(value, BaseModel):
        return canonical(value.model_dump(exclude_defaults=True, exclude={"name", "checkpoint_epochs"}))
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return whole(value)


def canonical_json(value: Any) -> str:
    """The one way to write a value as JSON: sorted keys, no white space."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def without_layer_names(net: NetConfig, stages: list[Any], names: list[str]) -> tuple[NetConfig, list[Any]]:
    """The same net and stages with default layer names: what a layer is called decides nothing.

    `names` are the net's layer names as the config has them.
    """
    plain = net.model_copy(
        update={"layers": [layer.model_copy(update={"name": None}) for layer in net.layers]}
    )
    count: Counter[str] = Counter()
    default = {}
    for name, layer in zip(names, net.layers, strict=True):
        count[layer.type] += 1
        default[name] = f"{layer.type}_{count[layer.type]}"

    def rename(stage: AnyStage) -> AnyStage:
        settings = prune_settings_of(stage)
        if settings is None or not isinstance(settings.layers, dict):
            return stage
        return _with_prune_settings(
            stage, {"layers": {default[name]: amount for name, amount in settings.layers.items()}}
        )

    renamed = [rename(stage) for stage in stages]
    return plain, renamed


def stage_hashes(
    data: DataConfig, net: NetConfig, seeds: list[int], stages: list[Any]
) -> Iterator[list[str]]:
    """Per seed, the identity of each stage's result: the first 16 hex digits of a SHA-256.

    The digest is of the canonical JSON of all that decides the result: schema version, data, net,
    seed, and the stages up to and with it. "stages" sorts last among the keys, so the text of a
    prefix is a prefix of the text, and one running digest serves all stages.
    """
    texts = [canonical_json(canonical(stage) | {"version": stage.version}) for stage in stages]
    data_text, net_text = canonical_json(data), canonical_json(net)
    for seed in seeds:
        head = f'{{"data":{data_text},"net":{net_text},"schema":{SCHEMA_VERSION},"seed":{seed},"stages":['
        digest, hashes = hashlib.sha256(head.encode()), []
        for index, text in enumerate(texts):
            digest.update(("," if index else "").encode() + text.encode())
            whole_text = digest.copy()
            whole_text.update(b"]}")
            hashes.append(whole_text.hexdigest()[:16])
        yield hashes
