from . import (
    refine,
    register,
    search,
    transform,
)

__all__ = [
    "refine",
    "register",
    "search",
    "transform",
]
