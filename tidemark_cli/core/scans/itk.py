"""NRRD, NIfTI and MetaImage files: ITK tells their place in space, checksums their damage."""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .. import lazily
from ..arrays import empty, memmap, settled
from ..errors import ContentError, FormatError
from ..names import utf8_name
from .content import Content, Frame, known_edges
from .itk_headers import Header, read_header
from .quiet import quiet_itk
from .voxels import surplus

sitk = lazily.imported("SimpleITK")

_BLOCK_BYTES = 2**20
_MOST_PACKED = 1100  # zlib packs no more than 1032 bytes into one
_HEADER_BYTES = 2**20
_GZIP = b"\x1f\x8b"
_TOLD_SHORT = 120
_LOST = "its place in space is lost: {}"
_ITK_REFUSES = (RuntimeError, UnicodeDecodeError)  # it quotes the file in its messages


class _Place(NamedTuple):
    """Voxel edges along X, Y, Z in µm, the frame, and notes of what is lost of it."""

    spacing_um: tuple[float, ...]
    frame: Frame | None = None
    notes: tuple[str, ...] = ()


def read_itk(path: Path) -> Content:
    """Read NRRD, NIfTI or MetaImage as (Z, Y, X) or (rows, columns), with one copy at most.

    A compressed stream is read to its checksum. Where ITK refuses what the header tells of the place in
    space, the voxels are read without it, with a note.

    Raises
    ------
    FormatError
        If the header is damaged, or the voxels are cut short, damaged or not there.
    ContentError
        If it has channels or time steps.
    """
    twin = path.with_name(path.name[:-3])
    if path.name.lower().endswith(".nii.gz") and twin.exists():
        raise FormatError(f"{path} lies beside {twin.name}, which ITK would read instead; move one of them.")
    header = read_header(path)
    if header.dtype is None:
        return _by_itk(path, header)
    array, notes = _voxels(path, header)
    try:
        place = _place(_told(path), header)
    except _ITK_REFUSES as error:
        place = _Place(header.spacing_um, None, (_LOST.format(_reason(error)),))
    return _content(path, array, place, header, notes)


def _content(
    path: Path, array: np.ndarray, place: _Place, header: Header, notes: tuple[str, ...] = ()
) -> Content:
    digits = 6 if ".nii" in path.name.lower() else 12  # NIfTI keeps the spacing in single precision
    edges = place.spacing_um[: array.ndim][::-1]
    known = header.mm is not None and len(edges) == array.ndim
    notes = (*header.notes, *notes, *place.notes)
    return Content(array, known_edges(edges, digits) if known else None, notes, place.frame)


# ------------------------------------------------------------------------------------- voxels


def _voxels(path: Path, header: Header) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the voxels (Z, Y, X) in native byte order, memory-mapped where they are stored so."""
    assert header.dtype is not None
    shape = header.size[::-1]
    held = header.data.stat().st_size
    if not header.packed:
        if held < header.offset + header.nbytes:
            _refuse_short(header, header.offset + header.nbytes, held)
        array = memmap(header.data, header.dtype, header.offset, shape)
        rest = held - header.offset - header.nbytes
    else:
        if header.nbytes > held * _MOST_PACKED:
            _refuse_short(header, header.nbytes, held)
        array = empty(shape, header.dtype)
        rest = _unpack(path, header, array)
    notes = surplus(header.data, rest)
    slope, shift = header.scale
    if header.scale != (1.0, 0.0):
        kind = array.dtype.newbyteorder("=")
        exact = np.float32 if kind.itemsize < 4 or kind == np.float32 else np.float64
        scaled = empty(shape, exact)
        for new, plane in zip(scaled, array, strict=True):
            new[...] = plane.astype(exact) * exact(slope) + exact(shift)
        array = scaled
    return settled(array), notes


def _unpack(path: Path, header: Header, array: np.ndarray) -> int:
    """Fill an array from a stream of zlib or gzip, to its end; return how many bytes lie behind it."""
    room = array.reshape(-1).view(np.uint8)
    skip, filled, rest = (header.offset if _is_whole_stream(path) else 0), 0, 0
    for whole in _stream(path, header):
        chunk, skip = whole[skip:], max(skip - len(whole), 0)
        taken = chunk[: len(room) - filled]
        room[filled : filled + len(taken)] = np.frombuffer(taken, np.uint8)
        filled += len(taken)
        rest += len(chunk) - len(taken)
    if filled < len(room):
        _refuse_short(header, len(room), filled)
    return rest


def _stream(path: Path, header: Header) -> Iterator[bytes]:
    """Yield what the compressed voxels unpack to, with what comes before them in a .nii.gz."""
    with header.data.open("rb") as file:
        file.seek(0 if _is_whole_stream(path) else header.offset)
        try:
            yield from _inflated(file)
        except EOFError as error:
            raise FormatError(f"{header.data} is cut short: {error}; copy it again.") from error
        except zlib.error as error:
            raise FormatError(
                f"{header.data} is damaged: its compressed data do not fit their checksum ({error}); copy or "
                "export it again."
            ) from error


def _is_whole_stream(path: Path) -> bool:
    return path.name.lower().endswith(".nii.gz")


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Yield what a stream of zlib or gzip unpacks to; raise where it ends early or a checksum is wrong."""
    stream = zlib.decompressobj(wbits=47)
    packed = file.read(_BLOCK_BYTES)
    while packed:
        yield stream.decompress(packed)
        packed = file.read(_BLOCK_BYTES) if not stream.eof else stream.unused_data + file.read(2)
        if stream.eof:
            if packed[:2] != _GZIP:  # gzip files may have several parts
                return
            stream = zlib.decompressobj(wbits=47)
    raise EOFError("its compressed data end before their checksum")


