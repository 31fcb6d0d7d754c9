"""Samples in memory and their slices: every voxel where it belongs."""

import numpy as np
import pytest

from tidemark_cli.core.data.dataset import find_samples, write_sample
from tidemark_cli.core.training.slices import Loaded, Slices, load_all, mean_and_sd


@pytest.fixture
def loaded(tmp_path):
    """Two samples of different shapes: the grey level tells the voxel, hard tissue is where it is odd."""
    for name, shape in (("A_1", (10, 3, 4)), ("B_1", (6, 5, 2))):
        scan = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        write_sample(tmp_path, name, scan, scan % 2)
    return load_all(find_samples(tmp_path))


def test_slices_of_both_planes(loaded):
    scan = loaded["A_1"].scan
    assert scan.shape == (10, 3, 4)
    for axis, position in ((1, 2), (2, 3)):
        grey, hard = loaded["A_1"].slice(axis, position)
        assert np.array_equal(grey, np.take(scan, position, axis))
        assert np.array_equal(hard, grey % 2)


def test_gathered_slices_are_filled_up_at_the_far_end(loaded):
    slices = Slices(list(loaded.values()))
    assert len(slices) == 3 + 4 + 5 + 2 and slices.shape == (10, 5)
    grey, hard, origins = slices.gather([0, 13])
    a, b = loaded["A_1"].scan[:, 0], loaded["B_1"].scan[:, :, 1]
    assert origins == [0, 1]
    assert np.array_equal(grey[0, :, :4], a) and not grey[0, :, 4:].any()
    assert np.array_equal(grey[1, :6], b) and not grey[1, 6:].any()
    assert np.array_equal(hard, grey % 2)


def test_every_other_slice(loaded):
    assert Slices([loaded["A_1"]], step=2).places == [(0, 1, 0), (0, 1, 2), (0, 2, 0), (0, 2, 2)]


def test_slices_at_another_voxel_size():
    scan = np.zeros((4, 2, 2), np.uint8)
    scan[:2] = 100
    sample = Loaded(scan, np.packbits(scan > 0, axis=0), np.zeros(256))
    slices = Slices([sample], scale=2.0)
    grey, hard, _ = slices.gather(range(4))
    assert slices.shape == (8, 4) and grey.shape == hard.shape == (4, 8, 4)
    assert grey[0, :, 0].tolist() == [100, 100, 100, 75, 25, 0, 0, 0]  # the edge stays half way up
    assert (hard[:, :, 0] == [1, 1, 1, 1, 0, 0, 0, 0]).all()
    grey, hard, _ = Slices([sample], scale=0.5).gather([0])
    assert grey.tolist() == [[[100], [0]]] and hard.tolist() == [[[1], [0]]]


def test_mean_and_sd_are_those_of_all_voxels(loaded):
    voxels = np.concatenate([one.scan.ravel() for one in loaded.values()]).astype(float)
    assert mean_and_sd(list(loaded.values())) == pytest.approx((voxels.mean(), voxels.std()))


def test_the_deviation_of_a_flat_scan_is_no_zero(tmp_path):
    write_sample(tmp_path, "A_1", np.full((4, 3, 3), 7, np.uint8), np.zeros((4, 3, 3), np.uint8))
    assert mean_and_sd(list(load_all(find_samples(tmp_path)).values())) == (7, 1)
