"""The tidemark as a height map, its openings, the cartilage above it, and their numbers.

Heights are measured along Z in µm from the outer face of the scan's last slice at the bone end. The
tidemark of a column lies at the cartilage-side face of its first hard voxel seen from the cartilage:
voxel k counted from the bone end (from 0) gives ``(k + 1) * voxel_um``. A scan flipped along Z, with
the other bone end, gives exactly the same map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bone_end import BoneEnd
from .heights import OUTLIER_UM, fit, outline, side_wall, surroundings

OPENING_UM = 15.0  # smaller openings are in the map but not counted
SMOOTHING_UM = 25.0  # short-wavelength cut-off of the developed area (a nesting index of ISO 25178)
FIT_COLUMNS = 10  # fewer columns are not fitted
RUN_UM = 30.0  # thinner layers of tissue above a gap are parafilm, dust or noise
GAP_UM = 100.0  # a gap wider than this ends the cartilage: what lies beyond is detached

DEFINITIONS: dict[str, str] = {
    "tidemark_columns_count": "columns (x, y) in which the tidemark was found; count",
    "projected_area_mm2": "area of these columns seen along Z; mm², null for a single slice",
    "tidemark_height_mean_um": "mean height of the tidemark above the scan's outer face at the bone end; µm",
    "tidemark_depth_mean_um": "mean distance along Z from the level of the cartilage surface (95th "
    "percentile of its height above the best-fit plane of the tidemark) down to the tidemark; µm",
    "tilt_deg": "angle between the best-fit plane of the tidemark and the slice plane (x, y); degrees",
    "roughness_ra_um": "Ra: mean absolute deviation from the best-fit quadratic surface; µm",
    "roughness_rq_um": "Rq: root mean square deviation from the best-fit quadratic surface; µm",
    "roughness_range_um": "Sz: highest minus lowest deviation from the best-fit quadratic surface; µm",
    "roughness_range_p5_p95_um": "95th minus 5th percentile of these deviations; µm",
    "developed_area_ratio": "true over projected area of the tidemark, best-fit quadratic removed, smoothed "
    "by a Gaussian with a cut-off of 25 µm (ISO 16610-21); ratio of lengths in a single slice; 1 is flat",
    "openings_count": "connected openings (columns under cartilage where the hard tissue is breached) with "
    "an equivalent diameter of 15 µm or more; count",
    "openings_area_percent": "opening columns, of any size, among opening plus tidemark columns; percent",
    "openings_density_per_mm2": "counted openings per area of opening plus tidemark columns; 1/mm², null for "
    "a single slice",
    "openings_diameter_max_um": "diameter of the disc of the largest opening's area (width of the widest one "
    "in a single slice), 0 without openings; µm",
    "thickness_median_um": "cartilage thickness along Z, tidemark to outermost attached tissue: median; µm",
    "thickness_mean_um": "cartilage thickness: mean; µm",
    "thickness_sd_um": "cartilage thickness: standard deviation over columns (n - 1); µm",
    "thickness_p5_um": "cartilage thickness: 5th percentile; µm",
    "thickness_p95_um": "cartilage thickness: 95th percentile; µm",
}


@dataclass(frozen=True)
class Surface:
    """The tidemark of a scan.

    Attributes
    ----------
    height_um : ``(Y, X)`` float32, height of the tidemark above the bone end of the scan in µm, NaN
        where there is none.
    opening : ``(Y, X)`` bool, columns under cartilage where the interface is breached (a marrow
        channel); NaN in `height_um`.
    voxel_um : distance between columns in µm.
    bone_end : ``"first"`` or ``"last"``, the end of Z where the bone lies.
    """

    height_um: np.ndarray
    opening: np.ndarray
    voxel_um: float
    bone_end: BoneEnd


def find_surface(
    mask: np.ndarray,
    voxel_um: float,
    bone_end: BoneEnd,
    probability: np.ndarray | None = None,
    threshold: float | None = None,
) -> Surface:
    """Find in each column the first hard voxel seen from the cartilage side.

    The surroundings of a column are the local median, over 300 µm, of the height above a robust
    plane. A column more than 60 µm

    - above them takes the next hard voxel below that limit, if the piece above floats free (a false
      speck in the cartilage); a ridge that stands on the bone is left as it is;
    - below them has no tidemark. Inside the outline of the tidemark columns (bites of up to 100 µm
      into its rim included) it is an opening, and so is a column without any hard voxel; outside it
      is beyond the plug's interface. Neither is ever bridged: both are NaN.

    Parameters
    ----------
    mask : ``(Z, Y, X)``, hard tissue where not 0; ``(Z, 1, X)`` for an image.
    voxel_um : voxel size in µm.
    bone_end : ``"first"`` or ``"last"``.
    probability, threshold : ``(Z, Y, X)`` uint8 and the threshold (0 to 1) the mask came from. Given,
        the height is where the probability, linear between voxel centres, crosses the threshold.

    Returns
    -------
    An empty mask gives heights all NaN and no opening.

    Raises
    ------
    ValueError
        If the arrays do not match or `bone_end` is neither end.
    """
    _check_arguments(mask, bone_end, probability, threshold)
    mask = _bone_first(mask, bone_end)
    top = last_hard(mask)
    if not (top >= 0).any():
        return Surface(np.full(top.shape, np.nan, np.float32), np.zeros(top.shape, bool), voxel_um, bone_end)
    reference = surroundings(_faces(top, voxel_um), voxel_um)
    top = _without_floating(mask, top, reference, voxel_um)
    reference = surroundings(_faces(top, voxel_um), voxel_um)
    height = _faces(top, voxel_um)
    with np.errstate(invalid="ignore"):
        sound = (height > reference - OUTLIER_UM) & (top >= 0)
    opening = outline(sound, voxel_um) & ~sound
    if probability is not None and threshold is not None:
        height += _crossing(_bone_first(probability, bone_end), top, threshold) * np.float32(voxel_um)
    height[~sound] = np.nan
    return Surface(height, opening, voxel_um, bone_end)


def _check_arguments(
    mask: np.ndarray, bone_end: str, probability: np.ndarray | None, threshold: float | None
) -> None:
    if mask.ndim != 3:
        raise ValueError(f"The mask must be (Z, Y, X); found the shape {mask.shape}.")
    if bone_end not in ("first", "last"):
        raise ValueError(f"bone_end must be first or last; found {bone_end!r}.")
    if (probability is None) != (threshold is None):
        raise ValueError("probability and threshold are given together or not at all.")
    if probability is not None and (probability.shape != mask.shape or probability.dtype != np.uint8):
        found = f"{probability.dtype} {probability.shape}"
        raise ValueError(f"Probabilities must be uint8 of the mask's shape {mask.shape}; found {found}.")


def _bone_first(array: np.ndarray, bone_end: str) -> np.ndarray:
    """Return a view in which the bone lies at low Z."""
    return array if bone_end == "first" else array[::-1]


def _faces(top: np.ndarray, voxel_um: float) -> np.ndarray:
    """Return the height of the cartilage-side face of voxel `top`, NaN where `top` is -1."""
    return np.where(top >= 0, (top + 1) * voxel_um, np.nan).astype(np.float32)


def last_hard(mask: np.ndarray, ceiling: np.ndarray | None = None) -> np.ndarray:
    """Return ``(Y, X)`` int32, each column's last hard voxel along Z, not above `ceiling`, -1 for none."""
    top = np.full(mask.shape[1:], -1, np.int32)
    for z, plane in enumerate(mask):  # plane by plane: an argmax along Z takes ten times as long
        hard = plane != 0
        if ceiling is not None:
            hard &= z <= ceiling
        np.copyto(top, z, where=hard)
    return top


