"""Outputs that are whole or absent: written beside their final name, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from .errors import OutputError
from .names import plain_name

REGISTRY = "registry.txt"  # the usual name of one, in pooch's format

# within `all_or_none`: the files that are written but do not have their names yet, temporary and final
_staged: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("_staged", default=None)

# what a system says that has no room for a file: disk full, a quota, a limit
NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def check_writable(path: Path, overwrite: bool = False) -> None:
    """Raise before the work starts if `path` could not be written after it.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is false, is no plain file or write-protected, or if its folder
        does not exist or is not writable. Of a symbolic link what it leads to counts.
    """
    if path.is_dir() and not _is_store(path):
        raise OutputError(f"{path} is a folder; expected the name of a file to write.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; use --overwrite to replace it.")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OutputError(f"{path} is a device or a pipe; expected the name of a file to write.")
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"{path} cannot be replaced: it is write-protected; name another file.")
    folder = _led_to(path).parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path} cannot be written: the folder {folder} is not writable.")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    The temporary name starts with a dot and keeps the suffix of `path`, in small letters, by which libraries
    choose the format. When the block raises, the temporary file is removed and nothing appears at `path`.
    Within `all_or_none` it is renamed at the end.
    Where `path` is a symbolic link, the file that it leads to is written, and the link stays.

    Raises
    ------
    OutputError
        If the system refuses to write or rename (disk full, permission, ...).
    """
    target = _led_to(path)
    temporary = target.with_name(f".{secrets.token_hex(4)}.partial.{plain_name(target.name).lower()}")
    with all_or_none() as staged:  # joins one that is open
        try:
            yield temporary
            _settle(temporary)
            staged.append((temporary, target))
        except OSError as error:
            raise _refused(path, error) from error
        finally:
            if (temporary, target) not in staged:
                _remove(temporary)


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
                replace(temporary, path)
            except OSError as error:
                raise _refused(path, error) from error
    finally:
        _staged.reset(token)
        for temporary, _ in staged:
            _remove(temporary)


def write_registry(path: Path, checksums: Mapping[str, str]) -> None:
    """Write a registry in pooch's format, a line ``name sha256:...`` for each file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        lines = [f"{name} {checksum}\n" for name, checksum in checksums.items()]
        temporary.write_text("".join(lines), encoding="utf-8")


def replace(source: Path, target: Path) -> None:
    """Give a whole file its name, in place of a file that may have it, whose permissions it then takes.

    Where a share does not rename onto a file that exists, that file is first put aside; where a folder
    does not rename at all, the bytes are copied.

    Raises
    ------
    OSError
        If nothing of this is allowed.
    """
    _take_permissions(source, target)
    try:
        os.replace(source, target)
    except OSError:
        if target.is_dir() != source.is_dir() or not source.exists():
            raise
        if not _replaced_by_turns(source, target):
            if source.is_dir():
                raise
            _copy(source, target)


@contextmanager
def folder_whole(folder: Path, replace: bool) -> Iterator[Path]:
    """Yield a new folder beside `folder`; it becomes `folder` when the block succeeds.

    When the block raises, the new folder is removed and `folder` stays as it was. One that exists goes
    only where `replace` is true, or it is empty. Of a symbolic link what it leads to is replaced.

    Raises
    ------
    OutputError
        If the system refuses to make or rename it.
    """
    folder = _led_to(folder)
    mark = secrets.token_hex(4)
    stage, old = (folder.with_name(f".{mark}.{kind}.{folder.name}") for kind in ("partial", "old"))
    try:
        stage.mkdir(parents=True)
        yield stage
        if folder.exists():
            folder.rename(old) if replace else folder.rmdir()
        stage.rename(folder)
    except OSError as error:
        raise _refused(folder, error) from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (stage, old):
            shutil.rmtree(rest, ignore_errors=True)


def check_room(folder: Path, need: int, advice: str) -> None:
    """Raise an OutputError, which ends with an advice, if the disk of a folder has fewer bytes free."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"{folder}: {readable_size(need)} are needed, {readable_size(free)} are free; {advice}."
        )


def readable_size(count: float) -> str:
    """Return a number of bytes for people: "12 bytes", "3.4 MiB"."""
    if count < 1024:
        return f"{count:.0f} bytes"
    power = 1 if count < 1 << 20 else 2 if count < 1 << 30 else 3
    return f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def _refused(path: Path, error: OSError) -> OutputError:
    """Return what is told where the system refuses to write."""
    advice = "; there is no room left: free some space and run again" if error.errno in NO_ROOM else ""
    return OutputError(f"{path} could not be written: {error.strerror or error}{advice}.")


def _is_store(folder: Path) -> bool:
    """Tell whether a folder is a scan that was written as one (OME-Zarr), and may be replaced as one."""
    return folder.suffix.lower() == ".zarr" and (folder / ".zgroup").is_file()


def _led_to(path: Path) -> Path:
    """Return the file that is written under a name: of a symbolic link the one that it leads to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _settle(path: Path) -> None:
    """Wait until a file is on the disk: a network share may say only then that it has no room."""
    if not path.is_file():
        return  # what made it says so in its own words
    number = os.open(path, os.O_RDWR)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno in (*NO_ROOM, errno.EIO):  # others: a file system that cannot be asked
            raise
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    """Remove a temporary file; in a folder that lets nobody delete, it stays."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(PermissionError):
        path.unlink(missing_ok=True)


def _take_permissions(source: Path, target: Path) -> None:
    """Give a new file the owner, group and mode of the one it replaces, as far as the system lets it."""
    with suppress(OSError):
        old = target.stat()
        if hasattr(os, "chown"):
            with suppress(OSError):
                os.chown(source, old.st_uid, old.st_gid)
        source.chmod(old.st_mode & 0o777)


def _replaced_by_turns(source: Path, target: Path) -> bool:
    """Put what has the name aside, rename, and remove it; false where that fails, with all as it was."""
    aside = target.with_name(f".{secrets.token_hex(4)}.old.{plain_name(target.name)}")
    try:
        target.rename(aside)
    except OSError:
        return False
    try:
        source.rename(target)
    except OSError:
        aside.rename(target)
        return False
    _remove(aside)
    return True


def _copy(source: Path, target: Path) -> None:
    """Write the bytes of a whole file under another name; where that fails, nothing has it."""
    with source.open("rb") as read:
        write = target.open("wb")  # where this is refused, what was there stays
        try:
            with write:
                shutil.copyfileobj(read, write, 1 << 20)
            _settle(target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
