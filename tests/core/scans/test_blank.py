"""Slices that were never written."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import draw_plug
from tidemark_cli.core.scans.blank import blank_slices
from tidemark_cli.core.scans.volume import read_volume, write_volume


@pytest.mark.parametrize(("first", "last"), [(45, 69), (0, 20), (30, 33), (69, 69)])
def test_blank_slices_beside_full_ones_are_told(first, last):
    scan = draw_plug()[5:75]  # its slices are all full
    assert blank_slices(scan) == ()
    scan[first : last + 1] = 0
    assert f"slices {first + 1} to {last + 1} of 70 hold nothing but 0" in blank_slices(scan)[0]


def test_a_sample_that_tapers_and_small_or_empty_scans_are_no_reason():
    z, y, x = np.ogrid[:40, :64, :64]
    ball = np.where((z - 20) ** 2 + (y - 32) ** 2 + (x - 32) ** 2 < 15**2, 100, 0).astype(np.uint8)
    assert blank_slices(ball) == ()
    assert blank_slices(np.zeros((5, 64, 64), np.uint8)) == ()
    assert blank_slices(np.repeat([0, 1], 4).reshape(8, 1, 1)) == ()


def test_reading_tells_it_of_scans_and_not_of_masks(tmp_path):
    scan = draw_plug()
    scan[40:] = 0
    write_volume(tmp_path / "a.nrrd", scan, 3.2)
    assert "slices 41 to 80 of 80" in read_volume(tmp_path / "a.nrrd").notes[0]
    assert read_volume(tmp_path / "a.nrrd", mask=True).notes == ()
