"""Losses by hand and against finite differences."""

import math

import pytest
import torch

from tidemark_cli.core.training.losses import (
    LOSSES,
    bce,
    bce_jaccard,
    bce_log_jaccard,
    focal,
    jaccard,
    loss_by_name,
    soft_jaccard,
)
from tidemark_cli.core.training.settings import THRESHOLDS

LOG2, LOG3 = math.log(2), math.log(3)


def images(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(len(values), 1, 1, -1)


def test_soft_jaccard_by_hand():
    # probabilities 1/2, 3/4; target 1, 0: both = 1/2, either = 5/4 + 1 - 1/2 = 7/4
    j = soft_jaccard(images([0.0, math.log(3)]), images([1.0, 0.0]))
    assert j.tolist() == pytest.approx([1.5 / 2.75])


def test_soft_jaccard_of_empty_and_full_images():
    sure = 50.0
    logits, target = images([-sure, -sure], [sure, sure], [sure, sure]), images([0, 0], [1, 1], [0, 0])
    assert soft_jaccard(logits, target).tolist() == pytest.approx([1, 1, 1 / 3])


def test_bce_by_hand():
    # probabilities 1/2 and 3/4 for targets 1 and 0: -log 1/2 and -log 1/4
    assert float(bce(images([0.0, LOG3]), images([1.0, 0.0]))) == pytest.approx((LOG2 + 2 * LOG2) / 2)


def test_focal_by_hand():
    # hard tissue given 1/2: 1/4 (1/2)² log 2; the rest given 1/4: 3/4 (3/4)² log 4
    expected = (LOG2 / 16 + 27 / 64 * 2 * LOG2) / 2
    assert float(focal(images([0.0, LOG3]), images([1.0, 0.0]))) == pytest.approx(expected)


def test_jaccard_by_hand():
    assert float(jaccard(images([0.0, LOG3]), images([1.0, 0.0]))) == pytest.approx(1 - 1.5 / 2.75)
    two = jaccard(images([0.0, 0.0], [50.0, 50.0]), images([1.0, 0.0], [1.0, 1.0]))
    assert float(two) == pytest.approx(1 - (1.5 / 2.5 + 1) / 2)


def test_bce_jaccard_by_hand():
    assert float(bce_jaccard(images([0.0, 0.0]), images([1.0, 0.0]))) == pytest.approx(LOG2 + 1 - 1.5 / 2.5)


def test_bce_log_jaccard_by_hand():
    loss = bce_log_jaccard(images([0.0, 0.0]), images([1.0, 0.0]))
    # both = 1/2, either = 1 + 1 - 1/2
    assert float(loss) == pytest.approx(LOG2 - math.log(1.5 / 2.5))


def test_jaccard_is_averaged_over_the_batch_before_the_logarithm():
    one, two = images([2.0, -1.0]), images([-3.0, 0.5])
    target = images([1.0, 0.0])
    j = [float(soft_jaccard(x, target)) for x in (one, two)]
    cross = [float(bce_log_jaccard(x, target)) + math.log(v) for x, v in zip((one, two), j, strict=True)]
    both = bce_log_jaccard(torch.cat([one, two]), torch.cat([target, target]))
    assert float(both) == pytest.approx(sum(cross) / 2 - math.log(sum(j) / 2))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("hard", [0.0, 1.0], ids=["empty", "full"])
def test_a_sure_right_answer_costs_nothing_and_a_wrong_one_something(name, hard):
    target = torch.full((2, 1, 3, 4), hard, dtype=torch.float64)
    sure = 60 * (2 * target - 1)
    assert float(LOSSES[name](sure, target)) == pytest.approx(0, abs=1e-12)
    assert float(LOSSES[name](-sure, target)) > 0.5


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("halved", [False, True])
def test_gradients_against_finite_differences(name, halved):
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    loss = loss_by_name(name, halved)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits.requires_grad_(),))


def test_only_the_terms_of_a_sum_are_halved():
    x, target = images([2.0, -1.0]), images([1.0, 0.0])
    share = {
        name: float(loss_by_name(name, halved=True)(x, target) / loss(x, target))
        for name, loss in LOSSES.items()
    }
    assert share == {"bce": 1, "focal": 1, "jaccard": 1, "bce-jaccard": 0.5, "bce-logjaccard": 0.5}


def test_every_loss_has_a_threshold():
    assert THRESHOLDS.keys() == LOSSES.keys()
    assert [THRESHOLDS[name] for name in ("bce", "focal", "bce-logjaccard")] == [0.5, 0.5, 0.3]  # the paper's
