from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.anatomy.surface import (
    DEFINITIONS,
    Surface,
    cartilage_thickness,
    find_surface,
    morphometry,
)

UM = 10.0


def slab(shape: tuple[int, int, int] = (60, 50, 50), top: int = 30) -> np.ndarray:
    """Return a mask (Z, Y, X) that is hard up to voxel `top`, bone first."""
    mask = np.zeros(shape, np.uint8)
    mask[: top + 1] = 255
    return mask


def flat(height: np.ndarray, opening: np.ndarray | None = None, voxel_um: float = UM) -> Surface:
    height = np.asarray(height, np.float32)
    return Surface(height, np.zeros(height.shape, bool) if opening is None else opening, voxel_um, "first")


# heights


def test_height_is_the_outer_face_of_the_first_hard_voxel() -> None:
    mask = np.zeros((6, 1, 3), np.uint8)
    mask[0:4, 0, 0] = 255  # first hard voxel seen from the cartilage: 3
    mask[1:3, 0, 1] = 255  # 2, whatever is below
    mask[0:6, 0, 2] = 255  # hard to the edge of the scan
    surface = find_surface(mask, 3.2, "first")
    np.testing.assert_allclose(surface.height_um, [[4 * 3.2, 3 * 3.2, 6 * 3.2]], rtol=1e-6)
    assert surface.height_um.dtype == np.float32
    assert not surface.opening.any()
    last = find_surface(mask, 3.2, "last")
    np.testing.assert_allclose(last.height_um, [[6 * 3.2, 5 * 3.2, 6 * 3.2]], rtol=1e-6)


def test_probability_places_the_height_between_voxel_centres() -> None:
    probability = np.zeros((4, 1, 4), np.uint8)
    probability[:, 0, 0] = [255, 200, 100, 0]  # crosses 127.5 at (200 - 127.5) / 100 above centre 1
    probability[:, 0, 1] = [255, 255, 0, 0]  # half way: the face between voxels 1 and 2
    probability[:, 0, 2] = [255, 128, 0, 0]  # hardly above: at the centre of voxel 1
    probability[:, 0, 3] = [255, 255, 255, 255]  # no neighbour: its face
    surface = find_surface((probability > 127).astype(np.uint8), UM, "first", probability, 0.5)
    expected = [15 + 7.25, 20, 15 + 10 * 0.5 / 128, 40]
    np.testing.assert_allclose(surface.height_um[0], expected, rtol=1e-5)


def test_an_edited_mask_keeps_the_face() -> None:
    probability = np.zeros((4, 1, 2), np.uint8)
    probability[:, 0, 0] = [255, 255, 255, 0]  # voxel 2 was removed from the mask
    probability[:, 0, 1] = [255, 10, 0, 0]  # voxel 1 was filled
    mask = np.zeros((4, 1, 2), np.uint8)
    mask[:2] = 255
    surface = find_surface(mask, UM, "first", probability, 0.5)
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
@given(rough_plugs(), st.booleans())
def test_flipped_scan_gives_the_same_map(probability: np.ndarray, sub_voxel: bool) -> None:
    mask = np.where(probability > 127, 255, 0).astype(np.uint8)
    there = find_surface(mask, UM, "first", *((probability, 0.5) if sub_voxel else ()))
    back = find_surface(mask[::-1], UM, "last", *((probability[::-1], 0.5) if sub_voxel else ()))
    np.testing.assert_array_equal(there.height_um, back.height_um)
    np.testing.assert_array_equal(there.opening, back.opening)


@settings(max_examples=20, deadline=None)
@given(rough_plugs(), st.integers(1, 9))
def test_slices_added_below_raise_the_map_and_above_do_nothing(probability: np.ndarray, count: int) -> None:
    mask = np.where(probability > 127, 255, 0).astype(np.uint8)
    surface = find_surface(mask, 8.0, "first", probability, 0.5)  # exact in float32
    for below, above in ((count, 0), (0, count)):
        pad = ((below, above), (0, 0), (0, 0))
        moved = find_surface(np.pad(mask, pad), 8.0, "first", np.pad(probability, pad), 0.5)
        np.testing.assert_allclose(moved.height_um, surface.height_um + below * 8.0, atol=0.01)
        np.testing.assert_array_equal(moved.opening, surface.opening)


