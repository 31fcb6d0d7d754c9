"""Outputs that are whole or absent: written beside their final name, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError


def check_writable(path: Path, overwrite: bool = False) -> None:
    """Raise before the work starts if `path` could not be written after it.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is false, is a folder, or if its folder does not
        exist or is not writable.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected the name of a file to write.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; use --overwrite to replace it.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path} cannot be written: the folder {folder} is not writable.")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    The temporary name starts with a dot and keeps the suffix of `path`. When the block raises, the
    temporary file is removed and nothing appears at `path`.

    Raises
    ------
    OutputError
        If the system refuses to write or rename (disk full, permission, ...).
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.partial.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def all_or_none(paths: Iterable[Path]) -> Iterator[None]:
    """Remove those of `paths` that were not there before, if the block is interrupted from the keyboard."""
    fresh = [path for path in paths if not path.exists()]
    try:
        yield
    except KeyboardInterrupt:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise
