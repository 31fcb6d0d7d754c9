"""Plain voxels in a file, memory-mapped."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..arrays import memmap, settled
from ..errors import ContentError, FormatError


def map_voxels(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the voxels (Z, Y, X) that lie in a file from an offset on, in native byte order.

    They are memory-mapped where that is how they are stored.

    Raises
    ------
    ContentError
        If there are none.
    FormatError
        If the file is too short for them.
    """
    if min(shape) < 1:
        raise ContentError(f"{path} holds no voxels (X, Y, Z: {shape[::-1]}); export it again.")
    needed, held = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if offset < 0 or held < needed:
        raise FormatError(f"{path} is cut short: {needed} bytes expected, {held} found; copy it again.")
    return settled(memmap(path, dtype, offset, shape))
