"""Rigid registration of the CA4+ scan of a plug onto its PTA scan, and the hard-tissue mask from it.

On phantom pairs, SimpleITK's Mattes mutual information from the right start (regular step gradient descent,
three levels) took 20 to 60 s and ended 0.1 to 9 voxels off; `refine` takes some 5 s and ends 0.1 to 0.6 off.
With grey levels clipped above cartilage, so without the tidemark's edge, some pairs improve, others worsen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects, gaussian_filter

from .. import lazily
from ..anatomy.mask import clean_mask
from ..scans.volume import Volume
from .refine import Metric, interpolate, refine, within
from .search import Grid, Plug, block_means, find_candidates, look, otsu_levels
from .transform import Matrix, moved, voxels_to_mm

sitk = lazily.imported("SimpleITK")

TRUSTED = 0.4  # between wrong and right pairs of phantoms, see tests/benchmarks/bench_register.py
CANDIDATES = 3
_FEW_SAMPLES, _SAMPLES = 40_000, 200_000  # on the coarse grid, on the finer ones
_INNER = 3  # coarse voxels inwards from the outline, which any two plugs have in common
_MARGIN = 2  # coarse voxels of air around the outline that are compared too
_FINER = (2, 4)  # the finer blocks are a half and a quarter as wide: 12.8 and 6.4 µm
_OVERLAP = 0.2  # least share of the plug in both scans for a quality
_SLAB = 64  # slices
_OTSU_VOXELS = 4 * 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Registration:
    """How a CA4+ scan lies on the PTA scan of the same plug.

    Attributes
    ----------
    matrix : (4, 4) rigid, from points (x, y, z, 1) in mm of PTA to points of CA4+, as ITK resamples.
    quality : -1 to 1, the correlation of marrow cavities, channels and fissures in both scans, at least 75 µm
        inside the plug (`agreement`); about 0 for different plugs.
    trusted : whether `quality` is at least 0.4.
    """

    matrix: Matrix
    quality: float
    trusted: bool


def register(
    pta: Volume,
    ca4: Volume,
    *,
    metric: Metric = "mi",
    initial: Matrix | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Find how a CA4+ scan lies on the PTA scan of the same plug, however it was mounted.

    Parameters
    ----------
    pta, ca4 : (Z, Y, X) of any grey levels; shapes, voxel sizes and fields of view may differ.
    metric : the refinement maximises mutual information ("mi"), or minimises the mean squared difference as
        in the paper ("mse").
    initial : (4, 4) to refine instead of searching.
    progress : called with (done, total) steps.

    Raises
    ------
    ContentError
        If a scan is too small or holds no plug.
    """
    still, other = look(pta), look(ca4)
    starts = [initial] if initial is not None else find_candidates(still, other, CANDIDATES, progress)
    near = np.argwhere(binary_dilation(still.outline, iterations=_MARGIN))  # (N, 3) z, y, x
    rng = np.random.default_rng(0)
    few = near[rng.permutation(len(near))[:_FEW_SAMPLES]]
    # smoothed first, to catch starts that are two coarse voxels off
    found = [refine(_blurred(still, 1.5), few, _blurred(other, 1.5), start, metric) for start in starts]
    matrix = max(found, key=lambda one: agreement(still, other, one))
    matrix = refine(_blurred(still, 0.7), few, _blurred(other, 0.7), matrix, metric)
    boxes = _box(pta, still), _box(ca4, other)
    for factor in sorted({max(1, round(still.factor / part)) for part in _FINER}, reverse=True):
        grids = [block_means(v, factor, box) for v, box in zip((pta, ca4), boxes, strict=True)]
        matrix = refine(grids[0], _samples(still, near, grids[0], rng), grids[1], matrix, metric)
    quality = agreement(still, other, matrix)
    return Registration(matrix, quality, quality >= TRUSTED)


def agreement(pta: Plug, ca4: Plug, matrix: Matrix) -> float:
    """Return the correlation, -1 to 1, of the detail inside two plugs under `matrix`.

    It is 0 if less than a fifth of the plug lies in both scans, or nothing varies there.
    """
    inner = distance_transform_edt(np.pad(pta.outline, 1))[1:-1, 1:-1, 1:-1] > _INNER
    indices = np.argwhere(inner)
    places = moved(np.linalg.inv(ca4.grid.to_mm) @ matrix, pta.grid.points(indices)).T[::-1]
    inside = within(places, ca4.outline.shape)
    if inside.sum() < max(_OVERLAP * len(indices), 2):
        return 0.0
    ours = pta.detail[tuple(indices[inside].T)]
    theirs = interpolate(ca4.detail, places[:, inside])[0]
    if min(ours.std(), theirs.std()) == 0:
        return 0.0
    return float(np.corrcoef(ours, theirs)[0, 1])


