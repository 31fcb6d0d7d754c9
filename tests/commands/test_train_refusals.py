"""``tidemark train``: options that cannot be are refused before anything is written or changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import Ended
from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.data.run import write_description
from tidemark_cli.core.errors import ModelError, OutputError
from tidemark_cli.core.training import loop, on_phantoms
from tidemark_cli.core.training.on_phantoms import read_settings, train_on_phantoms
from tidemark_cli.core.training.settings import PhantomTraining

Tidemark = Callable[..., Ended]
TINY = PhantomTraining(
    slices=4, batch=2, rows=32, columns=16, width=2, depth=2, validate_every=2, validation_slices=2
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two samples of two subjects."""
    hard = np.zeros((16, 4, 4), np.uint8)
    hard[:8] = 255
    for name in ("A_1", "B_1"):
        write_sample(tmp_path / "dataset", name, hard // 2, hard)
    return tmp_path / "dataset"


def told_by(ended: Ended) -> str:
    """What was said on stderr, without the frame around it."""
    return " ".join(ended.err.replace("│", " ").split())


# ------------------------------------------------------------------------------- options that cannot be


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--stem", 3), "multiples of 96, phantom slices have 448 x 320"),
        (("--depth", 8), "multiples of 512"),
        (("--width", 1000, "--depth", 5), "too large a network"),
        (("--learning-rate", "inf"), "a finite number"),
        (("--weight-decay", "inf"), "a finite number"),
    ],
)
def test_a_network_that_cannot_be_trained_on_phantoms(
    tidemark: Tidemark, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    ended = tidemark("train", "--phantom", "-o", tmp_path / "run", "--device", "cpu", "--slices", 2, *options)
    assert ended.code == 2 and told in told_by(ended)
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_trained_on_a_dataset(
    tidemark: Tidemark, dataset: Path, tmp_path: Path
) -> None:
    sizes = ("--width", 1000, "--depth", 5)
    ended = tidemark("train", dataset, "-o", tmp_path / "run", "--device", "cpu", "--folds", 2, *sizes)
    assert ended.code == 2 and "too large a network" in told_by(ended)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------- diverged


def test_a_phantom_training_that_diverges_writes_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "validate", lambda *_: {"validation_loss": float("nan")})
    with pytest.raises(ModelError, match=r"not finite at slices 2; .* lower --learning-rate"):
        train_on_phantoms(tmp_path / "run", TINY, device="cpu", workers=0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


# -------------------------------------------------------------------------------------------- resumed


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[PhantomTraining]:
    """A run on phantoms in ``run`` that started from a model; the settings with which it is gone on with."""
    seen: list[PhantomTraining] = []

    def engine(run: Path, settings: PhantomTraining, **_: Any) -> Path:
        seen.append(settings)
        return run / "model.safetensors"

    monkeypatch.setattr(on_phantoms, "train_on_phantoms", engine)
    monkeypatch.chdir(tmp_path)
    settings = PhantomTraining(slices=8, init=str(tmp_path / "start.safetensors"))
    write_description(tmp_path / "run", {"settings": asdict(settings)})
    return seen


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--slices", 16), "--slices 16: the run that is resumed has 8"),
        (("--learning-rate", 0.5), "--learning-rate 0.5: the run that is resumed has 0.001"),
        (("--init", "other.safetensors"), "the run that is resumed has"),
        (("--loss", "bce"), "only for a training on a dataset"),
    ],
)
def test_options_against_the_phantom_run_that_is_resumed(
    tidemark: Tidemark, resumed: list[PhantomTraining], options: tuple[object, ...], told: str
) -> None:
    ended = tidemark("train", "--phantom", "-o", "run", "--resume", "--device", "cpu", *options)
    assert ended.code == 2 and told in told_by(ended)
    assert not resumed


def test_options_that_say_the_same_as_the_phantom_run_that_is_resumed(
    tidemark: Tidemark, resumed: list[PhantomTraining]
) -> None:
    options = ("--slices", 8, "--learning-rate", 0.001, "--init", "start.safetensors", "--device", "cpu")
    assert tidemark("train", "--phantom", "-o", "run", "--resume", *options).code == 0
    assert resumed == [read_settings(Path("run"))]


def test_a_phantom_run_remembers_where_its_start_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = train_on_phantoms(Path("first"), TINY, device="cpu", workers=0)
    train_on_phantoms(Path("second"), replace(TINY, init=str(first)), device="cpu", workers=0)
    assert read_settings(Path("second")).init == str(tmp_path / first)


def test_a_phantom_run_with_settings_that_cannot_be_is_damaged(tmp_path: Path) -> None:
    write_description(tmp_path, {"settings": asdict(TINY)})
    content = json.loads((tmp_path / "run.json").read_text())
    content["settings"]["depth"] = 8
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(OutputError, match=r"run\.json is damaged .*; start another run"):
        read_settings(tmp_path)


def test_grades_do_not_go_with_a_run_that_is_resumed(
    tidemark: Tidemark, dataset: Path, tmp_path: Path
) -> None:
    grades = tmp_path / "none.csv"
    ended = tidemark("train", dataset, "-o", tmp_path / "run", "--resume", "--grades", grades)
    assert ended.code == 2 and "--grades: the run that is resumed has its folds already" in told_by(ended)
