"""Units of length in the spellings of the wild."""

from __future__ import annotations

import pytest

from tidemark_cli.core.scans.units import unit_um, unknown_unit


@pytest.mark.parametrize(
    ("spellings", "um"),
    [
        (("um", "µm", "μm", "Um", " micron ", "microns", "micrometer", "Micrometres", "micro-meter"), 1),
        (("\\u00B5m", "Âµm", "Î¼m", "\udcb5m", '"um"'.strip('"'), "'um'", "u", "um."), 1),
        (("㎛", "&micro;m", "[µm]", "(um)", "µm/px", "um per pixel", "1e-6 m", "10^-6 m"), 1),
        (("micra", "micromètre", "micrómetros", "mikrometri", "Mikrometer", "мкм", "微米"), 1),
        (("nm", "nanometers", "nanometre", "нм", "㎚"), 1e-3),
        (("mm", "MM", "millimeters", "millimetre", "㎜", "milímetros", "мм", "毫米", "mm/voxel"), 1e3),
        (("cm", "centimeter"), 1e4),
        (("m", "meter", "metres"), 1e6),
        (("inch", "in", "inches", '"'), 25400),
        (("Å", "angstrom", "Ångström", "A"), 1e-4),
    ],
)
def test_spellings(spellings, um):
    assert {unit_um(unit) for unit in spellings} == {um}


@pytest.mark.parametrize("unit", ["", "pixel", "Pixels", "reference frame"])
def test_what_is_no_length_needs_no_note(unit):
    assert unit_um(unit) is None and unknown_unit(unit) == ()


def test_an_unknown_unit_is_named():
    assert "'furlong'" in unknown_unit("furlong")[0]
    assert unknown_unit("mm") == ()
