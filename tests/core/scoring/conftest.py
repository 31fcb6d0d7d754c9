"""A run to score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.core.scoring.masks import block, write
from tidemark_cli.core.data.dataset import write_sample


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on a dataset of three samples, predicted one, two and no voxels too high, threshold 0.3."""
    dataset, folder = tmp_path / "dataset", tmp_path / "run"
    for name in ("S01_1", "S01_2", "S02_1"):
        write_sample(dataset, name, block(8, 90), block(8))
    folder.mkdir()
    write(folder / "oof", S01_1=block(9, 100), S01_2=block(10, 100), S02_1=block(8, 100))
    folds = [{"held_out": ["S01_1", "S01_2"]}, {"held_out": ["S02_1"]}]
    content = {"kind": "folds", "dataset": str(dataset), "threshold": 0.3, "folds": folds}
    (folder / "run.json").write_text(json.dumps(content))
    return folder
