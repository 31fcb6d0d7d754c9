"""The public dataset, installed completely or not at all, and the list of all downloads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .. import cache
from ..errors import AssetError, OutputError
from ..files import REGISTRY, check_room, folder_whole, write_registry
from .archive import unpack
from .fetch import ANOTHER_DISK, SILENT, Feedback, fetch, kept, shown

DATASET_URL = "http://mipt-ml.oulu.fi/data/mCTSegmentation/PTA_dataset.tar.gz"
ARCHIVE = "PTA_dataset.tar.gz"
SOURCE = "archive.txt"  # in an unpacked dataset: a registry of the archive it came from
_CHANGED = "get it again, or, if you know that the archive has changed, accept it with --sha256 {found}"
_ELSEWHERE = "The host may be gone: use a mirror with --url, or a copy of the archive with --from."


@dataclass(frozen=True)
class Dataset:
    """An installed dataset.

    Attributes
    ----------
    folder : with ``pre_processed`` in it.
    samples : folders in ``pre_processed`` that have both slices and masks.
    sha256 : of the archive it came from.
    fresh : false if it was already there.
    """

    folder: Path
    samples: int
    sha256: str
    fresh: bool


@dataclass(frozen=True)
class Asset:
    """A line in the list of downloads.

    Attributes
    ----------
    kind : "archive", "dataset" or "weights".
    name : of the weights; else the file or folder.
    state : "verified" (every byte against its checksum), "damaged", "unverified" (no checksum is known),
        "unpacked", "interrupted" or "absent".
    size_bytes : on the disk.
    path : where it is, or would be.
    """

    kind: str
    name: str
    state: str
    size_bytes: int
    path: Path


def list_assets(feedback: Feedback = SILENT) -> list[Asset]:
    """Return all downloads, verified against their checksums, without touching the network."""
    dataset = cache.home() / "dataset"
    unpacked = "unpacked" if (dataset / SOURCE).is_file() else "absent"
    found = [_archive_asset(feedback), Asset("dataset", dataset.name, unpacked, _size_of(dataset), dataset)]
    for name in cache.installed_weights():
        folder = cache.home() / "weights" / name
        state = "verified" if cache.is_intact(folder) else "damaged"
        found.append(Asset("weights", name, state, _size_of(folder), folder))
    return found


def _archive_asset(feedback: Feedback) -> Asset:
    archive, fetched = _cached_archive(), _fetched_archive()
    if not archive.is_file():
        size = fetched.stat().st_size if fetched.is_file() else kept(fetched)[0]
        return Asset("archive", ARCHIVE, "interrupted" if size else "absent", size, archive)
    known, found = remembered_sha256(), _sha256(archive, None, feedback)
    state = "unverified" if known is None else "verified" if known == found else "damaged"
    return Asset("archive", ARCHIVE, state, archive.stat().st_size, archive)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
    """Install the public dataset from a copy of the archive, the one in the cache, or the network.

    Parameters
    ----------
    out : the folder to make; by default ``dataset`` in the folder for downloads.
    copy : an archive to use instead of the cache and the network.
    sha256 : 64 digits that the archive must have; by default those of the first download, if any.
    offline : do not touch the network.
    overwrite : replace a dataset at `out`.

    Raises
    ------
    AssetError
        If the archive cannot be fetched, has another checksum, or does not hold a dataset.
    OutputError
        If `out` exists, or something cannot be written.
    """
    target = cache.home() / "dataset" if out is None else Path(os.path.abspath(out))
    local = (copy, _cached_archive(), target / SOURCE)
    with cache.locked("dataset", not any(path and path.is_file() for path in local), feedback.tell):
        known = sha256 or remembered_sha256()
        if copy is not None:
            known = _sha256(copy, known, feedback)
        there = _checksum(target / SOURCE)
        if there and not overwrite and known in (None, there):
            return Dataset(target, _count_samples(target), there, fresh=False)
        _check_target(target, overwrite, made=out is None)
        archive, found = (copy, known) if copy and known else _archive(url, known, offline, feedback)
        return _install(archive, found, target, overwrite, feedback)


def remembered_sha256() -> str | None:
    """Return the SHA-256 of the dataset's archive, remembered from its first download, or None."""
    return _checksum(_cached_archive().with_name(REGISTRY))


