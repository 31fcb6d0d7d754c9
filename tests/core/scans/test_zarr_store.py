"""OME-Zarr folders, read and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tidemark_cli.core.errors import ContentError, FormatError, OutputError
from tidemark_cli.core.scans.volume import find_scans, read_volume, write_volume
from tidemark_cli.core.scans.zarr_store import read_zarr

zarr = pytest.importorskip("zarr", reason="it needs Python 3.11")

ARRAY = np.random.default_rng(0).integers(0, 60000, (140, 6, 9)).astype(np.uint16)


def test_written_whole_and_replaced_when_asked(tmp_path):
    path = tmp_path / "mask.ome.zarr"
    write_volume(path, ARRAY, 3.2)
    with pytest.raises(OutputError, match="exists already"):
        write_volume(path, ARRAY, 3.2)
    write_volume(path, ARRAY // 2, 2.5, overwrite=True)
    scan = read_volume(path)
    assert np.array_equal(scan.array, ARRAY // 2) and scan.voxel_um == 2.5 and scan.name == "mask"
    assert [one.name for one in tmp_path.iterdir()] == ["mask.ome.zarr"]
    image = json.loads((path / ".zattrs").read_text())["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == ["z", "y", "x"]
    assert image["axes"][0]["unit"] == "micrometer"


def test_no_other_folder_is_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.docx").write_text("x")
    with pytest.raises(OutputError, match="is a folder"):
        write_volume(tmp_path / "a.zarr", ARRAY, 3.2, overwrite=True)


def test_empty_blocks_are_kept(tmp_path):
    write_volume(tmp_path / "a.zarr", np.zeros((300, 4, 4), np.uint8), 3.2)
    scan = read_volume(tmp_path / "a.zarr", mask=True)
    assert scan.notes == () and not scan.array.any()


@pytest.mark.parametrize("version", [2, 3])
def test_the_finest_image_with_channels_and_times_of_one(version, tmp_path):
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for level in (0, 1):
        stored = group.create_array(str(level), shape=(1, 1, 140, 6, 9), dtype="uint16")
        stored[...] = (ARRAY + level)[np.newaxis, np.newaxis]
    axes = [{"name": "t"}, {"name": "c"}, *({"name": axis, "unit": "millimeter"} for axis in "zyx")]
    scale = [{"type": "scale", "scale": [1, 1, 0.004, 0.002, 0.002]}]
    sets = [{"path": "0", "coordinateTransformations": scale}, {"path": "1"}]
    image = {"multiscales": [{"axes": axes, "datasets": sets}]}
    group.attrs.update(image if version == 2 else {"ome": image})
    content = read_zarr(path)
    assert np.array_equal(content.array, ARRAY)
    assert content.spacing_um == (4, 2, 2)
    assert find_scans(tmp_path) == [path] == find_scans(path)


def test_a_plain_array_and_a_group_of_several(tmp_path):
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.create_array("one", data=ARRAY)
    assert np.array_equal(read_zarr(path).array, ARRAY)
    group.create_array("two", data=ARRAY // 3)
    with pytest.raises(ContentError, match=r"holds 2 arrays \((one, two|two, one)\)"):
        read_zarr(path)
    assert np.array_equal(read_zarr(path / "two").array, ARRAY // 3)


def test_lost_and_damaged_blocks(tmp_path):
    path = tmp_path / "a.zarr"
    write_volume(path, ARRAY, 3.2)
    block = path / "0" / "1" / "0" / "0"
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 4
    block.write_bytes(data)
    with pytest.raises(FormatError, match="no whole Zarr folder"):
        read_zarr(path)
    block.unlink()
    assert "1 of 2 blocks are not there: read as 0" in read_zarr(path).notes
    (path / "0" / "0" / "0" / "0").unlink()
    with pytest.raises(FormatError, match="none of its blocks"):
        read_zarr(path)


def test_several_channels_are_refused(tmp_path: Path):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w").create_array("0", data=np.zeros((2, 5, 6, 7), "u1"))
    with pytest.raises(ContentError, match=r"shape \(2, 5, 6, 7\)"):
        read_zarr(tmp_path / "a.zarr")


def test_a_scale_of_the_whole_image_and_axes_in_another_order(tmp_path: Path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=ARRAY)
    axes = [{"name": axis, "unit": "micrometer"} for axis in "xyz"]
    scales = [[{"type": "scale", "scale": scale}] for scale in ([1, 2, 2], [4, 2, 2])]
    sets = [{"path": "0", "coordinateTransformations": scales[0]}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": sets, "coordinateTransformations": scales[1]}]
    content = read_zarr(tmp_path / "a.zarr")
    assert content.spacing_um == (4, 4, 4)
    assert "named x, y, z" in content.notes[0]


def test_a_folder_that_lost_its_mark_is_still_told_of_as_zarr(tmp_path: Path):
    write_volume(tmp_path / "a.zarr", ARRAY, 3.2)
    (tmp_path / "a.zarr" / ".zgroup").unlink()
    assert find_scans(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]
    with pytest.raises(FormatError, match="no whole Zarr folder"):
        read_volume(tmp_path / "a.zarr")
