"""Execute the notebook, redraw its figures from logs alone, and copy its tables into the documents.

python -m helpers.analysis.notebook --profile quick    # execute it from a clean kernel
python -m helpers.analysis.notebook --figures          # redraw figures/ from logs/, without torch
python -m helpers.analysis.notebook --readme           # tables of README and its like, from the notebook
"""

import argparse
import ast
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat

from ..foundations.columns import columns_table
from ..foundations.errors import UserError
from ..foundations.files import ROOT, atomic
from ..foundations.markdown import fill_document
from ..foundations.terminal import say
from ..utils import Results, load_log
from .panels import QUICK

NOTEBOOK = ROOT / "prune_playground.ipynb"
DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", ROOT / "logs" / "README.md"]
FULL = "full"
NEEDS_TORCH = "torch"
"""Tag of a cell that computes or takes a network in hand; figures are redrawn without it."""

HEAD = re.compile(r"<!-- table (\w+) -->\n")
"""What a named table begins with, in the notebook."""


def execute(profile: str = QUICK) -> int:
    """Runs all cells in a clean kernel, with their output on the terminal as it comes; the exit code.

    The full profile is written in place, another beside its figures. Where a cell fails, the code is 1, its
    error is told and no notebook is written.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    class OwnInterpreter(KernelSpecManager):
        """Runs every notebook with the interpreter that runs this, whatever kernels JUPYTER_PATH offers."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(resource_dir="", **get_kernel_dict())

    class TalkingClient(NotebookClient):
        """Shows what the cells print while they run."""

        def output(self, outs: list, msg: dict, display_id: str, cell_index: int) -> Any:
            if msg["msg_type"] == "stream":
                say(msg["content"]["text"], end="")
            return super().output(outs, msg, display_id, cell_index)

    target = NOTEBOOK if profile == FULL else ROOT / "figures" / profile / NOTEBOOK.name
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = TalkingClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=OwnInterpreter()),
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT)}},
        on_cell_start=_announce,
        extra_arguments=["--log-level=ERROR"],  # it warns that the kernel on this machine is not encrypted
    )
    began = time.perf_counter()
    try:
        client.execute(env=os.environ | {"PROFILE": profile}, cleanup_kc=True)
    except CellExecutionError as error:
        say(f"\n{error}", sys.stderr)
        return 1
    with atomic(target) as draft:
        nbformat.write(notebook, draft)
    folder = ROOT / "figures" / ("" if profile == FULL else profile)
    said = f"\nDone in {time.perf_counter() - began:.0f} s. Notebook: {target.relative_to(ROOT)}"
    say(f"{said}; figures: {folder.relative_to(ROOT)}/")
    return 0


def _announce(cell: dict, cell_index: int) -> None:
    """Headings of the notebook, as the run comes to them."""
    if cell["cell_type"] == "markdown" and cell["source"].startswith("#"):
        say(f"\n{cell['source'].splitlines()[0]}")


def redraw(profile: str = FULL, notebook: Path = NOTEBOOK) -> dict[str, Any]:
    """Runs the cells that need no torch, in plain Python, on the logs that there are: every figure anew.

    Returns what the cells defined. Raises UserError where a log is missing.
    """
    folder = ROOT / "logs" / ("" if profile == FULL else profile)

    def run_experiment(config: str, profile: str | None = None) -> Results:
        return load_log(folder / f"{Path(config).stem}.hdf5")

    names: dict[str, Any] = {"run_experiment": run_experiment, "__name__": "notebook"}
    before = os.environ.get("PROFILE")
    os.environ["PROFILE"] = profile
    try:
        for number, cell in enumerate(nbformat.read(notebook, as_version=4).cells):
            if cell["cell_type"] == "code" and NEEDS_TORCH not in cell["metadata"].get("tags", []):
                exec(compile(ast.parse(cell["source"]), f"cell {number}", "exec"), names)
    finally:
        os.environ.pop("PROFILE")
        if before is not None:
            os.environ["PROFILE"] = before
    return names


def named_tables(notebook: Path = NOTEBOOK) -> dict[str, str]:
    """The Markdown of an executed notebook's named tables, by name."""
    found: dict[str, str] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/markdown", "")
            if head := HEAD.match(text):
                found[head[1]] = text[head.end() :]
    return found


def document_tables() -> dict[str, str]:
    """The Markdown of all tables that README and the READMEs of benchmarks/ and logs/ may show, by name."""
    from benchmarks.tables import benchmark_tables

    return named_tables() | benchmark_tables() | {"columns": columns_table()}


def write_documents() -> None:
    """Copy the notebook's tables, those of the benchmarks and that of the columns into the documents."""
    tables = document_tables()
    for path in DOCUMENTS:
        fill_document(path, tables)


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 1 where a cell failed, 2 on bad input."""
    parser = argparse.ArgumentParser(
        "python -m helpers.analysis.notebook", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", help="quick: into figures/quick/ (default); full: in place")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--figures", action="store_true", help="redraw the figures from logs, without torch")
    task.add_argument("--readme", action="store_true", help="copy its tables into the documents")
    given = parser.parse_args(arguments)
    try:
        if given.readme:
            write_documents()
        elif given.figures:
            redraw(given.profile or FULL)
        else:
            return execute(given.profile or QUICK)
    except UserError as error:
        say("\n".join(error.lines), sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
