"""A file that is not what was written never gets its name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.scans import volume
from tidemark_cli.core.scans.readback import check_itk, check_tiff
from tidemark_cli.core.scans.volume import read_volume, write_volume

ARRAY = np.random.default_rng(0).integers(0, 60000, (7, 20, 30)).astype(np.uint16)
ITK_SUFFIXES = (".nrrd", ".nii.gz", ".nii", ".mha")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", ITK_SUFFIXES)
def test_a_file_of_itk_is_compared_to_its_last_byte(suffix: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path), useCompression=compressed)
    check_itk(path, suffix, ARRAY)
    other = ARRAY.copy()
    other[-1, -1, -1] += 1
    for wrong in (other, ARRAY[:-1], np.concatenate([ARRAY, ARRAY])):
        with pytest.raises(OSError, match="not what was written"):
            check_itk(path, suffix, wrong)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(OSError, match="not what was written"):
            check_itk(path, suffix, ARRAY)


def test_a_tiff_is_compared_to_its_last_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_volume(path, ARRAY, 3.2)
    check_tiff(path, ARRAY)
    other = ARRAY.copy()
    other[-1, -1, -1] += 1
    for wrong in (other, ARRAY[:-1], np.concatenate([ARRAY, ARRAY])):
        with pytest.raises(OSError, match="not what was written"):
            check_tiff(path, wrong)
    whole = path.read_bytes()
    for size in (len(whole) // 2, 100, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(OSError, match="not what was written"):
            check_tiff(path, ARRAY)


@pytest.mark.parametrize("suffix", ITK_SUFFIXES)
def test_a_library_that_does_not_say_that_the_disk_is_full(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    write_volume(path, ARRAY[::-1], 3.2)
    whole, write = path.read_bytes(), volume.write_itk

    def short(temporary: Path, *rest: object) -> None:
        write(temporary, *rest)  # type: ignore[arg-type]
        os.truncate(temporary, 2000)

    monkeypatch.setattr(volume, "write_itk", short)
    with pytest.raises(OutputError, match=r"could not be written: .* it may be full"):
        write_volume(path, ARRAY, 3.2, overwrite=True)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


any_name = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")


@any_name
@pytest.mark.parametrize("suffix", [*ITK_SUFFIXES, ".tif", ".ome.tif"])
def test_names_in_any_encoding(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    for name in ("a", os.fsdecode(b"\xe4 \xff"), "µ", "u" + chr(0x308)):
        path = folder / f"{name}{suffix}"
        write_volume(path, ARRAY, 3.2)
        assert np.array_equal(read_volume(path).array, ARRAY)
        assert [one for one in folder.iterdir() if one.name.startswith(".")] == []


@any_name
@pytest.mark.parametrize("suffix", [".NRRD", ".NII.GZ", ".Nii", ".MHA", ".TIF"])
def test_suffixes_in_capitals_are_written(suffix: str, tmp_path: Path) -> None:
    write_volume(tmp_path / f"MASK{suffix}", ARRAY, 3.2)
    assert [path.name for path in tmp_path.iterdir()] == [f"MASK{suffix}"]
    np.testing.assert_array_equal(read_volume(tmp_path / f"MASK{suffix}").array, ARRAY)


def test_a_header_of_any_name_finds_the_data_beside_it(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing([0.0032] * 3)
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    header = (tmp_path / "a.mhd").rename(tmp_path / os.fsdecode(b"\xe4.mhd"))
    scan = read_volume(header)
    assert np.array_equal(scan.array, ARRAY)
    assert scan.frame is not None and scan.frame.origin_mm == (1, 2, 3)
