"""What the picture of a segmentation shows where, and how it is written."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tidemark_cli.core.anatomy.confidence import REASONS
from tidemark_cli.core.anatomy.ends import Judgement
from tidemark_cli.core.anatomy.plug import Plug
from tidemark_cli.core.anatomy.surface import Surface, find_surface
from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.pictures.preview import compose_preview
from tidemark_cli.core.pictures.style import MAGENTA, write_picture

UM = 40.0


def scene(rows: int = 40, bone_end: str = "first") -> tuple[np.ndarray, np.ndarray, Surface, Plug]:
    """Return scan, mask, surface and plug of a cylinder 1.2 mm wide (Z, Y, X)."""
    z, y, x = np.ogrid[:60, :rows, :44]
    inside = np.hypot(y - rows // 2, x - 22) < 15
    mask = np.where(inside & (z < 20 + x // 8), 255, 0).astype(np.uint8)
    mask[:, rows // 2 : rows // 2 + 2, 20:22] = 0
    scan = np.where(inside & (z < 50), 120, 0).astype(np.uint8)
    scan[mask > 0] = 90
    surface = find_surface(mask, UM)
    if bone_end == "last":
        scan, mask = scan[::-1], mask[::-1]
    box = (slice(0, 55) if bone_end == "first" else slice(5, 60), slice(0, rows), slice(4, 40))
    return scan, mask, surface, Plug(box, Judgement(bone_end), 50.0)  # type: ignore[arg-type]


def draw(
    path: Path,
    scan: np.ndarray,
    mask: np.ndarray,
    surface: Surface,
    plug: Plug,
    title: str,
    overwrite: bool = False,
) -> None:
    write_picture(path, compose_preview(scan, mask, surface, plug, title), overwrite)


def size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize("rows", [1, 40])
def test_a_picture_is_written_whole(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "preview.png"
    draw(path, *scene(rows), "plug 1")
    width, height = size(path)
    assert width == 1600
    assert 700 < height < 1000
    assert [entry.name for entry in tmp_path.iterdir()] == ["preview.png"]


@pytest.mark.parametrize("name", ["样本", "lat\udce4", "$x_1"], ids=["no glyphs", "no letter", "no formula"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "preview.png", *scene(40), name)
    assert size(tmp_path / "preview.png")[0] == 1600


def test_a_surface_without_tidemark_is_drawn_too(tmp_path: Path) -> None:
    for rows in (1, 40):
        scan, mask, _, plug = scene(rows)
        empty = find_surface(np.zeros_like(mask), UM)
        draw(tmp_path / f"{rows}.png", scan, np.zeros_like(mask), empty, plug, "empty")
        assert size(tmp_path / f"{rows}.png")[0] == 1600


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        draw(path, *scene(1), "plug")
    assert path.read_text() == "mine"
    draw(path, *scene(1), "plug", overwrite=True)
    assert size(path)[0] == 1600


def test_arrays_that_do_not_match_are_refused() -> None:
    scan, mask, surface, plug = scene()
    with pytest.raises(ValueError, match="must match"):
        compose_preview(scan[:, 1:], mask, surface, plug, "plug")


def test_bone_is_down_either_way_up() -> None:
    first, last = (compose_preview(*scene(bone_end=end), "plug").axes for end in ("first", "last"))
    for one, other in zip(first[:2], last[:2], strict=True):  # ZX and ZY
        for image, same in zip(one.images, other.images, strict=True):  # the grey levels, the tint
            np.testing.assert_array_equal(image.get_array(), same.get_array())
            assert image.get_extent() == same.get_extent()
        np.testing.assert_array_equal(one.lines[0].get_ydata(), other.lines[0].get_ydata())
        tint = one.images[1].get_array()[..., 3]
        assert tint[-1].any() and not tint[0].any()


def test_the_line_lies_on_the_edge_of_the_tint() -> None:
    axes = compose_preview(*scene(), "plug").axes[0]
    tint, heights = axes.images[1].get_array()[..., 3], axes.lines[0].get_ydata()
    bottom = axes.images[1].get_extent()[2]
    columns = np.flatnonzero(np.isfinite(heights))
    assert columns.size > 20
    for column in columns:
        hard_rows = np.flatnonzero(tint[:, column])
        assert heights[column] == pytest.approx(bottom + (len(tint) - hard_rows[0]) * UM)


def test_row_0_of_the_map_is_on_top() -> None:
    scan, mask, surface, plug = scene()
    surface.height_um[12, 25] += 500
    figure = compose_preview(scan, mask, surface, plug, "plug", {})
    shown = figure.axes[2].images[0]
    heights = shown.get_array()
    assert heights.shape == (40, 36)
    assert np.unravel_index(heights.argmax(), heights.shape) == (12, 25 - 4)  # the box begins at X 4
    assert shown.get_extent() == [4 * UM, 40 * UM, 40 * UM, 0]
    assert shown.origin == "upper"


def test_the_confidence_is_told_and_a_low_one_with_its_reason() -> None:
    signs = {"sharpness": 1.0, "coverage": 0.25}
    for value, warned in ((0.25, True), (0.75, False)):
        numbers = {"confidence": value, "confidence_signs": signs | {"coverage": value}}
        texts = [text.get_text() for text in compose_preview(*scene(), "plug", numbers).texts]
        assert any(text.endswith(f"first slices, confidence {value:.2f}") for text in texts)
        assert (f"Confidence 0.25: {REASONS['coverage']}." in texts) == warned


def test_each_number_stands_over_its_caption() -> None:
    numbers = {
        "roughness_ra_um": 1.1,
        "roughness_rq_um": 2.2,
        "roughness_range_p5_p95_um": 33.3,
        "developed_area_ratio": 1.044,
        "thickness_median_um": 555.5,
        "tilt_deg": 6.6,
        "openings_count": 7,
        "openings_area_percent": 8.8,
    }
    texts = [text.get_text() for text in compose_preview(*scene(), "plug", numbers).axes[-1].texts]
    assert list(zip(texts[1::2], texts[::2], strict=True)) == [
        ("Ra", "1.1 µm"),
        ("Rq", "2.2 µm"),
        ("range, p5 to p95", "33 µm"),
        ("developed ratio", "1.044"),
        ("cartilage, median", "556 µm"),
        ("tilt", "6.6°"),
        ("openings", "7"),
        ("opening area", "8.8 %"),
    ]


@pytest.mark.parametrize("source", ["default", "file"])
def test_an_assumed_voxel_size_is_said_above_the_scale_bars(source: str) -> None:
    figure = compose_preview(*scene(), "plug", {"voxel_source": source})
    for axes in figure.axes[:2]:  # ZX and ZY
        told = ["voxel size assumed: 40 µm\n500 µm" in text.get_text() for text in axes.texts]
        assert any(told) == (source == "default")


def test_warnings_do_not_lie_upon_each_other() -> None:
    scan, mask, surface, plug = scene()
    numbers = {"confidence": 0.2, "confidence_signs": {"coverage": 0.2}}
    guessed = replace(plug, bone=Judgement("first", 0.0))
    figure = compose_preview(scan, mask, surface, guessed, "plug", numbers)
    rows = [text.get_position()[1] for text in figure.texts if text.get_color() == MAGENTA]
    assert len(rows) == 2 and rows[0] - rows[1] > 0.2 / figure.get_size_inches()[1]


def test_the_scale_bars_are_as_long_as_they_say() -> None:
    figure = compose_preview(*scene(), "plug", {})
    for axes, columns in zip(figure.axes, (36, 40, 36), strict=False):  # ZX, ZY and the map
        assert "500 µm" in [text.get_text() for text in axes.texts]
        assert axes.patches[0].get_width() == pytest.approx(500 / (columns * UM))


def test_openings_are_drawn_in_their_colour(tmp_path: Path) -> None:
    scan, mask, surface, plug = scene()
    assert surface.opening.sum() == 4
    draw(tmp_path / "with.png", scan, mask, surface, plug, "plug")
    closed = Surface(surface.height_um, np.zeros_like(surface.opening), UM)
    draw(tmp_path / "without.png", scan, mask, closed, plug, "plug")
    colour = np.array([0x7E, 0x00, 0xE6])  # blue, green, red
    count = [
        np.count_nonzero((cv2.imread(str(tmp_path / name)) == colour).all(-1))
        for name in ("with.png", "without.png")
    ]
    assert count[0] > count[1] > 0  # the legends show it always
