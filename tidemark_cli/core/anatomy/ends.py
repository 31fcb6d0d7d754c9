"""At which end of a scan the bone lies, told by a mask of the hard tissue or by the grey levels.

Each piece of evidence is worth so much, "first" above 0; together they are half the logarithm of the odds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from scipy import ndimage

from ..arrays import extent, sampled
from .heights import fit
from .surface import last_hard

BoneEnd = Literal["first", "last"]

SURE = 0.3  # confidence below this is a guess worth a word
MASK_COLUMNS = 128  # along Y and X; enough to tell
REACHED = 0.05  # share of the hard columns that a speck of noise in the last slice does not fill
SOLID_UM = 64.0  # of tissue around what is compared: away from walls, cavities and cuts
FALL_UM = 70.0  # grey has fallen from the crest to the bone over this
SAMPLES = 20  # a median of fewer is left alone
TEXTURE_FLOOR = 0.01  # of the contrast; less texture is nothing but noise


@dataclass(frozen=True)
class Judgement:
    """The bone end, and how sure that is: 0 is a coin tossed, 1 certain, c right in (1 + c) / 2 of cases."""

    end: BoneEnd
    confidence: float = 1.0

    @property
    def turned(self) -> Judgement:
        """The other end, as sure."""
        return replace(self, end="last" if self.end == "first" else "first")


def as_told(end: str) -> Judgement | None:
    """Return what a caller tells for certain, "first" or "last"; None where it is "auto".

    Raises
    ------
    ValueError
        If it is neither.
    """
    if end not in ("auto", "first", "last"):
        raise ValueError(f"bone_end must be auto, first or last; found {end!r}.")
    return None if end == "auto" else Judgement("first" if end == "first" else "last")


def judge_mask(
    mask: np.ndarray, scan: np.ndarray | None = None, tissue_level: float = 0.0
) -> Judgement | None:
    """Tell the bone end from the hard tissue, and from what of the scan lies beyond it.

    Beyond the last hard voxel of a column lies cartilage, or at the bone end nothing but marrow, which is
    dark. Hard tissue that reaches one end of Z alone is cut off there, so that is the bone's. And the
    tidemark is nearer to a plane than the other side of the hard tissue, where cavities are: that alone is
    a guess. Where the middle of the hard tissue lies would not tell: bone may be three quarters of a plug.

    Parameters
    ----------
    mask : ``(Z, Y, X)``, hard tissue where not 0.
    scan : ``(Z, Y, X)`` grey levels of the same voxels, where known.
    tissue_level : grey level between background (air, marrow) and tissue, as in `Plug`.

    Returns
    -------
    None for an empty mask.
    """
    rows = columns = slice(None, None, max(1, max(mask.shape[1:]) // MASK_COLUMNS))
    hard = sampled(mask, slice(None), rows, columns) != 0
    if not hard.any():  # nothing, or so little that it lies between these columns
        shadow = np.zeros(mask.shape[1:], mask.dtype)
        for plane in mask:
            np.maximum(shadow, plane, out=shadow)
        if not shadow.any():
            return None
        sides = [extent(shadow.any(axis)) for axis in (1, 0)]
        lengths = [side.stop - side.start for side in sides]
        steps = [max(1, (length - 1) // MASK_COLUMNS) for length in lengths]
        rows, columns = (slice(side.start, side.stop, step) for side, step in zip(sides, steps, strict=True))
        y, x = (np.arange(0, length, step) for length, step in zip(lengths, steps, strict=True))
        box = mask[:, sides[0], sides[1]]
        hard = np.array([np.maximum.reduceat(np.maximum.reduceat(each, y, 0), x, 1) for each in box]) != 0
    found = hard.any(0)
    lower = np.where(found, hard.argmax(0), -1)
    upper = last_hard(hard)
    reached = [np.count_nonzero(hard[end]) > REACHED * np.count_nonzero(found) for end in (0, -1)]
    evidence = float(reached[0]) - float(reached[1])
    rough = [_unevenness(np.where(found, face, np.nan)) for face in (lower, upper)]
    # a block has two even faces: the nearer end of Z, then
    nearer = 0.01 if lower[found].min() <= len(hard) - 1 - upper.max() else -0.01
    evidence += 0.24 * (rough[0] - rough[1]) / (sum(rough) + 1e-3) + nearer
    if scan is not None:
        evidence += 2.5 * _cover(scan[:, rows, columns], lower, upper, tissue_level)
    return _judgement(evidence)


def judge_scan(grey: np.ndarray, tissue: np.ndarray, level: float, sample_um: float) -> Judgement:
    """Tell the bone end from the grey levels of a scan: weak evidence, and where there is none a guess.

    Marrow hollows out the bone, while cartilage is solid. From the crest of the tidemark grey falls steeply
    to the bone and fades slowly to the cartilage's surface. Bone is uniform, cartilage streaked and spotted:
    that tells where a plate is too thick for marrow to be seen. An end over twice as bright as the other is
    the bone of a CA4+ scan. The weights are some 0.6 of what a logistic regression on phantoms gives, for a
    wrong end that is sure costs more than a right one that is not; texture alone stays below 0.5.

    Parameters
    ----------
    grey : ``(z, y, x)`` float, smoothed, with samples of some 16 to 40 µm.
    tissue : the same, bool, where the plug's tissue is.
    level : grey level between background and tissue.
    sample_um : distance of the samples in µm.
    """
    inside = extent(tissue.any((1, 2)))
    grey, tissue = grey[inside], tissue[inside]
    contrast = max(float(np.median(grey[tissue])) - max(level, float(grey.min())), 1e-6)
    evidence = float(np.clip(_hollowness(tissue) / 0.15, -1.5, 1.5))
    evidence += _fall(grey, tissue, contrast, sample_um)
    evidence += 0.5 * float(np.tanh(2 * _texture(grey, tissue, contrast, sample_um)))
    if level > grey.min():
        evidence += _brightness(grey, tissue)
    return _judgement(evidence)


def _judgement(evidence: float) -> Judgement:
    return Judgement("first" if evidence > 0 else "last", float(np.tanh(abs(evidence))))


def _unevenness(height: np.ndarray) -> float:
    """Return the root mean square deviation of heights ``(Y, X)`` from their best-fit plane, in voxels."""
    return float(np.sqrt(np.nanmean((height - fit(height, 1)[0]) ** 2)))


def _cover(scan: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: float) -> float:
    """Return how much more brightness lies above the hard tissue of its columns than below it, -1 to 1."""
    below = above = 0.0
    for z, plane in enumerate(scan):  # plane by plane: the scan may be a memory map
        bright = np.where(upper >= 0, plane.astype(np.float32) - level, 0).clip(0)
        below += float(bright[z < lower].sum())
        above += float(bright[z > upper].sum())
    return (above - below) / (above + below) if above + below else 0.0


def _hollowness(tissue: np.ndarray) -> float:
    """Return how much hollower the first third of a plug is than the last, -1 to 1.

    Hollow is what of a slice's convex outline is no tissue. What lies beside the plug or beyond its ends
    (wax, debris) is left out: only columns that are tissue for a good part of Z count, and slices whose
    outline fills half of these; and so is the outermost tenth (rough cartilage surface, saw cut).
    """
    share = tissue.mean(0)
    footprint = share > min(0.3, 0.5 * float(share.max()))
    voids: list[float] = []
    for plane in tissue & footprint:
        points = cv2.findNonZero(plane.astype(np.uint8))
        if points is None:
            continue
        hull = np.zeros(plane.shape, np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
        area = np.count_nonzero(hull.astype(bool) & footprint)
        if area > 0.5 * np.count_nonzero(footprint):
            voids.append(float(1 - np.count_nonzero(plane) / area))
    if not voids:
        return 0.0
    third = slice(len(voids) // 10, max(len(voids) // 3, len(voids) // 10 + 1))
    return float(np.median(voids[third]) - np.median(voids[::-1][third]))


def _fall(grey: np.ndarray, tissue: np.ndarray, contrast: float, sample_um: float) -> float:
    """Return how much steeper grey falls toward the first slices than toward the last, -0.7 to 0.7."""
    reach = max(1, round(FALL_UM / sample_um))
    if len(grey) <= 2 * reach:
        return 0.0
    times = max(1, round(SOLID_UM / 2 / sample_um))
    solid = ndimage.binary_erosion(tissue, np.ones((3, 1, 1)), iterations=times)
    both = solid[reach:] & solid[:-reach]
    change = np.where(both, grey[reach:] - grey[:-reach], 0.0)
    columns = both.any(0)
    if not columns.any():
        return 0.0
    rises = change.max(0)[columns] + change.min(0)[columns]
    return float(np.clip(np.median(rises) / contrast, -0.7, 0.7))


def _texture(grey: np.ndarray, tissue: np.ndarray, contrast: float, sample_um: float) -> float:
    """Return the logarithm of how much more grey varies along Z in the last third than in the first."""
    near = ndimage.generate_binary_structure(3, 1)
    if grey.shape[1] == 1:  # an image has no neighbours there
        near[:, [0, 2]] = False
    solid = ndimage.binary_erosion(tissue, near, iterations=max(2, round(SOLID_UM / sample_um)))[1:-1]
    change = np.abs(grey[2:] - grey[:-2])
    third = len(change) // 3
    first, last = change[:third][solid[:third]], change[-third:][solid[-third:]]
    if min(first.size, last.size) < SAMPLES:
        return 0.0
    floor = TEXTURE_FLOOR * contrast
    return float(np.log((np.median(last) + floor) / (np.median(first) + floor)))


def _brightness(grey: np.ndarray, tissue: np.ndarray) -> float:
    """Return 2 where the first third is over twice as bright as the last, -2 the other way round."""
    third = max(1, len(grey) // 3)
    first, last = grey[:third][tissue[:third]], grey[-third:][tissue[-third:]]
    if not first.size or not last.size:
        return 0.0
    ratio = float(np.median(first) - grey.min()) / max(float(np.median(last) - grey.min()), 1e-6)
    return 2.0 if ratio > 2 else -2.0 if ratio < 0.5 else 0.0
