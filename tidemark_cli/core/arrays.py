"""Volumes in memory or, where it does not hold them, in files of which a bounded part is in memory.

What is in a file is a memory map, and is worked on by the same code as any array. Its pages count as memory
of the process once they were looked at, so they are dropped again and again: whoever works on a volume
goes through it plane by plane.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import OutputError
from .files import check_room, readable_size

SEEN_BYTES = 2**24  # of one file that may be in memory before its pages are dropped
SLAB_BYTES = 2**24  # of planes that are copied at once
_ANOTHER_DISK = "free some space, or write the outputs to another disk"


@dataclass(frozen=True)
class Room:
    """How much memory a scan and what is made of it may take, and where they lie beyond that.

    Attributes
    ----------
    most : bytes in memory, of volumes alone.
    beside : bytes a voxel of what is made beside the scan.
    folder : of the files that take the place of memory. They have no names: nothing is ever left behind.
    """

    most: int
    beside: int
    folder: Path

    def holds(self, shape: Sequence[int], itemsize: int) -> bool:
        """Whether a scan of this shape (Z, Y, X) fits into memory with what is made beside it."""
        return math.prod(shape) * (itemsize + self.beside) <= self.most

    def check_disk(self, needed: int) -> None:
        """Raise an OutputError where the disk has fewer than this many bytes free."""
        check_room(self.folder, needed, _ANOTHER_DISK)


_room: ContextVar[Room | None] = ContextVar("_room", default=None)


@contextmanager
def reading_into(room: Room) -> Iterator[None]:
    """Let scans that are read in the block lie on disk where `room` does not hold them."""
    token = _room.set(room)
    try:
        yield
    finally:
        _room.reset(token)


class _Pages:
    """What of a file was looked at since its pages were dropped."""

    def __init__(self, mapped: mmap.mmap, folder: Path) -> None:
        self.mapped, self.folder, self.seen = mapped, folder, 0

    def look(self, view: np.ndarray) -> None:
        """Count what is looked at next, from its first byte to its last; drop what was before."""
        steps = zip(view.strides, view.shape, strict=True)
        span = sum(abs(stride) * (length - 1) for stride, length in steps) + view.itemsize
        self.seen += span
        if self.seen > SEEN_BYTES:
            if hasattr(self.mapped, "madvise"):  # Windows drops pages by itself
                # what was written stays in the file: the map is shared with it
                self.mapped.madvise(mmap.MADV_DONTNEED)
            self.seen = span


class Mapped(np.memmap):
    """A memory map whose pages are dropped, by each look at a part of it, once over 16 MiB were seen.

    Planes, slices of them and views are such arrays, too; what is computed or copied is a plain array.
    """

    pages: _Pages | None = None

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        if getattr(self, "_mmap", None) is not None:
            self.pages = getattr(obj, "pages", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return array
        return array[()] if array.shape == () else np.asarray(array)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        if not isinstance(found, Mapped):
            return found
        shared = found._mmap is not None  # type: ignore[attr-defined]
        if self.pages is not None:
            self.pages.look(found if shared else self)
        return found if shared else found.view(np.ndarray)

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        if self.pages is not None:
            self.pages.look(self)


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return an array for a scan (Z, Y, X) that is read: on disk where the `Room` does not hold it."""
    room, dtype = _room.get(), np.dtype(dtype)
    if room is None or room.holds(shape, dtype.itemsize):
        return np.empty(shape, dtype)
    return _in_file(shape, dtype, room.folder)


def memmap(path: Path, dtype: Any, offset: int, shape: Sequence[int]) -> np.ndarray:
    """Return the voxels of a scan (Z, Y, X) as they lie in a file, read only."""
    array, room = np.memmap(path, dtype, "r", offset, tuple(shape)), _room.get()
    if room is None or room.holds(shape, array.itemsize):
        return array
    return _bounded(array, room.folder)


def settled(array: np.ndarray) -> np.ndarray:
    """Return a scan in the byte order of this machine, on disk where the `Room` does not hold it.

    It is returned itself where it is so, else copied plane by plane.
    """
    room = _room.get()
    if array.dtype.isnative and (room is None or on_disk(array) or room.holds(array.shape, array.itemsize)):
        return array
    copy = empty(array.shape, array.dtype.newbyteorder("="))
    for new, plane in zip(copy, array, strict=True):
        new[...] = plane
    return copy


