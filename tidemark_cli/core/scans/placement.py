"""Where two volumes lie: brought together where both files say it, else refused.

NRRD, NIfTI and MetaImage hold an origin and axes, OME-TIFF may tell where its planes lay. Two files of one
place may still have their voxels in another order, for a viewer that saves again may flip or exchange axes;
that loses nothing and is undone. What is turned by other angles, or is over half a voxel away, is elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..errors import ScanError
from .content import TIFF_SUFFIXES, Frame
from .volume import Volume

SAME_VOXEL = 0.01  # voxel sizes nearer than this share are the same
_NEAR = 0.51  # voxels: some programs name the corner of a voxel, not its centre
_UNSET = ((1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1))  # as ITK and as nibabel leave it
# in mm; without a unit a position in OME is in one of the microscope's own
_OME_UNIT_MM = {"nm": 1e-6, "µm": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3, "in": 25.4}

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
    own, theirs = _placed(volume), _placed(other)
    if not (_says(own.frame) and _says(theirs.frame)):
        return volume
    turn = _turn(own, theirs)
    axes, signs = abs(turn).argmax(axis=0), turn.sum(axis=0)  # of each axis x, y, z of the other
    array = volume.array.transpose(2 - axes[::-1])
    if array.shape == other.array.shape:
        _check_middle(own, theirs, axes)
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


def _placed(volume: Volume) -> Volume:
    """Return a volume with the frame that it has, or that an OME-TIFF tells in its planes.

    That of OME is for this comparison alone: viewers of transforms and masks know nothing of it.
    """
    if volume.frame is not None or volume.path.suffix.lower() not in TIFF_SUFFIXES:
        return volume
    return replace(volume, frame=_ome_frame(volume.path, volume.voxel_um / 1000))


def _ome_frame(path: Path, edge_mm: float) -> Frame | None:
    """Return where the first plane of an OME-TIFF lies and which way the others go, or None."""
    try:
        with tifffile.TiffFile(path) as tif:
            root = ElementTree.fromstring(tif.ome_metadata or "")
        planes = sorted(root.findall(".//{*}Plane"), key=lambda plane: int(plane.get("TheZ", 0)))
        first, last = (_position_mm(planes[end].attrib) for end in (0, -1))
    except (OSError, LookupError, ValueError, ElementTree.ParseError, tifffile.TiffFileError):
        return None
    z = -1.0 if last[2] < first[2] else 1.0
    return Frame(first, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, z), (edge_mm,) * 3)


def _position_mm(plane: Mapping[str, str]) -> tuple[float, float, float]:
    """Return (x, y, z); a LookupError where it is not told in a unit of length."""
    x, y, z = (float(plane[f"Position{axis}"]) * _OME_UNIT_MM[plane[f"Position{axis}Unit"]] for axis in "XYZ")
    return x, y, z


def _says(frame: Frame | None) -> bool:
    """Tell whether a file says where it lies: that its header was filled in."""
    if frame is None:
        return False
    unset = tuple(frame.direction) in _UNSET and not any(frame.origin_mm)
    if not frame.edges_mm or not all(0 < edge < math.inf for edge in frame.edges_mm):
        return False
    return not (unset and all(edge == 1 for edge in frame.edges_mm))


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
