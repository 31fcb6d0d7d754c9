"""The preview of a registration: the rim of the hard tissue on PTA, and checkerboards of both scans."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ..anatomy.plug import Plug, find_plug
from ..scans.volume import Volume
from . import style

RIM, TILE = style.AMBER, style.BLUE
TILES = 7  # squares across a plug
BONE_SHARE = 0.3  # of the plug's length, from its bone end to the XY section
_HEADING, _FOOT, _GAP = 1.0, 0.55, 0.25  # inches

Image = NDArray[np.float32]


def compose_overlay(
    pta: Volume, registered: NDArray[Any], level: float, how: str, doubted: bool = False
) -> Figure:
    """Draw three sections through the plug in PTA's frame, cartilage at the top.

    Above, PTA with the rim of the hard tissue under CA4+, which must follow the marrow cavities and the
    tidemark. Below, alternating squares of PTA and CA4+: edges must continue across them.

    Parameters
    ----------
    registered : CA4+ (Z, Y, X) of PTA's shape; only the sections are read.
    level : grey level of `registered` above which tissue is hard.
    how : the quality, or where the transform is from.
    doubted : warn that the result is not to be trusted.
    """
    sections = _sections(pta.array, registered, find_plug(pta.array, pta.voxel_um))
    shapes = [pta_section.shape for pta_section, _ in sections.values()]
    width, height = sum(columns for _, columns in shapes), max(rows for rows, _ in shapes)
    gaps = _GAP * (len(sections) + 1)
    scale = min((style.INCHES - gaps) / width, 7.0 / height)  # inches a voxel
    inches = max(width * scale + gaps, 9.0)
    page = _HEADING + 2 * (height * scale + _GAP) + _FOOT
    figure = Figure(figsize=(inches, page), dpi=style.DPI, facecolor=style.PAPER)
    size = " × ".join(map(str, pta.array.shape))
    warnings = ["Not to be trusted: do edges continue from square to square?"] if doubted else []
    style.heading(figure, pta.name, f"{size} voxels of {pta.voxel_um:g} µm; registration {how}", warnings)
    note = f"voxel size assumed: {pta.voxel_um:g} µm" if pta.voxel_source == "default" else ""
    left = (inches - width * scale - _GAP * (len(sections) - 1)) / 2
    for (name, section), (rows, columns) in zip(sections.items(), shapes, strict=True):
        for row, draw in ((1, _draw_rim), (0, _draw_checkerboard)):
            bottom = _FOOT + row * (height * scale + _GAP) + (height - rows) * scale
            axes = style.place(figure, left, bottom, columns * scale, rows * scale)
            draw(axes, *section, level)
            axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
            style.bare(axes)
            style.label(axes, 0.03, 0.975, name, va="top", weight="bold", size=13)
            style.scale_bar(axes, pta.voxel_um, note=note)
        left += columns * scale + _GAP
    handles = [
        Line2D([], [], color=RIM, lw=2.5, label="above: PTA with the rim of the hard tissue under CA4+"),
        Patch(fc="#8a94a0", ec=TILE, lw=2, label="below: squares of PTA and CA4+ in turn, PTA first"),
    ]
    style.legend(figure, handles)
    return figure


def _sections(pta: NDArray[Any], ca4: NDArray[Any], plug: Plug) -> dict[str, tuple[Image, Image]]:
    """Cut ZX and ZY through the middle of the plug's box, cartilage at the top, and XY through its bone."""
    z, y, x = plug.box
    middle_y, middle_x = (y.start + y.stop) // 2, (x.start + x.stop) // 2
    deep = round(BONE_SHARE * (z.stop - z.start))
    up, across = slice(None, None, -1), slice(None)
    cuts = {"ZX": (up, middle_y - y.start), "ZY": (up, across, middle_x - x.start), "XY": (deep,)}
    one, other = plug.view(pta), plug.view(ca4)
    return {name: (one[cut].astype(np.float32), other[cut].astype(np.float32)) for name, cut in cuts.items()}


def _window(grey: Image) -> Image:
    """Stretch grey levels to 0 to 1."""
    low, high = np.percentile(grey, (0.5, 99.7))
    return np.clip((grey - low) / max(float(high - low), 1e-6), 0, 1)


def _draw_rim(axes: Axes, pta: Image, ca4: Image, level: float) -> None:
    axes.imshow(_window(pta), cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    hard = ca4 > level
    if hard.any() and not hard.all() and min(hard.shape) > 1:
        axes.contour(ca4, levels=[level], colors=[RIM], linewidths=0.9)


def _draw_checkerboard(axes: Axes, pta: Image, ca4: Image, level: float) -> None:
    rows, columns = pta.shape
    side = max(1, math.ceil(columns / TILES))
    square = (np.arange(rows)[:, None] // side + np.arange(columns) // side) % 2 == 0
    mixed = np.where(square, _window(pta), _window(ca4))
    axes.imshow(np.repeat(mixed[:, :, None], 3, axis=2), interpolation="antialiased")
    for line, length in ((axes.axvline, columns), (axes.axhline, rows)):
        for edge in range(side, length, side):
            line(edge - 0.5, color=TILE, lw=0.5, alpha=0.6)
