"""Outputs that are whole or absent: written beside their final name, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from .errors import OutputError

# within `all_or_none`: the files that are written but do not have their names yet, temporary and final
_staged: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("_staged", default=None)


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
    temporary file is removed and nothing appears at `path`. Within `all_or_none` it is renamed at the end.

    Raises
    ------
    OutputError
        If the system refuses to write or rename (disk full, permission, ...).
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.partial.{path.name}")
    with all_or_none() as staged:  # joins one that is open
        try:
            yield temporary
            staged.append((temporary, path))
        except OSError as error:
            raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
        finally:
            if (temporary, path) not in staged:
                temporary.unlink(missing_ok=True)


@contextmanager
def all_or_none() -> Iterator[list[tuple[Path, Path]]]:
    """Let all that `written_whole` writes in the block appear at its end; when it raises, nothing does.

    Files that were there before stay as they are until then. Yields the temporary and the final names of what
    is written so far; a block within a block joins it.

    Raises
    ------
    OutputError
        If the system refuses to rename one, such as onto a file that Windows has open elsewhere: what was
        renamed before it stays.
    """
    if (joined := _staged.get()) is not None:
        yield joined
        return
    staged: list[tuple[Path, Path]] = []
    token = _staged.set(staged)
    try:
        yield staged
        for temporary, path in staged:
            try:
                os.replace(temporary, path)
            except OSError as error:
                raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        _staged.reset(token)
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_whole(folder: Path, replace: bool) -> Iterator[Path]:
    """Yield a new folder beside `folder`; it becomes `folder` when the block succeeds.

    When the block raises, the new folder is removed and `folder` stays as it was. One that exists goes
    only where `replace` is true, or it is empty.

    Raises
    ------
    OutputError
        If the system refuses to make or rename it.
    """
    mark = secrets.token_hex(4)
    stage, old = (folder.with_name(f".{mark}.{kind}.{folder.name}") for kind in ("partial", "old"))
    try:
        stage.mkdir(parents=True)
        yield stage
        if folder.exists():
            folder.rename(old) if replace else folder.rmdir()
        stage.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} could not be written: {error.strerror or error}.") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (stage, old):
            shutil.rmtree(rest, ignore_errors=True)
