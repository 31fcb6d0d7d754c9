"""Volumes in files: what is done to them is done as in memory, and stays when their pages are dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tidemark_cli.core import arrays
from tidemark_cli.core.arrays import Room, reading_into
from tidemark_cli.core.errors import OutputError

SHAPE = (3, 4, 5)
NUMBERS = np.arange(60, dtype=np.uint8).reshape(SHAPE)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """No memory at all, and pages dropped at each look."""
    monkeypatch.setattr(arrays, "SEEN_BYTES", 1)
    monkeypatch.setattr(arrays, "SLAB_BYTES", 20)  # a plane
    none = Room(0, 2, tmp_path)
    with reading_into(none):
        yield none


def test_a_room_holds_a_scan_with_what_is_made_beside_it(tmp_path: Path) -> None:
    assert Room(60 * 4, 2, tmp_path).holds(SHAPE, 2)
    assert not Room(60 * 4 - 1, 2, tmp_path).holds(SHAPE, 2)


def test_what_a_room_holds_stays_in_memory(tmp_path: Path) -> None:
    with reading_into(Room(60 * 3, 2, tmp_path)):
        assert not arrays.on_disk(arrays.empty(SHAPE, np.uint8))
        assert arrays.settled(NUMBERS) is NUMBERS
        assert arrays.on_disk(arrays.empty(SHAPE, np.uint16))
    assert not arrays.on_disk(arrays.empty(SHAPE, np.uint16))


def test_a_scan_is_copied_to_disk_in_the_order_of_this_machine(room: Room) -> None:
    scan = arrays.settled(NUMBERS.astype(">u2"))
    assert arrays.on_disk(scan)
    assert scan.dtype == np.dtype("=u2")
    assert np.array_equal(scan, NUMBERS)
    assert arrays.settled(scan) is scan


def test_nothing_is_left_in_the_folder(room: Room) -> None:
    scan = arrays.settled(NUMBERS)
    assert arrays.on_disk(scan)
    assert not list(room.folder.iterdir())


def test_a_file_of_voxels_is_read_where_it_lies(room: Room) -> None:
    path = room.folder / "scan.raw"
    path.write_bytes(b"head" + NUMBERS.tobytes())
    scan = arrays.memmap(path, np.uint8, 4, SHAPE)
    assert arrays.on_disk(scan)
    assert np.array_equal(scan, NUMBERS)
    with pytest.raises(ValueError, match="read-only"):
        scan[0] = 1


def test_what_is_written_through_views_stays_when_pages_are_dropped(room: Room) -> None:
    volume = arrays.zeros(SHAPE, np.uint8, beside=arrays.settled(NUMBERS))
    turned = volume[::-1, 1:, 1:]
    for z, plane in enumerate(turned):
        plane[plane == 0] = z + 1
        plane += 10
    turned[0, 0, 0] = 99
    expected = np.zeros(SHAPE, np.uint8)
    expected[:, 1:, 1:] = np.array([13, 12, 11])[:, None, None]
    expected[2, 1, 1] = 99
    assert np.array_equal(volume, expected)


def test_what_is_computed_is_a_plain_array(room: Room) -> None:
    volume = arrays.settled(NUMBERS)
    for made in (volume + 1, volume[0] > 3, volume[[0, 2]], volume.max(axis=0), volume[0].astype(float)[1:]):
        assert type(made) is np.ndarray
    assert type(volume[1, 2, 3]) is np.uint8
    assert volume.sum() == 1770
    assert arrays.on_disk(volume[1:, ::2])


def test_results_lie_where_their_scan_does(room: Room) -> None:
    assert not arrays.on_disk(arrays.zeros(SHAPE, np.uint8, beside=NUMBERS))
    volume = arrays.zeros((2, 2, 2), np.uint16, beside=arrays.settled(NUMBERS)[:, ::-1])
    assert arrays.on_disk(volume)
    assert volume.dtype == np.uint16
    assert not volume.any()


def test_a_part_and_one_voxel_of_each_column_are_read_plane_by_plane(room: Room) -> None:
    volume = arrays.settled(NUMBERS)
    assert arrays.sampled(volume, slice(None, None, 2), slice(1, 3), 4).tolist() == [[9, 14], [49, 54]]
    z = np.array([[0, 1, 2, 0, 1]] * 4)
    assert arrays.picked(volume, z)[1].tolist() == [5, 26, 47, 8, 29]
    assert np.array_equal(arrays.picked(NUMBERS, z), arrays.picked(volume, z))


def test_pages_that_were_seen_are_dropped(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not tell how much of files is in memory")
    with reading_into(Room(0, 2, tmp_path)):
        volume = arrays.zeros((64, 1024, 1024), np.uint8, beside=arrays.settled(NUMBERS))

    def in_files() -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith("RssFile:"))
        return int(line.split()[1]) * 1024

    before = in_files()
    most = 0
    for plane in volume:
        plane[...] = 1
        most = max(most, in_files() - before)
    assert 2**20 <= most <= arrays.SEEN_BYTES + 2 * 2**20
    assert all((plane == 1).all() for plane in volume)


def test_a_disk_without_room_is_refused_before_and_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(0, 2, tmp_path)
    room.check_disk(1)
    with pytest.raises(
        OutputError, match=r"931322574\.6 GiB are needed, .* are free; free some space, or write"
    ):
        room.check_disk(10**18)

    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with reading_into(room), pytest.raises(OutputError, match="No space left on device; free some space"):
        arrays.empty(SHAPE, np.uint8)


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_are_copied_alike_however_they_lie_in_memory_and_on_disk(room: Room, axis: int) -> None:
    scan = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
    spooled = arrays.settled(scan)
    for array, disk in ((scan, scan), (scan[::-1, :, ::-1], spooled[::-1, :, ::-1])):
        expected = np.moveaxis(array, axis, 0)[[0, 4], 1:3, 2:5]
        for each in (array, disk, array.swapaxes(1, 2).copy().swapaxes(1, 2)):
            found = arrays.Slices(each, axis, [0, 3, 4]).picked([0, 4], slice(1, 3), slice(2, 5))
            np.testing.assert_array_equal(found, expected)
            assert type(found) is np.ndarray and found.dtype == np.uint16
            assert not np.shares_memory(found, each)


def test_on_disk_only_the_slices_asked_for_are_laid_out(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, sizes = arrays.settled(NUMBERS), []
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is None:
        pytest.skip("the system does not allocate files")
    monkeypatch.setattr(os, "posix_fallocate", lambda *of: (sizes.append(of[2]), allocate(*of)))
    arrays.Slices(scan, 1, [0, 3])
    arrays.Slices(NUMBERS, 1, [0, 3])
    assert sizes == [2 * 3 * 5]
