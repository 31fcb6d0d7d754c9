"""Names of files in any encoding: for libraries that take UTF-8 alone, for tables, for temporary files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_LONGEST_NAME = 200  # bytes; with what a temporary name adds, within the 255 of most systems


@contextmanager
def utf8_name(path: Path) -> Iterator[Path]:
    """Yield a name of `path` for a library that takes names in UTF-8 alone: itself, or by way of a link.

    The folder of a file to be written may have any name, the file itself may not.
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
    r"""Open a CSV file to be written: UTF-8, in which a byte of a name that is no letter is ``\udcfc``."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def plain_name(name: str) -> str:
    """Return a file's name, or its suffix alone where the name is very long or not UTF-8."""
    if _is_utf8(name) and len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    suffix = ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix
    return suffix if _is_utf8(suffix) else ""


def _is_utf8(name: str) -> bool:
    """Tell whether the system's own bytes of a name are UTF-8, as libraries in C++ write it."""
    return os.fsencode(name) == name.encode("utf-8", "surrogatepass")
