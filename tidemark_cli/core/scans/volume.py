"""Scans: an array (Z, Y, X) with its voxel size, read from and written to files and folders of slices."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..arrays import settled
from ..errors import ContentError, FormatError, OutputError, ScanError
from ..files import check_writable, written_whole
from .blank import blank_slices
from .content import TIFF_SUFFIXES, Content, Frame
from .dicom import holds_dicom
from .fill import without_fill
from .formats import READ_SUFFIXES, is_file_of_a_scan, read_path
from .itk import write_itk
from .readback import check_itk, check_tiff
from .scan_names import scan_name, split_member, suffix_of
from .skyscan import SLICE_SUFFIXES, find_log, list_series, spacing_of
from .tiff import tiff_is_stack
from .tiff_writing import TIFF_DTYPES, write_tiff
from .zarr_store import ZARR_SUFFIXES, is_zarr, write_zarr

DEFAULT_VOXEL_UM = 3.2
ITK_SUFFIXES = (".nrrd", ".nii.gz", ".nii", ".mha")
_WHOLE_SCANS = tuple(suffix for suffix in READ_SUFFIXES if suffix not in SLICE_SUFFIXES)

_ITK_DTYPES = (*TIFF_DTYPES, "int64", "uint64")
_PNG_DTYPES = ("uint8", "uint16")
_PLAUSIBLE_UM = (0.01, 500.0)  # ITK says 1 mm where a file tells nothing
_ISOTROPY = 0.01
BLOCK_BYTES = 2**24
_PICTURES_A_SCAN = 10  # at most this many pictures lie beside each scan; more are slices


@dataclass(frozen=True)
class Volume:
    """A scan.

    Attributes
    ----------
    array : (Z, Y, X), Z the scan axis; integer or float as stored, in native byte order; perhaps a
        read-only memory map. A 2D image is (rows, 1, columns): one ZX slice, its rows are Z.
    voxel_um : edge of the cubic voxels in µm.
    voxel_source : where it comes from: ``file``, ``option`` or ``default``.
    path : the file, or the folder of slices; "array" where there is none.
    is_image : whether it is a single 2D image.
    notes : what the user should hear: slices skipped, voxel size assumed, ...
    frame : where NRRD, NIfTI and MHA place the scan; None of other formats.
    """

    array: np.ndarray
    voxel_um: float
    voxel_source: str = "option"
    path: Path = Path("array")
    is_image: bool = False
    notes: tuple[str, ...] = ()
    frame: Frame | None = None

    @property
    def name(self) -> str:
        """The file name without its suffixes (``.nii.gz`` and ``.ome.tif`` too), or the folder's name."""
        return scan_name(self.path)


def read_volume(path: Path, voxel_um: float | None = None, *, mask: bool = False) -> Volume:
    """Read a scan from a file or a folder of slices, with at most one copy of it in memory.

    Parameters
    ----------
    path : a file of one of `formats.FORMATS`, or a folder of slices; ``scan.h5:/entry/data`` names a data
        set.
    voxel_um : voxel size in µm that overrules what the file says; without it the file or the log
        beside it tells, and where neither does, 3.2 µm is taken, with a note.
    mask : whether it is a mask, which may have one level everywhere: an empty one is all 0.

    Raises
    ------
    ScanError
        If `path` does not exist or `voxel_um` is not positive; as `FormatError` if it is no known
        format, truncated or damaged; as `StackError` if slices are missing, mixed or of different
        shapes; as `ContentError` for colour, unclear axes, voxels that are no cubes, NaN or infinite
        values, or a scan of one grey level.
    """
    path = Path(path)
    file = path if path.exists() else split_member(path)[0]
    if not file.exists():
        raise ScanError(f"{path} does not exist; expected a scan file or a folder of slices; check the name.")
    if not (file.is_file() or file.is_dir()):
        raise ScanError(f"{path} is a device or a pipe; expected a scan file or a folder of slices.")
    try:
        before = file.stat()
        content = _read(path)
        after = file.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise FormatError(f"{path} changed while it was read; wait until it is written, and run again.")
    except OSError as error:
        raise ScanError(f"{path} could not be opened: {error.strerror or error}.") from error
    is_image = content.array.ndim == 2
    array = settled(content.array[:, np.newaxis, :] if is_image else content.array)
    check_grey_levels(path, array, mask)
    blank = () if mask or is_image else blank_slices(array)
    array, filled = (array, ()) if mask else without_fill(array)
    size_um, source, notes = _choose_voxel_size(path, content.spacing_um, voxel_um)
    return Volume(
        array, size_um, source, path, is_image, content.notes + blank + filled + notes, content.frame
    )


