"""The analysis knows no experiment by name, and draws logs where there is neither torch nor Dask."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from conftest import ROOT

import helpers.analysis
from helpers.config.json_schema import json_schema
from helpers.foundations.columns import COLUMNS, TAKEN

ANALYSIS = ROOT / "helpers" / "analysis"
CONFIGS = [path for path in sorted((ROOT / "configs").glob("*.json")) if path.name != "schema.json"]

ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "dask", "distributed"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("torch should be out of reach")

from pathlib import Path
import helpers.analysis
import helpers.analysis.notebook
from helpers.analysis import *
from helpers.analysis.automatic import summarise
from helpers.utils import load_log

log, folder = load_log(sys.argv[1]), Path(sys.argv[2])
print(overview(log).markdown())
plot(log, "automatic", folder)
weights = select(pruned(log), kind="weight")
grid = [[lines(weights, "target", hue="arm") + baseline(dense(log)), architecture(log)]]
show("curves", grid, log, folder=folder)
"""


def test_a_committed_log_is_read_and_drawn_without_torch_and_dask(tmp_path):
    call = [sys.executable, "-W", "error", "-c", ALONE, ROOT / "logs" / "mlp_oneshot.hdf5", tmp_path]
    done = subprocess.run(list(map(str, call)), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| arm | kind | sparsity | test accuracy, % |")
    names = {"automatic.pdf", "automatic.png", "curves.pdf", "curves.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


def vocabulary(part: Any) -> Iterator[str]:
    """The words that a config may use, by its schema: keys, and values that a field admits."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
        yield from (word for word in [*part.get("enum", []), part.get("const")] if isinstance(word, str))
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from vocabulary(inner)


@cache
def experiments() -> set[str]:
    """What the shipped configs call their arms, their axes and themselves, words of the field apart."""
    found = set()
    for path in CONFIGS:
        words = json.loads(path.read_text())
        found |= {path.stem, *words.get("arms", {}), *(f"sweep.{axis}" for axis in words.get("sweep", {}))}
    # `dense` and its like are words of the grammar itself.
    return found - {*vocabulary(json_schema()), *COLUMNS, *TAKEN, *vars(helpers.analysis)}


def texts(source: str) -> set[str]:
    """The texts that stand in a piece of code, by themselves or around what an f-string fills in."""
    return {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("path", sorted(ANALYSIS.glob("*.py")), ids=lambda path: path.name)
def test_no_experiment_is_known_by_name(path):
    assert texts(path.read_text()) & experiments() == set()


def test_the_forbidden_words_are_those_of_the_configs():
    assert {"mlp_oneshot", "finetune_hot", "sweep.sparsity", "iterative_refit", "student_kd"} <= experiments()
    assert {"weight", "magnitude", "refit", "teacher", "kind", "test_accuracy", "dense"}.isdisjoint(
        experiments()
    )
    assert texts('rows[rows["arm"] == "student_kd"]') & experiments() == {"student_kd"}
    assert texts('f"{a}sweep.sparsity{b}"') & experiments() == {"sweep.sparsity"}
