"""``tidemark train``: what it hands to the engines, what it says, and that a killed run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import Ended
from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.unet import ModelInfo, UNet, read_info, save_model
from tidemark_cli.core.scans.volume import read_volume
from tidemark_cli.core.training import fold_run, on_phantoms

Tidemark = Callable[..., Ended]
SIZES = ("--width", 2, "--depth", 2, "--batch", 8, "--pad-to", 20, 20, "--crop", 16, 8)
TINY = (*SIZES, "--epochs", 2, "--folds", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples of four subjects: bright bone below row 8."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for name in ("A_1", "B_1", "C_1", "D_1"):
        hard = np.zeros((16, 12, 10), np.uint8)
        hard[:8] = 255
        grey = np.where(hard > 0, 150, 60) + rng.normal(0, 8, hard.shape)
        write_sample(folder, name, grey.clip(0, 255).astype(np.uint8), hard)
    return folder


# ------------------------------------------------------------------------------------------ phantoms


def test_the_options_reach_the_training(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(run: Path, settings: on_phantoms.PhantomTraining, **rest: Any) -> Path:
        rest.pop("progress")(4, 8, {"validation_loss": 0.25})
        assert (settings.slices, settings.seed, settings.width, settings.depth) == (8, 3, 2, 4)
        assert (settings.stem, settings.init, settings.batch) == (1, "start.safetensors", 2)
        assert rest == {"device": "cpu", "resume": True}
        return run / "model.safetensors"

    monkeypatch.setattr(on_phantoms, "train_on_phantoms", engine)
    options = ("--slices", 8, "--seed", 3, "--width", 2, "--depth", 4, "--stem", 1, "--device", "cpu")
    more = ("--batch", 2, "--init", "start.safetensors", "--resume")
    ended = tidemark("train", "--phantom", "-o", tmp_path, *options, *more)
    assert ended == Ended(0, f"{tmp_path / 'model.safetensors'}\n", "device: cpu\nvalidation_loss 0.25\n")


def test_a_run_is_not_overwritten(tidemark: Tidemark, tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for what in ("--phantom", dataset):
        ended = tidemark("train", what, "-o", tmp_path, "--device", "cpu")
        assert ended.code == 1
        assert "--resume" in ended.err


def test_the_defaults_are_the_engine_s(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(run: Path, settings: on_phantoms.PhantomTraining, **_: Any) -> Path:
        assert settings == on_phantoms.PhantomTraining()
        return run

    monkeypatch.setattr(on_phantoms, "train_on_phantoms", engine)
    assert tidemark("train", "--phantom", "-o", tmp_path).code == 0


# ------------------------------------------------------------------------------------------- dataset


class Planned(Exception):
    """The settings have arrived."""


@pytest.fixture
def planned(
    tidemark: Tidemark, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., fold_run.FoldTraining]:
    """Run the command until the run is planned; gives the settings that came of its options."""
    seen: list[fold_run.FoldTraining] = []

    def start(folder: Path, dataset: Path, settings: fold_run.FoldTraining, grades: Path | None) -> None:
        seen.append(settings)
        raise Planned

    def run(*options: object) -> fold_run.FoldTraining:
        assert tidemark("train", dataset, "-o", tmp_path / "run", *options).code == 70
        return seen.pop()

    monkeypatch.setattr(fold_run, "start_run", start)
    return run


def test_the_defaults_are_the_paper_s(planned: Callable[..., fold_run.FoldTraining]) -> None:
    settings = planned()
    assert settings == fold_run.FoldTraining()
    assert (settings.loss, settings.epochs, settings.batch, settings.folds) == ("bce-logjaccard", 15, 32, 5)
    assert (settings.learning_rate, settings.weight_decay) == (1e-4, 1e-4)
    assert (settings.width, settings.depth, settings.stem) == (24, 6, 1)
    assert (settings.pad, settings.crop, settings.gamma) == (
        None,
        None,
        (0.5, 2.0),
    )  # pad and crop: see fitting


def test_the_help_tells_the_defaults(tidemark: Tidemark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    paper, phantoms = fold_run.FoldTraining(), on_phantoms.PhantomTraining()
    shown = tidemark("train", "--help").out.splitlines()
    for name in ("width", "depth", "stem", "batch", "learning-rate"):
        field = name.replace("-", "_")
        both = f"{getattr(paper, field):g}; on phantoms {getattr(phantoms, field):g}"
        assert any(f"--{name} " in line and f"Default: {both}." in line for line in shown)
    alone = {"epochs": "15", "folds": "5", "gamma": "0.5 2", "weight-decay": "0.0001", "slices": "40000"}
    alone |= {"voxel-size": "3.2", "seed": "0", "loss": paper.loss}
    for name, value in alone.items():
        assert any(f"--{name} " in line and f"Default: {value}." in line for line in shown)
    assert not any("--pad-to " in line and "Default" in line for line in shown)


def test_every_setting_is_an_option(planned: Callable[..., fold_run.FoldTraining]) -> None:
    settings = planned(
        *("--loss", "focal", "--epochs", 3, "--batch", 4, "--learning-rate", 0.1, "--weight-decay", 0.2),
        *("--width", 5, "--depth", 3, "--stem", 2, "--pad-to", 40, 41, "--crop", 32, 16, "--flip", 0.1),
        *("--gamma", 0.6, 1.5, "--gamma-share", 0.2, "--step", 7, "--folds", 3, "--seed", 9),
        *("--voxel-size", 16, "--paper"),
    )
    assert settings == fold_run.FoldTraining(
        loss="focal",
        epochs=3,
        batch=4,
        learning_rate=0.1,
        weight_decay=0.2,
        width=5,
        depth=3,
        stem=2,
        pad=(40, 41),
        crop=(32, 16),
        flip=0.1,
        gamma=(0.6, 1.5),
        gamma_share=0.2,
        step=7,
        folds=3,
        seed=9,
        voxel_um=16.0,
        paper=True,
    )
    assert type(settings.loss) is str
    none = planned("--flip", 0, "--gamma-share", 0, "--seed", 0, "--learning-rate", 0)
    assert none == fold_run.FoldTraining(flip=0, gamma_share=0, learning_rate=0)


def test_a_model_to_start_from_tells_the_sizes(
    planned: Callable[..., fold_run.FoldTraining], tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    save_model(start, UNet(ModelInfo(width=2, depth=3, stem=2)))
    settings = planned("--init", start)
    assert (settings.width, settings.depth, settings.stem) == (2, 3, 2)
    assert planned("--init", start, "--depth", 4).depth == 4  # which the engine refuses
    save_model(start, UNet(ModelInfo(width=2, depth=3, filters=(2, 3, 3))))
    assert planned("--init", start).filters == planned("--filters", 2, 3, 3).filters == (2, 3, 3)
    assert planned("--init", start, "--depth", 4).filters is None


def test_the_embedded_model_is_a_start_by_its_name(
    planned: Callable[..., fold_run.FoldTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()  # a folder of that name changes nothing
    settings, embedded = planned("--init", "default"), load_models(None)[0].info
    assert settings.init == "default"
    assert (settings.width, settings.depth, settings.stem) == (embedded.width, embedded.depth, embedded.stem)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "expected a DATASET"),
        (("DATASET", "--phantom"), "--phantom"),
        (("--phantom", "--fold", 1), "--fold"),
        (("--phantom", "--loss", "bce", "--pad-to", 8, 8), "--loss, --pad-to: only for a"),
        (("DATASET", "--slices", 8), "--slices: only for a training on phantoms"),
        (("DATASET", "--crop", 640, 380), "crop 640 x 380 is not of multiples of 64"),
        (("DATASET", "--crop", 32, 64), "crop 32 x 64 is not of multiples of 64"),
        (("DATASET", "--gamma", 2, 0.5), "gamma"),
        (("DATASET", "--loss", "dice"), "dice"),
        (("DATASET", *TINY, "--fold", 2), "--fold 2: expected 0 to 1"),
    ],
)  # fmt: skip
def test_wrong_usage(
    tidemark: Tidemark, dataset: Path, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    given = [dataset if option == "DATASET" else option for option in options]
    ended = tidemark("train", *given, "-o", tmp_path / "run")
    assert ended.code == 2
    assert told in " ".join(ended.err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be(tidemark: Tidemark, dataset: Path, tmp_path: Path) -> None:
    for arguments, told in (
        ((tmp_path,), "no dataset"),
        ((dataset, "--folds", 5), "4 subject(s) for 5 folds"),
        ((dataset, "--resume"), "start it without --resume"),
        ((dataset, "--grades", tmp_path / "none.csv"), "none.csv"),
        ((dataset, "--device", "cuda:99"), "cuda:99"),
        ((dataset, "--crop", 640, 384), "has 16 x 12 pixels, padded 64 x 64; expected no larger crop"),
        ((dataset, "--pad-to", 64, 100, "--crop", 64, 128), "padded 64 x 100; expected no larger crop"),
    ):
        ended = tidemark("train", *arguments, "-o", tmp_path / "run")
        assert ended.code == 1 and told in ended.err and len(ended.err.splitlines()) == 1
        assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    ended = tidemark("train", dataset, "-o", tmp_path / "file", *TINY)
    assert ended.code == 1 and "is a file" in ended.err
    ended = tidemark("train", dataset, "-o", tmp_path / "file" / "run", *TINY)
    assert ended.code == 1 and "file" in ended.err


def test_from_a_dataset_to_scores(tidemark: Tidemark, dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = tidemark("train", dataset, "-o", run, *TINY, "--voxel-size", 16, "--fold", 1)
    assert first.code == 0 and first.out == ""
    assert "4 samples of 4 subjects, 2 folds" in first.err and "no grades" in first.err
    assert [line.split()[:2] for line in first.err.splitlines() if "/2 " in line] == [
        ["1", "1/2"],
        ["1", "2/2"],
    ]
    assert "not trained yet: fold(s) 0" in first.err
    whole = tidemark("train", dataset, "-o", run, "--resume", "--device", "cpu")
    assert whole.code == 0
    assert [line.split()[:2] for line in whole.err.splitlines() if "/2 " in line] == [
        ["0", "1/2"],
        ["0", "2/2"],
    ]
    for options, told in (
        (("--epochs", 3), "--epochs 3"),
        (("--voxel-size", 3.2), "--voxel-size 3.2"),
        (("--slices", 8), "only for a training on phantoms"),
    ):
        refused = tidemark("train", dataset, "-o", run, "--resume", *options)
        assert refused.code == 2 and told in " ".join(refused.err.replace("│", " ").split())
    again = tidemark("train", dataset, "-o", run, "--resume", *TINY, "--voxel-size", 16)
    assert again.code == 0 and "not done yet: none" in again.err
    assert "IoU" in whole.out and again.out == whole.out
    assert json.loads((run / "run.json").read_text())["settings"]["voxel_um"] == 16
    assert read_info(run / "fold_0.safetensors").voxel_um == 16
    assert read_volume(run / "oof" / "A_1.tif").voxel_um == pytest.approx(16)


# ---------------------------------------------------------------------------------------------- kill


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(
    tidemark: Tidemark, dataset: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)  # as in the other process: another number sums in another order
    began = time.monotonic()
    assert tidemark("train", dataset, "-o", tmp_path / "whole", *TINY).code == 0
    seconds = time.monotonic() - began
    arguments = ("train", dataset, "-o", tmp_path / "killed", *TINY)
    command = [sys.executable, "-m", "tidemark_cli", *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet) as killed:
        while not (tmp_path / "killed" / "run.json").exists():
            assert killed.poll() is None
            time.sleep(0.01)
        moment = seconds * random.random()
        print(f"killed after {moment:.3f} s")  # shown where the test fails
        time.sleep(moment)
        killed.send_signal(signal.SIGKILL)
    assert tidemark("train", dataset, "-o", tmp_path / "killed", "--resume", "--device", "cpu").code == 0
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert files[0] == files[1]
