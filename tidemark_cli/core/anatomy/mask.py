"""From probabilities to a clean mask of the hard tissue."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cc3d
import numpy as np
from scipy import ndimage

from ..arrays import extent, on_disk, sampled
from .surface import last_hard

ISLAND_UM3 = 5e5  # a ball 98 µm wide
ISLAND_UM2 = 2.5e3  # in a single slice: a disc 56 µm wide
ISLAND_SHARE = 0.05  # an island is small beside the mainland, too
PINHOLE_UM3 = 3.4e4  # a ball 40 µm wide
PINHOLE_UM2 = 1.25e3  # in a single slice: a disc 40 µm wide
CAP_GAP_UM = 200.0  # look for cartilage this far under a false piece on its surface
CAP_COVER_UM = 100.0  # cartilage over a real piece
CAP_FILLED = 0.7  # share of it that is tissue: chondrons and fissures are not, marrow is mostly empty
CAP_TISSUE_UM = 500.0  # or so much soft tissue anywhere under it: nothing but cartilage is so thick
CAP_PLATE = 0.75  # share of the bone's columns that a plate is over, but no piece within the cartilage
CAP_VOXELS = 8 * 2**20  # look for caps in at most this many voxels
ISLAND_CELLS = 16 * 2**20  # look for islands in at most this many voxels, or cells of some
LABEL_VOXELS = 32 * 2**20  # look for pinholes in at most this many at once: 128 MiB of labels
THREADS = 2  # that look for pinholes, each in a part


def clean_mask(
    probability: np.ndarray, threshold: float, voxel_um: float, out: np.ndarray | None = None
) -> np.ndarray:
    """Threshold probabilities and remove what is too small to be hard tissue or a hole in it.

    An *island* (26-connected) goes when it is smaller than 5e5 µm³ **and** than 5 % of the largest
    piece. A subchondral plate may be under 40 µm thick and fall apart into separate pieces, but
    these are wide: 40 µm x 112 µm x 112 µm is kept. Specks in cartilage and crumbs in the marrow
    are smaller in all directions. In a single slice (an axis of length 1) the limit is 2500 µm²,
    40 µm x 63 µm.

    A *pinhole* (6-connected background enclosed on all sides) is filled when it is smaller than
    3.4e4 µm³ (in a slice 1250 µm²), a ball (disc) 40 µm wide: lacunae and noise are, the pores and
    channels of the plate (55 to 89 µm) stay open.

    Parameters
    ----------
    probability : ``(Z, Y, X)`` uint8, 255 = surely hard tissue; read only.
    threshold : a voxel is hard when ``probability / 255 > threshold``, strictly; 0 to 1.
    voxel_um : voxel size in µm.
    out : where to put the mask, ``(Z, Y, X)`` uint8 of zeros, perhaps a part of a larger array; by default a
        new array.

    Returns
    -------
    ``(Z, Y, X)`` uint8, 0 or 255; all 0 where nothing exceeds the threshold. Beside this array, at
    most half of its size and 0.5 GB are held, more with voxels under 0.5 µm. Where the hard tissue
    spans more than 16 million voxels, islands are found at half the resolution: what lies within
    two voxels counts as connected. From 128 million on it is a third, from 432 million on a
    quarter, and so on.

    Raises
    ------
    ValueError
        If `probability` is not a three-dimensional uint8 array or `threshold` not within 0 to 1.
    """
    if probability.dtype != np.uint8 or probability.ndim != 3:
        found = f"{probability.dtype} of shape {probability.shape}"
        raise ValueError(f"Probabilities must be uint8 (Z, Y, X); found {found}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"The threshold must lie within 0 to 1; found {threshold}.")
    mask = np.zeros(probability.shape, np.uint8) if out is None else out
    inner = _threshold(probability, threshold, mask)
    if inner is None:
        return mask
    if 1 in mask.shape:
        island, pinhole = ISLAND_UM2 / voxel_um**2, PINHOLE_UM2 / voxel_um**2
    else:
        island, pinhole = ISLAND_UM3 / voxel_um**3, PINHOLE_UM3 / voxel_um**3
    _remove_islands(mask[inner], island)
    _fill_pinholes(mask[inner], pinhole)
    return mask


def drop_caps(mask: np.ndarray, scan: np.ndarray, tissue_level: float, voxel_um: float) -> None:
    """Clear, in place, pieces that lie on, over or in the cartilage instead of under it.

    A brightly stained articular surface can look like bone to a network, and so can a film over it, a line
    drawn above it in a picture, or a part of the cartilage. A *cap* is a piece, not the largest, that in the
    median over its columns has soft tissue in 70 % of the 200 µm below it, or 500 µm of it anywhere below,
    and less than 100 µm of tissue above it. A real piece of the plate has the whole cartilage above it, and
    marrow, or hard tissue, below. Pieces with 500 µm of soft tissue between them and the largest lie within
    the cartilage, whatever is above them, if all together are over at most three quarters as many columns as
    the largest: a plate over marrow as grey as tissue is over nearly all of them, in fragments, too.

    Parameters
    ----------
    mask : ``(Z, Y, X)`` uint8, 0 or 255, bone first; looked at on a grid of at most 8 million voxels.
    scan : ``(Z, Y, X)``, the grey levels of the same voxels.
    tissue_level : grey level that separates air and marrow from tissue.
    voxel_um : voxel size in µm.
    """
    step = max(1, math.ceil((mask.size / CAP_VOXELS) ** (1 / 3)))
    grid = (slice(None, None, step),) * 3
    hard = sampled(mask, *grid) > 0
    labels = _pieces(hard, 26)
    sizes = np.bincount(labels.ravel())
    if len(sizes) < 3:  # background and one piece
        return
    tissue = sampled(scan, *grid) > tissue_level
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    largest = int(1 + sizes[1:].argmax())
    others = [(piece, box) for piece, box in enumerate(boxes) if piece not in (0, largest)]
    um = step * voxel_um
    within = _within_cartilage(labels, tissue, others, largest, um)
    for piece, (z, y, x) in others:
        if piece in within or _is_cap(labels[:, y, x], tissue[:, y, x], piece, um):
            # one cell more on each side: the piece may begin between the grid's samples
            box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in (z, y, x))
            cap = ndimage.binary_dilation(labels[box] == piece, np.ones((3, 3, 3), bool))
            part = mask[tuple(slice(side.start * step, side.stop * step) for side in box)]
            for number, plane in enumerate(part):
                clear = cap[number // step].repeat(step, 0).repeat(step, 1)
                plane[clear[: plane.shape[0], : plane.shape[1]]] = 0


def _within_cartilage(
    labels: np.ndarray,
    tissue: np.ndarray,
    others: list[tuple[int, tuple[slice, slice, slice]]],
    largest: int,
    voxel_um: float,
) -> set[int]:
    """Return which pieces, of those with their boxes, lie high above the largest; none if over most of it."""
    high, over = set(), np.zeros(labels.shape[1:], bool)
    for piece, (_, y, x) in others:
        columns, found, soft, bottom = _columns_of(labels[:, y, x], tissue[:, y, x], piece)
        height = np.arange(len(labels))[:, None]
        beneath = (found == largest) & (height < bottom)
        roof = last_hard(beneath)
        between = soft & (found == 0) & (roof >= 0) & (height > roof) & (height < bottom)
        if _thickness_um(between, voxel_um) >= CAP_TISSUE_UM:
            high.add(piece)
            over[y, x] |= columns
    plate = np.count_nonzero(over) > CAP_PLATE * np.count_nonzero((labels == largest).any(axis=0))
    return set() if plate else high


def _is_cap(labels: np.ndarray, tissue: np.ndarray, piece: int, voxel_um: float) -> bool:
    """Tell whether `piece` lies on or over cartilage; ``(Z, Y, X)``, bone first."""
    _, found, soft, bottom = _columns_of(labels, tissue, piece)
    height = np.arange(len(labels))[:, None]
    top = last_hard(found == piece)
    reach = max(1, round(CAP_GAP_UM / voxel_um))
    under = soft & (found == 0) & (height < bottom)
    near = under & (height >= bottom - reach)
    cover = soft & (height > top)
    on_cartilage = np.median(near.sum(axis=0)) >= CAP_FILLED * reach
    over_cartilage = _thickness_um(under, voxel_um) >= CAP_TISSUE_UM
    return bool((on_cartilage or over_cartilage) and _thickness_um(cover, voxel_um) < CAP_COVER_UM)


def _columns_of(
    labels: np.ndarray, tissue: np.ndarray, piece: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the columns (Y, X) that a piece is over, their labels and tissue (Z, columns), its bottom."""
    columns = (labels == piece).any(axis=0)
    found = labels[:, columns]
    return columns, found, tissue[:, columns], (found == piece).argmax(axis=0)


