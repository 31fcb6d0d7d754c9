"""Plain voxels in a file."""

from __future__ import annotations

import numpy as np
import pytest

from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.voxels import map_voxels, named_otherwise, surplus

ARRAY = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_lie_behind_an_offset_in_either_byte_order(order, tmp_path):
    (tmp_path / "a").write_bytes(bytes(5) + ARRAY.astype(f"{order}u2").tobytes())
    read = map_voxels(tmp_path / "a", np.dtype(f"{order}u2"), 5, (2, 3, 4))
    assert np.array_equal(read, ARRAY) and read.dtype.isnative


def test_a_file_that_is_too_short_or_empty(tmp_path):
    (tmp_path / "a").write_bytes(bytes(47))
    with pytest.raises(FormatError, match="48 bytes expected, 47 found"):
        map_voxels(tmp_path / "a", np.dtype("<u2"), 0, (2, 3, 4))
    with pytest.raises(FormatError, match="cut short"):
        map_voxels(tmp_path / "a", np.dtype("<u2"), -8, (1, 1, 1))
    with pytest.raises(ContentError, match="no voxels"):
        map_voxels(tmp_path / "a", np.dtype("<u2"), 0, (2, 0, 4))


def test_bytes_behind_the_voxels_and_axes_of_other_names(tmp_path):
    assert surplus(tmp_path / "a", 0) == () and "a is 3 bytes longer" in surplus(tmp_path / "a", 3)[0]
    assert named_otherwise(["z", "Y", "x"]) == named_otherwise(["a", "b", "c"]) == ()
    assert "named x, y, z" in named_otherwise(["x", "y", "z"])[0]
