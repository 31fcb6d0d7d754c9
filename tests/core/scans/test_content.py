"""Images with channels, as grey levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.scans.content import grey_levels

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_equal_channels_and_transparency_are_grey():
    assert grey_levels(Path("a"), GREY) == (GREY, ())
    equal = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 7)])
    for pixels in (equal, equal[..., :3], equal[..., 2:]):
        grey, notes = grey_levels(Path("a"), pixels)
        assert np.array_equal(grey, GREY) and len(notes) == 1


def test_colours_and_changing_transparency_are_refused():
    for channels in ([GREY, GREY, GREY + 1], [GREY, GREY]):
        with pytest.raises(ContentError, match="colour image"):
            grey_levels(Path("a"), np.dstack(channels))
