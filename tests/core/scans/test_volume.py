"""Scans in every format: read, written, read back; and each way in which a file can be wrong."""

from __future__ import annotations

import math
import os
import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tidemark_cli.core.errors import ContentError, FormatError, OutputError, ScanError
from tidemark_cli.core.scans import tiff_texts, tiff_writing, volume
from tidemark_cli.core.scans.volume import (
    Volume,
    find_scans,
    is_scan,
    is_stack,
    read_volume,
    scan_name,
    write_volume,
)

STACK_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".nrrd", ".nii.gz", ".nii", ".mha")
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def ramp(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return (np.arange(math.prod(shape)) % 251).reshape(shape).astype(dtype)


def imagej_description(images: int, spacing: float, unit: str) -> str:
    return f"ImageJ=1.54f\nimages={images}\nslices={images}\nunit={unit}\nspacing={spacing}\nloop=false\n"


def varying_arrays(min_depth: int) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(min_depth, 5), st.integers(1, 6), st.integers(1, 6))

    def arrays(dtype: str) -> st.SearchStrategy[np.ndarray]:
        elements = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else {}
        return hnp.arrays(dtype, shapes, elements=hnp.from_dtype(np.dtype(dtype), **elements))

    return st.sampled_from(DTYPES).flatmap(arrays).filter(lambda a: (a != a.flat[0]).any())


voxel_sizes = st.integers(1000, 999_999).map(lambda n: n / 10_000)  # 0.1 to 99.9999 µm


# ------------------------------------------------------------------------------ written and read back


@pytest.mark.parametrize("suffix", STACK_SUFFIXES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(array=varying_arrays(2), voxel_um=voxel_sizes)
def test_a_written_stack_reads_back_identical(suffix, array, voxel_um, tmp_path):
    path = tmp_path / f"stack{suffix}"
    write_volume(path, array, voxel_um, overwrite=True)
    scan = read_volume(path)
    assert scan.array.dtype == array.dtype
    assert np.array_equal(scan.array, array)
    assert scan.voxel_um == voxel_um
    assert (scan.voxel_source, scan.is_image, scan.notes) == ("file", False, ())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    path.unlink()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(array=varying_arrays(1), voxel_um=voxel_sizes)
def test_a_written_image_reads_back_as_one_zx_slice(array, voxel_um, tmp_path):
    array = array[:, :1]
    if (array == array.flat[0]).all():
        return
    path = tmp_path / "image.tif"
    write_volume(path, array, voxel_um, overwrite=True, is_image=True)
    scan = read_volume(path)
    assert np.array_equal(scan.array, array) and scan.array.dtype == array.dtype
    assert scan.is_image and scan.voxel_um == voxel_um


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_image_keeps_the_grey_levels(dtype, tmp_path):
    array = ramp(5, 1, 4, dtype=dtype) * (200 if dtype == "uint16" else 1)
    write_volume(tmp_path / "image.png", array, 3.2, is_image=True)
    scan = read_volume(tmp_path / "image.png", voxel_um=3.2)
    assert np.array_equal(scan.array, array) and scan.array.dtype == array.dtype
    assert scan.is_image and scan.voxel_source == "option"


@pytest.mark.parametrize("suffix", [".tif", ".nrrd"])
def test_big_endian_and_strided_arrays_are_written_natively(suffix, tmp_path):
    array = ramp(4, 6, 5, dtype=">u2")[:, ::2]
    write_volume(tmp_path / f"a{suffix}", array, 3.2)
    scan = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(scan.array, array) and scan.array.dtype == np.uint16


def test_tiff_carries_what_imagej_reads(tmp_path):
    write_volume(tmp_path / "mask.tif", ramp(6, 5, 3), 2.5)
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        meta = tif.imagej_metadata
        assert meta is not None
        assert (meta["unit"], meta["spacing"], meta["slices"], meta["images"]) == ("um", 2.5, 6, 6)
        assert "channels" not in meta and "frames" not in meta
        page = tif.pages.first
        assert page.tags["XResolution"].value == page.tags["YResolution"].value == (2, 5)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.tags["Orientation"].value == 1
        assert not tif.is_bigtiff and len(tif.pages) == 6


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_itk_reads_the_spacing_in_mm(suffix, tmp_path):
    array = ramp(4, 3, 2)
    write_volume(tmp_path / f"a{suffix}", array, 3.2)
    image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert image.GetSize() == (2, 3, 4)
    assert image.GetSpacing() == pytest.approx((0.0032, 0.0032, 0.0032), rel=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(image), array)


def test_what_classic_tiff_cannot_hold_becomes_a_big_ome_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_writing, "CLASSIC_TIFF_LIMIT", 2000)
    array = np.random.default_rng(0).integers(0, 255, (40, 16, 16), np.uint8)
    write_volume(tmp_path / "big.tif", array, 3.2)
    with tifffile.TiffFile(tmp_path / "big.tif") as tif:
        assert tif.is_bigtiff and tif.is_ome
    scan = read_volume(tmp_path / "big.tif")
    assert np.array_equal(scan.array, array) and scan.voxel_um == 3.2


