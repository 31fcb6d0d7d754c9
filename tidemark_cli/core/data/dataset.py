"""The layout of the public dataset: samples as folders of ZX and ZY slices, and their grades.

::

    <dataset>/pre_processed/<sample_id>/imgs/ZX_<y>.png, ZY_<x>.png     8-bit grey, rows Z, columns X or Y
    <dataset>/pre_processed/<sample_id>/masks/ZX_<y>.png, ZY_<x>.png    0 or 255
    <dataset>/grades.csv                                                sample_id,grade

Row 0 is the bone end, the numbers are not zero padded, and a sample's id begins with the subject, up to the
first ``_``. The public archive unpacks to ``Data/``, whose parent is taken for a dataset as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, OutputError
from ..files import folder_whole
from ..scans.image import read_image
from ..scans.scan_names import same_form
from .grades import read_grades, write_grades

VOXEL_UM = 3.2  # of the public scans; the layout itself holds no voxel size
_NAMES_SHOWN = 5

Voxels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One plug of a dataset."""

    sample_id: str  # the name of its folder, <subject>_<rest>
    folder: Path  # with imgs and masks
    grade: int | None

    @property
    def subject_id(self) -> str:
        """The subject that the sample is from."""
        return self.sample_id.split("_")[0]


def find_samples(dataset: Path, grades: Path | None = None) -> list[Sample]:
    """Return the samples of a dataset, sorted by id, after checking the names of all their slices.

    Parameters
    ----------
    dataset : the folder with ``pre_processed``, the one with ``Data/pre_processed``, or ``pre_processed``.
    grades : a CSV file with the columns sample_id and grade, instead of the dataset's grades.csv. Without
        either no sample has a grade.

    Raises
    ------
    DatasetError
        If there is no dataset or sample, slices are missing or do not fit each other, or the grades cannot be
        read.
    FormatError
        If the first slice of a sample is damaged.
    """
    root = dataset_root(dataset)
    home = root / "pre_processed"
    if not home.is_dir():
        raise DatasetError(
            f"{dataset} is no dataset; expected a folder pre_processed/ in it (or in its Data/); "
            "make one with tidemark preprocess, or check the name."
        )
    folders = sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DatasetError(f"{home} holds no sample; expected a folder for each; run tidemark preprocess.")
    table = grades or root / "grades.csv"
    known = read_grades(table) if grades or table.exists() else {}
    for folder in folders:
        scan, mask = (" x ".join(map(str, _shape(folder / kind))) for kind in ("imgs", "masks"))
        if scan != mask:
            raise DatasetError(
                f"{folder} has a scan of {scan} voxels (Z x Y x X) and a mask of {mask}; expected the same; "
                "make the sample again."
            )
    return [Sample(folder.name, folder, known.get(same_form(folder.name))) for folder in folders]


def dataset_root(dataset: Path) -> Path:
    """Return the folder for ``pre_processed`` and ``grades.csv``."""
    dataset = Path(dataset)
    if dataset.name == "pre_processed" and dataset.is_dir():
        return dataset.parent
    unpacked = dataset / "Data"
    here = (dataset / "pre_processed").is_dir()
    return unpacked if not here and (unpacked / "pre_processed").is_dir() else dataset


def sample_shape(sample: Sample) -> tuple[int, int, int]:
    """Return the voxels (Z, Y, X) of a sample, from one slice of each plane; raise as `find_samples`."""
    return _shape(sample.folder / "imgs")


def read_scan(sample: Sample) -> Voxels:
    """Return the scan ``(Z, Y, X)`` uint8 from the ZX slices, row 0 the bone end.

    Raises
    ------
    DatasetError
        If slices are missing, of different shapes or not 8-bit.
    FormatError, ContentError
        If a slice is damaged or in colour.
    """
    return _read_slices(sample.folder / "imgs")


def read_mask(sample: Sample) -> Voxels:
    """Return the hard-tissue mask ``(Z, Y, X)`` uint8 from the ZX slices: 0 or 255, possibly all 0.

    Slices of 0 and another value, such as 1, are masks as well.

    Raises
    ------
    DatasetError
        As `read_scan`, and if a slice has more than two levels.
    FormatError, ContentError
        If a slice is damaged or in colour.
    """
    return _read_slices(sample.folder / "masks", as_mask=True)


