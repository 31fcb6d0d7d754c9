"""Fits, medians and outlines of small height maps, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tidemark_cli.core.anatomy.heights import block_medians, fit, form, outline, side_wall, surroundings

UM = 10.0


def plane(rows: int = 40, columns: int = 60) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return (500 + 2.0 * y - 3.0 * x).astype(np.float32)


@pytest.mark.parametrize("order", [1, 2])
def test_a_plane_is_fitted_exactly_and_without_gaps(order: int) -> None:
    height = plane()
    height[10:20, 5] = np.nan
    surface, slope = fit(height, order)
    np.testing.assert_allclose(surface, plane(), atol=1e-3)
    np.testing.assert_allclose(slope, (2, -3), atol=1e-5)


def test_a_bowl_is_fitted_by_order_2_alone() -> None:
    y, x = np.mgrid[:20, :30]
    bowl = 100 + 0.5 * (y - 7) ** 2 - 0.3 * (x - 11) ** 2 + 0.1 * x * y
    np.testing.assert_allclose(fit(bowl, 2)[0], bowl, atol=1e-2)
    assert np.abs(fit(bowl, 1)[0] - bowl).max() > 10


def test_columns_count_by_their_weight() -> None:
    height, weight = np.array([[0.0, 0, 0, 60]]), np.array([[1.0, 1, 1, 0]])
    np.testing.assert_allclose(fit(height, 1, weight)[0], 0, atol=1e-6)
    np.testing.assert_allclose(fit(height, 1)[1], (0, 18), atol=1e-6)  # 1.5 * 60 / 5


def test_medians_of_blocks_leave_gaps_out_and_keep_a_profile() -> None:
    nan = np.nan
    height = np.array([[1.0, 2, nan, 9, 5], [3, 4, nan, nan, 7]])
    np.testing.assert_array_equal(block_medians(height, 2), [[2.5, 9, 6]])
    np.testing.assert_array_equal(block_medians(np.full((2, 2), nan), 2), [[nan]])
    np.testing.assert_array_equal(block_medians(height[:1], 2), [[1.5, 9, 5]])


def test_the_surroundings_of_a_pit_are_the_plane_around_it() -> None:
    height = plane()
    height[18:22, 28:32] -= 150
    height[5, 5] = np.nan
    np.testing.assert_allclose(surroundings(height, UM), plane(), atol=5)


def flat_fit(height: np.ndarray) -> np.ndarray:
    return fit(height, 1)[0]


def arc(rows: int = 20, columns: int = 160, radius_um: float = 10_000, um: float = 50.0) -> np.ndarray:
    """Return heights along the top of a cylinder: 8 mm of it sink by 835 µm, 2.5 mm by 78."""
    x = (np.arange(columns) - (columns - 1) / 2) * um
    return np.tile(1000 + np.sqrt(radius_um**2 - x**2) - radius_um, (rows, 1)).astype(np.float32)


def test_a_map_as_wide_as_a_plug_is_fitted_as_a_whole() -> None:
    height = np.full((10, 300), np.nan, np.float32)
    height[:, 20:270] = arc(10, 250, um=10)  # 2.5 mm of it
    np.testing.assert_array_equal(form(height, 10.0, flat_fit), flat_fit(height))
    assert (form(height, 10.1, flat_fit) != flat_fit(height)).any()


def test_a_wide_map_is_fitted_where_it_is_and_a_plane_everywhere_alike() -> None:
    bent = arc()
    assert np.abs(bent - flat_fit(bent)).max() > 400
    assert np.abs(bent - form(bent, 50.0, flat_fit)).max() < 78
    assert np.abs(bent.T - form(bent.T, 50.0, flat_fit)).max() < 78
    gaps = plane(60, 80)
    gaps[:, 50:] = np.nan
    gaps[0, 79] = 5000  # a window with a single column has no plane
    np.testing.assert_allclose(form(gaps, 100.0, flat_fit)[:, :50], plane(60, 80)[:, :50], atol=0.05)


def test_the_surroundings_of_a_condyle_are_its_own_curve() -> None:
    np.testing.assert_allclose(surroundings(arc(), 50.0), arc(), atol=12)  # over 300 µm its ends sink by 120


def test_the_ends_of_a_condyle_are_no_sides() -> None:
    assert not side_wall(arc(60), 50.0).any()


def test_nothing_around_is_no_surroundings() -> None:
    assert np.isnan(surroundings(np.full((8, 9), np.nan, np.float32), UM)).all()


def test_holes_and_narrow_bites_are_enclosed_and_wide_ones_are_not() -> None:
    found = np.ones((60, 80), bool)
    found[:2] = False  # the rim
    found[30:34, 40:44] = False  # a hole
    found[:20, 10:16] = False  # a bite 60 µm wide
    found[:20, 40:70] = False  # 300 µm wide
    enclosed = outline(found, UM)
    assert enclosed[30:34, 40:44].all()
    assert enclosed[10, 10:16].all()
    assert not enclosed[5, 45:65].any()
    assert not outline(np.zeros((5, 6), bool), UM).any()


def test_a_profile_is_enclosed_between_its_ends() -> None:
    found = np.array([[False, True, False, False, True, False]])
    assert outline(found, UM).tolist() == [[False, True, True, True, True, False]]
    assert outline(found.T, UM).ravel().tolist() == [False, True, True, True, True, False]


def test_the_side_is_what_lies_low_at_the_rim() -> None:
    height = np.full((60, 60), 1000, np.float32)
    height[:, :8] = 700  # at the rim of what is known
    height[30:36, 30:36] = 700  # a pit in the middle
    height[:, :2] = np.nan
    wall = side_wall(height, UM)
    assert wall[:, 2:8].all()
    assert not wall[:, 12:].any()
    assert not side_wall(np.full((4, 4), np.nan, np.float32), UM).any()
