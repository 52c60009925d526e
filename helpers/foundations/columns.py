"""The columns of `results` and `curves`: whose row it is, what made it, and what was measured."""

import json
from typing import Any

from .markdown import table

RUN_COLUMNS = ["experiment", "arm", "seed", "run", "result", "stage", "stage_name", "type", "round", "status"]

SETTINGS = [
    "net", "dataset", "train_size", "validation_size", "split_seed",
    "train_epochs", "train_steps", "lr", "batch_size", "optimizer", "schedule", "precision",
    "label_smoothing", "shift",
    "teacher", "temperature", "alpha", "soft_loss",
    "kind", "criterion", "scope", "target", "layers", "prune_samples", "ramp_every", "ramp_end",
    "weight_target", "unit_target", "filter_target",
    "method", "weigh", "fit", "rounds", "reconstruct_samples", "reconstruct_ridge",
    "mode", "refit_samples", "refit_ridge",
    "rewound",
]  # fmt: skip
"""What the config says of the stages up to and with the row's: of the last train stage, of the last that
prunes, of the last refit and rewind; empty where there is none, or where a field does not apply."""

ADDED = ["method", "weigh", "fit", "rounds", "reconstruct_samples", "reconstruct_ridge"]
"""Settings that some logs are older than: one in which no row has a value does not keep them."""

NUMBERS = [
    "train_size", "validation_size", "train_epochs", "train_steps", "lr", "batch_size", "label_smoothing",
    "shift", "temperature", "alpha", "target", "prune_samples", "ramp_every", "ramp_end",
    "weight_target", "unit_target", "filter_target",
    "rounds", "reconstruct_samples", "reconstruct_ridge", "refit_samples", "refit_ridge",
]  # fmt: skip
"""Settings that are numbers, also where a log has none of them."""

MEASURED = [
    "val_loss", "val_accuracy", "test_loss", "test_accuracy", "test_errors",
    "sparsity", "sparsity_all", "effective_sparsity", "unit_sparsity", "filter_sparsity",
    "params", "macs", "epochs", "train_flops", "wall_s",
]  # fmt: skip
"""Columns that every log has, empty where a stage failed."""

COMPUTED = ["machine", "device", "threads", "used_precision", "versions"]
"""Where and with what a result was computed; `used_precision` is that of its products, which a processor may
not have as the config asks for it. Empty where it was not recorded."""

SOMETIMES = [
    "compact_difference", "traceback",
    "teacher_agreement", "teacher_divergence", "teacher_agreement_wrong", "teacher_divergence_wrong",
]  # fmt: skip
"""Columns that only some stages have."""

CURVE_COLUMNS = (
    "step", "epoch", "lr", "train_loss", "train_accuracy",
    "val_loss", "val_accuracy", "test_loss", "test_accuracy", "wall_s",
)  # fmt: skip
"""A learning curve's columns; a row is a logged step. Losses are means over samples, in nats."""

COLUMNS = [*RUN_COLUMNS, *SETTINGS, *MEASURED, *COMPUTED, *SOMETIMES]

DESCRIPTIONS = {
    "experiment, arm, seed": "whose run it is; the arm is `main` where a config has none",
    "run, result": "hash of the run's last stage, and of this one, by which `curves` and `arrays` join",
    "stage, stage_name, type, round": (
        "place in the list of stages, name and type; `round` counts inside a repeat"
    ),
    "status": "ok, diverged, failed, or missing where nothing is computed yet",
    "net": "the network as a text: `784-300-100-10`; `20c5` are 20 filters of 5 × 5",
    "dataset, train_size, validation_size, split_seed": (
        "the images, also where the config leaves their number out"
    ),
    "train_epochs, train_steps, lr, batch_size, optimizer, schedule, precision, label_smoothing, shift": (
        "of the last `train` stage up to the row's, defaults in full; `optimizer` (without its rate) and "
        "`schedule` as JSON text"
    ),
    "teacher, temperature, alpha, soft_loss": (
        "of that stage, where it distils; the teacher as `config:arm.stage`"
    ),
    "kind, criterion, scope, layers, prune_samples, ramp_every, ramp_end": (
        "of the last stage that prunes, be it a ramp or a reconstruct, which has no criterion"
    ),
    "method, weigh, fit, rounds, reconstruct_samples, reconstruct_ridge": "of the last `reconstruct`",
    "target, weight_target, unit_target, filter_target": (
        "nominal share pruned after it, and of each kind where there are several; empty under a `rate`, or "
        "where `layers` say otherwise"
    ),
    "mode, refit_samples, refit_ridge": "of the last `refit`",
    "rewound": "where the last `rewind` went",
    "val_loss, val_accuracy, test_loss, test_accuracy, test_errors": (
        "means over the images, nats and a fraction, and a count; `val_…` is empty without validation "
        "images; test is measured and selects nothing"
    ),
    "sparsity, sparsity_all": (
        "share of zeros among the prunable weights; among all, the logits layer's too"
    ),
    "effective_sparsity": "counting as zero also weights that no input reaches or no output reads",
    "unit_sparsity, filter_sparsity": "share of units, and of filters, that are pruned",
    "params, macs": "effective; multiply-accumulates of one image",
    "epochs, train_flops, wall_s": (
        "cumulative over the run; FLOPs are 6 × MACs × images (masked = dense), with what fits take and the "
        "passes of teachers; what criteria read is not counted"
    ),
    "machine, device, threads, used_precision, versions": (
        "where and with what it was computed; `used_precision` is that of the products, which a processor "
        "may not have as `precision` asks for it"
    ),
    "compact_difference": "where a stage compacted: the largest change of any test logit",
    "traceback": "where a stage failed",
    "teacher_agreement, teacher_divergence, teacher_agreement_wrong, teacher_divergence_wrong": (
        "after distilling, on test: share of images on which student and teacher find the same class, mean "
        "KL(teacher‖student) in nats; both again on images that the teacher gets wrong (Stanton et al. 2021)"
    ),
}
"""What the columns of `results` mean, alike ones together."""

TAKEN = [*COLUMNS, "difference", "share", "images", "kept", "value"]
"""Names that no factor may have: those of columns, and those that tables add."""

MEASURES = ["test_accuracy", "val_accuracy", "teacher_agreement", "teacher_agreement_wrong"]
"""What contrasts compare: shares, of which more is better."""


def plain(value: Any) -> Any:
    """Plain values in one form, as in the hashes: 1.0 is 1, and what is null is left out."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def columns_table() -> str:
    """The columns and their meaning, as Markdown."""
    rows = [
        [", ".join(f"`{name}`" for name in names.split(", ")), text] for names, text in DESCRIPTIONS.items()
    ]
    return table(["columns", "meaning"], rows)


def value_text(value: Any) -> str:
    """A value as tables and labels name it: a text as it is, all else as JSON in one form, 1.0 as 1."""
    if isinstance(value, str):
        return value
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
