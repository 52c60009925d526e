"""What a config says of each stage, and of teachers."""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ..foundations.nets import NetConfig, prunable_names
from ..foundations.optimizers import Adam, Constant, Optimizer, Schedule
from ..foundations.settings import Count, Loc, Share, StrictModel, Word, seed_or_word
from .prune_settings import PruneAmount, PrunedPart, PruneSettings, Ramp


class Teacher(StrictModel):
    """A result whose logits are learned from; it has to be exactly one. It inherits the profile."""

    config: str | None = Field(
        None, description="File of its experiment, in the folder of this one; default: this one."
    )
    arm: str | None = Field(
        None, description="Its arm; default: the only one, or in this experiment the student's own."
    )
    sweep: dict[str, Any] = Field({}, description="Its values of the axes that its arm has joined.")
    stage: str | None = Field(None, description="Name of its stage; default: the last one.")
    seed: Count | Literal["same"] = Field("same", description="Its seed, from 0; 'same': the student's.")

    @field_validator("seed", mode="before")
    @classmethod
    def _is_a_seed(cls, seed: Any) -> Any:
        return seed_or_word(seed, "same")


def _one_or_several(value: Any) -> str:
    """Which form of the field `teacher` a value is, so that mistakes are told of that form alone."""
    return "several teachers" if isinstance(value, list) else "one teacher"


def _settings_or_hash(value: Any) -> str:
    """Which form one of several teachers has."""
    return "a hash" if isinstance(value, str) else "one teacher"


OneTeacher = Annotated[Teacher, Tag("one teacher")]

OneOfSeveral = Annotated[OneTeacher | Annotated[str, Tag("a hash")], Discriminator(_settings_or_hash)]

TeacherField = Annotated[
    OneTeacher | Annotated[list[OneOfSeveral], Tag("several teachers")], Discriminator(_one_or_several)
]


class StageBase(StrictModel):
    """What every stage may have."""

    name: Word | None = Field(
        None,
        description="Address for profiles and --set, and its name in the tables; default: its type.",
    )
    version: ClassVar[int] = 1
    """Part of the hash of every stage of the type. Give the class a higher one when its numerics change."""
    fits_reference: ClassVar[bool] = False
    """Whether it fits toward the network as the last training left it, and leaves that as it is."""
    keeps_weights: ClassVar[bool] = False
    """Whether its weights are kept on disk; those of others are cheap to compute again."""


class TrainStage(StageBase):
    """Gradient steps with new optimizer moments, its own schedule and its own data order."""

    keeps_weights: ClassVar[bool] = True
    type: Literal["train"]
    epochs: Count | None = Field(None, ge=0, description="Passes over the training images.")
    steps: Count | None = Field(None, ge=0, description="Gradient steps, instead of epochs.")
    batch_size: Count = Field(128, ge=1, description="Images a step; an epoch's last batch may be smaller.")
    optimizer: Optimizer = Field(Adam(type="adam"), description="How a gradient becomes a step.")
    schedule: Schedule = Field(Constant(type="constant"), description="Learning rate over the stage.")
    label_smoothing: Share = Field(
        0.0, lt=1, description="Share of the target that is spread over all classes (Szegedy et al. 2016)."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the products in training and in every later evaluation; weights stay float32. Where "
        "a processor would only emulate bfloat16, its products are computed in float32.",
    )
    shift: Count = Field(
        0, ge=0, description="Augmentation: each image moves by up to this many pixels along each axis."
    )
    log_every: Count | None = Field(
        None, ge=1, description="Steps between rows of the learning curve; default: an epoch."
    )
    teacher: TeacherField | None = Field(
        None,
        description="Distil from this result, or from several, whose probabilities (or logits) are averaged. "
        "(In records, results stand by their hashes.)",
    )
    temperature: float = Field(
        4.0, gt=0, le=1e6, description="Divides the logits of teacher and student in the soft loss."
    )
    alpha: Share = Field(0.9, description="Weight of the soft loss; cross-entropy has the rest.")
    soft_loss: Literal["kl", "kl_unscaled", "logits"] = Field(
        "kl",
        description="kl: temperature² × KL(teacher‖student); kl_unscaled: without temperature²; logits: mean "
        "squared difference of the logits.",
    )
    ramp: Ramp | None = Field(None, description="Prune while training (gradual pruning).")
    checkpoint_epochs: Count | None = Field(
        1,
        ge=1,
        description="Epochs between saves of an unfinished training; null: none. In no hash.",
    )

    @model_validator(mode="after")
    def _one_length(self) -> "TrainStage":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("expected exactly one of 'epochs' and 'steps'")
        return self

    @model_validator(mode="after")
    def _soft_settings_need_a_teacher(self) -> "TrainStage":
        fields = TrainStage.model_fields
        for word in ("temperature", "alpha", "soft_loss"):
            if self.teacher is None and getattr(self, word) != fields[word].default:
                raise ValueError(f"{word!r} is of distillation: name a 'teacher' or leave it out")
        if self.soft_loss == "logits" and self.temperature != fields["temperature"].default:
            raise ValueError("the soft_loss 'logits' knows no 'temperature': leave it out")
        if self.teacher == []:
            raise ValueError("expected at least one teacher, found []")
        return self


class PruneStage(StageBase, PruneSettings):
    """Scores, then masks, then weights set to exactly 0."""

    type: Literal["prune"]