def test_what_compresses_into_a_classic_tiff_stays_an_imagej_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_writing, "CLASSIC_TIFF_LIMIT", 30_000)
    array = np.zeros((40, 32, 32), np.uint8)  # 40 kB
    array[20:] = 255
    write_volume(tmp_path / "mask.tif", array, 3.2)
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        assert tif.is_imagej and not tif.is_bigtiff


# ------------------------------------------------------------------------------------ TIFF of others


def test_uncompressed_stack_is_memory_mapped(tmp_path):
    array = ramp(5, 6, 7, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder="<", photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", array, byteorder="<", bigtiff=True, photometric="minisblack")
    tifffile.imwrite(tmp_path / "c.tif", array, byteorder="<", imagej=True, metadata={"axes": "ZYX"})
    for path in sorted(tmp_path.iterdir()):
        scan = read_volume(path)
        assert isinstance(scan.array, np.memmap)
        assert np.array_equal(scan.array, array)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_imagej_stack_of_over_4_gb_layout_one_ifd_contiguous_data(byteorder, tmp_path):
    array = ramp(7, 5, 6, dtype=f"{byteorder}u2")
    tifffile.imwrite(
        tmp_path / "one.tif",
        array[0],
        byteorder=byteorder,
        description=imagej_description(7, 3.2, "micron"),
        metadata=None,
        resolution=(1 / 3.2, 1 / 3.2),
        resolutionunit="none",
    )
    with tifffile.TiffFile(tmp_path / "one.tif") as tif:
        assert tif.pages.first.dataoffsets[0] + array[0].nbytes == tif.filehandle.size
    with (tmp_path / "one.tif").open("ab") as file:
        file.write(array[1:].tobytes())
    scan = read_volume(tmp_path / "one.tif")
    assert np.array_equal(scan.array, array) and scan.array.dtype == np.uint16
    assert scan.array.dtype.isnative
    assert (scan.voxel_um, scan.voxel_source) == (3.2, "file")
    data = (tmp_path / "one.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[:-10])
    with pytest.raises(FormatError, match=r"cut\.tif is not a whole TIFF"):
        read_volume(tmp_path / "cut.tif")


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
def test_compressed_and_tiled_stacks(compression, tmp_path):
    array = ramp(4, 40, 33, dtype="int16")
    tifffile.imwrite(
        tmp_path / "a.tif", array, compression=compression, tile=(16, 16), photometric="minisblack"
    )
    assert np.array_equal(read_volume(tmp_path / "a.tif").array, array)


def test_pages_written_one_by_one_are_a_stack(tmp_path):
    array = ramp(4, 5, 6)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in array:
            writer.write(page)
    assert np.array_equal(read_volume(tmp_path / "a.tif").array, array)


@pytest.mark.parametrize(
    ("unit", "pixel", "expected"),
    [
        ("um", 3.2, 3.2),
        ("µm", 3.2, 3.2),
        ("\\u00B5m", 3.2, 3.2),
        ("micron", 2.75, 2.75),
        ("mm", 0.0032, 3.2),
        ("nm", 3200.0, 3.2),
        ("cm", 0.00032, 3.2),
        ("inch", 0.0001, 2.54),
        ("pixel", 1.0, None),
        ("inch", 1 / 72, None),
        ("mm", 1.0, None),
    ],
)
def test_imagej_units(unit, pixel, expected, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(4, 5, 6),
        photometric="minisblack",
        description=imagej_description(4, pixel, unit).encode("latin-1"),
        metadata=None,
        resolution=(1 / pixel, 1 / pixel),
        resolutionunit="none",
    )
    scan = read_volume(tmp_path / "a.tif")
    if expected is None:
        assert (scan.voxel_um, scan.voxel_source) == (3.2, "default")
        assert "3.2 µm assumed" in scan.notes[0]
    else:
        assert scan.voxel_um == pytest.approx(expected, rel=1e-6)
        assert scan.voxel_source == "file"


@pytest.mark.parametrize(
    ("unit", "edge", "expected"),
    [("µm", 3.2, 3.2), ("mm", 0.0032, 3.2), ("nm", 2750, 2.75)],
)
def test_ome_units(unit, edge, expected, tmp_path):
    metadata = {"axes": "ZYX"}
    for axis in "XYZ":
        metadata |= {f"PhysicalSize{axis}": edge, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", ramp(4, 5, 6), photometric="minisblack", metadata=metadata)
    assert read_volume(tmp_path / "a.ome.tif").voxel_um == pytest.approx(expected, rel=1e-8)


def test_ome_sizes_without_a_unit_are_micrometres():
    xml = '<OME><Image><Pixels PhysicalSizeX="3.2" PhysicalSizeY="3.2"/></Image></OME>'
    assert tiff_texts.ome_spacing_um(xml) == ((3.2, 3.2, 3.2), ())


@pytest.mark.parametrize(
    ("per_unit", "unit", "expected"),
    [
        (3125, "centimeter", 3.2),
        (10_000, "inch", 2.54),
        (72, "inch", None),
        (96, "inch", None),
        (300, "inch", None),
        (310, "inch", 25400 / 310),
        (118.11, "centimeter", None),
        (28.35, "centimeter", None),
        (1, "none", None),
    ],
)
def test_plain_tiff_resolution(per_unit, unit, expected, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(4, 5, 6),
        photometric="minisblack",
        metadata=None,
        resolution=(per_unit, per_unit),
        resolutionunit=unit,
    )
    scan = read_volume(tmp_path / "a.tif")
    assert scan.voxel_source == ("file" if expected else "default")
    assert scan.voxel_um == pytest.approx(expected or 3.2, rel=1e-6)


def test_the_option_overrules_the_file_and_its_anisotropy(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(4, 5, 6),
        imagej=True,
        resolution=(1 / 3.2, 1 / 3.2),
        metadata={"axes": "ZYX", "spacing": 6.4, "unit": "um"},
    )
    with pytest.raises(ContentError, match=r"6\.4 x 3\.2 x 3\.2 µm \(Z, Y, X\)"):
        read_volume(tmp_path / "a.tif")
    scan = read_volume(tmp_path / "a.tif", voxel_um=4.5)
    assert (scan.voxel_um, scan.voxel_source, scan.notes) == (4.5, "option", ())


@pytest.mark.parametrize("bad", [0.0, -3.2, math.nan, math.inf])
def test_an_impossible_voxel_size_option(bad, tmp_path):
    write_volume(tmp_path / "a.tif", ramp(3, 4, 5), 3.2)
    with pytest.raises(ScanError, match="expected a positive number"):
        read_volume(tmp_path / "a.tif", voxel_um=bad)


@pytest.mark.parametrize(("axes", "word"), [("TYX", "frames"), ("CYX", "channels")])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_one_axis_beside_rows_and_columns_is_the_stack_whatever_its_name(axes, word, kind, tmp_path):
    array = ramp(7, 5, 6)
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": axes}, **{kind: True}
    )
    scan = read_volume(tmp_path / "a.tif", 3.2)
    assert np.array_equal(scan.array, array)
    assert scan.notes == (f"7 {word} taken for slices",)


@pytest.mark.parametrize("axes", ["TZYX", "ZCYX"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_slices_with_channels_or_frames_are_no_stack(axes, kind, tmp_path):
    array = ramp(2, 4, 5, 6)
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": axes}, **{kind: True}
    )
    with pytest.raises(ContentError, match="which axis is Z cannot be told"):
        read_volume(tmp_path / "a.tif")


def test_a_four_dimensional_array_without_axis_names_is_no_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ramp(2, 4, 5, 6), photometric="minisblack")
    with pytest.raises(ContentError, match="cannot be told"):
        read_volume(tmp_path / "a.tif")


def test_pages_of_different_shapes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(ramp(5, 6), metadata=None)
        writer.write(ramp(5, 7), metadata=None)
    with pytest.raises(ContentError, match="2 images of different shapes"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_colour_tiff_is_refused_and_equal_channels_are_grey(planarconfig, tmp_path):
    grey = ramp(4, 5, 6)
    channel_axis = -1 if planarconfig == "contig" else 1
    rgb = np.stack([grey] * 3, channel_axis)
    tifffile.imwrite(tmp_path / "grey.tif", rgb, photometric="rgb", planarconfig=planarconfig)
    scan = read_volume(tmp_path / "grey.tif")
    assert np.array_equal(scan.array, grey)
    assert "equal colour channels, read as grey" in scan.notes
    rgb = np.stack([grey, grey, grey[::-1]], channel_axis)
    tifffile.imwrite(tmp_path / "colour.tif", rgb, photometric="rgb", planarconfig=planarconfig)
    with pytest.raises(ContentError, match="is a colour image"):
        read_volume(tmp_path / "colour.tif")


def test_colour_tables(tmp_path):
    grey_table = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    fire = grey_table.copy()
    fire[1] = fire[1][::-1]
    tifffile.imwrite(tmp_path / "grey.tif", ramp(4, 5, 6), photometric="palette", colormap=grey_table)
    scan = read_volume(tmp_path / "grey.tif")
    assert np.array_equal(scan.array, ramp(4, 5, 6))
    assert "grey levels read through the colour table" in scan.notes
    inverted = grey_table[:, ::-1]
    tifffile.imwrite(tmp_path / "inv.tif", 255 - ramp(4, 5, 6), photometric="palette", colormap=inverted)
    assert np.array_equal(read_volume(tmp_path / "inv.tif").array, ramp(4, 5, 6))
    tifffile.imwrite(tmp_path / "fire.tif", ramp(4, 5, 6), photometric="palette", colormap=fire)
    with pytest.raises(ContentError, match="coloured through a colour table"):
        read_volume(tmp_path / "fire.tif")


# ------------------------------------------------------------------------- truncated and foreign files


@pytest.mark.parametrize("kind", ["plain", "imagej", "ome", "shaped"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("part", [0.99, 0.6, 0.3, 0.05, 0.001])
def test_a_truncated_tiff_is_never_read_with_slices_missing(kind, compression, part, tmp_path, capfd):
    options = {"imagej": {"imagej": True}, "ome": {"ome": True}, "plain": {"metadata": None}, "shaped": {}}
    array = np.random.default_rng(0).integers(0, 255, (6, 40, 48), np.uint8)
    path = tmp_path / "a.tif"
    extra = {} if kind == "plain" else {"metadata": {"axes": "ZYX"}}
    tifffile.imwrite(
        path, array, photometric="minisblack", compression=compression, **(options[kind] | extra)
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    if (kind, compression, part) == ("imagej", None, 0.99):  # only the tail that ImageJ ignores is gone
        assert np.array_equal(read_volume(path).array, array)
        return
    with pytest.raises(FormatError, match=r"a\.tif is not a whole TIFF file"):
        read_volume(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
@pytest.mark.parametrize("part", [0.99, 0.5, 0.01])
def test_a_truncated_itk_file_is_never_read(suffix, part, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (6, 40, 48), np.uint8)
    path = tmp_path / f"a{suffix}"
    write_volume(path, array, 3.2)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(FormatError, match=r"cut short|not a whole"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
@pytest.mark.parametrize("part", [0.9, 0.5, 0.01, 0])
def test_a_truncated_image_is_never_read(suffix, part, tmp_path, capfd):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 48), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(FormatError, match="is not a whole"):
        read_volume(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", volume.READ_SUFFIXES)
@pytest.mark.parametrize("text", [b"", b"sample,grade\n12_R,3\n" * 40])
def test_a_text_file_with_a_foreign_suffix(suffix, text, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(text)
    with pytest.raises(FormatError):
        read_volume(tmp_path / f"a{suffix}")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    write_volume(tmp_path / "a.tif", ramp(3, 4, 5), 3.2)
    read = volume.read_path

    def growing(path: Path) -> object:
        content = read(path)
        with path.open("ab") as file:
            file.write(b"more")
        return content

    monkeypatch.setattr(volume, "read_path", growing)
    with pytest.raises(FormatError, match="changed while it was read"):
        read_volume(tmp_path / "a.tif")


def test_unknown_and_missing_paths(tmp_path):
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(FormatError, match=r"no known format.*\.nrrd"):
        read_volume(tmp_path / "notes.docx")
    with pytest.raises(ScanError, match="does not exist"):
        read_volume(tmp_path / "gone.tif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ScanError, match="is a device or a pipe"):
        read_volume(tmp_path / "a.tif")


def test_nii_gz_beside_its_unpacked_twin_is_not_read_by_mistake(tmp_path):
    write_volume(tmp_path / "a.nii.gz", ramp(3, 4, 5), 3.2)
    write_volume(tmp_path / "a.nii", ramp(3, 4, 5)[::-1], 3.2)
    with pytest.raises(FormatError, match=r"lies beside a\.nii"):
        read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "a.nii").array, ramp(3, 4, 5)[::-1])


# ---------------------------------------------------------------------------------- what files contain


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".tif", ".nrrd"])
def test_nan_and_infinite_values_are_named(bad, suffix, tmp_path):
    array = ramp(4, 5, 6, dtype="float32")
    array[3, 1, 2] = bad
    write_volume(tmp_path / f"a{suffix}", array, 3.2)
    with pytest.raises(ContentError, match=r"NaN or infinite values, first at \(Z, Y, X\) = \(3, 1, 2\)"):
        read_volume(tmp_path / f"a{suffix}")


def test_the_check_goes_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "BLOCK_BYTES", 100)
    array = np.zeros((9, 5, 6), np.float64)
    array[8, 4, 5] = np.nan
    write_volume(tmp_path / "a.tif", array, 3.2)
    with pytest.raises(ContentError, match=r"\(8, 4, 5\)"):
        read_volume(tmp_path / "a.tif")
    array[8, 4, 5] = 1
    write_volume(tmp_path / "a.tif", array, 3.2, overwrite=True)
    assert read_volume(tmp_path / "a.tif").array.sum() == 1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_constant_image_is_an_error(dtype, tmp_path):
    write_volume(tmp_path / "a.tif", np.full((4, 5, 6), 7, dtype), 3.2)
    with pytest.raises(ContentError, match="one grey level 7"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_one_bit_images_are_0_and_255(photometric, tmp_path):
    hard = ramp(4, 8, 16) > 100
    stored = hard if photometric == "minisblack" else ~hard
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric)
    scan = read_volume(tmp_path / "a.tif")
    assert scan.array.dtype == np.uint8 and np.array_equal(scan.array, hard * 255)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), (">u2", 65535)])
def test_what_is_stored_with_0_as_white_is_inverted(dtype, top, compression, tmp_path):
    stored = top - ramp(4, 5, 6, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", compression=compression)
    scan = read_volume(tmp_path / "a.tif", 3.2)
    assert np.array_equal(scan.array, ramp(4, 5, 6)) and scan.array.dtype.isnative
    assert scan.notes == ("stored with 0 as white: inverted",)


def test_packed_bits(tmp_path):
    twelve = ramp(4, 8, 8, dtype="uint16") * 16
    try:
        tifffile.imwrite(tmp_path / "packed.tif", twelve, photometric="minisblack", bitspersample=12)
    except NotImplementedError:
        pytest.skip("this imagecodecs reads packed bits, but does not write them")
    assert np.array_equal(read_volume(tmp_path / "packed.tif").array, twelve)


def test_half_floats_and_transparency(tmp_path):
    half = ramp(4, 8, 8, dtype="float16")
    tifffile.imwrite(tmp_path / "half.tif", half, photometric="minisblack")
    scan = read_volume(tmp_path / "half.tif")
    assert scan.array.dtype == np.float32 and np.array_equal(scan.array, half)
    alpha = np.stack([ramp(4, 8, 9), np.full((4, 8, 9), 255, np.uint8)], -1)
    tifffile.imwrite(
        tmp_path / "alpha.tif", alpha, photometric="minisblack", extrasamples=["unassalpha"], planarconfig=1
    )
    scan = read_volume(tmp_path / "alpha.tif")
    assert np.array_equal(scan.array, ramp(4, 8, 9))
    assert "a transparency channel ignored" in scan.notes


def test_itk_colour_and_time_series(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(ramp(4, 5, 6, 3), isVector=True), str(tmp_path / "colour.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(ramp(2, 4, 5, 6), isVector=False), str(tmp_path / "time.nii.gz"))
    for name in ("colour.nrrd", "time.nii.gz"):
        with pytest.raises(ContentError, match="expected one grey stack"):
            read_volume(tmp_path / name)


def test_itk_spacing_unknown_anisotropic_and_of_a_2d_image(tmp_path):
    image = sitk.GetImageFromArray(ramp(4, 5, 6))
    sitk.WriteImage(image, str(tmp_path / "unknown.mha"))
    scan = read_volume(tmp_path / "unknown.mha")
    assert (scan.voxel_um, scan.voxel_source) == (3.2, "default")
    assert "1000 µm is no micro-CT scan's" in scan.notes[0]
    image.SetSpacing((0.0032, 0.0032, 0.0064))
    sitk.WriteImage(image, str(tmp_path / "tall.mha"))
    with pytest.raises(ContentError, match=r"6\.4 x 3\.2 x 3\.2 µm"):
        read_volume(tmp_path / "tall.mha")
    image.SetSpacing((0.0032, 0.0032, 0.00321))
    sitk.WriteImage(image, str(tmp_path / "nearly.mha"))
    assert read_volume(tmp_path / "nearly.mha").voxel_um == 3.2
    flat = sitk.GetImageFromArray(ramp(5, 6))
    flat.SetSpacing((0.002, 0.002))
    sitk.WriteImage(flat, str(tmp_path / "flat.nrrd"))
    scan = read_volume(tmp_path / "flat.nrrd")
    assert scan.is_image and scan.voxel_um == 2 and scan.array.shape == (5, 1, 6)


def test_an_itk_array_outlives_its_image(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (30, 40, 50), np.uint8)
    write_volume(tmp_path / "a.nrrd", array, 3.2)
    scans = [read_volume(tmp_path / "a.nrrd").array for _ in range(5)]
    assert all(np.array_equal(scan, array) for scan in scans)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".tif"])
def test_a_2d_image_is_one_zx_slice(suffix, tmp_path):
    image = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 9, 1)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    scan = read_volume(tmp_path / f"a{suffix}")
    assert scan.is_image and scan.array.shape == (24, 1, 9)
    assert np.abs(scan.array[:, 0].astype(int) - image).max() <= 2
    assert scan.voxel_source == "default"


def test_colour_png_is_refused_and_equal_channels_are_grey(tmp_path):
    grey = ramp(5, 6)
    cv2.imwrite(str(tmp_path / "grey.png"), np.dstack([grey, grey, grey]))
    scan = read_volume(tmp_path / "grey.png")
    assert np.array_equal(scan.array[:, 0], grey) and "read as grey" in scan.notes[0]
    cv2.imwrite(str(tmp_path / "colour.png"), np.dstack([grey, grey, 255 - grey]))
    with pytest.raises(ContentError, match="is a colour image"):
        read_volume(tmp_path / "colour.png")


def test_a_stack_file_takes_its_voxel_size_from_a_log_beside_it(tmp_path):
    tifffile.imwrite(tmp_path / "S1_rec.tif", ramp(4, 5, 6), photometric="minisblack")
    (tmp_path / "S1_rec.log").write_text("[Reconstruction]\nPixel Size (um)=2.75000\n")
    scan = read_volume(tmp_path / "S1_rec.tif")
    assert (scan.voxel_um, scan.voxel_source) == (2.75, "file")


def test_a_stack_file_that_is_not_of_the_logged_size_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "S1_rec_bin2.tif", ramp(4, 5, 6), photometric="minisblack")
    log = "[Reconstruction]\nPixel Size (um)=2.75\nResult Image Width (pixels)=12\n"
    (tmp_path / "S1_rec.log").write_text(f"{log}Result Image Height (pixels)=10\n")
    (note,) = read_volume(tmp_path / "S1_rec_bin2.tif").notes
    assert "slices are 6 x 5 where S1_rec.log says 12 x 10" in note
    (tmp_path / "S1_rec.log").write_text(f"{log}Section to Section Step=2\n")
    with pytest.raises(ContentError, match=r"voxels of 5.5 x 2.75 x 2.75 µm"):
        read_volume(tmp_path / "S1_rec_bin2.tif")


def test_reading_makes_no_second_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "BLOCK_BYTES", 2**18)
    array = ramp(32, 256, 256)  # 2 MiB
    tifffile.imwrite(tmp_path / "zip.tif", array, compression="zlib", photometric="minisblack")
    read_volume(tmp_path / "zip.tif")
    tracemalloc.start()
    scan = read_volume(tmp_path / "zip.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scan.array.nbytes == array.nbytes
    assert array.nbytes <= peak < 1.5 * array.nbytes


# -------------------------------------------------------------------------------------------- writing


def test_unknown_suffix_names_the_supported_ones(tmp_path):
    with pytest.raises(OutputError, match=r"use one of \.tif, \.tiff, \.nrrd, \.nii\.gz, \.nii, \.mha"):
        write_volume(tmp_path / "a.dcm", ramp(3, 4, 5), 3.2)
    with pytest.raises(OutputError, match="is not a format for a volume"):
        write_volume(tmp_path / "a.png", ramp(3, 4, 5), 3.2)
    with pytest.raises(OutputError, match="is not a format for a 2D image"):
        write_volume(tmp_path / "a.nrrd", ramp(3, 1, 5), 3.2, is_image=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["bool", "float16", "complex64"])
@pytest.mark.parametrize("suffix", STACK_SUFFIXES)
def test_unsupported_dtypes(dtype, suffix, tmp_path):
    with pytest.raises(OutputError, match=f"does not hold {dtype} values"):
        write_volume(tmp_path / f"a{suffix}", np.ones((3, 4, 5), dtype), 3.2)


def test_float_png_and_64_bit_integers(tmp_path):
    with pytest.raises(OutputError, match="does not hold float32"):
        write_volume(tmp_path / "a.png", ramp(3, 1, 5, dtype="float32"), 3.2, is_image=True)
    with pytest.raises(OutputError, match="does not hold int64"):
        write_volume(tmp_path / "a.tif", ramp(3, 4, 5, dtype="int64"), 3.2)
    write_volume(tmp_path / "a.nrrd", ramp(3, 4, 5, dtype="int64"), 3.2)
    assert read_volume(tmp_path / "a.nrrd").array.dtype == np.int64


def test_one_slice_is_no_tiff_stack_but_an_nrrd_one(tmp_path):
    with pytest.raises(OutputError, match="needs two slices"):
        write_volume(tmp_path / "a.tif", ramp(1, 4, 5), 3.2)
    write_volume(tmp_path / "a.nrrd", ramp(1, 4, 5), 3.2)
    scan = read_volume(tmp_path / "a.nrrd")
    assert scan.array.shape == (1, 4, 5) and not scan.is_image


def test_shapes_that_are_a_bug_of_the_caller(tmp_path):
    for array, is_image in (
        (ramp(4, 5), False),
        (ramp(3, 2, 5), True),
        (np.zeros((0, 4, 5), np.uint8), False),
    ):
        with pytest.raises(ValueError, match="not a"):
            write_volume(tmp_path / "a.tif", array, 3.2, is_image=is_image)


@pytest.mark.parametrize("suffix", STACK_SUFFIXES)
def test_nothing_is_overwritten_unless_asked(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_volume(path, ramp(3, 4, 5), 3.2)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        write_volume(path, ramp(3, 4, 5)[::-1], 3.2)
    assert path.read_bytes() == before
    write_volume(path, ramp(3, 4, 5)[::-1], 3.2, overwrite=True)
    assert np.array_equal(read_volume(path).array, ramp(3, 4, 5)[::-1])


@pytest.mark.parametrize("suffix", [".tif", ".nrrd"])
def test_a_failed_write_leaves_nothing(suffix, tmp_path, monkeypatch):
    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(volume, "write_tiff", full_disk)
    monkeypatch.setattr(volume, "write_itk", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_volume(tmp_path / f"a{suffix}", ramp(3, 4, 5), 3.2)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------- names and folders


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("S1.v2.tif", "S1.v2"),
        ("a.OME.TIF", "a"),
        ("a.nii.gz", "a"),
        ("b.nrrd", "b"),
        ("x.ome.tiff", "x"),
        ("c.b.mha", "c.b"),
    ],
)
def test_names(file, name, tmp_path):
    assert Volume(ramp(2, 2, 2), 3.2, "file", tmp_path / file).name == name


def test_a_folder_keeps_its_dots_in_the_name(tmp_path):
    (tmp_path / "S1.tif").mkdir()
    assert Volume(ramp(2, 2, 2), 3.2, "file", tmp_path / "S1.tif").name == "S1.tif"


def test_find_scans(tmp_path):
    write_volume(tmp_path / "S_02.tif", ramp(3, 4, 5), 3.2)
    write_volume(tmp_path / "S_01.tif", ramp(3, 4, 5), 3.2)
    write_volume(tmp_path / "b.nii.gz", ramp(3, 4, 5), 3.2)
    (tmp_path / ".hidden.tif").write_bytes(b"x")
    (tmp_path / "grades.csv").write_text("x")
    (tmp_path / "empty").mkdir()
    stack = tmp_path / "a_stack"
    stack.mkdir()
    for z in range(3):
        cv2.imwrite(str(stack / f"a_rec{z:08d}.bmp"), ramp(4, 5))
    assert [path.name for path in find_scans(tmp_path)] == ["S_01.tif", "S_02.tif", "a_stack", "b.nii.gz"]
    assert find_scans(stack) == [stack]
    assert is_scan(stack) and is_scan(tmp_path / "b.nii.gz")
    assert not any(
        is_scan(tmp_path / name) for name in (".", ".hidden.tif", "grades.csv", "empty", "gone.tif")
    )
    assert find_scans(tmp_path / "empty") == []
    (tmp_path / "empty" / "moved.tif").symlink_to("gone.tif")
    assert [path.name for path in find_scans(tmp_path / "empty")] == ["moved.tif"]  # its error is then told
    with pytest.raises(ScanError, match="is not a folder"):
        find_scans(tmp_path / "gone")


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"S{i:04d}.png"), ramp(4, 5))


