"""What the picture of a registration shows where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.helpers import SURFACE_Z, VOXEL_UM, draw_plug
from tidemark_cli.core.anatomy.plug import find_plug
from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.pictures.overlay import compose_overlay
from tidemark_cli.core.pictures.style import MAGENTA, write_picture
from tidemark_cli.core.scans.volume import Volume


def pair(bone_end: str = "first", source: str = "file") -> tuple[Volume, np.ndarray]:
    """Return a plug under PTA and CA4+: cartilage of 120 and 80, bone of 170 and 250."""
    pta = draw_plug(bone_end=bone_end)
    return Volume(pta, VOXEL_UM, source, Path("plug.tif")), np.where(pta > 145, 250, pta * 0.66)


@pytest.fixture(scope="module")
def page() -> Figure:
    return compose_overlay(*pair(), 165, "quality 0.50")


def rim(axes: Axes) -> np.ndarray:
    """Return the corners (N, 2) x, y of the lines drawn round hard tissue."""
    return np.concatenate([path.vertices for lines in axes.collections for path in lines.get_paths()])


def test_bone_is_down_either_way_up(page: Figure) -> None:
    last = compose_overlay(*pair("last"), 165, "")
    for one, other in zip(page.axes[:4], last.axes[:4], strict=True):  # ZX and ZY
        picture = one.images[0].get_array()
        np.testing.assert_array_equal(picture, other.images[0].get_array())
        columns = picture[:, 20:30]
        assert columns[10:20].mean() < columns[-20:-10].mean()  # bone is the brighter one here


def test_sections_are_named_and_xy_lies_in_the_bone(page: Figure) -> None:
    axes = page.axes
    assert [one.texts[0].get_text() for one in axes] == ["ZX", "ZX", "ZY", "ZY", "XY", "XY"]
    xy = axes[4]
    assert np.ptp(rim(xy)[:, 0]) > 40  # round the whole plug, 50 voxels wide


def test_the_rim_lies_on_the_tidemark(page: Figure) -> None:
    row = find_plug(draw_plug(), VOXEL_UM).box[0].stop - SURFACE_Z - 0.5  # from the top, between voxels
    assert np.count_nonzero(abs(rim(page.axes[0])[:, 1] - row) < 0.5) > 40


def test_the_squares_are_pta_and_ca4_in_turn(page: Figure) -> None:
    rim_axes, squares = page.axes[:2]
    whole, mixed = rim_axes.images[0].get_array(), squares.images[0].get_array()[..., 0]
    side = int(np.ceil(whole.shape[1] / 7))
    np.testing.assert_array_equal(mixed[:side, :side], whole[:side, :side])
    bone = np.s_[5 * side : 6 * side, 2 * side : 3 * side]  # an odd square
    assert mixed[bone].mean() > whole[bone].mean()  # CA4+, where bone is white


def test_a_doubted_result_and_an_assumed_voxel_size_are_pointed_out(page: Figure) -> None:
    doubted = compose_overlay(*pair(source="default"), 165, "quality 0.50", doubted=True)
    for figure, said in ((page, False), (doubted, True)):
        assert any(text.get_text().endswith("registration quality 0.50") for text in figure.texts)
        assert any(text.get_color() == MAGENTA for text in figure.texts) == said
        told = [text.get_text() for text in figure.axes[0].texts]
        assert any("voxel size assumed: 40 µm" in text for text in told) == said


def test_without_hard_tissue_there_is_no_rim() -> None:
    assert not any(axes.collections for axes in compose_overlay(*pair(), 255, "").axes)


def test_nothing_is_replaced_unless_asked(page: Figure, tmp_path: Path) -> None:
    path = tmp_path / "overlay.png"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        write_picture(path, page)
    write_picture(path, page, overwrite=True)
    assert path.read_bytes().startswith(b"\x89PNG")