def resample(ca4: Volume, matrix: Matrix, pta: Volume, progress: Progress | None = None) -> NDArray[Any]:
    """Resample a CA4+ scan into the frame of PTA, linearly.

    Parameters
    ----------
    matrix : (4, 4), points in mm of `pta` to points of `ca4`.
    progress : called with (done, total) slices.

    Returns
    -------
    (Z, Y, X) of PTA's shape in the dtype of CA4+, rounded if integer; outside the field of view of CA4+, its
    darkest grey level.
    """
    source, shape = ca4.array, pta.array.shape
    to_ca4 = np.linalg.inv(voxels_to_mm(ca4)) @ matrix @ voxels_to_mm(pta)  # voxel (x, y, z) to voxel
    darkest = float(source.min())
    out = np.full(shape, darkest, source.dtype)
    for start in range(0, shape[0], _SLAB):
        slab = out[start : start + _SLAB]
        box = _seen(to_ca4, start, slab.shape, source.shape)
        if progress:
            progress(start, shape[0])
        if box is None:
            continue
        z, y, x = box
        part = sitk.GetImageFromArray(np.ascontiguousarray(source[z, y, x]))
        shift = to_ca4[:3, 2] * start + to_ca4[:3, 3] - (x.start, y.start, z.start)
        transform = sitk.AffineTransform(to_ca4[:3, :3].ravel().tolist(), shift.tolist())
        frame = [0.0] * 3, [1.0] * 3, np.eye(3).ravel().tolist()  # all in voxels
        grid = slab.shape[::-1], transform, sitk.sitkLinear, *frame, darkest
        image = sitk.Resample(part, *grid, sitk.sitkFloat32)  # named: the view does not keep it alive
        levels = sitk.GetArrayViewFromImage(image)
        slab[:] = levels if slab.dtype.kind == "f" else np.rint(levels)  # ITK would truncate
    return out


def hard_tissue(
    registered: NDArray[Any], voxel_um: float, threshold: float | None = None
) -> NDArray[np.uint8]:
    """Threshold a registered CA4+ scan, fill pinholes and remove specks (`clean_mask`).

    Parameters
    ----------
    registered : (Z, Y, X) grey levels.
    threshold : hard tissue is above it; None is `otsu_level`.

    Returns
    -------
    (Z, Y, X) uint8, 0 or 255; all 0 if nothing is above the threshold.
    """
    level = otsu_level(registered) if threshold is None else threshold
    mask = np.empty(registered.shape, np.uint8)
    for plane, out in zip(registered, mask, strict=True):
        np.multiply(plane > level, 255, out=out, casting="unsafe")
    return clean_mask(mask, 0.5, voxel_um, out=mask)


def otsu_level(registered: NDArray[Any]) -> float:
    """Return the grey level between soft and hard tissue, from at most some four million voxels.

    It is the upper one of Otsu's two between air, cartilage and bone; where bone is scarce, a single one
    would separate air from tissue.
    """
    step = max(1, math.ceil((registered.size / _OTSU_VOXELS) ** (1 / 3)))
    some = np.ascontiguousarray(registered[::step, ::step, ::step])
    if some.min() == some.max():
        return float(some.max())
    return otsu_levels(some)[1]


def _blurred(plug: Plug, sigma: float) -> Grid:
    return Grid(gaussian_filter(plug.grid.array, sigma), plug.grid.to_mm)


def _samples(plug: Plug, near: NDArray[np.intp], fine: Grid, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw voxels (N, 3) of a finer grid at random near the plug."""
    count = min(_SAMPLES, len(near) * round((plug.grid.voxel_mm / fine.voxel_mm) ** 3))
    drawn = near[rng.integers(len(near), size=count)] + rng.uniform(-0.5, 0.5, (count, 3))
    to_fine = np.linalg.inv(fine.to_mm) @ plug.grid.to_mm
    indices = np.rint(moved(to_fine, drawn[:, ::-1])).astype(np.intp)[:, ::-1]
    return indices[np.all((indices >= 0) & (indices < fine.array.shape), axis=1)]


def _box(volume: Volume, plug: Plug) -> tuple[slice, slice, slice]:
    """Return the part (Z, Y, X) of the scan that holds the plug and the air around it."""
    sides = []
    for filled, length in zip(find_objects(plug.outline.view(np.uint8))[0], volume.array.shape, strict=True):
        start = max(0, (filled.start - _MARGIN - 1) * plug.factor)
        stop = (filled.stop + _MARGIN + 1) * plug.factor
        sides.append(slice(start, length if stop + plug.factor > length else stop))
    return sides[0], sides[1], sides[2]


def _seen(
    to_ca4: Matrix, start: int, shape: tuple[int, ...], source: tuple[int, ...]
) -> tuple[slice, slice, slice] | None:
    """Return the part (Z, Y, X) of CA4+ under a slab of PTA's frame, or None."""
    ends = [(start - 1, start + shape[0]), (-1, shape[1]), (-1, shape[2])]
    corners = np.array([(x, y, z, 1) for z in ends[0] for y in ends[1] for x in ends[2]])
    places = (corners @ to_ca4.T)[:, 2::-1]  # z, y, x
    low = np.maximum(np.floor(places.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(places.max(0)).astype(int) + 2, source)
    if (high <= low).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x
