"""TIFF files to arrays: one stack or one page, whatever wrote it; what a file lacks is told or refused."""

from __future__ import annotations

import logging
import math
import re
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..arrays import empty, memmap
from ..errors import ContentError, FormatError
from .content import Content, grey_levels
from .tiff_pages import PageList, list_pages
from .tiff_texts import Levels, levels_of, spacing_of, told_depth

_GAP = 1024  # bytes by which counts in old files may be wrong
_OWN_TABLES = (6, 7)  # compressions (JPEG) of which each page may have tables of its own
# bytes that one byte may unpack to, by compression: none, LZW, two kinds of Deflate, PackBits
_MOST_PACKED = {1: 1, 5: 5000, 8: 1100, 32946: 1100, 32773: 130}
_MOST_PACKED_ELSE = 200_000
_AXES = {"C": "channels", "T": "frames", "S": "samples"}
_UNREADABLE = (
    tifffile.TiffFileError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    ArithmeticError,
    AssertionError,  # this and the next by tifffile, of kinds of values that it does not know
    AttributeError,
    OSError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class _Stack:
    """Where the slices of a file lie: as one block from `offset`, else page by page."""

    shape: tuple[int, int, int]
    pages: Sequence[Any]
    offset: int | None
    notes: tuple[str, ...]


def read_tiff(path: Path) -> Content:
    """Read a TIFF, BigTIFF, ImageJ or OME-TIFF file of one stack or one page.

    An uncompressed contiguous stack in the machine's byte order is memory-mapped; anything else is
    read into one array. Reduced pages (thumbnails) are passed over, with a note. Grey levels are those
    that a viewer shows: a grey colour table is applied, and what is stored with 0 as white is inverted.

    Raises
    ------
    FormatError
        If the file is no TIFF, is cut short or damaged, or holds more data than its pages.
    ContentError
        If it is in colour or has other axes than those of one stack or one page.
    """
    with _opened(path) as (tif, paged):
        stack = _find_stack(path, tif, paged)
        levels = levels_of(path, stack.pages[0], tif.is_imagej)
        if stack.offset is None:
            _check_room(path, stack)
            array = empty(stack.shape, levels.dtype)
            more = _decoded(path, stack.pages, array, levels)
        else:
            mapped, more = _mapped(path, stack, levels.stored.newbyteorder(tif.byteorder)), ()
            array = mapped
            if not (mapped.dtype.isnative and levels.as_stored):
                array = empty(stack.shape, levels.dtype)
                for z, page in enumerate(mapped):
                    array[z] = levels.of(page)
        spacing_um, told = spacing_of(tif, stack.pages[0])
    notes = stack.notes + levels.notes + more + told
    depth, rows, columns = stack.shape
    if depth == 1:
        return Content(array.reshape(rows, columns), spacing_um and spacing_um[1:], notes)
    return Content(array, spacing_um, notes)


def tiff_is_stack(path: Path) -> bool:
    """Tell whether a TIFF file holds more than one slice; false where it cannot be read."""
    try:
        with _opened(path) as (tif, paged):
            return _find_stack(path, tif, paged).shape[0] > 1
    except (FormatError, ContentError):
        return False


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffFile]]:
    """Open a TIFF and turn whatever tifffile raises or only logs about damage into a FormatError.

    Yields it twice: once with its series, as the texts have them, and once for its pages as they are, since
    series of stale texts spoil these.
    """
    complaints = _Complaints()
    log = logging.getLogger("tifffile")
    log.addFilter(complaints)
    try:
        with tifffile.TiffFile(path) as tif, tifffile.TiffFile(path) as paged:
            _series(tif)  # the page chain is walked here, and the damage to it logged
            complaints.check()
            yield tif, paged
            complaints.check()
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise FormatError(
            f"{path} is not a whole TIFF file ({str(error)[:120] or type(error).__name__}); "
            "it may be cut short or of another format; copy or export it again."
        ) from error
    finally:
        log.removeFilter(complaints)


