"""Epoch time of TrainDojo against a torchvision DataLoader loop, and against the machine's peak.

Both train the same network with the same batch size, optimizer, threads and flush-denormal
setting. The loop is the usual one: per-image transforms, a shuffled DataLoader with the best of
0, 1 and 2 worker processes, the default memory layout. Repetitions are interleaved; the figures
are medians, and the ratio is that of the medians. The ceiling is the ratio that a loop would reach which
did nothing but its matrix products, at the peak: no loop in this precision can have more.

    python -m benchmarks.training_step
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from helpers.config.file import read_json
from helpers.foundations.data import Dataset, load_dataset
from helpers.foundations.data_files import DATA_ROOT
from helpers.foundations.datasets import DataConfig
from helpers.masked_body_builder import MaskedBodyBuilder
from helpers.methods.stage_settings import TrainStage
from helpers.running.engine import usable_cores
from helpers.running.provenance import machine, versions
from helpers.train_dojo import TrainDojo, make_optimizer

FOLDER = Path(__file__).parent
ADAM = {"type": "adamw", "lr": 1e-3, "weight_decay": 0.1}
LENET_300_100 = {
    "layers": [{"type": "flatten"}, *({"type": "linear", "units": units} for units in (300, 100, 10))]
}


def cases() -> dict[str, tuple[dict, int]]:
    """Network and batch size by name."""
    configs = FOLDER.parent / "configs"
    return {
        "LeNet-300-100": (LENET_300_100, 60),
        "challenge MLP": (read_json(configs / "mlp_oneshot.json")["net"], 128),
        "LeNet-5": (read_json(configs / "lenet5_oneshot.json")["net"], 128),
    }


def dojo_epoch(net: dict, batch_size: int, data: Dataset) -> float:
    """Seconds of one epoch in the dojo, without evaluation."""
    network = MaskedBodyBuilder(net)
    if network.is_convolutional:
        network = network.to(memory_format=torch.channels_last)
    stage = TrainStage.model_validate(
        {"type": "train", "epochs": 1, "batch_size": batch_size, "optimizer": ADAM}
    )
    return TrainDojo(network, data, stage, seed=0).train().wall_s


def loader_epoch(net: dict, batch_size: int, data: Dataset, workers: int) -> float:
    """Seconds of one epoch in the usual loop; starting the worker processes is part of an epoch there."""
    network = MaskedBodyBuilder(net)
    stage = TrainStage.model_validate({"type": "train", "epochs": 1, "optimizer": ADAM})
    optimizer = make_optimizer(network, stage.optimizer)
    normalise = transforms.Normalize(data.mean.tolist(), data.std.tolist())
    images = datasets.MNIST(
        DATA_ROOT, train=True, transform=transforms.Compose([transforms.ToTensor(), normalise])
    )
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=workers)
    network.train()
    started = time.perf_counter()
    for batch, labels in loader:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(batch), labels).backward()
        optimizer.step()
    return time.perf_counter() - started


def peak_flops(size: int = 2048, repetitions: int = 6) -> float:
    """FLOP/s of a float32 matrix product, the best of some."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


def epoch_flops(net: dict, images: int) -> float:
    """FLOPs of the products of one epoch: forward, and backward but for the input's gradient."""
    network = MaskedBodyBuilder(net)
    first = next(shape.macs for shape in network.shapes if shape.macs)
    return 2.0 * (3 * network.macs - first) * images


def main() -> None:
    """Print the table and keep it beside this file as JSON."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.training_step", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    data = load_dataset(DataConfig(dataset="mnist", validation_size=0))
    rows, peaks = [], []
    for name, (net, batch_size) in cases().items():
        # The first call of each pays for page faults and code caches: run once, not timed.
        dojo_epoch(net, batch_size, data)
        dojo: list[float] = []
        loader: dict[int, list[float]] = {0: [], 1: [], 2: []}
        for _ in range(options.repetitions):
            peaks.append(peak_flops())
            dojo.append(dojo_epoch(net, batch_size, data))
            for workers, times in loader.items():
                times.append(loader_epoch(net, batch_size, data, workers))
        medians = {workers: statistics.median(times) for workers, times in loader.items()}
        best = min(medians, key=medians.get)
        ours = statistics.median(dojo)
        flops = epoch_flops(net, len(data.train))
        rows.append(
            {
                "network": name, "batch_size": batch_size, "dojo_s": ours, "loader_s": medians[best],
                "loader_workers": best, "ratio": medians[best] / ours, "epoch_flops": flops,
                "all_dojo_s": dojo, "all_loader_s": loader,
            }
        )  # fmt: skip
    peak = max(peaks)
    for row in rows:
        row["share_of_peak"] = row["epoch_flops"] / row["dojo_s"] / peak
        row["ceiling"] = row["loader_s"] / (row["epoch_flops"] / peak)
        loader = f"DataLoader {row['loader_s']:.2f} s ({row['loader_workers']} workers)"
        print(
            f"{row['network']} (batch {row['batch_size']}): dojo {row['dojo_s']:.2f} s, {loader}, ratio",
            end=" ",
        )
        print(f"{row['ratio']:.2f} (ceiling {row['ceiling']:.2f}), {row['share_of_peak']:.0%} of the peak")
    print(f"peak {peak / 1e9:.0f} GFLOP/s float32, {options.threads} threads, n = {options.repetitions}")
    found = {"threads": options.threads, "repetitions": options.repetitions, "peak_flops": peak, "rows": rows}
    found |= {"machine": machine(), "versions": versions(), "images": len(data.train)}
    (FOLDER / "training_step.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
