"""The public interface, used as in a notebook."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import tidemark_cli as tidemark


@pytest.fixture(scope="module")
def plug() -> tidemark.Phantom:
    return tidemark.draw_phantom(3, (64, 48, 48), voxel_um=20, pair=True)


@pytest.fixture(scope="module")
def found(plug: tidemark.Phantom) -> tidemark.Segmentation:
    return tidemark.segment(plug.scan, voxel_um=plug.voxel_um, bone_end="first", device="cpu")


def test_all_that_is_named_is_there_and_nothing_else() -> None:
    named = set(tidemark.__all__)
    assert named == {name for name in dir(tidemark) if not name.startswith("_")}
    assert all(getattr(tidemark, name).__module__.startswith("tidemark_cli.") for name in named)


@pytest.mark.parametrize("kind", [str, Path, os.fspath])
def test_what_is_written_is_read(plug: tidemark.Phantom, tmp_path: Path, kind: type) -> None:
    path = kind(tmp_path / "scan.nrrd")
    tidemark.write(path, plug.scan, voxel_um=20)
    volume = tidemark.read(path)
    np.testing.assert_array_equal(volume.array, plug.scan)
    assert (volume.voxel_um, volume.voxel_source) == (20, "file")
    with pytest.raises(tidemark.OutputError, match="exists"):
        tidemark.write(path, volume)
    tidemark.write(path, volume, overwrite=True)


def test_arrays_volumes_and_files_give_the_same(
    plug: tidemark.Phantom, found: tidemark.Segmentation, tmp_path: Path
) -> None:
    tidemark.write(tmp_path / "scan.tif", plug.scan, 20)
    seen = []
    models = tidemark.load_models()
    for scan in (tidemark.Volume(plug.scan, 20), tmp_path / "scan.tif", str(tmp_path / "scan.tif")):
        again = tidemark.segment(
            scan, models, bone_end="first", device="cpu", progress=lambda *done: seen.append(done)
        )
        np.testing.assert_array_equal(again.mask, found.mask)
    assert seen[-1][0] == seen[-1][1] > 0
    scored = tidemark.score(found.mask, plug.mask, voxel_um=20)
    assert scored.overlap["dice"][-1] > 0.5
    assert tidemark.score(found.mask > 0, plug.mask > 0, voxel_um=20) == scored


def test_a_segmentation_shows_itself(plug: tidemark.Phantom, found: tidemark.Segmentation) -> None:
    figure = tidemark.preview(plug.scan, found, voxel_um=20)
    assert isinstance(figure, Figure)
    assert len(figure.axes) > 2
    shown = found._repr_html_()
    assert "confidence" in shown and f"{found.stats['hard_tissue_mm3']:.4g}" in shown


def test_a_single_slice_is_a_scan(plug: tidemark.Phantom) -> None:
    found = tidemark.segment(plug.scan[:, 24], voxel_um=20, bone_end="first", device="cpu")
    assert found.mask.shape == (64, 1, 48)
    with pytest.raises(tidemark.ContentError, match="expected"):
        tidemark.segment(plug.scan[0, 0])


def test_a_pair_is_registered_and_resampled() -> None:
    pair = tidemark.draw_phantom(5, (96, 64, 64), voxel_um=20, pair=True)
    assert pair.ca4 is not None and pair.matrix is not None
    registration = tidemark.register(pair.scan, pair.ca4, voxel_um=20, initial=pair.matrix)
    assert registration.trusted
    moved = tidemark.resample(pair.ca4, pair.scan, registration, voxel_um=20)
    assert moved.shape == pair.scan.shape
    hard = moved > 160
    assert (hard & (pair.mask > 0)).sum() > 0.7 * hard.sum()
    with pytest.raises(ValueError, match="mi or mse"):
        tidemark.register(pair.scan, pair.ca4, metric="none")


def test_a_wrong_path_is_an_error_of_ours() -> None:
    with pytest.raises(tidemark.ScanError, match="does not exist"):
        tidemark.read("nowhere.tif")
    assert issubclass(tidemark.ScanError, tidemark.TidemarkError)
