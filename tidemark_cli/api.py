"""tidemark from Python: the work of the commands, for notebooks and scripts.

A scan or a mask is a path (``str`` or ``Path``), a `Volume`, or an array (Z, Y, X), Z along the scan axis; a
2D array is one ZX slice with rows along Z. The voxel size of an array is ``voxel_um``, by default 3.2 µm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import core

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .core.network.unet import UNet
    from .core.registration.register import Registration
    from .core.scans.volume import Volume
    from .core.scoring.scores import SampleScore
    from .core.segmentation import Segmentation

    Scan = str | os.PathLike[str] | Volume | ArrayLike

StrPath = str | os.PathLike[str]
Progress = Callable[[int, int], None]


def read(path: StrPath, voxel_um: float | None = None, *, mask: bool = False) -> Volume:
    """Read a scan, a mask or a folder of slices.

    Parameters
    ----------
    voxel_um : voxel size in µm that overrules the file's.
    mask : allow a single grey level everywhere, as in an empty mask.

    Raises
    ------
    ScanError
        If it cannot be read, or is not a scan.
    """
    return core.scans.volume.read_volume(Path(path), voxel_um, mask=mask)


def write(
    path: StrPath, scan: Volume | ArrayLike, voxel_um: float | None = None, *, overwrite: bool = False
) -> None:
    """Write a scan or a mask in the format of the file's suffix: .tif, .nrrd, .nii.gz, .mha, .ome.zarr, ...

    Parameters
    ----------
    voxel_um : voxel size of an array in µm.
    overwrite : replace an existing file.

    Raises
    ------
    OutputError
        If it exists and `overwrite` is false, or cannot be written.

    Examples
    --------
    >>> import tempfile, tidemark_cli as tidemark
    >>> folder = tempfile.TemporaryDirectory()
    >>> plug = tidemark.draw_phantom(1, (16, 12, 12), voxel_um=40)
    >>> tidemark.write(f"{folder.name}/scan.tif", plug.scan, plug.voxel_um)
    >>> volume = tidemark.read(f"{folder.name}/scan.tif")
    >>> volume.array.shape, volume.voxel_um
    ((16, 12, 12), 40.0)
    >>> folder.cleanup()
    """
    volume = _volume(scan, voxel_um, mask=True)
    core.scans.volume.write_volume(
        Path(path),
        volume.array,
        volume.voxel_um,
        overwrite=overwrite,
        is_image=volume.is_image,
        frame=volume.frame,
    )


def load_models(weights: StrPath | None = None) -> list[UNet]:
    """Load the models to average: the embedded one, or those of a file, a folder or an installed name.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be read.
    """
    return core.network.models.load_models(None if weights is None else Path(weights))


def segment(
    scan: Scan,
    models: Sequence[UNet] | None = None,
    *,
    voxel_um: float | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Segmentation:
    """Find the hard tissue and the tidemark in the PTA scan of a plug.

    Parameters
    ----------
    models : from `load_models`; by default the embedded one.
    progress : called with the slices done and the total.
    settings : threshold, planes, step, bone_end, crop, uncertainty, device, offset_um, as in `tidemark
        predict`.

    Returns
    -------
    The `Segmentation`: ``mask``, ``surface.height_um``, ``stats`` and more, in the frame of the scan. Without
    hard tissue the mask is empty, and the numbers on the tidemark are None.

    Raises
    ------
    ScanError
        If the scan cannot be read, or holds no plug.
    DeviceError
        If the device is missing.

    Examples
    --------
    >>> import tidemark_cli as tidemark
    >>> plug = tidemark.draw_phantom(3, (64, 48, 48), voxel_um=20)
    >>> found = tidemark.segment(plug.scan, voxel_um=20, device="cpu")
    >>> found.mask.shape, found.mask.dtype.name
    ((64, 48, 48), 'uint8')
    """
    chosen = core.settings.Settings(**settings)
    volume = _volume(scan, voxel_um)
    return core.segmentation.segment(volume, models or load_models(), chosen, progress)


def register(
    pta: Scan,
    ca4: Scan,
    *,
    voxel_um: float | None = None,
    metric: str = "mi",
    initial: NDArray[np.float64] | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Find the transform from the PTA scan of a plug to its CA4+ scan, however they were mounted.

    Parameters
    ----------
    voxel_um : voxel size of both in µm.
    metric : what to refine by: mutual information ("mi") or the mean squared difference ("mse").
    initial : (4, 4) to refine instead of searching, from points (x, y, z, 1) of PTA in mm to points of CA4+.

    Raises
    ------
    ScanError
        If a scan cannot be read, or holds no plug.
    """
    if metric not in ("mi", "mse"):
        raise ValueError(f"metric must be mi or mse; found {metric!r}")
    volumes = _volume(pta, voxel_um), _volume(ca4, voxel_um)
    return core.registration.register.register(
        *volumes,
        metric=metric,  # type: ignore[arg-type]
        initial=initial,
        progress=progress,
    )


