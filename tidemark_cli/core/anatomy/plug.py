"""Where the plug lies in a scan, which end of it is bone, and the paper's crop (section 2.2).

Everything here works on a small copy of the scan (at most 128^3 voxels of about 16 to 40 µm), so it
costs the same for any scan and never holds a second copy of a large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from scipy import ndimage

from ..errors import ContentError
from .ends import Judgement, as_told, judge_scan

Box = tuple[slice, slice, slice]

MAX_SAMPLES = 128**3
SAMPLE_UM = 16.0  # finest spacing worth looking at: a plug is 2000 µm wide
OPENING_UM = 40.0  # thinner things (parafilm lines, rings) are no plug
CLOSING_UM = 150.0  # pieces of tissue nearer than this belong together
MARGIN_UM = 100.0
RIVAL_SHARE = 0.4  # a body with this share of the size of the largest may be a plug, too
LEVEL_FRACTION = 0.4  # of the way from background to tissue: above marrow fat, below pale cartilage


@dataclass(frozen=True)
class Plug:
    """A plug in its scan.

    Attributes
    ----------
    box : bounding box ``(Z, Y, X)`` in voxels, with a margin of about 100 µm, inside the scan.
    bone : the end of Z where the bone lies, and how sure that is.
    tissue_level : grey level between background (air, marrow, wax) and tissue.
    centre_yx : centre of mass, in voxels, of the largest outline summed over the bone third.
    outline : ``(z, y, x)`` bool, the plug with its cavities, over the whole scan on a coarse grid.
    cell : size of the cells of this grid along (Z, Y, X), in voxels.
    far_centre_yx : as `centre_yx`, of the third at the other end.
    rival : size of the largest other body in the scan over that of the plug.
    """

    box: Box
    bone: Judgement
    tissue_level: float
    centre_yx: tuple[float, float] | None = None
    outline: np.ndarray | None = field(default=None, compare=False, repr=False)
    cell: tuple[float, ...] = (1.0, 1.0, 1.0)
    far_centre_yx: tuple[float, float] | None = None
    rival: float = 0.0

    def turned(self) -> Plug:
        """Return the plug with its bone at the other end; a plug that leans is centred elsewhere there."""
        here, there = self.centre_yx, self.far_centre_yx
        return replace(self, bone=self.bone.turned, centre_yx=there, far_centre_yx=here)

    @property
    def place(self) -> str:
        """Where its box lies, in voxels, for messages."""
        return ", ".join(
            f"{axis} {side.start}-{side.stop - 1}" for axis, side in zip("ZYX", self.box, strict=True)
        )

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return the box of an array of the scan's shape, bone first (at low Z); no copy."""
        return self.upright(array[self.box])

    def below(self, depth: int) -> int:
        """Return how many of a scan's `depth` slices lie between its bone end and the view."""
        return self.box[0].start if self.bone.end == "first" else depth - self.box[0].stop

    def outline_view(self) -> np.ndarray | None:
        """Return the outline in the view, bone first, on a grid as coarse; None where it is not known."""
        if self.outline is None:
            return None
        grids = []
        for side, size in zip(self.box, self.cell, strict=True):
            count = max(1, round((side.stop - side.start) / size))
            middles = side.start + (np.arange(count) + 0.5) * (side.stop - side.start) / count
            grids.append((middles / size).astype(int))
        return self.upright(self.outline[np.ix_(*grids)])

    def upright(self, array: np.ndarray) -> np.ndarray:
        """Turn an array that lies as the scan does bone first, or the other way round; no copy."""
        return array if self.bone.end == "first" else array[::-1]


def find_plug(array: np.ndarray, voxel_um: float, bone_end: str = "auto") -> Plug:
    """Find the plug in a scan, the largest where there are several; see `find_plugs`."""
    return min(find_plugs(array, voxel_um, bone_end), key=lambda plug: plug.rival)


