"""The insights beside what is measured: every cell is what its log says, and what a log lacks is left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from helpers import insights
from helpers.errors import UserError
from helpers.insights import EXPERIMENTS, insight_table
from helpers.utils import load_log


@pytest.fixture(scope="module")
def logs() -> dict:
    return {name: load_log(ROOT / "logs" / f"{name}.hdf5") for name in EXPERIMENTS}


@pytest.fixture(scope="module")
def table(logs) -> pd.DataFrame:
    return insight_table(logs)


def measured(table: pd.DataFrame, claim: str, place: int) -> str:
    return table.loc[claim, "measured"].iloc[place]


def with_interval(values: pd.Series, form: str = ".2f") -> str:
    """Mean and half the 95 % t-interval, by scipy."""
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{values.mean():{form}} ± {(high - low) / 2:{form.lstrip('+')}}"


def test_cells_are_what_the_logs_say(logs, table):
    one_shot = logs["mlp_oneshot"].final().query("arm == 'magnitude'")
    for kind, sparsity, claim, place in (
        ("weight", 0.99, insights.SHARE, 1),
        ("weight", 0.9, insights.ROBUST, 0),
        ("unit", 0.9, insights.ROBUST, 1),
    ):
        own = one_shot[one_shot["sweep.kind"].eq(kind) & np.isclose(one_shot["sweep.sparsity"], sparsity)]
        assert measured(table, claim, place) == with_interval(100 * own["test_accuracy"])
    classic = logs["distill_hinton"].final()
    for arm, place in (("student_ce", 4), ("student_kd", 5)):
        errors = classic.loc[classic["arm"] == arm, "test_errors"]
        assert measured(table, insights.RATES, place) == with_interval(errors, ".1f")
    rows = logs["distill_prune"].final().set_index(["seed", "sweep.sparsity"])
    taught, plain = (rows.loc[rows["arm"] == arm, "test_accuracy"] for arm in ("finetune_hot", "finetune_ce"))
    gaps = 100 * (taught - plain).dropna().groupby("seed").mean()
    assert measured(table, insights.TOGETHER, 0) == with_interval(gaps, "+.2f")


def test_every_claim_is_looked_at_and_no_cell_is_empty(table):
    claims = [insights.SHARE, insights.LOTTERY, insights.ROBUST, insights.RATES, insights.TOGETHER]
    assert list(table.index.unique()) == claims
    assert len(table) == 21
    assert table["measured"].str.contains(r"\d").all()


def test_what_a_log_lacks_is_left_out(logs, table):
    short = logs["mlp_oneshot"].results.query("`sweep.sparsity` != 0.9")
    fewer = insight_table(logs | {"mlp_oneshot": replace(logs["mlp_oneshot"], results=short)})
    assert len(fewer) == len(table) - 2
    assert not fewer["looked at"].eq("challenge MLP, 90 % of weights, one shot").any()


def test_a_missing_log_is_told():
    with pytest.raises(
        UserError, match=r"expected the logs of mlp_oneshot, .*, found no mlp_oneshot, lenet5"
    ):
        insight_table({})
