"""The verbs: each takes a network in its state and leaves it in the next, by calling the rooms above."""

import copy
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .compaction import alive_units, compact, effective_cost, largest_difference
from .config import CompactStage, PruneStage, RefitStage, RewindStage, TrainStage, Verb
from .config_parts import NetConfig
from .data import Dataset
from .logger import atomic
from .masked_body_builder import LayerMask, MaskedBodyBuilder
from .pruning import prune
from .refit import refit
from .seeds import generator, seed_for
from .train_dojo import TrainDojo, evaluate

WRONG_SAMPLES = 100
"""How many misclassified test samples a record keeps: enough to look at."""

HISTOGRAM_EDGES = np.linspace(-0.3, 0.3, 121)
"""Bins of the weight histograms; the outermost two hold the tails as well."""

PERSISTENT = ("train", "refit")
"""Stages whose weights are kept on disk; the others are computed again in milliseconds."""


@dataclass
class State:
    """A network on its way through a sentence, and what the next verb has to know."""

    network: MaskedBodyBuilder
    dataset: Dataset
    seed: int
    reference: dict[str, Tensor]
    """Weights before the first prune since the last train: what refit fits to and shuffle brings back."""
    first_train: TrainStage | None = None
    """The first training of the sentence: what a rewind to one of its steps repeats."""
    trained: int = 0
    """Train stages so far: each has its own data order."""
    pruned: int = 0
    """Stages so far that pruned: each has its own random masks."""
    drawn: int = 0
    """Fresh initial weights drawn so far."""
    resume_at: int | None = None
    """Step of the first training at which the next one begins, after a rewind to it."""
    precision: str = "float32"
    """Of the last training, and so of every evaluation after it."""
    epochs: float = 0.0
    train_flops: float = 0.0
    wall_s: float = 0.0
    status: str = "ok"
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Learning curve of the last stage; empty where it did not train."""
    compact_difference: float = math.nan
    """Where the last stage removed something: largest change of a test logit."""
    partial: Path | None = None
    """Where a training may keep itself while it runs."""
    notes: list[str] = field(default_factory=list)
    """What the user should hear."""


SCALARS = ("trained", "pruned", "drawn", "precision", "epochs", "train_flops", "wall_s", "status")
"""What a checkpoint keeps of a state beside weights and masks."""


def begin(net: NetConfig, dataset: Dataset, seed: int) -> State:
    """A freshly initialised network on the data's device."""
    network = MaskedBodyBuilder(net, dataset.name, seed_for(seed, "init")).to(dataset.train.labels.device)
    if network.is_convolutional:
        network = network.to(memory_format=torch.channels_last)
    return State(network, dataset, seed, _weights(network))


def _weights(network: MaskedBodyBuilder) -> dict[str, Tensor]:
    """A copy of all that is learned, without the masks."""
    return {
        key: value.detach().clone()
        for key, value in network.state_dict().items()
        if not key.endswith("_mask")
    }


def run_train(state: State, stage: TrainStage) -> None:
    """Gradient steps: new moments, own schedule, own data order; goes on where a killed one left off."""
    dojo, partial = _dojo(state, stage), state.partial
    if partial is not None and partial.exists():
        before = copy.deepcopy(state.network.state_dict())
        try:
            dojo.load_state_dict(torch.load(partial, map_location="cpu", weights_only=True))
        except FileNotFoundError:
            pass  # another process has just come to the end of this very training
        # Whatever is wrong with the file, a new start is the cure; half of it may be loaded by then.
        except Exception as error:
            reason = str(error).split("\n")[0]
            state.notes.append(f"{partial}: damaged or not a save of this training ({reason}); begun again")
            state.network.load_state_dict(before)
            dojo = _dojo(state, stage)

    def keep(words: dict[str, Any]) -> None:
        write_tensors(partial, words)

    progress = dojo.train(keep if partial is not None else None)
    state.notes += dojo.warnings
    state.trained += 1
    state.pruned += stage.ramp is not None
    state.resume_at = None
    state.precision = stage.precision
    state.epochs += progress.samples / len(state.dataset.train)
    # Backward costs two forward passes; a MAC is two operations; masked weights compute like dense ones.
    state.train_flops += 6.0 * state.network.macs * progress.samples
    state.wall_s += progress.wall_s
    state.curves = progress.curves if progress.curves["step"] else {}
    state.status = "diverged" if progress.diverged else "ok"
    state.reference = _weights(state.network)


def _dojo(state: State, stage: TrainStage) -> TrainDojo:
    """The training of this stage, at its beginning."""
    if state.resume_at is None:
        return TrainDojo(state.network, state.dataset, stage, state.seed, state.trained, state.pruned)
    dojo = TrainDojo(state.network, state.dataset, stage, state.seed, 0, state.pruned)
    dojo.begin_at(state.resume_at)
    return dojo


