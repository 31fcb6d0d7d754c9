"""Refinement: interpolation by hand, and small shifts of a pattern found again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tidemark_cli.core.registration.refine import Metric, interpolate, refine, within
from tidemark_cli.core.registration.search import Grid


def test_scans_that_hardly_meet_are_left_alone() -> None:
    grid = Grid(np.random.default_rng(0).random((8, 8, 8), np.float32), np.eye(4))
    away = np.eye(4)
    away[0, 3] = 7.5
    indices = np.argwhere(np.ones((8, 8, 8)))
    np.testing.assert_array_equal(refine(grid, indices, grid, away), away)


def test_interpolation_by_hand() -> None:
    z, y, x = np.mgrid[:3, :4, :5]
    values, slopes = interpolate(100.0 * z + 10 * y + x, np.array([[0.5, 1.0], [1.25, 2.5], [3.5, 0.0]]))
    np.testing.assert_allclose(values, (50 + 12.5 + 3.5, 100 + 25 + 0))
    np.testing.assert_allclose(slopes, [[100, 100], [10, 10], [1, 1]])


def test_places_within_have_voxels_on_all_sides() -> None:
    places = np.array([[0.0, 1.9, 2.0, 1.0], [0.0, 0.5, 0.5, -0.1], [0.0, 2.9, 1.0, 1.0]])  # z, y, x
    assert within(places, (3, 3, 4)).tolist() == [True, True, False, False]


@pytest.mark.parametrize("metric", ["mi", "mse"])
def test_a_shift_of_part_of_a_voxel_is_found(metric: Metric) -> None:
    pattern = gaussian_filter(np.random.default_rng(0).random((24, 24, 24), np.float32), 2)
    grid = Grid(255 * pattern, np.diag([0.1, 0.1, 0.1, 1.0]))
    inner = np.argwhere(np.ones((16, 16, 16))) + 4
    away = np.eye(4)
    away[:3, 3] = 0.06, -0.05, 0.04  # mm of voxels of 0.1
    found = refine(grid, inner, grid, away, metric)
    np.testing.assert_allclose(found, np.eye(4), atol=0.01)
