"""What every download goes through: brought from where it is, verified, and installed whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..cache import checksum_of
from ..errors import AssetError
from ..files import folder_whole, write_registry
from .fetch import Feedback, fetch, is_url, shown


def bring(place: str, target: Path, offline: bool, feedback: Feedback, limit: int | None = None) -> None:
    """Get a file from a URL or path.

    Parameters
    ----------
    target : the file to write; its folder exists.
    limit : bytes; a larger file from the network is refused.

    Raises
    ------
    AssetError
        If `place` is on the network and `offline` is true, cannot be fetched (see `fetch`), or is no file.
    OutputError
        If `target` cannot be written.
    """
    if is_url(place):
        if offline:
            raise AssetError(
                f"offline: {shown(place)} is on the network; run without --offline, or "
                "name a folder on this machine."
            )
        fetch(place, target, feedback, limit)
    elif Path(place).is_file():
        shutil.copyfile(place, target)
    else:
        raise AssetError(f"{place}: expected the file that the registry lists, found none.")


def verified(path: Path, known: str | None, place: str | None = None, advice: str = "get it again") -> str:
    """Return the digits of a file's checksum, after comparing them with the known ones.

    Parameters
    ----------
    known : ``algorithm:digits``, or digits of SHA-256; None compares with nothing.
    place : where the file is from, for the message; itself without it.
    advice : what to do where it is another; ``{found}`` stands for the digits found.

    Raises
    ------
    AssetError
        If it is not the known one, or of an unknown algorithm.
    """
    kind, _, expected = (known or "").rpartition(":")
    kind, where = kind or "sha256", shown(place or str(path))
    try:
        found = checksum_of(path, kind)
    except ValueError as error:
        raise AssetError(f"{where}: {str(error).rstrip('.')}.") from error
    if known is not None and found != expected:
        name = "SHA-256" if kind == "sha256" else kind
        advice = advice.format(found=found)
        raise AssetError(f"{where}: expected the {name} {expected}, found {found}; {advice}.")
    return found


@contextmanager
def installing(target: Path, replace: bool, registry: str, checksums: Mapping[str, str]) -> Iterator[Path]:
    """Yield a new folder that becomes `target` when the block succeeds, with a registry in it.

    Parameters
    ----------
    replace : a folder at `target` goes; without it, one that is not empty is an OutputError.
    registry : name of the registry, which lists `checksums`.
    """
    with folder_whole(target, replace) as stage:
        yield stage
        write_registry(stage / registry, checksums)
