"""Rigid registration of the CA4+ scan of a plug onto its PTA scan, and the hard-tissue mask it gives.

Compared on phantom pairs: SimpleITK's Mattes mutual information from the right start (regular step gradient
descent, three levels) took 20 to 60 s and ended 0.1 to 9 voxels off; the steps of `alignment` take some 5 s
for 0.1 to 0.6. With the tidemark's edge left out (grey clipped above cartilage) some improve, others worsen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from .. import lazily
from ..anatomy.mask import clean_mask
from ..scans.volume import Volume
from .refine import Metric, interpolate, refine, within
from .search import Grid, Plug, block_means, find_candidates, look, otsu_levels
from .transform import Matrix, moved, voxels_to_mm

sitk = lazily.imported("SimpleITK")

TRUSTED = 0.4  # between wrong and right pairs of phantoms, as tests/benchmarks/bench_register.py shows
CANDIDATES = 3
_FEW_SAMPLES, _SAMPLES = 40_000, 200_000  # on the coarse grid, on the finer ones
_INNER = 3  # coarse voxels from the outline inwards: any two plugs have the outline in common
_MARGIN = 2  # coarse voxels around the outline whose air is compared, too
_FINER = (2, 4)  # parts of the coarse blocks that the finer ones are: 12.8 and 6.4 µm
_OVERLAP = 0.2  # share of the plug that the quality needs
_SLAB = 64  # slices
_OTSU_VOXELS = 4 * 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Registration:
    """How a CA4+ scan lies on the PTA scan of the same plug.

    Attributes
    ----------
    matrix : (4, 4) rigid, from points (x, y, z, 1) in mm of PTA to points of CA4+, as ITK resamples CA4+ onto
        PTA.
    quality : -1 to 1, the correlation of the two scans' marrow cavities, channels and fissures: of their maps
        of tissue less its local mean and less what stays the same along Z (rings), on the 25.6 µm grid, at
        least 75 µm inside the plug. Different plugs have about 0.
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
    pta, ca4 : volumes (Z, Y, X) of any grey levels, each with its voxel size; shapes and fields of view may
        differ.
    metric : what the refinement maximises: mutual information ("mi"), or minus the mean squared difference
        ("mse") as in the paper.
    initial : (4, 4) to refine, instead of the search.
    progress : called with steps done and steps in all.

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
    # first smoothed, so that what is two coarse voxels off is drawn in
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
    """Return the correlation, -1 to 1, of the patterns inside two plugs laid on each other by `matrix`.

    Where less than a fifth of the plug lies in both scans, or nothing varies in it, it is 0.
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
    progress : called with slices done and slices in all.

    Returns
    -------
    (Z, Y, X) of PTA's shape in the dtype of CA4+, rounded where that is integer; the darkest grey level of
    CA4+ beyond its field of view.
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
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(to_ca4[:3, :3].ravel().tolist())
        first = to_ca4[:3, 2] * start + to_ca4[:3, 3]
        transform.SetTranslation((first - (x.start, y.start, z.start)).tolist())
        frame = [0.0] * 3, [1.0] * 3, np.eye(3).ravel().tolist()  # all in voxels
        where = slab.shape[::-1], transform, sitk.sitkLinear, *frame, darkest
        image = sitk.Resample(part, *where, sitk.sitkFloat32)
        levels = sitk.GetArrayViewFromImage(image)
        slab[:] = levels if slab.dtype.kind == "f" else np.rint(levels)  # ITK would cut the fraction off
    return out


def hard_tissue(
    registered: NDArray[Any], voxel_um: float, threshold: float | None = None
) -> NDArray[np.uint8]:
    """Threshold a registered CA4+ scan, fill pinholes and remove specks.

    What is left out and filled is told at `clean_mask`: enclosed holes smaller than a ball 40 µm wide (bone
    under CA4+ has dark specks) and islands smaller than one 98 µm wide.

    Parameters
    ----------
    registered : (Z, Y, X) grey levels.
    threshold : hard tissue is above it; None takes `otsu_level`.

    Returns
    -------
    (Z, Y, X) uint8, 0 or 255; all 0 where nothing is above the threshold.
    """
    level = otsu_level(registered) if threshold is None else threshold
    mask = np.empty(registered.shape, np.uint8)
    for plane, out in zip(registered, mask, strict=True):
        np.multiply(plane > level, 255, out=out, casting="unsafe")
    return clean_mask(mask, 0.5, voxel_um, out=mask)


def otsu_level(registered: NDArray[Any]) -> float:
    """Return the grey level between soft and hard tissue: the upper of Otsu's two between three classes.

    Air, cartilage and bone are three; one threshold would part air from tissue where bone is scarce. From at
    most some four million voxels.
    """
    step = max(1, math.ceil((registered.size / _OTSU_VOXELS) ** (1 / 3)))
    some = np.ascontiguousarray(registered[::step, ::step, ::step])
    if some.min() == some.max():
        return float(some.max())
    return otsu_levels(some)[1]


def _blurred(plug: Plug, sigma: float) -> Grid:
    return Grid(gaussian_filter(plug.grid.array, sigma), plug.grid.to_mm)


def _samples(plug: Plug, near: NDArray[np.intp], fine: Grid, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return voxels (N, 3) of a finer grid, drawn at random near the plug."""
    count = min(_SAMPLES, len(near) * round((plug.grid.voxel_mm / fine.voxel_mm) ** 3))
    drawn = near[rng.integers(len(near), size=count)] + rng.uniform(-0.5, 0.5, (count, 3))
    to_fine = np.linalg.inv(fine.to_mm) @ plug.grid.to_mm
    indices = np.rint(moved(to_fine, drawn[:, ::-1])).astype(np.intp)[:, ::-1]
    return indices[np.all((indices >= 0) & (indices < fine.array.shape), axis=1)]


def _box(volume: Volume, plug: Plug) -> tuple[slice, slice, slice]:
    """Return the part (Z, Y, X) of the scan in which the plug and the air around it lie."""
    sides = []
    for axis, length in enumerate(volume.array.shape):
        filled = np.flatnonzero(plug.outline.any(tuple({0, 1, 2} - {axis})))
        start = max(0, (int(filled[0]) - _MARGIN - 1) * plug.factor)
        stop = (int(filled[-1]) + _MARGIN + 2) * plug.factor
        sides.append(slice(start, length if stop + plug.factor > length else stop))
    return sides[0], sides[1], sides[2]


def _seen(
    to_ca4: Matrix, start: int, shape: tuple[int, ...], source: tuple[int, ...]
) -> tuple[slice, slice, slice] | None:
    """Return the part (Z, Y, X) of CA4+ that a slab of PTA's frame looks at, or None."""
    ends = [(start - 1, start + shape[0]), (-1, shape[1]), (-1, shape[2])]
    corners = np.array([(x, y, z, 1) for z in ends[0] for y in ends[1] for x in ends[2]])
    places = (corners @ to_ca4.T)[:, 2::-1]  # z, y, x
    low = np.maximum(np.floor(places.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(places.max(0)).astype(int) + 2, source)
    if (high <= low).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x
