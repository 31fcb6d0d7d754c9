"""What all pictures share: colours, labels and scale bars on grey levels, and how they are written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
INK, FAINT, PAPER = "#1c2430", "#6b7684", "#ffffff"


def label(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write white text with a dark rim, readable on any grey, at a place in shares of the axes."""
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=2.5, foreground="#000000b0")]
    axes.text(x, y, text, color="white", transform=axes.transAxes, path_effects=rim, **style)


def scale_bar(axes: Axes, unit_um: float = 1.0, colour: str = "white", level: float = 0.028) -> None:
    """Draw a scale bar of a round length, about a quarter of the width, at the lower right.

    White, it lies on the picture and has a dark rim.

    Parameters
    ----------
    unit_um : what one unit along the axes is, in µm.
    level : of its lower edge, a share of the height of the axes.
    """
    from matplotlib.patches import Rectangle

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
        label(axes, middle, level + thick + 0.008, text, ha="center", va="bottom", size=10.5)
    else:
        axes.text(middle, level - 0.012, text, size=10, color=colour, ha="center", va="top", **place)


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure in the format of the suffix of `path`, replacing what was there.

    Letters that the font lacks are drawn as boxes, bytes of a name that are no letters as ``?``.

    Raises
    ------
    OutputError
        If the system refuses to write.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(text.get_text().encode("utf-8", "replace").decode())
    with warnings.catch_warnings(), written_whole(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(temporary)
