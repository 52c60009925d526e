"""The settings that made each row of results: what the config says of the stages up to and with the row's."""

from dataclasses import dataclass, field
from typing import Any

from ..config.hashing import Run, canonical_json
from ..foundations.columns import ADDED, SETTINGS
from ..foundations.datasets import DataConfig, training_images
from ..foundations.nets import WEIGHTED, NetConfig, layer_shapes
from ..foundations.settings import whole
from ..methods.criteria import CRITERIA
from ..methods.prune_settings import PruneAmount, PruneSettings, Ramp
from ..methods.stage_settings import (
    AnyStage,
    Pruning,
    RefitStage,
    RewindStage,
    TrainStage,
    prune_settings_of,
)

_TRAINING = ("batch_size", "precision", "label_smoothing", "shift")
_DISTILLING = ("temperature", "alpha", "soft_loss")


@dataclass
class _SoFar:
    """Settings as they stand, stage after stage."""

    found: dict[str, Any]
    """A value for every column of SETTINGS."""
    targets: dict[str, float | None] = field(default_factory=dict)
    """The nominal share pruned, by kind."""

    def add(self, stage: AnyStage, run: Run) -> None:
        """What a stage says replaces what an earlier one of its type said."""
        if isinstance(stage, TrainStage):
            self.found |= _of_training(stage, run)
        settings = prune_settings_of(stage)
        if settings is not None:
            self.found |= self._of_pruning(settings, training_images(run.data))
        if isinstance(stage, RefitStage):
            self.found |= {
                "mode": stage.mode,
                "refit_samples": min(stage.samples, training_images(run.data)),
                "refit_ridge": None if stage.mode == "logits" else stage.ridge,
            }
        if isinstance(stage, RewindStage):
            self.found["rewound"] = _text(stage.to)

    def _of_pruning(self, settings: Pruning, images: int) -> dict[str, Any]:
        """The settings of a stage that prunes or of a ramp, and the shares that are pruned after it."""
        default = PruneAmount(sparsity=settings.sparsity, rate=settings.rate)
        overrides = {} if settings.layers == "all" else settings.layers
        if settings.rate is not None or any(
            own not in (PruneAmount(), default) for own in overrides.values()
        ):
            self.targets[settings.kind] = None
        elif settings.sparsity is not None:
            self.targets[settings.kind] = settings.sparsity
        # A shuffle without an amount keeps what was pruned before.
        return {
            "kind": settings.kind,
            "scope": settings.scope,
            "target": self.targets.get(settings.kind),
            "layers": _text(settings.layers) if settings.layers else None,
            "ramp_every": settings.every if isinstance(settings, Ramp) else None,
            "ramp_end": settings.end if isinstance(settings, Ramp) else None,
            **_of_choosing(settings, images),
        } | {f"{kind}_target": share for kind, share in self.targets.items()}


def _of_choosing(settings: Pruning, images: int) -> dict[str, Any]:
    """How a stage that prunes chooses what stays; what another type says is empty."""
    empty = dict.fromkeys(("criterion", "prune_samples", *ADDED))
    if isinstance(settings, PruneSettings):
        samples = min(settings.samples, images) if CRITERIA[settings.criterion].reads_images else None
        return empty | {"criterion": settings.criterion, "prune_samples": samples}
    return empty | {
        "method": settings.method,
        "weigh": settings.weigh if settings.method != "random" else None,
        "fit": settings.fit,
        "rounds": settings.rounds if settings.fit == "rectified" else None,
        "reconstruct_samples": min(settings.samples, images),
        "reconstruct_ridge": settings.ridge,
    }


