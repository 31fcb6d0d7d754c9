"""Headers of NRRD, NIfTI and MetaImage files, without their voxels."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.itk_headers import read_header

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # (Z, Y, X)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.nii", "a.nii.gz", "a.mha", "a.mhd"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_itk_writes_is_understood(tmp_path: Path, name: str, packed: bool) -> None:
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing([0.02, 0.02, 0.03])
    path = tmp_path / name
    sitk.WriteImage(image, str(path), useCompression=packed)
    header = read_header(path)
    assert header.size == (4, 3, 2)
    assert header.dtype is not None and header.dtype.kind == "i" and header.nbytes == 48
    assert header.spacing_um == pytest.approx((20, 20, 30))
    stored = header.data.read_bytes()
    if header.packed and name.endswith(".nii.gz"):
        voxels = gzip.decompress(stored)[header.offset :]
    elif header.packed:
        voxels = None
    else:
        voxels = stored[header.offset :]
    if voxels is not None:
        np.testing.assert_array_equal(np.frombuffer(voxels, header.dtype).reshape(ARRAY.shape), ARRAY)


def nrrd(path: Path, *lines: str, data: bytes = bytes(8)) -> Path:
    fields = ["type: uint8", "dimension: 3", "sizes: 2 2 2", "encoding: raw", *lines]
    keys = {line.partition(":")[0]: line for line in fields}
    path.write_bytes("\n".join(["NRRD0004", *keys.values(), "", ""]).encode() + data)
    return path


@pytest.mark.parametrize(
    ("unit", "edge_um"),
    [("mm", 20_000), ("um", 20), ("µm", 20), ("microns", 20), ("cm", 200_000), ("", 20_000)],
)
def test_units_of_nrrd(tmp_path: Path, unit: str, edge_um: float) -> None:
    units = f'space units: "{unit}" "{unit}" "{unit}"'
    path = nrrd(tmp_path / "a.nrrd", "space directions: (20,0,0) (0,20,0) (0,0,20)", units)
    header = read_header(path)
    assert header.spacing_um == pytest.approx((edge_um,) * 3) and header.notes == ()


def test_an_unknown_unit_is_named_and_tells_nothing(tmp_path: Path) -> None:
    header = read_header(nrrd(tmp_path / "a.nrrd", "spacings: 2 2 2", 'units: "ell" "ell" "ell"'))
    assert header.spacing_um == (0, 0, 0) and header.mm is None and "ell" in header.notes[0]


@pytest.mark.parametrize(
    ("lines", "error", "told"),
    [
        (["encoding: bzip2"], FormatError, "encoding bzip2"),
        (["sizes: 2 2"], FormatError, "2 sizes for 3 axes"),
        (["sizes: 2 0 2"], ContentError, "no voxels"),
        (["data file: C:\\scans\\gone.raw"], FormatError, "not there"),
        (["type: quad"], None, ""),  # left to ITK
    ],
)
def test_headers_that_cannot_be_used(
    tmp_path: Path, lines: list[str], error: type[Exception] | None, told: str
) -> None:
    path = nrrd(tmp_path / "a.nrrd", *lines)
    if error is None:
        assert read_header(path).dtype is None
    else:
        with pytest.raises(error, match=told):
            read_header(path)


def test_a_scale_and_the_byte_order_of_nifti(tmp_path: Path) -> None:
    head = bytearray(352)
    struct.pack_into(">i", head, 0, 348)
    struct.pack_into(">8h", head, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(">h", head, 70, 4)
    struct.pack_into(">8f", head, 76, 1, 20, 20, 30, 0, 0, 0, 0)
    struct.pack_into(">fff", head, 108, 352, 2, -5)
    head[123] = 3  # µm
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(head) + ARRAY.astype(">i2").tobytes())
    header = read_header(path)
    assert (header.size, header.dtype, header.offset) == ((4, 3, 2), np.dtype(">i2"), 352)
    assert header.spacing_um == pytest.approx((20, 20, 30)) and header.scale == (2, -5)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.mha"])
def test_text_is_no_header(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("I am a letter.")
    with pytest.raises(FormatError, match="header cannot be read"):
        read_header(tmp_path / name)


def test_nothing_is_guessed_of_the_byte_order(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no endian"):
        read_header(nrrd(tmp_path / "a.nrrd", "type: uint16"))
    assert read_header(nrrd(tmp_path / "a.nrrd")).dtype == np.uint8


def test_several_compressed_data_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="several compressed data files"):
        read_header(nrrd(tmp_path / "a.nhdr", "encoding: gzip", "data file: LIST 2"))


def test_a_nifti_name_that_tells_the_wrong_compression(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(ARRAY)
    for written, renamed, told in (("a.nii", "b.nii.gz", "is not comp"), ("c.nii.gz", "d.nii", "is comp")):
        sitk.WriteImage(image, str(tmp_path / written))
        (tmp_path / written).rename(tmp_path / renamed)
        with pytest.raises(FormatError, match=told):
            read_header(tmp_path / renamed)


def test_nifti_without_an_offset_begins_behind_its_header(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / "a.nii"))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[108:112] = bytes(4)
    (tmp_path / "a.nii").write_bytes(data)
    assert read_header(tmp_path / "a.nii").offset == 352
