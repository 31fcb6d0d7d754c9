"""From the grey levels of a scan to the numbers that a network wants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import sampled
from .unet import ModelInfo

RANGE_8BIT = (0.1, 99.9)  # percentiles of a 16-bit or float scan that become grey levels 0 and 255
WINDOW_CLIP = (-0.5, 2.0)  # what lies further outside the window than this carries no more information

Array = np.ndarray
Normalise = Callable[[Array], Array]


def normaliser(array: Array, info: ModelInfo) -> Normalise:
    """Return the function that turns grey levels of `array` into what the network wants.

    "standard" subtracts the mean and divides by the standard deviation of 0-255 grey levels. A scan
    that is not 8-bit is first brought to 0-255: its 0.1th percentile becomes 0, its 99.9th 255, and
    what lies outside is clipped. "window" maps two percentiles of the array to 0 and 1 and clips to
    [-0.5, 2].

    Parameters
    ----------
    array : the scan, or the part of it that is predicted, of any shape and real dtype; percentiles
        are estimated on an evenly spaced subsample of about a million voxels.
    info : of the model; its ``normalisation`` is used.

    Returns
    -------
    A function of grey levels, any shape, giving float32 of that shape.

    Raises
    ------
    ModelError
        If the kind of normalisation is unknown.
    """
    settings = info.normalisation
    if settings["kind"] == "window":
        low, high = _percentiles(array, (settings["low"], settings["high"]))
        return _linear(low, high - low, WINDOW_CLIP)
    standard = _linear(settings["mean"], settings["std"], None)
    if array.dtype == np.uint8:
        return standard
    low, high = _percentiles(array, RANGE_8BIT)
    to_8bit = _linear(low, (high - low) / 255, (0.0, 255.0))
    return lambda grey: standard(to_8bit(grey))


def _percentiles(array: Array, percentiles: tuple[float, float]) -> tuple[float, float]:
    stride = max(1, round((array.size / 1e6) ** (1 / 3)))
    thinned = sampled(array, *(slice(None, None, stride),) * array.ndim)
    low, high = np.percentile(thinned, percentiles)
    return float(low), float(high if high > low else low + 1)  # a flat array must not divide by zero


def _linear(origin: float, scale: float, clip: tuple[float, float] | None) -> Normalise:
    def normalise(grey: Array) -> Array:
        values = np.subtract(grey, np.float32(origin), dtype=np.float32)
        values /= np.float32(scale)
        return values if clip is None else np.clip(values, *clip, out=values)

    return normalise


def black(info: ModelInfo) -> float:
    """Air, as the network sees it: grey level 0, or the low end of the window."""
    settings = info.normalisation
    return 0.0 if settings["kind"] == "window" else -settings["mean"] / settings["std"]
