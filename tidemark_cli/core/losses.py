"""Losses of the paper (sections 2.4 and 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Jaccard index J of each image: (N, 1, H, W) logits and 0/1 targets to (N,) in (0, 1].

    One pixel is added to both sides of the fraction, so that an empty image predicted empty gives 1.
    """
    probability = logits.sigmoid()
    both = (probability * target).sum(dim=(1, 2, 3))
    either = (probability + target).sum(dim=(1, 2, 3)) - both
    return (both + 1) / (either + 1)


def bce_log_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy minus log J (equation 1); J is averaged over the batch first.

    Parameters
    ----------
    logits, target : (N, 1, H, W); the target is 0 or 1.

    Returns
    -------
    A scalar, at least 0.
    """
    bce = F.binary_cross_entropy_with_logits(logits, target)
    return bce - torch.log(soft_jaccard(logits, target).mean())
