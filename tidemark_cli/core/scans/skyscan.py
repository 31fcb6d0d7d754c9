"""Folders of slices as NRecon (SkyScan) and others write them, and the logs beside them."""

from __future__ import annotations

import codecs
import configparser
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..arrays import empty
from ..errors import FormatError, StackError
from .content import IMAGE_SUFFIXES, TIFF_SUFFIXES, Content
from .image import read_image
from .numbering import SliceSeries, find_series
from .scan_names import same_form
from .tiff import tiff_is_stack
from .units import unit_um

SLICE_SUFFIXES = (*IMAGE_SUFFIXES, *TIFF_SUFFIXES)

_CLEAR_MAJORITY = 0.75
_NAMES_SHOWN = 5
_EXTRA_SHOTS = 0.05  # of the projections, which a scanner takes more than its log counts


@dataclass(frozen=True)
class SkyscanLog:
    """What a log of NRecon tells about a reconstructed stack; None where it is silent.

    Attributes
    ----------
    projections, camera : how many the scanner took, in a log that tells of no reconstruction, and their rows
        and columns.
    """

    path: Path
    voxel_um: float | None
    section_step: int
    sections: int | None
    projections: int | None
    shape: tuple[int, int] | None
    camera: tuple[int, int] | None


# --------------------------------------------------------------------------------------------- logs


def read_log(path: Path) -> SkyscanLog:
    """Read a log of NRecon or of the scanner.

    Raises
    ------
    FormatError
        If the file is no such log.
    """
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=()
    )
    data = path.read_bytes()
    text = data.decode(
        "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1", "replace"
    )
    try:
        parser.read_string(text[max(text.find("["), 0) :])
    except (configparser.Error, AttributeError) as error:  # the parser trips over continued lines
        raise FormatError(f"{path} is not a SkyScan log; expected [section] and key=value lines.") from error
    sections = {name.lower(): parser[name] for name in parser.sections()}

    def number(section: str, key: str) -> float | None:
        value = (section in sections and sections[section].get(key)) or ""
        found = re.match(r"\s*(\d+(?:[.,]\d+)?(?:e[-+]?\d+)?)(?![\d.,])", value, re.IGNORECASE)
        number = float(found[1].replace(",", ".")) if found else 0.0
        return number if 0 < number < math.inf else None

    def edge_um(section: str, name: str) -> float | None:
        """Return a length whose unit stands in its key: ``Pixel Size (um)``."""
        for key in sections.get(section, ()):
            scale_um = unit_um(key[len(name) :]) if key.startswith(name) else None
            if scale_um and (edge := number(section, key)):
                return float(f"{scale_um * edge:.9g}")
        return None

    # [System] Camera Pixel Size is the detector's; [Acquisition] Image Pixel Size is rounded
    voxel_um = edge_um("reconstruction", "pixel size") or edge_um("acquisition", "image pixel size")
    width = number("reconstruction", "result image width (pixels)")
    height = number("reconstruction", "result image height (pixels)")
    count = number("reconstruction", "sections count")
    taken = number("acquisition", "number of files") if "reconstruction" not in sections else None
    rows = number("acquisition", "number of rows")
    columns = number("acquisition", "number of columns")
    return SkyscanLog(
        path=path,
        voxel_um=voxel_um,
        section_step=max(1, int(number("reconstruction", "section to section step") or 1)),
        sections=int(count) if count else None,
        projections=int(taken) if taken else None,
        shape=(int(height), int(width)) if height and width else None,
        camera=(int(rows), int(columns)) if rows and columns else None,
    )


def find_log(folder: Path, prefix: str) -> SkyscanLog | None:
    """Return the log in `folder`, or one folder up, whose name `prefix` starts with; None if there is none.

    Of several the one with the longest name is taken, which is the reconstruction's (``..._rec.log``)
    rather than the scanner's.
    """
    for place in (folder, folder.resolve().parent):
        matching = [log for log in _logs(place) if _starts_with(prefix, log.path.stem)]
        if matching:
            return max(matching, key=lambda log: len(log.path.stem))
    return None


