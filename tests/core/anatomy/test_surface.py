"""The tidemark of masks drawn by hand, bone first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.anatomy.surface import Surface, find_surface

UM = 10.0


def slab(shape: tuple[int, int, int] = (60, 50, 50), top: int = 30) -> np.ndarray:
    """Return a mask (Z, Y, X) that is hard up to voxel `top`, bone first."""
    mask = np.zeros(shape, np.uint8)
    mask[: top + 1] = 255
    return mask


def test_height_is_the_outer_face_of_the_first_hard_voxel() -> None:
    mask = np.zeros((6, 1, 3), np.uint8)
    mask[0:4, 0, 0] = 255  # first hard voxel seen from the cartilage: 3
    mask[1:3, 0, 1] = 255  # 2, whatever is below
    mask[0:6, 0, 2] = 255  # hard to the edge of the scan
    surface = find_surface(mask, 3.2)
    np.testing.assert_allclose(surface.height_um, [[4 * 3.2, 3 * 3.2, 6 * 3.2]], rtol=1e-6)
    assert surface.height_um.dtype == np.float32
    assert not surface.opening.any()
    last = find_surface(mask[::-1], 3.2)
    np.testing.assert_allclose(last.height_um, [[6 * 3.2, 5 * 3.2, 6 * 3.2]], rtol=1e-6)


def test_probability_places_the_height_between_voxel_centres() -> None:
    probability = np.zeros((4, 1, 4), np.uint8)
    probability[:, 0, 0] = [255, 200, 100, 0]  # crosses 127.5 at (200 - 127.5) / 100 above centre 1
    probability[:, 0, 1] = [255, 255, 0, 0]  # half way: the face between voxels 1 and 2
    probability[:, 0, 2] = [255, 128, 0, 0]  # hardly above: at the centre of voxel 1
    probability[:, 0, 3] = [255, 255, 255, 255]  # no neighbour: its face
    surface = find_surface((probability > 127).astype(np.uint8), UM, probability, 0.5)
    expected = [15 + 7.25, 20, 15 + 10 * 0.5 / 128, 40]
    np.testing.assert_allclose(surface.height_um[0], expected, rtol=1e-5)


def test_an_edited_mask_keeps_the_face() -> None:
    probability = np.zeros((4, 1, 2), np.uint8)
    probability[:, 0, 0] = [255, 255, 255, 0]  # voxel 2 was removed from the mask
    probability[:, 0, 1] = [255, 10, 0, 0]  # voxel 1 was filled
    mask = np.zeros((4, 1, 2), np.uint8)
    mask[:2] = 255
    surface = find_surface(mask, UM, probability, 0.5)
    np.testing.assert_allclose(surface.height_um, [[20, 20]])


@st.composite
def rough_plugs(draw: st.DrawFn) -> np.ndarray:
    """Probabilities (Z, Y, X) of a random surface with random openings and specks, bone first."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.sampled_from([1, 17]))
    tops = 20 + rng.integers(-4, 5, (rows, 23))
    tops[rng.random(tops.shape) < 0.05] = -1
    z = np.arange(40)[:, None, None]
    probability = np.where(
        z <= tops, rng.integers(140, 256, (40, rows, 23)), rng.integers(0, 120, (40, rows, 23))
    )
    probability[rng.random(probability.shape) < 0.01] = 255
    return probability.astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(rough_plugs(), st.integers(1, 9))
def test_slices_added_below_raise_the_map_and_above_do_nothing(probability: np.ndarray, count: int) -> None:
    mask = np.where(probability > 127, 255, 0).astype(np.uint8)
    surface = find_surface(mask, 8.0, probability, 0.5)  # exact in float32
    for below, above in ((count, 0), (0, count)):
        pad = ((below, above), (0, 0), (0, 0))
        moved = find_surface(np.pad(mask, pad), 8.0, np.pad(probability, pad), 0.5)
        np.testing.assert_allclose(moved.height_um, surface.height_um + below * 8.0, atol=0.01)
        np.testing.assert_array_equal(moved.opening, surface.opening)


@settings(max_examples=20, deadline=None)
@given(rough_plugs())
def test_a_column_is_tidemark_or_opening_never_both(probability: np.ndarray) -> None:
    mask = np.where(probability > 127, 255, 0).astype(np.uint8)
    surface = find_surface(mask, UM)
    assert not (np.isfinite(surface.height_um) & surface.opening).any()
    heights = surface.height_um[np.isfinite(surface.height_um)] / UM
    np.testing.assert_allclose(heights, np.round(heights), atol=1e-4)


# openings and what is none


@pytest.mark.parametrize("floor", [0, 15])
def test_a_breach_is_an_opening_and_is_not_bridged(floor: int) -> None:
    mask = slab()
    mask[floor:, 20:26, 30:34] = 0  # 60 x 40 µm, through the slab or down to a floor
    surface = find_surface(mask, UM)
    expected = np.zeros((50, 50), bool)
    expected[20:26, 30:34] = True
    np.testing.assert_array_equal(surface.opening, expected)
    np.testing.assert_array_equal(np.isnan(surface.height_um), expected)
    np.testing.assert_allclose(surface.height_um[~expected], 310)


def test_the_rim_over_deep_bone_runs_as_the_tidemark_does() -> None:
    y, x = np.mgrid[:160, :160]
    shelf = 2 * x + y < 360  # 200 µm and more above the bone it overhangs, whose floor goes on beyond its rim
    mask = np.zeros((90, 160, 160), np.uint8)
    mask[:20] = 255
    mask[60:70, shelf] = 255
    surface = find_surface(mask, UM / 2)
    np.testing.assert_array_equal(np.isfinite(surface.height_um), shelf)


