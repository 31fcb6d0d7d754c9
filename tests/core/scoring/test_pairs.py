"""Which prediction goes with which truth, and what is read of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.core.scoring.masks import SHAPE, VOXEL_UM, block, write
from tidemark_cli.core.data.dataset import Sample
from tidemark_cli.core.errors import ContentError, DatasetError, ScanError
from tidemark_cli.core.scans.volume import write_volume
from tidemark_cli.core.scoring.pairs import (
    Pair,
    is_run,
    match_paths,
    match_run,
    newest_run,
    read_pair,
    read_run,
)


def test_the_newest_run_of_a_folder(run: Path, tmp_path: Path):
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "run.json").write_text((run / "run.json").read_text())
    os.utime(run / "run.json", (1, 1))
    phantoms = tmp_path / "phantoms"
    phantoms.mkdir()
    (phantoms / "run.json").write_text('{"settings": {}}')  # newer still, but of another kind
    assert newest_run(tmp_path) == newer
    assert newest_run(run) == run
    with pytest.raises(DatasetError, match="nor a folder in it is a run"):
        newest_run(phantoms)


def test_a_run_tells_of_itself(run: Path, tmp_path: Path) -> None:
    assert is_run(run) and not is_run(tmp_path)
    assert read_run(run)["threshold"] == 0.3
    with pytest.raises(DatasetError, match="is not a run"):
        read_run(tmp_path)


def test_predictions_of_a_run_go_with_the_samples_of_its_dataset(run: Path) -> None:
    matched = match_run(run)
    assert [(pair.name, pair.prediction.name) for pair in matched.pairs] == [
        ("S01_1", "S01_1.tif"),
        ("S01_2", "S01_2.tif"),
        ("S02_1", "S02_1.tif"),
    ]
    assert all(pair.probability and isinstance(pair.truth, Sample) for pair in matched.pairs)
    assert matched.unmatched == {}


def test_scans_of_one_sample_go_together_whatever_follows_its_name(tmp_path: Path) -> None:
    found = write(tmp_path / "f", S01_1_PTA=block(9), S02_1=block(9), S03_1_PTA=block(9), S03_1_ca4=block(9))
    true = write(tmp_path / "t", S01_1_mask=block(8), S02_1=block(8), S03_1=block(8))
    matched = match_paths(found, true)
    assert {pair.name: pair.prediction.name for pair in matched.pairs} == {
        "S01_1_mask": "S01_1_PTA.tif",
        "S02_1": "S02_1.tif",
    }
    # two predictions of one sample: neither is guessed to be meant
    assert list(matched.unmatched) == ["S03_1", "S03_1_PTA", "S03_1_ca4"]


def test_one_prediction_is_looked_up_in_a_folder(tmp_path: Path) -> None:
    found, true = write(tmp_path / "f", A=block(9)), write(tmp_path / "t", A=block(8), B=block(8))
    matched = match_paths(found / "A.tif", true)
    assert [pair.truth for pair in matched.pairs] == [true / "A.tif"]
    assert matched.unmatched == {}  # the folder's other scan is not missed
    with pytest.raises(ScanError, match="does not exist"):
        match_paths(found / "C.tif", true)


def test_a_pair_is_read_with_the_voxel_size_of_the_truth(tmp_path: Path) -> None:
    write(tmp_path, true=block(8))
    write_volume(tmp_path / "found.tif", block(9), 600.0)  # no micro-CT scan's: as if it told none
    arrays = read_pair(Pair("A", tmp_path / "found.tif", tmp_path / "true.tif"))
    assert arrays.voxel_um == VOXEL_UM and arrays.is_mask
    np.testing.assert_array_equal(arrays.prediction, block(9))
    np.testing.assert_array_equal(arrays.truth, block(8))


@pytest.mark.parametrize("known", [False, True])
def test_a_constant_prediction_of_a_run_is_a_probability(tmp_path: Path, known: bool) -> None:
    write(tmp_path, found=block(8, 100), true=block(8))
    arrays = read_pair(Pair("A", tmp_path / "found.tif", tmp_path / "true.tif", probability=known))
    assert arrays.is_mask == (not known)
    assert arrays.prediction.max() == (100 if known else 255)


def test_a_constant_grey_is_a_probability(tmp_path: Path) -> None:
    write(tmp_path, found=np.full(SHAPE, 100, np.uint8), true=block(8))
    arrays = read_pair(Pair("A", tmp_path / "found.tif", tmp_path / "true.tif"))
    assert not arrays.is_mask and set(arrays.prediction.flat) == {100}


@pytest.mark.parametrize(
    ("found", "true", "told"),
    [
        (block(9)[:-1], block(8), "23 x 12 x 12"),
        (block(9), block(0), "empty"),
        (np.full(SHAPE, 1000, np.uint16) + block(3), block(8), "neither a mask"),
        (block(9), block(8) // 2 + block(4), "is not a mask"),
    ],
    ids=["shapes", "empty", "grey", "truth"],
)
def test_what_cannot_be_scored_is_refused(
    tmp_path: Path, found: np.ndarray, true: np.ndarray, told: str
) -> None:
    write(tmp_path, found=found, true=true)
    with pytest.raises(ContentError, match=told):
        read_pair(Pair("A", tmp_path / "found.tif", tmp_path / "true.tif"))
