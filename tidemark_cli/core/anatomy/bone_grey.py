"""What the grey levels say of a mask: what it misses, what is too much, and whether the stain is PTA.

A mask can have a perfect tidemark and be hollow below it. Bone that was left out has the grey level of the
bone that was found; marrow and most debris have not. Stained clots may have, and are few. Under PTA bone is
hardly brighter than the cartilage on it; under CA4+, or unstained, it is several times as bright.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from .heights import block_medians
from .surface import Surface

MOST_CELLS = 8 * 2**20
CELL_UM = 12.8  # cells are large enough to average noise out, and small against the plate
BELOW_UM = 50.0  # nearer to the tidemark hard tissue is as bright as the stain that soaked into it
SPECK_UM = 60.0  # narrower than this it is debris or a clot: bone that a network leaves out is wider
BACKGROUND = 0.01  # share of cells that must be air or marrow, or nothing tells what is dark
ABOVE_UM = 300.0  # of cartilage on the tidemark


@dataclass(frozen=True)
class BoneGrey:
    """Grey levels of bone, found and left out.

    Attributes
    ----------
    left_out : what looks like bone below the tidemark and is not in the mask, over all bone; 0 to 1.
    filled : what is as dark as air or marrow and in the mask, over all of the mask; 0 to 1.
    brightness : median grey level of the mask over that of the cartilage on it, both above the background's.
    """

    left_out: float = 0.0
    filled: float = 0.0
    brightness: float = 1.0


def compare_greys(scan: np.ndarray, mask: np.ndarray, surface: Surface, tissue_level: float) -> BoneGrey:
    """Compare the grey levels in the mask with those below its tidemark, and those above.

    Bone is what is nearer to the median grey level of the mask than half of its distance from `tissue_level`:
    marrow is darker, and debris mostly brighter; what is narrower than 60 µm in any direction is debris, too.
    Columns without a tidemark count with the height of the nearest one: beside the plug there is nothing
    bright.

    Parameters
    ----------
    scan, mask : ``(Z, Y, X)``, bone first, read in cells of about 13 µm, larger ones where these were more
        than 8 million; hard tissue where not 0.
    surface : the tidemark found on the mask.
    tissue_level : grey level that separates air and marrow from tissue.

    Returns
    -------
    Nothing left out or filled where no tidemark was found; a brightness of 1 without cartilage or background.
    """
    step = max(1, round(CELL_UM / surface.voxel_um), math.ceil((scan.size / MOST_CELLS) ** (1 / 3)))
    grey, hard = (
        _cell_means(scan, step),
        _cell_means(mask, step) / max(1, *(int(plane.max()) for plane in mask)),
    )
    height_um = block_medians(surface.height_um, step)[: grey.shape[1], : grey.shape[2]]
    known = np.isfinite(height_um)
    found = hard > 0.9
    if not known.any() or not found.any():
        return BoneGrey()
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    middle_um = (np.arange(len(grey)) + 0.5)[:, None, None] * step * surface.voxel_um
    above_um = middle_um - height_um[tuple(nearest)]
    below = above_um < -BELOW_UM
    deep = found & below
    level = float(np.median(grey[deep if deep.any() else found]))  # a plate may be thinner than that
    outside = below & (hard < 0.1) & (np.abs(grey - level) < (level - tissue_level) / 2)
    left_out = np.count_nonzero(_opened(outside, max(1, round(SPECK_UM / (step * surface.voxel_um)))))
    dark = grey < tissue_level
    shares = (
        left_out / (left_out + np.count_nonzero(found)),
        np.count_nonzero(found & dark) / np.count_nonzero(found),
    )
    cartilage = (above_um > 0) & (above_um < ABOVE_UM) & ~dark
    if not cartilage.any() or dark.mean() < BACKGROUND:
        return BoneGrey(*shares)
    background = float(np.median(grey[dark]))
    return BoneGrey(*shares, (level - background) / (float(np.median(grey[cartilage])) - background))


def _opened(cells: np.ndarray, side: int) -> np.ndarray:
    """Keep of ``(Z, Y, X)`` bool what a cube of `side` cells fits into; an axis of length 1 is left alone."""
    size = [side if n > 1 else 1 for n in cells.shape]
    opened: np.ndarray = ndimage.grey_opening(cells.view(np.uint8), size, mode="constant")
    return opened


def _cell_means(array: np.ndarray, step: int) -> np.ndarray:
    """Return the mean of each whole cell of `step` voxels a side; an axis of length 1 is kept."""
    sides = [step if n > 1 else 1 for n in array.shape]
    depth, height, width = (max(1, n // side) for n, side in zip(array.shape, sides, strict=True))
    cells = np.empty((depth, height, width), np.float32)
    for z in range(depth):
        layer = array[z * sides[0] : (z + 1) * sides[0], : height * sides[1], : width * sides[2]]
        planes = (plane.astype(np.float32) for plane in layer)
        means = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes]
        cells[z] = sum(means) / len(means)
    return cells