def _thickness_um(voxels: np.ndarray, voxel_um: float) -> float:
    """Return how much of its columns these voxels ``(Z, columns)`` fill, in the median."""
    return float(np.median(voxels.sum(axis=0))) * voxel_um


def _threshold(
    probability: np.ndarray, threshold: float, mask: np.ndarray
) -> tuple[slice, slice, slice] | None:
    """Put 255 into `mask` where ``probability / 255 > threshold``; return the box round it, None if empty."""
    levels = np.flatnonzero(np.arange(256) / 255 > threshold)
    least = int(levels[0]) if levels.size else 256
    sides = [np.zeros(length, bool) for length in mask.shape]
    for number, (plane, out) in enumerate(zip(probability, mask, strict=True)):
        hard = plane >= least
        lines = hard.any(axis=1)
        if lines.any():
            rows = extent(lines)
            # nothing is written where all is 0: memory that was never written to takes no room
            np.multiply(hard[rows], np.uint8(255), out=out[rows])
            sides[0][number] = True
            sides[1] |= lines
            sides[2] |= hard[rows].any(axis=0)
    if not sides[0].any():
        return None
    z, y, x = map(extent, sides)
    return z, y, x


def _remove_islands(mask: np.ndarray, smallest: float) -> None:
    """Clear, in place, the pieces of less than `smallest` voxels and less than 5 % of the largest."""
    factor = math.ceil((mask.size / ISLAND_CELLS) ** (1 / 3))
    counts = _pooled(mask, factor)
    labels = _pieces(counts > 0, 26)
    sizes = _sizes(labels, counts)
    gone = sizes < min(smallest, ISLAND_SHARE * sizes[1:].max())
    gone[0] = False
    if not gone.any():
        return
    for index, plane in enumerate(labels):
        clear = np.repeat(np.repeat(gone[plane], factor, 0), factor, 1)[: mask.shape[1], : mask.shape[2]]
        mask[index * factor : (index + 1) * factor, clear] = 0


