"""On a GPU the commands give what they give on the processor; skipped where PyTorch finds none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import Ended
from tidemark_cli import Phantom, draw_phantom, segment, write
from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.network.unet import load_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return draw_phantom(3, (192, 144, 144), voxel_um=10)


def test_a_scan_is_segmented_as_on_the_processor(phantom: Phantom) -> None:
    here, there = (
        segment(phantom.scan, voxel_um=10, bone_end="first", device=device, uncertainty=True)
        for device in ("cpu", "cuda")
    )
    assert here.mask.any()
    assert np.mean(here.mask == there.mask) > 0.999
    assert np.nanmedian(np.abs(here.surface.height_um - there.surface.height_um)) < 1
    assert here.uncertainty is not None and there.uncertainty is not None
    assert np.mean(np.abs(here.uncertainty.astype(int) - there.uncertainty)) < 2


def test_a_prediction_tells_its_device(
    tidemark: Callable[..., Ended], tmp_path: Path, phantom: Phantom
) -> None:
    write(tmp_path / "scan.tif", phantom.scan, 10)
    ended = tidemark("predict", tmp_path / "scan.tif", "-o", tmp_path / "mask.tif", "--device", "cuda:0")
    assert ended.code == 0, ended.err
    assert "device: cuda:0" in ended.err


def test_a_training_on_phantoms_ends_in_a_model(tidemark: Callable[..., Ended], tmp_path: Path) -> None:
    options = ("--slices", 16, "--filters", 4, "--filters", 8, "--device", "cuda")
    ended = tidemark("train", "--phantom", "-o", tmp_path / "run", *options)
    assert ended.code == 0, ended.err
    weights = load_model(tmp_path / "run" / "model.safetensors").state_dict()
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_folds_are_trained_and_scored(
    tidemark: Callable[..., Ended], tmp_path: Path, phantom: Phantom
) -> None:
    for name in ("A_1", "B_1"):
        write_sample(tmp_path / "dataset", name, phantom.scan, phantom.mask)
    options = ("--folds", 2, "--epochs", 1, "--width", 4, "--depth", 3, "--batch", 4, "--step", 8, "--paper")
    ended = tidemark("train", tmp_path / "dataset", "-o", tmp_path / "run", *options, "--device", "cuda")
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "run").rglob("*.safetensors"))) == 2
