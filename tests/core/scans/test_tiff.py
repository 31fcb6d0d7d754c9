"""TIFF files whose list of pages is broken, mixed, or not what their texts tell."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.tiff import read_tiff, tiff_is_stack
from tidemark_cli.core.scans.tiff_pages import list_pages

DEPTH = 12


@pytest.fixture
def array() -> np.ndarray:
    """A stack (12, 64, 64) that does not compress: each page has more than 4,000 bytes."""
    return np.random.default_rng(0).integers(0, 255, (DEPTH, 64, 64), np.uint8)


def write_pages(path: Path, array: np.ndarray, **options: object) -> None:
    """Write page by page, each directory before its data, as libtiff's programs do; no description."""
    with tifffile.TiffWriter(path) as out:
        for page in array:
            out.write(page, contiguous=False, metadata=None, photometric="minisblack", **options)


def directories(path: Path) -> list[int]:
    with tifffile.TiffFile(path) as tif:
        return [page.offset for page in tif.pages]


def change(path: Path, at: int, new: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)


def set_next(path: Path, directory: int, following: int) -> None:
    data = path.read_bytes()
    if data[2] == 43:  # BigTIFF
        (tags,) = struct.unpack_from("<Q", data, directory)
        change(path, directory + 8 + 20 * tags, struct.pack("<Q", following))
    else:
        (tags,) = struct.unpack_from("<H", data, directory)
        change(path, directory + 2 + 12 * tags, struct.pack("<I", following))


# ------------------------------------------------------------------------------------ broken lists


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("writer", ["pages", "shaped", "imagej", "ome", "big"])
@pytest.mark.parametrize("lost", ["directory", "pointer", "skipped"])
def test_a_broken_list_of_pages_never_gives_fewer_slices(writer, lost, compression, array, tmp_path):
    path = tmp_path / "a.tif"
    if writer == "pages":
        write_pages(path, array, compression=compression)
    elif writer == "big":
        tifffile.imwrite(path, array, compression=compression, bigtiff=True, photometric="minisblack")
    else:
        kind: dict[str, object] = {} if writer == "shaped" else {writer: True, "metadata": {"axes": "ZYX"}}
        tifffile.imwrite(path, array, compression=compression, photometric="minisblack", **kind)
    offsets = directories(path)
    if lost == "directory":
        change(path, offsets[7], bytes(64))
    else:
        set_next(path, offsets[6], 0 if lost == "pointer" else offsets[9])
    try:
        content = read_tiff(path)
    except FormatError:
        return
    assert np.array_equal(content.array, array)  # where the voxels lie in one piece


@pytest.mark.parametrize("last", [1, 8, 11])
def test_a_list_that_ends_before_the_data_says_so(last, array, tmp_path):
    write_pages(tmp_path / "a.tif", array)
    offsets = directories(tmp_path / "a.tif")
    set_next(tmp_path / "a.tif", offsets[last - 1], 0)
    with pytest.raises(
        FormatError, match=rf"its list of pages ends after {last}, but \d+ bytes of data belong"
    ):
        read_tiff(tmp_path / "a.tif")


def test_a_list_in_a_circle(array, tmp_path):
    write_pages(tmp_path / "a.tif", array)
    offsets = directories(tmp_path / "a.tif")
    set_next(tmp_path / "a.tif", offsets[-1], offsets[3])
    with pytest.raises(FormatError, match="circ"):
        read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("tag", ["StripOffsets", "StripByteCounts"])
def test_a_page_without_data_is_no_black_slice(tag, array, tmp_path):
    write_pages(tmp_path / "a.tif", array, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        at = tif.pages[5].tags[tag].valueoffset
    change(tmp_path / "a.tif", at, bytes(4))
    with pytest.raises(FormatError, match="is not a whole TIFF file"):
        read_tiff(tmp_path / "a.tif")


def test_the_pages_of_a_whole_file_use_all_of_it(array, tmp_path):
    write_pages(tmp_path / "a.tif", array)
    listed = list_pages(tmp_path / "a.tif")
    assert listed.unused_bytes == 0 and listed.slices == list(range(DEPTH))
    assert listed.pages[3].kind == (64, 64, 8, 1, 1, 1)


# ------------------------------------------------------------------------------- stale descriptions


def description(kind: str, depth: int) -> str:
    if kind == "imagej":
        return f"ImageJ=1.54f\nimages={depth}\nslices={depth}\nunit=um\nspacing=3.2\n"
    if kind == "shaped":
        return f'{{"shape": [{depth}, 64, 64]}}'
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="64" '
        f'SizeC="1" SizeT="1" SizeZ="{depth}"><TiffData/></Pixels></Image></OME>'
    )


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("told", [DEPTH - 4, DEPTH + 30])
@pytest.mark.parametrize("kind", ["imagej", "shaped", "ome"])
def test_all_pages_are_read_whatever_the_description_counts(kind, told, compression, array, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for number, page in enumerate(array):
            text = description(kind, told) if number == 0 else None
            out.write(page, contiguous=False, metadata=None, description=text, compression=compression)
    content = read_tiff(tmp_path / "a.tif")
    assert np.array_equal(content.array, array)
    assert f"its description tells {told} slices, the file holds 12: these 12 are read" in content.notes
    assert tiff_is_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["imagej", "shaped", "ome"])