def spacing_of(log: SkyscanLog, shape: tuple[int, ...]) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Return the spacing (Z, Y, X) in µm that a log tells of a stack (Z, Y, X), and what is odd about it."""
    assert log.voxel_um is not None  # other logs are not found
    notes: tuple[str, ...] = ()
    if log.shape and log.shape != shape[1:]:
        notes = (
            f"slices are {_size(shape[1:])} where {log.path.name} says {_size(log.shape)}; "
            "taken as cropped: if they were resized, give --voxel-size",
        )
    return (log.voxel_um * log.section_step, log.voxel_um, log.voxel_um), notes


def _logs(folder: Path) -> Iterator[SkyscanLog]:
    """Yield the logs of a folder that tell a voxel size."""
    for path in sorted(folder.glob("*.[lL][oO][gG]")):
        if path.name.startswith(".") or ".ctan." in path.name.lower() or not path.is_file():
            continue
        try:
            log = read_log(path)
        except (FormatError, OSError):
            continue
        if log.voxel_um:
            yield log


def _starts_with(prefix: str, stem: str) -> bool:
    """Tell whether `prefix` begins with `stem` as a whole part: ``S1_rec`` does with S1, ``S10_rec`` not."""
    prefix, stem = same_form(prefix), same_form(stem)
    rest = prefix[len(stem) :]
    return prefix.lower().startswith(stem.lower()) and not rest[:1].isalnum()


# -------------------------------------------------------------------------------------------- slices


def list_series(folder: Path) -> tuple[list[SliceSeries], list[Path]]:
    """Return the series of numbered images in a folder, longest first, and the images that belong to none.

    The number is the part of the name that differs, wherever it stands. Hidden files, ``Thumbs.db``,
    logs and all other files are passed over.
    """
    images = [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.suffix.lower() in SLICE_SUFFIXES and path.is_file()
    ]
    previews = [path for path in images if path.stem.lower().endswith("_spr")]
    series, loose = find_series(path for path in images if path not in previews)
    return series, sorted(loose + previews)


def read_stack(folder: Path) -> Content:
    """Read a folder of slices into one array (Z, Y, X), Z in the order of the indices in the names.

    Of the projections of a SkyScan scanner the reconstruction in a folder ``..._Rec`` below is read, with a
    note. The voxel size is the log's, else that of the first slice where it is a TIFF that tells one.

    Raises
    ------
    StackError
        If there is no stack or more than one, or slices are missing or of different shapes, or they are
        projections without one reconstruction.
    FormatError, ContentError
        If a slice cannot be read or is in colour.
    """
    series, notes = _one_series(folder)
    log = find_log(folder, series.log_prefix)
    if log is None and (log := _only_log(folder)):
        notes += (f"the voxel size is that of {log.path.name}, the only log here, of another name",)
    if log and _are_projections(log, folder, series):
        below = _reconstruction(folder, log)
        content = read_stack(below)
        note = f"{len(series.files)} projections passed over, the slices in {below.name} are read"
        return replace(content, notes=(note, *content.notes))
    step = log.section_step if log else 1
    _check_numbering(folder, series, step)
    content = _read_slices(folder, series)
    notes += content.notes
    if log is None:
        return replace(content, notes=notes)
    depth = len(content.array)
    spacing_um, told = spacing_of(log, content.array.shape)
    notes += told
    if log.sections and log.sections != depth and log.path.stem == series.prefix:
        notes += (f"{depth} slices where {log.path.name} says {log.sections}",)
    return Content(content.array, spacing_um, notes)


def _one_series(folder: Path) -> tuple[SliceSeries, tuple[str, ...]]:
    """Return the one series of slices in a folder, with a note of the images that are passed over."""
    series, loose = list_series(folder)
    if not series:
        raise StackError(
            f"{folder} holds no stack; expected at least two numbered slices, as NAME_0001.tif, "
            f"NAME_0002.tif ({', '.join(SLICE_SUFFIXES)}), found {len(loose)} image(s) of other names"
            f"{': ' if loose else ''}{_listed(loose)}."
        )
    if len(series) > 1:
        found = " and ".join(f"{len(one.files)} x {one.prefix}#{one.tail}{one.suffix}" for one in series[:3])
        raise StackError(
            f"{folder} is mixed; expected the slices of one stack, found {found}; "
            "put each stack into its own folder."
        )
    if series[0].suffix in TIFF_SUFFIXES and tiff_is_stack(series[0].files[0]):
        raise StackError(
            f"{folder} holds TIFF files of many pages each; expected single slices; "
            "give these files one by one."
        )
    if len(loose) > max(_NAMES_SHOWN, len(series[0].files) // 10):
        raise StackError(
            f"{folder} has {len(loose)} images that do not fit the numbers of the other "
            f"{len(series[0].files)} ({_listed(loose)}); expected names as NAME_0001{series[0].suffix}, "
            "NAME_0002, ...: rename them, or move them out."
        )
    return series[0], ((f"skipped {_listed(loose)}: not slices of this stack",) if loose else ())


def _are_projections(log: SkyscanLog, folder: Path, series: SliceSeries) -> bool:
    """Tell whether a series is what the camera saw: the scanner's own log lies beside it, under its name."""
    if log.path.parent != folder or log.projections is None:
        return False
    if log.path.stem.strip("_- ").lower() != series.log_prefix.strip("_- ").lower():
        return False
    as_many = abs(len(series.files) - log.projections) <= _EXTRA_SHOTS * log.projections
    if log.camera is None:
        return as_many
    rows, columns = log.camera  # slices are square
    return read_image(series.files[0]).array.shape == log.camera and (rows != columns or as_many)


