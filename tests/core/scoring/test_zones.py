"""Scores by hand, and against the plain way of computing them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tidemark_cli.core.scoring.zones import (
    height_errors,
    lowest_level,
    mean_interval,
    pad_voxels,
    zone_counts,
)


def column(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(-1, 1, 1)


def test_zones_by_hand():
    # bone first; tidemark at row 2, zone of pad 2 is rows 1-4
    truth = column(255, 255, 255, 0, 0, 0)
    found = column(0, 0, 255, 255, 0, 255)
    counts = zone_counts(found, truth, [1, 2, 3])
    assert counts.true_positive.tolist() == [[1, 1, 1]]
    assert counts.false_positive.tolist() == [[1, 1, 2]]  # row 5 counts from pad 3 on
    assert counts.false_negative.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(counts.iou, [[1 / 2, 1 / 3, 1 / 5]])
    np.testing.assert_allclose(counts.dice, [[2 / 3, 2 / 4, 2 / 6]])
    np.testing.assert_allclose(counts.volumetric_similarity, [[1 - 1 / 3, 1, 1]])


def test_the_floor_is_what_a_mask_scores_that_is_hard_everywhere():
    truth = column(0, 255, 255, 0, 0, 0)
    found = column(0, 0, 255, 255, 0, 255)
    counts = zone_counts(found, truth, [1, 2, 3])
    assert counts.voxels.tolist() == [[2, 4, 6]]
    np.testing.assert_allclose(counts.hard_share, [[1, 2 / 4, 3 / 6]])
    np.testing.assert_allclose(counts.all_hard.iou, [[1 / 2, 2 / 4, 2 / 6]])
    np.testing.assert_allclose(counts.all_hard.dice, [[2 / 3, 4 / 6, 4 / 8]])
    np.testing.assert_allclose(counts.all_hard.volumetric_similarity, [[2 / 3, 4 / 6, 4 / 8]])
    np.testing.assert_array_equal(counts.all_hard.hard_share, 1)


def test_the_threshold_is_strict():
    truth = column(255, 0)
    for threshold, positives in ((127 / 255, 1), (128 / 255, 0), (0.5, 1)):
        assert zone_counts(column(128, 0), truth, [1], [threshold]).true_positive[0, 0] == positives


def test_columns_without_hard_tissue_have_no_zone_and_an_empty_truth_scores_0():
    counts = zone_counts(column(255, 255), column(0, 0), [2])
    assert counts.false_positive.tolist() == [[0]]
    assert counts.iou.tolist() == counts.dice.tolist() == counts.volumetric_similarity.tolist() == [[0]]
    assert counts.all_hard.iou.tolist() == counts.hard_share.tolist() == [[0]]


def test_a_zone_far_wider_than_the_volume_is_the_volume():
    truth, found = column(255, 255, 0, 0), column(0, 255, 0, 255)
    far, whole = (zone_counts(found, truth, [1, pad]) for pad in (10**12, 4))
    assert far.iou.tolist() == whole.iou.tolist() == [[1, 1 / 3]]


def test_bad_shapes_and_pads_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        zone_counts(column(0), column(0, 0), [1])
    with pytest.raises(ValueError, match="at least one"):
        zone_counts(column(0), column(0), [0])


volumes = arrays.arrays(np.uint8, (7, 2, 3), elements=st.sampled_from([0, 100, 255]))


@settings(max_examples=60, deadline=None)
@given(volumes, volumes, st.integers(1, 8))
def test_against_the_plain_way(prediction, truth, pad):
    truth = np.where(truth == 100, 0, truth).astype(np.uint8)
    expected = [0, 0, 0]
    for y in range(2):
        for x in range(3):
            hard = np.flatnonzero(truth[:, y, x])
            for z in range(7):
                if hard.size and hard[-1] - pad < z <= hard[-1] + pad:
                    found, true = prediction[z, y, x] / 255 > 0.3, truth[z, y, x] > 0
                    expected[0] += found and true
                    expected[1] += found and not true
                    expected[2] += true and not found
    counts = zone_counts(prediction, truth, [pad], [0.3])
    found = counts.true_positive, counts.false_positive, counts.false_negative
    assert [int(count[0, 0]) for count in found] == expected
    assert 0 <= counts.iou[0, 0] <= counts.dice[0, 0] <= 1
    assert counts.dice[0, 0] <= counts.volumetric_similarity[0, 0] <= 1
    full = zone_counts(np.full_like(truth, 255), truth, [pad], [0.3])
    for name in ("true_positive", "false_positive", "false_negative", "voxels"):
        assert getattr(counts.all_hard, name) == getattr(full, name)


def test_pads():
    assert [pad_voxels(p, 3.2) for p in (15, 30, 75)] == [5, 9, 23]
    assert [pad_voxels(p, 3.2, paper=True) for p in (15, 30, 75)] == [5, 10, 25]


def test_height_errors_by_hand():
    nan = np.nan
    errors = height_errors(np.array([[1.0, 5.0, nan, 7.0]]), np.array([[2.0, 2.0, 4.0, nan]]))
    assert errors["bias_um"] == 1 and errors["mean_error_um"] == 2 and errors["median_error_um"] == 2
    assert errors["rmse_um"] == pytest.approx(5**0.5)
    assert errors["missed_columns"] == pytest.approx(1 / 3)
    assert errors["extra_columns"] == pytest.approx(1 / 3)
    nothing = height_errors(np.array([[nan]]), np.array([[nan]]))
    assert set(nothing.values()) == {None}


def test_the_interval_of_a_mean_is_student_s() -> None:
    # t of 2 degrees of freedom is 4.3027; SD 2, n 3
    assert mean_interval(np.array([-22.0, -20.0, -18.0])) == pytest.approx(
        (-20 - 4.3027 * 2 / 3**0.5, -20 + 4.3027 * 2 / 3**0.5), abs=1e-3
    )
    assert mean_interval(np.array([3.0, 3.0])) == (3, 3)
    assert mean_interval(np.array([3.0])) is None


def test_mean_median_and_95th_percentile_of_the_error_are_told_apart() -> None:
    errors = height_errors(-(np.arange(20, dtype=np.float32) ** 2), np.zeros(20, np.float32))
    assert (errors["bias_um"], errors["mean_error_um"], errors["median_error_um"]) == (-123.5, 123.5, 90.5)
    assert errors["p95_error_um"] == pytest.approx(324 + 0.05 * (361 - 324))


def test_missed_and_extra_columns_are_shares_of_the_true_ones() -> None:
    found, truth = np.full((2, 7), np.nan, np.float32)
    truth[:4], found[2:] = 1, 1  # 4 true, 2 of them found, 3 found in excess
    errors = height_errors(found, truth)
    assert (errors["missed_columns"], errors["extra_columns"]) == (2 / 4, 3 / 4)


def test_the_lowest_level_is_above_the_threshold():
    for threshold in (0.0, 0.3, 0.5, 128 / 255, 0.999):
        level = lowest_level(threshold)
        assert level / 255 > threshold >= (level - 1) / 255
    assert lowest_level(1) == 256
