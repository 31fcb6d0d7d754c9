"""What there is to download: the public dataset, installed whole or not at all, and a list of it all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..cache import (
    REGISTRY,
    home,
    installed_weights,
    is_intact,
    locked,
    partial_folder,
    read_registry,
    write_registry,
)
from ..errors import AssetError, OutputError
from ..files import folder_whole
from .archive import unpack
from .fetch import SILENT, Feedback, check_room, fetch, shown

DATASET_URL = "http://mipt-ml.oulu.fi/data/mCTSegmentation/PTA_dataset.tar.gz"
ARCHIVE = "PTA_dataset.tar.gz"
SOURCE = "archive.txt"  # in an unpacked dataset: a registry of the archive it came from
_ELSEWHERE = "The host may be gone: take a mirror with --url, or a copy carried by hand with --from."


@dataclass(frozen=True)
class Dataset:
    """An installed dataset.

    Attributes
    ----------
    folder : with ``pre_processed`` in it.
    samples : folders in ``pre_processed`` that have both slices and masks.
    sha256 : of the archive it came from.
    fresh : whether it was installed now; false where it was there already.
    """

    folder: Path
    samples: int
    sha256: str
    fresh: bool


@dataclass(frozen=True)
class Asset:
    """A line of what there is.

    Attributes
    ----------
    kind : "archive", "dataset" or "weights".
    name : of the weights; else the file or folder.
    state : "verified" (every byte against its checksum), "damaged", "unverified" (no checksum is known),
        "unpacked", "interrupted" or "absent".
    size_bytes : on the disk; of an interrupted download, what has come.
    path : where it is, or would be.
    """

    kind: str
    name: str
    state: str
    size_bytes: int
    path: Path


def list_assets(feedback: Feedback = SILENT) -> list[Asset]:
    """Return what there is, files compared with their checksums; nothing touches the network."""
    dataset = home() / "dataset"
    unpacked = "unpacked" if (dataset / SOURCE).is_file() else "absent"
    found = [_archive_asset(feedback), Asset("dataset", dataset.name, unpacked, _size_of(dataset), dataset)]
    for name in installed_weights():
        folder = home() / "weights" / name
        state = "verified" if is_intact(folder) else "damaged"
        found.append(Asset("weights", name, state, _size_of(folder), folder))
    return found


def _archive_asset(feedback: Feedback) -> Asset:
    archive = _cached_archive()
    if not archive.is_file():
        came = _size_of(partial_folder("dataset"))
        return Asset("archive", ARCHIVE, "interrupted" if came else "absent", came, archive)
    known = remembered_sha256()
    state = "unverified" if known is None else "damaged"
    if known == _sha256(archive, feedback):
        state = "verified"
    return Asset("archive", ARCHIVE, state, archive.stat().st_size, archive)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------ dataset


def download_dataset(
    out: Path | None = None,
    *,
    url: str = DATASET_URL,
    copy: Path | None = None,
    sha256: str | None = None,
    offline: bool = False,
    overwrite: bool = False,
    feedback: Feedback = SILENT,
) -> Dataset:
    """Install the public dataset, from a copy of the archive, the one in the cache, or the network.

    Parameters
    ----------
    out : the folder to make; without it, ``dataset`` in the folder for downloads.
    copy : an archive to take in place of the cache and the network.
    sha256 : 64 digits that the archive must have; without it, those of the first download, if any.
    offline : never touch the network.
    overwrite : replace a dataset at `out`.

    Raises
    ------
    AssetError
        If the archive cannot be fetched, has another checksum, or is no archive of a dataset.
    OutputError
        If `out` exists, or something cannot be written.
    """
    target = home() / "dataset" if out is None else Path(os.path.abspath(out))
    local = (copy, _cached_archive(), target / SOURCE)
    with locked("dataset", not any(path and path.is_file() for path in local), feedback.tell):
        known = sha256 or remembered_sha256()
        if copy is not None:
            known = _verified(copy, known, feedback)
        there = _checksum(target / SOURCE)
        if there and not overwrite and known in (None, there):
            return Dataset(target, _count_samples(target), there, fresh=False)
        _check_target(target, overwrite, made=out is None)
        archive = copy or _archive_from_cache(known, feedback)
        if archive is None and offline:
            raise AssetError(
                f"offline: {_cached_archive()} is missing or has another checksum; run without --offline, or "
                "name a copy of the archive with --from."
            )
        archive = archive or _archive_from(url, feedback)
        return _install(archive, known, target, overwrite, feedback)


def remembered_sha256() -> str | None:
    """Return the SHA-256 of the dataset's archive as remembered from its first download, or None."""
    return _checksum(_cached_archive().with_name(REGISTRY))


