"""Batches of slices: each of them once, in the order asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tidemark_cli.core.data.dataset import find_samples, write_sample
from tidemark_cli.core.training.batches import augmented, steps_of, whole
from tidemark_cli.core.training.settings import Augmentation
from tidemark_cli.core.training.slices import Loaded, Slices, load_all

CPU = torch.device("cpu")


@pytest.fixture
def loaded(tmp_path):
    """Two samples of different shapes: the grey level tells the voxel, hard tissue is where it is odd."""
    for name, shape in (("A_1", (10, 3, 4)), ("B_1", (6, 5, 2))):
        scan = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        write_sample(tmp_path, name, scan, scan % 2)
    return load_all(find_samples(tmp_path))


def epoch(slices, chances, start=0, batch=4):
    how = Augmentation(pad=(12, 8), crop=(8, 4))
    normalise = [lambda grey: grey / 255] * 2
    return [(x, y) for x, y in augmented(slices, batch, how, normalise, chances, CPU, start)]


def test_an_epoch_depends_on_its_chances_alone_and_goes_on_anywhere(loaded):
    slices = Slices(list(loaded.values()))
    first = epoch(slices, (1, 2, 3))
    assert len(first) == steps_of(slices, 4) == 3 and first[0][0].shape == (4, 1, 8, 4)
    for start in range(4):
        rest = epoch(slices, (1, 2, 3), start)
        assert len(rest) == 3 - start
        assert all(
            torch.equal(a, b)
            for x, y in zip(first[start:], rest, strict=True)
            for a, b in zip(x, y, strict=True)
        )
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(epoch(slices, other)[0][0], first[0][0])


def test_an_epoch_takes_no_slice_twice(loaded):
    slices = Slices([loaded["A_1"]])
    how = Augmentation(pad=(1, 1), crop=(10, 4), flip=0, gamma_share=0)  # ZY slices are 3 wide, then air
    batches = augmented(slices, 2, how, [lambda grey: grey], (0, 0, 0), CPU)
    seen = [tuple(image.flatten().tolist()) for x, _ in batches for image in x]
    assert len(seen) == len(set(seen)) == 6


def test_every_epoch_has_an_order_of_its_own(loaded: dict[str, Loaded]) -> None:
    how = Augmentation(pad=(1, 1), crop=(10, 4), flip=0, gamma_share=0)  # nothing but the order is drawn

    def order(epoch: int) -> list[list[float]]:
        batches = augmented(Slices([loaded["A_1"]]), 7, how, [lambda grey: grey], (0, 0, epoch), CPU)
        return [image.flatten().tolist() for x, _ in batches for image in x]

    assert order(1) != order(2) and sorted(order(1)) == sorted(order(2))


def test_fewer_slices_than_a_batch_are_one_batch(loaded):
    assert [len(x) for x, _ in epoch(Slices([loaded["A_1"]]), (0, 0, 0), batch=100)] == [7]


def test_whole_slices_come_in_order_with_air_at_the_far_end(loaded):
    slices = Slices(list(loaded.values()))
    batches = list(whole(slices, 5, 4, [lambda grey: grey + 1, lambda grey: grey + 2], CPU))
    assert [len(x) for x, _ in batches] == [5, 5, 4]
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    assert x.shape == (14, 1, 12, 8) and y.shape == (14, 1, 10, 5)
    assert torch.equal(x[1, 0, :10, :4], torch.from_numpy(loaded["A_1"].scan[:, 1].copy()) + 1.0)
    assert (x[:7, :, 10:] == 1).all() and (x[7:, :, 10:] == 2).all()  # 0, normalised as its own sample


def test_an_error_in_a_thread_is_raised(loaded):
    def broken(grey):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(whole(Slices([loaded["A_1"]]), 2, 4, [broken], CPU))
