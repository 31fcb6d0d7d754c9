"""Constant fill outside the field of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import VOXEL_UM, draw_plug
from tidemark_cli.core.anatomy.plug import find_plug
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.scans.fill import fill_level, without_fill
from tidemark_cli.core.scans.volume import read_volume, write_volume
from tidemark_cli.core.segmentation import Settings, segment


def outside(shape: tuple[int, ...]) -> np.ndarray:
    """Return (Y, X), true outside the circle that just fits in a slice."""
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    return y**2 + x**2 > 1


def scan(air: int = 20) -> np.ndarray:
    """A plug (80, 64, 64) of int32 in noisy air."""
    noise = np.random.default_rng(1).normal(0, 3, (80, 64, 64))
    return draw_plug().astype(np.int32) + np.rint(noise).astype(np.int32) + air


@pytest.mark.parametrize(
    ("dtype", "factor", "shift", "fill"),
    [
        ("int16", 1, 0, -1000),
        ("int16", 10, -1000, -3024),
        ("int16", 1, 0, -32768),
        ("uint16", 50, 20000, 0),
        ("uint16", 50, 20000, 65535),
        ("float32", 0.001, 0, -1),
        ("float32", 1, 0, -np.finfo("float32").max),
        ("int32", 1000, 0, -(2**31)),
        ("uint8", 1, 0, 255),
        ("uint8", 0.5, 90, 0),
        ("int8", 0.5, -40, -128),
    ],
)
def test_fill_becomes_air(dtype, factor, shift, fill):
    levels = (scan() * factor + shift).astype(dtype)
    air = np.median(levels[:, outside(levels.shape)])
    filled = levels.copy()
    filled[:, outside(levels.shape)] = fill
    found = fill_level(filled)
    assert found is not None and found[0] == fill
    assert found[1] == pytest.approx(air, abs=2 * factor)
    whole, notes = without_fill(filled.copy())
    assert whole.dtype == levels.dtype and (whole != fill).all()
    inside = ~outside(levels.shape)
    assert np.array_equal(whole[:, inside], levels[:, inside])
    assert f"constant {fill:g} outside the field of view" in notes[0]
    expected, got = find_plug(levels, 40), find_plug(whole, 40)
    assert got.tissue_level == pytest.approx(expected.tissue_level, rel=0.05)
    assert (got.box, got.bone.end) == (expected.box, expected.bone.end)


def test_a_bright_border_all_around():
    levels = np.full((100, 84, 84), 255, np.uint8)
    levels[10:-10, 10:-10, 10:-10] = scan()
    levels[40:44, 40:44, 40:44] = 255  # in the sample
    whole, _ = without_fill(levels.copy())
    assert np.array_equal(whole[10:-10, 10:-10, 10:-10], levels[10:-10, 10:-10, 10:-10])
    assert whole[:10].max() < 30 and whole[:, :10].max() < 30


def test_slices_of_padding_at_the_ends_are_fill_too():
    levels = np.full((100, 80, 80), -2000, np.int16)
    levels[10:-10, 8:-8, 8:-8] = scan()
    assert fill_level(levels) is not None


def test_a_sample_that_fills_a_round_field_of_view():
    rng = np.random.default_rng(0)
    levels = rng.normal(9000, 300, (40, 64, 64)).astype(np.int16)
    levels[:, outside(levels.shape)] = -32768
    found = fill_level(levels)
    assert found is not None and found[0] == -32768
    assert found[1] == pytest.approx(9000 - 2.33 * 300, abs=50)  # the darkest hundredth
    padded = levels.copy()
    padded[:5] = -32768
    assert fill_level(padded) == found
    bare = levels.copy()
    bare[:, :, :6] = -32768  # a plug that ends before a side of the slice
    assert fill_level(bare) is None


def test_fill_as_bright_as_parts_of_the_sample():
    levels = scan().astype(np.uint8)
    levels[20:24, 30:34, 30:34] = 255  # a rim that is cut off
    levels[:, outside(levels.shape)] = 255
    whole, notes = without_fill(levels.copy())
    assert (whole[20:24, 30:34, 30:34] == 255).all()
    assert (whole[:, outside(levels.shape)] < 30).all() and "constant 255" in notes[0]


def test_fill_does_not_change_the_mask(model: Path, tmp_path: Path):
    plain = scan().astype(np.int16)
    plain[:, outside(plain.shape)] = np.median(plain[:, outside(plain.shape)])
    filled = plain.copy()
    filled[:, outside(plain.shape)] = -3024
    masks = []
    for name, array in (("plain", plain), ("filled", filled)):
        write_volume(tmp_path / f"{name}.nrrd", array, VOXEL_UM)
        volume = read_volume(tmp_path / f"{name}.nrrd")
        masks.append(segment(volume, load_models(model), Settings()).mask)
    assert masks[0].any() and np.array_equal(*masks)


def test_what_is_no_fill():
    plain = scan()
    assert fill_level(plain.astype(np.int16)) is None  # air is no constant
    clipped = np.clip(plain - 60, 0, None).astype(np.int16)
    assert fill_level(clipped) is None  # air cut off at 0: cartilage lies beside it
    bare = np.where(plain > 60, plain * 10, 0).astype(np.uint16)
    assert fill_level(bare) is None  # a plug without any air
    assert fill_level(np.full((5, 5, 5), 7, np.int16)) is None


def test_reading_replaces_it_in_a_scan_and_not_in_a_mask(tmp_path: Path):
    filled = scan().astype(np.int16)
    filled[:, outside(filled.shape)] = -1000
    write_volume(tmp_path / "a.nrrd", filled, 3.2)
    read = read_volume(tmp_path / "a.nrrd")
    assert read.array.min() > -100 and "constant -1000" in read.notes[0]
    assert read_volume(tmp_path / "a.nrrd", mask=True).array.min() == -1000