@settings(max_examples=20, deadline=None)
@given(rough_plugs())
def test_a_column_is_tidemark_or_opening_never_both(probability: np.ndarray) -> None:
    mask = np.where(probability > 127, 255, 0).astype(np.uint8)
    surface = find_surface(mask, UM, "first")
    assert not (np.isfinite(surface.height_um) & surface.opening).any()
    heights = surface.height_um[np.isfinite(surface.height_um)] / UM
    np.testing.assert_allclose(heights, np.round(heights), atol=1e-4)


# openings and what is none


@pytest.mark.parametrize("floor", [0, 15])
def test_a_breach_is_an_opening_and_is_not_bridged(floor: int) -> None:
    mask = slab()
    mask[floor:, 20:26, 30:34] = 0  # 60 x 40 µm, through the slab or down to a floor
    surface = find_surface(mask, UM, "first")
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
    surface = find_surface(mask, UM / 2, "first")
    np.testing.assert_array_equal(np.isfinite(surface.height_um), shelf)


@pytest.mark.parametrize(("deep", "opening"), [(28, False), (32, True)])
def test_a_dent_is_tidemark_and_an_opening_more_than_60_um_deep(deep: int, opening: bool) -> None:
    mask = slab(top=40)
    mask[41 - deep :, 20:26, 30:34] = 0
    surface = find_surface(mask, 2.0, "first")
    assert surface.opening[20:26, 30:34].all() == surface.opening.any() == opening
    assert opening or surface.height_um[22, 31] == (41 - deep) * 2


def test_waves_of_a_millimetre_are_tidemark() -> None:
    top = np.round(30 + 8 * np.sin(2 * np.pi * np.arange(200) / 100)).astype(int)  # 80 µm up and down
    mask = (np.arange(60)[:, None, None] <= np.tile(top, (60, 1))).astype(np.uint8)
    assert np.isfinite(find_surface(mask, UM, "first").height_um).all()


def test_what_lies_outside_the_plug_is_neither_tidemark_nor_opening() -> None:
    y, x = np.ogrid[:60, :60]
    radius = np.hypot(y - 30, x - 30)
    mask = np.zeros((60, 60, 60), np.uint8)
    mask[:31, radius < 20] = 255
    mask[:10, radius < 27] = 255  # the bone is wider further down
    surface = find_surface(mask, UM, "first")
    np.testing.assert_array_equal(np.isfinite(surface.height_um), radius < 20)
    assert not surface.opening.any()


