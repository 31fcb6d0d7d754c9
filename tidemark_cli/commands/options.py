"""Options that several commands have, told and named alike in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from .. import console
from .from_fields import Look

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
