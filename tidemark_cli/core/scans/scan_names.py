"""Names of scans, and of the samples they are of, as laboratories and other programs write them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

_INNER_SUFFIXES = (".ome", ".seg")  # of .ome.tif, and of 3D Slicer's .seg.nrrd
_MEMBER = re.compile(r"(.+\.(?:h5|hdf5|hdf|he5|nxs|nx))::?(/?[^:]+)", re.IGNORECASE | re.DOTALL)
_VERSION = re.compile(r";\d+$")  # Scanco's computers number the versions of a file
# what is put behind a sample's name: the stain, "mask", "__rec" and "_IR_rec" by NRecon, "-label" by Slicer
_TAIL = re.compile(
    r"[\W_]+((pta|ca4|mask|(ir_)?rec)(?![^\W\d_])|(masks|labels?|labelmap|segs?|segm|segmentations?)(?![^\W_])).*",
    re.IGNORECASE,
)


def same_form(name: str) -> str:
    """Return a name in the one Unicode form in which names are compared: a Mac writes an umlaut as two."""
    return unicodedata.normalize("NFC", name)


def split_member(path: Path) -> tuple[Path, str]:
    """Return a file and what is named in it: ``scan.h5:/entry/data`` is two, others are one and nothing."""
    found = _MEMBER.fullmatch(str(path))
    return (Path(found[1]), found[2]) if found else (path, "")


def suffix_of(path: Path) -> str:
    """Return the suffix of a file in small letters, ``.nii.gz`` as one; of ``A.ISQ;1`` (VMS) it is .isq."""
    name = _VERSION.sub("", split_member(path)[0].name.lower())
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def scan_name(path: Path) -> str:
    """Return the name of a scan: of a file without its suffixes, of a folder of slices the folder's.

    The data set that is named in a file comes last: ``scan.h5:/entry/data`` is ``scan_data``.
    """
    file, member = split_member(path)
    if file.is_dir() and suffix_of(file) != ".zarr":
        return same_form(Path(os.path.abspath(path)).name)  # of a link its own, not that of what it leads to
    name = _stem(_VERSION.sub("", file.name), suffix_of(file))
    return same_form("_".join(filter(None, (name, member.rpartition("/")[2]))))


def _stem(name: str, suffix: str) -> str:
    """Return a file's name without its suffix, and without ``.ome`` or ``.seg`` before that."""
    stem = name[: len(name) - len(suffix)]
    return stem[:-4] if stem[-4:].lower() in _INNER_SUFFIXES and len(stem) > 4 else stem


def sample_of(name: str) -> str:
    """Return the name of a scan up to its stain: ``S01_1_PTA_48h__rec`` and ``S01_1-label`` are ``S01_1``."""
    return _TAIL.sub("", name)


def sample_name(scan: Path) -> str:
    """Return the name of the sample that a scan or a mask is of, as `sample_of` does."""
    return sample_of(scan_name(scan))


def numbered(path: Path, name: str) -> Path:
    """Return a path with something put behind the name of its scan: ``S1_plug2.seg.nrrd``."""
    stem = _stem(path.name, suffix_of(path))
    return path.with_name(f"{stem}_{name}{path.name[len(stem) :]}")