def find_plugs(array: np.ndarray, voxel_um: float, bone_end: str = "auto") -> tuple[Plug, ...]:
    """Find the plugs in a scan with air, wax, parafilm, debris, rings and noise around them.

    Parameters
    ----------
    array : scan ``(Z, Y, X)`` of any integer or float dtype, maybe a memory map; ``(Z, 1, X)`` for an
        image.
    voxel_um : voxel size in µm.
    bone_end : ``"first"`` or ``"last"`` end of Z, or ``"auto"`` to find it by the grey levels
        (`ends.judge_scan`).

    Returns
    -------
    The largest body and those at least 0.4 times as large, in their order along the axis (Z, Y, X) on which
    they lie farthest apart.

    Raises
    ------
    ContentError
        If the scan is empty, constant, not finite or nothing but noise.
    """
    if array.ndim != 3 or 0 in array.shape:
        raise ContentError(f"The scan must have voxels along (Z, Y, X); found the shape {array.shape}.")
    bone = as_told(bone_end)
    if not voxel_um > 0:
        raise ContentError(f"The voxel size must be above 0 µm; found {voxel_um}.")
    small, scale = _subsample(array, voxel_um)
    _check_content(small)
    sample_um = voxel_um * float(np.max(scale))
    smooth = _smoothed(small)
    level = _tissue_level(smooth, sample_um)
    plugs = []
    for outline, rival in _outlines(smooth > level, sample_um, RIVAL_SHARE):
        box = _full_box(outline, scale, array.shape, MARGIN_UM / voxel_um)
        tissue = (smooth > level) & outline
        judged = bone or judge_scan(smooth, tissue, level, sample_um)
        ways = (tissue, tissue[::-1]) if judged.end == "first" else (tissue[::-1], tissue)
        centres = tuple(_third_centre(way, scale) for way in ways)
        cell = tuple(map(float, scale))
        plugs.append(Plug(box, judged, level, centres[0], outline, cell, centres[1], rival))
    middles = np.array([[side.start + side.stop for side in plug.box] for plug in plugs])
    axis = int(np.ptp(middles, axis=0).argmax())
    return tuple(plugs[k] for k in np.argsort(middles[:, axis], kind="stable"))


def crop_box(shape: tuple[int, ...], plug: Plug, size: tuple[int, int, int] = (768, 448, 448)) -> Box:
    """Return the paper's crop ``(Z, Y, X)``: centred on the bone third, starting at the bone end.

    The crop is moved inward where it would stick out of the scan and clipped where the scan is
    smaller than `size`; it is never empty.

    Raises
    ------
    ValueError
        If a side of `size` is not positive.
    """
    if min(size) < 1:
        raise ValueError(f"The crop must have at least one voxel along each axis; found {size}.")
    boxed_z, boxed_y, boxed_x = plug.box
    start_z = boxed_z.start if plug.bone.end == "first" else boxed_z.stop - size[0]
    centre_y, centre_x = plug.centre_yx or (
        (boxed_y.start + boxed_y.stop) / 2,
        (boxed_x.start + boxed_x.stop) / 2,
    )
    starts = (start_z, round(centre_y - size[1] / 2), round(centre_x - size[2] / 2))
    z, y, x = (_fitted(start, side, n) for start, side, n in zip(starts, size, shape, strict=True))
    return z, y, x


def _fitted(start: int, side: int, length: int) -> slice:
    """Return `side` voxels from `start`, moved and clipped to lie inside an axis of `length`."""
    start = max(0, min(start, length - side))
    return slice(start, min(length, start + side))


