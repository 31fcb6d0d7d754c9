"""What is written of a result: every file asked for or, where one fails or the user stops it, none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from csv import DictWriter
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from . import pictures, registration
from .arrays import on_disk
from .errors import OutputError
from .files import all_or_none, written_whole
from .names import open_table
from .registration.transform import Matrix, write_transform
from .scans.scan_names import suffix_of
from .scans.volume import ITK_SUFFIXES, Volume, write_volume
from .segmentation import DEFINITIONS, Segmentation

LIBRARIES = ("connected-components-3d", "numpy", "opencv-python-headless", "scipy", "torch")  # that compute
NESTED = ("confidence_signs", "shape_zyx", "box_zyx", "models", "slices_predicted")  # not for a table


def check_images(outputs: Mapping[str, Path], volume: Volume) -> None:
    """Raise an OutputError if a volume would go to a format that does not take it, before the work."""
    for name in ("mask", "probability", "uncertainty"):
        path = outputs.get(name)
        if path is not None and path.suffix.lower() == ".png" and not volume.is_image:
            raise OutputError(
                f"{path}: a PNG holds a 2D image, {volume.path} is a volume; use .tif or .nrrd."
            )
        if path is not None and on_disk(volume.array) and suffix_of(path) in ITK_SUFFIXES:
            raise OutputError(
                f"{path}: {suffix_of(path)} is written from a copy in memory, which does not hold "
                f"{volume.path}; use .tif or .ome.zarr."
            )


def write_segmentation(
    outputs: Mapping[str, Path],
    volume: Volume,
    found: Segmentation,
    overwrite: bool = False,
    command: str | None = None,
) -> None:
    """Write what was found in a scan.

    Parameters
    ----------
    outputs : files by what they hold: "mask", "probability", "uncertainty" (each (Z, Y, X) uint8), "surface"
        (the tidemark's height in µm, (Y, X) float), "stats" (JSON, as stats.schema.json describes it),
        "preview" (PNG).
    command : that made it, for the stats.
    """

    def write(name: str, path: Path) -> None:
        if name == "stats":
            _write_stats(path, volume, found.stats, command)
        elif name == "preview":
            shown = (found.mask, found.surface, found.plug, volume.name)
            page = pictures.preview.compose_preview(volume.array, *shown, found.stats)
            pictures.style.write_picture(path, page, overwrite)
        else:
            # a medical format holds an image as a volume one voxel thick
            flat = volume.is_image and path.suffix.lower() in (".tif", ".tiff", ".png")
            how: dict[str, Any] = {"is_image": flat or name == "surface", "frame": volume.frame}
            array = found.surface.height_um[:, None, :] if name == "surface" else getattr(found, name)
            write_volume(path, array, volume.voxel_um, overwrite=overwrite, **how)

    # a picture is drawn while a volume is compressed
    with all_or_none(), ThreadPoolExecutor(2) as pool:
        written = [pool.submit(copy_context().run, partial(write, *output)) for output in outputs.items()]
        for future in written:
            future.result()


def _write_stats(path: Path, volume: Volume, stats: Mapping[str, Any], command: str | None) -> None:
    content = {
        "scan": str(volume.path),
        "scan_sha256": voxels_sha256(volume.array),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "tidemark_cli": __version__,
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        **stats,
        "definitions": DEFINITIONS,
    }
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def voxels_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's voxels: little-endian, X fastest, then Y, then Z."""
    little = array.dtype.newbyteorder("<")
    checksum = hashlib.sha256()
    for plane in array:
        checksum.update(np.ascontiguousarray(plane, little).data)
    return checksum.hexdigest()


def read_stats(path: Path) -> dict[str, Any] | None:
    """Return the numbers that `write_segmentation` has written; None where none can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in DEFINITIONS if key in content}
    except (OSError, TypeError, ValueError):
        return None


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as .csv: "scan", "plug", "state", "error" and every number of `DEFINITIONS`."""
    numbers = [key for key in DEFINITIONS if key not in ("confidence", *NESTED)]
    heads = ("scan", "plug", "state", "confidence", *numbers, "error")
    with written_whole(path) as temporary, open_table(temporary) as file:
        table = DictWriter(file, heads, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def write_registration(
    outputs: Mapping[str, Path],
    pta: Volume,
    registered: np.ndarray,
    matrix: Matrix,
    *,
    found: registration.register.Registration | None,
    level: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write a CA4+ scan that was laid on its PTA scan.

    Parameters
    ----------
    outputs : files by what they hold: "registered", "mask" (uint8), "transform" (.tfm), "preview" (PNG).
    registered : CA4+ in PTA's frame, (Z, Y, X).
    found : how the matrix was found; None where it was given.
    level : hard tissue is above it; None takes `otsu_level`.
    """
    level = registration.register.otsu_level(registered) if level is None else level
    place: dict[str, Any] = {"overwrite": overwrite, "frame": pta.frame}
    with all_or_none():
        for name, path in outputs.items():
            if name == "registered":
                write_volume(path, registered, pta.voxel_um, **place)
            elif name == "mask":
                mask = registration.register.hard_tissue(registered, pta.voxel_um, level)
                write_volume(path, mask, pta.voxel_um, **place)
            elif name == "transform":
                write_transform(path, matrix)
            else:
                told = "as given" if found is None else f"quality {found.quality:.2f}"
                doubted = found is not None and not found.trusted
                page = pictures.overlay.compose_overlay(pta, registered, level, told, doubted)
                pictures.style.write_picture(path, page, overwrite)
