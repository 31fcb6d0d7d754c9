"""Plain voxels in a file, memory-mapped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..arrays import memmap, settled
from ..errors import ContentError, FormatError


def widened(array: np.ndarray) -> np.ndarray:
    """Return half floats as float32, truths as 0 and 255, anything else in native byte order."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    native = array.dtype.newbyteorder("=")
    return array.astype(np.float32 if native == np.float16 else native, copy=False)


def surplus(path: Path, nbytes: int) -> tuple[str, ...]:
    """Return a note of bytes behind the voxels that a header tells of: it may have begun at the wrong one."""
    if nbytes <= 0:
        return ()
    told = f"{path.name} is {nbytes} bytes longer than its header tells: these are not read"
    return (f"{told}; if it begins with a header of its own, the voxels are shifted",)


def named_otherwise(axes: Sequence[object]) -> tuple[str, ...]:
    """Return a note where a file names its axes x, y, z in another order than Z, Y, X."""
    names = [str(name).lower() for name in axes]
    if sorted(names) != ["x", "y", "z"] or names == ["z", "y", "x"]:
        return ()
    return (f"its axes are named {', '.join(names)}, but taken for Z, Y, X: the scan may lie on a side",)


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
