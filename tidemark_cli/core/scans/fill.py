"""The constant that programs write where they have reconstructed nothing: round fields of view, padding."""

from __future__ import annotations

import numpy as np

from .. import lazily
from ..arrays import empty, sampled

scipy = lazily.imported("scipy")

_SAMPLES = 96  # along each axis, to look for it
_LEAST_SHARE = 0.005  # of the voxels
_LEAST_GAP = 0.25  # between the fill and the next grey level, as a share of the range of all others
_UNIFORM = 0.3  # spread of the air beside it, as a share of that range


@np.errstate(over="ignore", invalid="ignore")  # of levels as large as a float may be
def fill_level(array: np.ndarray) -> tuple[float, float] | None:
    """Find a constant far outside all other grey levels, in most corners of the slices.

    Such as -1000, -3024, -32768, or 0 under air of 20000. Beside it lies plain air; or the same part of each
    slice is filled, out to all its sides, by a field of view that the sample fills. 8-bit scans are taken as
    they are: there 0 is mostly air itself, cut off.

    Parameters
    ----------
    array : (Z, Y, X), integer or float.

    Returns
    -------
    The fill and the level that takes its place, the air's; or None.
    """
    every = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in array.shape)
    corners = array[every[0]][:, [0, 0, -1, -1], [0, -1, 0, -1]]
    fill = float(np.median(corners))
    if array.dtype.itemsize == 1 or (corners == fill).mean() < 0.5:
        return None
    thinned = sampled(array, *every)
    filled = thinned == fill
    rest = thinned[~filled]
    if filled.mean() < _LEAST_SHARE or rest.size == 0:
        return None
    lowest, low, high, highest = np.percentile(rest, (0.1, 1, 99, 99.9)).tolist()
    gap = max(lowest - fill, fill - highest)
    beside = thinned[scipy.ndimage.binary_dilation(filled, iterations=2) & ~filled]
    darkest, air, brightest = np.percentile(beside, (5, 50, 95)).tolist()
    is_air = max(brightest - darkest, air - low) < _UNIFORM * (high - low)
    if is_air and gap > _LEAST_GAP * (highest - lowest):
        return fill, air
    return (fill, low) if gap > highest - lowest and _is_round(filled) else None


def _is_round(filled: np.ndarray) -> bool:
    """Tell whether one part of all slices is filled, and what is not reaches to their four sides, nearly."""
    field = ~filled[0]
    near = max(2, min(field.shape) // 20)
    sides = (field[:near], field[-near:], field[:, :near], field[:, -near:])
    return bool((filled == filled[0]).all() and all(side.any() for side in sides))


def without_fill(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a scan (Z, Y, X) with such a constant replaced by the level of the air, and a note of it.

    Without one it is returned as it is; with one, changed in place where it may be written to, else copied.
    """
    found = fill_level(array)
    if found is None:
        return array, ()
    fill, air = found
    level = array.dtype.type(round(air) if array.dtype.kind in "ui" else air)
    whole = array if array.flags.writeable else empty(array.shape, array.dtype)
    for plane, read in zip(whole, array, strict=True):
        plane[...] = np.where(read == fill, level, read)
    return whole, (f"constant {fill:g} outside the field of view read as {level:g}, the level of the air",)
