"""The folder for downloads: its layout, registries of checksums, and locks.

::

    <home>/archives/PTA_dataset.tar.gz      the dataset's archive, as published
    <home>/archives/registry.txt            its SHA-256, remembered from the first download
    <home>/dataset/                         the dataset, unless unpacked into another folder
    <home>/weights/<name>/                  fold_<k>.safetensors and their registry.txt
    <home>/partial/                         unfinished downloads and lock files

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


def home() -> Path:
    """Return the folder for downloads: TIDEMARK_HOME, or the system's cache folder for this user."""
    if chosen := os.environ.get("TIDEMARK_HOME"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    return user_cache_path("tidemark", appauthor=False)


def is_name(text: str) -> bool:
    """Return whether `text` is letters, digits, ``.``, ``_`` and ``-``, and begins with a letter or digit."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) is not None


def partial_folder(asset: str) -> Path:
    """Return the folder for the unfinished files of an asset."""
    return home() / "partial" / asset


def weights_folder(name: str) -> Path | None:
    """Return the folder of a set of installed weights, or None if there is none of that name."""
    folder = home() / "weights" / name
    return folder if is_name(name) and (folder / REGISTRY).is_file() else None


def installed_weights() -> list[str]:
    """Return the names of all installed weights, sorted."""
    return sorted(path.parent.name for path in (home() / "weights").glob(f"[!.]*/{REGISTRY}"))


def open_registry(path: Path, base_url: str = "") -> pooch.Pooch:
    """Read a registry into a Pooch, which knows the URLs of the files below `base_url`.

    Raises
    ------
    AssetError
        If the file is missing or is not a registry.
    """
    files = pooch.create(path.parent, base_url)
    try:
        files.load_registry(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be parsed"
        raise AssetError(
            f"{path}: expected a registry, a line 'NAME sha256:...' for each file, found none: {reason}."
        ) from error
    return files


def read_registry(path: Path) -> dict[str, str]:
    """Return the checksums in a registry by file name, empty if there is no such file."""
    return dict(open_registry(path).registry) if path.is_file() else {}


def verified(path: Path, known: str | None, place: str | None = None, advice: str = "get it again") -> str:
    """Compute the checksum of a file and compare it with the known one.

    Parameters
    ----------
    known : ``algorithm:digits``, or digits of a SHA-256; None compares with nothing.
    place : what the message calls the file; by default its path.
    advice : what to do about a mismatch; ``{found}`` stands for the digits found.

    Returns
    -------
    The digits found.

    Raises
    ------
    AssetError
        If the checksums differ, or the algorithm is unknown.
    """
    kind, _, expected = (known or "").rpartition(":")
    kind, place = kind or "sha256", place or str(path)
    try:
        found = str(pooch.file_hash(path, kind))
    except ValueError as error:
        raise AssetError(f"{place}: {str(error).rstrip('.')}.") from error
    if known is not None and found != expected:
        name, advice = "SHA-256" if kind == "sha256" else kind, advice.format(found=found)
        raise AssetError(f"{place}: expected the {name} {expected}, found {found}; {advice}.")
    return found


def has_checksum(path: Path, checksum: str) -> bool:
    """Return whether a file exists and has a checksum, written as for `verified`."""
    try:
        return path.is_file() and bool(verified(path, checksum))
    except AssetError:
        return False


def is_intact(folder: Path) -> bool:
    """Return whether every file in the registry of `folder` exists and has its checksum."""
    try:
        files = read_registry(folder / REGISTRY)
    except AssetError:
        return False
    return all(has_checksum(folder / name, checksum) for name, checksum in files.items())


@contextmanager
def locked(asset: str, needed: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes away from an asset; wait for one that is using it.

    Parameters
    ----------
    needed : if false, a cache that cannot be written is used without a lock.

    Raises
    ------
    OutputError
        If the lock is needed and the cache cannot be written.
    """
    with ExitStack() as held:
        try:
            partial_folder(asset).mkdir(parents=True, exist_ok=True)
            waiting = f"another tidemark is using {asset}; waiting for it"
            held.enter_context(one_at_a_time(partial_folder(f"{asset}.lock"), lambda: tell(waiting)))
        except OSError as error:
            if needed:
                raise OutputError(
                    f"{home()} cannot be written ({error.strerror or error}); set TIDEMARK_HOME to a folder "
                    "that can be."
                ) from error
        yield
