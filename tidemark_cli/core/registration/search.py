"""Where one scan of a plug may lie on another: a global search over all mountings, on a coarse grid.

Both scans become a map of *tissue* (0 in air and marrow, 1 in cartilage and bone, whatever the stain), minus
its local mean inside the plug. What remains are marrow cavities, channels and fissures, which no two plugs
share. The axes and middles of the plugs are aligned; for every turn around the axis, upright and end for
end, the maps are correlated over all shifts at once (by FFT, masked as in Padfield 2012, Masked object
registration in the Fourier domain).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from .. import lazily
from ..anatomy.plug import find_plug
from ..errors import ContentError, about
from ..scans.volume import Volume
from .transform import Matrix, affine, moved, voxels_to_mm

sitk = lazily.imported("SimpleITK")

COARSE_UM = 25.6
STEP_DEG = 6.0  # half of it moves the wall of a plug by 52 µm, less than the width of a cavity
OVERLAP = 0.3  # least share of the plug in both fields of view
APART_DEG, APART_MM = 15.0, 0.2  # candidates nearer than this are the same
_SEARCH_STEP = 2  # coarse voxels
_SMALLEST = 64  # least samples along the longest side of a scan
# in coarse voxels:
_JOINED = 3  # half the width of gaps in the outline that are closed
_LOCAL = 4.0  # standard deviation of the local mean, 100 µm
_DETAIL = 2.4  # the same for the detail by which plugs are recognised, 60 µm
_AIR = 1.0  # percentile of the grey levels taken as air
_RINGS = 8.0  # what is constant along Z over this distance (200 µm) is taken as rings

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Grey levels and their position in space.

    Attributes
    ----------
    array : (Z, Y, X).
    to_mm : (4, 4) from voxel indices (x, y, z, 1) to mm.
    """

    array: NDArray[Any]
    to_mm: Matrix

    @property
    def voxel_mm(self) -> float:
        """Edge of the voxels in mm."""
        return float(np.linalg.norm(self.to_mm[:3, 0]))

    def points(self, indices: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the positions (N, 3) x, y, z in mm of voxels (N, 3) indexed z, y, x."""
        return moved(self.to_mm, indices[:, ::-1])


@dataclass(frozen=True)
class Plug:
    """A plug on the coarse grid.

    Attributes
    ----------
    grid : block means of the scan.
    factor : voxels of the scan along each side of a block.
    outline : (Z, Y, X) bool, the plug with its marrow and fissures.
    pattern : (Z, Y, X) float32, tissue minus its local mean; 0 outside the outline.
    detail : the same with a more local mean, and without rings, which are constant along Z.
    axis : (3,) unit vector x, y, z along the plug, towards high Z.
    middle_mm : (3,) x, y, z of its centre of mass.
    """

    grid: Grid
    factor: int
    outline: NDArray[np.bool_]
    pattern: Array
    detail: Array
    axis: NDArray[np.float64]
    middle_mm: NDArray[np.float64]


def block_means(volume: Volume, factor: int, box: tuple[slice, slice, slice] | None = None) -> Grid:
    """Return the means of blocks of `factor` voxels a side, float32, read slab by slab.

    With a `factor` of 1 it is a view of the scan. Incomplete blocks at the end of `box`, the part of the scan
    (Z, Y, X) to use, are left out.
    """
    z, y, x = box or tuple(slice(0, n) for n in volume.array.shape)
    first = np.array([x.start, y.start, z.start]) + (factor - 1) / 2
    to_mm = voxels_to_mm(volume) @ affine(factor * np.eye(3), first)
    if factor == 1:
        return Grid(volume.array[z, y, x], to_mm)
    depth, height, width = ((side.stop - side.start) // factor for side in (z, y, x))
    means = np.empty((depth, height, width), np.float32)
    for index in range(depth):
        start = z.start + index * factor
        slab = volume.array[start : start + factor, y, x][:, : height * factor, : width * factor]
        flat = slab.sum(0, dtype=np.float32)
        means[index] = flat.reshape(height, factor, width, factor).sum((1, 3)) / factor**3
    return Grid(means, to_mm)


def look(volume: Volume) -> Plug:
    """Find the plug of a scan on a grid of about 25.6 µm (finer where the scan is small).

    Raises
    ------
    ContentError
        If the scan is too small or holds no plug.
    """
    shape = volume.array.shape
    factor = max(1, min(round(COARSE_UM / volume.voxel_um), max(shape) // _SMALLEST))
    if min(shape) < 8 * factor:
        raise ContentError(
            f"{volume.path} has {' x '.join(map(str, shape))} voxels; expected a volume with a plug in it."
        )
    grid = block_means(volume, factor)
    with about(volume.path):
        level = _tissue_level(grid)
    outline = _outline(grid, level)
    if not outline.any():
        raise ContentError(
            f"{volume.path}: no plug found; expected tissue brighter than air; check the input."
        )
    axis, middle_mm = _axis(grid, outline)
    tissue = _tissue(grid, level)
    pattern, detail = (_pattern(tissue, outline, reach) for reach in (_LOCAL, _DETAIL))
    return Plug(grid, factor, outline, pattern, _without_rings(detail, outline), axis, middle_mm)


def find_candidates(
    pta: Plug, ca4: Plug, count: int, progress: Callable[[int, int], None] | None = None
) -> list[Matrix]:
    """Search all mountings.

    Parameters
    ----------
    count : number of candidates, which differ by more than 15° or 0.2 mm.
    progress : called with (done, total) turns.

    Returns
    -------
    At most `count` matrices (4, 4) from points in mm of PTA to points of CA4+, the most likely first, the
    right one off by up to some 5° and 60 µm.
    """
    correlate = _Correlator(pta, ca4, _SEARCH_STEP * pta.grid.voxel_mm)
    ends = np.eye(3), np.diag([1.0, -1.0, -1.0])
    around = Rotation.from_euler("z", np.arange(0, 360, STEP_DEG)[:, None], degrees=True).as_matrix()
    turns = [end @ turn for end in ends for turn in around]
    found: list[tuple[float, Matrix]] = []
    for number, turn in enumerate(turns, 1):
        found.append(correlate(turn))
        if progress:
            progress(number, len(turns))
    chosen: list[Matrix] = []
    for _, matrix in sorted(found, key=lambda one: -one[0]):
        if all(_apart(matrix, other, pta.middle_mm) for other in chosen):
            chosen.append(matrix)
    return chosen[:count]


class _Correlator:
    """Correlates the turned pattern of CA4+ with that of PTA over all shifts."""

    def __init__(self, pta: Plug, ca4: Plug, step_mm: float) -> None:
        self.pta, self.ca4, self.step_mm = pta, ca4, step_mm
        self.pta_frame, self.ca4_frame = _frame(pta.axis), _frame(ca4.axis)
        self.still = _extent(pta, self.pta_frame, step_mm)
        reach = _extent(ca4, self.ca4_frame, step_mm)
        self.moved = (reach[0], max(reach[1:]), max(reach[1:]))  # it is turned around Z
        self.shape = [fft.next_fast_len(a + b - 1, True) for a, b in zip(self.still, self.moved, strict=True)]
        # smoothed once, not for every turn
        self.pattern, self.weight = (_smoothed(f, _SEARCH_STEP / 2) for f in (ca4.pattern, ca4.outline))
        weight = self._sample(pta, _smoothed(pta.outline, _SEARCH_STEP / 2), self.pta_frame, self.still)
        pattern = self._sample(pta, _smoothed(pta.pattern, _SEARCH_STEP / 2), self.pta_frame, self.still)
        pattern *= weight
        self.power = float((pattern**2).sum())
        self.spectra = [np.conj(fft.rfftn(f, self.shape)) for f in (pattern, pattern**2, weight)]

    def __call__(self, turn: NDArray[np.float64]) -> tuple[float, Matrix]:
        """Return the highest correlation for a turn (3, 3) in the plugs' own frames, and its matrix."""
        rotation = self.ca4_frame @ turn
        pattern, weight = (
            self._sample(self.ca4, field, rotation, self.moved) for field in (self.pattern, self.weight)
        )
        common, still, turned = (
            fft.irfftn(spectrum * fft.rfftn(field, self.shape), self.shape)
            for spectrum, field in zip(self.spectra, (pattern, weight, pattern**2), strict=True)
        )
        still = np.maximum(still, OVERLAP * self.power)
        turned = np.maximum(turned, OVERLAP * float((pattern**2).sum()))
        score = common / np.sqrt(still * turned + 1e-12)
        place = np.unravel_index(int(score.argmax()), score.shape)
        lag = [p - n if p >= m else p for p, n, m in zip(place, self.shape, self.moved, strict=True)]
        shift = np.array(lag) + (np.array(self.still) - self.moved) / 2  # between the grids' middles
        middle = self.ca4.middle_mm + rotation @ shift[::-1] * self.step_mm
        linear = rotation @ self.pta_frame.T
        return float(score[place]), affine(linear, middle - linear @ self.pta.middle_mm)

    def _sample(
        self, plug: Plug, field: Array, rotation: NDArray[np.float64], shape: tuple[int, ...]
    ) -> Array:
        """Sample a field of a plug around its middle along the axes of `rotation` (columns x, y, z)."""
        inverse = np.linalg.inv(plug.grid.to_mm)
        linear = (inverse[:3, :3] @ rotation * self.step_mm)[::-1, ::-1]
        middle = moved(inverse, plug.middle_mm)[::-1]
        offset = middle - linear @ ((np.array(shape) - 1) / 2)
        return np.asarray(ndimage.affine_transform(field, linear, offset, shape, order=1), np.float32)


def otsu_levels(array: NDArray[Any]) -> tuple[float, float]:
    """Return Otsu's two grey levels between three classes, such as air, cartilage and bone in CA4+."""
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(2)
    otsu.SetNumberOfHistogramBins(256)
    otsu.Execute(sitk.GetImageFromArray(array))
    low, high = otsu.GetThresholds()
    return float(low), float(high)


def _tissue_level(grid: Grid) -> float:
    """Return a grey level between air (and marrow) and the palest tissue."""
    smooth = _smoothed(grid.array, 1.0)
    darkest, _ = otsu_levels(smooth)
    level = find_plug(grid.array, grid.voxel_mm * 1000).tissue_level
    # below 1 %, wax around the plug hid the air from `find_plug`
    return darkest if (smooth < level).mean() < 0.01 else min(level, darkest)


def _outline(grid: Grid, level: float) -> NDArray[np.bool_]:
    """Return the largest body of tissue, with gaps closed and each slice filled."""
    tissue = ndimage.binary_opening(_smoothed(grid.array, 0.7) > level)
    labels, count = ndimage.label(tissue)
    if count > 1:
        tissue = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    grown = ndimage.distance_transform_edt(~np.pad(tissue, _JOINED)) <= _JOINED
    closed = (ndimage.distance_transform_edt(grown) > _JOINED)[(slice(_JOINED, -_JOINED),) * 3]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed])