def run_prune(state: State, stage: PruneStage) -> None:
    """Scores, masks, zeros."""
    draws = generator(state.seed, "masks", state.pruned)
    state.notes += prune(state.network, stage, draws, state.reference, state.dataset.train)
    state.pruned += 1


def run_refit(state: State, stage: RefitStage) -> None:
    """Closed-form repair toward the reference."""
    images = state.dataset.train.images[: stage.samples]
    flops = refit(state.network, state.reference, images, stage.mode, stage.ridge)
    state.train_flops += flops
    state.network.check_masks()


def run_rewind(state: State, stage: RewindStage) -> None:
    """Other weights under the same masks."""
    if stage.to == "fresh":
        state.drawn += 1
        seed = seed_for(state.seed, "init", "fresh", state.drawn)
        earlier = MaskedBodyBuilder(state.network.net, state.dataset.name, seed)
    else:
        earlier = begin(state.network.net, state.dataset, state.seed).network
        if stage.to != "init":
            # Trained again rather than kept: no result's identity depends on what may be asked of it later.
            silent = state.first_train.model_copy(update={"log_every": None, "checkpoint_epochs": None})
            TrainDojo(earlier, state.dataset, silent, state.seed).train(until=stage.to.step)
            state.resume_at = stage.to.step
    state.network.load_state_dict(_weights(earlier), strict=False)
    state.network.apply_masks()


def run_compact(state: State, stage: CompactStage) -> None:
    """A smaller network in its place."""
    small = compact(state.network)
    state.compact_difference = largest_difference(state.network, small, state.dataset.test.images)
    state.network = small


VERBS: dict[str, Callable[[State, Any], None]] = {
    "train": run_train,
    "prune": run_prune,
    "refit": run_refit,
    "rewind": run_rewind,
    "compact": run_compact,
}
"""From a stage's type to what it does to the state, in place."""


def act(state: State, stage: Verb) -> None:
    """One stage."""
    state.curves, state.compact_difference = {}, math.nan
    began = time.perf_counter()
    VERBS[stage.type](state, stage)
    if stage.type != "train":  # whose measuring on the way does not count
        state.wall_s += time.perf_counter() - began


