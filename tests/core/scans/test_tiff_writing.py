"""Arrays to TIFF files: what other programs find in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tidemark_cli.core.scans import tiff_writing
from tidemark_cli.core.scans.tiff_writing import TIFF_DTYPES, write_tiff


@pytest.mark.parametrize("dtype", TIFF_DTYPES)
@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5)])
def test_every_dtype_comes_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    write_tiff(tmp_path / "a.tif", array, 3.2)
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_imagej_finds_the_voxel_size(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", np.zeros((3, 4, 5), np.uint8), 3.2)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_imagej and not tif.is_bigtiff
        assert tif.imagej_metadata is not None
        assert (tif.imagej_metadata["spacing"], tif.imagej_metadata["unit"]) == (3.2, "um")
        pixels, units = tif.pages.first.tags["XResolution"].value
        assert units / pixels == pytest.approx(3.2)
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


@pytest.mark.parametrize("why", ["asked for", "too large"])
def test_ome_where_imagej_cannot_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(tiff_writing, "CLASSIC_TIFF_LIMIT", 0 if why == "too large" else 2**31)
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    write_tiff(tmp_path / "a.tif", array, 3.2, ome=why == "asked for")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_ome and tif.is_bigtiff
        assert 'PhysicalSizeX="3.2"' in str(tif.ome_metadata)
        np.testing.assert_array_equal(tif.asarray(), array)