@pytest.mark.parametrize(("deep", "opening"), [(28, False), (32, True)])
def test_a_dent_is_tidemark_and_an_opening_more_than_60_um_deep(deep: int, opening: bool) -> None:
    mask = slab(top=40)
    mask[41 - deep :, 20:26, 30:34] = 0
    surface = find_surface(mask, 2.0)
    assert surface.opening[20:26, 30:34].all() == surface.opening.any() == opening
    assert opening or surface.height_um[22, 31] == (41 - deep) * 2


def test_waves_of_a_millimetre_are_tidemark() -> None:
    top = np.round(30 + 8 * np.sin(2 * np.pi * np.arange(200) / 100)).astype(int)  # 80 µm up and down
    mask = (np.arange(60)[:, None, None] <= np.tile(top, (60, 1))).astype(np.uint8)
    assert np.isfinite(find_surface(mask, UM).height_um).all()


def test_what_lies_outside_the_plug_is_neither_tidemark_nor_opening() -> None:
    y, x = np.ogrid[:60, :60]
    radius = np.hypot(y - 30, x - 30)
    mask = np.zeros((60, 60, 60), np.uint8)
    mask[:31, radius < 20] = 255
    mask[:10, radius < 27] = 255  # the bone is wider further down
    surface = find_surface(mask, UM)
    np.testing.assert_array_equal(np.isfinite(surface.height_um), radius < 20)
    assert not surface.opening.any()


@pytest.mark.parametrize(("width", "opening"), [(3, False), (8, True), (16, True), (30, False)])
def test_a_bite_into_the_rim_is_an_opening_from_20_to_100_um(width: int, opening: bool) -> None:
    mask = slab((60, 100, 100))
    mask[:, 70:, 40 : 40 + width] = 0  # 150 µm deep
    mask[:, 98:] = 0  # a rim: at the edge of the scan the plug would go on
    surface = find_surface(mask, 5.0)
    assert surface.opening[90, 40 + width // 2] == opening
    assert opening or not surface.opening[85:].any()


def test_a_floating_speck_is_passed_by_and_a_ridge_is_kept() -> None:
    mask = slab()
    mask[45:48, 10:13, 10:13] = 255  # 140 µm above, not connected
    mask[31:45, 30:33, 30:33] = 255  # stands on the bone
    surface = find_surface(mask, UM)
    assert surface.height_um[11, 11] == 310
    assert surface.height_um[31, 31] == 450
    assert not surface.opening.any()


def test_a_speck_over_an_opening_does_not_hide_it() -> None:
    mask = slab()
    mask[:, 20:26, 20:26] = 0
    mask[45:48, 22:24, 22:24] = 255
    surface = find_surface(mask, UM)
    assert surface.opening[20:26, 20:26].all()


def test_a_tilted_plug_has_no_false_openings() -> None:
    z, y, x = np.ogrid[:200, :100, :100]
    inside = np.hypot(y - 50, x - 50) < 45
    top = 60 + 0.27 * x + 0.1 * y  # 16 degrees
    surface = find_surface(np.where((z <= top) & inside, 255, 0).astype(np.uint8), UM)
    assert not surface.opening.any()
    np.testing.assert_array_equal(np.isfinite(surface.height_um), inside[0])


def test_a_single_slice_is_read_as_a_profile() -> None:
    mask = slab((60, 1, 80))
    mask[:, 0, :10] = 0
    mask[10:, 0, 40:45] = 0
    surface = find_surface(mask, UM)
    assert np.flatnonzero(surface.opening[0]).tolist() == [40, 41, 42, 43, 44]
    assert np.isnan(surface.height_um[0, :10]).all()


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 1, 6), (1, 1, 1)])
def test_an_empty_mask_gives_an_empty_surface(shape: tuple[int, int, int]) -> None:
    surface = find_surface(np.zeros(shape, np.uint8), UM)
    assert surface.height_um.shape == surface.opening.shape == shape[1:]
    assert np.isnan(surface.height_um).all()
    assert not surface.opening.any()


def test_a_single_hard_voxel_is_a_surface() -> None:
    surface = find_surface(np.full((1, 1, 1), 255, np.uint8), UM)
    assert surface.height_um.tolist() == [[10.0]]


def test_wrong_arguments_are_refused() -> None:
    mask = slab((5, 4, 3), 2)
    with pytest.raises(ValueError, match="Z, Y, X"):
        find_surface(mask[0], UM)
    with pytest.raises(ValueError, match="together"):
        find_surface(mask, UM, mask)
    with pytest.raises(ValueError, match="uint8 of the mask's shape"):
        find_surface(mask, UM, mask.astype(float), 0.5)


def test_the_best_fit_plane_leaves_out_the_gaps() -> None:
    height = 100 + 3 * np.arange(20.0)[:, None] - 2 * np.arange(30.0)
    height[5:9, 3] = np.nan
    plane = Surface(height.astype(np.float32), np.zeros(height.shape, bool), UM).plane
    np.testing.assert_allclose(plane[5:9, 3], [100 + 3 * y - 2 * 3 for y in range(5, 9)], rtol=1e-5)


def test_no_column_of_a_condyle_is_lost() -> None:
    z, x = np.ogrid[:40, :160]  # 1.5 x 8 mm of a cylinder with a radius of 10 mm
    top = 30 + np.sqrt(200**2 - (x[0] - 79.5) ** 2) - 200
    mask = np.where(z <= top, 255, 0).astype(np.uint8)[:, None].repeat(30, axis=1)
    surface = find_surface(mask, 50.0)
    np.testing.assert_allclose(surface.height_um / 50, np.tile(np.floor(top) + 1, (30, 1)))
    assert not surface.opening.any()
