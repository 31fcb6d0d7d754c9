"""Parts that all pictures share: colours, headings, legends, labels, scale bars, and how they are written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from ..files import check_writable, written_whole

DPI = 100
INCHES = 16.0  # 1600 pixels wide
MARGIN = 0.25  # inches
INK, FAINT, PAPER = "#1c2430", "#6b7684", "#ffffff"
AMBER, BLUE, MAGENTA = "#ffb000", "#3d9be9", "#e6007e"  # safe for colour-blind readers


def heading(figure: Figure, title: str, subtitle: str, warnings: Sequence[str] = ()) -> None:
    """Write the title of a page, a line below it, and warnings at its right, one a line."""
    width, page = figure.get_size_inches()
    left = MARGIN / width
    big: dict[str, Any] = {"size": 17, "weight": "bold", "color": INK, "va": "center", "parse_math": False}
    figure.text(left, 1 - 0.42 / page, title, **big)
    figure.text(left, 1 - 0.72 / page, subtitle, size=10.5, color=FAINT, va="center")
    for line, warning in enumerate(warnings):
        y = 1 - (0.28 + 0.25 * line) / page
        figure.text(1 - left, y, warning, size=11, color=MAGENTA, ha="right", va="center")


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Draw a legend in one row at the foot of a page."""
    width, page = figure.get_size_inches()
    style: dict[str, Any] = {"ncols": len(handles), "frameon": False, "fontsize": 11, "labelcolor": INK}
    place = (MARGIN / width, 0.3 / page)
    figure.legend(handles=handles, loc="center left", bbox_to_anchor=place, **style)


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes, placed and sized in inches from the lower left corner of a page."""
    wide, tall = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))


def bare(axes: Axes) -> None:
    """Remove the ticks and the frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def label(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write white text with a dark rim, readable on any grey, at a position in axes fractions."""
    rim = [withStroke(linewidth=2.5, foreground="#000000b0")]
    axes.text(x, y, text, color="white", transform=axes.transAxes, path_effects=rim, **style)


def scale_bar(
    axes: Axes, unit_um: float = 1.0, colour: str = "white", level: float = 0.028, note: str = ""
) -> None:
    """Draw a scale bar of a round length, about a quarter of the width, at the lower right.

    A white bar lies on the picture, with a dark rim; any other below it.

    Parameters
    ----------
    unit_um : length of one unit along the axes in µm.
    level : height of its lower edge, as a fraction of the axes.
    note : text above the length, for a white bar.
    """
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    width_um = (right - left) * unit_um
    lengths = np.array([5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000])
    length_um = float(lengths[np.argmin(np.abs(np.log(lengths / (0.25 * width_um))))])
    share, thick = length_um / width_um, 0.011 * (right - left) / abs(top - bottom)
    on_picture = colour == "white"
    start = (0.96 if on_picture else 1.0) - share
    rim: dict[str, Any] = {"edgecolor": "#000000a0", "linewidth": 0.8} if on_picture else {"linewidth": 0}
    place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    axes.add_patch(Rectangle((start, level), share, thick, facecolor=colour, **place, **rim))
    middle, text = start + share / 2, f"{length_um:g} µm"
    if on_picture:
        where, side = (0.96, "right") if note else (middle, "center")
        lines = f"{note}\n{text}" if note else text
        label(axes, where, level + thick + 0.008, lines, ha=side, va="bottom", size=10.5)
    else:
        axes.text(middle, level - 0.012, text, size=10, color=colour, ha="center", va="top", **place)


def write_picture(path: Path, figure: Figure, overwrite: bool = False) -> None:
    """Write a figure in the format of the suffix of `path`.

    Letters that the font lacks are drawn as boxes, undecodable bytes of a file's name as ``?``.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is false, or cannot be written.
    """
    check_writable(path, overwrite)
    for text in figure.findobj(Text):
        text.set_text(text.get_text().encode("utf-8", "replace").decode())
    with warnings.catch_warnings(), written_whole(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(temporary)
