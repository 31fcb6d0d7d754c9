"""How much memory this process may still take: of the machine, its container or job, and its own limit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_available(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that are free, or all there are; None where the system does not tell.

    Parameters
    ----------
    root : where ``proc`` and ``sys`` are.
    """
    if sys.platform == "win32":
        return None
    rooms = [_of_machine(root), *_of_groups(root), _of_process(root)]
    told = [room for room in rooms if room is not None]
    return max(0, min(told)) if told else None


def _of_machine(root: Path) -> int | None:
    for name, *rest in _lines(root / "proc/meminfo"):
        if name == "MemAvailable:":
            return int(rest[0]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


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


def _of_process(root: Path) -> int | None:
    """Return what is left of the address space that ``ulimit -v`` allows."""
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _lines(root / "proc/self/statm")
    if most == resource.RLIM_INFINITY or not taken:
        return None
    return most - int(taken[0][0]) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: Path) -> list[list[str]]:
    """Return the words of each line of a system's file, nothing where it cannot be read."""
    try:
        return [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
