"""Rigid refinement of one scan on another, from a few voxels off to a fraction of one.

The measure is mutual information (Viola & Wells 1997, Mattes et al. 2003) or the mean squared difference that
the paper minimises, over random voxels of the plug. Mutual information is the mean log-likelihood ratio of
the pairs of grey levels under their joint histogram, so it takes the steps of maximum likelihood: the
gradient, divided by the outer products of the samples' own gradients (Berndt et al. 1974), damped as in
Levenberg and Marquardt. It stops at the first short step: the maximum itself lies some tenths of a voxel
towards the bone, because the PTA edge is not where CA4+ has the tidemark, and measured worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from .search import Grid
from .transform import Floats, Matrix, affine, moved

Metric = Literal["mi", "mse"]

BINS = 48
_STEPS = 30
_LONGEST_MM = 0.1  # of one step
_DONE = 0.01  # voxels; a shorter step is the last
_DAMPING = 1e-2
_TRIES = 4
_OVERLAP = 0.2  # least share of the samples in the moving scan


@dataclass(frozen=True)
class _Look:
    """How well the scans fit under `matrix`, and which way they would fit better."""

    matrix: Matrix
    fit: float
    slope: Floats  # (6,) of the fit along x, y, z (mm) and around x, y, z (radians)
    bend: Floats  # (6, 6)


def refine(
    fixed: Grid,
    indices: NDArray[np.intp],
    moving: Grid,
    matrix: Matrix,
    metric: Metric = "mi",
) -> Matrix:
    """Move `matrix` to the nearest best fit.

    Parameters
    ----------
    indices : (N, 3) z, y, x of the voxels of `fixed` to compare.
    matrix : (4, 4) from points in mm of `fixed` to points of `moving`, at most a few voxels off.
    metric : "mi" or "mse".

    Returns
    -------
    (4, 4) rigid; `matrix` itself if less than a fifth of the samples lie in `moving`.
    """
    samples = _Samples(fixed, indices, moving, metric)
    here, damping = samples.look(matrix), _DAMPING
    for _ in range(_STEPS if here else 0):
        assert here is not None
        for _ in range(_TRIES):
            step = np.linalg.solve(here.bend + damping * np.diag(here.bend.diagonal() + 1e-12), here.slope)
            step *= min(1.0, _LONGEST_MM / max(float(np.linalg.norm(step)), 1e-12))
            there = samples.look(samples.stepped(here.matrix, step))
            if there is not None and there.fit > here.fit:
                break
            damping = max(10 * damping, 1e-2)
        else:
            break
        here, damping = there, max(damping / 4, 1e-4)
        if np.linalg.norm(step) < _DONE * fixed.voxel_mm:
            break
    return here.matrix if here else matrix


class _Samples:
    """Voxels of the fixed scan, looked up in the moving one."""

    def __init__(self, fixed: Grid, indices: NDArray[np.intp], moving: Grid, metric: Metric) -> None:
        self.moving = moving
        self.levels = fixed.array[tuple(indices.T)].astype(np.float32)  # (N,)
        self.points = fixed.points(indices)  # (N, 3)
        self.middle = self.points.mean(0)
        self.to_voxels = np.linalg.inv(moving.to_mm)
        ranges = (_range(self.levels), _range(moving.array))
        self.compare: Callable[[Floats, Floats], tuple[float, Floats, Floats]] = _mean_squares
        if metric == "mi":
            self.compare = lambda fixed, moved: _mutual_information(fixed, moved, *ranges)

    def look(self, matrix: Matrix) -> _Look | None:
        """Compare the scans under `matrix`; None if they hardly overlap."""
        points = moved(matrix, self.points)
        indices = moved(self.to_voxels, points).T[::-1]  # (3, N) z, y, x
        inside = within(indices, self.moving.array.shape)
        if inside.mean() < _OVERLAP:
            return None
        levels, slopes = interpolate(self.moving.array, indices[:, inside])
        fit, gain, weight = self.compare(self.levels[inside], levels)
        slopes = self.to_voxels[:3, :3].T @ slopes[::-1]  # (3, N) x, y, z per mm
        arms = (points[inside] - moved(matrix, self.middle)).T
        lever = np.concatenate([slopes, np.cross(arms, slopes, axis=0)])  # (6, N)
        return _Look(matrix, fit, lever @ gain, (lever * weight) @ lever.T)

    def stepped(self, matrix: Matrix, step: Floats) -> Matrix:
        """Return `matrix` followed by a shift, and a turn around the middle of the samples."""
        turned = Rotation.from_rotvec(step[3:]).as_matrix() @ matrix[:3, :3]
        return affine(turned, moved(matrix, self.middle) + step[:3] - turned @ self.middle)


def within(indices: Floats, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which positions (3, N) z, y, x `interpolate` accepts, (N,) bool: voxels lie on all sides."""
    return np.all((indices >= 0) & (indices < np.array(shape)[:, None] - 1), axis=0)


