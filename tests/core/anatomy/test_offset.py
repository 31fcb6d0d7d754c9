"""The tidemark moved by a constant: by hand, and on drawn plugs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.anatomy.offset import offset_tidemark
from tidemark_cli.core.anatomy.surface import Surface, find_surface

UM = 4.0
LEVEL = 50.0
CARTILAGE, AIR, BONE = 90, 0, 120


def column(mask: str, scan: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return mask and scan ``(Z, 1, 1)``, bone end first, of # (hard), b (bone), c (cartilage) and air."""
    grey = [{"b": BONE, "c": CARTILAGE}.get(voxel, AIR) for voxel in scan or "c" * len(mask)]
    hard = [255 * (voxel == "#") for voxel in mask]
    return np.array(hard, np.uint8)[:, None, None], np.array(grey, np.uint8)[:, None, None]


def told(mask: np.ndarray) -> str:
    return "".join("#" if voxel else "." for voxel in mask.ravel())


@pytest.mark.parametrize(
    ("offset_um", "before", "scan", "after", "height"),
    [
        (8, "###....", "bbbcccc", "#####..", 5.0),
        (-8, "####...", "bbbbccc", "##.....", 2.0),
        (5, "###....", "bbbcccc", "####...", 4.25),
        (1, "###....", "bbbcccc", "###....", 3.25),  # less than half a voxel: the heights alone
        (2.5, "###....", "bbbcccc", "####...", 3.625),
        (-5, "####...", "bbbbccc", "###....", 2.75),
        (12, "###....", "bbbcc..", "#####..", 5.0),  # no further than the tissue
        (12, "###....", "bbbc.cc", "####...", 4.0),  # nor over a gap
        (6, "###....", "bbbc...", "####...", 4.0),  # nor half a voxel into the air
        (8, "###....", "bbb....", "###....", 3.0),  # bare bone
        (99, "###....", "bbbcccc", "#######", 7.0),  # no further than the scan
        (8, "##..###..", "bb..bbbcc", "##..#####", 9.0),  # the cavity below stays
        (-4, "##..###..", "bb..bbbcc", "##..##...", 6.0),
        (8, ".......", "ccccccc", ".......", np.nan),
        (-8, ".......", "ccccccc", ".......", np.nan),
    ],
)
def test_a_column_by_hand(offset_um: float, before: str, scan: str, after: str, height: float) -> None:
    mask, grey = column(before, scan)
    moved = offset_tidemark(mask, find_surface(mask, UM), grey, LEVEL, offset_um)
    assert told(mask) == after
    np.testing.assert_allclose(moved.height_um, height * UM)
    assert not moved.opening.any()


@pytest.mark.parametrize(
    ("offset_um", "after", "height"),
    [(-8, "##.......", np.nan), (-20, "#........", 1.0), (-24, ".........", np.nan)],
    ids=["into the cavity", "below its floor", "off the scan"],
)
def test_lowered_through_the_roof_of_a_cavity_a_column_is_an_opening(
    offset_um: float, after: str, height: float
) -> None:
    mask, grey = column("##..##...", "bb..bbccc")
    moved = offset_tidemark(mask, find_surface(mask, UM), grey, LEVEL, offset_um)
    assert told(mask) == after
    np.testing.assert_allclose(moved.height_um, height * UM)
    assert moved.opening.all() == np.isnan(height)


def test_a_height_between_voxels_moves_by_exactly_the_offset() -> None:
    mask, grey = column("###.....")
    probability = np.array([255, 255, 200, 100, 0, 0, 0, 0], np.uint8)[:, None, None]
    there = find_surface(mask, UM, probability, 0.5)
    share = (200 - 127.5) / 100 - 0.5  # 0.225 voxels above the face
    assert there.height_um[0, 0] == pytest.approx((3 + share) * UM)
    moved = offset_tidemark(mask, there, grey, LEVEL, 1.3 * UM)
    assert moved.height_um[0, 0] == pytest.approx((4.3 + share) * UM)
    assert told(mask) == "#####..."  # the centre of the fifth, at 4.5, lies below 4.525


