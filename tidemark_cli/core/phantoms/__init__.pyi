from . import (
    phantom,
    scanner,
    texture,
    tissue,
)

__all__ = [
    "phantom",
    "scanner",
    "texture",
    "tissue",
]
