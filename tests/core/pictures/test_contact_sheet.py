"""What the picture of a dataset shows where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tidemark_cli.core.data.dataset import find_samples, write_sample
from tidemark_cli.core.pictures import contact_sheet


def test_bone_is_down_and_the_mask_is_outlined_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = np.full((20, 3, 12), 90, np.uint8)
    scan[:6] = 200
    write_sample(tmp_path, "S01_1", scan, scan > 150)
    drawn: list[Figure] = []
    monkeypatch.setattr(contact_sheet, "write_picture", lambda _, figure: drawn.append(figure))
    contact_sheet.draw_contact_sheet(tmp_path / "sheet.png", list(find_samples(tmp_path)))
    (axes,) = drawn[0].axes
    assert axes.images[0].get_array()[:, 5].tolist() == [90] * 14 + [200] * 6
    outline = np.concatenate([path.vertices for lines in axes.collections for path in lines.get_paths()])
    assert outline[:, 1] == pytest.approx(13.5)
