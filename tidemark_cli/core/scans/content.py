"""What one file or one folder of slices holds, as every reader gives it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import ContentError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Frame:
    """Where a volume lies in a scanner's or viewer's space, as ITK has it.

    Attributes
    ----------
    origin_mm : (x, y, z) of the first voxel's centre, in mm.
    direction : the 3 x 3 matrix of the axes, row by row.
    edges_mm : (x, y, z) of the voxels as the file has them; empty where it is not of a file.
    """

    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    edges_mm: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Content:
    """What one file or one folder of slices holds.

    Attributes
    ----------
    array : (Z, Y, X), or (rows, columns) of a 2D image; native byte order, memory-mapped where possible.
    spacing_um : voxel edges along the axes of `array` in µm, or None where nothing tells them.
    notes : what the user should hear.
    frame : where ITK places it, or None where the format has no such thing.
    """

    array: np.ndarray
    spacing_um: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    frame: Frame | None = None


def known_edges(edges_um: Sequence[float], digits: int = 9) -> tuple[float, ...] | None:
    """Return voxel edges to the digits that a header holds, or None where one of them is no length."""
    known = len(edges_um) > 0 and all(0 < edge < math.inf for edge in edges_um)
    return tuple(float(f"{edge:.{digits}g}") for edge in edges_um) if known else None


def grey_levels(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (rows, columns) of an image (rows, columns[, channels]), and a note if it had channels.

    Raises
    ------
    ContentError
        If the colour channels differ.
    """
    if pixels.ndim == 2:
        return pixels, ()
    grey = pixels[..., 0]
    channels = pixels.shape[2]
    if channels in (3, 4) and all(np.array_equal(grey, pixels[..., k]) for k in (1, 2)):
        return grey, ("equal colour channels, read as grey",)
    if channels == 2 and (pixels[..., 1] == pixels[0, 0, 1]).all():
        return grey, ("a transparency channel ignored",)
    raise ContentError(
        f"{path} is a colour image ({channels} different channels); expected grey levels; "
        "export it as greyscale."
    )
