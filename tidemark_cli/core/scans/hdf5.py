"""HDF5 and NeXus: the data set that is named, the one that the file shows, or the only one of three axes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .. import lazily
from ..arrays import empty
from ..errors import ContentError, FormatError
from .content import Content, known_edges
from .scan_names import split_member
from .units import unit_um
from .voxels import map_voxels, named_otherwise, widened

h5py = lazily.imported("h5py")

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx")

_UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
_MOST_LISTED = 5
_MOST_PACKED = 1100  # zlib packs no more than 1032 bytes into one
_SIZES = ("voxel_size", "pixel_size", "voxel_spacing", "spacing")


def read_hdf5(path: Path) -> Content:
    """Read a data set (Z, Y, X) of an HDF5 file; ``scan.h5:/entry/data`` names it.

    What lies in one piece is memory-mapped, anything else read into one array; each piece is read to its
    checksum where it has one (gzip, Fletcher). The voxel size is that of the axes (NeXus), of
    ``element_size_um``, or of a ``voxel_size`` or ``pixel_size`` with units.

    Raises
    ------
    FormatError
        If it is damaged, packed by a filter that is not installed, or holds no such data set.
    ContentError
        If it holds several and none is named, or the one named has other axes.
    """
    file, member = split_member(path)
    try:
        with h5py.File(file, "r") as h5:
            found = _named(path, h5, member) if member else _chosen(path, h5)
            spacing_um = _spacing_um(found)
            notes = _absent(file, found) + named_otherwise(_axis_names(found))
            return Content(_voxels(file, found), spacing_um, notes)
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise FormatError(
            f"{path} cannot be read as HDF5 ({str(error)[:120]}); it may be cut short, damaged, or packed by "
            "a filter that is not installed (pip install hdf5plugin); copy or export it again."
        ) from error


def _named(path: Path, h5: Any, member: str) -> Any:
    if member not in h5 or not isinstance(h5[member], h5py.Dataset):
        raise FormatError(f"{path}: {member} is no data set of the file; it has {_listed(_stacks(h5))}.")
    return h5[member]


def _chosen(path: Path, h5: Any) -> Any:
    """Return the data set that a NeXus file shows by default, or the only one of three axes."""
    group, told = h5, h5.attrs.get("default")
    while told is not None and _text(told) in group and isinstance(group[_text(told)], h5py.Group):
        group = group[_text(told)]
        told = group.attrs.get("default")
    signal = _text(group.attrs.get("signal", ""))
    if signal in group and isinstance(group[signal], h5py.Dataset) and _is_stack(group[signal]):
        return group[signal]
    stacks = _stacks(h5)
    if len(stacks) != 1:
        raise ContentError(
            f"{path} holds {len(stacks)} data sets of three axes ({_listed(stacks)}); expected one; name "
            f"it, as {path}:{stacks[0].name if stacks else '/entry/data'}."
        )
    return stacks[0]


def _stacks(h5: Any) -> list[Any]:
    found: list[Any] = []
    h5.visititems(lambda _, one: found.append(one) if _is_stack(one) else None)
    return found


def _is_stack(one: Any) -> bool:
    return isinstance(one, h5py.Dataset) and _axes(one) == 3 and one.dtype.kind in "uifb"


def _axes(one: Any) -> int:
    return sum(length > 1 for length in one.shape or ())


def _listed(stacks: list[Any]) -> str:
    names = ", ".join(f"{one.name} {one.shape}" for one in stacks[:_MOST_LISTED])
    return (names + (", ..." if len(stacks) > _MOST_LISTED else "")) or "none"


def _voxels(file: Path, found: Any) -> np.ndarray:
    """Return (Z, Y, X) of a data set; axes of length 1 beside these are left out."""
    shape = tuple(found.shape or ())
    while len(shape) > 3 and 1 in (shape[0], shape[-1]):
        shape = shape[1:] if shape[0] == 1 else shape[:-1]
    if len(shape) not in (2, 3) or found.dtype.kind not in "uifb":
        raise ContentError(
            f"{file}:{found.name} has the shape {found.shape} of {found.dtype}; expected grey levels along "
            "Z, Y, X."
        )
    offset, read_as = found.id.get_offset(), widened(np.empty(0, found.dtype)).dtype
    as_stored = found.dtype.kind == read_as.kind and found.dtype.itemsize == read_as.itemsize
    if offset is not None and as_stored and len(shape) == 3:
        return map_voxels(file, found.dtype, offset, shape)
    nbytes = math.prod(shape) * found.dtype.itemsize
    if nbytes > max(file.stat().st_size, 2**20) * _MOST_PACKED:
        raise ValueError(f"{nbytes} bytes do not fit in it")
    if len(shape) < 3:
        return widened(np.asarray(found[()]).reshape(shape))
    array = empty(shape, read_as)
    first = (0,) * (len(found.shape) - 3)  # axes of length 1
    deep = found.chunks[-3] if found.chunks else 1
    for z in range(0, shape[0], deep):
        slab = (*first, slice(z, z + deep))
        array[z : z + deep] = widened(found[slab])
    return array


def _absent(file: Path, found: Any) -> tuple[str, ...]:
    """Return a note of blocks that were never written; raise where a file that voxels lie in is not whole."""
    sources = [(one.file_name, 0) for one in found.virtual_sources()] if found.is_virtual else []
    for name, nbytes in sources + [(name, at + size) for name, at, size in found.external or ()]:
        beside = file.parent / name
        if name != "." and (not beside.is_file() or beside.stat().st_size < nbytes):
            raise FormatError(
                f"{file} has voxels in {beside}, which is not there, or not whole; copy it, too."
            )
    if found.chunks is None:
        return ()
    blocks = math.prod(-(-length // edge) for length, edge in zip(found.shape, found.chunks, strict=True))
    missing = blocks - found.id.get_num_chunks()
    return (f"{missing} of {blocks} blocks are not there: read as {found.fillvalue}",) if missing else ()


# --------------------------------------------------------------------------------------- voxel size


def _spacing_um(found: Any) -> tuple[float, ...] | None:
    """Return the edges along Z, Y, X in µm, or None where nothing tells them with a unit."""
    told = found.attrs.get("element_size_um")  # as the HDF5 plugin of Fiji and ilastik write it
    edges = _edges(told, 1.0) or _of_axes(found)
    group = found.parent
    for name in _SIZES:
        for holder in (found, group):
            if not edges and name in holder.attrs:
                unit = holder.attrs.get(f"{name}_units", holder.attrs.get(f"{name}_unit", ""))
                edges = _edges(holder.attrs[name], unit_um(_text(unit)))
        if not edges and name in group and isinstance(group[name], h5py.Dataset):
            one = group[name]
            if one.size <= 3:
                edges = _edges(one[()], unit_um(_text(one.attrs.get("units", ""))))
    return edges


def _of_axes(found: Any) -> tuple[float, ...] | None:
    """Return the steps of the axes that a NeXus group names for its signal."""
    names = _axis_names(found)
    steps = []
    for name in names:
        axis = found.parent.get(name)
        if not isinstance(axis, h5py.Dataset) or axis.ndim != 1 or axis.size < 2:
            return None
        scale_um = unit_um(_text(axis.attrs.get("units", "")))
        if scale_um is None:
            return None
        steps.append(abs(float(axis[-1]) - float(axis[0])) / (axis.size - 1) * scale_um)
    return _edges(steps, 1.0) if len(steps) == 3 else None


def _axis_names(found: Any) -> list[str]:
    return [_text(name) for name in np.atleast_1d(found.parent.attrs.get("axes", []))][-3:]


def _edges(values: Any, scale_um: float | None) -> tuple[float, ...] | None:
    """Return one or three edges as three, or None where they are no lengths."""
    if values is None or scale_um is None:
        return None
    edges = [float(value) * scale_um for value in np.ravel(values)]
    edges = edges * 3 if len(edges) == 1 else edges
    return known_edges(edges, 6) if len(edges) == 3 else None


def _text(value: Any) -> str:
    """Return a text as HDF5 may hold it: bytes, or an array of one."""
    value = np.ravel(value)[0] if np.size(value) else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
