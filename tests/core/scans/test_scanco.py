"""Scanco ISQ and AIM files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.core.scans.made import made_aim, made_isq, vax
from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.scanco import read_aim, read_isq

ARRAY = np.arange(-300, 300, dtype=np.int16).reshape(10, 5, 12)


def changed(path: Path, at: int, new: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def test_isq_levels_may_be_negative_and_edges_differ(tmp_path):
    path = changed(made_isq(tmp_path, ARRAY), 56, struct.pack("<3i", 1200, 250, 1000))
    content = read_isq(path)
    assert np.array_equal(content.array, ARRAY) and content.array.dtype == np.int16
    assert content.spacing_um == (100.0, 50.0, 100.0)


def test_isq_refusals(tmp_path):
    path = made_isq(tmp_path, ARRAY)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(FormatError, match="2736 bytes expected, 2735 found"):
        read_isq(path)
    path.write_bytes(whole[:100])
    with pytest.raises(FormatError, match="no Scanco ISQ file"):
        read_isq(path)
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="no reconstructed scan"):
        read_isq(changed(path, 16, struct.pack("<i", 9)))
    path.write_bytes(whole)
    with pytest.raises(ContentError, match="no voxels"):
        read_isq(changed(path, 52, struct.pack("<i", 0)))


def test_numbers_of_a_vax():
    # 1.0 is 0x4080 in the first word of a VAX
    assert vax(1.0) == b"\x80\x40\x00\x00"


@pytest.mark.parametrize("version", [2, 3])
def test_aim(version, tmp_path):
    content = read_aim(made_aim(tmp_path, ARRAY, version))
    assert np.array_equal(content.array, ARRAY)
    assert content.spacing_um == (3.2, 3.2, 3.2)


def test_aim_refusals(tmp_path):
    with pytest.raises(FormatError, match="voxels are compressed"):
        read_aim(made_aim(tmp_path, ARRAY, kind=0x00080002))
    with pytest.raises(FormatError, match=r"unknown kind \(0x7\)"):
        read_aim(made_aim(tmp_path, ARRAY, version=3, kind=7))
    path = made_aim(tmp_path, ARRAY)
    whole = path.read_bytes()
    for size in (0, 19, 100, 150, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_aim(path)
