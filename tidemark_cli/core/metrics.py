"""Scores of a predicted mask: overlap in zones about the tidemark (paper, section 2.5), height-map errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ZoneCounts:
    """Voxels of true positives, false positives and false negatives: each (thresholds, pads) int64."""

    true_positive: NDArray[np.int64]
    false_positive: NDArray[np.int64]
    false_negative: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union; 0 where the zone holds no hard tissue on either side."""
        return _ratio(self.true_positive, self.true_positive + self._wrong)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice's score; 0 where the zone holds no hard tissue on either side."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self._wrong)

    @property
    def volumetric_similarity(self) -> NDArray[np.float64]:
        """1 - |FN - FP| / (2 TP + FP + FN); 0 where the zone holds no hard tissue on either side."""
        whole = 2 * self.true_positive + self._wrong
        return _ratio(whole - np.abs(self.false_negative - self.false_positive), whole)

    @property
    def _wrong(self) -> NDArray[np.int64]:
        return self.false_positive + self.false_negative


def zone_counts(
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    bone_end: str,
    pads: Sequence[int],
    thresholds: Sequence[float] = (0.5,),
) -> ZoneCounts:
    """Count agreement within zones about the true tidemark, for all pads and thresholds in one pass.

    In each column (y, x) the tidemark is the first hard voxel of `truth` seen from the cartilage. The zone of
    pad P is the P voxels from the tidemark on into the hard tissue and the P voxels before it, cut at the
    volume's ends. Columns without hard tissue have no zone.

    Parameters
    ----------
    prediction : (Z, Y, X) uint8, a probability times 255 or a mask of 0 and 255.
    truth : (Z, Y, X) uint8, hard tissue where not 0.
    bone_end : "first" or "last", the end of Z where the bone lies.
    pads : in voxels, each at least 1.
    thresholds : hard tissue is predicted where ``prediction / 255 > threshold``, strictly.

    Returns
    -------
    The counts, all 0 for an empty `truth`.

    Raises
    ------
    ValueError
        If the shapes differ or a pad is below 1.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must have the same shape.")
    if min(pads) < 1:
        raise ValueError(f"pads must be at least one voxel; found {min(pads)}.")
    if bone_end == "first":  # from here on the cartilage is at low Z
        prediction, truth = prediction[::-1], truth[::-1]
    depth, reach = truth.shape[0], max(pads)
    tidemark = (truth != 0).argmax(axis=0)  # (Y, X)
    y, x = np.nonzero((truth != 0).any(axis=0))
    levels = [int(np.searchsorted(np.arange(256) / 255, t, side="right")) for t in thresholds]
    counts = np.zeros(
        (3, len(levels), reach), np.int64
    )  # by distance from the tidemark, on both sides together
    for offset in range(-reach, reach):
        z = tidemark[y, x] + offset
        inside = (z >= 0) & (z < depth)
        at = z[inside], y[inside], x[inside]
        hard, grey = truth[at] != 0, prediction[at]
        distance = offset if offset >= 0 else -1 - offset
        for i, level in enumerate(levels):
            found = grey >= level
            counts[:, i, distance] += [(found & hard).sum(), (found & ~hard).sum(), (~found & hard).sum()]
    totals = counts.cumsum(axis=2)[:, :, [pad - 1 for pad in pads]]
    return ZoneCounts(*totals)


def pad_voxels(pad_um: float, voxel_um: float, paper: bool = False) -> int:
    """Width of one side of a zone in voxels: by the real voxel size, or as the published table has it.

    The paper's code took 5 voxels for "15 µm", 10 for "30 µm", and so on: 3 µm a voxel for scans of 3.2 µm.

    >>> pad_voxels(45, 3.2), pad_voxels(45, 3.2, paper=True)
    (14, 15)
    """
    return max(1, round(pad_um / (3.0 if paper else voxel_um)))


def height_errors(found_um: NDArray[np.float32], truth_um: NDArray[np.float32]) -> dict[str, float | None]:
    """Errors of a height map of the tidemark against the true one.

    Parameters
    ----------
    found_um, truth_um : (Y, X) heights in µm, NaN where there is no tidemark.

    Returns
    -------
    ``bias_um`` (found minus true), ``mean_error_um`` (of the absolute error), ``median_error_um``,
    ``rmse_um``, ``p95_error_um`` over the columns that both have, and ``missed_columns``, the share of the
    true columns without a found height. None where there are no such columns.
    """
    true = np.isfinite(truth_um)
    both = true & np.isfinite(found_um)
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
    }


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