def _series(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the images of a file as tifffile groups its pages; none where these are of several kinds."""
    try:
        return list(tif.series)
    except RuntimeError:
        return []


class _Complaints(logging.Filter):
    """Keeps to itself what tifffile logs in this thread, and of that what tells of damage."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread:
            return True
        message = record.getMessage()
        of_texts = re.search(
            "(shaped|ImageJ|OME) series", message
        )  # counts in them are compared with the pages here
        of_damage = "offset" in message or "corrupted" in message or "ByteCounts" in message
        if record.levelno >= logging.WARNING and of_damage and not of_texts:
            self.messages.append(message.rpartition("> ")[2])
        return False

    def check(self) -> None:
        if self.messages:
            raise ValueError(self.messages[0])


# ------------------------------------------------------------------------------------------- slices


def _find_stack(path: Path, tif: tifffile.TiffFile, paged: tifffile.TiffFile) -> _Stack:
    """Return where the one stack of a file lies, compared with its pages, its texts and its length."""
    block = _one_block(tif)
    try:
        listed = list_pages(path)
    except ValueError:
        if block is None or not tif.is_imagej:
            raise
        return _with_axis(path, tif, block)  # ImageJ, too, looks at the first page alone
    whole = block is not None and len(listed.pages) in (1, block.shape[0])
    if block is not None and whole and len(listed.pages) < block.shape[0]:
        return _with_axis(path, tif, block)  # all voxels of ImageJ's big stacks belong to the first page
    numbers = listed.slices
    _check_kinds(path, listed, numbers)
    if block is not None and whole:
        return _with_axis(path, tif, block, _counted(tif, listed, block.shape[0]))
    pages = _pages_elsewhere(tif) or _pages(paged, listed, numbers)
    first = pages[0]
    shape = (len(pages) * max(first.imagedepth, 1), first.imagelength, first.imagewidth)
    notes = _counted(tif, listed, len(pages))
    return _with_axis(path, tif, _Stack(shape, pages, None, ()), notes)


def _one_block(tif: tifffile.TiffFile) -> _Stack | None:
    """Return the stack of a file whose voxels lie in one piece, as its texts tell; None of other files."""
    series = _series(tif)
    if len(series) != 1 or series[0].dataoffset is None or tif.pages.first.is_reduced:
        return None
    sizes = dict(zip(series[0].axes, series[0].shape, strict=True))
    if sizes.get("S", 1) > 1 or "Y" not in sizes or "X" not in sizes:
        return None
    depth = math.prod(length for axis, length in sizes.items() if axis not in "YXS")
    return _Stack((depth, sizes["Y"], sizes["X"]), [tif.pages.first], series[0].dataoffset, ())


def _check_kinds(path: Path, listed: PageList, numbers: list[int]) -> None:
    """Raise where the pages are not all of one kind, or where one has no data."""
    kinds = Counter(listed.pages[number].kind for number in numbers)
    if len(kinds) > 1:
        found = ", ".join(f"{n} of {k[0]} x {k[1]} in {k[2]} bits" for k, n in kinds.most_common(3))
        raise ContentError(
            f"{path} holds {len(numbers)} images of different shapes or kinds ({found}); expected one stack; "
            "save the stack alone, for example with Fiji."
        )
    for number in numbers:
        page = listed.pages[number]
        if not page.offsets or 0 in page.offsets or (page.compressed and 0 in page.byte_counts):
            raise ValueError(f"page {number + 1} of {len(listed.pages)} has no data")


def _pages(paged: tifffile.TiffFile, listed: PageList, numbers: list[int]) -> list[Any]:
    """Return pages, the first of them in full, the others quickly where all are laid out as it is."""
    layouts = {listed.pages[number].layout for number in numbers}
    first = paged.pages[numbers[0]]
    if len(layouts) == 1 and layouts.pop()[0] not in _OWN_TABLES:
        paged.pages.useframes = True
        paged.pages.set_keyframe(numbers[0])
    return [first, *(paged.pages[number] for number in numbers[1:])]


def _pages_elsewhere(tif: tifffile.TiffFile) -> list[Any]:
    """Return the pages of an OME-TIFF of several files; none of other files."""
    if len(set(re.findall(r'FileName="([^"]+)"', tif.ome_metadata or ""))) < 2:
        return []
    pages = [page for one in _series(tif) for page in one.pages]
    if None in pages:
        raise ValueError("it refers to pages in another file that is missing")
    return pages


def _counted(tif: tifffile.TiffFile, listed: PageList, held: int) -> tuple[str, ...]:
    """Return notes of pages passed over or missing; raise where the file is larger than its pages."""
    told = told_depth(tif)
    says = f", its description tells {told}" if told > held else ""
    half_a_page = np.median([sum(page.byte_counts) for page in listed.pages]) / 2
    if listed.unused_bytes > half_a_page:
        raise ValueError(
            f"its list of pages ends after {len(listed.pages)}{says}, but {listed.unused_bytes} bytes of "
            "data belong to none of these"
        )
    if told > held == 1:
        raise ValueError(f"it holds 1 page{says}")
    notes: tuple[str, ...] = ()
    if skipped := len(listed.pages) - len(listed.slices):
        notes += (f"{skipped} reduced image(s) in the file (thumbnails) passed over",)
    if told > 1 and told != held:
        notes += (f"its description tells {told} slices, the file holds {held}: these {held} are read",)
    return notes


def _with_axis(path: Path, tif: tifffile.TiffFile, stack: _Stack, notes: tuple[str, ...] = ()) -> _Stack:
    """Return a stack with notes; raise where its texts tell of two axes beside rows and columns."""
    series = _series(tif)
    if not series:
        return replace(stack, notes=notes)
    lengths = list(zip(series[0].axes, series[0].shape, strict=True))
    stacked = [(axis, length) for axis, length in lengths if axis not in "YXS" and length > 1]
    if math.prod(length for _, length in stacked) * len(series) != stack.shape[0]:
        stacked = []  # the texts are not of these pages
    elif len(series) > 1 and series[0].kind != "generic":
        stacked.append(("I", len(series)))
    if len(stacked) > 1:
        found = ", ".join(f"{axis}={length}" for axis, length in lengths if length > 1)
        found += f" and {len(series)} such images" if len(series) > 1 else ""
        raise ContentError(
            f"{path} has the axes {found}; expected a stack Z, Y, X: which axis is Z cannot be told; "
            "set channels and frames to 1 (Fiji: Image > Properties) and save it again."
        )
    if stacked and stacked[0][0] not in "ZIQ":
        axis, length = stacked[0]
        notes += (f"{length} {_AXES.get(axis, f'steps of axis {axis}')} taken for slices",)
    return replace(stack, notes=notes)


# -------------------------------------------------------------------------------------------- voxels


def _mapped(path: Path, stack: _Stack, dtype: np.dtype) -> np.ndarray:
    """Return a memory map (Z, Y, X) in the byte order of the file."""
    assert stack.offset is not None
    needed = stack.offset + math.prod(stack.shape) * dtype.itemsize
    if path.stat().st_size < needed:
        raise ValueError(f"{needed} bytes expected, {path.stat().st_size} found")
    return memmap(path, dtype, stack.offset, stack.shape)


def _check_room(path: Path, stack: _Stack) -> None:
    """Raise where so few bytes cannot hold so many voxels, before room is made for these."""
    first = stack.pages[0]
    most = _MOST_PACKED.get(first.compression, _MOST_PACKED_ELSE)
    counts = [sum(page.databytecounts) for page in stack.pages]
    longest, size = max(max(page.databytecounts, default=0) for page in stack.pages), path.stat().st_size
    if longest > size:
        raise ValueError(f"one part of it is of {longest} bytes, all of it of {size}")
    bits = first.bitspersample if isinstance(first.bitspersample, int) else 8
    pieces = [(math.prod(stack.shape), sum(counts))]
    if first.is_tiled:
        pieces.append((first.tilewidth * first.tilelength * first.tiledepth, max(first.databytecounts)))
    for voxels, held in pieces:
        if voxels * bits / 8 > most * (held + _GAP):
            raise ValueError(f"{voxels} voxels cannot lie in {held} bytes")


def _decoded(path: Path, pages: Sequence[Any], array: np.ndarray, levels: Levels) -> tuple[str, ...]:
    """Decode pages into (Z, Y, X); return notes if they had colour channels."""
    notes: tuple[str, ...] = ()
    if len(pages) != len(array):  # pages of several slices each
        depth = len(array) // len(pages)
        for number, page in enumerate(pages):
            array[number * depth : (number + 1) * depth] = levels.of(page.asarray())
        return notes
    for z, page in enumerate(pages):
        pixels = page.asarray()
        if pixels.ndim == 3 and page.axes[0] == "S":
            pixels = np.moveaxis(pixels, 0, 2)
        grey, notes = grey_levels(path, pixels)
        array[z] = levels.of(grey)
    return notes