def _subsample(array: np.ndarray, voxel_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Return block means ``(z, y, x)`` float32 and the size of a block in voxels along each axis."""
    shape = np.array(array.shape)
    # a small scan is not thinned below 64 samples along its longest side
    step = max(1, min(int(SAMPLE_UM / voxel_um), int(shape.max()) // 64))
    while np.prod(-(-shape // step)) > MAX_SAMPLES:
        step += 1
    depth, height, width = (int(n) for n in -(-shape // step))
    small = np.empty((depth, height, width), np.float32)
    for index in range(depth):
        # up to three slices of each block: enough against noise, little to read
        first, last = index * step, min((index + 1) * step, array.shape[0]) - 1
        planes = np.unique(np.linspace(first, last, min(step, 3)).round().astype(int))
        mean = np.ascontiguousarray(np.mean([array[z].astype(np.float32) for z in planes], axis=0))
        small[index] = cv2.resize(mean, (width, height), interpolation=cv2.INTER_AREA)
    return small, np.array([step, shape[1] / height, shape[2] / width])


def _smoothed(small: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(small, [1.0 if n > 4 else 0.0 for n in small.shape], mode="nearest")


def _check_content(small: np.ndarray) -> None:
    """Raise ContentError for a scan that is not finite, constant, or noise without structure."""
    if not np.isfinite(small).all():
        raise ContentError("the scan has NaN or infinite voxels; expected finite grey levels; repair it.")
    if np.ptp(small) == 0:
        raise ContentError(f"the scan is constant (grey level {small.flat[0]:g}); expected a sample in it.")
    centred = small - small.mean()
    variance = float((centred**2).mean())
    likeness = [
        float((np.delete(centred, 0, axis) * np.delete(centred, -1, axis)).mean()) / variance
        for axis, length in enumerate(small.shape)
        if length > 8
    ]
    # neighbouring block means of noise are unrelated; those of anything solid are alike
    if likeness and max(likeness) < 0.2:
        raise ContentError("the scan looks like noise throughout; expected a plug in it; check the input.")


def _otsu(values: np.ndarray) -> float:
    """Return the threshold that splits `values` into the two most compact classes (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=512)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(float)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = total / below - (total[-1] - total) / above
        between = np.where((below > 0) & (above > 0), below * above * gap**2, -1.0)
    # an empty valley is a plateau of equally good thresholds: take its middle
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1:][best].mean())


def _tissue_level(smooth: np.ndarray, sample_um: float) -> float:
    """Return the grey level between background and tissue.

    Otsu's threshold separates the two largest classes, which may be cartilage and bone (CA4+) or
    pale and bright cartilage where there is little air. So the darker class is split again, and
    the lower threshold is taken where the class between is too bright for wax, or makes the plug
    longer without making it wider: cartilage continues the bone, wax and marrow fat do not.
    """
    values = _inside_field(smooth)
    values = np.clip(values, *np.percentile(values, (0.1, 99.8)))
    if np.ptp(values) == 0:
        raise ContentError(
            "nearly all voxels have one grey level; expected a plug that fills more of the scan."
        )
    high = _otsu(values)
    darker = values[values <= high]
    low = _otsu(darker) if np.ptp(darker) > 0 else high
    floors = [level for level in (low, high) if _is_flat(values, level)]
    if not floors:
        return float(values.min()) - 1.0  # no background at all: the plug fills the field
    background = float(np.median(values[values <= floors[0]]))
    tissue = float(np.median(values[values > high]))
    between = values[(values > floors[0]) & (values <= high)]
    if between.size and (
        np.median(between) - background > 0.5 * (tissue - background)
        or _continues(smooth, high, floors[0], sample_um)
    ):
        tissue = float(np.median(values[values > floors[0]]))
    return background + LEVEL_FRACTION * (tissue - background)


def _is_flat(values: np.ndarray, level: float) -> bool:
    """Whether the grey levels up to `level` are a background, which unlike tissue is uniform."""
    below, above = values[values <= level], values[values > level]
    middle = float(np.median(below))
    spread = float(np.median(np.abs(below - middle)))
    return spread < 0.1 * (float(np.median(above)) - middle)


