"""What a teacher adds to a gradient step: cached logits, and a teacher that looks on live, against none.

One student, three dojos, the same batches; repetitions are interleaved, figures are medians of the
seconds of an epoch, evaluation and the teacher's one pass over the images left out.

    python -m benchmarks.distill_step
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from helpers.config.file import read_json
from helpers.foundations.data import Dataset, load_dataset
from helpers.foundations.datasets import DataConfig
from helpers.foundations.nets import NetConfig
from helpers.masked_body_builder import MaskedBodyBuilder
from helpers.methods.distillation import TrainedNetwork, split_logits
from helpers.methods.stage_settings import TrainStage
from helpers.running.engine import usable_cores
from helpers.running.provenance import machine, versions
from helpers.train_dojo import DistillDojo, TrainDojo

FOLDER = Path(__file__).parent
CONFIGS = FOLDER.parent / "configs"
ADAM = {"type": "adam", "lr": 1e-3}


def network_of(config: str) -> MaskedBodyBuilder:
    """The network of a config, untrained: what it says takes as long as if it knew something."""
    return MaskedBodyBuilder(NetConfig.model_validate(read_json(CONFIGS / f"{config}.json")["net"]))


def epoch(
    student: str, data: Dataset, teachers: list[TrainedNetwork], cached: Tensor | None, shift: int
) -> float:
    """Seconds of one epoch of gradient steps; without teachers, of a plain TrainDojo."""
    words = {"type": "train", "epochs": 1, "batch_size": 128, "optimizer": ADAM, "shift": shift}
    # No checkpoints, and the learning curve has its only row after the clock has stopped.
    stage = TrainStage.model_validate(words | {"checkpoint_epochs": None})
    if not teachers:
        return TrainDojo(network_of(student), data, stage, 0).train().wall_s
    dojo = DistillDojo(network_of(student), data, stage, 0, teachers=teachers, cached=cached)
    return dojo.train().wall_s


def main() -> None:
    """Print the table and keep it beside this file as JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.distill_step", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    data = load_dataset(DataConfig(dataset="mnist", validation_size=5000))
    network = network_of("mlp_oneshot").eval().requires_grad_(False)
    teachers = [TrainedNetwork(network, data.mean, data.std, macs=network.macs)]
    started = time.perf_counter()
    cached = split_logits(teachers, data.train, data)
    once = time.perf_counter() - started
    kinds = {"none": ([], None, 0), "cached": (teachers, cached, 0)}
    kinds |= {"none, shifted images": ([], None, 2), "live, shifted images": (teachers, None, 2)}
    rows = []
    for name, student in (("256-128-128-64-64-64", "distill_students"), ("LeNet-300-100", "lottery_ticket")):
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for words in kinds.values():
            epoch(student, data, *words)  # page faults and code caches, not timed
        for _ in range(options.repetitions):
            for kind, words in kinds.items():
                times[kind].append(epoch(student, data, *words))
        medians = {kind: statistics.median(found) for kind, found in times.items()}
        ratios = {
            "cached_ratio": medians["cached"] / medians["none"],
            "live_ratio": medians["live, shifted images"] / medians["none, shifted images"],
        }
        rows.append({"student": name, "seconds": medians} | ratios)
        print(name, {kind: round(found, 2) for kind, found in medians.items()}, ratios, flush=True)
    found = {
        "machine": machine(),
        "cores": usable_cores(),
        "threads": options.threads,
        "versions": versions(),
        "repetitions": options.repetitions,
        "teacher": "challenge MLP",
        "teacher_pass_s": once,
        "rows": rows,
    }
    (FOLDER / "distill_step.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
