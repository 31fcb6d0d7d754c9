"""Augmentation by hand: where pixels go, what grey levels become, and that chances are as told."""

import numpy as np
import pytest
import torch

from tidemark_cli.core.training.augment import (
    Augmentation,
    Draws,
    augment,
    draw,
    fitting,
    grey_tables,
    look_up,
)

PLAIN = Augmentation(pad=(4, 6), crop=(4, 6), flip=0, gamma_share=0)
PLAIN_CROP = Augmentation(pad=(4, 6), crop=(2, 2))


def draws(corners, flips=None, gammas=None, turns=None):
    none = [False] * len(corners)
    return Draws(
        np.array(corners),
        np.array(flips or none),
        np.array(gammas or [1.0] * len(corners)),
        np.array(turns or none),
    )


def same(grey):
    return grey


def run(grey, hard, chances, how, normalise=same):
    grey, hard = (torch.tensor(part, dtype=torch.uint8) for part in (grey, hard))
    x, y = augment(grey, hard, grey_tables(chances.gammas, [normalise] * len(grey)), chances, how)
    assert x.dtype == y.dtype == torch.float32
    return x[:, 0].tolist(), y[:, 0].tolist()


def test_padding_goes_around_the_slice():
    x, y = run([[[7, 8], [9, 10]]], [[[1, 0], [1, 1]]], draws([(0, 0)]), PLAIN)
    assert x[0] == [[0, 0, 0, 0, 0, 0], [0, 0, 7, 8, 0, 0], [0, 0, 9, 10, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert y[0] == [[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]


def test_crop_and_flip_take_scan_and_mask_together():
    how = Augmentation(pad=(3, 3), crop=(2, 2))
    grey = [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]] * 2
    hard = [[[0, 0, 0], [0, 1, 0], [1, 0, 0]]] * 2
    x, y = run(grey, hard, draws([(1, 0), (0, 1)], flips=[True, False]), how)
    assert x == [[[5, 4], [8, 7]], [[2, 3], [5, 6]]]
    assert y == [[[1, 0], [0, 1]], [[0, 0], [1, 0]]]


def test_a_turn_puts_the_bone_at_the_other_end_of_scan_and_mask():
    x, y = run([[[1, 2], [3, 4]]], [[[1, 0], [0, 0]]], draws([(1, 2)], turns=[True]), PLAIN_CROP)
    assert x == [[[3, 4], [1, 2]]] and y == [[[0, 0], [1, 0]]]


def test_gamma_and_normalisation_by_hand():
    # 51/255 is 0.2: squared 0.04, times 255 is 10.2
    how = Augmentation(pad=(1, 1), crop=(1, 1))
    x, _ = run(
        [[[51]], [[51]]], [[[0]], [[0]]], draws([(0, 0)] * 2, gammas=[2.0, 1.0]), how, lambda g: (g - 10) / 2
    )
    assert x == [[[pytest.approx(0.1)]], [[pytest.approx(20.5)]]]


def test_black_and_white_stay_under_gamma():
    tables = grey_tables(np.array([0.5, 1.0, 2.0]), [same] * 3)
    assert tables[:, 0].tolist() == [0, 0, 0]
    assert tables[:, 255].tolist() == [255, 255, 255]
    assert (tables.diff(dim=1) > 0).all()
    assert tables[0, 100] > 100 > tables[2, 100]


def test_each_slice_has_its_own_table():
    tables = torch.stack([torch.arange(256.0), torch.arange(256.0) + 1000])
    found = look_up(torch.tensor([[[0, 255]], [[3, 4]]], dtype=torch.uint8), tables)
    assert found.tolist() == [[[[0, 255]]], [[[1003, 1004]]]]


def test_draws_are_within_bounds_and_reach_them():
    how = Augmentation(pad=(8, 5), crop=(6, 4), flip=0.25, gamma=(0.5, 2), gamma_share=0.5)
    found = draw(how, 4000, (3, 4), np.random.default_rng(0))
    assert found.corners.min(axis=0).tolist() == [0, 0] and found.corners.max(axis=0).tolist() == [2, 1]
    assert 0.2 < found.flips.mean() < 0.3
    changed = found.gammas[found.gammas != 1]
    assert 0.45 < len(changed) / 4000 < 0.55
    assert 0.5 <= changed.min() < 0.51 and 1.98 < changed.max() <= 2


def test_shares_of_nothing_and_all():
    none = draw(Augmentation(flip=0, gamma_share=0), 50, (768, 448), np.random.default_rng(0))
    assert not none.flips.any() and (none.gammas == 1).all()
    every = draw(Augmentation(flip=1, gamma_share=1), 50, (768, 448), np.random.default_rng(0))
    assert every.flips.all() and (every.gammas != 1).all()


def test_the_paper_s_room_for_the_crop():
    found = draw(Augmentation(), 5000, (768, 448), np.random.default_rng(0)).corners
    assert found.min() == 0 and found.max(axis=0).tolist() == [800 - 640, 800 - 384]


def test_turns_are_drawn_apart_and_change_no_other_chance():
    shape, count = (768, 448), 400
    never, half = (draw(Augmentation(turn=t), count, shape, np.random.default_rng(0)) for t in (0, 0.5))
    assert not never.turns.any() and 150 < half.turns.sum() < 250
    assert all(np.array_equal(getattr(never, n), getattr(half, n)) for n in ("corners", "flips", "gammas"))


@pytest.mark.parametrize(
    ("shape", "multiple", "side", "crop"),
    [
        ((768, 448), 64, 800, (640, 384)),  # the paper's
        ((768, 448), 32, 800, (640, 384)),
        ((320, 192), 64, 333, (256, 192)),  # 5/6 are 267 and 160: 4.2 and 2.5 times 64
        ((20, 100), 64, 104, (64, 64)),  # no less than the network's multiple
        ((20, 16), 64, 64, (64, 64)),
    ],
)
def test_padding_and_crop_that_fit_the_slices(shape, multiple, side, crop):
    assert fitting(shape, multiple) == ((side, side), crop)


def test_slices_larger_than_the_padding_are_not_cut_by_it():
    assert Augmentation(pad=(8, 8), crop=(4, 16)).padded((10, 4)) == (10, 16)