def _without_floating(
    mask: np.ndarray, top: np.ndarray, reference: np.ndarray, voxel_um: float
) -> np.ndarray:
    """Return `top`, lowered to the limit above the surroundings where the piece above floats free."""
    with np.errstate(invalid="ignore"):
        high = (top + 1) * voxel_um > reference + OUTLIER_UM
    if not high.any():
        return top
    ceiling = np.where(high, np.floor((reference + OUTLIER_UM) / voxel_um) - 1, len(mask)).astype(np.int32)
    lower = last_hard(mask, ceiling)
    # hard at the limit itself: a ridge that passes through it
    return np.where(high & (lower != ceiling), lower, top)


def _crossing(probability: np.ndarray, top: np.ndarray, threshold: float) -> np.ndarray:
    """Return how far above the face of voxel `top` the probability crosses, -0.5 to 0.5 voxels."""
    y, x = np.ogrid[: top.shape[0], : top.shape[1]]
    here = probability[np.maximum(top, 0), y, x].astype(np.float32)
    above = probability[np.minimum(top + 1, len(probability) - 1), y, x].astype(np.float32)
    level = np.float32(threshold * 255)
    # elsewhere the mask was edited (a pinhole filled, a speck removed) or the scan ends: keep the face
    crosses = (top >= 0) & (top + 1 < len(probability)) & (here > level) & (above <= level)
    share = (here - level) / np.where(crosses, here - above, 1)
    return np.where(crosses, share - np.float32(0.5), np.float32(0)).astype(np.float32)


