"""Provenance: where, when and with what a result was computed. It decides nothing and is in no hash."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..logger import Record
from ..methods.criteria import CRITERIA
from ..methods.evaluation import actual_precision
from ..methods.prune_settings import PruneSettings
from ..methods.stage_settings import AnyStage, prune_settings_of
from ..stages.state import State


def provenance_of(state: State, threads: int, began: float) -> dict[str, Any]:
    """Machine, versions and times of the stage that led to this state and began at `began`, seconds UTC."""
    device = state.dataset.train.labels.device
    teachers = state.teacher_logits.teachers if state.teacher_logits else []
    return {
        "machine": machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": threads,
        "precision": actual_precision(device, state.precision),
        "teachers_precision": [actual_precision(device, teacher.precision) for teacher in teachers],
        "versions": versions(),
        "data_sha256": state.dataset.checksum,
        "started": _utc(began),
        "finished": _utc(time.time()),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result's last digits or read it back."""
    packages = ("torch", "torchvision", "numpy", "pandas", "h5py")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def machine() -> str:
    """System, cores, processor, where the system tells its name, and the instructions that torch uses."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [f"model name: {platform.processor()}"]
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    used = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {cpu}, {used}"


def unlike(records: Iterable[Record], device: str) -> str:
    """What to tell of records of another machine, or of a precision that this one does not give; or "".

    `device` is the one that further results will be computed on.
    """
    others: set[str] = set()
    precisions: set[str] = set()
    for record in records:
        others.add(record.provenance.get("machine", ""))
        trainings = [stage for stage in record.config.get("stages", []) if stage["type"] == "train"]
        asked = trainings[-1].get("precision", "float32") if trainings else "float32"
        used, here = record.provenance.get("precision"), actual_precision(torch.device(device), asked)
        if used not in (None, here):
            precisions.add(f"were computed in {used}, which would be {here} here")
    others -= {machine(), ""}
    told = [f"come from another machine ({'; '.join(sorted(others))})"] if others else []
    told += sorted(precisions)
    if not told:
        return ""
    text = " and ".join(told)
    return f"results that are there already {text}; what is computed now differs by that too (README, Limits)"


def criterion_code(stage: AnyStage) -> dict[str, str]:
    """The code of the criterion that a stage prunes by, if it has one: {"criterion_code": digest}."""
    settings = prune_settings_of(stage)
    is_scored = isinstance(settings, PruneSettings)
    return {"criterion_code": CRITERIA[settings.criterion].code} if is_scored else {}


def edited_criteria(records: Iterable[Record]) -> list[str]:
    """Criteria whose code is another now than when these results were computed, as far as that was kept."""
    found = set()
    for record in records:
        if code := record.provenance.get("criterion_code"):
            last = record.config["stages"][-1]
            name = (last.get("ramp") or last).get("criterion", "magnitude")
            if name in CRITERIA and CRITERIA[name].code != code:
                found.add(name)
    return sorted(found)


def _utc(seconds: float) -> str:
    """A time as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def code_version(root: Path) -> dict[str, Any]:
    """The commit of the repository that `root` is, and whether its helpers differ from it.

    Without git, or in a copy that is no repository of its own, the commit is "" and `dirty` None.
    """
    # A hook of git's has its own repository in the environment.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> str | None:
        call = ["git", "-C", str(root), *words]
        try:
            done = subprocess.run(call, capture_output=True, check=True, env=environment)
            return os.fsdecode(done.stdout).strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    top = git("rev-parse", "--show-toplevel")
    commit = git("rev-parse", "HEAD") if top and Path(top).resolve() == root.resolve() else None
    changes = git("status", "--porcelain", "--", "helpers") if commit else None
    return {"commit": commit or "", "dirty": None if changes is None else bool(changes)}
