"""Fields: laws that every random function of space must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.phantoms.texture import Field, Grid, make_grid, smoothstep

EXTENT = ((0.0, 200.0), (-100.0, 100.0), (-100.0, 100.0))


def a_field(seed: int = 0, scale: tuple[float, float, float] = (20, 20, 20), shear: float = 0.0) -> Field:
    return Field(np.random.default_rng(seed), EXTENT, scale, shear)


def test_a_grid_lies_centred_and_starts_half_a_voxel_up():
    grid = make_grid((2, 3, 4), 10.0, (0, 100))
    assert grid.z.tolist() == [5, 15]
    assert grid.y.tolist() == [-10, 0, 10]
    assert grid.x.tolist() == [85, 95, 105, 115]
    assert grid.shape == (2, 3, 4)


@pytest.mark.parametrize("shear", [0.0, 0.5])
def test_a_field_has_mean_0_and_standard_deviation_1(shear):
    values = a_field(1, (8, 8, 8), shear)(make_grid((60, 60, 60), 3.2))
    assert abs(values.mean()) < 0.1
    assert 0.9 < values.std() < 1.1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-0.8, 0.8), st.sampled_from([8.0, 25.0, np.inf]))
def test_a_field_is_the_same_at_any_voxel_size(seed, shear, scale_z):
    field = a_field(seed, (scale_z, 20, 15), shear)
    coarse = field(make_grid((3, 5, 5), 6.0))
    fine = field(make_grid((9, 15, 15), 2.0))
    coarse, fine = np.broadcast_to(coarse, (3, 5, 5)), np.broadcast_to(fine, (9, 15, 15))
    np.testing.assert_allclose(coarse, fine[1::3, 1::3, 1::3], atol=1e-4)


def test_a_slab_is_a_part_of_the_whole():
    grid, field = make_grid((20, 6, 7), 3.2), a_field()
    np.testing.assert_allclose(field(grid.slab(5, 9)), field(grid)[5:9], atol=1e-6)


def test_shear_moves_features_along_x():
    field = a_field(3, (np.inf, 20, 20), shear=0.5)
    low = field(Grid(np.array([10.0]), np.array([0.0]), np.array([0.0])))
    high = field(Grid(np.array([50.0]), np.array([0.0]), np.array([20.0])))
    np.testing.assert_allclose(low, high, atol=1e-5)


def test_smoothstep_by_hand():
    np.testing.assert_allclose(smoothstep(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smoothstep(np.array([0.25]), 0, 1), [0.15625])


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_a_lattice_that_is_full_repeats_itself(shear):
    extent = ((0.0, 100.0), (0.0, 100.0), (0.0, 100.0))
    field = Field(np.random.default_rng(2), extent, (5.0, 5.0, 5.0), shear, most=8)
    assert field.lattice.shape == (8, 8, 8)
    here = np.array([3.0, 11.5, 20.0], np.float32)
    at, across, along = Grid(here, here, here), Grid(here, here + 40, here), Grid(here, here, here + 40)
    np.testing.assert_allclose(field(across), field(at), atol=1e-5)
    np.testing.assert_allclose(field(along), field(at), atol=1e-5)
    assert np.abs(field(Grid(here, here, here + 20)) - field(at)).max() > 0.1
