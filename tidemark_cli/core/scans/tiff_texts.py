"""What the tags and texts of a TIFF file tell: how many slices, what its grey levels mean, its voxel size."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from ..errors import ContentError
from .units import unit_um, unknown_unit

_PRINT_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 360, 400, 600, 720, 1200, 2400)


# ------------------------------------------------------------------------------------------- counts


def told_depth(tif: tifffile.TiffFile) -> int:
    """Return how many slices the texts of ImageJ, OME or tifffile tell of; 0 where there are none."""
    page = tif.pages.first
    if tif.ome_metadata:
        return sum(_ome_planes(pixels, page.samplesperpixel) for pixels in _ome_pixels(tif.ome_metadata))
    if tif.imagej_metadata:
        counts = {key: _count(tif.imagej_metadata.get(key, 1)) for key in ("frames", "slices", "channels")}
        if counts["channels"] == page.samplesperpixel:
            counts["channels"] = 1
        several = math.prod(counts.values())
        return several if several > 1 else _count(tif.imagej_metadata.get("images", 0))
    shape = _shaped(tif).get("shape", [])
    if not isinstance(shape, list) or not all(isinstance(length, int) for length in shape):
        return 0
    return math.prod(shape) // max(page.size, 1)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _shaped(tif: tifffile.TiffFile) -> dict[str, Any]:
    """Return what a script has given tifffile to write beside the shape; empty where it has not."""
    text = tif.pages.first.description
    if not text.startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if "shape" in found else {}


def _ome_pixels(xml: str) -> Iterator[ElementTree.Element]:
    try:
        yield from ElementTree.fromstring(xml).iterfind(".//{*}Pixels")
    except ElementTree.ParseError:
        return


def _ome_planes(pixels: ElementTree.Element, samples: int) -> int:
    try:
        z, c, t = (int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
    except ValueError:
        return 0
    return z * t * (c // samples if c % samples == 0 else c)


# -------------------------------------------------------------------------------------- grey levels


@dataclass(frozen=True)
class Levels:
    """How stored values become grey levels.

    Attributes
    ----------
    stored, dtype : of the values in the file and of the grey levels, in native byte order.
    table : the grey level of each stored value, or None.
    top : of a scan stored with 0 as white, the stored value of black; else None.
    notes : what the user should hear.
    """

    stored: np.dtype
    dtype: np.dtype
    table: np.ndarray | None = None
    top: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def as_stored(self) -> bool:
        """Whether the stored values are the grey levels."""
        return self.stored == self.dtype and self.table is None and self.top is None

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the grey levels of stored values."""
        if self.table is not None:
            return self.table[values]
        if self.top is not None:
            values = self.dtype.type(self.top) - values.astype(self.dtype)
        return values * self.dtype.type(255) if self.stored.kind == "b" else values


def levels_of(path: Path, page: tifffile.TiffPage, imagej: bool) -> Levels:
    """Return how the values of a page, and of others of its kind, become grey levels.

    Values of one bit become 0 and 255, float16 becomes float32; a grey colour table is applied, and what is
    stored with 0 as white is inverted, as viewers do. The colour tables of ImageJ are for display alone.

    Raises
    ------
    ContentError
        If a colour table holds colours.
    """
    if page.dtype is None:
        raise ValueError("its kind of values is unknown")
    stored = np.dtype(page.dtype).newbyteorder("=")
    dtype = np.dtype({"bool": "uint8", "float16": "float32"}.get(stored.name, stored.name))
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        table = np.asarray(page.colormap)
        if imagej:
            return Levels(stored, dtype, notes=("colour table ignored, grey levels read as stored",))
        if not (table == table[0]).all():
            raise ContentError(
                f"{path} is coloured through a colour table; expected grey levels; export it as greyscale."
            )
        grey = (table[0] >> 8).astype(np.uint8) if len(table[0]) <= 256 else table[0]
        return Levels(stored, grey.dtype, table=grey, notes=("grey levels read through the colour table",))
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        if stored.kind not in "ub":
            return Levels(stored, dtype, notes=("marked for inverted display, grey levels read as stored",))
        bits = page.bitspersample if isinstance(page.bitspersample, int) else stored.itemsize * 8
        return Levels(stored, dtype, top=2**bits - 1, notes=("stored with 0 as white: inverted",))
    return Levels(stored, dtype)


# --------------------------------------------------------------------------------------- voxel size


def spacing_of(
    tif: tifffile.TiffFile, page: tifffile.TiffPage
) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    """Return the voxel edges (Z, Y, X) in µm, None where they are not told, and a note of an unknown unit."""
    if tif.ome_metadata:
        return ome_spacing_um(tif.ome_metadata)
    tags = page.tags
    texts = tif.imagej_metadata or _shaped(tif)
    unit = str(texts.get("unit", ""))
    notes = unknown_unit(unit)
    scale_um = unit_um(unit)
    if "XResolution" not in tags or "YResolution" not in tags:
        return None, notes
    (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_pixels and x_units and y_pixels and y_units):
        return None, notes
    if scale_um is None:
        resolution_unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 1
        scale_um = {2: 25400.0, 3: 10000.0}.get(int(resolution_unit))
        texts = {}  # a Z spacing without a unit tells nothing
    if scale_um is None:
        return None, notes
    y_scale_um, z_scale_um = (unit_um(str(texts.get(key, ""))) or scale_um for key in ("yunit", "zunit"))
    x_um, y_um = scale_um * x_units / x_pixels, y_scale_um * y_units / y_pixels
    if scale_um >= 10000 and any(math.isclose(25400 / x_um, dpi, rel_tol=0.005) for dpi in _PRINT_DPI):
        return None, notes  # a print resolution that ordinary software fills in
    return (z_scale_um * abs(_number(texts.get("spacing"))) or x_um, y_um, x_um), notes


def ome_spacing_um(xml: str) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    """Return the voxel edges (Z, Y, X) in µm that an OME text tells, and a note of an unknown unit."""
    pixels = next(_ome_pixels(xml), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None, ()
    found: dict[str, float] = {}
    for axis in "XYZ":
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        scale_um = unit_um(unit)
        if scale_um is None:
            return None, unknown_unit(unit)
        found[axis] = scale_um * _number(pixels.get(f"PhysicalSize{axis}")) or found.get("X", 0.0)
    return ((found["Z"], found["Y"], found["X"]) if found["X"] else None), ()


def _number(value: object) -> float:
    """Return a number as files write it, 0 where it is none or not finite."""
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