@pytest.mark.parametrize("kind", ["S01.tif", "S01.nrrd", "S01.mhd", "slices"])
def test_pictures_beside_a_scan_make_no_stack_but_many_slices_do(kind, tmp_path):
    pictures(tmp_path, 10)
    assert is_stack(tmp_path)
    if kind == "slices":
        pictures(tmp_path / kind, 2)
    elif kind == "S01.mhd":
        (tmp_path / kind).write_text("")
    else:
        write_volume(tmp_path / kind, ramp(3, 4, 5), 3.2)
    assert not is_stack(tmp_path)
    assert tmp_path / kind in find_scans(tmp_path)
    pictures(tmp_path, 11)
    assert is_stack(tmp_path)
    assert find_scans(tmp_path) == [tmp_path]


def test_multi_page_tiffs_are_scans_not_slices(tmp_path):
    for k in (1, 2):
        write_volume(tmp_path / f"S{k}.tif", ramp(3, 4, 5), 3.2)
    assert not is_stack(tmp_path)


def test_a_linked_folder_keeps_the_name_of_the_link(tmp_path, monkeypatch):
    pictures(tmp_path / "rec", 2)
    (tmp_path / "S07_1").symlink_to(tmp_path / "rec")
    assert scan_name(tmp_path / "S07_1") == "S07_1"
    monkeypatch.chdir(tmp_path / "rec")
    assert scan_name(Path(".")) == "rec"


