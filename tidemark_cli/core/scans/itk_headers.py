"""Headers of NRRD, NIfTI and MetaImage files: which voxels they tell of, and where these lie."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from ..errors import ContentError, FormatError
from .units import unit_um, unknown_unit

_HEADER_BYTES = 2**20
_NRRD_TYPES = {
    **dict.fromkeys(("signedchar", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsignedchar", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "shortint", "signedshort", "signedshortint", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsignedshort", "unsignedshortint", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signedint", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsignedint", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "longlongint", "signedlonglong", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsignedlonglong", "unsignedlonglongint", "uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
_META_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4"},
    **{"MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8"},
    **{"MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8"}
_NIFTI_TYPES |= {1280: "u8"}
_NIFTI_UNITS = {0: "mm", 1: "m", 2: "mm", 3: "um"}


@dataclass(frozen=True)
class Header:
    """What a file tells of its voxels.

    Attributes
    ----------
    size : along X, Y, Z and what else.
    dtype : of the voxels as stored, in their byte order; None of what is read by ITK alone.
    data : the file they lie in.
    offset : where in it; in a .nii.gz, where in what it unpacks to.
    packed : whether they are a stream of zlib or gzip.
    spacing_um : along X, Y, Z, in µm; 0 or less where the file tells none.
    mm : what a step of the file's lengths is, in mm; None where its unit is unknown.
    scale : slope and intercept of the grey levels.
    placed : whether it says where the voxels lie.
    notes : what the user should hear.
    """

    size: tuple[int, ...]
    dtype: np.dtype | None
    data: Path
    offset: int
    packed: bool
    spacing_um: tuple[float, ...]
    mm: float | None = 1.0
    scale: tuple[float, float] = (1.0, 0.0)
    placed: bool = True
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels, unpacked."""
        return math.prod(self.size) * (self.dtype.itemsize if self.dtype else 0)


def read_header(path: Path) -> Header:
    """Read the header of a NRRD, NIfTI or MetaImage file, in any case of its suffix.

    Raises
    ------
    FormatError
        If it is no such header, or its voxels are packed in a way that is not read or lie in a file that is
        not there.
    ContentError
        If there is no voxel in it.
    """
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            header = _nifti(path)
        else:
            header = _nrrd(path) if name.endswith((".nrrd", ".nhdr")) else _meta(path)
    except (ValueError, KeyError, IndexError, struct.error, OverflowError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise FormatError(
            f"{path} is not a whole {path.suffix} file: its header cannot be read ({reason}); it may be cut "
            "short or of another format; copy or export it again."
        ) from error
    if not header.size or min(header.size) < 1:
        raise ContentError(f"{path} holds no voxels (X, Y, Z: {header.size}); export it again.")
    if not header.data.is_file():
        raise FormatError(
            f"{path} names the data file {header.data}, which is not there; put it beside the header and "
            "write its bare name into that, or copy both again."
        )
    return header


# --------------------------------------------------------------------------------------- NRRD


def _nrrd(path: Path) -> Header:
    lines, end = _text(path, rb"\r?\n\r?\n")
    if not lines[0].startswith("NRRD"):
        raise ValueError("it does not begin with NRRD")
    fields = {}
    for line in lines[1:]:
        key, colon, value = line.partition(":")
        if colon and not key.startswith("#") and not value.startswith("="):
            fields[key.lower().replace(" ", "")] = value.strip()
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz", "ascii", "text", "txt"):
        raise FormatError(
            f"{path} has the encoding {encoding}, which is not read; save it as raw or gzip, for example "
            "with 3D Slicer."
        )
    size = tuple(int(length) for length in fields["sizes"].split())
    if len(size) != int(fields["dimension"]):
        raise ValueError(f"{len(size)} sizes for {fields['dimension']} axes")
    spacing, unit = _nrrd_spacing(fields, len(size))
    data_file = fields.get("datafile", "")
    several = bool(re.match(r"LIST\b", data_file) or re.search(r"%\d*d", data_file))
    if several and encoding in ("gzip", "gz"):
        raise FormatError(f"{path} has several compressed data files, which is not read; save it as one.")
    kind = _NRRD_TYPES.get(fields["type"].lower().replace(" ", ""))
    plain = kind and len(size) in (2, 3) and encoding in ("raw", "gzip", "gz") and not several
    skip, packed = int(fields.get("byteskip", 0)), encoding in ("gzip", "gz")
    if int(fields.get("lineskip", 0)) or skip < 0 or (packed and skip):
        plain = None
    if plain and kind not in ("i1", "u1"):
        fields["endian"]  # a KeyError where it is not told
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    scale_um, notes = _scale(unit)
    return Header(
        size=size,
        dtype=np.dtype(order + kind) if plain and kind else None,
        data=_beside(path, data_file) if data_file and not several else path,
        offset=(0 if packed else skip) + (0 if data_file else end),
        packed=packed,
        spacing_um=tuple(edge * (scale_um or 0) for edge in spacing),
        mm=scale_um and scale_um / 1000,
        notes=notes,
    )


def _nrrd_spacing(fields: dict[str, str], axes: int) -> tuple[list[float], str]:
    """Return the spacing along the axes of the file, 0 where it is not told, and its unit."""
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", fields.get("units", "")))
    unit = next((one for one in units if one.strip()), "mm")
    if "spacedirections" in fields:
        found = re.findall(r"none|\(([^)]*)\)", fields["spacedirections"])
        vectors = [[float(part) for part in re.split(r"[,\s]+", one.strip())] for one in found if one]
        return [math.hypot(*vector) for vector in vectors], unit
    spacings = [_finite(one) for one in fields.get("spacings", "").split()]
    return spacings or [0.0] * axes, unit


# ---------------------------------------------------------------------------------- MetaImage


def _meta(path: Path) -> Header:
    lines, end = _text(path, rb"\bElementDataFile[ \t]*=[^\n]*\n?")
    fields = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip().lower()] = value.strip()

    def is_true(*keys: str) -> bool:
        return any(fields.get(key, "").lower() in ("true", "1", "t", "yes") for key in keys)

    size = tuple(int(length) for length in fields["dimsize"].split())
    if len(size) != int(fields["ndims"]):
        raise ValueError(f"{len(size)} sizes for {fields['ndims']} axes")
    data_file = fields["elementdatafile"]
    local, packed = data_file.upper() == "LOCAL", is_true("compresseddata")
    if local and packed and "compresseddatasize" not in fields:
        raise FormatError(
            f"{path} is compressed, but its header does not tell CompressedDataSize, so where the data end "
            "is unknown: they may be damaged or cut short; add that line, or export it again."
        )
    kind = _META_TYPES.get(fields["elementtype"].upper())
    plain = kind and len(size) in (2, 3) and int(fields.get("elementnumberofchannels", 1)) == 1
    skip = 0 if local else int(fields.get("headersize", 0))
    plain = plain and skip >= 0 and is_true("binarydata") and not re.match(r"LIST\b|.*%\d*d", data_file)
    order = ">" if is_true("elementbyteordermsb", "binarydatabyteordermsb") else "<"
    spacing = [_finite(one) for one in fields.get("elementspacing", fields.get("elementsize", "")).split()]
    scale_um, notes = _scale(fields.get("distanceunits", "mm"))
    return Header(
        size=size,
        dtype=np.dtype(order + kind) if plain and kind else None,
        data=_beside(path, data_file) if plain and not local else path,
        offset=end if local else max(skip, 0),
        packed=packed,
        spacing_um=tuple(edge * (scale_um or 0) for edge in spacing) or (0.0,) * len(size),
        mm=scale_um and scale_um / 1000,
        notes=notes,
    )


