"""How much memory a segmentation takes, and how much this process may still take.

That is limited by the machine, by its container or job, and by a limit of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAM_BYTES, SLICE_BYTES, COLUMN_BYTES = 2**29, 320, 100  # as measured; of a voxel in a slice, a column
BASE_BYTES = 2**30  # the program and its libraries, the network's activations, the labels of islands

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_available(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may still take, at least 0.

    Parameters
    ----------
    root : where ``proc`` and ``sys`` are, which tell the limits of a container or a job.
    """
    free: int = psutil.virtual_memory().available
    return max(0, min([free, *_of_process(), *_of_groups(root)]))


@dataclass(frozen=True)
class Beside:
    """What is made beside a scan, in bytes a voxel; all of it is counted as large as the scan.

    Attributes
    ----------
    models : count of the networks.
    uncertainty : whether it is kept.
    copies : count of the volumes that are written in the frame of the scan, though only the plug's box is
        kept: probability and uncertainty.
    """

    models: int = 1
    uncertainty: bool = False
    copies: int = 0

    @property
    def predicting(self) -> int:
        """The probability, the lowest and highest of it, the sum of several models'."""
        return 1 + 2 * self.uncertainty + 2 * (self.models > 1)

    @property
    def writing(self) -> int:
        """The mask, the probability or what cleaning takes, the uncertainty, the copies."""
        return 2 + self.uncertainty + self.copies

    @property
    def most(self) -> int:
        """The larger of both: one comes after the other."""
        return max(self.predicting, self.writing)


def memory_needed(shape: Sequence[int], itemsize: int, beside: Beside) -> int:
    """Estimate the peak memory of a segmentation and its outputs, in bytes, before it runs."""
    return math.prod(shape) * (itemsize + beside.most) + BASE_BYTES


def least_memory(shape: Sequence[int], ratio: float) -> int:
    """Estimate the peak memory with all volumes on disk: the program, and what a slice takes.

    Parameters
    ----------
    ratio : pixels along a side that a network sees for each voxel.
    """
    depth, height, width = shape
    of_slice = round(SLICE_BYTES * depth * max(height, width) * max(1, ratio) ** 2)
    return PROGRAM_BYTES + max(of_slice, COLUMN_BYTES * height * width)


def disk_needed(shape: Sequence[int], itemsize: int, beside: Beside, stride: int) -> int:
    """Estimate the bytes of all files that are there at once in place of memory, without the scan's own.

    Parameters
    ----------
    stride : of a plane's slices, one in so many is copied and predicted.
    """
    size = math.prod(shape)
    slices = max((math.ceil((length - 1) / stride) + 1) * size // length for length in shape[1:])
    return max(size * beside.predicting + slices * (itemsize + 1), size * beside.writing)


def parse_size(text: str) -> int:
    """Return the bytes that a text tells, such as 512MiB or 4GB.

    Raises
    ------
    ValueError
        If it tells none.

    Examples
    --------
    >>> parse_size("1.5GiB"), parse_size("2 MB")
    (1610612736, 2000000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise ValueError(f"expected a size such as 512MiB or 4GB, found {text}")
    power = 1 + "KMGT".index(found[2].upper())
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def _of_process() -> Iterator[int]:
    """Yield what is left of the address space that ``ulimit -v`` allows."""
    if hasattr(psutil, "RLIMIT_AS"):  # Linux
        process = psutil.Process()
        most, _ = process.rlimit(psutil.RLIMIT_AS)
        if most != psutil.RLIM_INFINITY:
            yield most - process.memory_info().vms


def _of_groups(root: Path) -> Iterator[int]:
    """Yield what is left of each limit that a container, a service or a batch system has set."""
    for line, *_ in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        home = root / "sys/fs/cgroup" / controllers
        group = home / place.strip("/")
        names = _V1 if controllers else _V2
        for folder in (group, *group.parents):  # a limit of a group above counts as well
            yield from _of_group(folder, *names)
            if folder == home:
                break


def _of_group(folder: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    most, used = (_lines(folder / name) for name in (limit, usage))
    if most and used and most[0][0].isdecimal():
        # what is only kept of files read is given back
        kept = sum(int(count) for name, count in _lines(folder / "memory.stat") if name == cache)
        yield int(most[0][0]) - int(used[0][0]) + kept


def _lines(path: Path) -> list[list[str]]:
    """Return the words of each line of a system's file, nothing where it cannot be read."""
    try:
        return [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
