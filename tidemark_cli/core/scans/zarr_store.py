"""OME-Zarr: folders of compressed blocks, as programs for big scans keep them."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from .. import lazily
from ..arrays import empty, sampled
from ..errors import ContentError, FormatError, OutputError
from .content import Content, known_edges
from .units import unit_um, unknown_unit
from .voxels import named_otherwise, widened

numcodecs = lazily.imported("numcodecs")
zarr = lazily.imported("zarr")

ZARR_SUFFIXES = (".zarr",)

_MARKS = (".zgroup", ".zarray", "zarr.json")  # of a Zarr folder of version 2 or 3
_BLOCK = 128  # edge of the blocks that are written
_MOST_BYTES = 2**44


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr group or array, by its marks or, where these are lost, its name."""
    named = path.suffix.lower() in ZARR_SUFFIXES
    return path.is_dir() and (named or any((path / mark).is_file() for mark in _MARKS))


def read_zarr(path: Path) -> Content:
    """Read an OME-Zarr image in full resolution, or the Zarr array in a folder: (Z, Y, X) as one array.

    Blocks that are not there are what the store says they are (mostly 0), with a note.

    Raises
    ------
    FormatError
        If it is damaged.
    ContentError
        If it holds several images, or other axes than those of one stack.
    """
    try:
        opened = zarr.open(str(path), mode="r")
        array, spacing_um, notes = (opened, None, ()) if hasattr(opened, "shape") else _image(path, opened)
        shape = tuple(array.shape)
        stack = tuple(length for axis, length in enumerate(shape) if length > 1 or axis >= len(shape) - 3)
        if len(stack) != 3 or np.dtype(array.dtype).kind not in "uifb":
            raise ContentError(
                f"{path} has the shape {shape} of {array.dtype}; expected one stack Z, Y, X of grey levels; "
                "save one channel and time alone, or give the folder of one array."
            )
        if math.prod(shape) * np.dtype(array.dtype).itemsize > _MOST_BYTES:
            raise ValueError(f"the shape {shape}")
        missing = array.nchunks - array.nchunks_initialized
        if missing > 0:
            notes = (*notes, f"{missing} of {array.nchunks} blocks are not there: read as {array.fill_value}")
        if missing == array.nchunks:
            raise ValueError("none of its blocks is there")
        voxels = _voxels(array, stack)
    except (ContentError, MemoryError, OutputError, PermissionError):
        raise
    except Exception as error:  # its codecs each raise their own
        raise FormatError(
            f"{path} is no whole Zarr folder ({type(error).__name__}: {str(error)[:100]}); copy or export it "
            "again."
        ) from error
    return Content(voxels, spacing_um, notes)


def _voxels(array: Any, stack: tuple[int, ...]) -> np.ndarray:
    """Read (Z, Y, X) block by block, half floats as float32 and truths as 0 and 255."""
    voxels = empty(stack, widened(np.empty(0, array.dtype)).dtype)
    first = (0,) * (array.ndim - 3)  # axes of length 1
    deep, high = array.chunks[-3:-1]
    for z, y in product(range(0, stack[0], deep), range(0, stack[1], high)):
        place = (*first, slice(z, z + deep), slice(y, y + high))
        voxels[z : z + deep, y : y + high] = widened(np.asarray(array[place]))
    return voxels


def _image(path: Path, group: Any) -> tuple[Any, tuple[float, ...] | None, tuple[str, ...]]:
    """Return the finest array of an OME-Zarr group, its edges along Z, Y, X in µm, and notes."""
    attributes = group.attrs.asdict()
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        arrays = [name for name, _ in group.arrays()]
        if len(arrays) != 1:
            raise ContentError(
                f"{path} is no OME-Zarr image and holds {len(arrays)} arrays "
                f"({', '.join(arrays[:5]) or 'none'}); expected one; give the folder of the one."
            )
        return group[arrays[0]], None, ()
    finest = images[0]["datasets"][0]
    steps: Any = []
    for level in (finest, images[0]):  # that of the image is for all its resolutions, after their own
        for one in level.get("coordinateTransformations", []):
            if one.get("type") == "scale":
                steps = np.multiply(one["scale"], steps if len(steps) else 1.0)
    axes = images[0].get("axes", [])
    units = [axis.get("unit", "") if isinstance(axis, dict) else "" for axis in axes][-3:]
    scales_um = [unit_um(unit) for unit in units]
    notes = next((unknown_unit(unit) for unit in units if unknown_unit(unit)), ())
    notes += named_otherwise([axis.get("name", "") if isinstance(axis, dict) else axis for axis in axes][-3:])
    edges = [
        float(step) * scale_um for step, scale_um in zip(steps[-3:], scales_um, strict=False) if scale_um
    ]
    return group[finest["path"]], known_edges(edges) if len(edges) == 3 else None, notes


def write_zarr(path: Path, array: np.ndarray, voxel_um: float) -> None:
    """Write (Z, Y, X) as an OME-Zarr folder (0.4, one resolution), blocks of 128 voxels packed with zlib.

    Raises
    ------
    OSError
        If what is there afterwards is not what was written.
    """
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [voxel_um] * 3}]
    image = {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    group = zarr.open_group(str(path), mode="w-", zarr_format=2)
    group.attrs["multiscales"] = [image]
    stored = group.create_array(
        "0",
        shape=array.shape,
        dtype=array.dtype.newbyteorder("="),
        chunks=tuple(min(_BLOCK, length) for length in array.shape),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        compressors=numcodecs.Zlib(level=1),
        fill_value=0,
        config={"write_empty_chunks": True},  # a block that is not there is then a loss
    )
    blocks = list(product(*(range(0, length, _BLOCK) for length in array.shape[:2])))
    for z, y in blocks:
        place = slice(z, z + _BLOCK), slice(y, y + _BLOCK)
        stored[place] = sampled(array, *place)
    for z, y in blocks:
        place = slice(z, z + _BLOCK), slice(y, y + _BLOCK)
        if not np.array_equal(stored[place], sampled(array, *place)):
            raise OSError("what is on the disk is not what was written; it may be full: free some space")