def _pieces(binary: np.ndarray, connectivity: Literal[6, 26]) -> np.ndarray:
    """Number the connected pieces of ``(Z, Y, X)`` from 1; 0 is background."""
    if sorted(binary.shape)[1] == 1:  # cc3d 4.1.1 fails on some single lines of voxels
        return np.asarray(ndimage.label(binary)[0], np.uint32)
    labels: np.ndarray = cc3d.connected_components(binary, connectivity=connectivity, binary_image=True)
    return labels


def _pooled(mask: np.ndarray, factor: int) -> np.ndarray:
    """Return the number of foreground voxels in each cell of `factor` voxels a side."""
    counts = np.zeros([math.ceil(n / factor) for n in mask.shape], np.min_scalar_type(factor**3))
    for z, plane in enumerate(mask):
        for y, x in np.ndindex(factor, factor):
            part = plane[y::factor, x::factor]
            counts[z // factor, : part.shape[0], : part.shape[1]] += part & 1
    return counts


def _fill_pinholes(mask: np.ndarray, largest: float) -> None:
    """Fill, in place, enclosed background of less than `largest` voxels."""
    # a pinhole is compact: one that reaches over more slices than this is a channel
    reach = math.ceil(1.5 * largest ** (1 / 3)) if 1 not in mask.shape else max(mask.shape)

    def fill(tile: tuple[slice, slice, slice]) -> None:
        labels = _pieces(sampled(mask, *tile) == 0, 6)
        small = _sizes(labels) < largest
        small[0] = False
        for axis, length in enumerate(labels.shape):
            if length > 1:
                small[np.unique(labels.take((0, -1), axis))] = False
        if small.any():
            for plane, of_plane in zip(mask[tile], labels, strict=True):
                plane[small[of_plane]] = 255

    # on disk one after the other: what two threads take and free by turns, the C library keeps
    with ThreadPoolExecutor(1 if on_disk(mask) else THREADS) as pool:
        list(pool.map(fill, _tiles(mask.shape, reach)))


def _sizes(labels: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return how many voxels of ``(Z, Y, X)`` have each label, from 0 on; `counts` are those of each cell."""
    sizes = np.zeros(int(labels.max()) + 1)
    for z, plane in enumerate(labels):
        weights = None if counts is None else counts[z].ravel()
        sizes += np.bincount(plane.ravel(), weights, sizes.size)
    return sizes


def _tiles(shape: tuple[int, ...], overlap: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut Z, and Y and X where that is not enough, into tiles of bounded size; neighbours share `overlap`."""
    voxels = min(LABEL_VOXELS, math.prod(shape)) // THREADS
    depth = max(4 * overlap, voxels // max(1, shape[1] * shape[2]))
    rows = max(4 * overlap, voxels // max(1, min(depth, shape[0]) * shape[2]))
    columns = max(4 * overlap, voxels // max(1, min(depth, shape[0]) * min(rows, shape[1])))
    for z in _sides(shape[0], depth, overlap):
        for y in _sides(shape[1], rows, overlap):
            for x in _sides(shape[2], columns, overlap):
                yield z, y, x


def _sides(length: int, side: int, overlap: int) -> Iterator[slice]:
    start = 0
    while True:
        yield slice(start, start + side)
        if start + side >= length:
            return
        start += side - overlap