def settings_by_step(run: Run, net: str) -> list[tuple[Any, ...]]:
    """A row of SETTINGS for each step of a run; `net` is what its network is called (`net_texts`).

    Defaults are written out; what does not apply is None: the temperature without a teacher, the target
    under a rate.
    """
    data = run.data
    so_far = _SoFar(dict.fromkeys(SETTINGS))
    so_far.found |= {"net": net, "dataset": data.dataset, "train_size": training_images(data)}
    so_far.found |= {"validation_size": data.validation_size, "split_seed": str(data.split_seed)}
    rows = []
    for step in run.steps:
        so_far.add(step.stage, run)
        rows.append(tuple(whole(so_far.found[name]) for name in SETTINGS))
    return rows


def _of_training(stage: TrainStage, run: Run) -> dict[str, Any]:
    """The settings of a train stage, those of distillation empty without a teacher."""
    optimizer = stage.optimizer.model_dump()
    settings = {name: getattr(stage, name) for name in _TRAINING}
    settings |= {"lr": optimizer.pop("lr"), "optimizer": _text(optimizer)}
    settings |= {"train_epochs": stage.epochs, "train_steps": stage.steps}
    settings |= {"schedule": _text(stage.schedule.model_dump())}
    if not stage.teacher:
        return settings | dict.fromkeys(("teacher", *_DISTILLING))
    settings |= {name: getattr(stage, name) for name in _DISTILLING}
    if stage.soft_loss == "logits":
        settings["temperature"] = None
    # With its teachers found, a stage names them by their hashes.
    texts = [teacher_text(run.teachers[key]) for key in stage.teacher]
    counts = {text: texts.count(text) for text in texts}
    settings["teacher"] = " + ".join(f"{n} × {t}" if n > 1 else t for t, n in counts.items())
    return settings


def teacher_text(teacher: Run) -> str:
    """'mlp_oneshot:magnitude.train', with its values of the axes; whatever its seed."""
    axes = ", ".join(f"{axis}={_text(value)}" for axis, value in teacher.axes.items())
    text = f"{teacher.experiment}:{teacher.arm}.{teacher.steps[-1].name}"
    return f"{text} ({axes})" if axes else text


def _text(value: Any) -> str:
    """A text as it is, all else as canonical JSON."""
    return value if isinstance(value, str) else canonical_json(value)


# Networks


def net_texts(nets: list[tuple[NetConfig, DataConfig]]) -> list[str]:
    """What each network is called: '784-300-100-10', '20c5-50c5-500-10'; no two unlike ones the same.

    A convolution is its filters, c, its kernel, and its stride and padding where they are not the usual; a
    network that begins with a linear layer begins with its inputs. Where two networks would be called the
    same, both texts have every layer, activation and initialisation.
    """
    short = [_net_text(net, data, is_whole=False) for net, data in nets]
    meant: dict[str, set[str]] = {}
    for text, (net, _) in zip(short, nets, strict=True):
        meant.setdefault(text, set()).add(canonical_json(net))
    return [
        _net_text(net, data, is_whole=True) if len(meant[text]) > 1 else text
        for text, (net, data) in zip(short, nets, strict=True)
    ]


def _net_text(net: NetConfig, data: DataConfig, is_whole: bool) -> str:
    """The layers from input to logits."""
    parts: list[str] = []
    for shape in layer_shapes(net, data.dataset):
        layer = shape.layer
        if layer.type == "conv2d":
            stride = f"s{layer.stride}" if layer.stride != 1 else ""
            padding = f"p{layer.padding}" if layer.padding else ""
            parts.append(f"{layer.filters}c{layer.kernel}{stride}{padding}")
        elif layer.type == "linear":
            parts += [str(shape.input_shape[0])] * (not parts)
            parts.append(str(layer.units))
        elif is_whole:
            fields = {
                key: value for key, value in layer.model_dump(exclude={"name", "type"}).items() if value
            }
            parts.append(layer.type + (_text(fields) if fields else ""))
        if is_whole and layer.type in WEIGHTED and layer.activation:
            parts[-1] += f" {layer.activation}"
    text = "-".join(parts)
    return f"{text}, {net.activation}, {net.init}" if is_whole else text
