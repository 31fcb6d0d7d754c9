from . import (
    archive,
    dataset,
    fetch,
    weights,
)

__all__ = [
    "archive",
    "dataset",
    "fetch",
    "weights",
]
