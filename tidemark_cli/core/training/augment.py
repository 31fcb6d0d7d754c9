"""Augmentation of the paper (section 3.1) on batches, on the device: pad, crop, flip, gamma.

Grey levels stay 8-bit until the end: gamma and normalisation of a slice are one table of 256 values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..network.greylevels import Normalise
from .settings import Augmentation


def fitting(shape: tuple[int, int], multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return padding and crop for slices of `shape`; for 768 x 448 the paper's 800 x 800 and 640 x 384.

    The crop has 5/6 of the rows and columns, in the multiples that the network needs; the padding is a square
    of 25/24 of the longer side, or of the crop if that is more.
    """
    rows, columns = (multiple * max(1, (5 * side + 3 * multiple) // (6 * multiple)) for side in shape)
    side = max(round(25 * max(shape) / 24), rows, columns)
    return (side, side), (rows, columns)


@dataclass(frozen=True)
class Draws:
    """What was drawn for a batch of N slices."""

    corners: NDArray[np.int64]  # (N, 2) row and column of each crop
    flips: NDArray[np.bool_]  # (N,) of the columns
    gammas: NDArray[np.float64]  # (N,) exponents
    turns: NDArray[np.bool_]  # (N,) flips of the rows


def draw(how: Augmentation, count: int, shape: tuple[int, int], rng: np.random.Generator) -> Draws:
    """Draw the crops, flips and gammas for `count` slices of rows and columns `shape`."""
    room = np.subtract(how.padded(shape), how.crop) + 1
    return Draws(
        corners=rng.integers(room, size=(count, 2)),
        flips=rng.random(count) < how.flip,
        gammas=np.where(rng.random(count) < how.gamma_share, rng.uniform(*how.gamma, count), 1.0),
        turns=rng.random(count) < how.turn,
    )


def grey_tables(gammas: NDArray[np.float64], normalise: Sequence[Normalise]) -> Tensor:
    """Return (N, 256) float32, the network's input for each grey level of each slice.

    Parameters
    ----------
    gammas : (N,) exponents; 1 leaves the grey levels.
    normalise : for each slice, the function of its scan, from `greylevels.normaliser`.
    """
    levels = np.arange(256) / 255
    tables = [function(255 * levels**gamma) for function, gamma in zip(normalise, gammas, strict=True)]
    return torch.from_numpy(np.stack(tables).astype(np.float32))


def augment(
    grey: Tensor, hard: Tensor, tables: Tensor, draws: Draws, how: Augmentation
) -> tuple[Tensor, Tensor]:
    """Pad with air, crop, flip and normalise a batch, on its device.

    Parameters
    ----------
    grey, hard : (N, H, W) uint8, the mask as 0 and 1.
    tables : (N, 256) from `grey_tables`.

    Returns
    -------
    Normalised slices and masks, (N, 1, rows, columns) float32 of the size of the crop.
    """
    shape = (grey.shape[1], grey.shape[2])
    below, right = np.subtract(how.padded(shape), shape)
    sides = [int(side) for side in (right // 2, right - right // 2, below // 2, below - below // 2)]
    flips, turns = (torch.from_numpy(d).to(grey.device)[:, None, None] for d in (draws.flips, draws.turns))
    cut = [_cropped(F.pad(batch, sides), draws.corners, how.crop) for batch in (grey, hard)]
    cut = [torch.where(flips, batch.flip(2), batch) for batch in cut]
    grey, hard = (torch.where(turns, batch.flip(1), batch) for batch in cut)
    return look_up(grey, tables), hard[:, None].float()


def _cropped(batch: Tensor, corners: NDArray[np.int64], crop: tuple[int, int]) -> Tensor:
    rows, columns = crop
    parts = [
        image[y : y + rows, x : x + columns] for image, (y, x) in zip(batch, corners.tolist(), strict=True)
    ]
    return torch.stack(parts)


def look_up(grey: Tensor, tables: Tensor) -> Tensor:
    """Replace grey levels (N, H, W) uint8 by their values in `tables` (N, 256): (N, 1, H, W) float32."""
    return tables.gather(1, grey.flatten(1).long()).reshape(grey.shape)[:, None]  # (N, H * W) to (N, 1, H, W)