def write_volume(
    path: Path,
    array: np.ndarray,
    voxel_um: float,
    *,
    overwrite: bool = False,
    is_image: bool = False,
    frame: Frame | None = None,
) -> None:
    """Write a scan or a mask by the suffix of `path`; it appears whole or not at all, read back before.

    ``.tif`` and ``.tiff`` open in Fiji at the right scale, compressed; what ImageJ's format cannot
    hold (over 4 GB compressed, or other dtypes than uint8, uint16, int16 and float32) and
    ``.ome.tif`` become OME-TIFF. ``.nrrd``, ``.nii.gz``, ``.nii`` and ``.mha`` are written by ITK,
    spacing in mm; ITK copies the array once.

    Parameters
    ----------
    array : (Z, Y, X); of one ZX slice (Z, 1, X) where `is_image`.
    voxel_um : edge of the voxels in µm.
    overwrite : replace an existing file.
    is_image : write a plain 2D image, rows = Z, as ``.tif`` or ``.png`` (which keeps no voxel size).
    frame : of the scan that `array` belongs to; kept by the formats of ITK, lost in others.

    Raises
    ------
    OutputError
        If the suffix or the dtype (bool and float16 among others) is not supported, the file exists
        already, or the system refuses to write.
    """
    path = Path(path)
    if array.ndim != 3 or array.size == 0 or (is_image and array.shape[1] != 1):
        raise ValueError(f"not a (Z, Y, X) volume or (Z, 1, X) image: shape {array.shape}")
    suffix = suffix_of(path)
    supported = (*TIFF_SUFFIXES, ".png") if is_image else (*TIFF_SUFFIXES, *ITK_SUFFIXES, *ZARR_SUFFIXES)
    if suffix not in supported:
        kind = "a 2D image" if is_image else "a volume"
        raise OutputError(
            f"{path} cannot be written: {suffix or 'no suffix'} is not a format for {kind}; "
            f"use one of {', '.join(supported)}."
        )
    check_dtype(path, array.dtype)
    if suffix in TIFF_SUFFIXES and len(array) == 1 and not is_image:
        raise OutputError(f"{path} cannot be written: a TIFF stack needs two slices or more; use .nrrd.")
    check_writable(path, overwrite)
    with written_whole(path) as temporary:
        pixels = array[:, 0, :] if is_image else array
        if suffix in TIFF_SUFFIXES:
            write_tiff(temporary, pixels, voxel_um, ome=".ome." in path.name.lower())
            check_tiff(temporary, pixels)
        elif suffix == ".png":
            _write_png(temporary, pixels)
        elif suffix in ZARR_SUFFIXES:
            write_zarr(temporary, pixels, voxel_um)
        else:
            write_itk(temporary, pixels, voxel_um, frame)
            check_itk(temporary, suffix, pixels)


def check_dtype(path: Path, dtype: np.dtype) -> None:
    """Raise an OutputError where the format of `path` does not hold such values."""
    suffix = suffix_of(path)
    dtypes = TIFF_DTYPES if suffix in TIFF_SUFFIXES else _PNG_DTYPES if suffix == ".png" else _ITK_DTYPES
    if dtype.name not in dtypes:
        raise OutputError(
            f"{path} cannot be written: {suffix} does not hold {dtype.name} values; "
            f"expected one of {', '.join(dtypes)}."
        )


def is_scan(path: Path) -> bool:
    """Tell whether `read_volume` would try `path`: a file of a known suffix or a folder of slices."""
    path = Path(path)
    if path.is_dir():
        return is_zarr(path) or is_stack(path)
    is_there = path.is_file() or path.is_symlink()  # a link that leads nowhere must be told, not passed over
    return is_there and not path.name.startswith(".") and is_file_of_a_scan(path)


def is_stack(folder: Path) -> bool:
    """Tell whether a folder holds the slices of one scan: numbered images, or DICOM files.

    Numbered images beside whole scans (TIFFs of many pages, NRRD, NIfTI or MHA files, folders of slices) are
    pictures of these, unless there are more than ten to each: then the folder is a stack, and a mask or a
    crop has been put into it.
    """
    series, loose = list_series(folder)
    slices = scans = 0
    for files in [one.files for one in series] + [(path,) for path in loose]:
        if files[0].suffix.lower() in TIFF_SUFFIXES and tiff_is_stack(files[0]):
            scans += len(files)
        elif len(files) > 1:
            slices = max(slices, len(files))
    if slices:
        scans += sum(_holds_scan(path) for path in folder.iterdir() if not path.name.startswith("."))
    return slices > _PICTURES_A_SCAN * scans or (not slices and holds_dicom(folder))


