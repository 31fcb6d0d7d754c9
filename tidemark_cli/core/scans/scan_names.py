"""Names of scans, and of the samples they are of, as laboratories and other programs write them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

_INNER_SUFFIXES = (".ome", ".seg")  # of .ome.tif, and of 3D Slicer's .seg.nrrd
# what is put behind a sample's name: the stain, "mask", "__rec" and "_IR_rec" by NRecon, "-label" by Slicer
_TAIL = re.compile(
    r"[\W_]+((pta|ca4|mask|(ir_)?rec)(?![^\W\d_])|(masks|labels?|labelmap|segs?|segm|segmentations?)(?![^\W_])).*",
    re.IGNORECASE,
)


def same_form(name: str) -> str:
    """Return a name in the one Unicode form in which names are compared: a Mac writes an umlaut as two."""
    return unicodedata.normalize("NFC", name)


def suffix_of(path: Path) -> str:
    """Return the suffix of a file in small letters, ``.nii.gz`` as one."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def scan_name(path: Path) -> str:
    """Return the name of a scan: of a file without its suffixes, of a folder of slices the folder's."""
    if path.is_dir():
        return same_form(Path(os.path.abspath(path)).name)  # of a link its own, not that of what it leads to
    name = path.name[: len(path.name) - len(suffix_of(path))]
    inner = name[-4:].lower()
    return same_form(name[:-4] if inner in _INNER_SUFFIXES and len(name) > 4 else name)


def sample_of(name: str) -> str:
    """Return the name of a scan up to its stain: ``S01_1_PTA_48h__rec`` and ``S01_1-label`` are ``S01_1``."""
    return _TAIL.sub("", name)


def sample_name(scan: Path) -> str:
    """Return the name of the sample that a scan or a mask is of, as `sample_of` does."""
    return sample_of(scan_name(scan))
