"""How well a network does on whole slices: its loss, its IoU, and the error of the tidemark."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..network.devices import fast_dtype
from ..network.unet import UNet
from .losses import Loss

Checked = tuple[Tensor, Tensor, Tensor]  # slices, masks, and which slices have their bone at the last row

_ERRORS = ("median_error_px", "mean_error_px", "p95_error_px")


def forward(net: UNet, x: Tensor, device: torch.device) -> Tensor:
    """Return logits (N, 1, H, W) float32 of normalised slices, computed in the device's fast dtype."""
    with torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16):
        logits: Tensor = net(x.to(device, memory_format=torch.channels_last))
    return logits.float()


@torch.no_grad()
def validate(
    net: UNet, batches: Iterable[Checked], loss: Loss, device: torch.device
) -> dict[str, float | None]:
    """Return the loss, the IoU and the error of the tidemark over whole slices.

    Parameters
    ----------
    batches : slices and masks, (N, 1, H, W) each, and (N,) bool, whether a slice has its bone at the last
        row. A slice may be larger than its mask: the rest does not count.

    Returns
    -------
    ``validation_loss``, batches weighted by their size; ``validation_iou`` over all pixels at the network's
    threshold, 0 without hard tissue in masks and predictions; ``median_error_px``, ``mean_error_px`` and
    ``p95_error_px`` of the tidemark, over the columns where both have one, None if there are none; and
    ``missed_columns``, the share of the columns with hard tissue in which none was found.
    """
    net.eval()
    losses, sizes, errors = [], [], [np.zeros(0)]
    both = either = missed = columns = torch.zeros((), dtype=torch.int64, device=device)
    for x, target, turned in batches:
        hard = target.to(device) > 0
        logits = forward(net, x, device)[:, :, : hard.shape[2], : hard.shape[3]]
        losses.append(loss(logits, hard.float()))
        sizes.append(len(x))
        found = logits.sigmoid() > net.info.threshold
        both, either = both + (found & hard).sum(), either + (found | hard).sum()
        there, seen = hard.any(2)[:, 0], found.any(2)[:, 0]
        columns, missed = columns + there.sum(), missed + (there & ~seen).sum()
        place, true_place = (_first_hard(mask[:, 0], turned.to(device)) for mask in (found, hard))
        errors.append((place - true_place).abs()[there & seen].cpu().numpy())
    error = np.concatenate(errors)
    told: dict[str, float | None] = dict.fromkeys(_ERRORS)
    if error.size:
        values = (np.median(error), error.mean(), np.percentile(error, 95))
        told = dict(zip(_ERRORS, map(float, values), strict=True))
    return {
        "validation_loss": float(np.average([float(value) for value in losses], weights=sizes)),
        "validation_iou": int(both) / max(int(either), 1),
        **told,
        "missed_columns": int(missed) / max(int(columns), 1),
    }


def _first_hard(mask: Tensor, turned: Tensor) -> Tensor:
    """Return rows (N, W) from the cartilage to the first hard pixel of masks (N, H, W); 0 without one."""
    cartilage_first = torch.where(turned[:, None, None], mask, mask.flip(1))
    return cartilage_first.to(torch.uint8).argmax(1)
