"""Losses of the paper (sections 2.4 and 3.1), each of (N, 1, H, W) logits and 0/1 targets to a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # weight of the hard tissue; how much less easy pixels count


def soft_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Jaccard index J of each image: (N, 1, H, W) logits and 0/1 targets to (N,) in (0, 1].

    One pixel is added to both sides of the fraction, so that an empty image predicted empty gives 1.
    """
    probability = logits.sigmoid()
    both = (probability * target).sum(dim=(1, 2, 3))
    either = (probability + target).sum(dim=(1, 2, 3)) - both
    return (both + 1) / (either + 1)


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over all pixels."""
    return F.binary_cross_entropy_with_logits(logits, target)


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss: cross-entropy times alpha (1 - p)^gamma, p the probability given to the true class.

    Alpha is 0.25 on hard tissue and 0.75 elsewhere, gamma 2; the mean over all pixels.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = torch.where(target > 0, -logits, logits).sigmoid()  # 1 - p
    alpha = torch.where(target > 0, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    return (alpha * wrong**FOCAL_GAMMA * entropy).mean()


def jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """1 - J, J averaged over the batch."""
    return 1 - soft_jaccard(logits, target).mean()


def bce_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus 1 - J."""
    return bce(logits, target) + jaccard(logits, target)


def bce_log_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy minus log J (equation 1), at least 0; J is averaged over the batch first."""
    return bce(logits, target) - torch.log(soft_jaccard(logits, target).mean())


LOSSES: dict[str, Loss] = {
    "bce": bce,
    "focal": focal,
    "jaccard": jaccard,
    "bce-jaccard": bce_jaccard,
    "bce-logjaccard": bce_log_jaccard,
}


def loss_by_name(name: str, halved: bool = False) -> Loss:
    """Return a loss of `LOSSES`; `halved` weights both terms of a sum with 0.5, as the paper's code does."""
    loss = LOSSES[name]
    if halved and name.startswith("bce-"):
        return lambda logits, target: 0.5 * loss(logits, target)
    return loss
