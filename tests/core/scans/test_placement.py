"""Two volumes of one place, stored in whatever order of voxels, are brought together; others are refused."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from tidemark_cli.core.errors import ScanError
from tidemark_cli.core.scans.placement import brought_to
from tidemark_cli.core.scans.volume import read_volume, write_volume

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CUBE = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
EDGE_MM = 0.02


def image(array: np.ndarray, origin_mm: tuple[float, ...] = (1.0, -2.0, 3.0)) -> sitk.Image:
    """An image whose axes are turned by 30 degrees about Z against the scanner's."""
    made = sitk.GetImageFromArray(array)
    made.SetSpacing([EDGE_MM] * 3)
    made.SetOrigin(origin_mm)
    made.SetDirection((3**0.5 / 2, -0.5, 0, 0.5, 3**0.5 / 2, 0, 0, 0, 1))
    return made


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    sitk.WriteImage(image(ARRAY), str(tmp_path / "scan.nrrd"))
    return tmp_path / "scan.nrrd"


def brought(scan: Path, other: sitk.Image, suffix: str = ".nrrd") -> np.ndarray:
    path = scan.with_name(f"other{suffix}")
    sitk.WriteImage(other, str(path))
    return brought_to(read_volume(path), read_volume(scan)).array


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_axes_flipped_and_exchanged_are_put_right(
    order: tuple[int, int, int], suffix: str, scan: Path
) -> None:
    for flips in product((False, True), repeat=3):
        other = sitk.Flip(sitk.PermuteAxes(image(ARRAY), order), flips)
        assert np.array_equal(brought(scan, other, suffix), ARRAY), (order, flips)


def test_what_was_turned_is_told_and_lies_like_the_other(scan: Path, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Flip(image(ARRAY), (True, False, False)), str(tmp_path / "mask.nrrd"))
    mask, other = read_volume(tmp_path / "mask.nrrd"), read_volume(scan)
    found = brought_to(mask, other)
    assert found.frame == other.frame
    assert any("flipped or exchanged" in note for note in found.notes)
    assert brought_to(other, other) is other


@pytest.mark.parametrize("away_mm", [(0.02, 0.0, 0.0), (0.0, -0.1, 0.0), (0.0, 0.0, 0.011)])
def test_what_lies_elsewhere_is_refused(away_mm: tuple[float, ...], scan: Path) -> None:
    origin = tuple(np.array(image(ARRAY).GetOrigin()) + away_mm)
    with pytest.raises(ScanError, match="lies elsewhere than"):
        brought(scan, image(ARRAY, origin))


def test_half_a_voxel_is_the_same_place(scan: Path) -> None:
    assert np.array_equal(brought(scan, image(ARRAY, (1.0, -2.0, 3.0 - EDGE_MM / 2))), ARRAY)


def test_rounded_voxel_sizes_are_the_same_place(tmp_path: Path) -> None:
    long = np.arange(300, dtype=np.uint16).reshape(300, 1, 1) * np.ones((1, 2, 2), np.uint16)
    scan = tmp_path / "scan.nrrd"
    sitk.WriteImage(image(long), str(scan))
    rounded = image(long)
    rounded.SetSpacing([EDGE_MM * 1.005] * 3)
    assert np.array_equal(brought(scan, rounded), long)
    assert np.array_equal(brought(scan, sitk.Flip(image(long), (False, False, True))), long)


def test_a_header_in_micrometres_lies_where_one_in_millimetres_does(scan: Path, tmp_path: Path) -> None:
    flipped = sitk.Flip(image(ARRAY), (True, False, True))
    flipped.SetOrigin([1000 * place for place in flipped.GetOrigin()])
    flipped.SetSpacing([1000 * EDGE_MM] * 3)
    path = tmp_path / "um.nrrd"
    sitk.WriteImage(flipped, str(path))
    path.write_bytes(path.read_bytes().replace(b"kinds:", b'space units: "um" "um" "um"\nkinds:', 1))
    assert np.array_equal(brought_to(read_volume(path), read_volume(scan)).array, ARRAY)


def test_axes_oblique_to_each_other_are_refused(scan: Path) -> None:
    other = image(ARRAY)
    other.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(ScanError, match="oblique"):
        brought(scan, other)


