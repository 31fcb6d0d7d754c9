"""What a file of a scan holds; and arrays to TIFF files, in the conventions of ImageJ, OME and plain TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..errors import ContentError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGEJ_DTYPES = ("uint8", "uint16", "int16", "float32")
TIFF_DTYPES = (*IMAGEJ_DTYPES, "int8", "int32", "uint32", "float64")

# A classic TIFF ends at 4 GiB; the rest of the room is for what tifffile has buffered but not yet written.
CLASSIC_TIFF_LIMIT = 2**32 - 2**29


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
    if channels == 2 and (pixels[..., 1] == pixels[0, 0, 1]).all():
        return grey, ("a transparency channel ignored",)
    raise ContentError(
        f"{path} is a colour image ({channels} different channels); expected grey levels; "
        "export it as greyscale."
    )


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
