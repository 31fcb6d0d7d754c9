"""What was written, read back: libraries do not all say that a disk was full."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

_CHUNK = 1 << 20  # bytes
_MOST_HEADER = 1 << 16  # bytes
_NIFTI_START = 352  # bytes before the voxels of a NIfTI-1 file

# where the header ends, of the text headers that ITK writes
_HEADER_END = {".nrrd": b"\n\n", ".mha": b"ElementDataFile = LOCAL\n"}
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, LookupError, tifffile.TiffFileError)


def check_tiff(path: Path, pixels: np.ndarray) -> None:
    """Raise an OSError unless a TIFF has a page for each slice of ``(Z, Y, X)``, with its very pixels.

    An image (rows, columns) is one page. A page at a time is held.
    """
    stack = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    try:
        with tifffile.TiffFile(path) as tif:
            whole = len(tif.pages) == len(stack)
            for page, plane in zip(tif.pages, stack, strict=False):
                whole = whole and page.asarray().tobytes() == plane.astype(page.dtype, copy=False).tobytes()
    except _UNREADABLE as error:
        raise _other() from error
    if not whole:
        raise _other()


def check_itk(path: Path, suffix: str, array: np.ndarray) -> None:
    """Raise an OSError unless a NRRD, MetaImage or NIfTI file that ITK has written holds ``(Z, Y, X)``.

    The stream is unpacked to its end, checksum and all, and compared byte by byte; a chunk at a time is held.
    """
    expected = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).data.cast("B")
    position = 0
    try:
        with path.open("rb") as file:
            for chunk in _voxels(file, suffix):
                if chunk != expected[position : position + len(chunk)]:
                    raise _other()
                position += len(chunk)
    except _UNREADABLE as error:
        raise _other() from error
    if position != len(expected):
        raise _other()


def _voxels(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """Yield the bytes of the voxels, unpacked, in the order of the file."""
    stream: BinaryIO | gzip.GzipFile = file
    if suffix in (".nii", ".nii.gz"):
        stream = gzip.GzipFile(fileobj=file) if suffix == ".nii.gz" else file
        stream.read(_NIFTI_START)
        yield from _chunks(stream)
        return
    head, end, _ = file.read(_MOST_HEADER).partition(_HEADER_END[suffix])
    file.seek(len(head) + len(end))
    if re.search(rb"^encoding: gzip", head, re.MULTILINE):
        stream = gzip.GzipFile(fileobj=file)
    if re.search(rb"^CompressedData = True", head, re.MULTILINE):
        yield from _inflated(_chunks(file))
    else:
        yield from _chunks(stream)


def _chunks(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    for chunk in chunks:
        while chunk:
            yield stream.decompress(chunk, _CHUNK)
            chunk = stream.unconsumed_tail
    if not stream.eof:
        raise EOFError


def _other() -> OSError:
    return OSError(
        "what is on the disk is not what was written; it may be full, or a quota reached: free some space "
        "and run again"
    )
