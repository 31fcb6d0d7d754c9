"""Reconstructions of Zeiss (Xradia) X-ray microscopes: TXM, a file of OLE streams, one a slice."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from .. import lazily
from ..arrays import empty
from ..errors import FormatError
from .content import Content, known_edges

olefile = lazily.imported("olefile")

_TYPES = {3: "u1", 5: "<u2", 10: "<f4"}
_IN_ONE_FOLDER = 100  # slices


def read_txm(path: Path) -> Content:
    """Read a TXM file: (Z, Y, X), 8-bit, 16-bit or float.

    Raises
    ------
    FormatError
        If it is damaged, or holds projections (TXRM).
    """
    if path.suffix.lower() == ".txrm":
        raise FormatError(
            f"{path} holds the projections of a Zeiss Xradia scan; expected its reconstruction, a .txm file."
        )
    try:
        with path.open("rb") as file, olefile.OleFileIO(file) as ole:
            return _slices(path, ole)
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        if isinstance(error, PermissionError):
            raise
        raise FormatError(
            f"{path} is not a whole Zeiss Xradia TXM file ({str(error)[:100]}); copy or export it again."
        ) from error


def _slices(path: Path, ole: Any) -> Content:
    columns, rows, depth, kind = (
        _number(ole, name, "<i") for name in ("ImageWidth", "ImageHeight", "NoOfImages", "DataType")
    )
    if kind not in _TYPES:
        raise ValueError(f"voxels of kind {kind}")
    dtype = np.dtype(_TYPES[kind])
    nbytes = rows * columns * dtype.itemsize
    if min(rows, columns, depth) < 1 or nbytes * depth > path.stat().st_size:
        raise ValueError(f"{columns} x {rows} x {depth} voxels do not fit in it")
    array = empty((depth, rows, columns), dtype.newbyteorder("="))
    for z in range(depth):
        data = ole.openstream(f"ImageData{z // _IN_ONE_FOLDER + 1}/Image{z + 1}").read()
        if len(data) != nbytes:
            raise ValueError(f"slice {z + 1} of {depth} has {len(data)} bytes where {nbytes} are expected")
        array[z] = np.frombuffer(data, dtype).reshape(rows, columns)
    edge_um = _number(ole, "PixelSize", "<f") if ole.exists("ImageInfo/PixelSize") else 0.0
    return Content(array, known_edges((edge_um,) * 3, 7))


def _number(ole: Any, name: str, kind: str) -> Any:
    data = ole.openstream(f"ImageInfo/{name}").read(struct.calcsize(kind))
    return struct.unpack(kind, data)[0]
