"""Rigid transforms in mm, read from and written to files of ITK and 3D Slicer.

A transform maps a point of the fixed scan (PTA) to the point of the moving scan (CA4+), as ITK needs it to
resample the second onto the first. In 3D Slicer, placed above the CA4+ volume, it moves that onto PTA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import lazily
from ..errors import FormatError
from ..files import written_whole
from ..names import utf8_name
from ..scans.quiet import quiet_itk
from ..scans.volume import Volume

sitk = lazily.imported("SimpleITK")

Matrix = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

# numbers in a file of ITK's linear transforms; with fewer, it crashes or assumes 0
_PARAMETERS = {
    **{"AffineTransform": 12, "MatrixOffsetTransformBase": 12, "Euler3DTransform": 6, "ScaleTransform": 3},
    **{"VersorRigid3DTransform": 6, "VersorTransform": 3, "QuaternionRigidTransform": 7},
    **{"Similarity3DTransform": 7, "TranslationTransform": 3, "ScaleVersor3DTransform": 9},
    **{"ScaleSkewVersor3DTransform": 15},
}
_RIGID = 1e-3  # largest deviation from 1 of a stretch: single precision loses less


def affine(linear: Floats, shift: Floats) -> Matrix:
    """Return the (4, 4) matrix that multiplies a point by `linear` (3, 3) and then adds `shift` (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, shift
    return matrix


def moved(matrix: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Return points (N, 3) moved by a (4, 4) matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def voxels_to_mm(volume: Volume) -> Matrix:
    """Return the (4, 4) matrix from voxel indices (x, y, z, 1) of a scan to mm, in its frame if any."""
    frame, voxel_mm = volume.frame, volume.voxel_um / 1000
    if frame is None:
        return affine(np.eye(3) * voxel_mm, np.zeros(3))
    return affine(np.reshape(frame.direction, (3, 3)) * voxel_mm, np.array(frame.origin_mm))


def read_transform(path: Path) -> Matrix:
    """Read a rigid transform, (4, 4) from points (x, y, z, 1) in mm of PTA to points of CA4+.

    Parameters
    ----------
    path : a ``.tfm``, ``.txt`` or ``.h5`` file of ITK with one or several linear transforms of any class;
        3D Slicer saves a rigid one as affine.

    Raises
    ------
    FormatError
        If it cannot be read, is not a linear 3D transform, or stretches, shears or mirrors.
    """
    if path.suffix.lower() != ".h5" and path.is_file() and not _is_whole(path.read_bytes()):
        raise FormatError(
            f"{path} is not a complete transform: a line or a number is missing or damaged; save it again."
        )
    try:
        with utf8_name(path) as name, quiet_itk():
            transform = sitk.ReadTransform(str(name))
    except (RuntimeError, UnicodeDecodeError) as error:  # its message quotes the file
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
    """Return whether a text begins as ITK's do, and has all numbers of each transform in it.

    ITK leaves a number that it cannot read uninitialised.
    """
    lines = [line.partition(b":") for line in data.splitlines()]
    expected = 0
    for key, _, value in lines:
        if key == b"Transform":
            if expected:
                return False
            expected = _PARAMETERS.get(value.decode("latin-1").strip().partition("_")[0], 0)
        elif key in (b"Parameters", b"FixedParameters"):
            try:
                numbers = [float(word) for word in value.split()]
            except ValueError:
                return False
            needed = expected if key == b"Parameters" else 0
            if len(numbers) < needed or not np.isfinite(numbers).all():
                return False
            expected -= needed
    return data.startswith(b"#Insight Transform File") and expected == 0


def _rigid(path: Path, matrix: Matrix) -> Matrix:
    """Return `matrix` with an exact rotation; raise if it is not rigid."""
    if not np.isfinite(matrix).all():
        raise FormatError(f"{path} holds NaN or infinite numbers; expected a rigid transform; save it again.")
    left, stretch, right = np.linalg.svd(matrix[:3, :3])
    mirrors = np.linalg.det(left @ right) < 0
    if abs(stretch - 1).max() > _RIGID or mirrors:
        factors, mirrored = ", ".join(f"{s:.4g}" for s in stretch), " and mirrors" if mirrors else ""
        raise FormatError(
            f"{path} is not rigid: it stretches by {factors}{mirrored}; expected 1, 1, 1; "
            "use rotation and translation only."
        )
    return affine(left @ right, matrix[:3, 3])


def write_transform(path: Path, matrix: Matrix) -> None:
    """Write a rigid (4, 4) `matrix` in mm as a ``.tfm`` of ITK for 3D Slicer, replacing an existing file.

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
        if not whole:  # ITK does not report a full disk
            raise OSError("the disk may be full, or a quota reached")