def _inside_field(smooth: np.ndarray) -> np.ndarray:
    """Return the grey levels, less the constant corners outside a round field of view (NRecon)."""
    height, width = smooth.shape[1:]
    corner = smooth[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    if min(height, width) < 16 or np.ptp(corner) > 0:
        return smooth.ravel()
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return smooth[:, y**2 + x**2 <= 0.9].ravel()


def _continues(smooth: np.ndarray, high: float, low: float, sample_um: float) -> bool:
    """Whether what lies between `low` and `high` continues the plug along Z at the same width."""
    (core, _), (whole, _) = (_outlines(smooth > level, sample_um, 1)[0] for level in (high, low))
    core_area = core.sum((1, 2), dtype=float)
    whole_area = whole.sum((1, 2), dtype=float)
    slices = core_area > 0.5 * core_area.max()
    widened = whole_area[slices].sum() / core_area[slices].sum()
    lengthened = (whole_area > 0.5 * whole_area.max()).sum() / slices.sum()
    return bool(lengthened > 1.25 and widened < 1.4)


def _radius(um: float, sample_um: float, shape: tuple[int, ...]) -> float:
    """Return a radius in samples, bounded so that it cannot swallow a small array."""
    return min(um / sample_um, max(shape) / 20)


def _outlines(tissue: np.ndarray, sample_um: float, share: float) -> list[tuple[np.ndarray, float]]:
    """Return the bodies of `tissue`, opened and closed, that have `share` of the size of the largest.

    Beside each the size of the largest other body over its own.
    """
    if tissue.all() or not tissue.any():
        return [(tissue, 0.0)]
    opening = max(1.0, OPENING_UM / 2 / sample_um)
    opened = ~_near(~tissue, opening)
    thick = opened if opened.any() else tissue
    radius = _radius(CLOSING_UM / 2, sample_um, tissue.shape)
    grown = _near(thick, radius + opening)
    labels, count = ndimage.label(grown, np.ones((3, 3, 3)))
    sizes = np.bincount(labels[thick], minlength=count + 1)[1:]
    found = []
    for k in np.flatnonzero(sizes >= share * sizes.max()):
        body = labels == k + 1
        others = np.delete(sizes, k)
        closed = ~_near(~body, radius)
        outline = closed if closed.any() else body & tissue
        found.append((outline, float(others.max(initial=0) / sizes[k])))
    return found


def _near(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return what lies within `radius` samples of the mask: a ball dilates it, disc by disc."""
    (depth, height, width), gap = mask.shape, int(radius)
    # in one picture, with gaps that no disc reaches across: each call may have to wait for another thread
    planes = np.pad(mask.astype(np.uint8), ((0, 0), (0, gap), (0, 0))).reshape(-1, width)
    near = np.zeros(mask.shape, np.uint8)
    for apart in range(min(gap, depth - 1) + 1):
        side = int(math.sqrt(radius**2 - apart**2))
        y, x = np.ogrid[-side : side + 1, -side : side + 1]
        disc = (y**2 + x**2 <= radius**2 - apart**2).astype(np.uint8)
        wide: np.ndarray = cv2.dilate(planes, disc).reshape(depth, -1, width)[:, :height]
        near[apart:] |= wide[: len(wide) - apart]
        near[: len(near) - apart] |= wide[apart:]
    return near.astype(bool)


def _full_box(outline: np.ndarray, scale: np.ndarray, shape: tuple[int, ...], margin: float) -> Box:
    """Return the bounding box of `outline` in voxels of the scan, with `margin` voxels around."""
    sides = []
    for axis in range(3):
        filled = np.flatnonzero(outline.any(tuple(other for other in range(3) if other != axis)))
        start = int(np.floor(filled[0] * scale[axis] - margin))
        stop = int(np.ceil((filled[-1] + 1) * scale[axis] + margin))
        sides.append(slice(max(0, start), min(shape[axis], stop)))
    return sides[0], sides[1], sides[2]


def _third_centre(tissue: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
    """Return the centre of mass (y, x), in voxels, of the largest outline of the first third."""
    filled = np.flatnonzero(tissue.any((1, 2)))
    flat = np.asarray(tissue[filled[: max(1, len(filled) // 3)]].any(0), dtype=np.uint8)
    contours, _ = cv2.findContours(flat, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    body = np.zeros(flat.shape, np.uint8)
    cv2.drawContours(body, [max(contours, key=lambda c: (cv2.contourArea(c), len(c)))], -1, 1, -1)
    y, x = np.nonzero(body)
    return (float(y.mean()) + 0.5) * float(scale[1]), (float(x.mean()) + 0.5) * float(scale[2])
