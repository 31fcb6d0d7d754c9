from . import (
    distances,
    pairs,
    score_files,
    scores,
    zones,
)

__all__ = [
    "distances",
    "pairs",
    "score_files",
    "scores",
    "zones",
]
