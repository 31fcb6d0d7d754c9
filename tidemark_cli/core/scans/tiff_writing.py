"""Arrays to TIFF files, in the conventions of ImageJ, OME and plain TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

IMAGEJ_DTYPES = ("uint8", "uint16", "int16", "float32")
TIFF_DTYPES = (*IMAGEJ_DTYPES, "int8", "int32", "uint32", "float64")

# A classic TIFF ends at 4 GiB; the rest of the room is for what tifffile has buffered but not yet written.
CLASSIC_TIFF_LIMIT = 2**32 - 2**29


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
