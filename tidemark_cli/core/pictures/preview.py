"""The preview of a segmentation: two sections, the height map and the key numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..anatomy.confidence import ENOUGH, Confidence
from ..anatomy.ends import SURE
from ..anatomy.morphometry import morphometry
from ..anatomy.plug import Plug
from ..anatomy.surface import Surface
from ..arrays import sampled
from . import style

TIDEMARK, HARD, OPENING, GAP = style.AMBER, style.BLUE, style.MAGENTA, "#e4e7eb"

# key, value with unit, caption; in rows of four
TILES = (
    ("roughness_sa_um", "{:.1f} µm", "Sa"),
    ("roughness_sq_um", "{:.1f} µm", "Sq"),
    ("roughness_ra_um", "{:.1f} µm", "Ra"),  # of a single slice, in place of Sa and Sq
    ("roughness_rq_um", "{:.1f} µm", "Rq"),
    ("roughness_range_p5_p95_um", "{:.0f} µm", "range, p5 to p95"),
    ("developed_area_ratio", "{:.3f}", "developed ratio"),
    ("thickness_median_um", "{:.0f} µm", "cartilage, median"),
    ("tilt_deg", "{:.1f}°", "tilt"),
    ("openings_count", "{:d}", "openings"),
    ("openings_area_percent", "{:.1f} %", "opening area"),
)


@dataclass(frozen=True)
class _Section:
    """A section along Z, bone at the bottom; grey and hard are (rows, columns), row 0 at the top."""

    name: str
    grey: np.ndarray
    hard: np.ndarray
    height_um: np.ndarray  # (columns,) above the bone end of the scan
    opening: np.ndarray  # (columns,)
    extent: tuple[float, float, float, float]  # left, right, bottom, top


def compose_preview(
    array: np.ndarray,
    mask: np.ndarray,
    surface: Surface,
    plug: Plug,
    title: str,
    numbers: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw the ZX and ZY sections through the middle of the plug, the height map and the key numbers.

    The sections show bone at the bottom, hard tissue tinted, the tidemark as a line, and openings. The map
    shows the height above the best-fit plane of the tidemark. An image ``(Z, 1, X)`` has one section and a
    height profile instead. Without any tidemark, the page says so.

    Parameters
    ----------
    array, mask : scan and mask ``(Z, Y, X)``; only the two sections are read.
    numbers : the stats of a `Segmentation`; by default `morphometry` alone.

    Raises
    ------
    ValueError
        If the shapes of scan, mask and surface do not match.
    """
    if array.shape != mask.shape or array.shape[1:] != surface.height_um.shape:
        shapes = f"{array.shape}, {mask.shape} and {surface.height_um.shape}"
        raise ValueError(f"Scan, mask and surface must match; found the shapes {shapes}.")
    numbers = numbers or morphometry(surface)
    single = array.shape[1] == 1
    sections = [_section(array, mask, surface, plug, name) for name in ("ZX", "ZY")[: 1 if single else 2]]
    width_um = sum(s.extent[1] - s.extent[0] for s in sections)
    height_um = sections[0].extent[3] - sections[0].extent[2]
    # the sections share a scale, and at most 9.2 inches in width and 8 in height
    scale = min((9.2 - 0.3 * (len(sections) - 1)) / width_um, 8.0 / height_um)
    body = max(6.6, height_um * scale)
    figure = Figure(figsize=(style.INCHES, body + 1.55), dpi=style.DPI, facecolor=style.PAPER)
    style.heading(figure, title, *_subtitle(array.shape, surface, plug, numbers))
    guessed = numbers.get("voxel_source") == "default"
    note = f"voxel size assumed: {surface.voxel_um:g} µm" if guessed else ""
    left = style.MARGIN
    for section in sections:
        width, height = (section.extent[1] - section.extent[0]) * scale, height_um * scale
        _draw_section(style.place(figure, left, 0.65 + (body - height), width, height), section, note)
        left += width + 0.3
    handles = [
        Line2D([], [], color=TIDEMARK, lw=2.5, label="tidemark"),
        Patch(color=HARD, alpha=0.45, label="hard tissue"),
        Line2D([], [], color=OPENING, lw=4, label="opening: no tidemark"),
    ]
    style.legend(figure, handles)
    if single:
        _draw_profile(style.place(figure, 10.7, 0.65 + 2.6, 4.9, body - 2.75), surface)
    else:
        _draw_map(style.place(figure, 10.1, 0.65 + 2.15, 4.6, body - 2.15), surface, plug, figure)
    _draw_tiles(style.place(figure, 10.1, 0.55, 5.7, 1.75), numbers)
    return figure


