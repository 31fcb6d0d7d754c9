"""Zeiss Xradia files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.core.scans.made import made_txm, ole_file
from tidemark_cli.core.errors import FormatError
from tidemark_cli.core.scans.txm import read_txm


def test_slices_lie_a_hundred_to_a_folder_in_short_and_long_streams(tmp_path):
    few = np.arange(3 * 50 * 60, dtype=np.uint16).reshape(3, 50, 60)  # 6,000 bytes a slice
    many = np.arange(205 * 4 * 5, dtype=np.uint16).reshape(205, 4, 5)
    for array in (few, many):
        content = read_txm(made_txm(tmp_path, array))
        assert np.array_equal(content.array, array)
        assert content.spacing_um == pytest.approx((3.2, 3.2, 3.2))


def test_floats_without_a_voxel_size(tmp_path):
    plane = np.linspace(0, 1, 12, dtype=np.float32)
    numbers = {"ImageWidth": 4, "ImageHeight": 3, "NoOfImages": 1, "DataType": 10}
    streams = {f"ImageInfo/{name}": struct.pack("<i", number) for name, number in numbers.items()}
    path = tmp_path / "a.txm"
    path.write_bytes(ole_file(streams | {"ImageData1/Image1": plane.tobytes()}))
    content = read_txm(path)
    assert np.array_equal(content.array.ravel(), plane) and content.spacing_um is None


def test_refusals(tmp_path: Path):
    path = made_txm(tmp_path, np.zeros((4, 8, 9), np.uint16))
    whole = path.read_bytes()
    for size in (0, 100, 1000, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="not a whole Zeiss Xradia TXM"):
            read_txm(path)
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="projections"):
        read_txm(path.rename(tmp_path / "a.txrm"))