def test_other_voxel_sizes_are_refused_unless_overruled(scan: Path, tmp_path: Path) -> None:
    other = image(ARRAY)
    other.SetSpacing([0.03] * 3)
    with pytest.raises(ScanError, match=r"voxels of 30 µm, .* of 20 µm"):
        brought(scan, other)
    pair = [read_volume(tmp_path / name, 20.0) for name in ("other.nrrd", "scan.nrrd")]
    assert np.array_equal(brought_to(*pair).array, ARRAY)


def test_a_header_that_was_never_filled_in_says_nothing(scan: Path) -> None:
    for direction in ((1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)):  # ITK's and nibabel's
        unset = sitk.GetImageFromArray(ARRAY)
        unset.SetDirection(direction)
        assert np.array_equal(brought(scan, unset), ARRAY)


def test_a_tiff_says_nothing(scan: Path, tmp_path: Path) -> None:
    write_volume(tmp_path / "mask.tif", ARRAY, 20.0)
    tiff, other = read_volume(tmp_path / "mask.tif"), read_volume(scan)
    assert brought_to(tiff, other) is tiff and brought_to(other, tiff) is other


def ome(path: Path, array: np.ndarray, z_um: list[float], unit: str = "µm") -> Path:
    """An OME-TIFF whose planes tell where they lay."""
    told: dict[str, object] = {f"Position{axis}": [5.0] * len(array) for axis in "XY"} | {"PositionZ": z_um}
    told |= {f"Position{axis}Unit": [unit] * len(array) for axis in "XYZ"}
    size = {f"PhysicalSize{axis}": 20.0 for axis in "XYZ"}
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": "ZYX", "Plane": told} | size)
    return path


def test_the_planes_of_ome_tell_where_they_lie(tmp_path: Path) -> None:
    scan = read_volume(ome(tmp_path / "scan.ome.tif", CUBE, [100.0, 120.0, 140.0]))
    down = read_volume(ome(tmp_path / "down.ome.tif", CUBE[::-1], [140.0, 120.0, 100.0]))
    assert np.array_equal(brought_to(down, scan).array, CUBE)
    away = read_volume(ome(tmp_path / "away.ome.tif", CUBE, [160.0, 180.0, 200.0]))
    with pytest.raises(ScanError, match="0, 0, 3 voxels away"):
        brought_to(away, scan)
    unknown = read_volume(ome(tmp_path / "unknown.ome.tif", CUBE, [160.0, 180.0, 200.0], "reference frame"))
    assert brought_to(unknown, scan) is unknown


def test_a_cube_is_exchanged_by_its_axes_not_its_shape(tmp_path: Path) -> None:
    sitk.WriteImage(image(CUBE), str(tmp_path / "scan.nrrd"))
    other = sitk.PermuteAxes(image(CUBE), (1, 2, 0))
    assert np.array_equal(brought(tmp_path / "scan.nrrd", other), CUBE)


def test_edges_of_no_length_say_nothing(tmp_path: Path) -> None:
    told = "NDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\nOffset = 1 2 3\nElementSpacing = {} {} {}\n"
    for name, edges in (("a", (0, 0, 0)), ("b", (0.02, 0.02, 0.02))):
        text = told.format(*edges) + "BinaryData = True\nElementDataFile = LOCAL\n"
        (tmp_path / f"{name}.mha").write_bytes(text.encode() + CUBE.tobytes())
    one, other = (read_volume(tmp_path / f"{name}.mha", 20.0) for name in "ab")
    assert brought_to(one, other) is one and brought_to(other, one) is other


def test_nifti_without_codes_says_nothing_of_its_place(scan: Path, tmp_path: Path) -> None:
    sitk.WriteImage(image(ARRAY, (7.0, 8.0, 9.0)), str(tmp_path / "mask.nii"))
    data = bytearray((tmp_path / "mask.nii").read_bytes())
    data[252:256] = bytes(4)  # qform_code, sform_code
    (tmp_path / "mask.nii").write_bytes(data)
    mask = read_volume(tmp_path / "mask.nii")
    assert mask.voxel_um == 20 and brought_to(mask, read_volume(scan)) is mask