def test_nifti_cut_short_is_recognised_in_either_byte_order(tmp_path):
    header = bytearray(352)
    header[0:4] = struct.pack(">i", 348)
    header[40:56] = struct.pack(">8h", 3, 6, 5, 4, 1, 1, 1, 1)
    header[70:74] = struct.pack(">2h", 2, 8)
    header[76:108] = struct.pack(">8f", 1, 0.0032, 0.0032, 0.0032, 1, 1, 1, 1)
    header[108:112] = struct.pack(">f", 352)
    header[123] = 2  # mm
    header[344:348] = b"n+1\0"
    data = bytes(header) + ramp(4, 5, 6).tobytes()
    path: Path = tmp_path / "a.nii"
    path.write_bytes(data)
    scan = read_volume(path)
    assert np.array_equal(scan.array, ramp(4, 5, 6)) and scan.voxel_um == 3.2
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError, match="472 bytes expected, 471 found"):
        read_volume(path)


def test_too_little_memory_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 5 4 3\nspacings: 0.02 0.02 0.02\nencoding: ascii\n\n"
    (tmp_path / "scan.nrrd").write_text(head + " ".join(map(str, range(60))))
    assert np.array_equal(read_volume(tmp_path / "scan.nrrd").array, ramp(3, 4, 5))

    def fail(_: object) -> None:
        raise RuntimeError("Failed to allocate memory for image.")

    monkeypatch.setattr(sitk.ImageFileReader, "Execute", fail)
    with pytest.raises(MemoryError):
        read_volume(tmp_path / "scan.nrrd")


