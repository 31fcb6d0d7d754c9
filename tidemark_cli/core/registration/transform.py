"""Rigid transforms in mm, read and written as ITK and 3D Slicer exchange them.

A transform takes a point of the scan that stays (PTA) to the point of the scan that moves (CA4+), which is
what ITK asks for to resample the second onto the first; loaded in 3D Slicer and put above the CA4+ volume, it
moves that volume onto PTA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lazy_loader as lazy
import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..files import written_whole
from ..names import utf8_name
from ..scans.quiet import quiet_itk
from ..scans.volume import Volume

sitk = lazy.load("SimpleITK")

Matrix = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

# how many numbers linear transforms of ITK have; with fewer in a file, it crashes or takes 0
_PARAMETERS = {
    **{"AffineTransform": 12, "MatrixOffsetTransformBase": 12, "Euler3DTransform": 6, "ScaleTransform": 3},
    **{"VersorRigid3DTransform": 6, "VersorTransform": 3, "QuaternionRigidTransform": 7},
    **{"Similarity3DTransform": 7, "TranslationTransform": 3, "ScaleVersor3DTransform": 9},
    **{"ScaleSkewVersor3DTransform": 15},
}
_RIGID = 1e-3  # more than single precision loses, less than 0.1 % of stretch


def affine(linear: Floats, shift: Floats) -> Matrix:
    """Return the (4, 4) matrix that multiplies a point by `linear` (3, 3) and then adds `shift` (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, shift
    return matrix


def moved(matrix: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Return points (N, 3) moved by a (4, 4) matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def voxels_to_mm(volume: Volume) -> Matrix:
    """Return the (4, 4) matrix from voxel indices (x, y, z, 1) of a scan to mm, by its frame if any."""
    frame, voxel_mm = volume.frame, volume.voxel_um / 1000
    if frame is None:
        return affine(np.eye(3) * voxel_mm, np.zeros(3))
    return affine(np.reshape(frame.direction, (3, 3)) * voxel_mm, np.array(frame.origin_mm))


def read_transform(path: Path) -> Matrix:
    """Read a rigid transform: (4, 4), points (x, y, z, 1) in mm of PTA to points of CA4+.

    Parameters
    ----------
    path : an ITK ``.tfm``, ``.txt`` or ``.h5`` file with a linear transform of any class, or several
        composed, as 3D Slicer saves them (it writes a rigid one as affine).

    Raises
    ------
    FormatError
        If it cannot be read, is no linear 3D transform, or stretches, shears or mirrors.
    """
    if path.suffix.lower() != ".h5" and path.is_file() and not _is_whole(path.read_bytes()):
        raise FormatError(f"{path} is not a whole transform: a line or a number is missing; save it again.")
    try:
        with utf8_name(path) as name, quiet_itk():
            transform = sitk.ReadTransform(str(name))
    except (RuntimeError, UnicodeDecodeError) as error:  # it quotes the file in its message
        raise FormatError(
            f"{path} is not an ITK transform that can be read; expected a .tfm, .txt or .h5 file as 3D "
            "Slicer saves a linear transform; save it again."
        ) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise FormatError(
            f"{path} holds a {transform.GetName()} of {transform.GetDimension()} dimensions; expected a "
            "linear 3D transform; harden or save the rigid part alone."
        )
    places = [(0.0, 0.0, 0.0), *np.eye(3).tolist()]
    shift, *units = (np.array(transform.TransformPoint(place)) for place in places)
    return _rigid(path, affine(np.stack(units, 1) - shift[:, None], shift))


def _is_whole(data: bytes) -> bool:
    """Tell whether a text begins as ITK's do, and has finite numbers for each transform that it names."""
    lines = [line.partition(b":") for line in data.splitlines()]
    expected = 0
    for key, _, value in lines:
        if key == b"Transform":
            if expected:
                return False
            expected = _PARAMETERS.get(value.decode("latin-1").strip().partition("_")[0], 0)
        elif key in (b"Parameters", b"FixedParameters"):
            least = expected if key == b"Parameters" else 0
            if len(value.split()) < least or not all(map(_is_number, value.split())):
                return False
            expected -= least
    return data.startswith(b"#Insight Transform File") and expected == 0


def _is_number(word: bytes) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _rigid(path: Path, matrix: Matrix) -> Matrix:
    """Return `matrix` with its rotation made exact, or refuse it where it is no rotation."""
    if not np.isfinite(matrix).all():
        raise FormatError(f"{path} holds NaN or infinite numbers; expected a rigid transform; save it again.")
    left, stretch, right = np.linalg.svd(matrix[:3, :3])
    mirrors = np.linalg.det(left @ right) < 0
    if abs(stretch - 1).max() > _RIGID or mirrors:
        told, mirrored = ", ".join(f"{s:.4g}" for s in stretch), " and mirrors" if mirrors else ""
        raise FormatError(
            f"{path} is not rigid: it stretches by {told}{mirrored}; expected 1, 1, 1; "
            "use rotation and translation only."
        )
    return affine(left @ right, matrix[:3, 3])


def write_transform(path: Path, matrix: Matrix) -> None:
    """Write a rigid (4, 4) `matrix` in mm as an ITK ``.tfm`` that 3D Slicer opens, over what was there.

    Raises
    ------
    OutputError
        If the system refuses to write.
    """
    transform = sitk.Euler3DTransform()
    transform.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-6)
    transform.SetTranslation(matrix[:3, 3].tolist())
    with written_whole(path) as temporary, utf8_name(temporary) as name:
        sitk.WriteTransform(transform, str(name))
        try:
            whole = np.allclose(read_transform(name), matrix, atol=1e-6)
        except FormatError:
            whole = False
        if not whole:  # ITK does not say that the disk is full
            raise OSError("the disk may be full, or a quota reached")