def measure(state: State) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One row of results and the arrays that a record keeps; see the columns in README."""
    network, dataset = state.network, state.dataset
    validation = evaluate(network, dataset.validation, state.precision)
    test = evaluate(network, dataset.test, state.precision)
    cost = effective_cost(network)
    row = {
        "status": state.status,
        "val_loss": validation.loss,
        "val_accuracy": validation.accuracy,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "test_errors": test.errors,
        "sparsity": network.sparsity(),
        "sparsity_all": network.sparsity(include_logits=True),
        "effective_sparsity": cost.sparsity,
        "unit_sparsity": network.unit_sparsity("unit"),
        "filter_sparsity": network.unit_sparsity("filter"),
        "params": cost.params,
        "macs": cost.macs,
        "epochs": state.epochs,
        "train_flops": state.train_flops,
        "wall_s": state.wall_s,
    }
    if not math.isnan(state.compact_difference):
        row["compact_difference"] = state.compact_difference
    return row, _arrays(network, dataset, test.predictions)


def _arrays(network: MaskedBodyBuilder, dataset: Dataset, predictions: Tensor) -> dict[str, np.ndarray]:
    """Small arrays, so that every figure can be drawn from a log alone."""
    labels = dataset.test.labels.cpu()
    wrong = (predictions != labels).nonzero().flatten()[:WRONG_SAMPLES]
    pairs = (labels * dataset.classes + predictions).bincount(minlength=dataset.classes**2)
    layers = network.weighted()
    arrays = {
        "confusion": pairs.view(dataset.classes, -1).to(torch.int32).numpy(),
        "wrong_index": wrong.to(torch.int32).numpy(),
        "wrong_prediction": predictions[wrong].to(torch.int8).numpy(),
        "layer_names": np.array([name.encode() for name in layers]),
        "keep_by_layer": np.array(list(network.keep_rates().values())),
        "alive_by_layer": np.array([int(alive_units(network)[name][1].sum()) for name in layers], np.int32),
        "weight_histogram": np.stack([_histogram(layer) for layer in layers.values()]),
        "histogram_edges": HISTOGRAM_EDGES,
    }
    first = next(iter(layers.values()))
    if first.weight.dim() > 2:
        arrays["first_filters"] = first.weight.detach().contiguous().cpu().numpy()
    elif (pixels := _input_map(network, first)) is not None:
        arrays["input_map"] = pixels.cpu().numpy()
    return arrays


def _input_map(network: MaskedBodyBuilder, first: torch.nn.Module) -> Tensor | None:
    """Share of first-layer weights that each pixel keeps, [C, H, W]; None where the layer reads no pixels."""
    shape = network.shapes[0].input_shape
    pixels, units = torch.zeros(math.prod(shape)), network.full[next(iter(network.weighted()))].units
    selects = [module.index for name, module in network.layers.items() if name.startswith("select_")]
    index = (
        selects[0].cpu() if selects and len(selects[0]) == first.in_features else torch.arange(len(pixels))
    )
    if len(index) != first.in_features:
        return None
    pixels[index] = first.weight_mask.float().sum(0).cpu() / units
    return pixels.view(shape)


def _histogram(layer: torch.nn.Module) -> np.ndarray:
    """Kept weights by bin, [bins] int32."""
    kept = layer.weight.detach()[layer.weight_mask].cpu().numpy()
    low, high = HISTOGRAM_EDGES[[0, -1]]
    return np.histogram(kept.clip(low, high), HISTOGRAM_EDGES)[0].astype(np.int32)


def write_tensors(path: Path, words: dict[str, Any]) -> None:
    """A checkpoint. Written by way of memory, since torch tells of a full disk as a fault of its own."""
    memory = io.BytesIO()
    torch.save(words, memory)
    with atomic(path) as draft:
        draft.write_bytes(memory.getbuffer())


def to_checkpoint(state: State) -> dict[str, Any]:
    """Weights, masks as bits and plain values: all that a later stage needs, nothing that could run.

    Of a pruned layer's weights only the kept ones are there, in a row.
    """
    network, masks = state.network, {}
    weights = {key: value.cpu().contiguous() for key, value in _weights(network).items()}
    for name, mask in network.masks().items():
        if not mask.weight.all() or not mask.unit.all():
            masks[name] = {what: _pack(getattr(mask, what)) for what in mask._fields}
            weights[f"layers.{name}.weight"] = weights[f"layers.{name}.weight"][mask.weight.cpu()]
    words = {"weights": weights, "masks": masks, "scalars": {key: getattr(state, key) for key in SCALARS}}
    return words | ({"net": network.net.model_dump_json()} if network.is_compacted else {})


def from_checkpoint(checkpoint: dict[str, Any], net: NetConfig, dataset: Dataset, seed: int) -> State:
    """The state that `to_checkpoint` saw; its reference is its own weights.

    Raises KeyError, ValueError or RuntimeError where unfit.
    """
    state = begin(net, dataset, seed)
    if "net" in checkpoint:
        full, small = state.network.full, NetConfig.model_validate_json(checkpoint["net"])
        state.network = begin(small, dataset, seed).network
        state.network.full = full
    network, device, weights = state.network, dataset.train.labels.device, dict(checkpoint["weights"])
    masks = network.masks()
    for name, bits in checkpoint["masks"].items():
        parts = (_unpack(bits[what], getattr(masks[name], what), device) for what in LayerMask._fields)
        masks[name] = mask = LayerMask(*parts)
        kept = weights[f"layers.{name}.weight"].to(device)
        weights[f"layers.{name}.weight"] = torch.zeros(mask.weight.shape, device=device).masked_scatter(
            mask.weight, kept
        )
        if len(kept) != int(mask.weight.sum()):
            raise ValueError(f"{name}: expected {int(mask.weight.sum())} kept weights, found {len(kept)}")
    unknown = network.load_state_dict(weights, strict=False)
    missing = [key for key in unknown.missing_keys if not key.endswith("_mask")]
    if missing or unknown.unexpected_keys:
        raise ValueError(f"expected the weights of this network, found {missing} missing")
    network.set_masks(masks)
    # One that was added since has its default: older checkpoints stay good.
    for key in checkpoint["scalars"].keys() & set(SCALARS):
        setattr(state, key, checkpoint["scalars"][key])
    state.reference = _weights(network)
    return state


def _pack(mask: Tensor) -> Tensor:
    """A mask as bits, uint8."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def _unpack(bits: Tensor, like: Tensor, device: torch.device) -> Tensor:
    """A mask of this shape from its bits. Raises ValueError where they are too few or too many."""
    if len(bits) != -(-like.numel() // 8):
        raise ValueError(f"expected the bits of {like.numel()} mask entries, found {8 * len(bits)}")
    flat = np.unpackbits(bits.numpy(), count=like.numel()).astype(bool)
    return torch.from_numpy(flat).view(like.shape).to(device)
