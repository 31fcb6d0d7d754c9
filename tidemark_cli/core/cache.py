"""The folder for downloads: where it is, registries of checksums, and one process at a time.

::

    <home>/archives/PTA_dataset.tar.gz      the dataset's archive as it was published
    <home>/archives/registry.txt            its SHA-256, remembered from the first download
    <home>/dataset/                         unpacked, unless another folder is named
    <home>/weights/<name>/                  fold_<k>.safetensors and their registry.txt
    <home>/partial/                         what is not finished, and lock files

Registries are in pooch's format: a line ``name sha256:...`` for each file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from . import lazily
from .errors import AssetError, OutputError
from .files import REGISTRY
from .locks import one_at_a_time

if TYPE_CHECKING:
    import pooch
else:
    pooch = lazily.imported("pooch")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def home() -> Path:
    """Return the folder for downloads: TIDEMARK_HOME, else the user's cache folder of this system."""
    if chosen := os.environ.get("TIDEMARK_HOME"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    return user_cache_path("tidemark", appauthor=False)


def is_name(text: str) -> bool:
    """Tell whether `text` is a plain name: letters, digits, ``.``, ``_`` and ``-``, the first no sign."""
    return _NAME.fullmatch(text) is not None


def partial_folder(asset: str) -> Path:
    """Return where the unfinished files of an asset are kept."""
    return home() / "partial" / asset


# --------------------------------------------------------------------------------------- registries


def open_registry(path: Path, folder: Path, base_url: str = "") -> pooch.Pooch:
    """Read a registry; the Pooch returned knows where its files are below `base_url`.

    Raises
    ------
    AssetError
        If the file is missing or no registry.
    """
    files = pooch.create(folder, base_url)
    try:
        files.load_registry(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it cannot be read so"
        raise AssetError(
            f"{path}: expected a registry, a line 'NAME sha256:...' for each file, found none: {reason}."
        ) from error
    return files


def read_registry(path: Path) -> dict[str, str]:
    """Return the checksums of a registry by name, as ``algorithm:digits``; empty where there is no file."""
    return dict(open_registry(path, path.parent).registry) if path.is_file() else {}


def checksum_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the digits of a file's checksum; ValueError for an algorithm that is not known."""
    return str(pooch.file_hash(path, algorithm))


def is_intact(folder: Path) -> bool:
    """Tell whether every file in the registry of `folder` is there and has its checksum."""
    try:
        files = read_registry(folder / REGISTRY)
    except AssetError:
        return False
    return all(has_checksum(folder / name, checksum) for name, checksum in files.items())


def has_checksum(path: Path, checksum: str) -> bool:
    """Tell whether a file is there and has a checksum, ``algorithm:digits`` or digits of SHA-256."""
    kind, _, digits = checksum.rpartition(":")
    try:
        return path.is_file() and checksum_of(path, kind or "sha256") == digits
    except ValueError:
        return False


# ------------------------------------------------------------------------------------- one at a time


@contextmanager
def locked(asset: str, needed: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from the same asset; waits for one that is at it.

    Parameters
    ----------
    needed : false where everything is there already: then a cache that cannot be written is used
        without a lock.

    Raises
    ------
    OutputError
        If the lock is needed and the cache cannot be written.
    """
    lock = partial_folder(f"{asset}.lock")
    with ExitStack() as held:
        try:
            partial_folder(asset).mkdir(parents=True, exist_ok=True)
            held.enter_context(
                one_at_a_time(lock, lambda: tell(f"another tidemark is at work on {asset}; waiting for it"))
            )
        except OSError as error:
            if needed:
                raise OutputError(
                    f"{home()} cannot be written ({error.strerror or error}); set TIDEMARK_HOME to a folder "
                    "that can be."
                ) from error
        yield


def weights_folder(name: str) -> Path | None:
    """Return the folder of an installed set of weights, None where there is none of that name."""
    folder = home() / "weights" / name
    return folder if is_name(name) and (folder / REGISTRY).is_file() else None


def installed_weights() -> list[str]:
    """Return the names of all installed sets of weights, sorted."""
    return sorted(path.parent.name for path in (home() / "weights").glob(f"[!.]*/{REGISTRY}"))
