"""Masks of flat tidemarks, and how they are written, for the tests of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tidemark_cli.core.scans.volume import write_volume

VOXEL_UM = 4.0
SHAPE = (24, 12, 12)


def block(height: int, value: int = 255) -> np.ndarray:
    """Return a mask (Z, Y, X) of `height` hard slices from the first on."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:height] = value
    return mask


def lopsided() -> np.ndarray:
    """Return probabilities: one voxel above a block of 8 in half the columns, one below in the others.

    Above 0.5 they are a block of 7.
    """
    probability = block(7, 200)
    probability[7:9, :, :6] = 100
    return probability


def write(folder: Path, **masks: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for name, mask in masks.items():
        write_volume(folder / f"{name}.tif", mask, VOXEL_UM)
    return folder
