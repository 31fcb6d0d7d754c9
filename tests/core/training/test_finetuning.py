"""Training from a model: what it knows is kept, and it is kept itself where no epoch is better."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.network.unet import ModelInfo, UNet, load_model, save_model
from tidemark_cli.core.scans.volume import read_volume
from tidemark_cli.core.training import loop, on_dataset
from tidemark_cli.core.training.batches import augmented
from tidemark_cli.core.training.fold_run import reopen_run, start_run
from tidemark_cli.core.training.on_dataset import train_folds
from tidemark_cli.core.training.settings import FoldTraining
from tidemark_cli.core.training.slices import load_all

WINDOW = {"kind": "window", "low": 1.0, "high": 99.0}
START = ModelInfo(
    width=4, depth=2, normalisation=WINDOW, planes=("zx",), step=2, threshold=0.45, either_end=True
)
TINY = FoldTraining(
    epochs=2, batch=8, learning_rate=1e-2, width=4, depth=2, pad=(26, 20), crop=(16, 16), folds=2, step=2
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples of four subjects, 22 x 17 x 20 voxels, bone bright at low Z."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for name in ("A_1", "B_1", "C_1", "D_1"):
        hard = np.arange(22)[:, None, None] < rng.integers(7, 15, (1, 17, 20))
        grey = np.where(hard, 150, 60) + rng.normal(0, 8, hard.shape)
        write_sample(folder, name, grey.clip(0, 255).astype(np.uint8), hard.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with batch-norm statistics that no batch has."""
    torch.manual_seed(1)
    net = UNet(START)
    for name, tensor in net.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.4, 0.6)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_model(path, net)
    return path


def train(
    folder: Path, dataset: Path, settings: FoldTraining, resume: bool = False, progress: Any = None
) -> Path:
    torch.set_num_threads(1)
    run = reopen_run(folder, dataset) if resume else start_run(folder, dataset, settings)
    train_folds(run, load_all(run.samples), only=0, device="cpu", progress=progress)
    return folder


def tensors(path: Path, statistics: bool) -> list[torch.Tensor]:
    """Statistics of the batch norm, or all other weights."""
    state = load_model(path).state_dict()
    return [tensor for name, tensor in state.items() if ("running" in name) == statistics]


def equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def plan_losses(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Let the validations have these losses, one after the other."""
    planned = iter(losses)

    def validate(*_: Any) -> dict[str, float]:
        return {"validation_loss": next(planned), "validation_iou": 0.5}

    monkeypatch.setattr(loop, "validate", validate)


def test_the_statistics_of_the_batch_norm_stay_while_the_weights_train(
    dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_losses(monkeypatch, 0.5, 0.4, 0.3)
    found = train(tmp_path / "run", dataset, replace(TINY, init=str(start))) / "fold_0.safetensors"
    assert equal(tensors(found, True), tensors(start, True))
    weights = zip(tensors(found, False), tensors(start, False), strict=True)
    assert not any(torch.equal(a, b) for a, b in weights if a.ndim == 4)  # kernels


def test_without_a_start_the_statistics_are_those_of_the_batches(dataset: Path, tmp_path: Path) -> None:
    found = train(tmp_path / "run", dataset, TINY) / "fold_0.safetensors"
    assert not any(torch.equal(t, torch.zeros_like(t)) for t in tensors(found, True))  # as they begin


@pytest.mark.parametrize(
    ("losses", "best"), [((0.3, 0.5, 0.4), 0), ((0.3, 0.3, 0.3), 0), ((0.5, 0.3, 0.4), 1)]
)
def test_the_start_is_kept_where_no_epoch_is_better(
    dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: Any, best: int
) -> None:
    plan_losses(monkeypatch, *losses)
    run = train(tmp_path / "run", dataset, replace(TINY, init=str(start)))
    found = load_model(run / "fold_0.safetensors")
    assert found.info.training["best_epoch"] == best
    assert equal(tensors(run / "fold_0.safetensors", False), tensors(start, False)) == (best == 0)
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    assert [(row["epoch"], float(row["validation_loss"])) for row in rows] == list(
        zip("012", losses, strict=True)
    )
    assert rows[0]["loss"] == "" and float(rows[1]["loss"]) > 0  # no step was taken for the first


def test_how_the_start_wants_to_be_used_is_kept(dataset: Path, start: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", dataset, replace(TINY, init=str(start), loss="bce"))
    info = load_model(run / "fold_0.safetensors").info
    assert replace(info, training={}) == replace(START, loss="bce")
    assert json.loads((run / "run.json").read_text())["threshold"] == 0.45


class Stopped(Exception):
    pass


@pytest.mark.parametrize("call", [1, 2, 4, 6])
def test_a_fine_tuning_goes_on_after_a_stop_to_the_same_files(
    dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    settings = replace(TINY, init=str(start))
    whole = train(tmp_path / "whole", dataset, settings)
    calls, seen = iter(range(1, 1000)), []

    def stop(*_: Any) -> None:
        if next(calls) == call:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path / "run", dataset, settings, progress=stop)
    resumed = train(tmp_path / "run", dataset, settings, True, lambda *told: seen.append(told))
    assert seen[-1][0] == seen[-1][1]  # all that was to be done is done
    for name in ("fold_0.safetensors", "log.csv", "run.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


# -------------------------------------------------------------------------------------- either end


@pytest.mark.parametrize(("either_end", "share"), [(True, 0.5), (False, 0.0)])
def test_a_network_that_takes_either_end_is_shown_both(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, either_end: bool, share: float
) -> None:
    seen = []

    def watched(slices: Any, batch: int, how: Any, *given: Any, **rest: Any) -> Any:
        seen.append(how.turn)
        return augmented(slices, batch, how, *given, **rest)

    monkeypatch.setattr(on_dataset, "augmented", watched)
    save_model(tmp_path / "start.safetensors", UNet(replace(START, either_end=either_end)))
    train(tmp_path / "run", dataset, replace(TINY, init=str(tmp_path / "start.safetensors")))
    assert seen == [share, share]


# -------------------------------------------------------------------------------------- voxel sizes


def test_without_a_start_the_networks_carry_the_voxel_size_of_the_dataset(
    dataset: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", dataset, replace(TINY, voxel_um=9.0))
    assert load_model(run / "fold_0.safetensors").info.voxel_um == 9.0


def test_slices_are_resampled_to_the_voxel_size_of_the_start(
    dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(net: UNet, batches: Any, *_: Any) -> dict[str, float]:
        seen.extend(target.shape[2:] for _, target, _ in batches)
        return {"validation_loss": 1.0, "validation_iou": 0.0}

    monkeypatch.setattr(loop, "validate", watched)
    settings = replace(TINY, init=str(start), voxel_um=6.4, pad=None, crop=None)
    run = train(tmp_path / "run", dataset, settings)
    assert set(seen) == {(44, 40)}  # 22 x 20 voxels, twice as wide as those of the start
    assert load_model(run / "fold_0.safetensors").info.voxel_um == 3.2
    content = json.loads((run / "run.json").read_text())["settings"]
    assert (content["voxel_um"], content["pad"], content["crop"]) == (6.4, [46, 46], [36, 32])
    for path in (run / "oof").glob("*.tif"):
        volume = read_volume(path, mask=True)  # which may be of one grey level
        assert volume.array.shape == (22, 17, 20) and volume.voxel_um == pytest.approx(6.4)