def zeros(shape: Sequence[int], dtype: Any, beside: np.ndarray) -> np.ndarray:
    """Return a volume (Z, Y, X) of zeros that lies where another does: in memory, or on the same disk."""
    if on_disk(beside):
        return _in_file(shape, np.dtype(dtype), beside.pages.folder)  # type: ignore[attr-defined]
    return np.zeros(shape, dtype)


def on_disk(array: np.ndarray) -> bool:
    """Tell whether an array lies in a file of which only a part may be in memory."""
    return isinstance(array, Mapped) and array.pages is not None  # without pages: a copy in memory


class Slices:
    """Some slices of a scan along an axis, of which parts are copied.

    A slice that lies strided in a file costs as much to read as all of the scan, so of a scan on disk these
    slices are laid in a file of their own first.

    Parameters
    ----------
    array : the scan (Z, Y, X).
    axis : along which the slices are stacked.
    numbers : of the slices, in rising order.
    """

    def __init__(self, array: np.ndarray, axis: int, numbers: Sequence[int]) -> None:
        self._stack = np.moveaxis(array, axis, 0)
        self._numbers = np.arange(len(self._stack))
        if on_disk(array):
            laid = zeros((len(numbers), *self._stack.shape[1:]), array.dtype, beside=array)
            for slab in slabs(array):
                part = np.moveaxis(sampled(array, slab), axis, 0)
                laid[:, slab] = _picked_slices(part, numbers)
            self._stack, self._numbers = laid, np.asarray(numbers)

    def picked(self, numbers: Sequence[int], rows: slice, columns: slice) -> np.ndarray:
        """Copy a part of some of the slices: (slices, rows, columns) of the dtype of the scan."""
        places = np.searchsorted(self._numbers, numbers)
        return _picked_slices(self._stack[:, rows, columns], places)


def slabs(array: np.ndarray) -> Iterator[slice]:
    """Cut Z into slabs of at most 16 MiB, or of a plane."""
    planes = max(1, SLAB_BYTES * len(array) // max(1, array.nbytes))
    for first in range(0, len(array), planes):
        yield slice(first, min(first + planes, len(array)))


def sampled(array: np.ndarray, first: slice, *others: slice | int) -> np.ndarray:
    """Return a copy of a part of an array, the index along each axis given, read plane by plane."""
    part = array[first]
    copy = np.empty((len(part), *np.shape(part[0][others])), array.dtype)
    for number, plane in enumerate(part):
        copy[number] = plane[others]
    return copy


def _picked_slices(stack: np.ndarray, places: Sequence[int] | np.ndarray) -> np.ndarray:
    """Copy the slices at these places of a stack (slices, Z, columns)."""
    copy = np.empty((len(places), *stack.shape[1:]), stack.dtype)
    if stack.strides[-1] == stack.itemsize:
        for new, place in zip(copy, places, strict=True):
            new[...] = stack[place]
    else:
        for new, row in by_rows(copy, stack):
            new[...] = row[places]
    return copy


def by_rows(*stacks: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield views (slices, columns) of stacks (slices, Z, columns), row by row along Z.

    Strided slices are best copied so, because a row fits into the caches.
    """
    return zip(*(stack.swapaxes(0, 1) for stack in stacks), strict=True)


def picked(array: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return of each column of (Z, Y, X) the voxel at its own height ``z`` (Y, X), read plane by plane."""
    found = np.empty(z.shape, array.dtype)
    order = np.argsort(z.ravel(), kind="stable")
    heights, firsts = np.unique(z.ravel()[order], return_index=True)
    for height, columns in zip(heights, np.split(order, firsts[1:]), strict=True):
        y, x = np.divmod(columns, z.shape[1])
        found[y, x] = array[height][y, x]
    return found


def extent(line: ArrayLike) -> slice:
    """Return where a line of bool that is not all False is True, from the first to the last."""
    places = np.flatnonzero(line)
    return slice(int(places[0]), int(places[-1]) + 1)


def _in_file(shape: Sequence[int], dtype: np.dtype, folder: Path) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is told of now: later it would kill the process
                os.posix_fallocate(file.fileno(), 0, size)
            return _bounded(np.memmap(file, dtype, "r+", shape=tuple(shape)), folder)
    except OSError as error:
        raise OutputError(
            f"no file of {readable_size(size)} could be made in {folder} to take the place of memory: "
            f"{error.strerror or error}; {_ANOTHER_DISK}."
        ) from error


def _bounded(array: np.memmap, folder: Path) -> np.ndarray:
    bounded = array.view(Mapped)
    bounded.pages = _Pages(array._mmap, folder)  # type: ignore[attr-defined]
    return bounded
