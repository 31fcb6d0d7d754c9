"""How thick the cartilage on a tidemark is."""

from __future__ import annotations

import cv2
import numpy as np

from .heights import side_wall
from .surface import Surface

RUN_UM = 30.0  # thinner layers of tissue above a gap are parafilm, dust or noise
GAP_UM = 100.0  # a gap wider than this ends the cartilage: what lies beyond is detached


def cartilage_thickness(array: np.ndarray, tissue_level: float, surface: Surface) -> np.ndarray:
    """Measure the cartilage in each column, along Z from the tidemark to its outermost tissue.

    Seen from the tidemark, tissue is grey above `tissue_level` (the slice averaged over 3 x 3 voxels,
    at 3.2 µm, against noise). Above a gap only runs of at least 30 µm count, so that parafilm, dust
    and noise do not, and only across gaps of up to 100 µm, so that detached flaps and debris do not.
    A fissure shortens the columns it passes through; bare bone is 0. Columns that leave the plug
    through its side, as they do near the rim of a tilted or tapered one (`heights.side_wall`), have no
    thickness.

    Parameters
    ----------
    array : scan ``(Z, Y, X)``, bone first, in which `surface` was found; read slice by slice.
    tissue_level : as in `Plug`.

    Returns
    -------
    ``(Y, X)`` float32 in µm, NaN where there is no tidemark or the column leaves through the side.

    Raises
    ------
    ValueError
        If the scan is not of the surface's size.
    """
    if array.ndim != 3 or array.shape[1:] != surface.height_um.shape:
        expected = f"(Z, {surface.height_um.shape[0]}, {surface.height_um.shape[1]})"
        raise ValueError(f"The scan must be {expected}, as the surface; found the shape {array.shape}.")
    found = np.isfinite(surface.height_um)
    if not found.any():
        return np.full(found.shape, np.nan, np.float32)
    # first voxel whose centre lies above the tidemark
    start = np.where(found, np.ceil(surface.height_um / surface.voxel_um - 0.5), len(array)).astype(np.int32)
    least = max(1, round(RUN_UM / surface.voxel_um))
    widest = round(GAP_UM / surface.voxel_um)
    top = start - 1  # highest voxel of attached tissue
    run = np.full(found.shape, least, np.int32)  # tissue on the tidemark needs no least length
    ended = ~found
    for z in range(int(start.min()), len(array)):
        tissue = tissue_in(array[z], tissue_level, surface.voxel_um)
        tissue &= z >= start
        run += 1
        run *= tissue | (z < start)
        np.copyto(top, z, where=tissue & (run >= least) & ~ended)
        ended |= (z - top - run > widest) & (z >= start)
        if ended.all():
            break
    thickness = np.where(top >= start, (top + 1) * surface.voxel_um - surface.height_um, 0)
    thickness[~found] = np.nan
    thickness[side_wall(surface.height_um + thickness, surface.voxel_um)] = np.nan
    return thickness.astype(np.float32)


def tissue_in(plane: np.ndarray, tissue_level: float, voxel_um: float) -> np.ndarray:
    """Return ``(Y, X)`` bool, tissue of a slice: grey, averaged over 10 µm against noise, above a level."""
    side = max(1, round(10 / voxel_um)) | 1
    grey = cv2.blur(np.ascontiguousarray(plane, dtype=np.float32), (side, side))
    return grey.reshape(plane.shape) > tissue_level