def _tissue(grid: Grid, level: float) -> Array:
    """Return 0 in air and 1 from twice as far above air as `level` on, linear between."""
    air = np.float32(np.percentile(grid.array, _AIR))  # not 0: levels may be shifted or signed
    return np.asarray(np.clip((grid.array - air) / (2 * (level - air)), 0, 1), np.float32)


def _pattern(tissue: Array, outline: NDArray[np.bool_], reach: float) -> Array:
    """Return tissue minus its local mean inside the outline."""
    inside = outline.astype(np.float32)
    mean = _smoothed(tissue * inside, reach) / np.maximum(_smoothed(inside, reach), 0.05)
    return np.asarray((_smoothed(tissue, 0.7) - mean) * inside, np.float32)


def _without_rings(detail: Array, outline: NDArray[np.bool_]) -> Array:
    """Remove what is constant along Z: rings, but also a channel that runs far along Z."""
    inside = outline.astype(np.float32)
    along, weight = (ndimage.gaussian_filter1d(field, _RINGS, axis=0) for field in (detail, inside))
    return np.asarray((detail - along / np.maximum(weight, 0.05)) * inside, np.float32)


def _smoothed(array: NDArray[Any], sigma: float) -> Array:
    return np.asarray(ndimage.gaussian_filter(array.astype(np.float32), sigma, mode="nearest"), np.float32)


