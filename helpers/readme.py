"""README's tables, made from logs: no number there is typed.

python -m helpers.readme        # writes them anew
"""

import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from .contrasts import context_table, contrast_table
from .distillation import rate_table, students_table, threshold_table
from .errors import UserError
from .few_images import few_table, size_table
from .files import ROOT, atomic
from .hinton import hinton_table, small_table
from .insights import EXPERIMENTS, insight_table
from .recovery_plots import UNTRAINED
from .recovery_report import filter_table, lenet_table, recovery_table, repair_comparison, verdict_table
from .report import (
    accuracy_table,
    benchmark_table,
    comparison_table,
    dense_table,
    distill_step_table,
    engine_table,
    small_work_table,
)
from .ticket_report import levels_table, paper_table
from .utils import load_log

README = ROOT / "README.md"
ONE_SHOT = {"Challenge MLP": "mlp_oneshot", "LeNet-5": "lenet5_oneshot", "8-layer CNN": "cnn8_oneshot"}
"""Experiments of the first section, by the name that figures give them."""

LENETS = {"LeNet-300-100": "lenet300_recovery", "LeNet-5": "lenet5_recovery"}
TOGETHER = {"LeNet-300-100, weights": "distill_prune", "800-800, units": "distill_prune_units"}
"""Experiments of distillation and pruning together, by the name that figures give them."""

RETRAINED = ("finetune", "refit_finetune", "iterative", "gradual", "random_finetune", "small_dense_long")

TICKETS = ("ticket", "late_rewind", "oneshot_ticket", "reinit", "untrained_mask", "shuffle")

BLOCK = re.compile(r"(<!-- table (\w+)[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
"""A table in README: what stands between the two marks is generated."""


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; an index with a name becomes the first column."""
    if table.index.name:
        table = table.reset_index()
    lines = [list(map(str, table.columns)), ["---"] * table.shape[1]]
    lines += [["" if pd.isna(cell) else str(cell) for cell in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def readme_tables() -> dict[str, str]:
    """README's tables by name, from the committed logs."""
    logs = {name: load_log(ROOT / "logs" / f"{file}.hdf5") for name, file in ONE_SHOT.items()}
    tables: dict[str, Any] = {
        "dense": dense_table(logs),
        "published": comparison_table(logs["Challenge MLP"], "mlp-1000-1000-500-200"),
        "training_step": benchmark_table(),
        "engine": engine_table(),
        "small_work": small_work_table(),
        "distill_step": distill_step_table(),
    }
    for name, file in ONE_SHOT.items():
        tables[file] = accuracy_table(logs[name])
    recovery = load_log(ROOT / "logs" / "mlp_recovery.hdf5")
    lenets = {name: load_log(ROOT / "logs" / f"{file}.hdf5") for name, file in LENETS.items()}
    for kind in ("weight", "unit"):
        tables[f"repair_{kind}s"] = recovery_table(recovery, kind, UNTRAINED)
        tables[f"retrained_{kind}s"] = recovery_table(recovery, kind, RETRAINED)
    tables["repair_published"] = repair_comparison(recovery)
    tables["verdicts"] = verdict_table(recovery, ["gradual", "dense_long"])
    tables["lenets"] = lenet_table(lenets)
    tables["filters"] = filter_table(lenets["LeNet-5"])
    tickets = load_log(ROOT / "logs" / "lottery_ticket.hdf5")
    tables["tickets_paper"] = paper_table(tickets)
    tables["tickets_levels"] = levels_table(tickets, TICKETS, ["reinit", "untrained_mask"])
    convolutional = load_log(ROOT / "logs" / "lottery_ticket_lenet5.hdf5")
    tables["tickets_lenet5"] = levels_table(convolutional, ["ticket", "reinit"])
    tables["hinton"] = hinton_table(load_log(ROOT / "logs" / "distill_hinton.hdf5"))
    tables["distill_small"] = small_table(load_log(ROOT / "logs" / "distill_small.hdf5"))
    tables["distill_students"] = students_table(load_log(ROOT / "logs" / "distill_students.hdf5"))
    rates = load_log(ROOT / "logs" / "distill_learning_rate.hdf5")
    tables["distill_rates"] = rate_table(rates)
    tables["distill_thresholds"] = threshold_table(rates)
    tables["distill_sizes"] = size_table(load_log(ROOT / "logs" / "distill_train_size.hdf5"), rates)
    together = {name: load_log(ROOT / "logs" / f"{file}.hdf5") for name, file in TOGETHER.items()}
    tables["contrasts"] = contrast_table(together)
    tables["contrasts_context"] = context_table(together)
    tables["distill_few"] = few_table(load_log(ROOT / "logs" / "distill_prune_few.hdf5"))
    tables["insights"] = insight_table(
        {name: load_log(ROOT / "logs" / f"{name}.hdf5") for name in EXPERIMENTS}
    )
    return {name: markdown(table) for name, table in tables.items()}


def with_tables(text: str, tables: dict[str, str]) -> str:
    """The text with each block `<!-- table NAME -->` … `<!-- end -->` filled.

    Raises UserError on an unknown name.
    """

    def fill(match: re.Match) -> str:
        if match[2] not in tables:
            raise UserError(f"{README}: expected one of {', '.join(tables)}, found table {match[2]!r}")
        return match[1] + tables[match[2]] + match[3]

    return BLOCK.sub(fill, text)


def main(path: Path = README) -> int:
    """Write the tables anew."""
    text = with_tables(path.read_text(), readme_tables())
    with atomic(path) as draft:
        draft.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
