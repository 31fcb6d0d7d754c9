"""One scan in every format and kind of grey level: the same voxels, the same size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.core.scans.made import MAKERS, VOXEL_UM, made_hdf5, made_tiff, made_txm, written
from tests.helpers import draw_plug
from tidemark_cli.core.errors import FormatError
from tidemark_cli.core.scans.formats import FORMATS, read_path
from tidemark_cli.core.scans.volume import find_scans, read_volume

ZARR = (".zarr",) if "ome-zarr" in MAKERS else ()


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """A phantom (20, 32, 40) of uint16; 10 voxels of it are 32 µm, so that every header holds its lengths."""
    return draw_plug((20, 40, 32))[:, :, :].transpose(0, 2, 1).astype(np.uint16) * 100


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_scan_in_every_format(kind: str, scan: np.ndarray, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path, scan)
    read = read_volume(path)
    assert read.array.shape == scan.shape
    assert np.array_equal(read.array, scan)
    assert read.voxel_um == pytest.approx(VOXEL_UM, rel=1e-5) and read.voxel_source == "file"
    assert read.notes == ()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".nrrd", ".mha", ".nii.gz", *ZARR])
def test_kinds_of_grey_levels(dtype: str, suffix: str, scan: np.ndarray, tmp_path: Path) -> None:
    levels = (scan // 200).astype(dtype)
    assert np.array_equal(read_volume(written(f"scan{suffix}")(tmp_path, levels)).array, levels)


@pytest.mark.parametrize("dtype", ["bool", "float16", ">u2", ">f4", "<u4"])
def test_grey_levels_that_are_widened_or_swapped(dtype: str, scan: np.ndarray, tmp_path: Path) -> None:
    levels = scan > 11000 if dtype == "bool" else (scan // 100).astype(dtype)
    expected = levels.astype(np.uint8) * 255 if dtype == "bool" else levels
    for path in (made_hdf5(tmp_path, levels), made_tiff(tile=(16, 16))(tmp_path, levels)):
        read = read_volume(path).array
        assert read.dtype.isnative and read.dtype.name in ("uint8", "float32", "uint16", "uint32")
        assert np.array_equal(read, expected)


def test_packed_and_inverted_and_coloured_grey_levels(scan: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, 65535 - scan, photometric="miniswhite")
    assert np.array_equal(read_volume(path).array, scan)
    grey = (scan // 100).astype(np.uint8)
    tifffile.imwrite(path, np.stack([grey] * 3, axis=-1), photometric="rgb")
    assert np.array_equal(read_volume(path).array, grey)
    tifffile.imwrite(path, np.stack([grey] * 3 + [np.full_like(grey, 255)], axis=-1), photometric="rgb")
    assert np.array_equal(read_volume(path).array, grey)
    table = np.stack([np.arange(256)[::-1] * 257] * 3).astype(np.uint16)
    tifffile.imwrite(path, 255 - grey, photometric="palette", colormap=table)
    assert np.array_equal(read_volume(path).array, grey)


def test_twelve_bits_packed_by_hand(scan: np.ndarray, tmp_path: Path) -> None:
    twelve = scan[3] // 16
    even, odd = twelve[:, ::2], twelve[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], -1).astype(np.uint8)
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, packed.reshape(len(twelve), -1), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["ImageWidth"].overwrite(twelve.shape[1])
        tif.pages.first.tags["BitsPerSample"].overwrite(12)
    assert np.array_equal(read_volume(path, 3.2).array[:, 0], twelve)


# ------------------------------------------------------------------------------ the table of formats


def test_suffixes_of_formats_are_its_own() -> None:
    suffixes = [suffix for one in FORMATS for suffix in one.suffixes + one.side_suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


@pytest.mark.parametrize(("package", "make"), [("h5py", made_hdf5), ("olefile", made_txm)])
def test_a_missing_reader_is_named(package, make, scan, tmp_path, monkeypatch) -> None:
    path = make(tmp_path, scan)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FormatError, match=rf"(HDF5|Zeiss).* {package} is not installed; .*\[formats\]"):
        read_path(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [("a.raw", "nhdr"), ("a.xtekct", "Nikon"), ("a.am", "Amira"), ("a.img", "nii"), ("a.zip", "unpack")],
)
def test_known_files_that_are_not_read_say_what_to_do(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(FormatError, match=told):
        read_volume(tmp_path / name)


@pytest.mark.parametrize(("data", "told"), [(b"", "0 bytes"), (bytes(5000), "5000 bytes, zeros")])
def test_files_that_were_never_written(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(data)
    with pytest.raises(FormatError, match=f"is not a whole file .{told}"):
        read_path(tmp_path / "a.nrrd")


def test_a_plain_raw_file_with_the_header_of_the_guide(scan: np.ndarray, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "tidemark_cli/core/scans/FORMATS.md").read_text(encoding="utf-8")
    header = guide.partition("```\nNRRD")[2].partition("```")[0]
    assert "sizes: 1000 1000 1200" in header
    z, y, x = scan.shape
    (tmp_path / "scan.nhdr").write_text("NRRD" + header.replace("1000 1000 1200", f"{x} {y} {z}"))
    (tmp_path / "scan.raw").write_bytes(scan.tobytes())
    read = read_volume(tmp_path / "scan.nhdr")
    assert np.array_equal(read.array, scan) and read.voxel_um == 3.2


def test_scans_of_all_kinds_are_found_in_a_folder(scan: np.ndarray, tmp_path: Path) -> None:
    for kind in ("isq", "aim 2", "pcr", "txm", "hdf5", "dicom", "nhdr"):
        MAKERS[kind](tmp_path, scan)
    names = {path.name for path in find_scans(tmp_path)}
    suffixes = ("aim", "vol", "txm", "h5", "nhdr")
    assert names == {"C0001234.ISQ;1", "dicom", *(f"scan.{suffix}" for suffix in suffixes)}
