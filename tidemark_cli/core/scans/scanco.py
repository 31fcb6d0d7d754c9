"""Scans of Scanco scanners: ISQ, and AIM where it is not compressed.

The headers are small and public. The one maintained reader (itk-ioscanco) brings all of ITK once more, over
200 MB; the others on PyPI read one kind of voxels, or none.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import FormatError
from .content import Content, known_edges
from .voxels import map_voxels

_ISQ_MAGIC = b"CTDATA-HEADER_V1"
_AIM_MAGIC = b"AIMDATA_V030"
_ISQ_KINDS = (1, 2, 3)  # of data; 9 is a radiograph
_BLOCK = 512
_AIM_TYPES = {0x00010001: "i1", 0x000D0001: "u1", 0x00160001: "u1", 0x00020002: "<i2", 0x00170002: "<u2"}
_AIM_TYPES |= {0x00030004: "<i4", 0x001A0004: "<f4"}
_AIM_PACKED = (0x00150001, 0x00080002, 0x00060001)


def read_isq(path: Path) -> Content:
    """Read an ISQ file: 16-bit (Z, Y, X), memory-mapped.

    Raises
    ------
    FormatError
        If it is no such file, or cut short.
    """
    with path.open("rb") as file:
        head = file.read(_BLOCK)
    if len(head) < _BLOCK or not head.startswith(_ISQ_MAGIC):
        raise FormatError(f"{path} is no Scanco ISQ file: it does not begin with its mark; copy it again.")
    x, y, z, *edges_um = struct.unpack_from("<6i", head, 44)
    (blocks,) = struct.unpack_from("<i", head, 508)
    (kind,) = struct.unpack_from("<i", head, 16)
    if kind not in _ISQ_KINDS or blocks < 0:
        raise FormatError(f"{path} holds no reconstructed scan (kind {kind}); give the ISQ file of one.")
    array = map_voxels(path, np.dtype("<i2"), (blocks + 1) * _BLOCK, (z, y, x))
    spacing_um = tuple(length / count for length, count in zip(edges_um, (x, y, z), strict=True))[::-1]
    return Content(array, known_edges(spacing_um))


class _Aim(NamedTuple):
    """Where the parts of an AIM file lie, in 32 or 64 bits."""

    start: int
    word: str
    type_at: int
    size_at: int
    edges_at: int


_OLD_AIM = _Aim(0, "i", 20, 36, 108)
_NEW_AIM = _Aim(16, "q", 12, 40, 184)


def read_aim(path: Path) -> Content:
    """Read an AIM file of version 2 or 3: (Z, Y, X), memory-mapped.

    Raises
    ------
    FormatError
        If it is no such file, cut short, or compressed, as segmented ones are.
    """
    with path.open("rb") as file:
        head = file.read(_BLOCK)
    layout = _NEW_AIM if head.startswith(_AIM_MAGIC) else _OLD_AIM
    width = struct.calcsize(layout.word)
    try:
        lengths = struct.unpack_from(f"<3{layout.word}", head, layout.start)
        at = layout.start + lengths[0]
        (kind,) = struct.unpack_from("<i", head, at + layout.type_at)
        x, y, z = struct.unpack_from(f"<3{layout.word}", head, at + layout.size_at)
        edges = head[at + layout.edges_at : at + layout.edges_at + 3 * width]
        if lengths[0] != 5 * width or min(lengths) < 0 or len(edges) < 3 * width:
            raise ValueError(f"its parts are of {lengths} bytes")
    except (struct.error, ValueError) as error:
        raise FormatError(f"{path} is no Scanco AIM file ({error}); copy it again.") from error
    if kind not in _AIM_TYPES:
        told = "compressed" if kind in _AIM_PACKED else f"of an unknown kind ({kind:#x})"
        raise FormatError(
            f"{path} is a Scanco AIM file whose voxels are {told}; expected plain ones; export it as ISQ, "
            "DICOM or an AIM of shorts."
        )
    array = map_voxels(path, np.dtype(_AIM_TYPES[kind]), layout.start + sum(lengths), (z, y, x))
    if layout is _NEW_AIM:
        found = [edge / 1000 for edge in struct.unpack("<3q", edges)]  # nm
    else:
        found = [1000 * _vax(edges[at : at + 4]) for at in (0, 4, 8)]  # mm
    return Content(array, known_edges(found[::-1], 6))


def _vax(data: bytes) -> float:
    """Return a number in single precision as a VAX keeps it: words exchanged, exponents two more."""
    return float(struct.unpack("<f", data[2:4] + data[:2])[0]) / 4
