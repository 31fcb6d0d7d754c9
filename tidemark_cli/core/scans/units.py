"""Units of length as files spell them."""

from __future__ import annotations

import html
import re
import unicodedata

# how "µ" arrives: ImageJ's escape, UTF-8 read as Latin-1, a byte that is no UTF-8, lost, the letter
_MICRO = re.compile(r"\\u00b5|\u00c2\u00b5|\u00ce\u00bc|\udcb5|\ufffd|\u00b5|\u03bc", re.IGNORECASE)
_EACH = re.compile(r"(/|per)(pixel|px|voxel|vx)$")
_PREFIXES_UM = {"": 1e6, "d": 1e5, "c": 1e4, "m": 1e3, "u": 1.0, "n": 1e-3, "p": 1e-6, "k": 1e9}
_PREFIX_NAMES_UM = {
    **{"": 1e6, "deci": 1e5, "centi": 1e4, "milli": 1e3, "mili": 1e3, "micro": 1.0, "mikro": 1.0},
    **{"nano": 1e-3, "pico": 1e-6, "kilo": 1e9},
}
_METRES = ("meter", "metre", "metro", "metr", "metri")
_UM = {
    **{f"{prefix}m": um for prefix, um in _PREFIXES_UM.items()},
    **{f"{prefix}{m}": um for prefix, um in _PREFIX_NAMES_UM.items() for m in _METRES},
    **dict.fromkeys(("micron", "mikron", "micra", "u", "mum", "mcm", "мкм", "微米", "1e6m", "10^6m"), 1.0),
    **{"мм": 1e3, "毫米": 1e3, "нм": 1e-3, "1e3m": 1e3, "10^3m": 1e3, "angstrom": 1e-4, "a": 1e-4},
    **dict.fromkeys(("inch", "inche", "in", '"'), 25400.0),
    **{"thou": 25.4, "mil": 25.4, "pt": 25400 / 72},
}
_NO_LENGTH = ("", "pixel", "pixels", "px", "voxel", "voxels", "reference frame", "none", "unknown", "-")


def unit_um(unit: str) -> float | None:
    """Return a unit of length in µm, in any of its spellings; None for what is no known one."""
    plain = _MICRO.sub("u", html.unescape(unit))
    # ㎛ is one sign, é two
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(sign))
    plain = _MICRO.sub("u", plain).lower().strip("'()[]. \t\r\n\0").replace("-", "").replace(" ", "")
    plain = _EACH.sub("", plain)
    return _UM.get(plain, _UM.get(plain.removesuffix("s")))


def unknown_unit(unit: str) -> tuple[str, ...]:
    """Return a note that names a unit which is no known length; none for ``pixel`` and the like."""
    if unit_um(unit) is not None or unit.strip().strip("\"'").lower() in _NO_LENGTH:
        return ()
    return (f"its voxel size is in {unit.strip()!r}, which is no known unit of length",)
