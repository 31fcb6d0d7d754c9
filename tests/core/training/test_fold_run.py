"""A run on a dataset before and between its trainings: planned, described, reopened, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.errors import ContentError, DatasetError, ModelError, OutputError
from tidemark_cli.core.network.unet import ModelInfo, UNet, save_model
from tidemark_cli.core.training.fold_run import check_statistics, reopen_run, start_run
from tidemark_cli.core.training.settings import FoldTraining

TINY = FoldTraining(
    epochs=2, batch=8, learning_rate=1e-2, width=4, depth=2, pad=(26, 20), crop=(16, 16), folds=2, step=2
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples of four subjects, 22 x 17 x 20 voxels."""
    folder = tmp_path_factory.mktemp("dataset")
    hard = np.zeros((22, 17, 20), np.uint8)
    hard[:10] = 255
    for name in ("A_1", "A_2", "B_1", "C_1", "D_1"):
        write_sample(folder, name, hard // 2, hard)
    return folder


@pytest.fixture
def begun(dataset: Path, tmp_path: Path) -> Path:
    """The folder of a run that is described, and not trained."""
    run = start_run(tmp_path / "begun", dataset, TINY)
    run.describe([(60.0, 8.0), (70.0, 9.0)])
    return run.folder


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A model to start from."""
    save_model(tmp_path / "start.safetensors", UNet(ModelInfo(width=4, depth=2)))
    return tmp_path / "start.safetensors"


def test_a_run_is_reopened_as_it_was_described(begun: Path, dataset: Path) -> None:
    planned, found = start_run(begun.parent / "other", dataset, TINY), reopen_run(begun, dataset)
    assert (found.settings, found.folds, found.threshold) == (planned.settings, planned.folds, 0.3)
    assert found.known == ((60.0, 8.0), (70.0, 9.0)) and found.missing == [0, 1]
    assert sorted(path.name for path in begun.iterdir()) == ["run.json"]


def test_runs_are_not_overwritten_and_not_resumed_from_nothing(
    begun: Path, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="--resume"):
        start_run(begun, dataset, TINY)
    with pytest.raises(OutputError, match="found none"):
        reopen_run(tmp_path, dataset)
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "fold_1.safetensors").touch()
    with pytest.raises(OutputError, match="fold_1"):
        start_run(tmp_path / "left", dataset, TINY)
    (tmp_path / "run.json").write_text('{"settings": {}}')
    with pytest.raises(OutputError, match="--phantom"):
        reopen_run(tmp_path, dataset)
    for damaged in ("{", "[]", '{"kind": "folds", "settings": {"loss": "dice"}, "folds": []}'):
        (tmp_path / "run.json").write_text(damaged)
        with pytest.raises(OutputError, match="damaged"):
            reopen_run(tmp_path, dataset)


def test_the_last_digits_of_another_processor_are_no_other_dataset(begun: Path, dataset: Path) -> None:
    run = reopen_run(begun, dataset)
    check_statistics(run, [(mean * (1 + 1e-14), sd) for mean, sd in run.known])
    with pytest.raises(DatasetError, match="changed"):
        check_statistics(run, [(mean + 1e-5, sd) for mean, sd in run.known])


def test_a_bad_start_leaves_no_run_behind(dataset: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "wide.safetensors", UNet(ModelInfo(width=3, depth=2)))
    for name in ("wide.safetensors", "none.safetensors"):
        with pytest.raises(ModelError, match=name):
            start_run(tmp_path / "run", dataset, replace(TINY, init=str(tmp_path / name)))
    assert not (tmp_path / "run").exists()


def test_the_notes_tell_how_the_folds_came_about(dataset: Path, begun: Path, tmp_path: Path) -> None:
    told = start_run(tmp_path / "run", dataset, TINY).notes
    assert told[0] == "5 samples of 4 subjects, 2 folds"
    assert "no grades" in told[1]
    grades = tmp_path / "grades.csv"
    grades.write_text("sample_id,grade\nA_1,1\nA_2,1\nB_1,0\nC_1,0\n")
    told = start_run(tmp_path / "run", dataset, TINY, grades).notes
    assert "stratified by grade" in told[1] and told[2].endswith("D_1")
    grades.write_text("sample_id,grade\nA_1,1\nB_1,0\n")
    assert "fewer samples" in start_run(tmp_path / "run", dataset, TINY, grades).notes[1]
    assert "paper" in start_run(tmp_path / "run", dataset, replace(TINY, paper=True), grades).notes[1]
    assert "not done yet: 0, 1" in reopen_run(begun, dataset).notes[1]


def test_voxels_much_wider_than_those_of_the_start_are_refused(
    dataset: Path, start: Path, tmp_path: Path
) -> None:
    with pytest.raises(ContentError, match="are 20 times as wide as the model's"):
        start_run(tmp_path / "run", dataset, replace(TINY, init=str(start), voxel_um=64.0))


def test_padding_and_crop_fit_the_largest_slice_and_are_written_down(dataset: Path, tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", dataset, replace(TINY, pad=None, crop=None))
    assert (run.settings.pad, run.settings.crop) == ((23, 23), (20, 16))  # 5/6 of 22 and 20: 18.3, 16.7
    assert "slices padded to 23 x 23, crops of 20 x 16" in run.notes[-1]
    given = start_run(tmp_path / "run", dataset, replace(TINY, pad=(40, 40), crop=None)).settings
    assert (given.pad, given.crop) == ((40, 40), (20, 16))


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"pad": None, "crop": (24, 16)}, "22 x 20 pixels, padded 23 x 23; .* crop, found 24 x 16"),
        ({"pad": (30, 30), "crop": (16, 32)}, "padded 30 x 30; expected no larger crop, found 16 x 32"),
        ({"pad": None, "crop": None, "depth": 5, "batch": 1}, "a single pixel"),
    ],
)  # fmt: skip
def test_a_crop_that_no_slice_has_is_refused(
    dataset: Path, tmp_path: Path, sizes: dict[str, Any], told: str
) -> None:
    with pytest.raises(DatasetError, match=told):
        start_run(tmp_path / "run", dataset, replace(TINY, **sizes))