def _subtitle(
    shape: tuple[int, ...], surface: Surface, plug: Plug, numbers: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """Return the line below the title, and the warnings."""
    size = " × ".join(str(n) for n in shape if n > 1)
    line = f"{size} voxels of {surface.voxel_um:g} µm, bone at the {plug.bone.end} slices"
    warnings = []
    if plug.bone.confidence < SURE:
        warnings = ["The bone end is a guess: check that bone is at the bottom, or give --bone-end."]
    if "confidence" in numbers and np.isfinite(surface.height_um).any():
        confidence = Confidence(numbers["confidence"], numbers["confidence_signs"])
        line += f", confidence {confidence.value:.2f}"
        if confidence.value < ENOUGH:
            warnings.append(f"Confidence {confidence.value:.2f}: {confidence.reason}.")
    return line, warnings


def _section(array: np.ndarray, mask: np.ndarray, surface: Surface, plug: Plug, name: str) -> _Section:
    """Cut through the middle of the plug's box, along X (ZX) or Y (ZY), bone at the bottom."""
    box_z, box_y, box_x = plug.box
    along, across = (box_x, box_y) if name == "ZX" else (box_y, box_x)
    middle = (across.start + across.stop) // 2
    index = (box_z, middle, along) if name == "ZX" else (box_z, along, middle)
    grey, hard = (plug.upright(sampled(each, *index))[::-1] for each in (array, mask))
    bottom, um = plug.below(len(array)), surface.voxel_um
    return _Section(
        name,
        grey.astype(np.float32),
        hard != 0,
        surface.height_um[index[1:]],
        surface.opening[index[1:]],
        (along.start * um, along.stop * um, bottom * um, (bottom + len(grey)) * um),
    )


def _draw_section(axes: Axes, section: _Section, note: str) -> None:
    low, high = np.percentile(section.grey, (0.5, 99.7))
    axes.imshow(section.grey, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=section.extent)
    _tint(axes, section.hard, HARD, 0.24, section.extent)
    left, right = section.extent[:2]
    count = section.height_um.size
    x = left + (np.arange(count) + 0.5) * (right - left) / count
    axes.plot(x, section.height_um, color=TIDEMARK, lw=1.3, solid_capstyle="butt")
    known = np.isfinite(section.height_um)
    if known.any() and section.opening.any():
        level = np.interp(x, x[known], section.height_um[known])
        axes.plot(x, np.where(section.opening, level, np.nan), color=OPENING, lw=3, solid_capstyle="butt")
    axes.set(xlim=section.extent[:2], ylim=section.extent[2:])
    style.bare(axes)
    style.label(axes, 0.03, 0.975, section.name, va="top", weight="bold", size=13)
    style.scale_bar(axes, note=note)


def _tint(axes: Axes, where: np.ndarray, colour: str, alpha: float, extent: tuple[float, ...]) -> None:
    """Tint part of a picture."""
    tint = np.zeros((*where.shape, 4), np.float32)
    tint[where] = (*to_rgb(colour), alpha)
    axes.imshow(tint, extent=extent, interpolation="nearest")  # type: ignore[arg-type]


def _draw_map(axes: Axes, surface: Surface, plug: Plug, figure: Figure) -> None:
    """Draw the height above the best-fit plane, the openings, and the lines of the sections."""
    style.bare(axes)
    deviation = _deviation(axes, surface, "plane")
    if deviation is None:
        return
    _, box_y, box_x = plug.box
    voxel = surface.voxel_um
    # row 0 at the top, as Fiji shows the height map and the scan
    extent = (box_x.start * voxel, box_x.stop * voxel, box_y.stop * voxel, box_y.start * voxel)
    axes.set_facecolor(GAP)
    low, high = np.nanpercentile(deviation, (1, 99))
    colours: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": max(high, low + 1)}
    image = axes.imshow(deviation[box_y, box_x], extent=extent, **colours)
    _tint(axes, surface.opening[box_y, box_x], OPENING, 1, extent)
    axes.set_anchor("NW")
    axes.axhline((extent[2] + extent[3]) / 2, color=style.INK, lw=0.8, ls=(0, (4, 4)))
    axes.axvline((extent[0] + extent[1]) / 2, color=style.INK, lw=0.8, ls=(0, (4, 4)))
    name: dict[str, Any] = {"size": 10, "color": style.INK, "transform": axes.transAxes}
    axes.text(-0.01, 0.5, "ZX", va="center", ha="right", **name)
    axes.text(0.5, -0.01, "ZY", va="top", ha="center", **name)
    style.scale_bar(axes, colour=style.INK, level=-0.035)
    handles = [Patch(color=OPENING, label="opening"), Patch(color=GAP, label="outside")]
    text: dict[str, Any] = {"fontsize": 10, "labelcolor": style.INK, "handlelength": 1.2, "handleheight": 1.0}
    below: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.02, 0.0), "ncols": 2}
    axes.legend(handles=handles, frameon=False, **below, **text)
    bar = figure.colorbar(image, cax=axes.inset_axes((1.09, 0.0, 0.04, 1.0)), extend="both")
    bar.set_label("µm", color=style.INK, size=11)
    bar.outline.set_visible(False)