def _holds_scan(path: Path) -> bool:
    return bool(list_series(path)[0]) if path.is_dir() else suffix_of(path) in _WHOLE_SCANS


def find_scans(folder: Path) -> list[Path]:
    """Return the scans of a folder: itself where it `is_stack`, else the scans in it, sorted.

    Its subfolders are scans where they are stacks themselves, or hold one reconstruction (``..._Rec``) and no
    images of their own; what lies deeper is not looked for.

    Raises
    ------
    ScanError
        If `folder` is not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScanError(f"{folder} is not a folder; expected one with scans in it; check the name.")
    if is_zarr(folder) or is_stack(folder):
        return [folder]
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    scans = [path if is_scan(path) else _only_reconstruction(path) for path in visible]
    return sorted(path for path in scans if path is not None)


def _only_reconstruction(folder: Path) -> Path | None:
    """Return the one folder of slices below a folder whose projections are gone, or None."""
    if not folder.is_dir() or any(list_series(folder)):
        return None
    below = [path for path in folder.iterdir() if "rec" in path.name.lower() and path.is_dir()]
    stacks = [path for path in below if is_stack(path)]
    return stacks[0] if len(stacks) == 1 else None


def _read(path: Path) -> Content:
    """Read what a path names; a log beside a file tells the voxel size that the file does not."""
    content = read_path(path)
    unknown = content.spacing_um is None and content.array.ndim == 3 and not path.is_dir()
    if unknown and (log := find_log(split_member(path)[0].parent, scan_name(path))):
        spacing_um, told = spacing_of(log, content.array.shape)
        return replace(content, spacing_um=spacing_um, notes=content.notes + told)
    return content


def _choose_voxel_size(
    path: Path, spacing_um: tuple[float, ...] | None, option_um: float | None
) -> tuple[float, str, tuple[str, ...]]:
    """Return the voxel size in µm, its source, and a note where it had to be assumed."""
    if option_um is not None:
        if not (math.isfinite(option_um) and option_um > 0):
            raise ScanError(f"a voxel size of {option_um} µm is impossible; expected a positive number.")
        return float(option_um), "option", ()
    low, high = _PLAUSIBLE_UM
    if spacing_um is None:
        reason = "no voxel size in the file or a log"
    elif not low <= spacing_um[-1] <= high:
        reason = f"a voxel size of {spacing_um[-1]:g} µm is no micro-CT scan's"
    elif max(spacing_um) > min(spacing_um) * (1 + _ISOTROPY):
        edges = " x ".join(f"{edge:g}" for edge in spacing_um)
        raise ContentError(
            f"{path} has voxels of {edges} µm ({'Z, Y, X' if len(spacing_um) == 3 else 'rows, columns'}); "
            "expected cubes within 1 %; resample it, or give --voxel-size to overrule the file."
        )
    else:
        return float(f"{spacing_um[-1]:.9g}"), "file", ()
    return DEFAULT_VOXEL_UM, "default", (f"{reason}: {DEFAULT_VOXEL_UM} µm assumed, else give --voxel-size",)


def check_grey_levels(path: Path, array: np.ndarray, mask: bool) -> None:
    """Raise a ContentError for values that cannot be a scan or a mask; block by block, without a copy."""
    if array.dtype.kind not in "uif":
        raise ContentError(f"{path} holds {array.dtype} values; expected integer or float grey levels.")
    if array.size == 0:
        raise ContentError(f"{path} holds no voxels (shape {array.shape}); export it again.")
    planes = max(1, BLOCK_BYTES // max(1, array[0].nbytes))
    varies = mask  # a mask need not
    for z in range(0, len(array), planes):
        block = array[z : z + planes]
        if array.dtype.kind == "f" and not np.isfinite(block).all():
            first = np.argwhere(~np.isfinite(block))[0] + (z, 0, 0)
            raise ContentError(
                f"{path} has NaN or infinite values, first at (Z, Y, X) = {tuple(first.tolist())}; "
                "expected finite grey levels; replace them."
            )
        varies = varies or bool((block != array[0, 0, 0]).any())
        if varies and array.dtype.kind != "f":
            return
    if not varies:
        raise ContentError(
            f"{path} has the one grey level {array[0, 0, 0]} everywhere; expected an image; export it again."
        )


# ------------------------------------------------------------------------------------------- writing


def _write_png(path: Path, pixels: np.ndarray) -> None:
    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    path.write_bytes(data.tobytes())
