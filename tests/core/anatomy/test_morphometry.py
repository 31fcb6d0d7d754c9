"""The numbers on surfaces of known shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark_cli.core.anatomy.morphometry import DEFINITIONS, morphometry
from tidemark_cli.core.anatomy.surface import Surface

UM = 10.0


def flat(height: np.ndarray, opening: np.ndarray | None = None, voxel_um: float = UM) -> Surface:
    height = np.asarray(height, np.float32)
    return Surface(height, np.zeros(height.shape, bool) if opening is None else opening, voxel_um)


def test_every_number_is_defined_and_goes_into_json() -> None:
    of_a_slice = {f"roughness_{name}_um" for name in ("ra", "rq", "rz")}
    numbers = morphometry(flat(np.full((50, 50), 310.0)), np.full((50, 50), 100.0))
    assert set(numbers) == set(DEFINITIONS)
    assert {name for name, value in numbers.items() if value is None} == of_a_slice
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_a_tilted_plane_is_smooth() -> None:
    y, x = np.mgrid[:40, :60]
    slope_x, slope_y = 0.3, 0.4  # together 0.5: 26.565 degrees
    numbers = morphometry(flat(500 + UM * (x * slope_x + y * slope_y)))
    assert numbers["tilt_deg"] == pytest.approx(26.565, abs=0.001)
    assert numbers["roughness_sa_um"] == pytest.approx(0, abs=0.01)
    assert numbers["roughness_sz_um"] == pytest.approx(0, abs=0.01)
    assert numbers["developed_area_ratio"] == pytest.approx(1, abs=1e-5)
    assert numbers["projected_area_mm2"] == pytest.approx(40 * 60 * 1e-4)
    assert numbers["tidemark_height_mean_um"] == pytest.approx(500 + 295 * 0.3 + 195 * 0.4, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 40])
def test_a_sine_has_the_roughness_of_a_sine(rows: int) -> None:
    amplitude, wave, voxel_um = 20.0, 200.0, 4.0
    x = np.arange(1000) * voxel_um
    height = np.tile(300 + amplitude * np.sin(2 * np.pi * x / wave), (rows, 1))
    numbers = morphometry(flat(height, voxel_um=voxel_um))
    names, others = ("rs", "sr")[rows > 1]
    for letter, expected, rel in (("a", 2 / np.pi, 0.01), ("q", 1 / np.sqrt(2), 0.01), ("z", 2, 0.1)):
        assert numbers[f"roughness_{names}{letter}_um"] == pytest.approx(expected * amplitude, rel=rel)
        assert numbers[f"roughness_{others}{letter}_um"] is None
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
    assert numbers["roughness_sz_um"] == pytest.approx(50, abs=2)
    assert numbers["roughness_range_p5_p95_um"] < 2


def test_a_bowl_is_no_roughness() -> None:
    y, x = np.mgrid[:30, :30]
    numbers = morphometry(flat(200 + 0.3 * (x - 10.0) ** 2 - 0.2 * (y - 12.0) ** 2 + 0.1 * x * y))
    assert numbers["roughness_sq_um"] == pytest.approx(0, abs=0.01)


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


def test_a_condyle_is_as_smooth_and_as_deep_as_a_plug_of_it() -> None:
    x = (np.arange(400) - 199.5) * 20.0  # 8 mm of a circle with a radius of 10 mm, which is no parabola
    waves = 20 * np.sin(2 * np.pi * x / 200)
    height = np.tile(2000 + np.sqrt(1e8 - x**2) - 1e4 + waves, (50, 1))
    numbers = morphometry(flat(height, voxel_um=20.0), 1000 - np.tile(waves, (50, 1)))
    assert numbers["roughness_sq_um"] == pytest.approx(20 / np.sqrt(2), rel=0.02)
    assert numbers["tidemark_depth_mean_um"] == pytest.approx(1000, abs=50)  # 2.5 mm bend by 78 µm
    assert numbers["tilt_deg"] == pytest.approx(0, abs=0.1)


def test_a_single_slice_has_lengths_and_no_areas() -> None:
    height = np.full((1, 70), 310.0)
    height[0, 30:35] = np.nan
    numbers = morphometry(flat(height, np.isnan(height)))
    assert numbers["openings_count"] == 1
    assert numbers["openings_diameter_max_um"] == 50
    assert numbers["openings_area_percent"] == pytest.approx(100 * 5 / 70)
    assert numbers["openings_density_per_mm2"] is None
    assert numbers["projected_area_mm2"] is None


def test_no_tidemark_has_no_numbers_and_one_column_no_roughness() -> None:
    nothing = np.full((4, 5), np.nan)
    assert set(morphometry(flat(nothing), nothing).values()) == {None}
    numbers = morphometry(flat(np.full((1, 1), 10.0)))
    assert numbers["tidemark_columns_count"] == 1
    assert numbers["roughness_ra_um"] is None
