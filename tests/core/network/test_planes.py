"""What slices show of the plug: how much they count where planes cross, and what of them is computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidemark_cli.core.network.planes import blend, clear_far, cut_rows, find_chords, find_near, find_windows

SHAPE = (6, 20, 40)


def outline(z: slice, y: slice, x: slice) -> np.ndarray:
    """A plug that fills a box of a grid of 3 x 10 x 20 cells, each 2 voxels a side in a scan of SHAPE."""
    plug = np.zeros((3, 10, 20), bool)
    plug[z, y, x] = True
    return plug


def disc(side: int) -> np.ndarray:
    """Outline of an upright cylinder that touches the sides of its box."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    return np.broadcast_to(axis[:, None] ** 2 + axis**2 <= 1, (2, side, side))


# ---- how much slices count ----


def test_without_an_outline_all_slices_count_the_same() -> None:
    chords = find_chords(None, SHAPE)
    assert {axis: share.shape for axis, share in chords.items()} == {1: (6, 20), 2: (6, 40)}
    assert all((share == 1).all() for share in chords.values())


def test_slices_count_by_the_plug_they_cut_up_to_half_of_the_longest() -> None:
    plug = np.zeros((1, 5, 8), bool)
    for y, length in enumerate((8, 4, 2, 1, 0)):
        plug[0, y, :length] = True
    zx = find_chords(plug, (1, 5, 8))[1]
    assert zx.tolist() == [[1, 1, 0.5, 0.25, pytest.approx(0.02)]]  # of 8 voxels; 4 are enough
    zy = find_chords(plug, (1, 5, 8))[2]
    assert zy == pytest.approx(np.array([[1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]]))  # columns of 4, 3, 2, 2, 1 ...


def test_a_slice_that_grazes_the_wall_counts_less_than_one_across() -> None:
    chords = find_chords(disc(50), (10, 200, 200))
    assert chords[1][0, 0] <= np.float32(0.4)
    assert chords[2][0, 100] == 1


def test_another_height_has_other_chords() -> None:
    plug = np.concatenate([outline(np.s_[:], np.s_[:], np.s_[:])[:2], outline(*np.s_[:, :, :2])[:1]])
    share = find_chords(plug, SHAPE)[1]
    assert (share[0] == 1).all()
    assert share[-1] == pytest.approx(np.full(20, 0.2))


def test_planes_are_mixed_by_their_chords() -> None:
    # one voxel at each of two heights, and two slices of the other plane
    volume = np.array([[[200, 200]], [[200, 200]]], np.uint8)
    block = np.array([[[100], [100]], [[100], [100]]], np.uint8)  # (slices, Z, columns)
    chords = {1: np.array([[1.0], [0.25]], np.float32), 2: np.array([[1.0, 0.25], [0.75, 1.0]], np.float32)}
    blend(volume, block, 2, 0, chords)
    assert volume.tolist() == [[[150, 180]], [[125, 120]]]


def test_only_the_slices_given_are_touched() -> None:
    volume = np.full((3, 6, 4), 200, np.uint8)
    blend(volume, np.full((2, 3, 4), 100, np.uint8), 1, 3, find_chords(None, volume.shape))
    assert (volume[:, 3:5] == 150).all()
    assert (np.delete(volume, [3, 4], axis=1) == 200).all()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), axis=st.sampled_from([1, 2]))
def test_a_mix_lies_between_both_and_alike_stays_alike(seed: int, axis: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, 256, (4, 5, 6), np.uint8)
    other = rng.integers(0, 256, (4, 5, 6), np.uint8)
    chords = find_chords(rng.random((2, 3, 3)) < 0.7, volume.shape)
    for new in (other, volume):
        mixed = volume.copy()
        blend(mixed, np.moveaxis(new, axis, 0), axis, 0, chords)
        assert (mixed >= np.minimum(volume, new)).all()
        assert (mixed <= np.maximum(volume, new)).all()


