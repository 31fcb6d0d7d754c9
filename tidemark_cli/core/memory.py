"""How much memory this process may still take: of the machine, its container or job, and its own limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psutil

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
