"""What the tags and texts of a TIFF file tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.scans.tiff_texts import levels_of, ome_spacing_um, spacing_of, told_depth

STACK = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def written(path: Path, array: np.ndarray = STACK, **options: Any) -> tifffile.TiffFile:
    tifffile.imwrite(path, array, **options)
    return tifffile.TiffFile(path)


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True}, {}], ids=["ImageJ", "OME", "tifffile"])
def test_the_depth_that_is_told(tmp_path: Path, kind: dict[str, bool]) -> None:
    with written(tmp_path / "a.tif", photometric="minisblack", metadata={"axes": "ZYX"}, **kind) as tif:
        assert told_depth(tif) == 3


@pytest.mark.parametrize(
    "text", ['{"axes": "ZYX", "shape": [3, 4, 5]}', '{"shape": [3, 4, 5], "axes": "ZYX"}']
)
def test_tifffile_wrote_the_shape_last_until_2026(tmp_path: Path, text: str) -> None:
    with written(tmp_path / "a.tif", photometric="minisblack", metadata=None, description=text) as tif:
        assert told_depth(tif) == 3


@pytest.mark.parametrize(
    ("resolution", "options", "expected"),
    [
        (
            (0.05, 0.05),
            {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 30, "unit": "um"}},
            (30, 20, 20),
        ),
        ((0.05, 0.05), {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}}, (20, 20, 20)),
        ((500, 500), {"resolutionunit": "CENTIMETER"}, (20, 20, 20)),
        ((72, 72), {"resolutionunit": "INCH"}, None),  # a print resolution
        ((1, 1), {"resolutionunit": "NONE"}, None),
    ],
)
def test_the_voxel_size_by_hand(
    tmp_path: Path,
    resolution: tuple[float, float],
    options: dict[str, Any],
    expected: tuple[float, float, float] | None,
) -> None:
    with written(tmp_path / "a.tif", resolution=resolution, photometric="minisblack", **options) as tif:
        spacing_um, notes = spacing_of(tif, tif.pages.first)
    assert spacing_um == (expected and pytest.approx(expected)) and notes == ()


def test_imagej_may_have_a_unit_for_each_axis(tmp_path: Path) -> None:
    units = {"axes": "ZYX", "spacing": 20, "unit": "mm", "yunit": "cm", "zunit": "um"}
    with written(tmp_path / "a.tif", imagej=True, resolution=(50, 500), metadata=units) as tif:
        assert spacing_of(tif, tif.pages.first)[0] == pytest.approx((20, 20, 20))


def test_the_units_of_ome() -> None:
    pixels = '<OME><Image><Pixels PhysicalSizeX="0.02" PhysicalSizeXUnit="{}"/></Image></OME>'
    assert ome_spacing_um(pixels.format("mm")) == ((20.0, 20.0, 20.0), ())
    spacing_um, notes = ome_spacing_um(pixels.format("furlong"))
    assert spacing_um is None and "furlong" in notes[0]
    assert ome_spacing_um("<OME/>") == ome_spacing_um("no XML <") == (None, ())


def test_grey_levels_of_one_bit_and_of_0_as_white(tmp_path: Path) -> None:
    with written(tmp_path / "bits.tif", STACK % 2 > 0, photometric="minisblack") as tif:
        levels = levels_of(tmp_path, tif.pages.first, imagej=False)
        assert levels.of(np.array([False, True])).tolist() == [0, 255] and not levels.as_stored
    with written(tmp_path / "white.tif", photometric="miniswhite") as tif:
        levels = levels_of(tmp_path, tif.pages.first, imagej=False)
        assert levels.of(np.array([0, 5, 255], np.uint8)).tolist() == [255, 250, 0]
        assert "inverted" in levels.notes[0]
    with written(tmp_path / "half.tif", STACK.astype(np.float16), photometric="minisblack") as tif:
        assert levels_of(tmp_path, tif.pages.first, imagej=False).dtype == np.float32


@pytest.mark.parametrize("coloured", [False, True])
def test_colour_tables(tmp_path: Path, coloured: bool) -> None:
    table = np.tile(np.arange(256, dtype=np.uint16)[::-1] << 8, (3, 1))
    table[0, 7] += 256 * coloured
    with written(tmp_path / "a.tif", photometric="palette", colormap=table) as tif:
        if coloured:
            with pytest.raises(ContentError, match="coloured"):
                levels_of(tmp_path, tif.pages.first, imagej=False)
        else:
            levels = levels_of(tmp_path, tif.pages.first, imagej=False)
            assert levels.of(np.array([0, 7, 255], np.uint8)).tolist() == [255, 248, 0]
        assert levels_of(tmp_path, tif.pages.first, imagej=True).as_stored