# -------------------------------------------------------------------------------------- NIfTI


def _nifti(path: Path) -> Header:
    packed = path.name.lower().endswith(".gz")
    with path.open("rb") as plain:
        if (plain.read(2) == b"\x1f\x8b") != packed:
            told = ("is not compressed", "without .gz") if packed else ("is compressed", "with .gz")
            raise ValueError(f"it {told[0]}: a NIfTI file of that kind is named {told[1]} at its end")
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(544)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(str(error)) from error
    order = next(
        (o for o in "<>" if head[:4] in (struct.pack(f"{o}i", 348), struct.pack(f"{o}i", 540))), None
    )
    if order is None:
        raise ValueError("it does not begin as NIfTI does")
    first = head[:4] == struct.pack(f"{order}i", 348)

    def value(at: int, at_2: int, kind: str, kind_2: str) -> tuple[float, ...]:
        return struct.unpack_from(order + (kind if first else kind_2), head, at if first else at_2)

    axes, *lengths = (int(number) for number in value(40, 16, "8h", "8q"))
    if not 1 <= axes <= 7:
        raise ValueError(f"{axes} axes")
    edges = [_finite(abs(edge)) for edge in value(76, 104, "8f", "8d")[1:]]
    (kind,), (offset,) = value(70, 12, "h", "h"), value(108, 168, "f", "q")
    (slope,), (shift,) = value(112, 176, "f", "d"), value(116, 184, "f", "d")
    (units,) = value(123, 500, "B", "i")
    codes = value(252, 344, "2h", "2i")
    size = tuple(lengths[:axes])
    dtype = _NIFTI_TYPES.get(int(kind))
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    scale_um, notes = _scale(_NIFTI_UNITS.get(int(units) & 7, f"code {int(units) & 7}"))
    return Header(
        size=size,
        dtype=np.dtype(order + dtype) if dtype and len(size) in (2, 3) else None,
        data=path,
        offset=max(int(offset or (352 if first else 544)), 348),  # 348 at least, as ITK has it
        packed=packed,
        spacing_um=tuple(edge * (scale_um or 0) for edge in edges[: len(size)]),
        mm=scale_um and 1.0,  # ITK turns its units into mm itself
        placed=any(code > 0 for code in codes),
        scale=(slope, shift) if slope and math.isfinite(slope) and math.isfinite(shift) else (1.0, 0.0),
        notes=notes,
    )


# ------------------------------------------------------------------------------------- shared


def _text(path: Path, last: bytes) -> tuple[list[str], int]:
    """Return the lines of a header up to what ends it, and where the data begin."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if head.startswith(b"NRRD") or last.startswith(rb"\bElement"):
        found = re.search(last, head)
        end = found.end() if found else len(head)
        return head[:end].decode("utf-8", "surrogateescape").splitlines() or [""], end
    return [""], 0


def _beside(path: Path, name: str) -> Path:
    """Return the data file that a header names, as this system understands the name."""
    if PureWindowsPath(name).is_absolute():
        return Path(name)
    return path.parent / name.replace("\\", "/")


def _scale(unit: str) -> tuple[float | None, tuple[str, ...]]:
    """Return a unit in µm, that of what is no length as mm; None and a note where it is unknown."""
    notes = unknown_unit(unit)
    return (None if notes else unit_um(unit) or 1000.0), notes


def _finite(text: object) -> float:
    number = float(str(text))
    return number if math.isfinite(number) else 0.0
