"""Where two volumes lie: brought together where both files say it, else refused.

NRRD, NIfTI and MetaImage hold an origin and axes. Two files of one place may still have their voxels in
another order, for a viewer that saves again may flip or exchange axes; that loses nothing and is undone.
What is turned by other angles, or lies half a voxel or more away, is elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .errors import ScanError
from .formats import Frame
from .volume import Volume

SAME_VOXEL = 0.01  # voxel sizes nearer than this share are the same
_NEAR = 0.51  # voxels: some programs name the corner of a voxel, not its centre
_UNSET = ((1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1))  # as ITK and as nibabel leave it

Matrix = NDArray[np.float64]


def brought_to(volume: Volume, other: Volume) -> Volume:
    """Return a volume with its voxels in the order of another that lies in the same place.

    Where one of the two files does not say where it lies (TIFF, images, slices, or a header that was never
    filled in: voxels of 1 mm at the origin), the volume is returned as it is; its voxels are then taken to
    correspond to the other's one by one.

    Raises
    ------
    ScanError
        If the voxel sizes differ by over 1 % and none was given as an option, the axes are oblique to each
        other, or the middles of two volumes of one shape lie apart.
    """
    check_voxel_sizes(volume, other)
    if volume.frame is None or other.frame is None or not (_says(volume.frame) and _says(other.frame)):
        return volume
    turn = _turn(volume, other)
    axes, signs = abs(turn).argmax(axis=0), turn.sum(axis=0)  # of each axis x, y, z of the other
    array = volume.array.transpose(2 - axes[::-1])
    if array.shape == other.array.shape:
        _check_middle(volume, other, axes)
    if axes.tolist() == [0, 1, 2] and (signs > 0).all():
        return volume
    array = np.ascontiguousarray(np.flip(array, tuple(np.flatnonzero(signs[::-1] < 0).tolist())))
    note = f"{volume.path}: axes flipped or exchanged to lie as {other.path} does, as their headers tell"
    return replace(volume, array=array, frame=other.frame, notes=(note, *volume.notes))


def check_voxel_sizes(volume: Volume, other: Volume) -> None:
    """Raise a ScanError where two files tell voxel sizes that differ by over 1 %."""
    told = volume.voxel_source == other.voxel_source == "file"
    if told and not math.isclose(volume.voxel_um, other.voxel_um, rel_tol=SAME_VOXEL):
        raise ScanError(
            f"{volume.path} has voxels of {volume.voxel_um:g} µm, {other.path} of {other.voxel_um:g} µm; "
            "expected the same grid; resample one, or give --voxel-size where a file tells it wrongly."
        )


def _says(frame: Frame) -> bool:
    """Tell whether a file says where it lies: that its header was filled in."""
    unset = tuple(frame.direction) in _UNSET and not any(frame.origin_mm)
    return bool(frame.edges_mm) and not (unset and all(edge == 1 for edge in frame.edges_mm))


def _turn(volume: Volume, other: Volume) -> Matrix:
    """Return the signed exchange (3, 3) that takes a direction (x, y, z) of the other's to the volume's."""
    assert volume.frame is not None and other.frame is not None
    own, theirs = (np.reshape(frame.direction, (3, 3)) for frame in (volume.frame, other.frame))
    try:
        exact = np.linalg.solve(own, theirs)
    except np.linalg.LinAlgError:
        exact = np.full((3, 3), np.nan)
    turn: Matrix = np.rint(exact)
    is_exchange = (abs(turn).sum(0) == 1).all() and (abs(turn).sum(1) == 1).all()
    away = abs(exact - turn) @ np.array(other.array.shape[::-1]) / 2  # at the corners, in voxels
    if not (is_exchange and (away <= _NEAR).all()):
        raise ScanError(
            f"the axes of {volume.path} are oblique to those of {other.path}, as their headers tell; "
            "expected the same grid; resample one onto the other (in 3D Slicer, or with SimpleITK)."
        )
    return turn


def _check_middle(volume: Volume, other: Volume, axes: NDArray[np.int_]) -> None:
    """Raise a ScanError where the middles lie apart."""
    assert volume.frame is not None and other.frame is not None
    edges, theirs = np.array(volume.frame.edges_mm)[axes], np.array(other.frame.edges_mm)
    stretch = abs(edges / theirs - 1)
    if (stretch > SAME_VOXEL).any() and "option" in (volume.voxel_source, other.voxel_source):
        return  # the headers are said to be wrong
    apart = np.linalg.solve(_axes(other.frame), _middle(volume) - _middle(other))
    lengths = np.array(other.array.shape[::-1])
    if not (abs(apart) <= _NEAR + np.minimum(stretch, SAME_VOXEL) * lengths / 2).all():
        told = ", ".join(f"{shift:.4g}" for shift in apart)
        raise ScanError(
            f"{volume.path} lies elsewhere than {other.path}, as their headers tell: {told} voxels away "
            "along X, Y, Z; expected the same grid; resample it, or mend the header that is wrong."
        )


def _axes(frame: Frame) -> Matrix:
    """Return the matrix (3, 3) from voxels to mm."""
    return np.reshape(frame.direction, (3, 3)) * np.array(frame.edges_mm)


def _middle(volume: Volume) -> Matrix:
    """Return the middle (x, y, z) in mm."""
    assert volume.frame is not None
    last = np.array(volume.array.shape[::-1]) - 1
    return np.array(volume.frame.origin_mm) + _axes(volume.frame) @ (last / 2)