def _cached_archive() -> Path:
    return home() / "archives" / ARCHIVE


def _checksum(registry: Path) -> str | None:
    found = read_registry(registry).get(ARCHIVE)
    return found and found.removeprefix("sha256:")


def _sha256(path: Path, feedback: Feedback) -> str:
    import pooch

    feedback.tell(f"computing the SHA-256 of {path}")
    return str(pooch.file_hash(path))


def _verified(archive: Path, known: str | None, feedback: Feedback) -> str:
    found = _sha256(archive, feedback)
    if known not in (None, found):
        raise AssetError(
            f"{archive}: expected the SHA-256 {known}, found {found}; get it again, or, if the archive is "
            f"known to have changed, say so with --sha256 {found}."
        )
    return found


def _check_target(target: Path, overwrite: bool, made: bool) -> None:
    """Raise where the dataset could not take its place after the long work; `made`: its folder is."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if not overwrite:
            raise OutputError(f"{target} exists already; use --overwrite to replace it, or another name.")
        if not (target / "pre_processed").is_dir():
            raise OutputError(f"{target} is no dataset, and is not replaced by one; name another folder.")
    if not made and not target.parent.is_dir():
        raise OutputError(f"{target} cannot be made: {target.parent} does not exist; create it first.")


def _archive_from_cache(known: str | None, feedback: Feedback) -> Path | None:
    cached = _cached_archive()
    if not cached.is_file():
        return None
    if known in (None, _sha256(cached, feedback)):
        return cached
    feedback.tell(f"{cached} has another SHA-256 than {known}: it is not used")
    return None


def _archive_from(url: str, feedback: Feedback) -> Path:
    """Fetch the archive; it stays among the unfinished until it has proved whole."""
    archive = partial_folder("dataset") / ARCHIVE
    if not archive.exists():  # else an earlier run was stopped while it unpacked
        feedback.tell(f"downloading {shown(url)}")
        try:
            fetch(url, archive, feedback)
        except AssetError as error:
            raise AssetError(f"{error} {_ELSEWHERE}") from error
    return archive


def _install(archive: Path, known: str | None, target: Path, overwrite: bool, feedback: Feedback) -> Dataset:
    """Verify and unpack the archive, then keep it, and remember its checksum."""
    fetched = archive.parent == partial_folder("dataset")
    try:
        found = _verified(archive, known, feedback) if fetched else known or _sha256(archive, feedback)
        samples = _unpack(archive, found, target, overwrite, feedback)
    except AssetError:
        if fetched:
            archive.unlink()
        raise
    try:
        if fetched:
            _cached_archive().parent.mkdir(parents=True, exist_ok=True)
            archive.replace(_cached_archive())
        if found != remembered_sha256():
            write_registry(_cached_archive().with_name(REGISTRY), {ARCHIVE: f"sha256:{found}"})
    except (OSError, OutputError) as error:
        feedback.tell(f"the archive and its SHA-256 could not be kept: {error}")
    return Dataset(target, samples, found, fresh=True)


def _unpack(archive: Path, sha256: str, target: Path, overwrite: bool, feedback: Feedback) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    check_room(target.parent, archive.stat().st_size)
    with folder_whole(target, overwrite) as stage:
        with feedback.progress(f"unpacking {archive.name}") as advance:
            unpack(archive, stage, "Data", advance)
        samples = _count_samples(stage)
        if not samples:
            found = ", ".join(sorted(path.name for path in stage.iterdir())[:5]) or "nothing"
            raise AssetError(f"{archive}: expected pre_processed/SAMPLE/imgs and masks in it, found {found}.")
        write_registry(stage / SOURCE, {ARCHIVE: f"sha256:{sha256}"})
    return samples


def _count_samples(dataset: Path) -> int:
    return sum((images.parent / "masks").is_dir() for images in dataset.glob("pre_processed/*/imgs/"))
