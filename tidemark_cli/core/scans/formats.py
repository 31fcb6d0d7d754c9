"""Every kind of scan that is read: how it is known, who reads it, and what that needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import FormatError
from .content import IMAGE_SUFFIXES, TIFF_SUFFIXES, Content
from .dicom import DICOM_SUFFIXES, holds_dicom, is_dicom, read_dicom
from .hdf5 import HDF5_SUFFIXES, read_hdf5
from .image import read_image
from .itk import read_itk
from .raw_volume import RAW_HEADERS, read_raw_volume
from .scan_names import split_member, suffix_of
from .scanco import read_aim, read_isq
from .skyscan import read_stack
from .tiff import read_tiff
from .txm import read_txm
from .zarr_store import ZARR_SUFFIXES, is_zarr, read_zarr

__all__ = ["FORMATS", "READ_SUFFIXES", "TIFF_SUFFIXES", "Format", "is_file_of_a_scan", "read_path"]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes
    ----------
    name : what it is called, with its vendor.
    suffixes : endings of its files, in small letters.
    read : a path to its `Content`.
    package : what has to be installed beside the base, from the extra ``formats``; mostly nothing.
    side_suffixes : endings of files that tell of a scan and may be given for it.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Content]
    package: str = ""
    side_suffixes: tuple[str, ...] = ()


FORMATS = (
    Format("TIFF", TIFF_SUFFIXES, read_tiff),
    Format("NRRD", (".nrrd", ".nhdr"), read_itk),
    Format("NIfTI", (".nii.gz", ".nii"), read_itk),
    Format("MetaImage", (".mha", ".mhd"), read_itk),
    Format("image", IMAGE_SUFFIXES, read_image),
    Format("DICOM", DICOM_SUFFIXES, read_dicom),
    Format("Scanco ISQ", (".isq",), read_isq),
    Format("Scanco AIM", (".aim",), read_aim),
    Format("Phoenix or Nikon volume", (".vol",), read_raw_volume, side_suffixes=RAW_HEADERS),
    Format("Zeiss Xradia TXM", (".txm", ".txrm"), read_txm, "olefile"),
    Format("HDF5 or NeXus", HDF5_SUFFIXES, read_hdf5, "h5py"),
    Format("OME-Zarr", ZARR_SUFFIXES, read_zarr, "zarr"),
)
_HEAD_BYTES = 4096
READ_SUFFIXES = tuple(suffix for one in FORMATS for suffix in one.suffixes)

# known, and not read: what to do instead
_INSTEAD = {
    ".raw": "voxels without a header: write a .nhdr or .mhd file beside it, and give that",
    ".xtekct": "settings of a Nikon scanner: give the .vgi or .vol file of its reconstruction",
    ".vgl": "a project of VGStudio: give its .vgi or .vol file",
    ".vff": "a volume of GE MicroView: export it as TIFF or DICOM",
    ".am": "a volume of Amira or Avizo: export it as TIFF, NRRD or MetaImage",
    ".rsq": "the projections of a Scanco scanner: give the .isq file",
    ".log": "a log: give the folder of slices that it lies in",
    ".hdr": "one half of an Analyze or NIfTI pair: save it as .nii, for example with ITK-SNAP",
    ".img": "one half of an Analyze or NIfTI pair: save it as .nii, for example with ITK-SNAP",
    ".ims": "a volume of Imaris: export it as TIFF",
    ".npy": "an array without a voxel size: write it with tidemark_cli.write",
    **dict.fromkeys((".zip", ".gz", ".7z", ".rar", ".tar"), "an archive: unpack it, and give what is in it"),
}


def is_file_of_a_scan(path: Path) -> bool:
    """Tell by its name whether a file, or a Zarr folder, is a scan; side files of one are none."""
    return suffix_of(path) in READ_SUFFIXES


def read_path(path: Path) -> Content:
    """Read a file, a folder of slices, a folder of DICOM files, or a Zarr folder.

    Raises
    ------
    FormatError
        If it is of no known format, or of one whose reader is not installed; and as readers do.
    """
    if path.is_dir() and not is_zarr(path):
        return read_dicom(path) if holds_dicom(path) else read_stack(path)
    suffix = ".zarr" if path.is_dir() else suffix_of(path)
    found = next((one for one in FORMATS if suffix in one.suffixes + one.side_suffixes), None)
    if found is None and is_dicom(path):
        return read_dicom(path)
    if found is None:
        told = f"is {_INSTEAD[suffix]}" if suffix in _INSTEAD else "is of no known format"
        raise FormatError(f"{path} {told}; expected a folder of slices or one of {', '.join(READ_SUFFIXES)}.")
    if found.package and find_spec(found.package) is None:
        raise FormatError(
            f"{path} is a {found.name} file, whose reader {found.package} is not installed; run "
            "pip install 'tidemark-cli[formats]'."
        )
    if not found.side_suffixes:  # those hold voxels alone, which may begin with 0
        _check_begun(split_member(path)[0])
    if split_member(path)[1] and found.suffixes != HDF5_SUFFIXES:
        raise FormatError(f"{path} names a data set in a {found.name} file; expected the file alone.")
    return found.read(path)


def _check_begun(file: Path) -> None:
    """Raise a FormatError for what a copy leaves that never began: nothing, or room full of zeros."""
    if file.is_file():
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
        if not any(head):
            held = f"{file.stat().st_size} bytes, zeros at its beginning" if head else "0 bytes"
            raise FormatError(
                f"{file} is not a whole file ({held}); wait until it is written, or copy it again."
            )
