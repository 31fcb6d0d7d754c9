"""The one way in which slices are resampled."""

from __future__ import annotations

import cv2
import numpy as np


def resize(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample a slice ``(rows, columns)`` to another `shape`: area means where it shrinks, else linear.

    Its outer edges stay where they are. A slice of that shape is returned itself.
    """
    if image.shape == shape:
        return image
    way = cv2.INTER_AREA if shape[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, shape[::-1], interpolation=way)
