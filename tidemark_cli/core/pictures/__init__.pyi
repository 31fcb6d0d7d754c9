from . import (
    contact_sheet,
    overlay,
    preview,
    scores,
    style,
)

__all__ = [
    "contact_sheet",
    "overlay",
    "preview",
    "scores",
    "style",
]
