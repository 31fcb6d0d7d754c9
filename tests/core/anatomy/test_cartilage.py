"""Thickness of cartilage by hand: tissue of grey level 100 in air of 0, bone first."""

from __future__ import annotations

import numpy as np
import pytest

from tidemark_cli.core.anatomy.cartilage import cartilage_thickness
from tidemark_cli.core.anatomy.surface import Surface, find_surface

UM = 10.0


def tissue(top: int = 30, surface: int = 80, shape: tuple[int, int, int] = (120, 40, 40)) -> np.ndarray:
    """Return a scan (Z, Y, X): tissue at 100 up to `surface`, the tidemark at the face of `top`."""
    scan = np.zeros(shape, np.uint8)
    scan[:surface] = 100
    return scan


def flat(height_um: float, shape: tuple[int, ...], voxel_um: float = UM) -> Surface:
    return Surface(np.full(shape, height_um, np.float32), np.zeros(shape, bool), voxel_um)


def thickness_of(scan: np.ndarray, height_um: float = 310.0) -> np.ndarray:
    return cartilage_thickness(scan, 40.0, flat(height_um, scan.shape[1:]))


def test_thickness_runs_from_tidemark_to_surface() -> None:
    scan = tissue()
    np.testing.assert_allclose(thickness_of(scan), 800 - 310)
    np.testing.assert_allclose(thickness_of(scan, 304.0), 800 - 304)


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
    surface = flat(99.2, scan.shape[1:], 3.2)
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
    thickness = cartilage_thickness(scan, 40.0, find_surface(mask, UM))
    middle = thickness[50]
    assert np.isnan(middle[12:20]).all()
    known = thickness[np.isfinite(thickness)]
    assert known.min() > 690 - 200 - 75  # and a block of 20 µm, on a slope of 75 degrees
    assert np.median(known) == 690


def test_no_tidemark_no_thickness() -> None:
    surface = flat(310.0, (40, 40))
    surface.height_um[3, 4] = np.nan
    thickness = cartilage_thickness(tissue(), 40.0, surface)
    assert np.isnan(thickness[3, 4])
    assert np.isfinite(thickness).sum() == 1599


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 1, 6), (1, 1, 1)])
def test_an_empty_surface_has_no_thickness(shape: tuple[int, int, int]) -> None:
    empty = find_surface(np.zeros(shape, np.uint8), UM)
    assert np.isnan(cartilage_thickness(np.ones(shape), 0.5, empty)).all()


def test_a_scan_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="as the surface"):
        cartilage_thickness(tissue()[:, :2], 40.0, flat(310.0, (40, 40)))
