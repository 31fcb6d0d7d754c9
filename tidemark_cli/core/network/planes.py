"""What slices show of the plug: where each is computed, and how much it counts where two planes cross.

A slice that grazes the plug's wall shows a narrow strip of tissue that a network can make little of; the
slice of the other plane through the same voxel goes right across. So slices that cut little count little.
The paper takes the plain mean of both planes (3.1), which is the same in its crop inside the plug.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from ..arrays import by_rows

AXES = {"zx": 1, "zy": 2}  # the axis of (Z, Y, X) along which the slices of a plane are stacked
FULL_CHORD = 0.5  # of the longest in the plane: slices that cut so much of the plug count the same
LEAST_CHORD = 0.01  # beside the plug both planes count the same

Array = np.ndarray
Window = tuple[slice, slice]  # rows (Z) and columns of a slice


def find_chords(outline: Array | None, shape: tuple[int, ...]) -> dict[int, Array]:
    """Tell how much slices count, by the length of plug that they cut at each height.

    Parameters
    ----------
    outline : (z, y, x) bool, the plug, on any coarser grid over the same extent; None where it fills it.
    shape : of the scan, (Z, Y, X).

    Returns
    -------
    The axis that slices are stacked along to (Z, slices) float32, 0.02 to 1: 1 from half of the longest chord
    in the plane on, in proportion below.
    """
    if outline is None:
        outline = np.ones((1, 1, 1), bool)
    chords = {}
    for axis in AXES.values():
        length = outline.sum(axis=3 - axis).astype(np.float32)  # (z, slices), both coarse
        share = cv2.resize(length / max(1, length.max()), (shape[axis], shape[0]))
        share = share.reshape(shape[0], shape[axis])
        chords[axis] = np.clip(share, LEAST_CHORD, FULL_CHORD) / np.float32(FULL_CHORD)
    return chords


def find_near(outline: Array | None, shape: tuple[int, ...], margin: float) -> Array:
    """Return (z, y, x) bool on the grid of the outline: the plug, and what is beside it within a margin.

    Parameters
    ----------
    outline, shape : as in `find_chords`.
    margin : in voxels; whole cells of the grid are taken.
    """
    if outline is None:
        return np.ones((1, 1, 1), bool)
    cells = np.ceil(margin * np.array(outline.shape) / shape).astype(int)
    return np.asarray(ndimage.maximum_filter(outline, tuple(2 * cells + 1), mode="constant"))


def cut_rows(near: Array, rows: Array, margin: float) -> None:
    """Clear, in place, what lies further than a margin below the first or above the last of some rows.

    Parameters
    ----------
    near : from `find_near`.
    rows : (Z,) bool, at the voxels of the scan; where none is set, nothing is cleared.
    margin : in voxels; whole cells of the grid stay.
    """
    found = np.flatnonzero(rows)
    if not found.size:
        return
    cell = len(rows) / len(near)
    near[: max(0, math.floor((found[0] - margin) / cell))] = False
    near[math.ceil((found[-1] + 1 + margin) / cell) :] = False


def find_windows(near: Array, shape: tuple[int, ...], axis: int, multiple: float) -> list[Window]:
    """Tell which part of each slice to compute: what is near the plug, and no more than needed.

    Parameters
    ----------
    near : from `find_near`.
    shape : of the scan, (Z, Y, X).
    axis : along which the slices are stacked.
    multiple : sides are multiples of this many voxels, as far as the slice reaches. They begin at multiples
        of half of it, so that most neighbours have one window and go through the network together.

    Returns
    -------
    One window a slice; an empty one where it passes the plug by.
    """
    scale = np.array(shape) / near.shape
    coarse: list[Window] = []
    for part in np.moveaxis(near, axis, 0):  # (z, columns)
        rows = _side(part.any(axis=1), shape[0], multiple)
        coarse.append((rows, _side(part.any(axis=0), shape[3 - axis], multiple)))
    return [coarse[int(p / scale[axis])] for p in range(shape[axis])]


def _side(near: Array, length: int, multiple: float) -> slice:
    """Return where, along a side of `length` voxels, a window begins and ends."""
    cells = np.flatnonzero(near)
    if not cells.size:
        return slice(0, 0)
    first, last = cells[0] * length / near.size, (cells[-1] + 1) * length / near.size
    begin = math.floor(first * 2 / multiple) * multiple / 2
    count = math.ceil((last - begin) / multiple) * multiple
    if count >= length or near[[0, -1]].all():
        return slice(0, length)
    # whole voxels, and no more than the multiple; what that costs is at the end that is in the air
    stop = length if near[-1] else min(length, math.floor(begin + count))
    return slice(max(0, stop - math.floor(count)), stop)


def clear_far(volume: Array, near: Array) -> None:
    """Set to 0, in place, what is not near the plug: windows reach further there, in one plane or both."""
    if near.all():
        return
    depth, height, width = volume.shape
    for z, plane in enumerate(volume):
        cells = near[z * len(near) // depth].astype(np.uint8)
        plane *= cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST).reshape(plane.shape)


def blend(volume: Array, block: Array, axis: int, start: int, chords: dict[int, Array]) -> None:
    """Mix slices of one plane into the volume of the other, in place, each counting by its chord.

    Parameters
    ----------
    volume : (Z, Y, X) uint8, what the slices of the other plane gave.
    block : (slices, Z, columns) uint8, neighbouring slices stacked along `axis`.
    start : number of the first of them.
    chords : from `find_chords`. Where they are equal this is the mean, a half rounded down.
    """
    place = np.moveaxis(volume, axis, 0)[start : start + len(block)]
    mixed = np.empty(block.shape, np.uint8)
    for new_row, row in by_rows(mixed, place):
        new_row[...] = row
    others = chords[3 - axis]  # (Z, columns)
    for slice_, new, own in zip(mixed, block, chords[axis].T[start : start + len(block)], strict=True):
        cv2.blendLinear(slice_, new, others, np.repeat(own[:, None], others.shape[1], axis=1), slice_)
    for row, new_row in by_rows(place, mixed):
        row[...] = new_row
