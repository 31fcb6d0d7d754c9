"""``tidemark train --phantom``: what it hands to the engine. What the engine does is tested beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import Ended
from tidemark_cli.core import training

Tidemark = Callable[..., Ended]


def test_the_options_reach_the_training(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: Path, settings: training.PhantomTraining, **rest: Any) -> Path:
        rest.pop("progress")(4, 8, {"validation_loss": 0.25})
        assert (settings.slices, settings.seed, settings.width, settings.depth) == (8, 3, 2, 4)
        assert (settings.stem, settings.init) == (1, "start.safetensors")
        assert rest == {"device": "cpu", "resume": True}
        return run / "model.safetensors"

    monkeypatch.setattr(training, "train_on_phantoms", train)
    options = ("--slices", 8, "--seed", 3, "--width", 2, "--depth", 4, "--stem", 1, "--device", "cpu")
    ended = tidemark(
        "train", "--phantom", "-o", tmp_path, *options, "--init", "start.safetensors", "--resume"
    )
    assert ended == Ended(0, f"{tmp_path / 'model.safetensors'}\n", "device: cpu\nvalidation_loss 0.25\n")


def test_a_run_is_not_overwritten(tidemark: Tidemark, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    ended = tidemark("train", "--phantom", "-o", tmp_path, "--device", "cpu")
    assert ended.code == 1
    assert "--resume" in ended.err


def test_the_defaults_are_the_engine_s(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: Path, settings: training.PhantomTraining, **_: Any) -> Path:
        assert settings == training.PhantomTraining()
        return run

    monkeypatch.setattr(training, "train_on_phantoms", train)
    assert tidemark("train", "--phantom", "-o", tmp_path).code == 0
