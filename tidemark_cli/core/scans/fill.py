"""The constant that programs write where they have reconstructed nothing: round fields of view, padding."""

from __future__ import annotations

import lazy_loader as lazy
import numpy as np

scipy = lazy.load("scipy")

_SAMPLES = 96  # along each axis, to look for it
_LEAST_SHARE = 0.005  # of the voxels
_LEAST_GAP = 0.25  # between the fill and the next grey level, as a share of the range of all others
_UNIFORM = 0.3  # spread of the air beside it, as a share of that range


def fill_level(array: np.ndarray) -> tuple[float, float] | None:
    """Find a constant far outside all other grey levels, with plain air beside it.

    It fills most corners of the slices, as -1000, -3024, -32768, or 0 under air of 20000. 8-bit scans are
    taken as they are: there 0 is mostly air itself, cut off.

    Parameters
    ----------
    array : (Z, Y, X), integer or float.

    Returns
    -------
    The fill and the level of the air beside it, or None.
    """
    if array.dtype.itemsize == 1:
        return None
    thinned = array[tuple(slice(None, None, max(1, n // _SAMPLES)) for n in array.shape)]
    corners = thinned[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    fill = np.median(corners)
    filled = thinned == fill
    rest = thinned[~filled]
    if (corners == fill).mean() < 0.5 or filled.mean() < _LEAST_SHARE or rest.size == 0:
        return None
    lowest, low, high, highest = np.percentile(rest, (0.1, 1, 99, 99.9)).tolist()
    gap = max(lowest - float(fill), float(fill) - highest)
    beside = thinned[scipy.ndimage.binary_dilation(filled, iterations=2) & ~filled]
    darkest, air, brightest = np.percentile(beside, (5, 50, 95)).tolist()
    is_far = gap > _LEAST_GAP * (highest - lowest)
    is_air = brightest - darkest < _UNIFORM * (high - low) and air - low < _UNIFORM * (high - low)
    return (float(fill), air) if is_far and is_air else None


def without_fill(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a scan (Z, Y, X) with such a constant replaced by the level of the air, and a note of it.

    Without one it is returned as it is; with one, changed in place where it may be written to, else copied.
    """
    found = fill_level(array)
    if found is None:
        return array, ()
    fill, air = found
    level = array.dtype.type(round(air) if array.dtype.kind in "ui" else air)
    whole = array if array.flags.writeable else np.array(array)
    for plane in whole:
        plane[plane == fill] = level
    return whole, (f"constant {fill:g} outside the field of view read as {level:g}, the level of the air",)
