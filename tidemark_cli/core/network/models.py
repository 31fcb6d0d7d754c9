"""Where networks come from: the embedded model, files, folders of them, and weights that were installed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..cache import installed_weights, weights_folder
from ..errors import ModelError
from ..settings import EMBEDDED
from .unet import UNet, load_model


def load_one(name: str) -> UNet:
    """Read one network: the model file of that path, or for "default" the model inside the package.

    Raises
    ------
    ModelError
        If there is no such file, or it is no model.
    """
    if name != EMBEDDED:
        return load_model(Path(name))
    with resources.as_file(resources.files("tidemark_cli") / "models" / "default.safetensors") as path:
        return load_model(path)


def load_models(weights: Path | None) -> list[UNet]:
    """Read the networks to average.

    Parameters
    ----------
    weights : a model file; a folder, of which every ``.safetensors`` is read or, where there is
        none, every ``.pth``; the name of installed weights, where there is no such path; or None or
        "default", whatever is installed or lies here under that name, for the model inside the package.

    Raises
    ------
    ModelError
        If a file is missing or not a model, or the folder holds none.
    """
    if weights is None or str(weights) == EMBEDDED:
        return [load_one(EMBEDDED)]
    if not weights.exists():
        weights = _find_installed(str(weights))
    if not weights.is_dir():
        return [load_model(weights)]
    # not the hidden files that a killed run may leave
    files = sorted(weights.glob("[!.]*.safetensors")) or sorted(weights.glob("[!.]*.pth"))
    if not files:
        raise ModelError(f"{weights}: expected model files (.safetensors or .pth) in it, found none.")
    return [load_model(file) for file in files]


def _find_installed(name: str) -> Path:
    folder = weights_folder(name)
    if folder is None:
        names = ", ".join(installed_weights()) or "none"
        raise ModelError(
            f"{name}: expected a model file, a folder of them, or the name of installed weights, found none; "
            f"installed are: {names} (tidemark download)."
        )
    return folder
