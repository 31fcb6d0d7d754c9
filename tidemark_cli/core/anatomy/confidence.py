"""How far to believe a segmentation: whether it looks like a tidemark, and like all the bone below it.

A network gives some mask for any image: a brain, a plug in the wrong stain, a scan without bone. Each sign
below is something every good mask of a plug shows and few others do; confidence is the weakest of them. What
it is worth is measured by tests/benchmarks/bench_reliability.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import picked
from .bone_grey import BoneGrey
from .heights import FIT_COLUMNS, WIDE_UM
from .surface import Surface

ENOUGH = 0.5  # confidence below this is worth a warning
# where a sign is as good as absent, and where it is as in any plug: see tests/benchmarks/bench_doubt.py and
# bench_reliability.py
SHARPNESS = (0.3, 0.8)
COVERAGE = (0.2, 0.6)
EVENNESS = (0.4, 0.8)
BULGE = (0.08, 0.03)
COVER_UM = (40.0, 160.0)
LEFT_OUT = (0.2, 0.05)
FILLED = (0.3, 0.1)
BRIGHTNESS = (2.0, 1.5)
COARSENESS = (2.0, 1.25)
RIVAL = (0.8, 0.4)
SOUND = BoneGrey()
ASSUMED = 0.6  # of a voxel size that no file tells: no warning, and not to be believed as others are
_PROBE = 4  # voxels looked at on each side of the tidemark
_EVEN_UM = 40.0  # neighbouring columns of a tidemark differ by less
_ROUGH_UM = 100.0  # what its roughness alone makes of its range of heights

REASONS = {
    "agreement": "the hard tissue found does not lie at the bone end that was told or that the grey levels "
    "suggest (see --bone-end)",
    "sharpness": "the network is unsure where the hard tissue ends",
    "coverage": "a tidemark was found in a small part of the sample only",
    "evenness": "the surface found jumps from column to column",
    "flatness": "the surface found is bent more than a tidemark",
    "cover": "there is hardly any cartilage above the surface found",
    "wholeness": "much below the tidemark is as bright as bone and not in the mask",
    "solidity": "much of the mask is as dark as marrow or air",
    "stain": "bone is much brighter than cartilage, as under CA4+ or without a stain",
    "resolution": "the voxels are larger than those that the model was trained on",
    "singleness": "there is a second body nearly as large as the one that was segmented",
    "scale": "the voxel size was assumed",
}


@dataclass(frozen=True)
class Doubts:
    """What is known beside a probability and its tidemark; by default nothing that speaks against them.

    Attributes
    ----------
    agreement : 0 to 1, of the mask with the bone end told, or suggested by the grey levels.
    grey : of bone, found and left out, from `bone_grey.compare_greys`.
    coarseness : voxel size of the scan over the largest that the models were trained on.
    rival : size of the second largest body in the scan over that of the one segmented.
    assumed_scale : whether the voxel size was assumed, for no file told it.
    """

    agreement: float = 1.0
    grey: BoneGrey = SOUND
    coarseness: float = 1.0
    rival: float = 0.0
    assumed_scale: bool = False


NO_DOUBTS = Doubts()


@dataclass(frozen=True)
class Confidence:
    """Confidence, 0 (none) to 1, in a segmentation, and the signs it is the least of, each 0 to 1."""

    value: float
    signs: dict[str, float]

    @property
    def reason(self) -> str:
        """What is wrong most, in words."""
        return REASONS[min(self.signs, key=lambda sign: self.signs[sign])]


def judge(
    probability: np.ndarray,
    surface: Surface,
    thickness_um: np.ndarray,
    sample: np.ndarray,
    doubts: Doubts = NO_DOUBTS,
) -> Confidence:
    """Judge a segmentation by its own plausibility.

    Parameters
    ----------
    probability : (Z, Y, X) uint8, 255 = surely hard tissue, bone first.
    surface : the tidemark found in it.
    thickness_um : (Y, X) cartilage thickness in µm, NaN where there is none.
    sample : (Y, X) bool, columns that hold tissue.

    Returns
    -------
    The confidence; 0 where no tidemark was found. ``sharpness``: the drop of probability across the tidemark.
    ``coverage``: columns with a tidemark among those of the sample. ``evenness``: neighbouring columns less
    than 40 µm apart in height. ``flatness``: the range of heights about the best-fit plane, less 100 µm for
    roughness, over the width of the surface; in a wide one about the planes of every 2.5 mm, over 2.5 mm.
    ``cover``: the median thickness of the cartilage. ``wholeness``, ``solidity``, ``stain``: as the grey
    levels have them. ``agreement``, ``resolution``, ``singleness``, ``scale``: what is told; 0.6 for an
    assumed voxel size.
    """
    found = np.isfinite(surface.height_um)
    if not found.any():
        return Confidence(0.0, dict.fromkeys(REASONS, 0.0))
    cover = thickness_um[np.isfinite(thickness_um)]
    signs = {  # of equals the first is told: at the wrong end all others are low, too
        "agreement": doubts.agreement,
        "sharpness": _ramp(_drop(probability, surface, found), SHARPNESS),
        "coverage": _ramp(found.sum() / max(int((sample | found).sum()), 1), COVERAGE),
        "evenness": _ramp(_even_share(surface.height_um), EVENNESS),
        "flatness": _ramp(_bulge(surface), BULGE),
        "cover": _ramp(float(np.median(cover)) if cover.size else 0.0, COVER_UM),
        "wholeness": _ramp(doubts.grey.left_out, LEFT_OUT),
        "solidity": _ramp(doubts.grey.filled, FILLED),
        "stain": _ramp(doubts.grey.brightness, BRIGHTNESS),
        "resolution": _ramp(doubts.coarseness, COARSENESS),
        "singleness": _ramp(doubts.rival, RIVAL),
        "scale": ASSUMED if doubts.assumed_scale else 1.0,
    }
    return Confidence(min(signs.values()), signs)


def _ramp(value: float, limits: tuple[float, float]) -> float:
    return float(np.clip((value - limits[0]) / (limits[1] - limits[0]), 0, 1))


def _drop(probability: np.ndarray, surface: Surface, found: np.ndarray) -> float:
    """Mean probability just below the tidemark minus that just above it."""
    # voxel k is the first hard one at a height of k + 1/2 to k + 3/2 voxels
    first = np.round(np.where(found, surface.height_um, 0) / surface.voxel_um).astype(int) - 1
    last = len(probability) - 1

    def mean(z: np.ndarray) -> float:
        return float(picked(probability, np.clip(z, 0, last))[found].mean())

    below = [mean(first - k) for k in range(1, 1 + _PROBE)]
    above = [mean(first + 1 + k) for k in range(1, 1 + _PROBE)]
    return float(np.mean(below) - np.mean(above)) / 255


def _even_share(height_um: np.ndarray) -> float:
    """Share of neighbouring columns less than 40 µm apart in height; 1 where there are no neighbours."""
    steps = [np.abs(np.diff(height_um, axis=axis)) for axis in (0, 1)]
    known = np.concatenate([step[np.isfinite(step)] for step in steps])
    return float((known < _EVEN_UM).mean()) if known.size else 1.0


def _bulge(surface: Surface) -> float:
    """How far the heights bend from a plane, over their width; 0 of few columns and for mere roughness."""
    found = np.isfinite(surface.height_um)
    if found.sum() < FIT_COLUMNS:
        return 0.0
    width_um = surface.voxel_um * max(np.ptp(places) + 1 for places in np.nonzero(found))
    width_um = min(width_um, WIDE_UM)  # of the widest window with a plane of its own
    low, high = np.percentile((surface.height_um - surface.plane)[found], (5, 95))
    return float(max(high - low - _ROUGH_UM, 0) / width_um)
