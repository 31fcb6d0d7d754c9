"""DICOM: one file, or the slices of one series, read by ITK and ordered by where they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .. import lazily
from ..arrays import empty
from ..errors import ContentError, FormatError, StackError
from ..names import utf8_name
from .content import Content, Frame, known_edges
from .quiet import quiet_itk

sitk = lazily.imported("SimpleITK")

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

_EVEN = 0.01  # gaps between slices may differ by this share
_SERIES, _NAME, _PLACE, _NUMBER = "0020|000e", "0008|103e", "0020|0032", "0020|0013"
_STEP = "0018|0088"
_MOST_LISTED = 5
_ITK_REFUSES = (RuntimeError, UnicodeDecodeError)  # it quotes the file in its messages


@dataclass(frozen=True)
class _Slice:
    """What one file tells of itself.

    Attributes
    ----------
    series, name : the identifier and the description of its series.
    frames : how many slices it holds.
    number : its place among the others, as the scanner counted.
    place_mm : (x, y, z) of its first voxel, or None.
    shape : rows and columns.
    spacing_mm : along X, Y, Z; the last as far as the file tells it.
    direction : 3 x 3, row by row.
    """

    path: Path
    series: str
    name: str
    frames: int
    number: int
    place_mm: tuple[float, ...] | None
    shape: tuple[int, int]
    spacing_mm: tuple[float, ...]
    direction: tuple[float, ...]


def is_dicom(path: Path) -> bool:
    """Tell by its mark whether a file is of DICOM, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Tell whether a folder holds slices as DICOM files: two or more, of one slice each."""
    files = _files(folder)
    first, second = next(files, None), next(files, None)
    if first is None or second is None:
        return False
    try:
        return _header(first).frames == 1
    except FormatError:
        return True


def read_dicom(path: Path) -> Content:
    """Read a folder with one series, or the series that a file is of: (Z, Y, X), or one image.

    Slices are put in the order in which they lie, else in that of their numbers. Grey levels are those that
    viewers show: rescaled as the files tell, and inverted where their lowest level is white.

    Raises
    ------
    StackError
        If a folder holds several series, or slices are missing or of different shapes.
    FormatError, ContentError
        If a file is damaged, or holds colours.
    """
    if path.is_dir():
        headers = [_header(one) for one in _files(path)]
        series = _one_series(path, headers)
    else:
        own = _header(path)
        if own.frames > 1:
            return _one_file(own)
        beside = (_header(one) for one in _files(path.parent) if one != path)
        series = [own, *(one for one in beside if one.series == own.series and own.series)]
    if len(series) == 1:
        return _one_file(series[0])
    return _stack(path, series)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that are of DICOM, or named so; their names often have no suffix."""
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
            continue
        marked = (suffix == "" or suffix[1:].isdigit()) and is_dicom(path)
        # old files have no mark, and what is damaged must be told
        if marked or (suffix in DICOM_SUFFIXES and path.is_file()):
            yield path


def _one_series(folder: Path, headers: list[_Slice]) -> list[_Slice]:
    found: dict[str, list[_Slice]] = {}
    for header in headers:
        found.setdefault(header.series, []).append(header)
    if len(found) > 1:
        told = "; ".join(
            f"{len(one)} x {one[0].name or 'without a name'} ({one[0].path.name})"
            for one in list(found.values())[:_MOST_LISTED]
        )
        raise StackError(
            f"{folder} holds {len(found)} DICOM series: {told}; expected one; "
            "give a file of the one you mean."
        )
    return headers


# ----------------------------------------------------------------------------------------- one file


