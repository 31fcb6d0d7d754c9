"""Single images: BMP, PNG, JPEG, and TIFF files of one page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import FormatError
from .content import TIFF_SUFFIXES, Content, grey_levels
from .quiet import quiet_opencv
from .tiff import read_tiff

_END_MARKS = {".png": b"IEND", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}


def read_image(path: Path) -> Content:
    """Read one BMP, PNG, JPEG or single-page TIFF as (rows, columns).

    Raises
    ------
    FormatError
        If the file is cut short or not what its suffix says.
    ContentError
        If it is a colour image.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        return read_tiff(path)
    data = np.fromfile(path, np.uint8)
    whole = _END_MARKS.get(path.suffix.lower(), b"") in data[-4096:].tobytes()
    try:
        with quiet_opencv():
            pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if whole and data.size else None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        pixels = None  # such as of 60000 x 60000 pixels in a few bytes
    if pixels is None:
        raise FormatError(
            f"{path} is not a whole {path.suffix[1:].upper()} image ({data.size} bytes); it may be cut short "
            "or of another format; copy it again from its source."
        )
    grey, notes = grey_levels(path, pixels)
    return Content(grey, None, notes)