@pytest.mark.parametrize(("width", "opening"), [(3, False), (8, True), (16, True), (30, False)])
def test_a_bite_into_the_rim_is_an_opening_from_20_to_100_um(width: int, opening: bool) -> None:
    mask = slab((60, 100, 100))
    mask[:, 70:, 40 : 40 + width] = 0  # 150 µm deep
    mask[:, 98:] = 0  # a rim: at the edge of the scan the plug would go on
    surface = find_surface(mask, 5.0, "first")
    assert surface.opening[90, 40 + width // 2] == opening
    assert opening or not surface.opening[85:].any()


def test_a_floating_speck_is_passed_by_and_a_ridge_is_kept() -> None:
    mask = slab()
    mask[45:48, 10:13, 10:13] = 255  # 140 µm above, not connected
    mask[31:45, 30:33, 30:33] = 255  # stands on the bone
    surface = find_surface(mask, UM, "first")
    assert surface.height_um[11, 11] == 310
    assert surface.height_um[31, 31] == 450
    assert not surface.opening.any()


def test_a_speck_over_an_opening_does_not_hide_it() -> None:
    mask = slab()
    mask[:, 20:26, 20:26] = 0
    mask[45:48, 22:24, 22:24] = 255
    surface = find_surface(mask, UM, "first")
    assert surface.opening[20:26, 20:26].all()


def test_a_tilted_plug_has_no_false_openings() -> None:
    z, y, x = np.ogrid[:200, :100, :100]
    inside = np.hypot(y - 50, x - 50) < 45
    top = 60 + 0.27 * x + 0.1 * y  # 16 degrees
    surface = find_surface(np.where((z <= top) & inside, 255, 0).astype(np.uint8), UM, "first")
    assert not surface.opening.any()
    np.testing.assert_array_equal(np.isfinite(surface.height_um), inside[0])


def test_a_single_slice_is_read_as_a_profile() -> None:
    mask = slab((60, 1, 80))
    mask[:, 0, :10] = 0
    mask[10:, 0, 40:45] = 0
    surface = find_surface(mask, UM, "first")
    assert np.flatnonzero(surface.opening[0]).tolist() == [40, 41, 42, 43, 44]
    assert np.isnan(surface.height_um[0, :10]).all()
    numbers = morphometry(surface)
    assert numbers["openings_count"] == 1
    assert numbers["openings_diameter_max_um"] == 50
    assert numbers["openings_area_percent"] == pytest.approx(100 * 5 / 70)
    assert numbers["openings_density_per_mm2"] is None
    assert numbers["projected_area_mm2"] is None


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 1, 6), (1, 1, 1)])
def test_an_empty_mask_gives_an_empty_surface(shape: tuple[int, int, int]) -> None:
    surface = find_surface(np.zeros(shape, np.uint8), UM, "last")
    assert surface.height_um.shape == surface.opening.shape == shape[1:]
    assert np.isnan(surface.height_um).all()
    assert not surface.opening.any()
    assert set(morphometry(surface, np.full(shape[1:], np.nan)).values()) == {None}
    assert np.isnan(cartilage_thickness(np.ones(shape), 0.5, surface)).all()


def test_a_single_hard_voxel_is_a_surface() -> None:
    surface = find_surface(np.full((1, 1, 1), 255, np.uint8), UM, "first")
    assert surface.height_um.tolist() == [[10.0]]
    numbers = morphometry(surface)
    assert numbers["tidemark_columns_count"] == 1
    assert numbers["roughness_ra_um"] is None


def test_wrong_arguments_are_refused() -> None:
    mask = slab((5, 4, 3), 2)
    with pytest.raises(ValueError, match="bone_end"):
        find_surface(mask, UM, "top")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Z, Y, X"):
        find_surface(mask[0], UM, "first")
    with pytest.raises(ValueError, match="together"):
        find_surface(mask, UM, "first", mask)
    with pytest.raises(ValueError, match="uint8 of the mask's shape"):
        find_surface(mask, UM, "first", mask.astype(float), 0.5)
    with pytest.raises(ValueError, match="as the surface"):
        cartilage_thickness(mask[:, :2], 1.0, find_surface(mask, UM, "first"))


# numbers


def test_every_number_is_defined_and_goes_into_json() -> None:
    surface = find_surface(slab(), UM, "first")
    numbers = morphometry(surface, np.full((50, 50), 100.0))
    assert set(numbers) == set(DEFINITIONS)
    assert None not in numbers.values()
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_a_tilted_plane_is_smooth() -> None:
    y, x = np.mgrid[:40, :60]
    slope_x, slope_y = 0.3, 0.4  # together 0.5: 26.565 degrees
    numbers = morphometry(flat(500 + UM * (x * slope_x + y * slope_y)))
    assert numbers["tilt_deg"] == pytest.approx(26.565, abs=0.001)
    assert numbers["roughness_ra_um"] == pytest.approx(0, abs=0.01)
    assert numbers["roughness_range_um"] == pytest.approx(0, abs=0.01)
    assert numbers["developed_area_ratio"] == pytest.approx(1, abs=1e-5)
    assert numbers["projected_area_mm2"] == pytest.approx(40 * 60 * 1e-4)
    assert numbers["tidemark_height_mean_um"] == pytest.approx(500 + 295 * 0.3 + 195 * 0.4, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 40])
