"""Distillation: what teachers say, how far a student is from it, and how well it follows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..foundations.data import Dataset, Split
from .evaluation import EVALUATION_BATCH, autocast


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network that teaches, or is held against its teachers, in its own normalisation and precision."""

    network: nn.Module
    """In evaluation mode, without gradients."""
    mean: Tensor
    """[C], of the pixels that it was trained on, scale 0 to 1."""
    std: Tensor
    """[C]."""
    precision: str = "float32"
    macs: int = 0
    """Multiply-accumulates of one sample."""

    @torch.no_grad()
    def logits(self, images: Tensor, dataset: Dataset) -> Tensor:
        """[B, classes] float32, of images [B, C, H, W] in the normalisation of `dataset`."""
        # Exactly 1 and 0 where both normalise alike; to ask whether they do would make a GPU wait.
        scale, offset = dataset.std / self.std, (dataset.mean - self.mean) / self.std
        images = images * scale.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)
        with autocast(images.device, self.precision):
            return self.network(images).float()


def split_logits(teachers: Sequence[TrainedNetwork], split: Split, dataset: Dataset) -> Tensor:
    """What the teachers say of every sample of a split, [teachers, n, classes]."""
    batches = split.images.split(EVALUATION_BATCH)
    return torch.stack([torch.cat([t.logits(batch, dataset) for batch in batches]) for t in teachers])


def soft_targets(teacher_logits: Tensor, temperature: float) -> Tensor:
    """Probabilities at a temperature, averaged over the teachers: [teachers, B, classes] → [B, classes]."""
    return (teacher_logits / temperature).softmax(-1).mean(0)


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float, kind: str = "kl") -> Tensor:
    """How far a student [B, classes] is from its teachers [teachers, B, classes], mean over the samples.

    "kl": T²·KL(teacher‖student) at temperature T, whose gradient in the logits is T·(q − p) / B (Hinton et
    al. 2015, section 2): T² keeps its size comparable over temperatures. "kl_unscaled": without T².
    "logits": squared difference to the mean logits, mean over classes too (Ba and Caruana 2014, section 2.3,
    up to a factor).
    """
    if kind == "logits":
        return F.mse_loss(logits, teacher_logits.mean(0))
    # In float64: at a high temperature the divergence is a small difference of large terms.
    targets = soft_targets(teacher_logits.double(), temperature)
    divergence = F.kl_div((logits.double() / temperature).log_softmax(-1), targets, reduction="batchmean")
    return (divergence * temperature**2 if kind == "kl" else divergence).float()


class Fidelity(NamedTuple):
    """How a student agrees with its teachers on one split (Stanton et al. 2021, section 3)."""

    agreement: float
    """Share of samples on which both find the same class."""
    divergence: float
    """Mean KL(teacher‖student) at temperature 1, nats."""
    agreement_wrong: float
    """Agreement on the samples that the teachers get wrong; NaN where there are none."""
    divergence_wrong: float
    """KL on those."""


@torch.no_grad()
def fidelity(
    student: TrainedNetwork, teachers: Sequence[TrainedNetwork], split: Split, dataset: Dataset
) -> Fidelity:
    """How the student's distribution over classes matches the teachers'."""
    ours = split_logits([student], split, dataset)[0].log_softmax(-1)
    theirs = soft_targets(split_logits(teachers, split, dataset), 1.0)
    agrees = (ours.argmax(-1) == theirs.argmax(-1)).double()
    divergence = F.kl_div(ours, theirs, reduction="none").sum(-1).double()
    wrong = theirs.argmax(-1) != split.labels
    return Fidelity(
        agrees.mean().item(),
        divergence.mean().item(),
        agrees[wrong].mean().item(),
        divergence[wrong].mean().item(),
    )
