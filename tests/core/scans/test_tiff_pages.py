"""The list of pages of a TIFF file: followed, counted, and what of the file belongs to none of them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tidemark_cli.core.scans.tiff_pages import list_pages

STACK = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_every_page_is_found(tmp_path: Path, byteorder: str, bigtiff: bool) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, byteorder=byteorder, bigtiff=bigtiff, photometric="minisblack")
    pages = list_pages(path)
    assert len(pages.pages) == 3 and pages.slices == [0, 1, 2]
    assert pages.pages[0].kind[:3] == (5, 4, 16)  # columns, rows, bits
    assert not pages.pages[0].compressed
    assert [page.byte_counts for page in pages.pages] == [(40,)] * 3
    assert pages.unused_bytes == 0


def test_compression_and_thumbnails_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0], compression="zlib")
        writer.write(STACK[0, ::2, ::2], subfiletype=1)
    pages = list_pages(path)
    assert [page.compressed for page in pages.pages] == [True, False]
    assert [page.reduced for page in pages.pages] == [False, True]
    assert pages.slices == [0]


def test_bytes_that_no_page_uses_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert list_pages(path).unused_bytes == pytest.approx(5000, abs=32)  # less than 2 KiB within is room
    assert path.stat().st_size == whole + 5000


def test_a_list_that_turns_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    head, tag = b"II*\0" + struct.pack("<I", 8), struct.pack("<HHII", 256, 4, 1, 5)
    path.write_bytes(head + struct.pack("<H", 1) + tag + struct.pack("<I", 8))
    with pytest.raises(ValueError, match="circle after 1"):
        list_pages(path)


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"not a TIFF file at all", "not a TIFF"), (b"II*\0" + struct.pack("<I", 4000) + bytes(8), "broken")],
)
def test_what_is_no_list_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=told):
        list_pages(path)


def test_a_file_that_was_begun_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(ValueError, match="no page"):
        list_pages(tmp_path / "a.tif")