def _reconstruction(folder: Path, log: SkyscanLog) -> Path:
    """Return the one folder of slices below projections; raise a StackError where there is none, or more."""
    below = [path for path in sorted(folder.iterdir()) if "rec" in path.name.lower() and path.is_dir()]
    stacks = [path for path in below if list_series(path)[0]]
    if len(stacks) == 1:
        return stacks[0]
    found = (
        f"give one of {', '.join(map(str, stacks))}" if stacks else "reconstruct them, and give that folder"
    )
    raise StackError(
        f"{folder} holds the projections of a scan ({log.path.name}: {log.projections} files, no "
        f"reconstruction); expected its slices: {found}."
    )


def _only_log(folder: Path) -> SkyscanLog | None:
    """Return the log inside the folder of slices whatever its name, where all there tell the same."""
    logs = list(_logs(folder))
    logs = [log for log in logs if log.projections is None] or logs
    return logs[0] if len({(log.voxel_um, log.section_step) for log in logs}) == 1 else None


def _check_numbering(folder: Path, series: SliceSeries, step: int) -> None:
    names: list[str] = []
    missing = 0
    for number, (before, after) in enumerate(pairwise(series.indices)):
        if after == before:
            raise StackError(f"{folder} has two slices numbered {before}; remove one of them.")
        gap = range(before + step, after, step)
        missing += len(gap)
        room = max(_NAMES_SHOWN - len(names), 0)
        names += [series.name(index, series.width(number)) for index in gap[:room]]
    if missing:
        more = ", ..." if missing > len(names) else ""
        raise StackError(
            f"{folder} misses {missing} slice(s): {', '.join(names)}{more}; expected "
            f"{series.indices[0]} to {series.indices[-1]} without gaps; copy the missing files."
        )


def _read_slices(folder: Path, series: SliceSeries) -> Content:
    """Read all slices into one array; those unlike the rest are passed over, at the ends only.

    The content is that of all, with the edges that the first slice tells.
    """
    count = len(series.files)
    samples = {k: _read_slice(series.files[k]) for k in {round(k * (count - 1) / 4) for k in range(5)}}
    kinds = Counter((one.array.shape, one.array.dtype) for _, one in sorted(samples.items()))
    shape, dtype = kinds.most_common(1)[0][0]
    array = empty((count, *shape), dtype)

    def read_into(z: int) -> tuple[bool, tuple[str, ...]]:
        content = samples[z] if z in samples else _read_slice(series.files[z])
        fits = (content.array.shape, content.array.dtype) == (shape, dtype)
        if fits:
            array[z] = content.array
        return fits, content.notes

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(read_into, range(count)))
    fits = np.array([fit for fit, _ in results])
    notes = tuple(dict.fromkeys(note for _, of_slice in results for note in of_slice))
    in_plane = samples[0].spacing_um
    spacing_um = in_plane and (in_plane[1], *in_plane)
    if fits.all():
        return Content(array, spacing_um, notes)
    odd = _listed([path for path, fit in zip(series.files, fits, strict=True) if not fit])
    first, last = int(np.argmax(fits)), count - int(np.argmax(fits[::-1]))
    if fits.mean() < _CLEAR_MAJORITY or not fits[first:last].all():
        raise StackError(
            f"{folder} has slices of different shapes or depths; expected all {_size(shape)} {dtype}, "
            f"found others: {odd}; remove or replace them."
        )
    notes += (f"skipped {odd}: of another shape or depth than the rest",)
    return Content(array[first:last], spacing_um, notes)


def _read_slice(path: Path) -> Content:
    content = read_image(path)
    if content.array.ndim != 2:
        raise StackError(f"{path} has several pages; expected a single slice; move it out of the folder.")
    return content


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _listed(paths: list[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_NAMES_SHOWN])
    return names if len(paths) <= _NAMES_SHOWN else f"{names} and {len(paths) - _NAMES_SHOWN} more"
