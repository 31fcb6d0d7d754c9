"""The tidemark as a height map, and the openings in it.

Heights are measured along Z, bone first, in µm from the outer face of slice 0. The tidemark of a column lies
at the cartilage-side face of its first hard voxel seen from the cartilage: voxel k gives
``(k + 1) * voxel_um``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..arrays import picked
from .heights import OUTLIER_UM, fit, form, outline, surroundings


@dataclass(frozen=True)
class Surface:
    """The tidemark of a scan.

    Attributes
    ----------
    height_um : ``(Y, X)`` float32, height of the tidemark above the bone's face of slice 0 in µm, NaN where
        there is none.
    opening : ``(Y, X)`` bool, columns under cartilage where the interface is breached (a marrow
        channel); NaN in `height_um`.
    voxel_um : distance between columns in µm.
    """

    height_um: np.ndarray
    opening: np.ndarray
    voxel_um: float

    @cached_property
    def plane(self) -> np.ndarray:
        """The best-fit plane of the heights, ``(Y, X)`` float32; where they are wider, of every 2.5 mm."""
        return form(self.height_um, self.voxel_um, lambda part: fit(part, 1)[0])


def find_surface(
    mask: np.ndarray,
    voxel_um: float,
    probability: np.ndarray | None = None,
    threshold: float | None = None,
) -> Surface:
    """Find in each column the first hard voxel seen from the cartilage side.

    The surroundings of a column are the local median, over 300 µm, of the height above a robust
    plane, in a wide sample one for every 2.5 mm. A column more than 60 µm

    - above them takes the next hard voxel below that limit, if the piece above floats free (a false
      speck in the cartilage); a ridge that stands on the bone is left as it is;
    - below them has no tidemark. Inside the outline of the tidemark columns (bites of up to 100 µm
      into its rim included) it is an opening, and so is a column without any hard voxel; outside it
      is beyond the plug's interface. Neither is ever bridged: both are NaN.

    Parameters
    ----------
    mask : ``(Z, Y, X)``, bone first, hard tissue where not 0; ``(Z, 1, X)`` for an image.
    voxel_um : voxel size in µm.
    probability, threshold : ``(Z, Y, X)`` uint8 and the threshold (0 to 1) the mask came from. Given,
        the height is where the probability, linear between voxel centres, crosses the threshold.

    Returns
    -------
    An empty mask gives heights all NaN and no opening.

    Raises
    ------
    ValueError
        If the arrays do not match.
    """
    _check_arguments(mask, probability, threshold)
    top = last_hard(mask)
    if not (top >= 0).any():
        return Surface(np.full(top.shape, np.nan, np.float32), np.zeros(top.shape, bool), voxel_um)
    reference = surroundings(_faces(top, voxel_um), voxel_um)
    top = _without_floating(mask, top, reference, voxel_um)
    reference = surroundings(_faces(top, voxel_um), voxel_um)
    height = _faces(top, voxel_um)
    with np.errstate(invalid="ignore"):
        sound = (height > reference - OUTLIER_UM) & (top >= 0)
    opening = outline(sound, voxel_um) & ~sound
    if probability is not None and threshold is not None:
        height += _crossing(probability, top, threshold) * np.float32(voxel_um)
    height[~sound] = np.nan
    return Surface(height, opening, voxel_um)


def _check_arguments(mask: np.ndarray, probability: np.ndarray | None, threshold: float | None) -> None:
    if mask.ndim != 3:
        raise ValueError(f"The mask must be (Z, Y, X); found the shape {mask.shape}.")
    if (probability is None) != (threshold is None):
        raise ValueError("probability and threshold are given together or not at all.")
    if probability is not None and (probability.shape != mask.shape or probability.dtype != np.uint8):
        found = f"{probability.dtype} {probability.shape}"
        raise ValueError(f"Probabilities must be uint8 of the mask's shape {mask.shape}; found {found}.")


def _faces(top: np.ndarray, voxel_um: float) -> np.ndarray:
    """Return the height of the cartilage-side face of voxel `top`, NaN where `top` is -1."""
    return np.where(top >= 0, (top + 1) * voxel_um, np.nan).astype(np.float32)


def last_hard(mask: np.ndarray, ceiling: np.ndarray | None = None) -> np.ndarray:
    """Return ``(Y, X)`` int32, each column's last hard voxel along Z, not above `ceiling`, -1 for none."""
    top = np.full(mask.shape[1:], -1, np.int32)
    for z, plane in enumerate(mask):  # plane by plane: an argmax along Z takes ten times as long
        hard = plane != 0
        if ceiling is not None:
            hard &= z <= ceiling
        np.copyto(top, z, where=hard)
    return top


def _without_floating(
    mask: np.ndarray, top: np.ndarray, reference: np.ndarray, voxel_um: float
) -> np.ndarray:
    """Return `top`, lowered to the limit above the surroundings where the piece above floats free."""
    with np.errstate(invalid="ignore"):
        high = (top + 1) * voxel_um > reference + OUTLIER_UM
    if not high.any():
        return top
    ceiling = np.where(high, np.floor((reference + OUTLIER_UM) / voxel_um) - 1, len(mask)).astype(np.int32)
    lower = last_hard(mask, ceiling)
    # hard at the limit itself: a ridge that passes through it
    return np.where(high & (lower != ceiling), lower, top)


def _crossing(probability: np.ndarray, top: np.ndarray, threshold: float) -> np.ndarray:
    """Return how far above the face of voxel `top` the probability crosses, -0.5 to 0.5 voxels."""
    here = picked(probability, np.maximum(top, 0)).astype(np.float32)
    above = picked(probability, np.minimum(top + 1, len(probability) - 1)).astype(np.float32)
    level = np.float32(threshold * 255)
    # elsewhere the mask was edited (a pinhole filled, a speck removed) or the scan ends: keep the face
    crosses = (top >= 0) & (top + 1 < len(probability)) & (here > level) & (above <= level)
    share = (here - level) / np.where(crosses, here - above, 1)
    return np.where(crosses, share - np.float32(0.5), np.float32(0)).astype(np.float32)