def test_columns_without_a_tidemark_stay() -> None:
    mask, grey = (np.repeat(array, 2, axis=2) for array in column("###....."))
    height_um = np.array([[12.0, np.nan]], np.float32)
    surface = Surface(height_um, np.array([[False, True]]), UM)
    for offset_um, after in ((8, "#####..."), (-4, "##......")):
        changed = mask.copy()
        moved = offset_tidemark(changed, surface, grey, LEVEL, offset_um)
        assert (told(changed[..., 0]), told(changed[..., 1])) == (after, "###.....")
        np.testing.assert_array_equal(moved.height_um, [[12 + offset_um, np.nan]])
        np.testing.assert_array_equal(moved.opening, [[False, True]])


@st.composite
def plugs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return mask and scan ``(Z, Y, X)``: a tidemark tilted and rough, under cartilage and air."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    y, x = np.mgrid[:12, :9]
    tilt = rng.uniform(-0.4, 0.4, 2)
    tops = (18 + tilt[0] * y + tilt[1] * x + rng.integers(0, 4, y.shape)).astype(int)
    z = np.arange(40)[:, None, None]
    mask = np.where((z < tops) & (z >= 2), 255, 0).astype(np.uint8)
    scan = np.where(z < tops, BONE, CARTILAGE) + rng.integers(-5, 6, mask.shape)
    scan[rng.integers(26, 38) :] = AIR
    return mask, scan.astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(plugs(), st.integers(-4, 9))
def test_moved_by_whole_voxels_the_mask_is_found_so_much_higher(
    plug: tuple[np.ndarray, np.ndarray], voxels: int
) -> None:
    mask, scan = plug
    before, there = mask.copy(), find_surface(mask, UM)
    moved = offset_tidemark(mask, there, scan, LEVEL, voxels * UM)
    tissue_end = np.argmax(scan < LEVEL, axis=0)  # of whole slices
    room = np.minimum(there.height_um + voxels * UM, tissue_end * UM)
    np.testing.assert_array_equal(moved.height_um, room)
    np.testing.assert_array_equal(find_surface(mask, UM).height_um, room)
    assert not mask[scan < LEVEL].any()
    if voxels >= 0:
        assert (mask >= before).all()
    else:
        assert (mask <= before).all()


@settings(max_examples=20, deadline=None)
@given(plugs(), st.sampled_from([0.0, -0.0]))
def test_an_offset_of_0_changes_nothing(plug: tuple[np.ndarray, np.ndarray], offset_um: float) -> None:
    mask, scan = plug
    before, there = mask.copy(), find_surface(mask, UM)
    assert offset_tidemark(mask, there, scan, LEVEL, offset_um) is there
    np.testing.assert_array_equal(mask, before)


@settings(max_examples=30, deadline=None)
@given(plugs(), st.floats(-16, 16), st.integers(0, 2**16))
def test_a_voxel_is_hard_where_its_centre_lies_below_the_tidemark(
    plug: tuple[np.ndarray, np.ndarray], offset_um: float, seed: int
) -> None:
    mask, scan = plug
    noise = np.random.default_rng(seed).integers(0, 120, mask.shape)
    probability = np.where(mask > 0, 255 - noise, noise).astype(np.uint8)
    there = find_surface(mask, UM, probability, 0.5)
    scan[:] = CARTILAGE
    moved = offset_tidemark(mask, there, scan, LEVEL, offset_um)
    np.testing.assert_allclose(moved.height_um, there.height_um + offset_um, atol=1e-4)
    centres = (np.arange(len(mask))[:, None, None] + 0.5) * UM
    apart = abs(centres - moved.height_um) > 0.01
    wanted = (centres < moved.height_um) & (centres > 2 * UM)
    assert ((mask > 0) == wanted)[apart].all()