def resample(
    ca4: Scan, onto: Scan, registration: Registration | NDArray[np.float64], *, voxel_um: float | None = None
) -> NDArray[Any]:
    """Resample a CA4+ scan linearly onto the voxels of a PTA scan.

    Parameters
    ----------
    registration : from `register`, or its (4, 4) matrix.

    Returns
    -------
    (Z, Y, X) of the PTA scan's shape; where the CA4+ scan does not reach, its darkest grey level.
    """
    matrix = getattr(registration, "matrix", registration)
    volumes = _volume(ca4, voxel_um), _volume(onto, voxel_um)
    return core.registration.register.resample(volumes[0], np.asarray(matrix), volumes[1])


def score(
    prediction: Scan,
    truth: Scan,
    *,
    voxel_um: float | None = None,
    pads_um: Sequence[float] = (15.0, 30.0, 45.0, 60.0, 75.0),
    threshold: float = 0.5,
    bone_end: str = "auto",
) -> SampleScore:
    """Score a mask or a probability against the true mask: overlap in zones, and errors of the tidemark.

    Parameters
    ----------
    pads_um : widths of the zones on either side of the tidemark.
    threshold : probability (0 to 1; 255 is 1 in 8-bit data) above which there is hard tissue.

    Raises
    ------
    ScanError
        If one of them cannot be read, they do not fit each other, or the truth is empty.

    Examples
    --------
    >>> import numpy as np, tidemark_cli as tidemark
    >>> truth = np.zeros((24, 12, 12), np.uint8)
    >>> truth[:10] = 255
    >>> found = np.roll(truth, 1, axis=0) | truth  # one voxel too high
    >>> scored = tidemark.score(found, truth, voxel_um=15, pads_um=(30, 60), bone_end="first")
    >>> scored.surface["bias_um"], scored.overlap["iou"]
    (15.0, (0.6666666666666666, 0.8))
    """
    found, true = _volume(prediction, voxel_um, mask=True), _volume(truth, voxel_um, mask=True)
    arrays = core.scoring.pairs.arrange(found, true, core.anatomy.ends.as_told(bone_end))
    pair = arrays.prediction, arrays.truth, arrays.voxel_um
    return core.scoring.scores.score_pair(*pair, tuple(pads_um), (threshold,))[0]


def preview(scan: Scan, segmentation: Segmentation, *, voxel_um: float | None = None) -> Figure:
    """Return a matplotlib figure: two sections with the tidemark drawn, its height map, and the numbers."""
    volume, found = _volume(scan, voxel_um), segmentation
    return core.pictures.preview.compose_preview(
        volume.array, found.mask, found.surface, found.plug, volume.name, found.stats
    )


def _volume(scan: object, voxel_um: float | None, mask: bool = False) -> Volume:
    if isinstance(scan, core.scans.volume.Volume):
        return scan
    if isinstance(scan, str | os.PathLike):
        return read(scan, voxel_um, mask=mask)
    array = np.asarray(scan)
    is_image = array.ndim == 2
    array = array[:, None] if is_image else array
    if array.dtype == bool:
        array = array.view(np.uint8) * np.uint8(255)
    if array.ndim != 3:
        raise core.errors.ContentError(f"an array of shape {array.shape} is no scan; expected (Z, Y, X).")
    size_um = core.scans.volume.DEFAULT_VOXEL_UM if voxel_um is None else voxel_um
    source = "default" if voxel_um is None else "option"
    volume = core.scans.volume.Volume(array, size_um, source, is_image=is_image)
    core.scans.volume.check_grey_levels(volume.path, array, mask)
    return volume
