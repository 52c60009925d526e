"""How a network does on a split, and in which precision it computes."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..foundations.data import Split

EVALUATION_BATCH = 1000
"""Images at a time where nothing is learned; measured: larger batches fall out of the cache."""


class Evaluation(NamedTuple):
    """How a network does on one split."""

    loss: float
    """Mean cross-entropy over the samples, nats; NaN without samples."""
    accuracy: float
    """Share of samples whose largest logit is the label; NaN without samples."""
    errors: int
    predictions: Tensor
    """[n], int64, on the CPU."""


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, precision: str = "float32") -> Evaluation:
    """Loss, accuracy and predictions over a split, in evaluation mode; the mode is put back."""
    if not len(split):
        return Evaluation(math.nan, math.nan, 0, torch.empty(0, dtype=torch.int64))
    was_training = network.training
    network.eval()
    loss, predictions = torch.zeros((), dtype=torch.float64, device=split.labels.device), []
    for images, labels in zip(
        split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
    ):
        with autocast(images.device, precision):
            logits = network(images)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").double()
        predictions.append(logits.argmax(1))
    network.train(was_training)
    found = torch.cat(predictions)
    errors = int((found != split.labels).sum())
    return Evaluation(loss.item() / len(split), 1 - errors / len(split), errors, found.cpu())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 products where the config asks for them and the device has them; the weights stay float32."""
    enabled = actual_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def actual_precision(device: torch.device, precision: str) -> str:
    """What a config's `precision` is on this device: float32 where bfloat16 would only be emulated."""
    return precision if precision == "float32" or _is_fast_at_bfloat16(device.type) else "float32"


def _is_fast_at_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 products are worth it; measured: without AVX-512 they take ten times as long."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() in ("AVX512", "SVE256")
