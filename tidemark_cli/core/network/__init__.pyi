from . import (
    devices,
    greylevels,
    inference,
    planes,
    unet,
)

__all__ = [
    "devices",
    "greylevels",
    "inference",
    "planes",
    "unet",
]
