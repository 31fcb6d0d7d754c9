"""The list of pages of a TIFF file, followed to its end, and what of the file belongs to none of them."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# bytes of a value by the type of its tag, and the letter of `struct` for whole numbers
_VALUE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_TAGS = 4096
_GAP_BYTES = 2048  # less between two parts of a file is alignment, or room that a writer has left
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _BITS, _COMPRESSION, _SAMPLES = 254, 255, 258, 259, 277
_KIND = (256, 257, _BITS, _SAMPLES, 339, 262)  # columns, rows, bits, samples, sample format, photometric
_LAYOUT = (_COMPRESSION, 317, 278, 322, 323, 284, 266)
_DATA = ((273, 279), (324, 325))  # offsets and byte counts of strips, of tiles
_ONE_BY_DEFAULT = (_BITS, _SAMPLES, 339)
_NUMBERS = (*_KIND, *_LAYOUT, _SUBFILE_TYPE, _OLD_SUBFILE_TYPE)
_VERSIONS = {  # byte order, and whether it is a BigTIFF
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
_CHILDREN = (330, 34665, 34853)  # SubIFDs, EXIF, GPS


@dataclass(frozen=True)
class TiffPage:
    """One page of a TIFF file.

    Attributes
    ----------
    kind : columns, rows, bits, samples, sample format, photometric interpretation; 0 where it is not told.
    layout : compression, predictor, rows of a strip, edges of a tile, planes, order of bits.
    reduced : whether it is a thumbnail or a mask of another page.
    offsets, byte_counts : where its strips or tiles lie.
    """

    kind: tuple[int, ...]
    layout: tuple[int, ...]
    reduced: bool
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]

    @property
    def compressed(self) -> bool:
        """Whether its strips or tiles are compressed."""
        return self.layout[0] > 1


@dataclass(frozen=True)
class PageList:
    """The pages of a TIFF file in the order of their list, and the bytes of it that none of them uses."""

    pages: tuple[TiffPage, ...]
    unused_bytes: int

    @property
    def slices(self) -> list[int]:
        """The numbers of the pages that are slices: no thumbnails, unless there is nothing else."""
        whole = [number for number, page in enumerate(self.pages) if not page.reduced]
        return whole or list(range(len(self.pages)))


def list_pages(path: Path) -> PageList:
    """Follow the list of pages of a TIFF or BigTIFF file.

    Raises
    ------
    ValueError
        If the list leads out of the file, in a circle or to what is no page, or if the file is no TIFF.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        directories = _Directories(data)
        pages = tuple(directories.chain(directories.first))
        used, end = directories.used, len(data)
    if not pages:
        raise ValueError("it has no page: whatever wrote it was stopped, or is still writing")
    for page in (*pages, *directories.children):
        used += zip(page.offsets, page.byte_counts, strict=False)
    unused = reached = 0
    for offset, nbytes in [*sorted(used), (end, 0)]:
        if offset - reached > _GAP_BYTES:
            unused += offset - reached
        reached = max(reached, offset + nbytes)
    return PageList(pages, unused)


class _Directories:
    """Reads the directories of one file and counts the bytes that they take."""

    def __init__(self, data: mmap.mmap) -> None:
        head = data[:16]
        if head[:4] not in _VERSIONS or len(head) < 16:
            raise ValueError("not a TIFF file")
        self.order, big = _VERSIONS[head[:4]]
        self.data, self.word, self.count = data, "Q" if big else "I", "Q" if big else "H"
        self.word_bytes, self.count_bytes = (8, 8) if big else (4, 2)
        self.entry = struct.Struct(f"{self.order}HH{self.word}{self.word_bytes}s")
        (self.first,) = self._numbers(8 if big else 4, self.word, 1)
        self.used = [(0, 16 if big else 8)]  # offset and bytes of each part
        self.seen: set[int] = set()
        self.children: list[TiffPage] = []

    def chain(self, offset: int) -> Iterator[TiffPage]:
        """Yield the pages from one offset to the end of the list."""
        number = 0
        while offset:
            if offset in self.seen:
                raise ValueError(f"its list of pages turns in a circle after {number} of them")
            self.seen.add(offset)
            try:
                page, offset = self._directory(offset)
            except struct.error as error:
                raise ValueError(f"its list of pages is broken after {number} of them") from error
            yield page
            number += 1

    def _directory(self, offset: int) -> tuple[TiffPage, int]:
        """Return the page at an offset and where the next is; raise a struct.error where there is none."""
        (length,) = self._numbers(offset, self.count, 1)
        if not 0 < length <= _MOST_TAGS:
            raise struct.error(f"{length} tags")
        start = offset + self.count_bytes
        end = start + length * self.entry.size
        (following,) = self._numbers(end, self.word, 1)
        tags: dict[int, tuple[int, int, bytes]] = {}
        for code, kind, count, value in self.entry.iter_unpack(self.data[start:end]):
            tags[code] = kind, count, value
            nbytes = _VALUE_BYTES.get(kind, 0) * count
            if nbytes > self.word_bytes:
                self.used.append((self._offset(value), nbytes))
        self.used.append((offset, end + self.word_bytes - offset))
        for code in _CHILDREN:
            for child in self._values(tags.get(code)):
                if child and child not in self.seen:
                    self.children += self.chain(child)
        offsets, counts = next((pair for pair in _DATA if pair[0] in tags), _DATA[0])
        first = {code: (self._values(tags.get(code)) or (0,))[0] for code in _NUMBERS}
        page = TiffPage(
            kind=tuple(first[code] or (code in _ONE_BY_DEFAULT) for code in _KIND),
            layout=tuple(first[code] for code in _LAYOUT),
            reduced=bool(first[_SUBFILE_TYPE] & 0b101) or first[_OLD_SUBFILE_TYPE] == 2,
            offsets=self._values(tags.get(offsets)),
            byte_counts=self._values(tags.get(counts)),
        )
        return page, following

    def _values(self, tag: tuple[int, int, bytes] | None) -> tuple[int, ...]:
        """Return the whole numbers that a tag holds, none where it is absent or holds others."""
        if tag is None or tag[0] not in _WHOLE:
            return ()
        letter, count, inline = _WHOLE[tag[0]], tag[1], tag[2]
        if count * _VALUE_BYTES[tag[0]] <= self.word_bytes:
            return struct.unpack_from(f"{self.order}{count}{letter}", inline)
        return self._numbers(self._offset(inline), letter, count)

    def _offset(self, value: bytes) -> int:
        return int(struct.unpack(self.order + self.word, value)[0])

    def _numbers(self, offset: int, letter: str, count: int) -> tuple[int, ...]:
        nbytes = count * struct.calcsize(f"={letter}")
        return struct.unpack(f"{self.order}{count}{letter}", self.data[offset : offset + nbytes])
