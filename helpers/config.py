"""The vocabulary of a config: every word that an experiment's JSON file may use, and what it means.

A config is a sentence of stages about one network on one data set. This module has the stages and
the file as a whole, `config_parts` what stands inside.

python -m helpers.config        # writes configs/schema.json anew
"""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from .config_parts import (
    Adam,
    Constant,
    Count,
    DataConfig,
    NetConfig,
    Optimizer,
    Schedule,
    Share,
    TeacherWords,
    Vocabulary,
    Word,
)
from .meaning import Meaning


class StageBase(Vocabulary):
    """What every stage may have."""

    name: Word | None = Field(
        None,
        description="Address for profiles and --set, and its name in the tables; default: its type.",
    )


class TrainStage(StageBase):
    """Gradient steps with new optimizer moments, its own schedule and its own data order."""

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
    teacher: TeacherWords | None = Field(
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
    ramp: "Ramp | None" = Field(None, description="Prune while training (gradual pruning).")
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
    def _soft_words_need_a_teacher(self) -> "TrainStage":
        fields = TrainStage.model_fields
        for word in ("temperature", "alpha", "soft_loss"):
            if self.teacher is None and getattr(self, word) != fields[word].default:
                raise ValueError(f"{word!r} is of distillation: name a 'teacher' or leave it out")
        if self.soft_loss == "logits" and self.temperature != fields["temperature"].default:
            raise ValueError("the soft_loss 'logits' knows no 'temperature': leave it out")
        if self.teacher == []:
            raise ValueError("expected at least one teacher, found []")
        return self


class PruneAmount(Vocabulary):
    """How much to prune: of everything, or of what is left."""

    sparsity: Share | None = Field(None, description="Share of all that is pruned afterwards.")
    rate: Share | None = Field(None, description="Share of what is left that is pruned now.")

    @model_validator(mode="after")
    def _not_both(self) -> "PruneAmount":
        if self.sparsity is not None and self.rate is not None:
            raise ValueError("expected one of 'sparsity' and 'rate', found both")
        return self


Criterion = Literal[
    "magnitude", "l1", "in_out", "wanda", "contribution", "apoz", "taylor", "obd", "random", "shuffle"
]


class PrunedPart(Vocabulary):
    """What to prune, and where."""

    kind: Literal["weight", "unit", "filter"] = Field(
        description="What goes: single weights, output neurons of linear layers, or filters of convolutions."
    )
    scope: Literal["layer", "global"] = Field(
        "layer", description="Rank inside each layer, or all layers together."
    )
    layers: Literal["all"] | dict[str, PruneAmount] = Field(
        {},
        description="Amounts of single layers by name; naming the logits layer, or 'all', prunes it as well.",
    )


class PruneWords(PruneAmount, PrunedPart):
    """What to prune, by which score, and how much of it."""

    criterion: Criterion = Field(
        "magnitude",
        description="The score; the smallest go first: magnitude (|w|; L2 norm of incoming weights), l1 "
        "(L1 norm of them), in_out (incoming × outgoing norm), wanda (|w|·‖x‖), contribution (|w| × spread "
        "of its input; spread of the activation × outgoing norm), apoz (share of activations that are not "
        "0), taylor (|w·∂L/∂w|, SNIP; |a·∂L/∂a|), obd (w²·H), random. Or shuffle: as many as magnitude "
        "takes of each layer, at random places (without an amount: the present masks, shuffled).",
    )
    samples: Count = Field(
        2000, ge=1, description="Training images that a criterion which needs data reads: the first ones."
    )

    @model_validator(mode="after")
    def _some_amount(self) -> "PruneWords":
        if self.sparsity is None and self.rate is None and self.criterion != "shuffle":
            raise ValueError("expected one of 'sparsity' and 'rate', found neither")
        return self


class PruneStage(StageBase, PruneWords):
    """Scores, then masks, then weights set to exactly 0."""

    type: Literal["prune"]


class Ramp(PruneWords):
    """Prune while training, on a cubic schedule: fast at first, slow at the end (Zhu and Gupta 2017)."""

    every: Count = Field(100, ge=1, description="Steps from one pruning to the next.")
    end: Share = Field(0.75, gt=0, description="Share of the stage's steps after which the masks stay.")

    @model_validator(mode="after")
    def _no_shuffle(self) -> "Ramp":
        if self.criterion == "shuffle":
            raise ValueError("'shuffle' moves masks; a ramp only ever prunes more: choose another criterion")
        return self


class RefitStage(StageBase):
    """Closed-form repair toward the network as the last training left it, layer by layer, without labels."""

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
    def _words_fit_together(self) -> "ReconstructStage":
        fields = ReconstructStage.model_fields
        if self.method == "random" and self.weigh != fields["weigh"].default:
            raise ValueError("the method 'random' weighs nothing: leave 'weigh' out")
        if self.fit == "linear" and self.rounds != fields["rounds"].default:
            raise ValueError("the fit 'linear' has no 'rounds': leave it out")
        return self


class RewindStep(Vocabulary):
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


Pruning = PruneWords | ReconstructStage
"""What says which share of a network is pruned."""

Verb = TrainStage | PruneStage | RefitStage | ReconstructStage | RewindStage | CompactStage
"""What a run is made of, repeats written out."""


class RepeatStage(StageBase):
    """A block of stages, n times; expanded before anything runs."""

    type: Literal["repeat"]
    times: Count = Field(ge=1, description="How many copies.")
    stages: list[Annotated[Verb, Field(discriminator="type")]] = Field(
        min_length=1,
        description="Copy i of n prunes to 1-(1-sparsity)^(i/n), or rate of what is left.",
    )


Stage = Annotated[Verb | RepeatStage, Field(discriminator="type")]


class Sentence(Vocabulary):
    """One run without its seed: data, network, stages."""

    data: DataConfig = Field(description="Images to learn from.")
    net: NetConfig = Field(description="The network.")
    stages: list[Stage] = Field(min_length=1, description="What happens to the network, in order.")


class ConfigFile(Sentence, Meaning):
    """A config file. Any field may take "$axis", a name of the sweep."""

    schema_: str | None = Field(None, alias="$schema", description="Where the editor finds this schema.")
    description: str = Field("", description="What the experiment asks, in a sentence.")
    define: dict[str, Any] = Field({}, description="Stages, nets, lists by name; {'use': name} takes one.")
    seeds: list[Annotated[Count, Field(ge=0)]] = Field(
        [0], min_length=1, description="A run for each: initial weights, data order, masks, augmentation."
    )
    sweep: dict[str, list[Any]] = Field({}, description="Axes by name; their values form a grid.")
    arms: dict[str, dict[str, Any]] = Field(
        {}, description="Unequal variants by name: each overrides parts of this config; 'then' adds stages."
    )
    profiles: dict[str, dict[str, Any]] = Field(
        {}, description="Overrides by name, such as quick: {'train.epochs': 1, 'sweep.sparsity': [0.9]}."
    )


if __name__ == "__main__":
    from helpers.config_schema import write_schema

    write_schema()
