"""What the picture of a dataset shows where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemark_cli.core.data.dataset import find_samples, write_sample
from tidemark_cli.core.pictures.contact_sheet import compose_contact_sheet


def test_bone_is_down_and_the_mask_is_outlined_where_it_lies(tmp_path: Path) -> None:
    scan = np.full((20, 3, 12), 90, np.uint8)
    scan[:6] = 200
    write_sample(tmp_path, "S01_1", scan, scan > 150)
    write_sample(tmp_path, "S02_1", scan, scan > 250)
    axes, empty = compose_contact_sheet(list(find_samples(tmp_path))).axes
    assert not empty.collections
    assert axes.images[0].get_array()[:, 5].tolist() == [90] * 14 + [200] * 6
    outline = np.concatenate([path.vertices for lines in axes.collections for path in lines.get_paths()])
    assert outline[:, 1] == pytest.approx(13.5)
