"""HDF5 files: which data set, what size, and damage."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.core.scans.made import made_hdf5, made_packed_hdf5
from tidemark_cli.core.arrays import Room, on_disk, reading_into
from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.hdf5 import read_hdf5
from tidemark_cli.core.scans.volume import read_volume

ARRAY = np.arange(600, dtype=np.uint16).reshape(10, 5, 12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


def test_the_only_stack_is_read_and_others_by_name(path):
    with h5py.File(path, "w") as h5:
        h5["a/flat"] = ARRAY[0]
        h5["a/stack"] = ARRAY[np.newaxis]
    assert np.array_equal(read_hdf5(path).array, ARRAY)
    with h5py.File(path, "a") as h5:
        h5["b"] = ARRAY + 1
    with pytest.raises(ContentError, match=r"2 data sets of three axes \(/a/stack.*/b.*as .*a\.h5:/a/stack"):
        read_hdf5(path)
    assert np.array_equal(read_hdf5(Path(f"{path}:/b")).array, ARRAY + 1)
    assert np.array_equal(read_hdf5(Path(f"{path}::b")).array, ARRAY + 1)
    volume = read_volume(Path(f"{path}:/a/flat"), 3.2)
    assert volume.is_image and volume.name == "a_flat"
    with pytest.raises(FormatError, match="/c is no data set"):
        read_hdf5(Path(f"{path}:/c"))


def test_the_signal_of_a_nexus_file_comes_first(tmp_path):
    path = made_hdf5(tmp_path, ARRAY)
    with h5py.File(path, "a") as h5:
        h5["raw"] = ARRAY[::-1]
    assert np.array_equal(read_hdf5(path).array, ARRAY)


@pytest.mark.parametrize(
    ("where", "values", "units", "expected"),
    [
        ("attribute", [0.004, 0.003, 0.002], "mm", (4, 3, 2)),
        ("attribute", 3.2, "micron", (3.2, 3.2, 3.2)),
        ("data set", [3200.0, 3200.0, 3200.0], "nm", (3.2, 3.2, 3.2)),
        ("attribute", 3.2, "", None),
        ("attribute", [1.0, 2.0], "mm", None),
        ("attribute", float("nan"), "mm", None),
    ],
)
def test_voxel_sizes(where, values, units, expected, path):
    with h5py.File(path, "w") as h5:
        data = h5.create_dataset("entry/data", data=ARRAY)
        if where == "attribute":
            data.attrs["voxel_size"], data.attrs["voxel_size_units"] = values, units
        else:
            h5["entry/voxel_size"] = values
            h5["entry/voxel_size"].attrs["units"] = units
    assert read_hdf5(path).spacing_um == expected


def test_what_lies_in_one_piece_is_mapped(path):
    with h5py.File(path, "w") as h5:
        h5["data"] = ARRAY
    assert isinstance(read_hdf5(path).array, np.memmap)


@pytest.mark.parametrize(
    ("stored", "read_as"), [("<f2", "f4"), (">f2", "f4"), (">u2", "u2"), ("<f4", "f4"), ("?", "u1")]
)
def test_what_is_widened_goes_to_the_disk_where_memory_does_not_hold_it(stored, read_as, path):
    values = (ARRAY % 2).astype(stored)
    with h5py.File(path, "w") as h5:
        h5["data"] = values
    with reading_into(Room(0, 2, path.parent)):
        read = read_hdf5(path).array
    assert on_disk(read) and read.dtype == read_as
    assert np.array_equal(read, (ARRAY % 2) * (255 if stored == "?" else 1))


def test_damage_in_a_packed_file_is_seen(tmp_path):
    array = np.random.default_rng(0).integers(0, 60000, (6, 40, 40)).astype(np.uint16)
    path = made_packed_hdf5(tmp_path, array)
    whole = path.read_bytes()
    with h5py.File(path) as h5:
        one = h5["entry/data/volume"].id.get_chunk_info(3)
    damaged = bytearray(whole)
    damaged[one.byte_offset + one.size // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match="cannot be read as HDF5"):
        read_hdf5(path)
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="cannot be read as HDF5"):
            read_hdf5(path)


def test_no_grey_levels(path):
    with h5py.File(path, "w") as h5:
        h5["data"] = np.zeros((2, 3, 4), complex)
    with pytest.raises(ContentError, match="holds 0 data sets"):
        read_hdf5(path)
    with pytest.raises(ContentError, match="expected grey levels"):
        read_hdf5(Path(f"{path}:data"))


def test_blocks_and_files_that_are_not_there(path, tmp_path):
    with h5py.File(path, "w") as h5:
        half = h5.create_dataset("half", ARRAY.shape, "u2", chunks=(2, 5, 12))
        half[:6] = ARRAY[:6]
        (tmp_path / "beside.raw").write_bytes(bytes(1199))
        h5.create_dataset("beside", ARRAY.shape, "u2", external=[(str(tmp_path / "beside.raw"), 0, 1200)])
        layout = h5py.VirtualLayout(ARRAY.shape, "u2")
        layout[:] = h5py.VirtualSource(str(tmp_path / "gone.h5"), "d", shape=ARRAY.shape)
        h5.create_virtual_dataset("virtual", layout)
    assert read_hdf5(Path(f"{path}:/half")).notes == ("2 of 5 blocks are not there: read as 0",)
    with pytest.raises(FormatError, match=r"beside\.raw, which is not there, or not whole"):
        read_hdf5(Path(f"{path}:/beside"))
    with pytest.raises(FormatError, match=r"gone\.h5, which is not there"):
        read_hdf5(Path(f"{path}:/virtual"))


def test_axes_of_one_voxel_on_either_side_and_axes_in_another_order(path, tmp_path):
    with h5py.File(path, "w") as h5:
        h5["data"] = ARRAY[np.newaxis, ..., np.newaxis]
    assert np.array_equal(read_hdf5(path).array, ARRAY)
    turned = made_hdf5(tmp_path, ARRAY)
    with h5py.File(turned, "a") as h5:
        h5["entry/data"].attrs["axes"] = ["x", "y", "z"]
    assert "named x, y, z" in read_hdf5(turned).notes[0]
