"""Voxels of Phoenix and Nikon scanners, and the texts beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.core.scans.made import made_pcr, made_vgi
from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.raw_volume import read_raw_volume

ARRAY = np.arange(600, dtype=np.uint16).reshape(10, 5, 12)


def reworded(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(("make", "header"), [(made_pcr, "scan.pcr"), (made_vgi, "scan.vgi")])
def test_either_file_may_be_given(make, header, tmp_path):
    make(tmp_path, ARRAY)
    for name in (header, "scan.vol"):
        content = read_raw_volume(tmp_path / name)
        assert np.array_equal(content.array, ARRAY)
        assert content.spacing_um == pytest.approx((3.2, 3.2, 3.2))


def test_floats_a_header_to_skip_and_edges_in_um(tmp_path):
    path = made_vgi(tmp_path, ARRAY)
    reworded(
        path, "Datatype = unsigned integer\nBitsPerElement = 16", "Datatype = float\nBitsPerElement = 32"
    )
    reworded(path, "SkipHeader = 0", "SkipHeader = 7")
    reworded(path, "unit = mm", "unit = µm")
    reworded(path, "0.0032 0.0032 0.0032", "2 3 4")
    (tmp_path / "scan.vol").write_bytes(bytes(7) + ARRAY.astype("<f4").tobytes())
    content = read_raw_volume(path)
    assert np.array_equal(content.array, ARRAY) and content.array.dtype == np.float32
    assert content.spacing_um == (4, 3, 2)


def test_an_unknown_unit_is_named(tmp_path):
    content = read_raw_volume(reworded(made_vgi(tmp_path, ARRAY), "unit = mm", "unit = furlong"))
    assert content.spacing_um is None and "furlong" in content.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Format=5", "Format=9", "format 9"),
        ("Volume_SizeX=12", "Volume_SizeX=", "invalid literal"),
        ("[VolumeData]", "[Other]", "volumedata"),
    ],
)
def test_a_text_that_does_not_tell(old, new, told, tmp_path):
    made_pcr(tmp_path, ARRAY)
    reworded(tmp_path / "scan.pcr", old, new)
    with pytest.raises(FormatError, match=told):
        read_raw_volume(tmp_path / "scan.vol")


def test_voxels_that_are_missing_or_cut_short(tmp_path):
    made_pcr(tmp_path, ARRAY)
    (tmp_path / "scan.vol").write_bytes(bytes(1199))
    with pytest.raises(FormatError, match="1200 bytes expected, 1199 found"):
        read_raw_volume(tmp_path / "scan.vol")
    (tmp_path / "scan.vol").unlink()
    with pytest.raises(FormatError, match=r"scan\.vol, which is not there"):
        read_raw_volume(tmp_path / "scan.pcr")
    made_pcr(tmp_path, ARRAY)
    (tmp_path / "scan.pcr").unlink()
    with pytest.raises(FormatError, match="without its header"):
        read_raw_volume(tmp_path / "scan.vol")
    reworded(made_vgi(tmp_path, ARRAY), "Size = 12", "Size = 0")
    with pytest.raises(ContentError, match="no voxels"):
        read_raw_volume(tmp_path / "scan.vgi")


def test_a_file_longer_than_its_header_tells(tmp_path):
    path = made_vgi(tmp_path, ARRAY)
    (tmp_path / "scan.vol").write_bytes(bytes(512) + ARRAY.tobytes())
    assert "scan.vol is 512 bytes longer than its header tells" in read_raw_volume(path).notes[0]
