"""Whether all bone is in the mask: what lies below the tidemark as bright as bone, and is not marked.

A mask can have a perfect tidemark and be hollow below it. Bone that was left out has the grey level of the
bone that was found; marrow and most debris have not. Stained clots may have, and are few.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .relief import block_medians
from .surface import Surface

CELL_UM = 12.8  # cells are large enough to average noise out, and small against the plate
BELOW_UM = 50.0  # nearer to the tidemark hard tissue is as bright as the stain that soaked into it


def left_out_share(scan: np.ndarray, mask: np.ndarray, surface: Surface, tissue_level: float) -> float:
    """Return the share of what looks like bone below the tidemark that is not in the mask, 0 to 1.

    Bone is what is nearer to the median grey level of the mask than half of its distance from `tissue_level`:
    marrow is darker, and debris mostly brighter. Columns without a tidemark count with the height of the
    nearest one: beside the plug there is nothing bright.

    Parameters
    ----------
    scan, mask : ``(Z, Y, X)``, read in cells of about 13 µm; hard tissue where the mask is not 0.
    surface : the tidemark found, in the frame of both.
    tissue_level : grey level that separates air and marrow from tissue.

    Returns
    -------
    0 where no tidemark was found, and where there is nothing like bone.
    """
    step = max(1, round(CELL_UM / surface.voxel_um))
    if surface.bone_end == "last":
        scan, mask = scan[::-1], mask[::-1]
    grey, hard = _cell_means(scan, step), _cell_means(mask, step) / max(int(mask.max()), 1)
    height_um = block_medians(surface.height_um, step)[: grey.shape[1], : grey.shape[2]]
    known = np.isfinite(height_um)
    if not known.any():
        return 0.0
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    height_um = height_um[tuple(nearest)]
    middle_um = (np.arange(len(grey)) + 0.5)[:, None, None] * step * surface.voxel_um
    below = middle_um < height_um - BELOW_UM
    inside = below & (hard > 0.9)
    found = grey[inside] if inside.any() else grey[hard > 0.9]
    if not found.size:
        return 0.0
    level = float(np.median(found))
    outside = below & (hard < 0.1) & (np.abs(grey - level) < (level - tissue_level) / 2)
    left_out = np.count_nonzero(outside)
    return left_out / max(1, left_out + np.count_nonzero(inside))


def _cell_means(array: np.ndarray, step: int) -> np.ndarray:
    """Return the mean of each whole cell of `step` voxels a side; an axis of length 1 is kept."""
    sides = [step if n > 1 else 1 for n in array.shape]
    depth, height, width = (max(1, n // side) for n, side in zip(array.shape, sides, strict=True))
    cells = np.empty((depth, height, width), np.float32)
    for z in range(depth):
        layer = array[z * sides[0] : (z + 1) * sides[0], : height * sides[1], : width * sides[2]]
        rows = layer.mean(axis=0, dtype=np.float32)
        cells[z] = rows.reshape(height, -1, width, rows.shape[1] // width).mean(axis=(1, 3))
    return cells