def interpolate(array: NDArray[Any], indices: Floats) -> tuple[Floats, Floats]:
    """Interpolate (Z, Y, X) linearly at positions (3, N) z, y, x; return values (N,) and slopes (3, N)."""
    whole = indices.astype(np.intp)
    z, y, x = (indices - whole).astype(np.float32)
    sides = np.stack([whole, whole + 1], 1)  # (3, 2, N)
    corners = array[sides[0][:, None, None], sides[1][:, None], sides[2]].astype(np.float32)  # (2, 2, 2, N)
    along_x = corners[:, :, 1] - corners[:, :, 0]
    rows = corners[:, :, 0] + x * along_x
    along_y = rows[:, 1] - rows[:, 0]
    planes = rows[:, 0] + y * along_y
    along_x = along_x[:, 0] + y * (along_x[:, 1] - along_x[:, 0])
    along_z = planes[1] - planes[0]
    slopes = along_z, along_y[0] + z * (along_y[1] - along_y[0]), along_x[0] + z * (along_x[1] - along_x[0])
    return planes[0] + z * along_z, np.stack(slopes)


def _range(levels: NDArray[Any]) -> tuple[float, float]:
    """Return the grey level of the first bin and the bins per grey level, from a part of the voxels."""
    step = max(1, round((levels.size / 200_000) ** (1 / levels.ndim)))
    low, high = np.percentile(levels[(slice(None, None, step),) * levels.ndim], (0.2, 99.8))
    return float(low), (BINS - 1.001) / max(float(high - low), 1e-6)


def _mutual_information(
    fixed: Floats, moved: Floats, fixed_range: tuple[float, float], moved_range: tuple[float, float]
) -> tuple[float, Floats, Floats]:
    """Return the mutual information in nats, and each sample's slope over `moved` and its square."""
    (i, u), (j, v) = _binned(fixed, fixed_range), _binned(moved, moved_range)
    counts = np.zeros(BINS * BINS)
    for di, a in ((0, 1 - u), (1, u)):
        for dj, b in ((0, 1 - v), (1, v)):
            counts += np.bincount((i + di) * BINS + j + dj, a * b, BINS * BINS)
    joint = gaussian_filter(counts.reshape(BINS, BINS), 1.0, mode="constant")
    joint = joint / joint.sum() + 1e-7
    ratio = np.log(joint / (joint.sum(0) * joint.sum(1)[:, None]))
    slope = np.diff(ratio, axis=1) * moved_range[1]
    gain = (1 - u) * slope[i, j] + u * slope[i + 1, j]
    gain[(j + v <= 0) | (j + v >= BINS - 1.01)] = 0  # outside the histogram levels cannot be told apart
    return float((joint * ratio).sum()), gain, gain**2


def _binned(levels: Floats, bounds: tuple[float, float]) -> tuple[NDArray[np.intp], Floats]:
    """Return the bin below each level, and the fraction of the way to the next."""
    bins = np.clip((levels - bounds[0]) * bounds[1], 0, BINS - 1.001)
    whole = bins.astype(np.intp)
    return whole, bins - whole


def _mean_squares(fixed: Floats, moved: Floats) -> tuple[float, Floats, Floats]:
    """Return minus the mean squared difference, and each sample's half slope and bend."""
    difference = fixed - moved
    return -float((difference**2).mean()), difference, np.ones_like(difference)
