"""How two planes of slices become one volume, given what of the plug each slice cuts.

A slice that grazes the plug's wall shows a narrow strip of tissue that a network can make little of; the
slice of the other plane through the same voxel goes right across. So slices count by the length of plug that
they cut. The paper takes the plain mean of both planes (3.1), which is the same in its crop inside the plug.
"""

from __future__ import annotations

import cv2
import numpy as np

AXES = {"zx": 1, "zy": 2}  # the axis of (Z, Y, X) along which the slices of a plane are stacked
LEAST = 0.01  # share of the longest chord: beside the plug both planes count the same

Array = np.ndarray


def find_chords(outline: Array | None, shape: tuple[int, ...]) -> dict[int, Array]:
    """Tell how much of the plug each slice cuts at each height.

    Parameters
    ----------
    outline : (z, y, x) bool, the plug, on any coarser grid over the same extent; None where it fills it.
    shape : of the scan, (Z, Y, X).

    Returns
    -------
    The axis that slices are stacked along to (Z, slices) float32, the length of plug that a slice cuts, as a
    share of the longest in its plane, 0.01 to 1.
    """
    if outline is None:
        outline = np.ones((1, 1, 1), bool)
    chords = {}
    for axis in AXES.values():
        length = outline.sum(axis=3 - axis).astype(np.float32)  # (z, slices), both coarse
        share = cv2.resize(length / max(1, length.max()), (shape[axis], shape[0]))
        chords[axis] = np.maximum(share.reshape(shape[0], shape[axis]), LEAST)
    return chords


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
    mixed = np.ascontiguousarray(place)
    others = chords[3 - axis]  # (Z, columns)
    for slice_, new, own in zip(mixed, block, chords[axis].T[start : start + len(block)], strict=True):
        cv2.blendLinear(slice_, new, others, np.repeat(own[:, None], others.shape[1], axis=1), slice_)
    place[...] = mixed
