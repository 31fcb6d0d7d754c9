"""Transforms: what is written is read back, and what 3D Slicer saves is understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from tidemark_cli.core.errors import FormatError
from tidemark_cli.core.registration.transform import Matrix, read_transform, voxels_to_mm, write_transform
from tidemark_cli.core.scans.content import Frame
from tidemark_cli.core.scans.volume import Volume

ANGLE = st.floats(-np.pi, np.pi)


def rigid(x: float, y: float, z: float, shift: tuple[float, ...] = (0.3, -0.2, 1.5)) -> Matrix:
    euler = sitk.Euler3DTransform()
    euler.SetRotation(x, y, z)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(euler.GetMatrix(), (3, 3))
    matrix[:3, 3] = shift
    return matrix


def affine(path: Path, matrix: Matrix) -> Path:
    """Save a matrix as 3D Slicer does."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    sitk.WriteTransform(transform, str(path))
    return path


@given(x=ANGLE, y=ANGLE, z=ANGLE)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, z: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "turned.tfm"
    write_transform(path, rigid(x, y, z))
    np.testing.assert_allclose(read_transform(path), rigid(x, y, z), atol=1e-9)


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5"])
def test_a_rigid_transform_saved_as_affine(tmp_path: Path, suffix: str) -> None:
    matrix = rigid(0.1, -0.2, 2.5)
    found = read_transform(affine(tmp_path / f"t{suffix}", matrix.astype(np.float32).astype(float)))
    np.testing.assert_allclose(found, matrix, atol=1e-6)
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)


def test_composed_transforms_are_one(tmp_path: Path) -> None:
    turn, shift = sitk.Euler3DTransform(), sitk.TranslationTransform(3, [1.0, 2.0, 3.0])
    turn.SetRotation(0, 0, np.pi / 2)
    sitk.WriteTransform(sitk.CompositeTransform([shift, turn]), str(tmp_path / "t.tfm"))
    # the last is applied first: (1, 0, 0) turns to (0, 1, 0), then is shifted
    np.testing.assert_allclose(read_transform(tmp_path / "t.tfm") @ (1, 0, 0, 1), (1, 3, 3, 1), atol=1e-12)


@pytest.mark.parametrize(
    ("linear", "told"),
    [
        (np.diag([1.01, 1, 1]), "1.01"),
        (np.diag([-1, 1, 1]), "mirrors"),
        (np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), "not rigid"),
    ],
    ids=["stretched", "mirrored", "sheared"],
)
def test_what_is_not_rigid_is_refused(tmp_path: Path, linear: np.ndarray, told: str) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    with pytest.raises(FormatError, match=told):
        read_transform(affine(tmp_path / "t.tfm", matrix))


def test_what_is_no_linear_transform_is_refused(tmp_path: Path) -> None:
    field = sitk.DisplacementFieldTransform(sitk.Image([4, 4, 4], sitk.sitkVectorFloat64))
    sitk.WriteTransform(field, str(tmp_path / "field.tfm"))
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    (tmp_path / "text.tfm").write_text("nothing")
    for name in ("field", "flat", "text", "missing"):
        with pytest.raises(FormatError, match=name):
            read_transform(tmp_path / f"{name}.tfm")


def test_voxels_lie_where_the_frame_says() -> None:
    array = np.zeros((2, 2, 2), np.uint8)
    plain = Volume(array, 500.0, "file", Path("a.tif"))
    np.testing.assert_allclose(voxels_to_mm(plain) @ (2, 4, 6, 1), (1, 2, 3, 1))
    turned = Frame((10.0, 20.0, 30.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    framed = Volume(array, 500.0, "file", Path("a.nrrd"), frame=turned)
    np.testing.assert_allclose(voxels_to_mm(framed) @ (2, 4, 6, 1), (8, 21, 33, 1))


def test_a_text_that_is_not_utf8_is_refused_with_a_line(tmp_path):
    write_transform(tmp_path / "a.tfm", np.eye(4))
    data = (tmp_path / "a.tfm").read_bytes()
    (tmp_path / "a.tfm").write_bytes(data.replace(b"Euler", b"Eul\xff\xfe"))
    with pytest.raises(FormatError, match="not an ITK transform"):
        read_transform(tmp_path / "a.tfm")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Parameters: 0 0 0 0 0 0\n", b""),
        (b" 0 0 0 0 0 0", b" 0 0 0"),
        (b" 0 0 0 0 0 0", b""),
        (b"Transform File", b""),
        (b"\nParameters: 0", b"\nParameters: abc"),
        (b"\nParameters: 0", b"\nParameters: 1e400"),
        (b"FixedParameters: 0", b"FixedParameters: nan"),
    ],
)
def test_a_text_that_itk_would_crash_on_or_take_for_none_is_refused(old, new, tmp_path):
    write_transform(tmp_path / "a.tfm", np.eye(4))
    data = (tmp_path / "a.tfm").read_bytes()
    assert old in data
    (tmp_path / "a.tfm").write_bytes(data.replace(old, new))
    with pytest.raises(FormatError, match="not a whole transform"):
        read_transform(tmp_path / "a.tfm")
