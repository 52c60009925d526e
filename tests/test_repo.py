"""What the repository shows is what its logs hold, and its rooms stand as they are drawn."""

import ast
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import helpers
from helpers.analysis import panels, tables
from helpers.analysis.notebook import DOCUMENTS, document_tables, named_tables, redraw
from helpers.config.expansion import load_config
from helpers.config.reference import reference_tables
from helpers.foundations.columns import COLUMNS, DESCRIPTIONS
from helpers.foundations.files import ROOT
from helpers.foundations.markdown import BLOCK, with_tables
from helpers.logger import read_log
from helpers.running.describing import describe
from helpers.utils import load_log

NOTEBOOK = ROOT / "prune_playground.ipynb"


def committed(folder: str, pattern: str) -> list[Path]:
    """Files of a folder that git keeps, sorted; what a user has added to it is none of our business."""
    call = ["git", "-C", str(ROOT), "ls-files", "--", f"{folder}/{pattern}"]
    kept = subprocess.run(call, capture_output=True, text=True)
    names = kept.stdout.split("\n") if kept.returncode == 0 else []
    paths = [ROOT / name for name in names if name] or (ROOT / folder).glob(pattern)
    return sorted(path for path in paths if path.parent == ROOT / folder and path.exists())


CONFIGS = [path for path in committed("configs", "*.json") if path.name != "schema.json"]


def code_cells() -> list[dict]:
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_committed_log_holds_every_result_of_its_config(path):
    log, config = read_log(ROOT / "logs" / f"{path.stem}.hdf5"), load_config(path)
    wanted = {key for run in config.runs for key in run.hashes}
    missing = wanted - set(log.records)
    assert not missing, f"python -m helpers.experiment {path} would compute {len(missing)} results"
    assert log.runs == describe(config), f"python -m helpers.experiment {path} would show other rows"


MAY_DIVERGE = {"distill_learning_rate"}
"""Experiments that look for the rates at which a training breaks down."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_record_of_a_committed_log_ended_well_unless_it_asks_for_the_limit(path):
    """No result failed or is missing, and none diverged where tables count on all seeds."""
    log = ROOT / "logs" / f"{path.stem}.hdf5"
    records, rows = read_log(log).records, load_log(log).results
    allowed = {"ok", "diverged"} if path.stem in MAY_DIVERGE else {"ok"}
    assert {record.row["status"] for record in records.values()} <= allowed
    assert set(rows["status"]) <= allowed
    assert len(rows) > 0
    for key, record in records.items():
        row = record.row
        if row["status"] == "ok":
            assert math.isfinite(row["test_loss"]), key
            assert row["test_errors"] == round((1 - row["test_accuracy"]) * 10_000), key
            assert all(len(column) == len(record.curves["step"]) for column in record.curves.values()), key


def test_there_is_a_config_for_every_committed_log():
    assert {path.stem for path in committed("logs", "*.hdf5")} == {path.stem for path in CONFIGS}


CONFIG_TABLES = ROOT / "configs" / "README.md"


@pytest.mark.parametrize("path", [*DOCUMENTS, CONFIG_TABLES], ids=lambda path: path.parent.name)
def test_tables_of_documents_are_those_of_the_notebook_the_benchmarks_and_the_code(path):
    text = path.read_text()
    tables = reference_tables() if path == CONFIG_TABLES else document_tables()
    assert len(BLOCK.findall(text)) == text.count("<!-- table ") > 0
    assert with_tables(text, tables, path) == text, "stale: make readme, make schema"


def test_reference_tables_stand_in_the_document_of_configs():
    shown = {name for _, name, _, _ in BLOCK.findall(CONFIG_TABLES.read_text())}
    assert shown == set(reference_tables())


def test_every_column_is_described_once():
    described = [name for names in DESCRIPTIONS for name in names.split(", ")]
    assert sorted(described) == sorted(COLUMNS)


def test_readme_is_a_front_door():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 300


def test_a_log_is_read_without_this_repository_as_its_document_says():
    (block,) = [block for block in code_of(ROOT / "logs" / "README.md", "python") if "h5py" in block]
    names = {}
    exec(f"import os; os.chdir({str(ROOT)!r})\n{block}", names)
    log = load_log(ROOT / "logs" / "mlp_oneshot.hdf5")
    rows, curve = names["rows"], log.curves.query("stage == 0").groupby("run").first()
    assert len(rows) == log.results["result"].nunique()
    own = log.results.drop_duplicates("result").set_index("result")["test_accuracy"]
    assert rows["test_accuracy"].reindex(own.index).equals(own)
    assert len(names["configs"]) == len(rows)
    assert set(names["curves"]) <= set(names["results"])
    assert len(curve) > 0


def code_of(path, language):
    """The blocks of a document that are of a language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory, request):
    """Where every figure was drawn again from the logs, and the tables that the cells made."""
    folder, shown = tmp_path_factory.mktemp("figures"), {}
    patch = pytest.MonkeyPatch()
    patch.setattr(panels, "figures_of", lambda logs: folder)
    patch.setattr(tables.Table, "__init__", _kept(shown))
    redraw()
    patch.undo()
    return folder, shown


