"""Sets of trained weights, installed by name from a registry that `train` or anyone else has written."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .. import cache
from ..errors import AssetError, ModelError, OutputError
from ..files import REGISTRY, folder_whole, write_registry
from ..network.unet import load_model
from .fetch import SILENT, Feedback, fetch, is_url, shown

if TYPE_CHECKING:
    from pooch import Pooch

MODELS = (".safetensors", ".pth")
BESIDE = "mean_std.npy"  # what the checkpoints of the paper's authors need beside them
MOST_REGISTRY = 1 << 20  # bytes


@dataclass(frozen=True)
class Weights:
    """An installed set of weights.

    Attributes
    ----------
    models : their file names, sorted.
    fresh : false if they were already there.
    """

    folder: Path
    models: list[str]
    fresh: bool


def name_from(registry: str) -> str | None:
    """Return the name of the registry's folder, which the weights get by default; None if it is unfit."""
    place = urlsplit(_place(registry)).path if is_url(registry) else str(Path(_place(registry)).absolute())
    name = PurePosixPath(place.replace("\\", "/")).parent.name
    return name if cache.is_name(name) else None


def download_weights(
    registry: str,
    name: str,
    *,
    offline: bool = False,
    overwrite: bool = False,
    feedback: Feedback = SILENT,
) -> Weights:
    """Install the models in a registry; each is verified against its checksum and loaded once.

    Parameters
    ----------
    registry : URL or path of a registry in pooch's format, or of the folder with ``registry.txt`` in it. The
        models lie beside it, or at the URL that is the third word of their line.
    offline : do not touch the network; `registry` must then be a path.
    overwrite : replace other weights of that name.

    Raises
    ------
    AssetError
        If the registry or a file cannot be fetched or does not match its checksum.
    ModelError
        If a file is not a model.
    OutputError
        If other weights have that name, or something cannot be written.
    """
    with cache.locked(f"weights-{name}", needed=True, tell=feedback.tell):
        partial, target = cache.partial_folder(f"weights-{name}"), cache.home() / "weights" / name
        pup = _open(_place(registry), partial, offline, feedback)
        checksums = {file: pup.registry[file] for file in _wanted(pup, _place(registry))}
        models = [file for file in checksums if file != BESIDE]
        if target.exists() and not overwrite:
            if cache.read_registry(target / REGISTRY) != checksums:
                raise OutputError(f"{target} holds other weights; use --overwrite, or another --name.")
            if cache.is_intact(target):
                return Weights(target, models, fresh=False)
            feedback.tell(f"{target} is damaged: it is replaced")
        for file, checksum in checksums.items():
            if not cache.has_checksum(partial / file, checksum):  # from an interrupted run
                _fetch(pup.get_url(file), partial / file, checksum, offline, feedback)
        try:
            for model in models:
                load_model(partial / model)
        except ModelError:
            shutil.rmtree(partial)
            raise
        with folder_whole(target, replace=True) as stage:
            for file in checksums:
                (partial / file).replace(stage / file)
            write_registry(stage / REGISTRY, checksums)
        shutil.rmtree(partial)
        return Weights(target, models, fresh=True)


def _place(registry: str) -> str:
    """Return the URL or path of the registry file, given that or its folder."""
    if not is_url(registry):
        path = Path(registry)
        return str(path / REGISTRY if path.is_dir() else path)
    parts = urlsplit(registry)
    if parts.path.endswith(".txt"):
        return registry
    return parts._replace(path=f"{parts.path.rstrip('/')}/{REGISTRY}").geturl()


def _open(place: str, partial: Path, offline: bool, feedback: Feedback) -> Pooch:
    if not is_url(place):
        return cache.open_registry(Path(place), str(Path(place).parent))
    path = partial / REGISTRY
    _bring(place, path, offline, feedback, MOST_REGISTRY)
    url = urlsplit(place)
    folder = url._replace(path=url.path.rpartition("/")[0], query="", fragment="")
    try:
        return cache.open_registry(path, folder.geturl())
    except AssetError as error:
        raise AssetError(f"{shown(place)} is not a registry: {error}") from error


def _wanted(pup: Pooch, place: str) -> list[str]:
    """Return the models in a registry and the file that they may need, sorted."""
    names = [name for name in pup.registry if name.endswith(MODELS) or name == BESIDE]
    if not any(name.endswith(MODELS) for name in names):
        raise AssetError(f"{shown(place)}: expected models ({' or '.join(MODELS)}) in it, found none.")
    for name in names:
        if not cache.is_name(name):  # it could lead out of the folder
            raise AssetError(f"{shown(place)}: expected plain file names, found {name!r}; it is not trusted.")
        if name in pup.urls and not is_url(pup.urls[name]):
            raise AssetError(f"{shown(place)}: expected http(s) URLs, found {pup.urls[name]!r} for {name}.")
    return sorted(names)


def _fetch(place: str, path: Path, checksum: str, offline: bool, feedback: Feedback) -> None:
    """Get a file and verify it; remove it if it is wrong."""
    try:
        _bring(place, path, offline, feedback)
        cache.verified(path, checksum, shown(place))
    except AssetError:
        path.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error


def _bring(place: str, target: Path, offline: bool, feedback: Feedback, limit: int | None = None) -> None:
    """Download a file, or copy it from a folder."""
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
