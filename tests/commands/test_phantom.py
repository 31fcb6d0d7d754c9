"""``tidemark phantom`` and, on what it draws, ``tidemark predict``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import VOXEL_UM, Ended
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.registration.transform import read_transform
from tidemark_cli.core.scans.volume import read_volume

Tidemark = Callable[..., Ended]
SIZE = ("--size", 80, 64, 72, "--voxel-size", VOXEL_UM)


def test_a_phantom_and_its_mask(tidemark: Tidemark, tmp_path: Path) -> None:
    scan, mask = tmp_path / "scan.tif", tmp_path / "mask.nii.gz"
    ended = tidemark("phantom", scan, "--mask", mask, "--seed", 3, *SIZE)
    assert ended.code == 0
    assert ended.out.split() == [str(scan), str(mask)]
    drawn, truth = read_volume(scan), read_volume(mask)
    assert drawn.array.shape == truth.array.shape == (80, 64, 72)
    assert drawn.voxel_um == truth.voxel_um == VOXEL_UM
    assert set(np.unique(truth.array)) == {0, 255}


def test_the_seed_decides(tidemark: Tidemark, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert tidemark("phantom", tmp_path / f"{name}.tif", "--seed", seed, *SIZE).code == 0
    a, b, c = (read_volume(tmp_path / f"{name}.tif").array for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_pair_has_its_transform(tidemark: Tidemark, tmp_path: Path) -> None:
    ended = tidemark("phantom", tmp_path / "pta.tif", "--pair", tmp_path / "ca4.nii.gz", "--seed", 5, *SIZE)
    assert ended.code == 0
    drawn = draw_phantom(5, (80, 64, 72), VOXEL_UM, pair=True)
    assert drawn.ca4 is not None and drawn.matrix is not None
    assert np.array_equal(read_volume(tmp_path / "pta.tif").array, drawn.scan)
    assert np.array_equal(read_volume(tmp_path / "ca4.nii.gz").array, drawn.ca4)
    np.testing.assert_allclose(read_transform(tmp_path / "ca4.tfm"), drawn.matrix, atol=1e-9)


def test_another_kind_of_sample(tidemark: Tidemark, tmp_path: Path) -> None:
    sizes = ("--size", 80, 64, 200, "--voxel-size", 50)
    assert tidemark("phantom", tmp_path / "slab.tif", "--kind", "slab", "--seed", 5, *sizes).code == 0
    drawn = draw_phantom(5, (80, 64, 200), 50, kind="slab")
    assert np.array_equal(read_volume(tmp_path / "slab.tif").array, drawn.scan)


def test_a_set_is_named_by_subject(tidemark: Tidemark, tmp_path: Path) -> None:
    scans, masks = tmp_path / "scans", tmp_path / "masks"
    assert tidemark("phantom", scans, "--mask", masks, "--samples", 3, "--subjects", 2, *SIZE).code == 0
    names = ["S01_1.tif", "S01_2.tif", "S02_1.tif"]
    assert sorted(path.name for path in scans.iterdir()) == names
    assert sorted(path.name for path in masks.iterdir()) == names
    plugs = [read_volume(path).array for path in sorted(scans.iterdir())]
    assert not any(np.array_equal(one, other) for one, other in combinations(plugs, 2))
    again = tidemark("phantom", scans, "--samples", 3, *SIZE)
    assert again.code == 1
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("p.xyz",),
        ("p.tif", "--size", "10", "10", "10"),
        ("p.tif", "--voxel-size", "nan"),
        ("p.tif", "--voxel-size", "-1"),
        ("p.tif", "--seed", "-1"),
        ("p.tif", "--kind", "ball"),
        ("p.tif", "--mask", "p.tif"),
        ("p.tif", "--subjects", "2"),
        ("set", "--samples", "2", "--subjects", "3"),
        ("set", "--samples", "2", "--mask", "set"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tidemark("phantom", *arguments).code == 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
