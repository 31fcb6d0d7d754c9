"""Fits, local medians and outlines of height maps ``(Y, X)`` with gaps (NaN).

A map with a single row or column is a profile; everything here takes it as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from scipy import ndimage

FIT_AT_ONCE = 2**18  # columns: with the terms of each 12 MiB
FIT_COLUMNS = 10  # fewer columns are not fitted
OUTLIER_UM = 60.0  # further than this from its surroundings a hard voxel is not the tidemark
WIDE_UM = 2500.0  # wider than a plug, a joint is curved
BEYOND_UM = 200.0  # surroundings further than this off the plane are a cavity's floor or debris
WINDOW_UM = 300.0  # wide enough that a vascular channel (up to some 150 µm) fills less than half
BLOCK_UM = 15.0
WALL_UM = 200.0  # surface this far below its plane, reached from the rim, is the plug's side
WALL_REACH_UM = 400.0  # as far as a tilt of 15° moves the side over 1.5 mm of cartilage
RIM_UM = 50.0  # a bite into the rim narrower than twice this is an opening, a wider one is outside
JAG_UM = 10.0  # a bite narrower than twice this is none


def fit(height: np.ndarray, order: int, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fit a plane (order 1) or a quadratic surface (order 2) by weighted least squares.

    Returns
    -------
    surface : ``(Y, X)`` float32, without gaps.
    slope : change of a *plane* per column along (y, x), in units of the height.
    """
    rows, columns = height.shape
    half = max(rows, columns, 2) / 2
    y = ((np.arange(rows) - (rows - 1) / 2) / half)[:, None]
    x = ((np.arange(columns) - (columns - 1) / 2) / half)[None, :]
    terms = [np.ones((1, 1)), y, x, y**2, x * y, x**2][: 3 if order == 1 else 6]
    # normal equations: 6 x 6 for any number of columns; the pseudo-inverse copes with a single row
    normal, target = np.zeros((len(terms), len(terms))), np.zeros(len(terms))
    many = max(1, FIT_AT_ONCE // columns)
    for some in (slice(first, first + many) for first in range(0, rows, many)):
        known = np.isfinite(height[some])
        root = np.ones(np.count_nonzero(known)) if weight is None else np.sqrt(weight[some][known])
        design = np.stack([np.broadcast_to(term, height.shape)[some][known] * root for term in terms], 1)
        normal += design.T @ design
        target += design.T @ (height[some][known] * root)
    coefficients = np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ target
    surface = sum(coefficient * term for coefficient, term in zip(coefficients, terms, strict=True))
    return np.broadcast_to(surface, height.shape).astype(np.float32), coefficients[1:3] / half


def form(height: np.ndarray, voxel_um: float, fitted: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Fit a map of up to 2.5 mm as a whole, and a wider one in windows of up to 2.5 mm.

    So a block or a slice of a condyle has the form that a plug from each of its places would have. Windows
    overlap by half and are blended linearly; one with few columns counts little.

    Parameters
    ----------
    height : ``(Y, X)``, NaN where it is not known.
    voxel_um : distance of the columns in µm.
    fitted : gives the fit to a map, ``(Y, X)`` without gaps.

    Returns
    -------
    ``(Y, X)`` without gaps.
    """
    known = np.isfinite(height)
    rows, columns = (list(_windows(known.any(axis), voxel_um)) for axis in (1, 0))
    whole = fitted(height)
    if len(rows) == len(columns) == 1:
        return whole
    weight = np.full(height.shape, 1e-6)  # where no window has anything
    blended = weight * whole
    for across, share_y in rows:
        for along, share_x in columns:
            window = (across, along)
            if known[window].sum() < FIT_COLUMNS:
                continue
            share = np.outer(share_y, share_x) * known[window].mean() ** 2
            blended[window] += share * fitted(height[window])
            weight[window] += share
    return (blended / weight).astype(np.float32)


def _windows(known: np.ndarray, voxel_um: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Cut an axis into windows of up to 2.5 mm, each with how much it counts in each of its places."""
    places = np.flatnonzero(known)
    extent = np.ptp(places) + 1 if places.size else 0
    count = int(np.ceil(2 * extent * voxel_um / WIDE_UM)) - 1
    if count < 2:
        yield slice(0, len(known)), np.ones(len(known))
        return
    nodes = (places[0] + np.linspace(0, extent, count + 2)).round().astype(int)
    ends = np.concatenate([[0], nodes[1:-1], [len(known)]])  # beyond what is known the outer ones go on
    for k in range(count):
        hat = np.interp(np.arange(len(known)), nodes[1:-1], np.arange(count) == k)
        window = slice(int(ends[k]), int(ends[k + 2]))
        yield window, hat[window]


def surroundings(height: np.ndarray, voxel_um: float) -> np.ndarray:
    """Return ``(Y, X)`` the height to expect in each column from the columns around it, in µm.

    The local median over 300 µm along a robust plane (`form`). Where there is nothing around, or where what
    is around lies more than 200 µm off that plane, that of the nearest place; NaN where there is none.
    """
    block = max(1, round(BLOCK_UM / voxel_um))
    coarse = block_medians(height, block)
    plane = form(coarse, block * voxel_um, _robust_plane)
    reach = max(1, round(WINDOW_UM / 2 / (block * voxel_um)))
    local = _window_medians(coarse - plane, reach)
    unknown = ~(np.abs(local) <= BEYOND_UM)
    if unknown.all():
        return np.full(height.shape, np.nan, np.float32)
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    local = local[tuple(nearest)]
    sides = [n * block if full > 1 else n for n, full in zip(coarse.shape, height.shape, strict=True)]
    full_size = cv2.resize((local + plane).astype(np.float32), sides[::-1], interpolation=cv2.INTER_LINEAR)
    return full_size[: height.shape[0], : height.shape[1]]


def outline(found: np.ndarray, voxel_um: float) -> np.ndarray:
    """Return ``(Y, X)`` bool, the area that the `found` columns enclose.

    Holes are enclosed, and so are bites into the rim between 20 and 100 µm wide; in a profile all
    between the first and the last found column is.
    """
    if not found.any():
        return np.zeros_like(found)
    if 1 in found.shape:
        line = np.flatnonzero(found)
        enclosed = np.zeros(found.size, bool)
        enclosed[line[0] : line[-1] + 1] = True
        return enclosed.reshape(found.shape)
    radius = RIM_UM / voxel_um
    reach = int(radius) + 2
    # the plug goes on beyond the edge of the scan where it is cut by it
    padded = np.pad(found, reach, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) <= radius if not padded.all() else padded
    closed = ndimage.distance_transform_edt(grown) > radius if not grown.all() else grown
    holed = np.asarray(ndimage.binary_fill_holes(found))
    bites = ndimage.binary_fill_holes(closed[reach:-reach, reach:-reach] | found) & ~holed
    # a narrower one is the jagged edge of the plug
    wide = ndimage.distance_transform_edt(bites) > JAG_UM / voxel_um
    if wide.any():
        holed |= bites & (ndimage.distance_transform_edt(~wide) <= JAG_UM / voxel_um + 1)
    return holed


def side_wall(height: np.ndarray, voxel_um: float) -> np.ndarray:
    """Return ``(Y, X)`` bool, the columns of a map of the outer surface that lie on the plug's side.

    A tilted or tapered plug is left through its side by the columns near its rim. These are the
    columns more than 200 µm below the robust plane of the surface (`form`), within 400 µm of the
    rim and connected with it. A plug cut by the edge of the scan has no rim there.
    """
    block = max(1, round(BLOCK_UM / voxel_um))
    coarse = block_medians(height, block)
    known = np.isfinite(coarse)
    if not known.any():
        return np.zeros(height.shape, bool)
    neighbourhood = np.ones([3 if n > 1 else 1 for n in known.shape])
    enclosed = outline(known, block * voxel_um)
    rim = known & ~ndimage.binary_erosion(enclosed, neighbourhood, border_value=1)
    with np.errstate(invalid="ignore"):
        low = coarse < form(coarse, block * voxel_um, _robust_plane) - WALL_UM
    steps = max(1, round(WALL_REACH_UM / (block * voxel_um)))
    wall = ndimage.binary_dilation(rim & low, neighbourhood, iterations=steps, mask=low)
    for axis, length in enumerate(height.shape):
        wall = np.repeat(wall, block if length > 1 else 1, axis)
    return np.asarray(wall[: height.shape[0], : height.shape[1]])


def _robust_plane(coarse: np.ndarray) -> np.ndarray:
    """Return the plane of quantile regression at 0.7, by reweighting.

    What does not belong to the surface mostly lies below it (openings, side walls, wider bone). A
    quadratic would bend down to these at the rim.
    """
    weight = np.ones(coarse.shape)
    for _ in range(20):
        plane = fit(coarse, 1, weight)[0]
        residual = np.nan_to_num(coarse - plane)
        weight = np.where(residual > 0, 0.7, 0.3) / np.maximum(np.abs(residual), 5.0)
    return plane


def block_medians(height: np.ndarray, block: int) -> np.ndarray:
    """Return the median, NaN left out, of each block of columns; an axis of length 1 is kept."""
    sides = [block if n > 1 else 1 for n in height.shape]
    padded = np.pad(
        height, [(0, -n % side) for n, side in zip(height.shape, sides, strict=True)], constant_values=np.nan
    )
    rows, columns = padded.shape[0] // sides[0], padded.shape[1] // sides[1]
    blocks = padded.reshape(rows, sides[0], columns, sides[1])  # (Y, y, X, x)
    return _nan_median(blocks.transpose(0, 2, 1, 3).reshape(rows, columns, -1))


def _window_medians(values: np.ndarray, reach: int) -> np.ndarray:
    """Return the median, NaN left out, of the window of `reach` blocks around each block."""
    reaches = [reach if n > 1 else 0 for n in values.shape]
    padded = np.pad(values, [(n, n) for n in reaches], constant_values=np.nan)
    size = (2 * reaches[0] + 1, 2 * reaches[1] + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    return np.stack([_nan_median(row.reshape(row.shape[0], -1)) for row in windows])


def _nan_median(values: np.ndarray) -> np.ndarray:
    """Return the median along the last axis, NaN left out, NaN where all are."""
    ordered = np.sort(values, axis=-1)  # NaN go to the end
    count = np.isfinite(values).sum(-1)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[..., None], -1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1)[..., None], -1)[..., 0]
    return np.where(count > 0, (low + high) / 2, np.nan)