@pytest.mark.parametrize("voxel_um", [(3.2, 3.2, 3.3), (3.25, 3.2, 3.2)])
def test_voxels_that_are_no_cubes_within_a_hundredth_are_refused(
    tmp_path: Path, voxel_um: tuple[float, float, float]
) -> None:
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    image.SetSpacing([edge / 1000 for edge in voxel_um])
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    with pytest.raises(ContentError, match="cubes within 1 %"):
        read_volume(tmp_path / "scan.nrrd")
    image.SetSpacing((0.0032, 0.0032, 0.00322))
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    assert read_volume(tmp_path / "scan.nrrd").voxel_um == pytest.approx(3.22, abs=0.03)


def test_nan_in_the_last_slice_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "BLOCK_BYTES", 1)
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    array[2, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "scan.tif", array, photometric="minisblack")
    with pytest.raises(ContentError, match=r"\(2, 3, 4\)"):
        read_volume(tmp_path / "scan.tif", 3.2)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_mask_lies_where_its_scan_does(suffix, tmp_path):
    scan = sitk.GetImageFromArray(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    scan.SetSpacing([0.0032] * 3)
    scan.SetOrigin((10.0, 20.0, 30.0))
    scan.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(scan, str(tmp_path / f"scan{suffix}"))
    volume = read_volume(tmp_path / f"scan{suffix}")
    mask = (volume.array > 30).astype(np.uint8) * 255
    write_volume(tmp_path / f"mask{suffix}", mask, volume.voxel_um, frame=volume.frame)
    written = sitk.ReadImage(str(tmp_path / f"mask{suffix}"))
    assert written.GetOrigin() == pytest.approx(scan.GetOrigin(), abs=1e-6)
    assert written.GetDirection() == pytest.approx(scan.GetDirection(), abs=1e-6)