class RefitStage(StageBase):
    """Closed-form repair toward the network as the last training left it, layer by layer, without labels."""

    fits_reference: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    type: Literal["refit"]
    mode: Literal["bias", "rescale", "full", "logits"] = Field(
        "full",
        description="What is fitted of each unit: its bias; one scale and its bias; all its kept weights and "
        "its bias. Or logits: one Gauss-Newton solve of all kept weights and biases, on the dense logits.",
    )
    samples: Count = Field(10_000, ge=2, description="Training images to fit on: the first ones.")
    ridge: float = Field(
        1e-3, ge=0, le=1e6, description="Penalty on the weights, times the layer's mean input variance."
    )

    @model_validator(mode="after")
    def _logits_know_no_ridge(self) -> "RefitStage":
        if self.mode == "logits" and self.ridge != RefitStage.model_fields["ridge"].default:
            raise ValueError("the mode 'logits' knows no 'ridge': leave it out")
        return self


class ReconstructStage(StageBase, PrunedPart):
    """Survivors chosen anew by what they explain of the network as the last training left it, and fitted."""

    fits_reference: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    type: Literal["reconstruct"]
    sparsity: Share = Field(description="Share of all that is pruned afterwards.")
    rate: ClassVar[None] = None
    method: Literal["pursuit", "magnitude", "contribution", "random"] = Field(
        "pursuit",
        description="What stays: pursuit (forward selection of what lowers the squared error most, given "
        "what is chosen), magnitude (|w|; L2 norm of incoming weights), contribution (|w| × spread of its "
        "input; spread of the activation × outgoing norm), random.",
    )
    weigh: Literal["none", "outgoing", "sensitivity"] = Field(
        "sensitivity",
        description="What an error of a unit counts: all the same; by the squared norm of the weights that "
        "read it; by E‖∂logits/∂z‖² of the dense network's pre-activation z.",
    )
    fit: Literal["linear", "rectified"] = Field(
        "rectified",
        description="To the dense pre-activations; or, where a ReLU reads them, to any value that is off "
        "where the dense unit is off.",
    )
    rounds: Count = Field(3, ge=1, le=1000, description="How often the rectified targets are renewed.")
    samples: Count = Field(20_000, ge=2, description="Training images to choose and fit on: the first ones.")
    ridge: float = Field(
        1e-3, ge=0, le=1e6, description="Penalty on the weights, times the layer's mean input variance."
    )

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "ReconstructStage":
        fields = ReconstructStage.model_fields
        if self.method == "random" and self.weigh != fields["weigh"].default:
            raise ValueError("the method 'random' weighs nothing: leave 'weigh' out")
        if self.fit == "linear" and self.rounds != fields["rounds"].default:
            raise ValueError("the fit 'linear' has no 'rounds': leave it out")
        return self


class RewindStep(StrictModel):
    """A point inside the first train stage."""

    step: Count = Field(ge=0, description="Gradient steps of the first train stage.")


class RewindStage(StageBase):
    """Weights and batch-norm statistics back to an earlier point; masks stay."""

    type: Literal["rewind"]
    to: Literal["init", "fresh"] | RewindStep = Field(
        description="The initial weights, a fresh draw of them, or {'step': k} of the first train stage, "
        "in whose data order the next train stage then goes on, from step k of its own schedule."
    )

    @field_validator("to", mode="before")
    @classmethod
    def _is_a_point(cls, to: Any) -> Any:
        if not isinstance(to, str | dict | RewindStep):
            raise ValueError(f"expected 'init', 'fresh' or {{'step': k}}, found {json.dumps(to)}")
        return to


class CompactStage(StageBase):
    """Dead units, filters and inputs removed for good: a smaller network, the same function."""

    type: Literal["compact"]


Pruning = PruneSettings | ReconstructStage
"""What says which share of a network is pruned."""

AnyStage = TrainStage | PruneStage | RefitStage | ReconstructStage | RewindStage | CompactStage
"""What a run is made of, repeats written out."""


class RepeatStage(StageBase):
    """A block of stages, n times; expanded before anything runs."""

    type: Literal["repeat"]
    times: Count = Field(ge=1, description="How many copies.")
    stages: list[Annotated[AnyStage, Field(discriminator="type")]] = Field(
        min_length=1,
        description="Copy i of n prunes to 1-(1-sparsity)^(i/n), or rate of what is left.",
    )


StageOrRepeat = Annotated[AnyStage | RepeatStage, Field(discriminator="type")]


def prune_settings_of(stage: AnyStage) -> Pruning | None:
    """What a stage prunes: prune and reconstruct as a whole, a train stage by its ramp, others nothing."""
    return stage.ramp if isinstance(stage, TrainStage) else stage if isinstance(stage, Pruning) else None


def step_count(stage: TrainStage, images: int) -> int:
    """Gradient steps of a train stage on so many training images."""
    return stage.steps if stage.steps is not None else stage.epochs * -(-images // stage.batch_size)


def ramp_events(ramp: Ramp, steps: int) -> int:
    """How often a ramp prunes in a stage of this many steps; at least one step follows the last time."""
    return max(0, min(int(ramp.end * steps + 1e-9), steps - 1)) // ramp.every


def prune_amounts(net: NetConfig, settings: Pruning) -> list[tuple[tuple[str, ...], PruneAmount, Loc]]:
    """Layers that a stage ranks together, how much of them goes, and where the stage says so."""
    names, logits = prunable_names(net, settings.kind)
    overrides = {} if settings.layers == "all" else dict(settings.layers)
    if settings.layers == "all" or logits in overrides:
        names.append(logits)
    default = PruneAmount(sparsity=settings.sparsity, rate=settings.rate)
    own = {name: amount for name, amount in overrides.items() if amount != PruneAmount()}
    together = tuple(name for name in names if name not in own)
    groups = [together] if settings.scope == "global" and together else [(name,) for name in together]
    found = [(group, default, ("sparsity",)) for group in groups]
    found += [((name,), amount, ("layers", name, "sparsity")) for name, amount in own.items()]
    # In the network's order, so that random draws do not depend on the order of a dict.
    return sorted(found, key=lambda group: names.index(group[0][0]))
