"""DICOM: slices in order, series apart, gaps and damage told."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.core.scans.made import made_dicom
from tidemark_cli.core.errors import ContentError, FormatError, StackError
from tidemark_cli.core.scans.dicom import holds_dicom, read_dicom
from tidemark_cli.core.scans.volume import find_scans, read_volume

ARRAY = np.arange(600, dtype=np.uint16).reshape(10, 5, 12)


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """Give back the locale: ITK's writer of DICOM leaves "C"."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def files(folder: Path) -> list[Path]:
    """Return the files of a folder as their slices lie."""
    return sorted(folder.iterdir(), key=lambda path: sitk.ReadImage(str(path)).GetOrigin()[2])


def test_slices_lie_by_their_place_and_say_where(tmp_path):
    scan = read_volume(made_dicom(tmp_path, ARRAY))
    assert np.array_equal(scan.array, ARRAY)
    assert scan.frame is not None
    assert scan.frame.origin_mm == (0, 0, 0) and scan.frame.edges_mm == pytest.approx((0.0032,) * 3)


def test_files_without_a_suffix_and_other_files_beside(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    for path in files(folder):
        path.rename(path.with_suffix("")) if path.stem[-1] in "02468" else path.rename(
            path.with_suffix(".17")
        )
    (folder / "notes").write_text("not DICOM")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert holds_dicom(folder) and np.array_equal(read_dicom(folder).array, ARRAY)
    assert find_scans(tmp_path) == [folder]


def test_several_series_are_named_and_chosen_by_a_file(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    made_dicom(tmp_path, ARRAY[:4] + 7, series="1.2.9")
    with pytest.raises(StackError, match=r"2 DICOM series: 10 x plug 1\.2\.3 .*; 4 x plug 1\.2\.9 \(1\.2\.9"):
        read_dicom(folder)
    assert np.array_equal(read_dicom(next(folder.glob("1.2.9.*"))).array, ARRAY[:4] + 7)
    assert np.array_equal(read_dicom(next(folder.glob("1.2.3.*"))).array, ARRAY)


def test_a_missing_slice_is_told(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    files(folder)[4].unlink()
    with pytest.raises(StackError, match=r"misses slices.*0\.0064 mm between.*0\.0032 mm between others"):
        read_dicom(folder)


def test_slices_without_a_place_go_by_their_numbers(tmp_path):
    folder = made_dicom(tmp_path, ARRAY, tags={"0020|0032": "0\\0\\0"})
    scan = read_volume(folder)
    assert np.array_equal(scan.array, ARRAY) and scan.voxel_um == 3.2 and scan.frame is None
    assert "ordered by their numbers" in scan.notes[0]
    sorted(folder.iterdir())[3].unlink()
    with pytest.raises(StackError, match="misses slices"):
        read_dicom(folder)


def test_rescaled_and_inverted_levels(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    for path in files(folder):
        path.write_bytes(path.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    assert np.array_equal(read_dicom(folder).array, 65535 - ARRAY)
    slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"
    for path in files(folder):
        path.write_bytes(path.read_bytes().replace(slope + b"1 ", slope + b"2 "))
    assert np.array_equal(read_dicom(folder).array, 2 * (65535 - ARRAY.astype(np.int64)))


def test_one_file_of_many_frames_and_one_slice(tmp_path):
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing([0.0032] * 3)
    sitk.WriteImage(image, str(tmp_path / "a.dcm"))
    scan = read_volume(tmp_path / "a.dcm")
    assert np.array_equal(scan.array, ARRAY) and find_scans(tmp_path) == [tmp_path / "a.dcm"]
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY[:1]), str(tmp_path / "b.dcm"))
    assert read_volume(tmp_path / "b.dcm").is_image


def test_refusals(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    path = files(folder)[3]
    whole = path.read_bytes()
    for size in (140, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="no whole DICOM image"):
            read_dicom(folder)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 6, 3), np.uint8), isVector=True), str(path))
    with pytest.raises(ContentError, match="colour"):
        read_dicom(path)


def test_files_without_the_mark_and_files_that_are_empty(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert np.array_equal(read_volume(folder).array, ARRAY)
    (folder / "last.dcm").write_bytes(b"")
    with pytest.raises(FormatError, match=r"last\.dcm is no whole DICOM image"):
        read_volume(folder)


def test_slices_of_another_pixel_size(tmp_path):
    folder = made_dicom(tmp_path, ARRAY)
    image = sitk.ReadImage(str(files(folder)[3]))
    image.SetSpacing((0.0016, 0.0016, 0.0032))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(folder / "odd.dcm"))
    writer.Execute(image)
    with pytest.raises(StackError, match="pixel sizes or orientations"):
        read_volume(folder)
