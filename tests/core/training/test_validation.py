"""Validation, by hand: the loss, the IoU and the tidemark of tiny slices."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tidemark_cli.core.network.unet import ModelInfo
from tidemark_cli.core.training.losses import bce
from tidemark_cli.core.training.validation import validate

Batches = list[tuple[torch.Tensor, torch.Tensor]]


class Same(torch.nn.Module):
    """Predicts its input, as logits; the threshold is half."""

    info = ModelInfo(threshold=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Copy(Same):
    """Predicts its input, moved down by `rows` pixels."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * (F.pad(x, (0, 0, self.rows, 0))[:, :, : x.shape[2]] - 0.5)


def checked(batches: Batches, net: torch.nn.Module) -> dict[str, float | None]:
    """Validate; of a batch every other slice has its bone at the last row."""
    with_ends = [(x, y, torch.arange(len(x)) % 2 == 1) for x, y in batches]
    return validate(net, with_ends, bce, torch.device("cpu"))


def test_the_loss_and_the_iou() -> None:
    # found 1 1 0 0 of hard 1 0 1 0; then, in a batch of two, nothing of nothing and all of all
    x = torch.tensor([9.0, 9.0, -9.0, -9.0]).reshape(1, 1, 1, 4)
    y = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    two = torch.cat([torch.full((1, 1, 1, 4), -9.0), torch.full((1, 1, 1, 4), 9.0)])
    wide = torch.nn.functional.pad(two, (0, 3), value=9.0)  # beyond the mask: left out
    found = checked([(x, y), (wide, (two > 0).float())], Same())
    assert found["validation_iou"] == pytest.approx((1 + 4) / (3 + 4))
    expected = (float(bce(x, y)) + 2 * float(bce(two, (two > 0).float()))) / 3
    assert found["validation_loss"] == pytest.approx(expected)


def test_slices_with_the_bone_at_either_end() -> None:
    mask = torch.zeros(2, 1, 8, 4)
    mask[0, :, 0:4] = 1  # slice 0: bone at row 0
    mask[1, :, 4:8] = 1  # slice 1: bone at the last row
    perfect = checked([(mask, mask)], Copy(0))
    assert perfect["validation_iou"] == 1 and perfect["mean_error_px"] == 0 and perfect["missed_columns"] == 0
    moved = checked([(mask, mask)], Copy(1))
    assert moved["mean_error_px"] == 1
    assert moved["validation_iou"] == pytest.approx(6 / 9)  # 3 of 5 rows, and 3 of 4 at the edge


def test_a_wrong_and_a_missed_column_by_hand() -> None:
    found, mask = torch.zeros(1, 1, 8, 5), torch.zeros(1, 1, 8, 5)
    mask[..., 0:4, 0:4] = 1  # the last column has no hard tissue
    found[..., 0:4, 0:2] = 1  # right
    found[..., 0:6, 2] = 1  # two pixels too high; the next column is missed
    figures = checked([(found, mask)], Copy(0))
    assert (figures["median_error_px"], figures["missed_columns"]) == (0, 1 / 4)
    assert figures["mean_error_px"] == pytest.approx(2 / 3)
    assert figures["p95_error_px"] == pytest.approx(1.8)  # nine tenths of the way from 0 to 2


def test_where_no_tidemark_is_found_there_is_no_error() -> None:
    mask = torch.ones(1, 1, 4, 2)
    figures = checked([(torch.zeros(1, 1, 4, 2), mask)], Copy(0))
    assert figures["missed_columns"] == 1
    assert [figures[f"{name}_error_px"] for name in ("median", "mean", "p95")] == [None, None, None]