def _axis(grid: Grid, outline: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the direction (x, y, z) of the line through the middles of the slices, and the middle in mm."""
    area = outline.sum((1, 2)).astype(float)
    slices = np.flatnonzero(area > 0.5 * np.percentile(area[area > 0], 75))
    middles = np.array([np.argwhere(outline[z]).mean(0) for z in slices])  # y, x
    slopes = np.polyfit(slices, middles, 1)[0] if len(slices) > 1 else np.zeros(2)
    axis = grid.to_mm[:3, :3] @ np.array([slopes[1], slopes[0], 1.0])
    return axis / np.linalg.norm(axis), grid.points(np.argwhere(outline)).mean(0)


def _frame(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a right-handed frame, columns x, y, z, with z along `axis`."""
    x = np.cross(np.eye(3)[np.argsort(abs(axis))[1]], axis)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(axis, x), axis], 1)


def _extent(plug: Plug, frame: NDArray[np.float64], step_mm: float) -> tuple[int, int, int]:
    """Return the shape (Z, Y, X) of a grid around the plug's middle that holds all of it."""
    reach = abs((plug.grid.points(np.argwhere(plug.outline)) - plug.middle_mm) @ frame)
    x, y, z = (2 * int(np.ceil(r / step_mm)) + 3 for r in reach.max(0))
    return z, y, x


def _apart(one: Matrix, other: Matrix, middle_mm: NDArray[np.float64]) -> bool:
    cosine = (np.trace(one[:3, :3].T @ other[:3, :3]) - 1) / 2
    apart_mm = np.linalg.norm(moved(one, middle_mm) - moved(other, middle_mm))
    return bool(np.degrees(np.arccos(np.clip(cosine, -1, 1))) > APART_DEG or apart_mm > APART_MM)
