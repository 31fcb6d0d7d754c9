"""Figures to files, whatever a sample is called."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from .files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
