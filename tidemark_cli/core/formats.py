"""TIFF files to arrays and back, in the conventions of ImageJ, OME and plain TIFF."""

from __future__ import annotations

import logging
import math
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from .errors import ContentError, FormatError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGEJ_DTYPES = ("uint8", "uint16", "int16", "float32")
TIFF_DTYPES = (*IMAGEJ_DTYPES, "int8", "int32", "uint32", "float64")

# A classic TIFF ends at 4 GiB; the rest of the room is for what tifffile has buffered but not yet written.
CLASSIC_TIFF_LIMIT = 2**32 - 2**29

_UNIT_UM = {
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("inch", "in", "inches"), 25400.0),
}
_PRINT_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 360, 400, 600, 720, 1200, 2400)
_UNREADABLE = (
    tifffile.TiffFileError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    OSError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Frame:
    """Where a volume lies in a scanner's or viewer's space, as ITK has it.

    Attributes
    ----------
    origin_mm : (x, y, z) of the first voxel's centre, in mm.
    direction : the 3 x 3 matrix of the axes, row by row.
    edges_mm : (x, y, z) of the voxels as the file has them; empty where it is not of a file.
    """

    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    edges_mm: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Content:
    """What one file or one folder of slices holds.

    Attributes
    ----------
    array : (Z, Y, X), or (rows, columns) of a 2D image; native byte order, memory-mapped where possible.
    spacing_um : voxel edges along the axes of `array` in µm, or None where nothing tells them.
    notes : what the user should hear.
    frame : where ITK places it, or None where the format has no such thing.
    """

    array: np.ndarray
    spacing_um: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    frame: Frame | None = None


def grey_levels(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (rows, columns) of an image (rows, columns[, channels]), and a note if it had channels.

    Raises
    ------
    ContentError
        If the colour channels differ.
    """
    if pixels.ndim == 2:
        return pixels, ()
    grey = pixels[..., 0]
    channels = pixels.shape[2]
    if channels in (3, 4) and all(np.array_equal(grey, pixels[..., k]) for k in (1, 2)):
        return grey, ("equal colour channels, read as grey",)
    raise ContentError(
        f"{path} is a colour image ({channels} different channels); expected grey levels; "
        "export it as greyscale."
    )


def read_tiff(path: Path) -> Content:
    """Read a TIFF, BigTIFF, ImageJ or OME-TIFF file of one stack or one page.

    An uncompressed contiguous stack in the machine's byte order is memory-mapped; anything else is
    read into one array.

    Raises
    ------
    FormatError
        If the file is no TIFF, is cut short or damaged.
    ContentError
        If it is in colour or has other axes than those of one stack or one page.
    """
    with _opened(path) as tif:
        series = tif.series
        depth, rows, columns = shape = _stack_shape(path, series)
        notes = _colour_table_notes(path, tif)
        offset = series[0].dataoffset
        if len(series) == 1 and offset is not None and math.prod(series[0].shape) == math.prod(shape):
            dtype = np.dtype(series[0].dtype).newbyteorder(tif.byteorder)
            array = _mapped(path, shape, dtype, offset)
        else:
            array, more = _decoded(path, shape, [page for one in series for page in one.pages], series[0])
            notes += more
        spacing_um = _spacing_um(tif)
    if depth == 1:
        return Content(array.reshape(rows, columns), spacing_um and spacing_um[1:], notes)
    return Content(array, spacing_um, notes)


def tiff_is_stack(path: Path) -> bool:
    """Tell whether a TIFF file holds more than one page; false where it cannot be read."""
    try:
        with _opened(path) as tif:
            return _stack_shape(path, tif.series)[0] > 1
    except (FormatError, ContentError):
        return False


def write_tiff(path: Path, array: np.ndarray, voxel_um: float, ome: bool = False) -> None:
    """Write a stack (Z, Y, X) or an image (rows, columns), compressed, page by page.

    An ImageJ file where ImageJ knows the dtype and the compressed data fit in a classic TIFF;
    otherwise, or where `ome` asks for it, an OME-BigTIFF, which Fiji opens through Bio-Formats.
    """
    # tifffile takes an X of one voxel for the samples of an ImageJ file
    if array.dtype.name in IMAGEJ_DTYPES and array.shape[-1] > 1 and not ome:
        try:
            _write_pages(path, array, voxel_um, imagej=True)
            return
        except _ClassicTiffFull:
            pass
    _write_pages(path, array, voxel_um, imagej=False)


# ------------------------------------------------------------------------------------------ reading


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF and turn whatever tifffile raises or only logs about damage into a FormatError."""
    complaints = _Complaints()
    log = logging.getLogger("tifffile")
    log.addHandler(complaints)
    log.propagate = False
    try:
        with tifffile.TiffFile(path) as tif:
            _ = tif.series  # the page chain is walked here, and the damage to it logged
            complaints.check()
            yield tif
            complaints.check()
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise FormatError(
            f"{path} is not a whole TIFF file ({str(error)[:80] or type(error).__name__}); "
            "it may be cut short or of another format; copy or export it again."
        ) from error
    finally:
        log.removeHandler(complaints)


class _Complaints(logging.Handler):
    """Collects what tifffile logs about damaged files in this thread instead of raising it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.thread == self.thread and ("offset" in message or "corrupted" in message):
            self.messages.append(message.rpartition("> ")[2])

    def check(self) -> None:
        if self.messages:
            raise ValueError(self.messages[0])


def _stack_shape(path: Path, series: list[tifffile.TiffPageSeries]) -> tuple[int, int, int]:
    """Return (Z, Y, X) of the one stack in a TIFF; Z is 1 for a single page."""
    if not series:
        raise FormatError(f"{path} is a TIFF without any image; export it again.")
    shapes = {one.get_shape(squeeze=False) for one in series}
    if len(shapes) > 1:
        raise ContentError(
            f"{path} holds {len(series)} images of different shapes; expected one stack; "
            "save the stack alone, for example with Fiji."
        )
    lengths = list(zip(series[0].get_axes(squeeze=False), shapes.pop(), strict=True))
    stacked = [(axis, length) for axis, length in lengths if axis not in "YXS" and length > 1]
    if len(series) > 1:
        stacked.append(("I", len(series)))
    if len(stacked) > 1 or any(axis not in "ZIQ" for axis, _ in stacked):
        found = ", ".join(f"{axis}={length}" for axis, length in lengths if length > 1)
        raise ContentError(
            f"{path} has the axes {found}; expected a stack Z, Y, X: which axis is Z cannot be told; "
            "set channels and frames to 1 (Fiji: Image > Properties) and save it again."
        )
    sizes = dict(lengths)
    return (stacked[0][1] if stacked else 1), sizes["Y"], sizes["X"]


def _colour_table_notes(path: Path, tif: tifffile.TiffFile) -> tuple[str, ...]:
    """Say that a colour table or an inverted display is ignored; raise if it means real colours."""
    page = tif.pages.first
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        table = np.asarray(page.colormap)
        if not tif.is_imagej and not (table == np.sort(table[0])).all():
            raise ContentError(
                f"{path} is coloured through a colour table; expected grey levels; export it as greyscale."
            )
        return ("colour table ignored, grey levels read as stored",)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        return ("marked for inverted display, grey levels read as stored",)
    return ()


def _mapped(path: Path, shape: tuple[int, int, int], dtype: np.dtype, offset: int) -> np.ndarray:
    """Return a memory map (Z, Y, X), or a copy where the byte order is not the machine's."""
    needed = offset + math.prod(shape) * dtype.itemsize
    if path.stat().st_size < needed:
        raise ValueError(f"{needed} bytes expected, {path.stat().st_size} found")
    mapped = np.memmap(path, dtype, "r", offset, shape)
    if dtype.isnative:
        return mapped
    array = np.empty(shape, dtype.newbyteorder("="))
    for z in range(shape[0]):
        array[z] = mapped[z]
    return array


def _decoded(
    path: Path, shape: tuple[int, int, int], pages: list[Any], series: tifffile.TiffPageSeries
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a TIFF into one array (Z, Y, X); return it with a note if it had colour channels."""
    if None in pages:
        raise ValueError("it refers to pages in another file that is missing")
    if len(pages) != shape[0]:
        return series.asarray().reshape(shape), ()
    array = np.empty(shape, np.dtype(series.dtype).newbyteorder("="))
    notes: tuple[str, ...] = ()
    for z, page in enumerate(pages):
        pixels = page.asarray()
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, 2)
        array[z], notes = grey_levels(path, pixels)
    return array, notes


# --------------------------------------------------------------------------------------- voxel size


def _spacing_um(tif: tifffile.TiffFile) -> tuple[float, float, float] | None:
    """Return the voxel edges (Z, Y, X) in µm, or None where the file does not tell them."""
    if tif.ome_metadata:
        return _ome_spacing_um(tif.ome_metadata)
    tags = tif.pages.first.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_pixels and x_units and y_pixels and y_units):
        return None
    imagej = tif.imagej_metadata or {}
    unit_um = _unit_um(str(imagej.get("unit", "")))
    if unit_um is None:
        resolution_unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 1
        unit_um = {2: 25400.0, 3: 10000.0}.get(int(resolution_unit))
        imagej = {}  # a Z spacing without a unit tells nothing
    if unit_um is None:
        return None
    x_um, y_um = unit_um * x_units / x_pixels, unit_um * y_units / y_pixels
    if unit_um >= 10000 and any(math.isclose(25400 / x_um, dpi, rel_tol=0.005) for dpi in _PRINT_DPI):
        return None  # a print resolution that ordinary software fills in
    z_um = unit_um * abs(float(imagej.get("spacing", 0))) or x_um
    return z_um, y_um, x_um


def _ome_spacing_um(xml: str) -> tuple[float, float, float] | None:
    try:
        pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    except ElementTree.ParseError:
        return None
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    found: dict[str, float] = {}
    for axis in "XYZ":
        unit_um = _unit_um(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit_um is None:
            return None
        found[axis] = unit_um * float(pixels.get(f"PhysicalSize{axis}", 0)) or found.get("X", 0.0)
    return (found["Z"], found["Y"], found["X"]) if found["X"] else None


def _unit_um(unit: str) -> float | None:
    """Return a unit of length in µm; None for ``pixel`` and whatever else is no length."""
    plain = unit.strip().lower()
    for micro in ("\\u00b5", "\u00c2\u00b5", "\u00b5", "\u03bc"):
        plain = plain.replace(micro.lower(), "u")
    return _UNIT_UM.get(plain)


# ------------------------------------------------------------------------------------------ writing


class _ClassicTiffFull(Exception):
    """The compressed data do not fit in a classic TIFF."""


def _write_pages(path: Path, array: np.ndarray, voxel_um: float, imagej: bool) -> None:
    axes = "ZYX"[-array.ndim :]
    native = array.dtype.newbyteorder("=")
    per_um = Fraction(1 / voxel_um).limit_denominator(10**6)
    metadata: dict[str, Any] = {"axes": axes}
    if imagej:
        metadata |= {"spacing": voxel_um, "unit": "um"}
    else:
        metadata |= {f"PhysicalSize{axis}": voxel_um for axis in "XYZ"}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}

    with tifffile.TiffWriter(path, bigtiff=not imagej, imagej=imagej, ome=not imagej) as writer:

        def pages() -> Iterator[np.ndarray]:
            for page in array if array.ndim == 3 else array[np.newaxis]:
                if imagej and writer.filehandle.tell() > CLASSIC_TIFF_LIMIT:
                    raise _ClassicTiffFull
                yield np.ascontiguousarray(page, native)

        writer.write(
            pages(),
            shape=array.shape,
            dtype=native,
            photometric="minisblack",
            compression="zlib",
            resolution=((per_um.numerator, per_um.denominator),) * 2,
            resolutionunit="none",
            metadata=metadata,
            # older ImageJ takes the data of an ImageJ file for contiguous unless an Orientation is given
            extratags=[(274, "H", 1, 1, False)],
        )
