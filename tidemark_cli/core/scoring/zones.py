"""Overlap in zones around the tidemark (section 2.5 of the paper), and errors of the height map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ..anatomy.surface import last_hard


@dataclass(frozen=True)
class ZoneCounts:
    """Voxels of true positives, false positives, false negatives and all: each (thresholds, pads) int64.

    The scores made of them are float64 of that shape, and 0 where their denominator is 0.
    """

    true_positive: NDArray[np.int64]
    false_positive: NDArray[np.int64]
    false_negative: NDArray[np.int64]
    voxels: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union."""
        return _ratio(self.true_positive, self.true_positive + self._wrong)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice score, 2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self._wrong)

    @property
    def volumetric_similarity(self) -> NDArray[np.float64]:
        """1 - |FN - FP| / (2 TP + FP + FN)."""
        whole = 2 * self.true_positive + self._wrong
        return _ratio(whole - np.abs(self.false_negative - self.false_positive), whole)

    @property
    def hard_share(self) -> NDArray[np.float64]:
        """Share of the zone's voxels that are predicted hard."""
        return _ratio(self.true_positive + self.false_positive, self.voxels)

    @property
    def all_hard(self) -> ZoneCounts:
        """The counts, in the same zones, of a prediction that is hard tissue everywhere."""
        hard = self.true_positive + self.false_negative
        return ZoneCounts(hard, self.voxels - hard, np.zeros_like(hard), self.voxels)

    @property
    def _wrong(self) -> NDArray[np.int64]:
        return self.false_positive + self.false_negative


def zone_counts(
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    pads: Sequence[int],
    thresholds: Sequence[float] = (0.5,),
) -> ZoneCounts:
    """Count voxels in zones around the true tidemark, for all pads and thresholds in one pass.

    In each column (y, x) the tidemark is the first hard voxel of `truth` seen from the cartilage. The zone of
    pad P is the P voxels from the tidemark into the hard tissue and the P voxels before it, cut off at the
    ends of the volume. Columns without hard tissue have no zone; an empty `truth` gives 0 for all counts.

    Parameters
    ----------
    prediction : (Z, Y, X) uint8, bone first, a probability times 255 or a mask of 0 and 255.
    truth : (Z, Y, X) uint8, hard tissue where not 0.
    pads : in voxels, each at least 1.
    thresholds : hard tissue is predicted where ``prediction / 255 > threshold``, strictly.

    Raises
    ------
    ValueError
        If the shapes differ or a pad is below 1.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must have the same shape.")
    if min(pads) < 1:
        raise ValueError(f"pads must be at least one voxel; found {min(pads)}.")
    depth = truth.shape[0]
    widths = [min(pad, depth) for pad in pads]  # no zone reaches beyond the volume
    reach = max(widths)
    tidemark = last_hard(truth)
    y, x = np.nonzero(tidemark >= 0)
    tidemark_z = tidemark[y, x]
    levels = [lowest_level(threshold) for threshold in thresholds]
    counts = np.zeros((4, len(levels), reach), np.int64)  # by distance, both sides of the tidemark together
    for offset in range(-reach, reach):
        z = tidemark_z - offset
        inside = (z >= 0) & (z < depth)
        at = z[inside], y[inside], x[inside]
        hard, grey = truth[at] != 0, prediction[at]
        distance = offset if offset >= 0 else -1 - offset
        all_hard = np.count_nonzero(hard)
        for i, level in enumerate(levels):
            found = grey >= level
            right, all_found = np.count_nonzero(found & hard), np.count_nonzero(found)
            counts[:, i, distance] += (right, all_found - right, all_hard - right, hard.size)
    totals = counts.cumsum(axis=2)[:, :, [width - 1 for width in widths]]
    return ZoneCounts(*totals)


def lowest_level(threshold: float) -> int:
    """Return the lowest 8-bit grey level above a probability, or 256 if there is none.

    >>> lowest_level(0.5), lowest_level(51 / 255), lowest_level(1)
    (128, 52, 256)
    """
    return int(np.searchsorted(np.arange(256) / 255, threshold, side="right"))


def pad_voxels(pad_um: float, voxel_um: float, paper: bool = False) -> int:
    """Return the width of one side of a zone in voxels, by the voxel size or as in the published table.

    The paper's code used 5 voxels for "15 µm", 10 for "30 µm", and so on: 3 µm a voxel for scans of 3.2 µm.

    >>> pad_voxels(45, 3.2), pad_voxels(45, 3.2, paper=True)
    (14, 15)
    """
    return max(1, round(pad_um / (3.0 if paper else voxel_um)))


def height_errors(found_um: NDArray[np.float32], truth_um: NDArray[np.float32]) -> dict[str, float | None]:
    """Compare a height map of the tidemark with the true one.

    Parameters
    ----------
    found_um, truth_um : (Y, X) heights in µm, NaN where there is no tidemark.

    Returns
    -------
    ``bias_um`` (found minus true) and, of the absolute error, ``mean_error_um``, ``median_error_um``,
    ``rmse_um`` and ``p95_error_um``, over the columns that both have; ``missed_columns`` and
    ``extra_columns``, those in only the true or only the found map, as shares of the true ones. None without
    such columns.
    """
    true, found = np.isfinite(truth_um), np.isfinite(found_um)
    both = true & found
    error = (found_um[both] - truth_um[both]).astype(np.float64)
    size = np.abs(error)
    some = error.size > 0
    return {
        "bias_um": float(error.mean()) if some else None,
        "mean_error_um": float(size.mean()) if some else None,
        "median_error_um": float(np.median(size)) if some else None,
        "rmse_um": math.sqrt(float((error**2).mean())) if some else None,
        "p95_error_um": float(np.percentile(size, 95)) if some else None,
        "missed_columns": 1 - float(both.sum() / true.sum()) if true.any() else None,
        "extra_columns": float((found & ~true).sum() / true.sum()) if true.any() else None,
    }


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % interval (Student's t) of the mean of values (n,), or None for fewer than 2.

    >>> low, high = mean_interval(np.array([-22.0, -20.0, -18.0]))
    >>> round(low, 2), round(high, 2)
    (-24.97, -15.03)
    """
    if values.size < 2:
        return None
    mean, half = values.mean(), stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / math.sqrt(values.size)
    return float(mean - half), float(mean + half)


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
