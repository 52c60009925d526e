"""What choosing survivors anew costs: seconds and memory, by kind, share and way to choose.

The challenge MLP, trained for two epochs; every row in a process of its own, on one thread, so that its
memory is its own: that before is torch, the images and the network.

    python -m benchmarks.reconstruct
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from helpers.config.file import read_json
from helpers.foundations.data import load_dataset
from helpers.foundations.datasets import DataConfig
from helpers.foundations.nets import NetConfig
from helpers.foundations.seeds import generator
from helpers.masked_body_builder import MaskedBodyBuilder
from helpers.methods.reconstruction import reconstruct
from helpers.methods.stage_settings import ReconstructStage, TrainStage
from helpers.running.engine import usable_cores
from helpers.running.provenance import machine, versions
from helpers.stages.state import learned
from helpers.train_dojo import TrainDojo

FOLDER = Path(__file__).parent
CONFIG = FOLDER.parent / "configs" / "mlp_oneshot.json"
ROWS = [
    ("weight", 0.9, "pursuit"), ("weight", 0.95, "pursuit"), ("weight", 0.99, "pursuit"),
    ("weight", 0.99, "magnitude"), ("weight", 0.99, "random"),
    ("unit", 0.9, "pursuit"), ("unit", 0.97, "pursuit"), ("unit", 0.97, "magnitude"),
]  # fmt: skip
"""Kind, share pruned, method; all else as by default."""


def a_network() -> MaskedBodyBuilder:
    """The challenge MLP before training."""
    return MaskedBodyBuilder(NetConfig.model_validate(read_json(CONFIG)["net"]))


def peak_mb() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(weights: str, kind: str, sparsity: float, method: str) -> dict[str, float]:
    """Seconds of one reconstruct stage, and the memory of the process before and at its peak."""
    data, network = load_dataset(DataConfig(dataset="mnist")), a_network()
    network.load_state_dict(torch.load(weights, weights_only=True))
    settings = {"type": "reconstruct", "kind": kind, "sparsity": sparsity, "method": method}
    stage, before = ReconstructStage.model_validate(settings), peak_mb()
    began = time.perf_counter()
    reconstruct(network, stage, learned(network), data.train.images, generator(0, "masks", 0))
    return {"seconds": time.perf_counter() - began, "before_mb": before, "peak_mb": peak_mb()}


def main() -> None:
    """Print the table and keep it beside this file as JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.row:
        weights, kind, sparsity, method = options.row
        print(json.dumps(measure(weights, kind, float(sparsity), method)))
        return
    network, rows = a_network(), []
    settings = {"type": "train", "epochs": 2, "optimizer": {"type": "adamw", "lr": 0.002}}
    TrainDojo(
        network, load_dataset(DataConfig(dataset="mnist")), TrainStage.model_validate(settings), 0
    ).train()
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/dense.pt"
        torch.save(network.state_dict(), weights)
        for row in ROWS:
            call = [sys.executable, "-m", "benchmarks.reconstruct", "--row", weights, *map(str, row)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            rows.append(dict(zip(("kind", "sparsity", "method"), row, strict=True)) | found)
            print(*row, {name: round(value, 1) for name, value in found.items()}, flush=True)
    found = {
        "machine": machine(), "cores": usable_cores(), "threads": 1, "versions": versions(),
        "images": 20_000, "rows": rows,
    }  # fmt: skip
    (FOLDER / "reconstruct.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
