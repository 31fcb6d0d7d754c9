"""Unpack an untrusted .tar.gz: nothing outside the folder, no links, no bombs."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from ..errors import AssetError, OutputError

MOST_BYTES = 64 << 30  # in all files together; the public dataset holds 11 GB of voxels
MOST_MEMBERS = 200_000  # the public dataset has some 63,000
MOST_RATIO = 100  # unpacked over packed bytes; about 1 for slices, which are compressed already
FREE_OF_RATIO = 64 << 20  # unpacked bytes; small archives of small files are mostly padding
MOST_HEADER = 1 << 20  # bytes from the end of one file to the start of the next
BLOCK = 1 << 16

# raises a TarError for harmful members; the first releases of Python 3.10 and 3.11 lack it
_filter = getattr(tarfile, "data_filter", lambda member, folder: member)
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, RecursionError)


def unpack(
    archive: Path, folder: Path, root: str, progress: Callable[[int, int], None] | None = None
) -> None:
    """Unpack the plain files of a gzip-compressed tar archive, without their owners, modes and times.

    Parameters
    ----------
    folder : exists and is empty; after an error, its content is to be thrown away.
    root : a folder at the top of the archive that is left out of the names.
    progress : called with (bytes read, bytes of the archive).

    Raises
    ------
    AssetError
        If the archive is damaged or truncated; holds a link, a device, a duplicate, or a name that leads out
        of the folder; or exceeds `MOST_MEMBERS`, `MOST_BYTES` or `MOST_RATIO`.
    OutputError
        If a file cannot be written.
    """
    size, files, members = archive.stat().st_size, 0, 0
    try:
        with open(archive, "rb") as raw:
            reader = _Counted(raw)
            # a stream, read once from front to back
            with tarfile.open(fileobj=cast(IO[bytes], reader), mode="r|", bufsize=BLOCK) as tar:
                while (member := tar.next()) is not None:
                    if member.size < 0:
                        raise ValueError("a size in it is negative")
                    members, files = members + 1, files + member.size
                    if members > MOST_MEMBERS or files > MOST_BYTES:
                        most = f"{MOST_MEMBERS} files or {MOST_BYTES >> 30} GiB"
                        raise AssetError(f"{archive} holds more than {most}: it is not a dataset.")
                    reader.allow(member.size)
                    _take(tar, member, archive, folder, root)
                    if progress is not None:
                        progress(raw.tell(), size)
                reader.check_end(tar.offset)
    except _DAMAGED as error:
        raise AssetError(f"{archive} is not a complete .tar.gz archive ({error}); get it again.") from error
    except OSError as error:
        where = error.filename or folder
        raise OutputError(
            f"{where} could not be written: {error.strerror or error}; fix that and run it again."
        ) from error


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path, folder: Path, root: str) -> None:
    """Write one member into the folder, or refuse it."""
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise AssetError(f"{archive}: {member.name!r} is a link, a device or sparse; expected plain files.")
    parts = PurePosixPath(member.name).parts
    if ".." in parts or member.name.startswith("/") or any(sign in member.name for sign in "\\:\0"):
        raise AssetError(f"{archive}: {member.name!r} leads out of the folder; expected names inside it.")
    name = PurePosixPath(*parts[parts[:1] == (root,) :])
    _filter(member.replace(name=str(name), deep=False), str(folder))
    target = folder / name
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise AssetError(f"{archive}: {member.name!r} is in it twice; expected each file once.") from error
    with file:
        shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), file, 1 << 20)


class _Counted:
    """The unpacked bytes of a .gz; counts them and raises if they exceed the limits."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._gzip = raw, gzip.GzipFile(fileobj=raw)
        self._count, self._last = 0, b""
        self.allow(0)

    def allow(self, size: int) -> None:
        """Allow a file of `size` bytes and the header after it, which tarfile reads into memory."""
        self._allowed = self._count + size + MOST_HEADER

    def read(self, size: int) -> bytes:
        self._last = self._gzip.read(size)
        self._count += len(self._last)
        if self._count > self._allowed:
            raise AssetError(f"{self._raw.name}: a header in it is larger than {MOST_HEADER} bytes.")
        if self._count > FREE_OF_RATIO + MOST_RATIO * self._raw.tell():
            raise AssetError(
                f"{self._raw.name} unpacks to over {MOST_RATIO} times its size: it is not a dataset."
            )
        return self._last

    def check_end(self, offset: int) -> None:
        """Raise unless only zeros follow `offset`, and some do: tarfile stops silently at less."""
        rest = self._last[offset - (self._count - len(self._last)) :]
        if len(rest) < tarfile.BLOCKSIZE:
            raise EOFError("its end mark is missing")
        while rest:
            if rest.strip(b"\0"):
                raise ValueError("a header in it is damaged")
            rest = self.read(BLOCK)  # to the end, where the checksum of the .gz is
