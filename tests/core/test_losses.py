"""Losses by hand and against finite differences."""

import math

import pytest
import torch

from tidemark_cli.core.losses import bce_log_jaccard, soft_jaccard


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


def test_bce_log_jaccard_by_hand():
    loss = bce_log_jaccard(images([0.0, 0.0]), images([1.0, 0.0]))
    # both = 1/2, either = 1 + 1 - 1/2
    assert float(loss) == pytest.approx(math.log(2) - math.log(1.5 / 2.5))


def test_jaccard_is_averaged_over_the_batch_before_the_logarithm():
    one, two = images([2.0, -1.0]), images([-3.0, 0.5])
    target = images([1.0, 0.0])
    j = [float(soft_jaccard(x, target)) for x in (one, two)]
    bce = [float(bce_log_jaccard(x, target)) + math.log(v) for x, v in zip((one, two), j, strict=True)]
    both = bce_log_jaccard(torch.cat([one, two]), torch.cat([target, target]))
    assert float(both) == pytest.approx(sum(bce) / 2 - math.log(sum(j) / 2))


def test_gradient_against_finite_differences():
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    assert torch.autograd.gradcheck(lambda x: bce_log_jaccard(x, target), (logits.requires_grad_(),))
