"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from .. import console
from .from_fields import Look

Item = TypeVar("Item")
Target = Annotated[str | None, Look("PATH")]  # of a file to write, or of a folder of such files


@dataclass(frozen=True)
class Existing:
    """What happens to existing outputs.

    Attributes
    ----------
    overwrite : replace existing outputs.
    skip_existing : keep existing outputs, and make the missing ones.
    """

    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise ValueError("--overwrite and --skip-existing exclude each other")

    @property
    def allowed(self) -> bool:
        """Whether a file may be there already: one about all scans is made anew with either option."""
        return self.overwrite or self.skip_existing


@dataclass(frozen=True)
class Spread:
    """Which scans are processed, and where.

    Attributes
    ----------
    cluster : spread the scans (of train, the folds) over the workers of a Dask cluster: the address of its
        scheduler, or its file; or local:N for N processes on this machine. Without N, one per GPU, else one
        per core.
    part : take every N-th of the sorted scans, starting at the I-th; for job arrays.
    """

    cluster: Annotated[str | None, Look("ADDRESS|FILE|local[:N]")] = None
    part: Annotated[str | None, Look("I/N")] = None

    def __post_init__(self) -> None:
        if self.cluster is not None and not re.fullmatch(
            r"local(:0*[1-9]\d*)?|(?!local(:|$)).+", self.cluster
        ):
            raise ValueError(
                f"cluster: expected an address, a file, local or local:N with N from 1, found {self.cluster}"
            )
        first, count = self._share
        if not 1 <= first <= count:
            raise ValueError(f"part: expected I/N, as in 1/8 or 8/8, found {self.part}")

    @property
    def _share(self) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)/(\d+)", "1/1" if self.part is None else self.part)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def existing(self, given: Existing) -> Existing:
        """Return what holds on workers, where a scan is done again if its worker dies after writing."""
        return given if self.cluster is None or given.allowed else Existing(overwrite=True)

    def taken(self, items: Iterable[Item], scan_of: Callable[[Item], Path]) -> list[Item]:
        """Return the items of the part, sorted by their scans; without a part all, in their order."""
        first, count = self._share
        return list(items) if self.part is None else sorted(items, key=scan_of)[first - 1 :: count]


@dataclass(frozen=True)
class Screen:
    """What is printed, and how.

    Attributes
    ----------
    quiet : print no messages and no progress.
    as_json : print results as JSON, one line each.
    """

    quiet: Annotated[bool, Look(short="q")] = False
    as_json: Annotated[bool, Look(name="json")] = False

    def notice(self, *lines: str, label: str = "") -> None:
        """Print messages to stderr, each after the label."""
        for line in () if self.quiet else lines:
            console.notice(f"{label}{line}")

    def progress(self, label: str) -> AbstractContextManager[console.Advance | None]:
        """Return a context that gives a progress callback, see `console.progress`."""
        return console.progress(label, self.quiet)

    def result(self, content: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Print a result to stdout, as JSON or as lines of text."""
        if self.as_json:
            console.result_json(dict(content))
        elif not self.quiet:
            for line in lines:
                console.result(line)


def entry(head: str, value: object) -> str:
    """Return a line of a result: what it is, and its value."""
    return f"{head:13}{value}"