def cartilage_thickness(array: np.ndarray, tissue_level: float, surface: Surface) -> np.ndarray:
    """Measure the cartilage in each column, along Z from the tidemark to its outermost tissue.

    Seen from the tidemark, tissue is grey above `tissue_level` (the slice averaged over 3 x 3 voxels,
    at 3.2 µm, against noise). Above a gap only runs of at least 30 µm count, so that parafilm, dust
    and noise do not, and only across gaps of up to 100 µm, so that detached flaps and debris do not.
    A fissure shortens the columns it passes through; bare bone is 0. Columns that leave the plug
    through its side, as they do near the rim of a tilted or tapered one (`heights.side_wall`), have no
    thickness.

    Parameters
    ----------
    array : scan ``(Z, Y, X)`` in which `surface` was found; read slice by slice.
    tissue_level : as in `Plug`.

    Returns
    -------
    ``(Y, X)`` float32 in µm, NaN where there is no tidemark or the column leaves through the side.

    Raises
    ------
    ValueError
        If the scan is not of the surface's size.
    """
    if array.ndim != 3 or array.shape[1:] != surface.height_um.shape:
        expected = f"(Z, {surface.height_um.shape[0]}, {surface.height_um.shape[1]})"
        raise ValueError(f"The scan must be {expected}, as the surface; found the shape {array.shape}.")
    found = np.isfinite(surface.height_um)
    if not found.any():
        return np.full(found.shape, np.nan, np.float32)
    array = _bone_first(array, surface.bone_end)
    # first voxel whose centre lies above the tidemark
    start = np.where(found, np.ceil(surface.height_um / surface.voxel_um - 0.5), len(array)).astype(np.int32)
    least = max(1, round(RUN_UM / surface.voxel_um))
    widest = round(GAP_UM / surface.voxel_um)
    top = start - 1  # highest voxel of attached tissue
    run = np.full(found.shape, least, np.int32)  # tissue on the tidemark needs no least length
    ended = ~found
    for z in range(int(start.min()), len(array)):
        tissue = tissue_in(array[z], tissue_level, surface.voxel_um)
        tissue &= z >= start
        run += 1
        run *= tissue | (z < start)
        np.copyto(top, z, where=tissue & (run >= least) & ~ended)
        ended |= (z - top - run > widest) & (z >= start)
        if ended.all():
            break
    thickness = np.where(top >= start, (top + 1) * surface.voxel_um - surface.height_um, 0)
    thickness[~found] = np.nan
    thickness[side_wall(surface.height_um + thickness, surface.voxel_um)] = np.nan
    return thickness.astype(np.float32)


def tissue_in(plane: np.ndarray, tissue_level: float, voxel_um: float) -> np.ndarray:
    """Return ``(Y, X)`` bool, tissue of a slice: grey, averaged over 10 µm against noise, above a level."""
    import cv2

    side = max(1, round(10 / voxel_um)) | 1
    grey = cv2.blur(np.ascontiguousarray(plane, dtype=np.float32), (side, side))
    return grey.reshape(plane.shape) > tissue_level


def morphometry(surface: Surface, thickness_um: np.ndarray | None = None) -> dict[str, float | int | None]:
    """Describe a surface in numbers; `DEFINITIONS` tells each key's meaning and unit.

    Parameters
    ----------
    thickness_um : ``(Y, X)``, from `cartilage_thickness`; without it, the keys of thickness and of
        depth are None.

    Returns
    -------
    Python numbers ready for JSON, None where there is no answer: all keys of a surface without any
    tidemark, tilt and roughness of fewer than 10 columns.
    """
    numbers: dict[str, float | int | None] = dict.fromkeys(DEFINITIONS)
    height = surface.height_um
    count = int(np.count_nonzero(np.isfinite(height)))
    if count == 0:
        return numbers
    numbers["tidemark_columns_count"] = count
    if 1 not in height.shape:
        numbers["projected_area_mm2"] = count * (surface.voxel_um / 1000) ** 2
    numbers["tidemark_height_mean_um"] = float(np.nanmean(height, dtype=float))
    if count >= FIT_COLUMNS:
        numbers |= _roughness(height, surface.voxel_um)
    numbers |= _openings(surface, count)
    if thickness_um is not None and np.isfinite(thickness_um).any():
        numbers |= _thickness(height, thickness_um)
    return numbers


