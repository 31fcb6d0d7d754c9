"""File names in any encoding: for libraries that need UTF-8, for tables, and for temporary files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_LONGEST_NAME = 200  # bytes; leaves room for a prefix within the 255 of most systems


@contextmanager
def utf8_name(path: Path) -> Iterator[Path]:
    """Yield `path`, or a link to it with a name in UTF-8 for libraries that need one.

    A file that does not exist yet may lie in a folder of any name, but must itself have a name in UTF-8.
    """
    if _is_utf8(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tidemark-") as links:
        link = Path(links) / ("folder" if _is_utf8(path.name) else f"file{plain_name(path.name)}")
        if _is_utf8(path.name):
            link.symlink_to(path.parent.absolute(), target_is_directory=True)
            yield link / path.name
        else:
            link.symlink_to(path.absolute())
            yield link


def open_table(path: Path) -> TextIO:
    r"""Open a CSV file for writing in UTF-8; an undecodable byte of a name becomes, say, ``\udcfc``."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def plain_name(name: str) -> str:
    """Return a file's name, or only its suffix if the name is very long or not UTF-8."""
    if _is_utf8(name) and len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    suffix = ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix
    return suffix if _is_utf8(suffix) else ""


def _is_utf8(name: str) -> bool:
    """Return whether the system's own bytes of a name are UTF-8, which libraries in C++ assume."""
    return os.fsencode(name) == name.encode("utf-8", "surrogatepass")