def _kept(shown):
    """Table's own __init__, that also keeps each named table."""
    own = tables.Table.__init__

    def init(self, frame, name=""):
        own(self, frame, name)
        if name:
            shown[name] = self.markdown()

    return init


def test_the_tables_of_the_notebook_are_those_that_the_logs_give(redrawn):
    assert redrawn[1] == named_tables(), "stale: make notebook PROFILE=full"


def test_the_committed_figures_are_those_that_the_notebook_draws(redrawn):
    """Both forms of each, and none beside them."""
    names = {path.name for ending in ("png", "pdf") for path in committed("figures", f"*.{ending}")}
    assert names == {path.name for path in redrawn[0].iterdir()}


def test_the_configs_in_documents_run(tmp_path):
    blocks = [block for path in (ROOT / "README.md", CONFIG_TABLES) for block in code_of(path, "json")]
    assert len(blocks) >= 5
    for block in blocks:
        (tmp_path / "example.json").write_text(block)
        for profile in ("full", *json.loads(block).get("profiles", {})):
            assert load_config(tmp_path / "example.json", profile).runs


def anchors(path):
    """What a document's headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {heading.lower().replace(",", "").replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, CONFIG_TABLES], ids=lambda path: path.parent.name)
def test_every_place_that_a_document_links_to_exists(path):
    links = re.findall(r"\]\((?!http)([^)]+)\)", path.read_text())
    assert links or path.parent.name in ("logs", "benchmarks")
    for link in links:
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_notebook_is_committed_executed_from_a_clean_kernel():
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    printed = "".join(output.get("text", "") for output in outputs)
    for path in CONFIGS:
        assert re.search(rf"{path.stem} \(full\): \d+ runs, \d+ loaded, 0 computed", printed)


def test_notebook_cells_are_short_and_define_nothing():
    for cell in code_cells():
        assert len(cell["source"].splitlines()) <= 20
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, definitions)]


def test_run_all_in_a_fresh_clone_loads_everything(tmp_path):
    """Without networks/, under the full profile, in a copy of what is committed."""
    for name in ("helpers", "configs", "logs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("quick", "__pycache__"))
    shutil.copytree(ROOT / "data", tmp_path / "data")
    shutil.copy(NOTEBOOK, tmp_path)
    command = [sys.executable, "-m", "helpers.analysis.notebook", "--profile", "full"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = re.findall(r"(\d+) runs, (\d+) loaded, 0 computed", done.stdout)
    assert counts
    assert all(runs == loaded for runs, loaded in counts)
    for figure in {path.stem for path in committed("figures", "*.png")}:
        assert (tmp_path / "figures" / f"{figure}.png").exists()
        assert (tmp_path / "figures" / f"{figure}.pdf").exists()


FLOORS = (
    "foundations", "body_builder", "masked_body_builder", "methods", "pruning", "train_dojo", "stages",
    "config", "running", "experiment",
)  # fmt: skip
"""Rooms and files of helpers from the ground up: each imports from those before it."""

OF_LOGS = ("logger", "utils", "analysis")
"""What reads and writes logs; each imports from those before it, and little of the foundations."""

FOR_LOGS = {
    "foundations.columns",
    "foundations.errors",
    "foundations.files",
    "foundations.markdown",
    "foundations.terminal",
}


def module_imports() -> dict[str, set[str]]:
    """By module of helpers, such as running.engine, the modules of helpers that it imports."""
    found = {}
    for path in (ROOT / "helpers").rglob("*.py"):
        parts = path.relative_to(ROOT / "helpers").with_suffix("").parts
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        found[".".join(parts)] = {
            ".".join((*parts[: len(parts) - node.level], name))
            for node in nodes if node.level
            for name in ([node.module] if node.module else [alias.name for alias in node.names])
        }  # fmt: skip
    return found


def test_imports_run_downwards_only():
    for module, imported in module_imports().items():
        room = module.split(".")[0]
        for name in imported:
            other = name.split(".")[0]
            if room == other:
                continue
            if room in OF_LOGS:
                is_below = other in OF_LOGS[: OF_LOGS.index(room)] or name in FOR_LOGS
            elif other in OF_LOGS:
                is_below = room in ("running", "experiment")
            else:
                is_below = other in FLOORS[: FLOORS.index(room)]
            assert is_below, f"{module} imports {name}"


def test_there_is_no_circle_of_imports():
    imports = module_imports()

    def check(module: str, above: tuple[str, ...] = ()) -> None:
        assert module not in above, f"circle: {' → '.join((*above, module))}"
        for name in imports.get(module, ()):
            check(name, (*above, module))

    for module in imports:
        check(module)


@pytest.mark.parametrize(
    "module", ["experiment", "config.expansion", "config.json_schema", "analysis", "utils"]
)
def test_configs_are_read_and_logs_drawn_without_torch(module):
    call = f"import sys, helpers.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", call], cwd=ROOT).returncode == 0


def test_what_a_notebook_needs_is_there_and_a_result_is_that_of_the_code_at_its_import():
    assert all(getattr(helpers, name) for name in helpers.__all__)
    call = "import sys, helpers.experiment; sys.exit('helpers.running.freshness' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", call], cwd=ROOT).returncode == 0


def test_every_import_of_the_notebook_is_there():
    found = []
    for cell in code_cells():
        nodes = [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.ImportFrom)]
        found += [(node.module, alias.name) for node in nodes for alias in node.names]
    named = [(module, name) for module, name in found if module.startswith("helpers") and name != "*"]
    assert named
    assert [pair for pair in named if not hasattr(importlib.import_module(pair[0]), pair[1])] == []


def test_no_file_is_long():
    for path in (ROOT / "helpers").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 320, path


def test_shipped_configs_say_what_they_ask():
    for path in CONFIGS:
        words = json.loads(path.read_text())
        assert words["description"]
        assert words["$schema"] == "schema.json"
        assert "quick" in words["profiles"]


def test_the_notebook_shows_no_path_of_a_machine():
    """Its outputs are the same wherever they were made."""
    printed = json.dumps([cell["outputs"] for cell in code_cells() if cell["outputs"]])
    assert "logs/mlp_oneshot.hdf5" in printed
    assert not re.search(
        r"[\s\"](/[\w.-]+){2,}", re.sub(r'"(image|application)/[^"]*": "[^"]*"', "", printed)
    )


def test_the_notebook_runs_in_our_own_interpreter_whatever_kernels_there_are(tmp_path):
    foreign = tmp_path / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    cell = nbformat.v4.new_code_cell("import os, sys; print(sys.executable, os.environ['PROFILE'])")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    call = (
        "import os, sys; from pathlib import Path; from helpers.analysis import notebook as room\n"
        "room.ROOT = Path(sys.argv[1]); room.NOTEBOOK = room.ROOT / 'one.ipynb'\n"
        "before = dict(os.environ); sys.exit(room.main([]) or before != dict(os.environ))"
    )
    environment = os.environ | {"JUPYTER_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", call, tmp_path], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (cell,) = nbformat.read(tmp_path / "figures" / "quick" / "one.ipynb", as_version=4).cells
    assert cell["outputs"][0]["text"] == f"{sys.executable} quick\n"
