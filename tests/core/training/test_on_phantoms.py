"""Training on phantoms: reproducible, resumable, honest about validation."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch.utils.data import Dataset

from tidemark_cli.core.errors import ModelError, OutputError
from tidemark_cli.core.network.unet import load_model
from tidemark_cli.core.phantoms.phantom import draw_slice
from tidemark_cli.core.training import loop, on_phantoms
from tidemark_cli.core.training.on_phantoms import (
    TRAINING,
    VALIDATION,
    PhantomSlices,
    PhantomTraining,
    loader,
    train_on_phantoms,
)

TINY = PhantomTraining(
    slices=12,
    batch=2,
    rows=32,
    columns=16,
    filters=(2, 3),
    stem=2,
    validate_every=4,
    validation_slices=3,
    seed=5,
)


def train(run, settings=TINY, **options):
    torch.set_num_threads(1)
    return train_on_phantoms(run, settings, device="cpu", workers=0, **options)


def test_a_run_holds_its_settings_its_log_and_a_model(tmp_path):
    model = load_model(train(tmp_path / "run", replace(TINY, threshold=0.4)))
    assert model.info.filters == (2, 3) and model.info.either_end and model.info.threshold == 0.4
    assert model.info.training["seed"] == 5
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["slices"] == 12
    rows = list(csv.DictReader((tmp_path / "run/log.csv").read_text().splitlines()))
    assert [row["slices"] for row in rows] == ["4", "8", "12"]
    assert all(np.isfinite(float(row["validation_loss"])) for row in rows)


@pytest.mark.parametrize("checkpoint_s", [0.0, 600.0], ids=["within a round", "after a round"])
def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path, monkeypatch, checkpoint_s):
    monkeypatch.setattr(loop, "CHECKPOINT_S", checkpoint_s)
    whole = load_model(train(tmp_path / "whole")).state_dict()

    def stop(done, total, figures):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", progress=stop)
    assert not (tmp_path / "killed/model.safetensors").exists()
    done = []
    model = train(tmp_path / "killed", resume=True, progress=lambda *told: done.append(told[0]))
    resumed = load_model(model).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert done[0] == (8 if checkpoint_s == 0 else 6)


def test_training_changes_the_weights_and_init_starts_from_a_model(tmp_path):
    first = train(tmp_path / "first")
    second = load_model(train(tmp_path / "second", replace(TINY, init=str(first), learning_rate=0.0, seed=9)))
    weights = load_model(first).state_dict()
    assert torch.equal(second.state_dict()["head.weight"], weights["head.weight"])
    third = load_model(train(tmp_path / "third", replace(TINY, init=str(first), seed=9)))
    assert not torch.equal(third.state_dict()["head.weight"], weights["head.weight"])


def test_an_existing_run_is_not_overwritten_and_a_missing_one_not_resumed(tmp_path):
    train(tmp_path / "run", replace(TINY, slices=2))
    with pytest.raises(OutputError, match="--resume"):
        train(tmp_path / "run")
    with pytest.raises(OutputError, match="none"):
        train(tmp_path / "none", resume=True)


def test_a_bad_start_leaves_no_run_behind(tmp_path):
    wide = train(tmp_path / "wide", replace(TINY, slices=2, filters=(3, 3)))
    for init in (wide, tmp_path / "none.safetensors"):
        with pytest.raises(ModelError, match=init.name):
            train(tmp_path / "run", replace(TINY, init=str(init)))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damaged", ["checkpoint.pt", "run.json"])
def test_a_damaged_run_is_not_resumed(tmp_path, damaged):
    train(tmp_path / "run", replace(TINY, slices=2))
    (tmp_path / "run" / damaged).write_bytes(b"damaged")
    with pytest.raises((ModelError, OutputError), match=damaged):
        train(tmp_path / "run", resume=True)


def test_validation_slices_are_never_trained_on():
    seen = [PhantomSlices(TINY, TRAINING, 0, 3)[i][0] for i in range(3)]
    fixed = [PhantomSlices(TINY, VALIDATION, 0, 3)[i][0] for i in range(3)]
    assert not any(torch.equal(a, b) for a in seen for b in fixed)


def test_a_run_draws_every_slice_from_a_seed_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def watched(seed: tuple[int, int, int], size: tuple[int, int]) -> Any:
        seeds.append(seed)
        return draw_slice(seed, size)

    monkeypatch.setattr(on_phantoms, "draw_slice", watched)
    train(tmp_path / "run")
    assert sorted(seeds) == [*((0, 5, i) for i in range(12)), *((1, 5, i) for i in range(3))]


def test_every_seed_starts_from_weights_of_its_own(tmp_path: Path) -> None:
    still = replace(TINY, slices=2, learning_rate=0.0)
    one, other = (load_model(train(tmp_path / str(s), replace(still, seed=s))).state_dict() for s in (5, 6))
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_the_learning_rate_warms_up_and_falls_and_gradients_are_clipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def step(net: torch.nn.Module, optimiser: torch.optim.Optimizer, *rest: Any) -> torch.Tensor:
        *_, clip, frozen = rest
        assert not frozen
        seen.append((optimiser.param_groups[0]["lr"], clip))
        return torch.zeros(())

    monkeypatch.setattr(loop, "step", step)
    train(tmp_path / "run", replace(TINY, learning_rate=2.0))
    # a hundredth at first, then 1 + cos(30°) and so on: every step is a sixth of the slices
    expected = (0.02, 1 + 3**0.5 / 2, 1.5, 1.0, 0.5, 1 - 3**0.5 / 2)
    assert seen == [(pytest.approx(rate), 1.0) for rate in expected]


def test_half_of_the_slices_are_seen_in_the_grey_levels_of_their_overview():
    slices = PhantomSlices(replace(TINY, rows=192, columns=96), TRAINING, 0, 4)
    for i in range(4):
        scan, _, overview = draw_slice((TRAINING, TINY.seed, i), (192, 96))
        low, high = np.percentile(overview if i >= 2 else scan, (1, 99))
        found = slices[i][0][0].numpy()[:: -1 if i % 2 else 1]
        np.testing.assert_allclose(found, np.clip((scan - low) / (high - low), -0.5, 2), atol=1e-5)


def test_every_other_slice_has_its_bone_at_the_far_end():
    slices = PhantomSlices(replace(TINY, rows=192, columns=96), TRAINING, 0, 24)
    centre = [_centre_of_mass(slices[i][1][0]) for i in range(len(slices))]
    assert np.nanmedian(centre[0::2]) < 96 < np.nanmedian(centre[1::2])


def _centre_of_mass(mask):
    """Row of the centre of the hard tissue; NaN without any."""
    rows = mask.sum(dim=1)
    return float((rows * torch.arange(len(rows))).sum() / rows.sum()) if rows.sum() else float("nan")


def test_slices_drawn_by_other_processes_are_those_drawn_in_this_one():
    slices = PhantomSlices(TINY, TRAINING, 0, 4)
    here, there = (list(loader(slices, 2, workers)) for workers in (0, 2))
    for mine, theirs in zip(here, there, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.skipif(
    all(pool["num_threads"] == 1 for pool in threadpool_info()), reason="there is one core to take"
)
def test_a_process_that_draws_takes_one_core():
    assert next(iter(loader(Threads(), 1, 1))) == 1


class Threads(Dataset):
    """The most threads that a library of numbers takes in the process that asks."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return max(pool["num_threads"] for pool in threadpool_info())
