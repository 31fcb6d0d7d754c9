"""What slices show of the plug: how much they count where planes cross, and what of them is computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.planes import blend, find_chords, find_windows

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
    assert chords[1][0, 0] <= 0.4
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


def test_without_an_outline_slices_are_computed_whole() -> None:
    assert find_windows(None, SHAPE, 1, 3.0, 4) == [(slice(0, 6), slice(0, 40))] * 20


def test_a_window_holds_the_plug_and_some_air_in_multiples() -> None:
    plug = outline(np.s_[:], np.s_[2:4], np.s_[5:7])  # voxels 4 to 8 along Y, 10 to 14 along X
    zx = find_windows(plug, SHAPE, 1, 2.0, 4)
    # a cell more on each side: 8 to 16, two times 4
    assert zx == [(slice(0, 0),) * 2] * 2 + [(slice(0, 6), slice(8, 16))] * 8 + [(slice(0, 0),) * 2] * 10
    zy = find_windows(plug, SHAPE, 2, 2.0, 4)
    assert zy[:8] == [(slice(0, 0),) * 2] * 8
    assert zy[8:16] == [(slice(0, 6), slice(2, 10))] * 8
    assert zy[16:] == [(slice(0, 0),) * 2] * 24


def test_a_window_at_the_end_of_a_slice_is_moved_inside() -> None:
    plug = outline(np.s_[:], np.s_[:], np.s_[19:])  # voxels 38 and 39
    assert find_windows(plug, SHAPE, 1, 0.0, 16)[0][1] == slice(24, 40)
    assert find_windows(plug, SHAPE, 1, 0.0, 64)[0][1] == slice(0, 40)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    axis=st.sampled_from([1, 2]),
    margin=st.floats(1, 10),
    multiple=st.floats(1, 30),
)
def test_every_voxel_of_the_plug_lies_in_the_window_of_its_slice(
    seed: int, axis: int, margin: float, multiple: float
) -> None:
    plug = np.random.default_rng(seed).random((3, 4, 5)) < 0.2
    shape = (9, 12, 15)  # 3 voxels a cell
    windows = find_windows(plug, shape, axis, margin, multiple)
    voxels = np.moveaxis(plug.repeat(3, 0).repeat(3, 1).repeat(3, 2), axis, 0)
    assert len(windows) == len(voxels)
    for image, (rows, columns) in zip(voxels, windows, strict=True):
        outside = image.copy()
        outside[rows, columns] = False
        assert not outside.any()
        assert 0 <= rows.start <= rows.stop <= image.shape[0]
        assert 0 <= columns.start <= columns.stop <= image.shape[1]
