"""Move a tidemark by a constant: what a laboratory's own depth of stain asks for.

PTA soaks into the calcified cartilage, how deep differs from protocol to protocol, and so does the distance
between what a network takes for the tidemark and the true one. Where that is known, it is put right here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import picked
from .cartilage import tissue_in
from .surface import Surface


def offset_tidemark(
    mask: np.ndarray, surface: Surface, array: np.ndarray, tissue_level: float, offset_um: float
) -> Surface:
    """Move the tidemark along Z, and with it, in place, the upper face of the hard tissue of `mask`.

    Only the columns that have a tidemark move: the walls of marrow cavities, openings and the underside of
    the bone stay. After it, a voxel about the tidemark is hard where its centre lies below the height.

    Parameters
    ----------
    mask : ``(Z, Y, X)`` uint8, 0 or 255, bone first; changed.
    surface : the tidemark found on `mask`.
    array : ``(Z, Y, X)``, the scan.
    tissue_level : as in `Plug`; a tidemark is not raised beyond tissue that is brighter, nor off the scan.
    offset_um : above 0 towards the cartilage surface, below 0 away from it.

    Returns
    -------
    The surface with every height moved by exactly `offset_um`, or as far as there is tissue. Where it is
    lowered through the roof of a cavity there is no tidemark any more: an opening. Without a tidemark, or
    with an offset of 0, nothing changes.
    """
    if offset_um == 0 or not np.isfinite(surface.height_um).any():
        return surface
    if offset_um > 0:
        return _raised(mask, surface, array, tissue_level, offset_um)
    return _lowered(mask, surface, offset_um)


def _raised(
    mask: np.ndarray, surface: Surface, array: np.ndarray, tissue_level: float, offset_um: float
) -> Surface:
    height = surface.height_um.astype(float) / surface.voxel_um  # in voxels, NaN where there is none
    wanted = height + offset_um / surface.voxel_um
    start, end = _first_above(height), _first_above(wanted)
    inside = np.isfinite(height)  # columns that have not left the tissue yet
    reach = np.fmax(height, start)  # how high each column may be raised
    for z in range(int(start[inside].min()), min(len(mask), int(np.nanmax(np.ceil(wanted))))):
        due = inside & (z >= start) & (z < wanted)
        tissue = tissue_in(array[z], tissue_level, surface.voxel_um)
        inside &= tissue | ~due
        np.copyto(reach, z + 1, where=due & tissue)
        mask[z][due & tissue & (z < end)] = 255
    moved = np.minimum(wanted, reach) * surface.voxel_um
    return replace(surface, height_um=moved.astype(np.float32))


def _lowered(mask: np.ndarray, surface: Surface, offset_um: float) -> Surface:
    height = surface.height_um.astype(float) / surface.voxel_um
    wanted = height + offset_um / surface.voxel_um
    start, end = _first_above(wanted), _first_above(height)
    found = np.isfinite(height)
    for z in range(max(int(start[found].min()), 0), min(len(mask), int(end[found].max()))):
        mask[z][(z >= start) & (z < end)] = 0
    below = start - 1  # the voxel that is to carry the tidemark now
    gone = found & ((below < 0) | (picked(mask, np.maximum(below, 0)) == 0))
    moved = np.where(gone, np.nan, wanted * surface.voxel_um).astype(np.float32)
    return replace(surface, height_um=moved, opening=surface.opening | gone)


def _first_above(height: np.ndarray) -> np.ndarray:
    """Return the first voxel along Z whose centre is not below a height in voxels; 0 where that is NaN."""
    # a centre right at the height is not below it, whatever the rounding
    return np.ceil(np.nan_to_num(height) - 0.5 - 1e-3).astype(int)
