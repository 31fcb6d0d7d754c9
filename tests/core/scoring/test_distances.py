"""Distances between surfaces by hand, and against every pair of points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tidemark_cli.core.scoring.distances import TOLERANCES_UM, surface_distances

VOXEL_UM = 3.2
DICES = [f"surface_dice_{tolerance:g}um" for tolerance in TOLERANCES_UM]


def heights(*rows: tuple[float, ...]) -> np.ndarray:
    """Return a height map (Y, X) in µm from whole voxels."""
    return (np.array(rows) * VOXEL_UM).astype(np.float32)


def by_brute_force(found_um: np.ndarray, truth_um: np.ndarray) -> dict[str, float]:
    points = []
    for height in (found_um, truth_um):
        y, x = np.nonzero(np.isfinite(height))
        points.append(np.column_stack([height[y, x], y * VOXEL_UM, x * VOXEL_UM]))
    apart = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    there, back = apart.min(axis=1), apart.min(axis=0)
    both = np.concatenate([there, back])
    dices = [float((both <= tolerance * 1.0001).mean()) for tolerance in TOLERANCES_UM]
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return {"hd95_um": hd95, "assd_um": both.mean()} | dict(zip(DICES, dices, strict=True))


def test_equal_surfaces_are_nowhere_apart():
    tidemark = heights((4, 5, np.nan), (6, 5, 9))
    assert surface_distances(tidemark, tidemark, VOXEL_UM) == {
        "hd95_um": 0,
        "assd_um": 0,
        **dict.fromkeys(DICES, 1),
    }


def test_a_flat_surface_two_voxels_too_high_is_two_voxels_away():
    found = surface_distances(np.full((4, 5), 32, np.float32), np.full((4, 5), 25.6, np.float32), VOXEL_UM)
    assert found["hd95_um"] == found["assd_um"] == pytest.approx(6.4)
    assert [found[name] for name in DICES] == [1, 1, 1, 1]  # 6.4 µm is within 6.4 µm


def test_heights_are_taken_to_the_nearest_whole_voxel() -> None:
    found = surface_distances(heights((2.9, 5.1)), heights((3.1, 4.9)), VOXEL_UM)
    assert (found["hd95_um"], found["assd_um"]) == (0, 0)


def test_the_nearest_point_may_be_in_another_column():
    # the step lies one column further on: the middle points are one voxel from the other surface
    found = surface_distances(heights((0, 0, 50, 50)), heights((0, 50, 50, 50)), VOXEL_UM)
    assert found["assd_um"] == pytest.approx((VOXEL_UM + VOXEL_UM) / 8)
    assert found["surface_dice_6.4um"] == 1


def test_a_missed_column_is_as_far_as_the_nearest_found_one():
    found = surface_distances(heights((7, 7, np.nan, np.nan)), heights((7, 7, 7, 7)), VOXEL_UM)
    # true to found: 0, 0, 3.2, 6.4; found to true: 0, 0
    assert found["assd_um"] == pytest.approx(9.6 / 6)
    assert found["hd95_um"] == pytest.approx(np.percentile([0, 0, 3.2, 6.4], 95))


def test_without_a_surface_there_is_no_distance():
    nothing, tidemark = heights((np.nan, np.nan)), heights((3, 4))
    for pair in ((nothing, tidemark), (tidemark, nothing)):
        found = surface_distances(*pair, VOXEL_UM)
        assert found["hd95_um"] is None and found["assd_um"] is None
        assert [found[name] for name in DICES] == [0, 0, 0, 0]
    assert set(surface_distances(nothing, nothing, VOXEL_UM).values()) == {None}


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        surface_distances(heights((1, 2)), heights((1,), (2,)), VOXEL_UM)


maps = arrays.arrays(
    np.float32,
    st.sampled_from([(4, 5)]),
    elements=st.one_of(st.just(np.nan), st.integers(0, 12).map(lambda k: float(np.float32(k * VOXEL_UM)))),
)


@settings(max_examples=80, deadline=None)
@given(maps, maps)
def test_against_brute_force_and_symmetric(found_um, truth_um):
    if not (np.isfinite(found_um).any() and np.isfinite(truth_um).any()):
        return
    found = surface_distances(found_um, truth_um, VOXEL_UM)
    assert found == pytest.approx(by_brute_force(found_um, truth_um), abs=1e-4)
    assert found == pytest.approx(surface_distances(truth_um, found_um, VOXEL_UM))
    assert found["assd_um"] >= 0 and sorted(found[name] for name in DICES) == [found[name] for name in DICES]