def test_one_page_of_many_is_no_picture(kind, array, tmp_path):
    text = description(kind, 100)
    tifffile.imwrite(tmp_path / "a.tif", array[0], metadata=None, description=text, compression="zlib")
    with pytest.raises(FormatError, match="is not a whole TIFF file"):
        read_tiff(tmp_path / "a.tif")


# ------------------------------------------------------------------------- thumbnails, pages of two kinds


def thumbnail(out: tifffile.TiffWriter, array: np.ndarray) -> None:
    out.write(array[5, ::4, ::4], subfiletype=1, metadata=None, photometric="minisblack")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_thumbnails_are_no_slices(place, array, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for number, page in enumerate(array):
            if (place, number) in (("first", 0), ("middle", 6)):
                thumbnail(out, array)
            out.write(
                page,
                contiguous=False,
                metadata=None,
                photometric="minisblack",
                resolution=(500, 500),
                resolutionunit="centimeter",
            )
        if place == "last":
            thumbnail(out, array)
    content = read_tiff(tmp_path / "a.tif")
    assert np.array_equal(content.array, array) and content.spacing_um == (20, 20, 20)
    assert content.notes == ("1 reduced image(s) in the file (thumbnails) passed over",)


def test_one_slice_with_its_thumbnail_is_a_picture(array, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(array[0], metadata=None, photometric="minisblack")
        thumbnail(out, array)
    assert np.array_equal(read_tiff(tmp_path / "a.tif").array, array[0])
    assert not tiff_is_stack(tmp_path / "a.tif")


Change = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize(
    "odd", [lambda page: page.astype(np.uint16), lambda page: page[:50], lambda page: page.T[:9]]
)
@pytest.mark.parametrize("at", [0, 4, DEPTH - 1])
def test_pages_of_two_kinds_are_refused(odd: Change, at: int, array: np.ndarray, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for number, page in enumerate(array):
            out.write(
                odd(page) if number == at else page, contiguous=False, metadata=None, photometric="minisblack"
            )
    with pytest.raises(
        ContentError, match=r"12 images of different shapes or kinds \(11 of 64 x 64 in 8 bits"
    ):
        read_tiff(tmp_path / "a.tif")


def test_pages_of_two_compressions_are_one_stack(array, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for number, page in enumerate(array):
            out.write(page, contiguous=False, metadata=None, compression="zlib" if number % 2 else None)
    assert np.array_equal(read_tiff(tmp_path / "a.tif").array, array)


@pytest.mark.parametrize(
    ("tag", "compression"),
    [("ImageLength", "zlib"), ("TileLength", "zlib"), ("TileWidth", "zstd"), ("StripByteCounts", "packbits")],
)
def test_sizes_that_the_data_cannot_fill_are_refused_before_room_is_made(tag, compression, array, tmp_path):
    tiles = {"tile": (16, 16)} if "Tile" in tag else {}
    tifffile.imwrite(tmp_path / "a.tif", array[0], compression=compression, metadata=None, **tiles)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        entry = tif.pages.first.tags[tag].offset
    change(tmp_path / "a.tif", entry + 2, struct.pack("<HII", 4, 1, 2**31 - 16))
    with pytest.raises(FormatError, match="not a whole TIFF file"):
        read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("propagate", [True, False])
def test_the_logger_of_tifffile_stays_as_it_was(propagate, array, tmp_path, monkeypatch):
    log = logging.getLogger("tifffile")
    monkeypatch.setattr(log, "propagate", propagate)
    handlers, level = list(log.handlers), log.level
    write_pages(tmp_path / "a.tif", array)
    read_tiff(tmp_path / "a.tif")
    change(tmp_path / "a.tif", directories(tmp_path / "a.tif")[3], bytes(64))
    with pytest.raises(FormatError):
        read_tiff(tmp_path / "a.tif")
    assert (log.propagate, log.handlers, log.level) == (propagate, handlers, level)
    assert log.filters == []


@pytest.mark.parametrize("tag", ["BitsPerSample", "SampleFormat"])
def test_a_kind_of_values_that_is_unknown_is_refused(tag, array, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", array.astype(np.int16), tile=(16, 16), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages.first.tags[tag].overwrite(255)
    with pytest.raises(FormatError, match="not a whole TIFF file"):
        read_tiff(tmp_path / "a.tif")