def test_a_sine_has_the_roughness_of_a_sine(rows: int) -> None:
    amplitude, wave, voxel_um = 20.0, 200.0, 4.0
    x = np.arange(1000) * voxel_um
    height = np.tile(300 + amplitude * np.sin(2 * np.pi * x / wave), (rows, 1))
    numbers = morphometry(flat(height, voxel_um=voxel_um))
    assert numbers["roughness_ra_um"] == pytest.approx(2 / np.pi * amplitude, rel=0.01)
    assert numbers["roughness_rq_um"] == pytest.approx(amplitude / np.sqrt(2), rel=0.01)
    assert numbers["roughness_range_um"] == pytest.approx(2 * amplitude, rel=0.05)
    fine = np.linspace(0, wave, 100001)
    slope = 2 * np.pi / wave * amplitude * np.cos(2 * np.pi * fine / wave)
    true = np.sqrt(1 + slope**2).mean()
    assert numbers["developed_area_ratio"] == pytest.approx(true, rel=0.01)
    assert true > 1.08
    turned = morphometry(flat(height.T, voxel_um=voxel_um))
    assert turned["developed_area_ratio"] == pytest.approx(numbers["developed_area_ratio"])


def test_the_mean_height_and_a_range_without_its_rare_peaks() -> None:
    height = np.full((100, 100), 100.0)
    height[::10, ::10] = 150  # 1 % of the columns
    numbers = morphometry(flat(height))
    assert numbers["tidemark_height_mean_um"] == pytest.approx(100.5)
    height[::10, ::5] = height[5::10, ::10] = 150  # 3 %
    numbers = morphometry(flat(height))
    assert numbers["roughness_range_um"] == pytest.approx(50, abs=2)
    assert numbers["roughness_range_p5_p95_um"] < 2


def test_a_bowl_is_no_roughness() -> None:
    y, x = np.mgrid[:30, :30]
    numbers = morphometry(flat(200 + 0.3 * (x - 10.0) ** 2 - 0.2 * (y - 12.0) ** 2 + 0.1 * x * y))
    assert numbers["roughness_rq_um"] == pytest.approx(0, abs=0.01)


def test_openings_are_counted_and_measured() -> None:
    opening = np.zeros((100, 100), bool)
    opening[10:20, 10:20] = True  # 100 columns of 10 µm: a disc of 112.8 µm
    opening[50:52, 50:52] = True  # 4 columns: 22.6 µm
    opening[52, 52] = True  # touches it at a corner
    opening[80, 80] = True  # 11.3 µm: in the area, not in the count
    height = np.where(opening, np.nan, 100.0)
    numbers = morphometry(flat(height, opening))
    assert numbers["openings_count"] == 2
    assert numbers["openings_diameter_max_um"] == pytest.approx(2 * np.sqrt(1e4 / np.pi))
    assert numbers["openings_area_percent"] == pytest.approx(1.06)
    assert numbers["openings_density_per_mm2"] == pytest.approx(2 / 1.0)
    assert numbers["tidemark_columns_count"] == 10000 - 106


def test_thickness_and_depth_numbers() -> None:
    height = np.full((1, 5), 100.0)
    thickness = np.array([[10.0, 20, 30, 100, np.nan]])
    numbers = morphometry(flat(height), thickness)
    assert numbers["thickness_mean_um"] == 40
    assert numbers["thickness_median_um"] == 25
    assert numbers["thickness_p5_um"] == pytest.approx(10 + 0.15 * 10)
    assert numbers["thickness_p95_um"] == pytest.approx(30 + 0.85 * 70)
    assert numbers["thickness_sd_um"] == pytest.approx(np.sqrt((30**2 + 20**2 + 10**2 + 60**2) / 3))
    assert numbers["tidemark_depth_mean_um"] == pytest.approx(30 + 0.85 * 70)
    assert morphometry(flat(height))["thickness_mean_um"] is None


def test_the_depth_of_a_rough_tidemark_is_that_of_its_mean_below_the_surface() -> None:
    height = np.tile([500.0, 540, 540, 500], (10, 3))  # the surface of the cartilage is flat, at 1000
    assert morphometry(flat(height), 1000 - height)["tidemark_depth_mean_um"] == pytest.approx(480)


@given(slope=st.floats(-0.27, 0.27))
def test_a_tilt_of_the_mounting_is_no_depth(slope):
    height = np.broadcast_to(500 + slope * 3.2 * np.arange(60, dtype=np.float32), (50, 60))
    numbers = morphometry(flat(height.copy()), np.full(height.shape, 1000, np.float32))
    assert numbers["tidemark_depth_mean_um"] == pytest.approx(1000, abs=0.01)


