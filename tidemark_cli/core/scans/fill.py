"""The constant that programs write where they have reconstructed nothing: round fields of view, padding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import lazily
from ..arrays import empty, sampled

scipy = lazily.imported("scipy")

_SAMPLES = 96  # along each axis, to look for it
_LEAST_SHARE = 0.005  # of the voxels
_LEAST_GAP = 0.25  # between the fill and the next grey level, as a share of the range of all others
_LEAST_SLICE = 256  # voxels; smaller ones tell no shape
_UNIFORM = 0.3  # spread of the air beside it, as a share of that range


class Fill(NamedTuple):
    """A constant, the level that takes its place, and whether the sample may have that constant, too."""

    level: float
    air: float
    in_sample: bool = False


@np.errstate(over="ignore", invalid="ignore")  # of levels as large as a float may be
def fill_level(array: np.ndarray) -> Fill | None:
    """Find a constant far outside all other grey levels, in most corners of the slices.

    Such as -1000, -3024, -32768, or 0 under air of 20000. Beside it lies plain air; or the same part of each
    slice is filled, with a level brighter than air, which no noise leaves alone, or with one far from a
    sample that fills the field of view up to its four sides. Air that was cut off at 0 is none.

    Parameters
    ----------
    array : (Z, Y, X), integer or float.

    Returns
    -------
    The fill and the level of the air; or None.
    """
    every = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in array.shape)
    corners = array[every[0]][:, [0, 0, -1, -1], [0, -1, 0, -1]]
    fill = float(np.sort(corners, axis=None)[corners.size // 2])  # a median may be a mean, and overflow
    if array.size < _LEAST_SLICE or (corners == fill).mean() < 0.5:
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
    far = gap > _LEAST_GAP * (highest - lowest)
    partly = filled[~filled.all(axis=(1, 2))]
    always = partly.all(axis=0)
    bright = low < min(fill, high) and _has_corners(always)
    if is_air and far:
        return Fill(fill, air, bright)
    if bright or (far and (partly == always).all() and _is_round(always)):
        return Fill(fill, low, bright)
    return None


def _is_round(filled: np.ndarray) -> bool:
    """Tell whether the corners of a slice are filled, and what is not reaches to its four sides, nearly."""
    near = max(2, min(filled.shape) // 20)
    sides = (filled[:near], filled[-near:], filled[:, :near], filled[:, -near:])
    return _has_corners(filled) and not any(side.all() for side in sides)


def _has_corners(filled: np.ndarray) -> bool:
    return bool(filled.size >= _LEAST_SLICE and filled[[0, 0, -1, -1], [0, -1, 0, -1]].all())


def without_fill(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a scan (Z, Y, X) with such a constant replaced by the level of the air, and a note of it.

    Without one it is returned as it is; with one, changed in place where it may be written to, else copied.
    """
    found = fill_level(array)
    if found is None:
        return array, ()
    fill = found.level
    level = array.dtype.type(round(found.air) if array.dtype.kind in "ui" else found.air)
    outside: np.ndarray = np.ones(array.shape[1:], bool)
    if found.in_sample:
        for plane in array:
            outside &= (plane == fill) | (plane == fill).all()
    whole = array if array.flags.writeable else empty(array.shape, array.dtype)
    for plane, read in zip(whole, array, strict=True):
        filled = read == fill
        plane[...] = np.where(filled & (outside | filled.all()), level, read)
    return whole, (f"constant {fill:g} outside the field of view read as {level:g}, the level of the air",)
