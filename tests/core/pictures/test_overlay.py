"""What the picture of a registration shows where."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from tidemark_cli.core.anatomy.ends import BoneEnd, Judgement
from tidemark_cli.core.anatomy.plug import Plug
from tidemark_cli.core.pictures import overlay

BOX = (slice(10, 50), slice(4, 20), slice(6, 28))


@pytest.mark.parametrize(
    ("bone_end", "from_the_top", "in_the_bone"),
    [("first", range(49, 9, -1), 10 + 12), ("last", range(10, 50), 49 - 12)],
    ids=["first", "last"],
)
def test_the_sections_lie_cartilage_up_and_xy_in_the_bone(
    bone_end: BoneEnd, from_the_top: range, in_the_bone: int
) -> None:
    z, y, x = np.mgrid[:60, :24, :32]
    zx, zy, xy = overlay._sections(z, 100 * y + x, Plug(BOX, Judgement(bone_end), 50.0))
    assert [section.name for section in (zx, zy, xy)] == ["ZX", "ZY", "XY"]
    assert zx.pta[:, 0].tolist() == zy.pta[:, 0].tolist() == list(from_the_top)
    assert np.unique(xy.pta).tolist() == [in_the_bone]
    assert (zx.ca4[0] // 100 == 12).all() and (zx.ca4[0] % 100 == range(6, 28)).all()
    assert (zy.ca4[0] // 100 == range(4, 20)).all() and (zy.ca4[0] % 100 == 17).all()
    assert (xy.ca4[0, 0], xy.ca4[-1, -1]) == (406, 1927)


def test_the_rim_is_that_of_the_hard_tissue_under_ca4() -> None:
    pta, ca4 = np.zeros((2, 8, 12), np.float32)
    pta[:, 2:], ca4[:, 5:] = 100, 100
    axes = Figure().subplots()
    overlay._draw_rim(axes, overlay._Section("ZX", pta, ca4), 50)
    np.testing.assert_array_equal(axes.images[0].get_array(), pta / 100)
    rim = np.concatenate([path.vertices for lines in axes.collections for path in lines.get_paths()])
    assert rim[:, 0] == pytest.approx(4.5)