# cartilage


def tissue(top: int = 30, surface: int = 80, shape: tuple[int, int, int] = (120, 40, 40)) -> np.ndarray:
    """Return a scan (Z, Y, X): tissue at 100 up to `surface`, the tidemark at the face of `top`."""
    scan = np.zeros(shape, np.uint8)
    scan[:surface] = 100
    return scan


def thickness_of(scan: np.ndarray, height_um: float = 310.0) -> np.ndarray:
    return cartilage_thickness(scan, 40.0, flat(np.full(scan.shape[1:], height_um)))


def test_thickness_runs_from_tidemark_to_surface() -> None:
    scan = tissue()
    np.testing.assert_allclose(thickness_of(scan), 800 - 310)
    np.testing.assert_allclose(thickness_of(scan, 304.0), 800 - 304)
    flipped = Surface(np.full((40, 40), 310, np.float32), np.zeros((40, 40), bool), UM, "last")
    np.testing.assert_allclose(cartilage_thickness(scan[::-1], 40.0, flipped), 490)


def test_parafilm_dust_and_flaps_are_not_cartilage_and_small_gaps_are_bridged() -> None:
    scan = tissue()
    scan[84:86, :20] = 100  # a line of 20 µm above the surface
    scan[95:110, 20:, :20] = 100  # detached, 150 µm above
    scan[85:90, 20:, 20:] = 100  # a flap 50 µm above a crack
    thickness = thickness_of(scan)
    assert (thickness[:18] == 490).all()
    assert (thickness[22:, :18] == 490).all()
    assert (thickness[22:, 22:] == 590).all()


@pytest.mark.parametrize(("gap", "found"), [(9, 490 + 90 + 50), (11, 490)])
def test_a_crack_of_up_to_100_um_is_bridged(gap: int, found: int) -> None:
    scan = tissue()
    scan[80 + gap : 85 + gap] = 100
    assert (thickness_of(scan) == found).all()


def test_noise_above_the_surface_is_averaged_away() -> None:
    scan = tissue()[:, ::2, ::2]
    scan[80:90, ::4, ::4] = 200  # at 3.2 µm a mean over 3 x 3 columns: 22, below the level
    surface = Surface(np.full(scan.shape[1:], 99.2, np.float32), np.zeros(scan.shape[1:], bool), 3.2, "first")
    np.testing.assert_allclose(cartilage_thickness(scan, 40.0, surface), (80 - 31) * 3.2, rtol=1e-6)


def test_a_fissure_thins_the_cartilage_and_bare_bone_has_none() -> None:
    scan = tissue()
    scan[60:, 18:22, 10:30] = 0
    scan[31:, 30:33, 20:23] = 0
    thickness = thickness_of(scan)
    assert thickness[20, 20] == 600 - 310
    assert thickness[31, 21] == 0
    assert thickness[5, 5] == 490


def test_columns_that_leave_through_the_side_have_no_thickness() -> None:
    z, y, x = np.ogrid[:120, :100, :100]
    axis = 50 + 0.27 * (z - 30)  # a plug leaning by 15 degrees
    inside = np.hypot(y - 50, x - axis) < 40
    scan = np.where(inside & (z < 100), 100, 0).astype(np.uint8)
    mask = np.where(inside & (z <= 30), 255, 0).astype(np.uint8)
    thickness = cartilage_thickness(scan, 40.0, find_surface(mask, UM, "first"))
    middle = thickness[50]
    assert np.isnan(middle[12:20]).all()
    known = thickness[np.isfinite(thickness)]
    assert known.min() > 690 - 200 - 75  # and a block of 20 µm, on a slope of 75 degrees
    assert np.median(known) == 690


def test_no_tidemark_no_thickness() -> None:
    height = np.full((40, 40), 310.0)
    height[3, 4] = np.nan
    thickness = cartilage_thickness(tissue(), 40.0, flat(height))
    assert np.isnan(thickness[3, 4])
    assert np.isfinite(thickness).sum() == 1599