def _draw_profile(axes: Axes, surface: Surface) -> None:
    """Draw the height profile of a single slice, with openings as bands."""
    deviation = _deviation(axes, surface, "line")
    if deviation is None:
        return
    x = (np.arange(deviation.size) + 0.5) * surface.voxel_um
    line, opening = deviation.ravel(), surface.opening.ravel()
    shown = np.flatnonzero(np.isfinite(line) | opening)
    band: dict[str, Any] = {"step": "mid", "color": OPENING, "alpha": 0.35, "lw": 0}
    axes.fill_between(x, 0, 1, where=opening, transform=axes.get_xaxis_transform(), **band)
    axes.axhline(0, color=style.FAINT, lw=0.8)
    axes.plot(x, line, color=style.INK, lw=1.3)
    axes.set_xlim(x[shown[0]], x[shown[-1]] + 1e-3)
    axes.set_xlabel("X, µm", color=style.INK)
    axes.set_ylabel("height, µm", color=style.INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=style.INK)


def _deviation(axes: Axes, surface: Surface, fit: str) -> np.ndarray | None:
    """Write the title; return the height above the best fit, or None where there is no tidemark."""
    axes.set_title(f"Tidemark height above its best-fit {fit}", size=12, color=style.INK, loc="left", pad=8)
    if np.isfinite(surface.height_um).any():
        return surface.height_um - surface.plane
    axes.set(xticks=[], yticks=[], facecolor=GAP)
    axes.text(0.5, 0.5, "no tidemark found", size=15, color=OPENING, ha="center", transform=axes.transAxes)
    return None


def _draw_tiles(axes: Axes, numbers: Mapping[str, Any]) -> None:
    """Write the key numbers that are known, each above its caption."""
    axes.set_axis_off()
    known = [tile for tile in TILES if numbers.get(tile[0]) is not None]
    for number, (key, form, caption) in enumerate(known):
        x, y = (number % 4) / 4, 0.98 - 0.52 * (number // 4)
        axes.text(x, y, form.format(numbers[key]), size=17, weight="bold", color=style.INK, va="top")
        axes.text(x, y - 0.22, caption, size=10.5, color=style.FAINT, va="top")
