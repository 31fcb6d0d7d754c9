"""Which slices a network sees, and those between them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.network.passes import filled, plan_passes, scale_between, spread
from tidemark_cli.core.network.unet import ModelInfo

NEAR = np.ones((1, 1, 1), bool)


@settings(deadline=None)
@given(length=st.integers(1, 400), stride=st.integers(1, 20))
def test_predicted_slices_go_evenly_from_end_to_end(length: int, stride: int) -> None:
    positions = spread(length, stride)
    gaps = np.diff(positions)
    assert (positions[0], positions[-1]) == (0, length - 1)
    if length > 1:
        assert 1 <= gaps.min() <= gaps.max() <= stride
        assert gaps.max() - gaps.min() <= 1
        assert len(positions) == math.ceil((length - 1) / stride) + 1


def test_between_two_slices_lie_their_weighted_means() -> None:
    image = [np.full((2, 3), grey, np.uint8) for grey in (0, 90, 30)]
    blocks = list(filled([[(0, image[0]), (3, image[1])], [(5, image[2])]]))
    assert [start for start, _ in blocks] == [0, 4]
    assert [int(one[0, 0]) for _, block in blocks for one in block] == [0, 30, 60, 90, 60, 30]


def test_a_plan_takes_the_model_s_planes_step_and_scale() -> None:
    info = ModelInfo(voxel_um=3.2, step=2, planes=("zx",))
    (item,) = plan_passes(info, (30, 9, 12), NEAR, 1.6, None, None)
    assert (item.axis, item.ratio, item.positions) == (1, 0.5, [0, 4, 8])
    both = plan_passes(info, (30, 9, 12), NEAR, 3.2, ("zx", "zy"), 1)
    assert [(each.axis, each.predicted) for each in both] == [(1, list(range(9))), (2, list(range(12)))]


@pytest.mark.parametrize(("either_end", "views"), [(True, 4), (False, 2)])
def test_an_image_is_seen_mirrored_and_upside_down_where_the_model_may(either_end: bool, views: int) -> None:
    (item,) = plan_passes(ModelInfo(either_end=either_end), (30, 1, 12), NEAR, 3.2, None, None)
    assert len(item.views) == views


def test_a_scale_as_good_as_equal_is_1_and_one_too_coarse_is_refused() -> None:
    info = ModelInfo(voxel_um=3.0)
    assert [scale_between(um, info) for um in (3.05, 6.0, 48.0)] == [1, 2, 16]
    with pytest.raises(ContentError, match="17 times as wide"):
        scale_between(51.0, info)
