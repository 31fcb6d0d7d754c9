"""Sets of trained weights, installed by name from a registry that `train` or anyone else has written."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..cache import (
    has_checksum,
    home,
    is_intact,
    is_name,
    locked,
    open_registry,
    partial_folder,
    read_registry,
)
from ..errors import AssetError, ModelError, OutputError
from ..files import REGISTRY
from ..network.unet import load_model
from .fetch import SILENT, Feedback, is_url, shown
from .install import bring, installing, verified

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
    folder : with the models in it.
    models : their file names, sorted.
    fresh : whether it was installed now; false where it was there already.
    """

    folder: Path
    models: list[str]
    fresh: bool


def name_from(registry: str) -> str | None:
    """Return the name that weights get from where they come: the folder of the registry; None where unfit."""
    place = urlsplit(_place(registry)).path if is_url(registry) else str(Path(_place(registry)).absolute())
    name = PurePosixPath(place.replace("\\", "/")).parent.name
    return name if is_name(name) else None


def download_weights(
    registry: str,
    name: str,
    *,
    offline: bool = False,
    overwrite: bool = False,
    feedback: Feedback = SILENT,
) -> Weights:
    """Install the models that a registry lists, each verified against its checksum and read once.

    Parameters
    ----------
    registry : URL or path of a registry in pooch's format, or of the folder with ``registry.txt`` in it. The
        models lie beside it, or where the third word of a line says.
    name : for `cache.weights_folder`.
    offline : never touch the network; then `registry` is to be a path.
    overwrite : replace other weights of that name.

    Raises
    ------
    AssetError
        If the registry or a file cannot be fetched, is not what its checksum says, or is no model.
    OutputError
        If there are other weights of that name, or something cannot be written.
    """
    with locked(f"weights-{name}", needed=True, tell=feedback.tell):
        partial, target = partial_folder(f"weights-{name}"), home() / "weights" / name
        pup = _open(_place(registry), partial, offline, feedback)
        files = _wanted(pup, _place(registry))
        models = [file for file in files if file != BESIDE]
        if target.exists() and not overwrite:
            if read_registry(target / REGISTRY) != {file: pup.registry[file] for file in files}:
                raise OutputError(f"{target} holds other weights; use --overwrite, or another --name.")
            if is_intact(target):
                return Weights(target, models, fresh=False)
            feedback.tell(f"{target} is damaged: it is replaced")
        for file in files:
            _fetch(pup, file, partial, offline, feedback)
        try:
            for model in models:  # read once, so that what is installed can be used
                load_model(partial / model)
        except ModelError:
            shutil.rmtree(partial)
            raise
        checksums = {file: pup.registry[file] for file in files}
        with installing(target, replace=True, registry=REGISTRY, checksums=checksums) as stage:
            for file in files:
                (partial / file).replace(stage / file)
        shutil.rmtree(partial)
        return Weights(target, models, fresh=True)


def _place(registry: str) -> str:
    """Return the URL or path of the registry itself, where its folder may have been named."""
    if not is_url(registry):
        path = Path(registry)
        return str(path / REGISTRY if path.is_dir() else path)
    parts = urlsplit(registry)
    if parts.path.endswith(".txt"):
        return registry
    return parts._replace(path=f"{parts.path.rstrip('/')}/{REGISTRY}").geturl()


def _open(place: str, partial: Path, offline: bool, feedback: Feedback) -> Pooch:
    if not is_url(place):
        return open_registry(Path(place), partial, str(Path(place).parent))
    path = partial / REGISTRY
    path.unlink(missing_ok=True)  # of an earlier run: the weights may be others by now
    bring(place, path, offline, feedback, MOST_REGISTRY)
    base = urlsplit(place)
    folder = base._replace(path=base.path.rpartition("/")[0], query="", fragment="")
    try:
        return open_registry(path, partial, folder.geturl())
    except AssetError as error:
        raise AssetError(f"{shown(place)} is no registry: {error}") from error


def _wanted(pup: Pooch, place: str) -> list[str]:
    """Return the files to install, models and what they need; other files of the registry are left."""
    names = [name for name in pup.registry if name.endswith(MODELS) or name == BESIDE]
    if not any(name.endswith(MODELS) for name in names):
        raise AssetError(f"{shown(place)}: expected models ({' or '.join(MODELS)}) in it, found none.")
    for name in names:
        if not is_name(name):  # pooch would follow it out of the folder
            raise AssetError(f"{shown(place)}: expected plain file names, found {name!r}; it is not trusted.")
        if name in pup.urls and not is_url(pup.urls[name]):
            raise AssetError(f"{shown(place)}: expected http(s) URLs, found {pup.urls[name]!r} for {name}.")
    return sorted(names)


def _fetch(pup: Pooch, name: str, folder: Path, offline: bool, feedback: Feedback) -> None:
    """Get and verify a file, unless an interrupted run has done so."""
    path, known, place = folder / name, pup.registry[name], pup.get_url(name)
    if has_checksum(path, known):
        return
    try:
        bring(place, path, offline, feedback)
        verified(path, known, place)
    except AssetError:
        path.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
