"""Which images of a folder are slices of one stack, and in which order, by the numbers in their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SIGNED = re.compile(r"(?<![^\W_])-[0-9]+|[0-9]+")  # a minus behind a letter or a digit is a hyphen
_UNSIGNED = re.compile(r"[0-9]+")
_HEXADECIMAL = (re.compile(r"[0-9a-f]{2,}"), re.compile(r"[0-9A-F]{2,}"))
_MOST_GAPS = 2.0  # a number inside a name counts slices where at least one in this many is there
_MOST_GAPS_HEXADECIMAL = 1.25


@dataclass(frozen=True)
class SliceSeries:
    """Slice files of one name: `prefix`, an index, `tail`, then `suffix` (lower case), sorted by index."""

    prefix: str
    suffix: str
    indices: tuple[int, ...]
    files: tuple[Path, ...]
    tail: str = ""
    base: int = 10

    def name(self, index: int, width: int) -> str:
        """Return the name that the slice of an index would have."""
        return f"{self.prefix}{index:0{width}{'d' if self.base == 10 else 'x'}}{self.tail}{self.suffix}"

    def width(self, number: int) -> int:
        """Return how many digits the index of a file has."""
        return len(self.files[number].stem) - len(self.prefix) - len(self.tail)

    @property
    def log_prefix(self) -> str:
        """What the name of a log may begin as: what stands before the index, else behind it."""
        return self.prefix or self.tail.lstrip("_- .")


@dataclass(frozen=True)
class _Name:
    """A file name cut into text and numbers: one text more than numbers."""

    path: Path
    texts: tuple[str, ...]
    numbers: tuple[str, ...]

    def without(self, place: int) -> tuple[str, ...]:
        """Return the numbers at all other places."""
        return self.numbers[:place] + self.numbers[place + 1 :]

    def around(self, place: int) -> tuple[str, str]:
        """Return what stands before and behind the number at a place."""
        parts = [part for pair in zip(self.texts, (*self.numbers, ""), strict=True) for part in pair]
        return "".join(parts[: 2 * place + 1]), "".join(parts[2 * place + 2 :])


def find_series(paths: Iterable[Path]) -> tuple[list[SliceSeries], list[Path]]:
    """Return the series of numbered files, longest first, and the files that belong to none.

    The number that counts is the one that differs: it may stand anywhere in the name, be negative, of any
    width, or hexadecimal.
    """
    by_suffix: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(paths):
        by_suffix[path.suffix.lower()].append(path)
    series: list[SliceSeries] = []
    for suffix, files in by_suffix.items():
        hexadecimal = _hexadecimal_series(suffix, files)
        taken = {path for one in hexadecimal for path in one.files}
        series += hexadecimal + _decimal_series(suffix, [path for path in files if path not in taken])
    taken = {path for one in series for path in one.files}
    loose = sorted(path for files in by_suffix.values() for path in files if path not in taken)
    return sorted(series, key=lambda one: -len(one.files)), loose


def _decimal_series(suffix: str, files: list[Path]) -> list[SliceSeries]:
    groups: defaultdict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for path in files:
        name = _cut(path, _SIGNED)
        groups[name.texts].append(name)
    unsigned: defaultdict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for names in groups.values():
        columns = list(zip(*(name.numbers for name in names), strict=True))
        only_hyphens = any(all(text.startswith("-") for text in column) for column in columns)
        for name in names:
            again = _cut(name.path, _UNSIGNED) if only_hyphens else name
            unsigned[again.texts].append(again)
    return [one for names in unsigned.values() for one in _series_of(suffix, names)]


def _series_of(suffix: str, names: list[_Name]) -> list[SliceSeries]:
    """Return the series among names of one pattern."""
    columns = [[int(text) for text in column] for column in zip(*(n.numbers for n in names), strict=True)]
    varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    found: dict[int, list[SliceSeries]] = {}
    for place in varying:
        parts: defaultdict[tuple[str, ...], list[_Name]] = defaultdict(list)
        for name in names:
            parts[name.without(place)].append(name)
        series = [_one(suffix, place, part) for part in parts.values() if len(part) > 1]
        found[place] = [one for one in series if _counts(one)]
    # the last of those that leave the fewest files out in the fewest series
    best = max(varying, key=lambda p: (sum(len(s.files) for s in found[p]), -len(found[p]), p), default=None)
    if best is not None and found[best]:
        return found[best]
    others = {place: [columns[other] for other in varying if other != place] for place in varying}
    steady = [place for place in varying if _steady(columns[place], others[place])]
    if not steady or len(names) < 3:
        return []
    place = min(steady, key=lambda place: (max(columns[place]) - min(columns[place]), place))
    one = _one(suffix, place, names)
    return [one] if _counts(one, everywhere=True) else []


def _one(suffix: str, place: int, names: list[_Name], base: int = 10) -> SliceSeries:
    ordered = sorted((int(name.numbers[place], base), name.path, name) for name in names)
    prefix, tail = ordered[0][2].around(place)
    indices, files = tuple(index for index, _, _ in ordered), tuple(path for _, path, _ in ordered)
    return SliceSeries(prefix, suffix, indices, files, tail, base)


def _counts(series: SliceSeries, everywhere: bool = False) -> bool:
    """Tell whether an index counts slices: any at the end of a name does, one inside where gaps are few."""
    if not series.tail and not everywhere:
        return True
    return series.indices[-1] - series.indices[0] < _MOST_GAPS * len(series.files)


def _steady(column: list[int], others: list[list[int]]) -> bool:
    """Tell whether all numbers differ and those at the other places rise or fall with them, as times do."""
    order = sorted(range(len(column)), key=column.__getitem__)
    along = [tuple(other[number] for other in others) for number in order]
    return len(set(column)) == len(column) and along in (sorted(along), sorted(along, reverse=True))


def _hexadecimal_series(suffix: str, files: list[Path]) -> list[SliceSeries]:
    """Return the series whose indices are hexadecimal, of one width, with letters among them."""
    groups: defaultdict[tuple[object, ...], list[_Name]] = defaultdict(list)
    for case in _HEXADECIMAL:
        for path in files:
            name = _cut(path, case)
            groups[case, name.texts, tuple(map(len, name.numbers))].append(name)
    found: list[SliceSeries] = []
    for names in groups.values():
        columns = list(zip(*(name.numbers for name in names), strict=True))
        varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        if len(varying) != 1 or len(names) < 3:
            continue
        values = columns[varying[0]]
        letters = [place for place in range(len(values[0])) if any(text[place].isalpha() for text in values)]
        differ = [place for place in letters if len({text[place] for text in values}) > 1]
        one = _one(suffix, varying[0], names, 16)
        span = one.indices[-1] - one.indices[0] + 1
        if differ and span <= _MOST_GAPS_HEXADECIMAL * len(names) and not _overlaps(one, found):
            found.append(one)
    return found


def _overlaps(one: SliceSeries, others: list[SliceSeries]) -> bool:
    return any(set(one.files) & set(other.files) for other in others)


def _cut(path: Path, number: re.Pattern[str]) -> _Name:
    return _Name(path, tuple(number.split(path.stem)), tuple(number.findall(path.stem)))
