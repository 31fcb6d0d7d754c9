"""Units of length as files spell them."""

from __future__ import annotations

# how "µ" arrives, in lower case: ImageJ's escape, UTF-8 read as Latin-1, the sign, the Greek letter, lost
_MICRO = ("\\u00b5", "\u00e2\u00b5", "\u00ee\u00bc", "\u00b5", "\u03bc", "\udcb5", "\ufffd")
_PREFIXES_UM = {"": 1e6, "d": 1e5, "c": 1e4, "m": 1e3, "u": 1.0, "n": 1e-3, "p": 1e-6, "k": 1e9}
_PREFIX_NAMES_UM = {
    **{"": 1e6, "deci": 1e5, "centi": 1e4, "milli": 1e3, "micro": 1.0, "mikro": 1.0},
    **{"nano": 1e-3, "pico": 1e-6, "kilo": 1e9},
}
_UM = {
    **{f"{prefix}m": um for prefix, um in _PREFIXES_UM.items()},
    **{f"{prefix}{m}": um for prefix, um in _PREFIX_NAMES_UM.items() for m in ("meter", "metre", "metro")},
    **dict.fromkeys(("micron", "mikron", "u", "mum", "mcm", "micrometr", "mikrometr"), 1.0),
    **dict.fromkeys(("angstrom", "angström", "ångström", "ångstrom", "å"), 1e-4),
    **dict.fromkeys(("inch", "inche", "in", '"'), 25400.0),
    **{"thou": 25.4, "mil": 25.4, "pt": 25400 / 72},
}
_NO_LENGTH = ("", "pixel", "pixels", "px", "voxel", "voxels", "reference frame", "none", "unknown", "-")


def unit_um(unit: str) -> float | None:
    """Return a unit of length in µm, in any of its spellings; None for what is no known one."""
    plain = unit.strip().strip("'").strip().lower()
    for micro in _MICRO:
        plain = plain.replace(micro, "u")
    plain = plain.rstrip(".").replace("-", "").replace(" ", "")
    return _UM.get(plain, _UM.get(plain.removesuffix("s")))


def unknown_unit(unit: str) -> tuple[str, ...]:
    """Return a note that names a unit which is no known length; none for ``pixel`` and the like."""
    if unit_um(unit) is not None or unit.strip().strip("\"'").lower() in _NO_LENGTH:
        return ()
    return (f"its voxel size is in {unit.strip()!r}, which is no known unit of length",)
