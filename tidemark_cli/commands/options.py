"""Options that several commands have, told and named alike in each."""

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
    """What becomes of outputs that exist.

    Attributes
    ----------
    overwrite : replace what exists.
    skip_existing : keep what exists, and make what is missing.
    """

    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise ValueError("--overwrite and --skip-existing exclude each other")

    @property
    def allowed(self) -> bool:
        """Whether a file about all scans, which is made anew in either case, may exist."""
        return self.overwrite or self.skip_existing


@dataclass(frozen=True)
class Spread:
    """Where scans are worked on, and which of them.

    Attributes
    ----------
    cluster : spread the scans (of train, the folds) over the workers of a Dask cluster: the address of its
        scheduler, or its file; or local:N for N processes on this machine. Without N, one per GPU, else one
        per core.
    part : of the scans, sorted, take every N-th from the I-th: for job arrays.
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
    def again(self) -> bool:
        """Whether a scan may be done again: its worker died, perhaps after it had written its outputs."""
        return self.cluster is not None

    @property
    def _share(self) -> tuple[int, int]:
        if self.part is None:
            return 1, 1
        found = re.fullmatch(r"(\d+)/(\d+)", self.part)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def taken(self, items: Iterable[Item], scan_of: Callable[[Item], Path]) -> list[Item]:
        """Return those of the part, sorted by their scans; without one all, as they come."""
        first, count = self._share
        return list(items) if self.part is None else sorted(items, key=scan_of)[first - 1 :: count]


@dataclass(frozen=True)
class Screen:
    """What is said, and how.

    Attributes
    ----------
    quiet : no messages and no progress.
    as_json : print results as JSON, one line each.
    """

    quiet: Annotated[bool, Look(short="q")] = False
    as_json: Annotated[bool, Look(name="json")] = False

    def notice(self, *lines: str, label: str = "") -> None:
        """Print messages to stderr, each behind the label."""
        for line in () if self.quiet else lines:
            console.notice(f"{label}{line}")

    def progress(self, label: str) -> AbstractContextManager[console.Advance | None]:
        """Give a context with the callback that shows how far `label` is."""
        return console.progress(label, self.quiet)

    def result(self, content: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Print a result to stdout, as JSON or in words."""
        if self.as_json:
            console.result_json(dict(content))
        elif not self.quiet:
            for line in lines:
                console.result(line)


def entry(head: str, value: object) -> str:
    """Return a line of a result in words: what it is, then what it came to."""
    return f"{head:13}{value}"
