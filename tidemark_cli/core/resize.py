"""Resampling of slices."""

from __future__ import annotations

import cv2
import numpy as np


def resize(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample a slice ``(rows, columns)`` to another `shape`, by area means if it shrinks, else linearly.

    Its outer edges stay in place. A slice that has the shape already is returned as it is.
    """
    if image.shape == shape:
        return image
    way = cv2.INTER_AREA if shape[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, shape[::-1], interpolation=way)
