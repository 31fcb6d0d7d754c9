"""Single images are read, and OpenCV is left as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tidemark_cli.core.errors import ContentError, FormatError
from tidemark_cli.core.scans.image import read_image

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_levels_as_stored(suffix, tmp_path):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), GREY)
    assert np.array_equal(read_image(tmp_path / f"a{suffix}").array, GREY)


def test_damage_and_colour_are_refused_and_the_log_level_stays(tmp_path):
    logs = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    before = logs.getLogLevel()
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), GREY)
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes(4) + data[44:])
    with pytest.raises(FormatError, match="not a whole PNG image"):
        read_image(path)
    cv2.imwrite(str(path), np.dstack([GREY, GREY, GREY + 1]))
    with pytest.raises(ContentError, match="colour"):
        read_image(path)
    assert logs.getLogLevel() == before


def test_a_size_that_no_image_has_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.bmp"), GREY)
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:22] = (2**31 - 1).to_bytes(4, "little")  # columns
    (tmp_path / "a.bmp").write_bytes(data)
    with pytest.raises(FormatError, match="not a whole BMP image"):
        read_image(tmp_path / "a.bmp")
