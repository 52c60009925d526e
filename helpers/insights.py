"""The four insights that the playground began with, and the open question, beside what is measured here."""

from typing import Any

import pandas as pd

from .contrasts import contrast_table
from .distillation import rate_table
from .errors import UserError
from .few_images import few_table
from .hinton import hinton_table
from .recovery_plots import UNTRAINED
from .recovery_report import recovery_table
from .report import accuracy_table, dense_table
from .ticket_report import levels_table

EXPERIMENTS = (
    "mlp_oneshot", "lenet5_oneshot", "mlp_recovery", "lottery_ticket", "distill_hinton",
    "distill_learning_rate", "distill_prune", "distill_prune_few",
)  # fmt: skip
"""Whose logs the table reads."""

SHARE = "99 % of the weights can go at about 97 % accuracy"
LOTTERY = "this relates to lottery tickets"
ROBUST = "weights are more robust than units or filters"
RATES = "distillation allows larger rates, fast training"
TOGETHER = "distillation might combine with pruning"
"""What Lange 2020 (README) says, in short; the last as a question."""


def insight_table(logs: dict[str, Any]) -> pd.DataFrame:
    """A row a claim and a way to look at it; what is measured are cells of the sections' tables.

    Accuracies on test in percent, points of it, steps, or test errors of 10,000, with 95 % intervals over
    seeds. `logs` by experiment: EXPERIMENTS. Levels that a log, such as a quick one, lacks are left out.
    Raises UserError where a log is missing.
    """
    missing = [name for name in EXPERIMENTS if name not in logs]
    if missing:
        raise UserError(
            f"insights: expected the logs of {', '.join(EXPERIMENTS)}, found no {', '.join(missing)}"
        )
    mlp, lenet5 = (accuracy_table(logs[name]) for name in ("mlp_oneshot", "lenet5_oneshot"))
    dense = dense_table({"MLP": logs["mlp_oneshot"]})
    weights, units = (
        recovery_table(logs["mlp_recovery"], kind, [*UNTRAINED, "gradual"]) for kind in ("weight", "unit")
    )
    tickets = levels_table(logs["lottery_ticket"], ["ticket", "reinit"])
    classic, rates = hinton_table(logs["distill_hinton"]), rate_table(logs["distill_learning_rate"])
    together = contrast_table({"": logs["distill_prune"]}).set_index("does it help to")
    few = few_table(logs["distill_prune_few"]).reset_index()
    few = few[few["images"].eq(few["images"].iloc[0])].set_index("LeNet-300-100")
    largest, steps = rates.columns[[0, 3]]
    looks = [
        (SHARE, "challenge MLP, dense", dense, "MLP", "test accuracy, %"),
        (SHARE, "99 % pruned in one shot", mlp, "99 %", "weight, magnitude"),
        (SHARE, "… in steps, each repaired without training", weights, "99 %", "refit in 4 steps"),
        (SHARE, "… while it trains on", weights, "99 %", "gradual"),
        (LOTTERY, "LeNet-300-100, dense, at early stop", tickets, "dense", "ticket"),
        (LOTTERY, "ticket of 3.58 % of its weights", tickets, "3.58 %", "ticket"),
        (LOTTERY, "its mask, fresh weights", tickets, "3.58 %", "its mask, fresh weights"),
        (ROBUST, "challenge MLP, 90 % of weights, one shot", mlp, "90 %", "weight, magnitude"),
        (ROBUST, "… 90 % of units", mlp, "90 %", "unit, magnitude"),
        (ROBUST, "… 90 % of weights, while it trains on", weights, "90 %", "gradual"),
        (ROBUST, "… 90 % of units", units, "90 %", "gradual"),
        (ROBUST, "LeNet-5, 50 % of weights, one shot", lenet5, "50 %", "weight"),
        (ROBUST, "… 50 % of filters", lenet5, "50 %", "filter"),
        (RATES, "largest learning rate, cross-entropy", rates, "cross-entropy", largest),
        (RATES, "… distilled", rates, "distilled", largest),
        (RATES, "steps to 97 %, cross-entropy", rates, "cross-entropy", steps),
        (RATES, "… distilled, same rate", rates, "distilled", steps),
        (RATES, "test errors of 800-800, cross-entropy", classic, "800-800, cross-entropy", "test errors"),
        (RATES, "… distilled", classic, "800-800, distilled", "test errors"),
        (
            TOGETHER,
            "all images: points from the dense self as teacher",
            together,
            together.index[0],
            "difference, points",
        ),
        (
            TOGETHER,
            f"{few['images'].iloc[0]} images: points from a teacher of all",
            few,
            "90 % of weights pruned",
            "teacher in both trainings, points",
        ),
    ]
    lines = [
        {"the claim": claim, "looked at": look, "measured": table.loc[row, column]}
        for claim, look, table, row, column in looks
        if row in table.index and column in table
    ]
    return pd.DataFrame(lines).set_index("the claim")