def middle_section(sample: Sample) -> tuple[Voxels, Voxels]:
    """Return scan and mask of the middle ZX slice, each ``(Z, X)`` uint8."""
    found = []
    for folder in ("imgs", "masks"):
        paths = _slices(sample.folder / folder, "ZX")
        found.append(_read_slice(paths[len(paths) // 2]))
    return found[0], _as_mask(found[1], sample.folder / "masks")


def write_sample(
    dataset: Path, sample_id: str, scan: np.ndarray, mask: np.ndarray, overwrite: bool = False
) -> None:
    """Write a sample's slices; its folder appears whole or not at all.

    Parameters
    ----------
    scan : ``(Z, Y, X)`` uint8, row 0 the bone end.
    mask : ``(Z, Y, X)``, not 0 in hard tissue.
    overwrite : replace an existing sample.

    Raises
    ------
    DatasetError
        If `sample_id` cannot be used, see `check_sample_id`.
    OutputError
        If the sample exists and `overwrite` is false, or cannot be written.
    """
    if scan.ndim != 3 or 0 in scan.shape or scan.shape != mask.shape or scan.dtype != np.uint8:
        raise ValueError(f"not (Z, Y, X) uint8 with its mask: {scan.shape} {scan.dtype}, {mask.shape}")
    check_sample_id(sample_id)
    folder = dataset_root(dataset) / "pre_processed" / sample_id
    if folder.exists() and not overwrite:
        raise OutputError(f"{folder} exists already; use --overwrite to replace it.")
    with folder_whole(folder, overwrite) as stage:
        write_slices(stage / "imgs", scan)
        write_slices(stage / "masks", (mask != 0).astype(np.uint8) * np.uint8(255))


def check_sample_id(sample_id: str) -> None:
    """Raise a DatasetError if `sample_id` is not a name for a folder that begins with a subject."""
    if not re.fullmatch(r"[^\W_]([^/\\:*?\"<>|\t\r\n]*[^/\\:*?\"<>|\s.])?", sample_id):
        raise DatasetError(
            f"the sample id {sample_id!r} cannot be used; expected letters, digits, - and _, the subject "
            "first, as in S01_2; name it with --sample and --subject."
        )


def update_grades(dataset: Path, grades: Mapping[str, int]) -> None:
    """Write `grades` into the dataset's grades.csv, see `grades.write_grades`."""
    write_grades(dataset_root(dataset) / "grades.csv", grades)


def _shape(folder: Path) -> tuple[int, int, int]:
    """Return (Z, Y, X) from the names of the slices and the first of each plane."""
    zx, zy = _slices(folder, "ZX"), _slices(folder, "ZY")
    (rows, x), (zy_rows, y) = _read_slice(zx[0]).shape, _read_slice(zy[0]).shape
    if (rows, len(zx), x) != (zy_rows, y, len(zy)):
        raise DatasetError(
            f"{folder}: {len(zx)} ZX slices of {rows} x {x} and {len(zy)} ZY slices of {zy_rows} x {y} "
            "do not fit; expected as many slices of each plane as the other has columns; copy the missing "
            "slices, or make the sample again."
        )
    return rows, len(zx), x


def _slices(folder: Path, plane: str) -> list[Path]:
    """Return the slices of a plane in the order of their numbers; raise if any is missing."""
    try:
        names = os.listdir(folder)
    except OSError:
        raise DatasetError(
            f"{folder} is missing; expected the slices ZX_<y>.png and ZY_<x>.png in it; "
            "copy it, or make the sample again."
        ) from None
    numbers = sorted(
        int(found[1]) for name in names if (found := re.fullmatch(rf"{plane}_(0|[1-9]\d*)\.png", name))
    )
    if not numbers:
        raise DatasetError(f"{folder} has no {plane} slices; expected {plane}_0.png, {plane}_1.png, ...")
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers))
    if missing:
        shown = ", ".join(f"{plane}_{number}.png" for number in missing[:_NAMES_SHOWN])
        more = ", ..." if len(missing) > _NAMES_SHOWN else ""
        raise DatasetError(f"{folder} misses {len(missing)} slice(s): {shown}{more}; copy them again.")
    return [folder / f"{plane}_{number}.png" for number in numbers]


def _read_slices(folder: Path, as_mask: bool = False) -> Voxels:
    """Return ``(Z, Y, X)`` from the ZX slices of a folder, decoding on all cores."""
    paths = _slices(folder, "ZX")
    rows, columns = _read_slice(paths[0]).shape
    array = np.empty((rows, len(paths), columns), np.uint8)

    def read_into(y: int) -> None:
        pixels = _read_slice(paths[y])
        if pixels.shape != (rows, columns):
            raise DatasetError(
                f"{paths[y]} has {pixels.shape[0]} x {pixels.shape[1]} pixels; expected {rows} x {columns} "
                "as the other slices; copy it again, or make the sample again."
            )
        array[:, y] = _as_mask(pixels, paths[y]) if as_mask else pixels

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read_into, range(len(paths))))
    return array


def _read_slice(path: Path) -> Voxels:
    pixels = read_image(path).array
    if pixels.dtype != np.uint8:
        raise DatasetError(f"{path} has {pixels.dtype} pixels; expected 8-bit; make the sample again.")
    return pixels


def _as_mask(pixels: Voxels, path: Path) -> Voxels:
    """Return 255 where `pixels` are not 0; raise if they have more than two levels."""
    if not np.isin(pixels, (0, pixels.max())).all():
        raise DatasetError(f"{path} is no mask: more than two grey levels; expected only 0 and 255.")
    return (pixels != 0).astype(np.uint8) * np.uint8(255)


def write_slices(folder: Path, array: Voxels) -> None:
    """Write the ZX and ZY slices of ``(Z, Y, X)`` into a new folder, encoding on all cores."""
    folder.mkdir(parents=True)
    names = [("ZX", y) for y in range(array.shape[1])] + [("ZY", x) for x in range(array.shape[2])]

    def write(name: tuple[str, int]) -> None:
        plane, number = name
        pixels = array[:, number] if plane == "ZX" else array[:, :, number]
        _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
        (folder / f"{plane}_{number}.png").write_bytes(data.tobytes())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, names))