def _roughness(height: np.ndarray, voxel_um: float) -> dict[str, float]:
    """Return tilt, and the texture of what the best-fit quadratic surface leaves."""
    _, slope = fit(height, 1)
    residual = height - fit(height, 2)[0]
    rest = residual[np.isfinite(residual)].astype(float)
    p5, p95 = np.percentile(rest, (5, 95))
    numbers = {
        "tilt_deg": float(np.degrees(np.arctan(np.hypot(*slope) / voxel_um))),
        "roughness_ra_um": float(np.abs(rest).mean()),
        "roughness_rq_um": float(np.sqrt((rest**2).mean())),
        "roughness_range_um": float(np.ptp(rest)),
        "roughness_range_p5_p95_um": float(p95 - p5),
    }
    ratio = _developed_ratio(residual, voxel_um)
    return numbers | ({} if ratio is None else {"developed_area_ratio": ratio})


def _developed_ratio(residual: np.ndarray, voxel_um: float) -> float | None:
    """Return true over projected area of a map with gaps (length where it is a single line)."""
    from scipy import ndimage

    # sigma of the Gaussian filter that passes half of a wave of the cut-off (ISO 16610-21)
    sigma = [0.1874 * SMOOTHING_UM / voxel_um if n > 1 else 0.0 for n in residual.shape]
    valid = np.isfinite(residual)
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma, mode="constant")
    smooth = ndimage.gaussian_filter(np.where(valid, residual, 0), sigma, mode="constant")
    smooth = np.where(valid, smooth / np.where(valid, weight, 1), np.nan) / voxel_um
    if 1 in smooth.shape:
        squared = np.diff(smooth.ravel()) ** 2
    else:
        along_x, along_y = np.diff(smooth, axis=1), np.diff(smooth, axis=0)
        squared = ((along_x[1:] + along_x[:-1]) / 2) ** 2 + ((along_y[:, 1:] + along_y[:, :-1]) / 2) ** 2
    squared = squared[np.isfinite(squared)]
    return float(np.sqrt(1 + squared.astype(float)).mean()) if squared.size else None


def _openings(surface: Surface, columns: int) -> dict[str, float | int]:
    """Return count, share, density and largest size of the openings."""
    from scipy import ndimage

    labels, _ = ndimage.label(surface.opening, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    profile = 1 in surface.opening.shape
    diameters = (sizes if profile else 2 * np.sqrt(sizes / np.pi)) * surface.voxel_um
    count = int(np.count_nonzero(diameters >= OPENING_UM))
    total = columns + int(sizes.sum())
    numbers: dict[str, float | int] = {
        "openings_count": count,
        "openings_area_percent": 100 * float(sizes.sum()) / total,
        "openings_diameter_max_um": float(diameters.max(initial=0)),
    }
    if not profile:
        numbers["openings_density_per_mm2"] = count / (total * (surface.voxel_um / 1000) ** 2)
    return numbers


def _thickness(height: np.ndarray, thickness_um: np.ndarray) -> dict[str, float]:
    """Return the depth of the tidemark and the distribution of the cartilage thickness."""
    known = np.isfinite(height) & np.isfinite(thickness_um)
    values = thickness_um[known].astype(float)
    low, middle, high = np.percentile(values, (5, 50, 95))
    # above the tidemark's own plane, or a tilt of the mounting would count as depth
    above = (height - fit(height, 1)[0])[known].astype(float)
    numbers = {
        "tidemark_depth_mean_um": float(np.percentile(above + values, 95) - above.mean()),
        "thickness_median_um": float(middle),
        "thickness_mean_um": float(values.mean()),
        "thickness_p5_um": float(low),
        "thickness_p95_um": float(high),
    }
    return numbers | ({"thickness_sd_um": float(values.std(ddof=1))} if values.size > 1 else {})
