from . import (
    crop,
    dataset,
    grades,
    run,
)

__all__ = [
    "crop",
    "dataset",
    "grades",
    "run",
]