def _refuse_short(header: Header, expected: int, found: int) -> None:
    raise FormatError(f"{header.data} is cut short: {expected} bytes expected, {found} found; copy it again.")


# ---------------------------------------------------------------------------------------- ITK


def _told(path: Path) -> Any:
    """Return a reader that has read a header; raise a RuntimeError where ITK refuses it."""
    name = path.name.lower()
    suffix = name[name.rfind(".nii") :] if ".nii" in name else path.suffix.lower()
    if path.name.endswith(suffix):
        with utf8_name(path) as known, quiet_itk():
            reader = _reader(known)
            reader.ReadImageInformation()
    else:
        with tempfile.TemporaryDirectory() as folder:  # ITK knows suffixes in small letters alone
            packed = suffix.endswith(".gz")
            copy = Path(folder) / ("header.nii" if packed else f"header{suffix}")
            with gzip.open(path) if packed else path.open("rb") as file:
                copy.write_bytes(file.read(_HEADER_BYTES))
            reader = _reader(copy)
            with quiet_itk():
                reader.ReadImageInformation()
    return reader


def _place(told: Any, header: Header) -> _Place:
    """Return what ITK tells of the place of a file or an image."""
    axes, mm = told.GetDimension(), header.mm or 1.0
    edges_mm = tuple(edge * mm for edge in told.GetSpacing())
    spacing_um = tuple(abs(edge) * 1000 for edge in edges_mm)
    if axes < 3:
        return _Place(spacing_um)
    matrix = np.reshape(told.GetDirection(), (axes, axes))[:3, :3]
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3):
        return _Place(spacing_um, None, (_LOST.format("its axes do not stand at right angles"),))
    origin_mm = tuple(place * mm for place in told.GetOrigin()[:3])
    says = header.placed and header.mm is not None
    return _Place(spacing_um, Frame(origin_mm, tuple(matrix.ravel().tolist()), edges_mm[:3] if says else ()))


def _reader(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    return reader


class _KeptAlive:
    """An ITK image seen as an array, which holds the image for as long as the array lives."""

    def __init__(self, image: object, view: np.ndarray) -> None:
        self.image = image
        self.__array_interface__ = view.__array_interface__


def _by_itk(path: Path, header: Header) -> Content:
    """Read what is no plain block of voxels: text, several data files, more axes."""
    if header.packed:
        for _ in _stream(path, header):
            pass  # to its checksum, which ITK does not look at
    try:
        with utf8_name(path) as known, quiet_itk():
            reader = _reader(known)
            reader.ReadImageInformation()
            size, channels = reader.GetSize(), reader.GetNumberOfComponents()
            if channels > 1 or any(length > 1 for length in size[3:]):
                raise ContentError(
                    f"{path} has the axes {' x '.join(map(str, size))} (X, Y, Z, ...) and {channels} "
                    "channel(s); expected one grey stack X, Y, Z; save one frame or channel alone."
                )
            image = reader.Execute()
    except _ITK_REFUSES as error:
        if "allocat" in str(error):
            raise MemoryError from error
        raise FormatError(
            f"{path} cannot be read ({_reason(error)}); it may be cut short; copy or export it again."
        ) from error
    view = sitk.GetArrayViewFromImage(image).reshape(size[:3][::-1])
    return _content(path, np.asarray(_KeptAlive(image, view)), _place(image, header), header)


def _reason(error: Exception) -> str:
    """Return why ITK refuses a file, without the names of its classes."""
    line = next((line for line in reversed(str(error).strip().splitlines()) if line.strip()), "unknown")
    return (
        re.sub(r".*(ERROR|itk::\w+)[^:]*:\s*(\w+\(0x\w+\):\s*)?", "", line).strip()[:_TOLD_SHORT] or "unknown"
    )


# ------------------------------------------------------------------------------------ writing


def write_itk(path: Path, array: np.ndarray, voxel_um: float, frame: Frame | None) -> None:
    """Write (Z, Y, X), compressed, by the suffix of `path`; the spacing is in mm.

    Raises
    ------
    OSError
        If ITK cannot write it.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    image.SetSpacing([voxel_um / 1000] * 3)
    if frame is not None:
        image.SetOrigin(frame.origin_mm)
        image.SetDirection(frame.direction)
    try:
        with utf8_name(path) as name:
            sitk.WriteImage(image, str(name), useCompression=True)
    except RuntimeError as error:
        told = str(error).strip().splitlines()[-1][:80]
        raise OSError(f"ITK refused it ({told}); the disk may be full, or a quota reached") from error