# ---- which part is computed ----


@pytest.mark.parametrize("multiple", [4, 32 / 2.6])
def test_without_an_outline_slices_are_computed_whole(multiple: float) -> None:
    near = find_near(None, (480, 20, 40), 3.0)
    assert find_windows(near, (480, 20, 40), 1, multiple) == [(slice(0, 480), slice(0, 40))] * 20


def test_a_window_holds_the_plug_and_some_air_in_multiples() -> None:
    plug = outline(np.s_[:], np.s_[2:4], np.s_[5:7])  # voxels 4 to 8 along Y, 10 to 14 along X
    near = find_near(plug, SHAPE, 2.0)  # a cell more on each side
    nothing = (slice(0, 0),) * 2
    zx = find_windows(near, SHAPE, 1, 4)  # 8 to 16 along X, two times 4
    assert zx == [nothing] * 2 + [(slice(0, 6), slice(8, 16))] * 8 + [nothing] * 10
    zy = find_windows(near, SHAPE, 2, 4)
    assert zy == [nothing] * 8 + [(slice(0, 6), slice(2, 10))] * 8 + [nothing] * 24


def test_a_window_at_the_end_of_a_slice_is_moved_inside() -> None:
    near = find_near(outline(np.s_[:], np.s_[:], np.s_[19:]), SHAPE, 0.0)  # voxels 38 and 39
    assert find_windows(near, SHAPE, 1, 16)[0][1] == slice(24, 40)
    assert find_windows(near, SHAPE, 1, 64)[0][1] == slice(0, 40)


@settings(deadline=None, max_examples=200)
@given(
    plug=st.lists(st.booleans(), min_size=1, max_size=12),
    cell=st.integers(1, 20),
    multiple=st.floats(1, 60),
)
@example([True], 480, 32 / 2.6)
@example([False, False, True, True], 55, 19.2)
def test_the_plug_lies_in_its_window(plug: list[bool], cell: int, multiple: float) -> None:
    length = cell * len(plug)
    near = find_near(np.array(plug)[:, None, None], (length, 1, 1), 1.0)
    rows, _ = find_windows(near, (length, 1, 1), 1, multiple)[0]
    voxels = np.flatnonzero(np.repeat(plug, cell))
    assert 0 <= rows.start <= rows.stop <= length
    if voxels.size:
        assert rows.start <= voxels[0]
        assert voxels[-1] < rows.stop
        assert rows == slice(0, length) or rows.stop - rows.start <= length + multiple
    else:
        assert rows == slice(0, 0)


@pytest.mark.parametrize(
    ("rows", "margin", "kept"),
    [
        ([], 0, range(10)),  # nothing seen: nothing is known
        ([20], 0, range(2, 3)),
        ([20, 39], 0, range(2, 4)),
        ([20, 39], 1, range(1, 5)),
        ([20, 39], 10, range(1, 5)),
        ([20, 39], 11, range(6)),
        ([0, 99], 30, range(10)),
    ],
)
def test_rows_far_from_those_seen_are_cut(rows: list[int], margin: float, kept: range) -> None:
    near, seen = np.ones((10, 2, 3), bool), np.zeros(100, bool)
    near[:, 1] = False
    seen[rows] = True
    cut_rows(near, seen, margin)
    assert np.flatnonzero(near[:, 0].all(axis=1)).tolist() == list(kept)
    assert not near[:, 1].any()


def test_what_is_far_is_cleared() -> None:
    volume = np.full(SHAPE, 9, np.uint8)
    clear_far(volume, outline(np.s_[1:], np.s_[2:4], np.s_[5:7]))
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:, 4:8, 10:14] = 9
    assert np.array_equal(volume, truth)
    image = np.full((6, 1, 40), 9, np.uint8)
    clear_far(image, outline(np.s_[1:], np.s_[:1], np.s_[5:7])[:, :1])
    assert np.array_equal(image, truth[:, 4:5])
