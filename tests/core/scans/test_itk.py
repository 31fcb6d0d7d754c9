"""NRRD, NIfTI and MetaImage files: damage, units, and headers that ITK refuses."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.volume import read_volume

SHAPE = (6, 40, 48)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)


def nrrd(path: Path, data: bytes, *lines: str, encoding: str = "raw", kind: str = "uint8") -> None:
    head = [
        "NRRD0005",
        f"type: {kind}",
        "dimension: 3",
        "sizes: 48 40 6",
        f"encoding: {encoding}",
        "endian: little",
    ]
    path.write_bytes("\n".join([*head, *lines, "", ""]).encode("latin-1") + data)


def meta(path: Path, data: bytes, *lines: str, spacing: str = "0.02 0.02 0.02", file: str = "LOCAL") -> None:
    head = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    head += [*lines, "DimSize = 48 40 6", f"ElementSpacing = {spacing}", "ElementType = MET_UCHAR"]
    path.write_bytes("\n".join([*head, f"ElementDataFile = {file}\n"]).encode("latin-1") + data)


def nifti(path: Path, array: np.ndarray, *changes: tuple[int, str, tuple[float, ...]]) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([0.02] * 3)
    sitk.WriteImage(image, str(path))
    data = bytearray(path.read_bytes())
    for at, kind, values in changes:
        struct.pack_into("<" + kind, data, at, *values)
    path.write_bytes(data)


# ------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.nii.gz"])
def test_no_damage_in_a_compressed_stream_is_read(name, array, tmp_path):
    image = sitk.GetImageFromArray(array // 2)
    image.SetSpacing([0.02] * 3)
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    assert np.array_equal(read_volume(tmp_path / name).array, array // 2)
    data_file = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    whole = data_file.read_bytes()
    rng = np.random.default_rng(1)
    for kind in ("bit", "block", "cut") * 8:
        data = bytearray(whole)
        at = int(rng.integers(len(data) // 8, len(data) - 8))
        if kind == "bit":
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == "block":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        else:
            del data[at:]
        data_file.write_bytes(data)
        with pytest.raises(FormatError, match=r"damaged|cut short"):
            read_volume(tmp_path / name)


def test_gzip_of_several_parts_and_of_the_wrong_length(array, tmp_path):
    data = array.tobytes()
    parts = gzip.compress(data[:5000]) + gzip.compress(data[5000:])
    nrrd(tmp_path / "a.nrrd", parts, "spacings: 0.02 0.02 0.02", encoding="gzip")
    assert np.array_equal(read_volume(tmp_path / "a.nrrd").array, array)
    nrrd(tmp_path / "a.nrrd", gzip.compress(data[:-1]), "spacings: 0.02 0.02 0.02", encoding="gzip")
    with pytest.raises(FormatError, match="11520 bytes expected, 11519 found"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("packed", [False, True])
def test_slices_behind_those_of_the_header_are_told(packed, array, tmp_path):
    data = array.tobytes() + bytes(2 * 40 * 48)
    lines = ["CompressedData = True", f"CompressedDataSize = {len(zlib.compress(data))}"] if packed else []
    meta(tmp_path / "a.mha", zlib.compress(data) if packed else data, *lines)
    scan = read_volume(tmp_path / "a.mha")
    assert np.array_equal(scan.array, array)
    assert "a.mha is 3840 bytes longer than its header tells" in scan.notes[0]


def test_raw_data_longer_than_the_header_tells_and_negative_edges(array, tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(7) + array.tobytes())
    meta(tmp_path / "a.mhd", b"", file="a.raw")
    assert "a.raw is 7 bytes longer" in read_volume(tmp_path / "a.mhd").notes[0]
    nifti(tmp_path / "a.nii", array, (80, "f", (-0.02,)))
    assert read_volume(tmp_path / "a.nii").voxel_um == 20


def test_compressed_data_of_unknown_length_are_refused(array, tmp_path):
    meta(tmp_path / "a.mha", zlib.compress(array.tobytes()), "CompressedData = True")
    with pytest.raises(FormatError, match="does not tell CompressedDataSize"):
        read_volume(tmp_path / "a.mha")


def test_a_size_that_no_stream_can_hold_is_refused_before_the_memory_is_taken(array, tmp_path):
    nifti(tmp_path / "a.nii", array, (42, "3h", (32767, 32767, 32767)))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    for name in ("a.nii", "b.nii.gz"):
        with pytest.raises(FormatError, match="cut short"):
            read_volume(tmp_path / name)


# ------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("unit", "edge", "um"),
    [
        *(
            ("um", 20, 20),
            ("microns", 20, 20),
            ("\u00b5m", 20, 20),
            ("\u00c2\u00b5m", 20, 20),
            ("um", 0.4, 0.4),
        ),
        *(("nm", 400, 0.4), ("mm", 0.02, 20), ("cm", 0.002, 20), ("m", 2e-5, 20), ("", 0.02, 20)),
    ],
)
def test_units_of_nrrd_and_metaimage(unit, edge, um, array, tmp_path):
    data = array.tobytes()
    axes = f"space directions: ({edge},0,0) (0,{edge},0) (0,0,{edge})"
    where = (
        "space dimension: 3",
        axes,
        f"space origin: ({edge},0,0)",
        f'space units: "{unit}" "{unit}" "{unit}"',
    )
    nrrd(tmp_path / "a.nrrd", data, *where)
    nrrd(tmp_path / "b.nrrd", data, f"spacings: {edge} {edge} {edge}", f'units: "{unit}" "{unit}" "{unit}"')
    meta(tmp_path / "c.mha", data, f"DistanceUnits = {unit}", spacing=f"{edge} {edge} {edge}")
    for path in sorted(tmp_path.iterdir()):
        scan = read_volume(path)
        assert (scan.voxel_um, scan.voxel_source, scan.notes) == (pytest.approx(um, rel=1e-9), "file", ())
    frame = read_volume(tmp_path / "a.nrrd").frame
    assert frame is not None and frame.origin_mm == pytest.approx((um / 1000, 0, 0))


def test_an_unknown_unit_is_named(array, tmp_path):
    meta(tmp_path / "a.mha", array.tobytes(), "DistanceUnits = furlong")
    scan = read_volume(tmp_path / "a.mha")
    assert scan.voxel_source == "default"
    assert "'furlong'" in scan.notes[0] and "3.2 µm assumed" in scan.notes[1]


@pytest.mark.parametrize(("code", "edge"), [(1, 2e-5), (2, 0.02), (3, 20.0), (0, 0.02)])
def test_units_of_nifti(code, edge, array, tmp_path):
    nifti(tmp_path / "a.nii", array, (80, "3f", (edge,) * 3), (123, "B", (code,)), (252, "2h", (0, 0)))
    assert read_volume(tmp_path / "a.nii").voxel_um == pytest.approx(20, rel=1e-5)


# -------------------------------------------------------------------------- headers that ITK refuses


@pytest.mark.parametrize("rows", [(0.02, 0.0004, 0, 0, 0, 0.02, 0, 0, 0, 0, 0.02, 0), (0,) * 12])
def test_a_shear_or_no_axes_at_all_cost_the_place_not_the_voxels(rows, array, tmp_path):
    nifti(tmp_path / "a.nii", array, (252, "2h", (0, 1)), (280, "12f", rows))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    for name in ("a.nii", "b.nii.gz"):
        scan = read_volume(tmp_path / name)
        assert np.array_equal(scan.array, array)
        assert scan.voxel_um == pytest.approx(20) and scan.voxel_source == "file"
        assert scan.frame is None and "its place in space is lost" in scan.notes[0]


def test_a_metaimage_without_a_direction_or_a_spacing(array, tmp_path):
    meta(tmp_path / "a.mha", array.tobytes(), "TransformMatrix = 0 0 0 0 0 0 0 0 0")
    scan = read_volume(tmp_path / "a.mha")
    assert np.array_equal(scan.array, array) and scan.voxel_um == 20
    assert "its place in space is lost" in scan.notes[0]
    meta(tmp_path / "b.mha", array.tobytes(), spacing="0 0 0")
    scan = read_volume(tmp_path / "b.mha")
    assert np.array_equal(scan.array, array) and scan.voxel_source == "default"


@pytest.mark.parametrize("name", ["A.NII", "Mixed.Nii", "A.NII.GZ", "A.NRRD", "A.MHA"])
def test_suffixes_in_any_case(name, array, tmp_path, capfd):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([0.02] * 3)
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / f"b{name[name.index('.') :].lower()}"), useCompression=True)
    (whole,) = tmp_path.iterdir()
    whole.rename(tmp_path / name)
    scan = read_volume(tmp_path / name)
    assert np.array_equal(scan.array, array) and scan.notes == ()
    assert scan.voxel_um == pytest.approx(20)
    assert scan.frame is not None and scan.frame.origin_mm == pytest.approx((1, 2, 3))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("named", ["gone.raw", "D:\\scans\\gone.raw", "/nowhere/gone.raw", "data/gone.raw"])
def test_a_data_file_that_is_not_there_is_named(named, array, tmp_path):
    meta(tmp_path / "a.mhd", b"", file=named)
    nrrd(tmp_path / "a.nhdr", b"", f"data file: {named}")
    for name in ("a.mhd", "a.nhdr"):
        with pytest.raises(FormatError, match=r"gone\.raw, which is not there"):
            read_volume(tmp_path / name)


def test_a_data_file_beside_its_header(array, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.raw").write_bytes(bytes(100) + array.tobytes())
    meta(tmp_path / "a.mhd", b"", "HeaderSize = 100", file="deep\\a.raw")
    nrrd(tmp_path / "a.nhdr", b"", "data file: deep/a.raw", "byte skip: 100", "spacings: 0.02 0.02 0.02")
    for name in ("a.mhd", "a.nhdr"):
        scan = read_volume(tmp_path / name)
        assert np.array_equal(scan.array, array) and scan.voxel_um == 20


def test_an_encoding_that_is_not_read_is_named(array, tmp_path):
    nrrd(tmp_path / "a.nrrd", bz2.compress(array.tobytes()), encoding="bzip2")
    with pytest.raises(FormatError, match="encoding bzip2, which is not read"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize(("order", "name"), [(">", "big"), ("<", "little")])
def test_other_kinds_of_voxels_in_either_byte_order(order, name, array, tmp_path):
    data = (array * 3.5).astype(f"{order}f4")
    nrrd(tmp_path / "a.nrrd", data.tobytes(), "spacings: 1 1 1", f"endian: {name}", kind="float")
    scan = read_volume(tmp_path / "a.nrrd", 20)
    assert scan.array.dtype == np.float32 and scan.array.dtype.isnative and np.array_equal(scan.array, data)


def test_the_slope_of_nifti_is_applied(array, tmp_path):
    nifti(tmp_path / "a.nii", array, (112, "2f", (2.0, -1024.0)))
    assert np.array_equal(read_volume(tmp_path / "a.nii").array, array.astype(np.float32) * 2 - 1024)


def test_colour_in_nifti_is_refused(array, tmp_path):
    colour = sitk.GetImageFromArray(np.stack([array] * 3, -1), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / "a.nii"))
    with pytest.raises(ContentError, match="expected one grey stack"):
        read_volume(tmp_path / "a.nii")
