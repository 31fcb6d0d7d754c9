from . import (
    bone_end,
    bone_grey,
    confidence,
    heights,
    mask,
    offset,
    plug,
    surface,
)

__all__ = [
    "bone_end",
    "bone_grey",
    "confidence",
    "heights",
    "mask",
    "offset",
    "plug",
    "surface",
]