def _reader(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _refused(path: Path, error: Exception) -> FormatError:
    told = str(error).strip().splitlines()[-1].rpartition(": ")[2][:100]
    return FormatError(
        f"{path} is no whole DICOM image ({told}); it may be cut short, or packed in a way that is not "
        "read; copy or export it again."
    )


def _header(path: Path) -> _Slice:
    with utf8_name(path) as known, quiet_itk():
        reader = _reader(known)
        try:
            reader.ReadImageInformation()
        except _ITK_REFUSES as error:
            raise _refused(path, error) from error
    texts = {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
    if reader.GetNumberOfComponents() != 1:
        raise ContentError(f"{path} is a colour image; expected grey levels; export it as greyscale.")
    size, spacing = reader.GetSize(), [*reader.GetSpacing(), 0.0, 0.0][:3]
    place = _numbers(texts.get(_PLACE, ""))
    step = _numbers(texts.get(_STEP, ""))
    if step and len(size) < 3:
        spacing[2] = step[0]
    number = _numbers(texts.get(_NUMBER, ""))
    direction = reader.GetDirection() if reader.GetDimension() == 3 else np.eye(3).ravel().tolist()
    return _Slice(
        path=path,
        series=texts.get(_SERIES, ""),
        name=texts.get(_NAME, ""),
        frames=size[2] if len(size) > 2 else 1,
        number=int(number[0]) if number else 0,
        place_mm=tuple(place) if len(place) == 3 else None,
        shape=(size[1], size[0]),
        spacing_mm=tuple(spacing),
        direction=tuple(direction),
    )


def _numbers(text: str) -> list[float]:
    """Return the numbers of a DICOM text, none where one of them is no finite number."""
    try:
        found = [float(part) for part in text.split("\\") if part.strip()]
    except ValueError:
        return []
    return found if all(math.isfinite(number) for number in found) else []


def _pixels(header: _Slice) -> np.ndarray:
    """Return (Z, Y, X) of one file."""
    with utf8_name(header.path) as known, quiet_itk():
        try:
            image = _reader(known).Execute()
        except _ITK_REFUSES as error:
            raise _refused(header.path, error) from error
    array: np.ndarray = sitk.GetArrayFromImage(image)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return array.reshape(header.frames, *header.shape)


def _one_file(header: _Slice) -> Content:
    array = _pixels(header)
    edges = tuple(1000 * edge for edge in reversed(header.spacing_mm))
    if len(array) == 1:
        return Content(array[0], known_edges(edges[1:], 7))
    return Content(array, known_edges(edges, 7), (), _frame(header, header.spacing_mm))


# -------------------------------------------------------------------------------------- many slices


def _stack(path: Path, series: list[_Slice]) -> Content:
    """Read the slices of a series in the order in which they lie."""
    first = series[0]
    odd = next((one for one in series if not _is_like(one, first)), None)
    if odd is not None:
        raise StackError(
            f"{path} has slices of different shapes, pixel sizes or orientations ({first.path.name}, "
            f"{odd.path.name}); expected one stack."
        )
    places = _places(series)
    ordered = [one for _, one in sorted(zip(places, series, strict=True), key=lambda pair: pair[0])]
    gaps = np.diff(sorted(places))
    notes: tuple[str, ...] = ()
    if gaps.min() > 0:
        step = float(np.median(gaps))
        if gaps.max() - gaps.min() > 2 * _EVEN * step:
            at = int(np.argmax(abs(gaps - step)))
            raise StackError(
                f"{path} misses slices, or has them unevenly: {gaps[at]:.4g} mm between "
                f"{ordered[at].path.name} and {ordered[at + 1].path.name}, {step:.4g} mm between "
                "others; copy the missing files."
            )
    else:
        ordered = sorted(series, key=lambda one: one.number)
        _check_numbers(path, ordered)
        step = first.spacing_mm[2]
        notes = ("its slices do not tell where they lie: ordered by their numbers",)
    array = _filled(ordered)
    spacing_mm = (*first.spacing_mm[:2], step)
    edges = tuple(1000 * edge for edge in reversed(spacing_mm))
    return Content(array, known_edges(edges, 7), notes, None if notes else _frame(ordered[0], spacing_mm))


def _is_like(one: _Slice, first: _Slice) -> bool:
    edges = (*one.spacing_mm[:2], *first.spacing_mm[:2])
    same_edges = np.allclose(edges[:2], edges[2:], rtol=_EVEN, atol=0)
    same_axes = np.allclose(one.direction, first.direction, atol=_EVEN)
    return (one.shape, one.frames) == (first.shape, 1) and same_edges and same_axes


def _places(series: list[_Slice]) -> list[float]:
    """Return how far along the normal of the slices each of them lies, 0 where one does not tell."""
    normal = np.reshape(series[0].direction, (3, 3))[:, 2]
    if any(one.place_mm is None for one in series):
        return [0.0] * len(series)
    return [float(np.dot(normal, one.place_mm or ())) for one in series]


def _check_numbers(path: Path, ordered: list[_Slice]) -> None:
    for before, after in pairwise(ordered):
        if after.number != before.number + 1:
            raise StackError(
                f"{path} misses slices, or has two of one place: {after.path.name} (number {after.number}) "
                f"follows {before.path.name} ({before.number}); copy the missing files, or give one series "
                "alone."
            )


def _filled(ordered: list[_Slice]) -> np.ndarray:
    """Return the voxels (Z, Y, X) of slices, in the widest of their kinds."""
    plane = _pixels(ordered[0])[0]
    array = empty((len(ordered), *plane.shape), plane.dtype)
    for z, one in enumerate(ordered):
        plane = _pixels(one)[0]
        if plane.dtype != array.dtype:
            kind = np.result_type(plane.dtype, array.dtype)
            array = array.astype(np.float32 if kind == np.float64 else kind, copy=False)
        array[z] = plane
    return array


def _frame(first: _Slice, spacing_mm: tuple[float, ...]) -> Frame | None:
    if first.place_mm is None:
        return None
    return Frame(first.place_mm, first.direction, spacing_mm)