def _cached_archive() -> Path:
    return cache.home() / "archives" / ARCHIVE


def _fetched_archive() -> Path:
    """Return where an archive stays until it has been unpacked."""
    return cache.partial_folder("dataset") / ARCHIVE


def _checksum(registry: Path) -> str | None:
    found = cache.read_registry(registry).get(ARCHIVE)
    return found and found.removeprefix("sha256:")


def _sha256(archive: Path, known: str | None, feedback: Feedback) -> str:
    feedback.tell(f"computing the SHA-256 of {archive}")
    return cache.verified(archive, known, advice=_CHANGED)


def _check_target(target: Path, overwrite: bool, made: bool) -> None:
    """Raise before the long work if the dataset could not be put in place after it."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if not overwrite:
            raise OutputError(f"{target} exists already; use --overwrite to replace it, or another name.")
        if not (target / "pre_processed").is_dir():
            raise OutputError(f"{target} is not a dataset and is not replaced by one; name another folder.")
    if not made and not target.parent.is_dir():
        raise OutputError(f"{target} cannot be made: {target.parent} does not exist; create it first.")


def _archive(url: str, known: str | None, offline: bool, feedback: Feedback) -> tuple[Path, str]:
    """Return the archive, from the cache or the network, and its SHA-256."""
    cached, archive = _cached_archive(), _fetched_archive()
    if cached.is_file():
        found = _sha256(cached, None, feedback)
        if known in (None, found):
            return cached, found
        feedback.tell(f"{cached} does not have the SHA-256 {known}: it is not used")
    if offline:
        raise AssetError(
            f"offline: {cached} is missing or has another checksum; run without --offline, or "
            "name a copy of the archive with --from."
        )
    if not archive.exists():  # an earlier run may have been stopped while unpacking
        feedback.tell(f"downloading {shown(url)}")
        try:
            fetch(url, archive, feedback)
        except AssetError as error:
            raise AssetError(f"{error} {_ELSEWHERE}") from error
    try:
        return archive, _sha256(archive, known, feedback)
    except AssetError:
        archive.unlink()
        raise


def _install(archive: Path, sha256: str, target: Path, overwrite: bool, feedback: Feedback) -> Dataset:
    """Unpack an archive, keep it if it was fetched, and remember its checksum."""
    fetched, checksums = archive == _fetched_archive(), {ARCHIVE: f"sha256:{sha256}"}
    target.parent.mkdir(parents=True, exist_ok=True)
    check_room(target.parent, archive.stat().st_size, ANOTHER_DISK)
    try:
        with folder_whole(target, overwrite) as stage:
            with feedback.progress(f"unpacking {archive.name}") as advance:
                unpack(archive, stage, "Data", advance)
            if not (samples := _count_samples(stage)):
                found = ", ".join(sorted(path.name for path in stage.iterdir())[:5]) or "nothing"
                raise AssetError(
                    f"{archive}: expected pre_processed/SAMPLE/imgs and masks in it, found {found}."
                )
            write_registry(stage / SOURCE, checksums)
    except AssetError:
        if fetched:
            archive.unlink()
        raise
    try:
        if fetched:
            _cached_archive().parent.mkdir(parents=True, exist_ok=True)
            archive.replace(_cached_archive())
        if sha256 != remembered_sha256():
            write_registry(_cached_archive().with_name(REGISTRY), checksums)
    except (OSError, OutputError) as error:
        feedback.tell(f"the archive and its SHA-256 could not be kept: {error}")
    return Dataset(target, samples, sha256, fresh=True)


def _count_samples(dataset: Path) -> int:
    return sum((images.parent / "masks").is_dir() for images in dataset.glob("pre_processed/*/imgs/"))
