"""What a teacher is worth to dense and to pruned students of few images: paired, tuned on other seeds."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import FakeLog
from scipy import stats

from helpers.errors import UserError
from helpers.few_images import few_table

GAIN = {"first": (0.02, 0.01, 0.02), "kd": (0.01, 0.02, 0.03), "both": (0.03, 0.05, 0.04)}
"""By seed, in test accuracy, at the temperature that validation prefers."""


WHEN = {"first": "the first training", "kd": "the last training", "both": "both trainings"}
LAST = "teacher in the last training, points"
LEVELS = {np.nan: 0.0, 0.9: 0.02, 0.98: -0.01}
"""What each seed gains more, or less, where this share of the weights is pruned."""


def few_log(seeds: tuple[int, ...] = (0, 1, 2)) -> FakeLog:
    """T 4 is best on validation, T 1 on test; for seed 0 alone, T 1 is best on validation as well."""
    rows = []
    for images, seed, (level, extra) in product((600, 1800), seeds, LEVELS.items()):
        kind = "dense" if np.isnan(level) else "pruned"
        start = 0.8 + images / 1e5 + 0.01 * seed - (0 if kind == "dense" else level / 10)
        here = {"seed": seed, "status": "ok", "sweep.train_size": images, "sweep.sparsity": level}
        here |= {"test_accuracy": start, "val_accuracy": start}
        rows.append(here | {"arm": f"{kind}_ce", "sweep.temperature": np.nan})
        for how, temperature in product(GAIN, (1, 4)):
            lucky = seed == 0 and temperature == 1
            val = 0.99 if lucky else 0.9 + 0.01 * (temperature == 4)
            test = start + GAIN[how][seed] + extra * (seed + 1) + 0.1 * (temperature == 1)
            axes = {"sweep.temperature": temperature, "val_accuracy": val, "test_accuracy": test}
            rows.append(here | {"arm": f"{kind}_{how}"} | axes)
    return FakeLog(pd.DataFrame(rows).sample(frac=1, random_state=0), "full")


def points(values: object) -> str:
    """Mean and half the 95 % t-interval in points, by scipy."""
    values = 100 * np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.2f} ± {half:.2f}"


def test_a_teacher_is_judged_at_the_temperature_that_other_seeds_choose():
    table = few_table(few_log())
    assert list(table.index) == ["600"] * 3 + ["1,800"] * 3
    names = ["dense", "90 % of weights pruned", "98 % of weights pruned"]
    assert list(table["LeNet-300-100"]) == names * 2
    # Seeds 1 and 2 are given T 1 by seed 0, which itself is given T 4 by them.
    more = [np.multiply(extra, [1, 2, 3]) for extra in LEVELS.values()]
    for how, when in WHEN.items():
        gain = np.add(GAIN[how], [0, 0.1, 0.1])
        assert list(table[f"teacher in {when}, points"]) == [points(gain + extra) for extra in more] * 2
    for when in ("first", "last", "both"):
        beside = ["", *(points(extra) for extra in more[1:])]
        assert list(table[f"{when}: minus the dense network's"]) == beside * 2
    assert set(table["temperatures"]) == {"T 1, T 1, T 1"}
    assert table["labels alone, %"].iloc[1].startswith("72.60 ±")
    assert list(table["seeds"]) == [3] * 6


def test_one_seed_has_no_interval():
    table = few_table(few_log((2,)))
    assert list(table[LAST]) == ["+3.00", "+9.00", "+0.00"] * 2
    assert not table.astype(str).apply(lambda column: column.str.contains("±|nan")).any(axis=None)


def test_a_temperature_of_which_a_run_diverged_is_not_chosen():
    log = few_log()
    hot = log.results["sweep.temperature"].eq(1) & log.results["seed"].eq(0)
    log.results.loc[hot, "status"] = "diverged"
    assert set(few_table(log)["temperatures"]) == {"T 4, T 4, T 4"}
    log.results.loc[log.results["sweep.temperature"].eq(4), "status"] = "diverged"
    with pytest.raises(UserError, match="every run ended well"):
        few_table(log)
