"""The ``.vol`` files of Phoenix and Nikon scanners: plain voxels, with a ``.pcr`` or ``.vgi`` text beside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import FormatError
from .content import Content, known_edges
from .units import unit_um, unknown_unit
from .voxels import map_voxels, surplus

RAW_HEADERS = (".vgi", ".pcr")

_MOST_TEXT = 2**20  # bytes
_PCR_TYPES = {1: "u1", 3: "u1", 5: "<u2", 10: "<f4"}
_VGI_TYPES = {("unsigned", 8): "u1", ("unsigned", 16): "<u2", ("signed", 8): "i1", ("signed", 16): "<i2"}
_VGI_TYPES |= {("float", 32): "<f4", ("unsigned", 32): "<u4", ("signed", 32): "<i4"}

_Sections = dict[str, dict[str, str]]


def read_raw_volume(path: Path) -> Content:
    """Read a ``.vol`` file, or the ``.vgi`` or ``.pcr`` file of one: (Z, Y, X), memory-mapped.

    Raises
    ------
    FormatError
        If one of the two files is not there, cut short, or not as these programs write it.
    """
    header = path if path.suffix.lower() in RAW_HEADERS else _header_of(path)
    try:
        sections = _sections(header)
        if header.suffix.lower() == ".vgi":
            size, kind, offset, named = _vgi(sections)
            spacing_um, notes = _vgi_spacing(sections)
        else:
            size, kind, offset, named = _pcr(sections)
            spacing_um, notes = _pcr_spacing(sections), ()
    except (KeyError, ValueError) as error:
        raise FormatError(
            f"{header} does not tell what its voxels are ({error}); expected a {header.suffix[1:].upper()} "
            "file as the scanner writes it; copy it again."
        ) from error
    data = path if path != header else header.with_name(named or f"{header.stem}.vol")
    if not data.is_file():
        raise FormatError(f"{header} tells of {data.name}, which is not there; put it beside the header.")
    x, y, z = size
    array = map_voxels(data, np.dtype(kind), offset, (z, y, x))
    notes += surplus(data, data.stat().st_size - offset - array.nbytes)
    return Content(array, spacing_um, notes)


def _header_of(path: Path) -> Path:
    """Return the text file that belongs to the voxels; raise a FormatError where there is none."""
    for suffix in RAW_HEADERS:
        for other in path.parent.iterdir():
            if other.name.lower() in (f"{path.stem}{suffix}".lower(), f"{path.name}{suffix}".lower()):
                return other
    raise FormatError(
        f"{path} is a volume of a Phoenix or Nikon scanner without its header; expected {path.stem}.pcr or "
        f"{path.stem}.vgi beside it; copy that, too."
    )


def _sections(path: Path) -> _Sections:
    """Return the keys and values of a text by the ``[section]`` that they stand in, in small letters."""
    with path.open("rb") as file:
        text = file.read(_MOST_TEXT).decode("utf-8", "replace")
    found: _Sections = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        if title := re.fullmatch(r"\s*[\[{](.+)[\]}]\s*", line):
            section = found.setdefault(title[1].strip().lower(), {})
        elif "=" in line:
            key, _, value = line.partition("=")
            section.setdefault(key.strip().lower(), value.strip().strip('"'))
    return found


def _pcr(sections: _Sections) -> tuple[list[int], str, int, str]:
    """Return X, Y, Z, the kind of voxels, where they begin, and no name."""
    told = sections["volumedata"]
    kind = int(told["format"])
    if kind not in _PCR_TYPES:
        raise ValueError(f"format {kind}")
    return [int(told[f"volume_size{axis}"]) for axis in "xyz"], _PCR_TYPES[kind], 0, ""


def _pcr_spacing(sections: _Sections) -> tuple[float, ...] | None:
    return known_edges((1000 * float(sections["volumedata"].get("voxelsizerec", "0")),) * 3)  # mm


def _vgi(sections: _Sections) -> tuple[list[int], str, int, str]:
    """Return X, Y, Z, the kind of voxels, where they begin, and the name of their file."""
    if "file2" in sections:
        raise ValueError("its voxels lie in several files: export them as one")
    told = sections["file1"]
    if told.get("fileformat", "raw").lower() != "raw":
        raise ValueError(f"file format {told['fileformat']}")
    bits = int(told["bitsperelement"])
    kind = (told["datatype"].lower().split() or [""])[0]
    if (kind, bits) not in _VGI_TYPES:
        raise ValueError(f"{told['datatype']} of {bits} bits")
    size = [int(length) for length in told["size"].split()]
    if len(size) != 3:
        raise ValueError(f"size {told['size']}")
    name = told.get("name", "").replace("\\", "/").rpartition("/")[2]
    return size, _VGI_TYPES[kind, bits], int(told.get("skipheader", "0")), name


def _vgi_spacing(sections: _Sections) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    told = sections.get("geometry", {})
    unit = told.get("unit", "mm")
    scale_um = unit_um(unit)
    edges = [float(edge) for edge in told.get("resolution", "").split()]
    if scale_um is None or len(edges) != 3:
        return None, unknown_unit(unit)
    return known_edges([scale_um * edge for edge in reversed(edges)]), ()
