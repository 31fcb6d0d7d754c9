"""The numbers on a tidemark: its roughness, its openings, its depth, and the cartilage on it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .heights import FIT_COLUMNS, fit, form
from .surface import Surface

OPENING_UM = 15.0  # smaller openings are in the map but not counted
SMOOTHING_UM = 25.0  # short-wavelength cut-off of the developed area (a nesting index of ISO 25178)

DEFINITIONS: dict[str, str] = {
    "tidemark_columns_count": "columns (x, y) in which the tidemark was found; count",
    "projected_area_mm2": "area of these columns seen along Z; mm², null for a single slice",
    "tidemark_height_mean_um": "mean height of the tidemark above the scan's outer face at the bone end; µm",
    "tidemark_depth_mean_um": "mean distance along Z from the level of the cartilage surface (95th "
    "percentile of its height above the best-fit plane of the tidemark, where that is over 2.5 mm wide the "
    "planes of windows as for Sa) down to the tidemark; µm",
    "tilt_deg": "angle between the best-fit plane of the whole tidemark and the slice plane (x, y); degrees",
    "roughness_sa_um": "Sa: mean absolute deviation from the best-fit quadratic surface, where the tidemark "
    "is over 2.5 mm wide those of windows of up to 2.5 mm, half overlapping and blended; µm, null for a "
    "single slice",
    "roughness_sq_um": "Sq: root mean square of these deviations; µm, null for a single slice",
    "roughness_sz_um": "Sz: highest minus lowest of these deviations; µm, null for a single slice",
    "roughness_ra_um": "Ra: mean absolute deviation from the best-fit parabola of a single slice, in windows "
    "as for Sa; µm, null for a volume",
    "roughness_rq_um": "Rq: root mean square of these deviations; µm, null for a volume",
    "roughness_rz_um": "Rz: highest minus lowest of these deviations, the slice being one sampling length; "
    "µm, null for a volume",
    "roughness_range_p5_p95_um": "95th minus 5th percentile of the deviations; µm",
    "developed_area_ratio": "true over projected area of the tidemark, best-fit quadratics removed, smoothed "
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
        numbers |= _roughness(surface)
    numbers |= _openings(surface, count)
    if thickness_um is not None and np.isfinite(thickness_um).any():
        numbers |= _thickness(surface, thickness_um)
    return numbers


def _roughness(surface: Surface) -> dict[str, float]:
    """Return tilt, and the texture of what the best-fit quadratic surface leaves."""
    _, slope = fit(surface.height_um, 1)
    residual = surface.height_um - form(surface.height_um, surface.voxel_um, lambda part: fit(part, 2)[0])
    rest = residual[np.isfinite(residual)].astype(float)
    p5, p95 = np.percentile(rest, (5, 95))
    letter = "r" if 1 in residual.shape else "s"  # of a profile (ISO 21920), of an area (ISO 25178)
    numbers = {
        "tilt_deg": float(np.degrees(np.arctan(np.hypot(*slope) / surface.voxel_um))),
        f"roughness_{letter}a_um": float(np.abs(rest).mean()),
        f"roughness_{letter}q_um": float(np.sqrt((rest**2).mean())),
        f"roughness_{letter}z_um": float(np.ptp(rest)),
        "roughness_range_p5_p95_um": float(p95 - p5),
    }
    ratio = _developed_ratio(residual, surface.voxel_um)
    return numbers | ({} if ratio is None else {"developed_area_ratio": ratio})


def _developed_ratio(residual: np.ndarray, voxel_um: float) -> float | None:
    """Return true over projected area of a map with gaps (length where it is a single line)."""
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


def _thickness(surface: Surface, thickness_um: np.ndarray) -> dict[str, float]:
    """Return the depth of the tidemark and the distribution of the cartilage thickness."""
    known = np.isfinite(surface.height_um) & np.isfinite(thickness_um)
    values = thickness_um[known].astype(float)
    low, middle, high = np.percentile(values, (5, 50, 95))
    # above the tidemark's own plane, or a tilt of the mounting would count as depth
    above = (surface.height_um - surface.plane)[known].astype(float)
    numbers = {
        "tidemark_depth_mean_um": float(np.percentile(above + values, 95) - above.mean()),
        "thickness_median_um": float(middle),
        "thickness_mean_um": float(values.mean()),
        "thickness_p5_um": float(low),
        "thickness_p95_um": float(high),
    }
    return numbers | ({"thickness_sd_um": float(values.std(ddof=1))} if values.size > 1 else {})
