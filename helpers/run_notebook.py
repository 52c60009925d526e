"""Execute the notebook from a clean kernel, with its output on the terminal as it comes.

python -m helpers.run_notebook --profile quick
"""

import argparse
import os
import sys
import time
from typing import Any

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from .config_file import FULL
from .files import ROOT, atomic
from .terminal import say

NOTEBOOK = ROOT / "prune_playground.ipynb"


class OwnInterpreter(KernelSpecManager):
    """Runs every notebook with the interpreter that runs this, whatever kernels JUPYTER_PATH offers."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel of this interpreter, under any name."""
        return KernelSpec(resource_dir="", **get_kernel_dict())


class TalkingClient(NotebookClient):
    """A notebook client that shows what the cells print while they run."""

    def output(self, outs: list, msg: dict, display_id: str, cell_index: int) -> Any:
        """Store an output as usual; printed text goes to the terminal as well."""
        if msg["msg_type"] == "stream":
            say(msg["content"]["text"], end="")
        return super().output(outs, msg, display_id, cell_index)


def announce(cell: dict, cell_index: int) -> None:
    """Headings of the notebook, as the run comes to them."""
    if cell["cell_type"] == "markdown" and cell["source"].startswith("#"):
        say(f"\n{cell['source'].splitlines()[0]}")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a cell failed, with its error; the notebook is then left as it was."""
    parser = argparse.ArgumentParser("python -m helpers.run_notebook", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", help="quick: into figures/quick/; full: in place")
    profile = parser.parse_args(arguments).profile
    target = NOTEBOOK if profile == FULL else ROOT / "figures" / profile / NOTEBOOK.name
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = TalkingClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=OwnInterpreter()),
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT)}},
        on_cell_start=announce,
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


if __name__ == "__main__":
    sys.exit(main())
