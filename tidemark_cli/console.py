"""Messages, errors, tables and progress: the only module that prints.

Messages and progress go to stderr, results to stdout; there is colour only on a terminal.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .core.errors import TidemarkError
from .core.files import NO_ROOM

BUG = 70  # exit code of a bug (EX_SOFTWARE)
ERROR = "red"
INTERRUPTED = 130  # exit code after SIGINT, SIGTERM or SIGHUP
Advance = Callable[[int, int], None]
Line = tuple[str, str]  # a message and its style

_kept: ContextVar[list[Line] | None] = ContextVar("_kept", default=None)  # within `kept`
_UNHEARD = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}  # the reader or the terminal has gone


class _Stream:
    """A stream whose reader may go away: what is written then is lost, and the work goes on.

    Messages may be lost for any reason, results not because the disk is full.
    """

    def __init__(self, stream: TextIO, results: bool) -> None:
        self._stream, self._results = stream, results

    def write(self, text: str) -> int:
        with self._without_reader():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._without_reader():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _without_reader(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._results and error.errno not in _UNHEARD:
                raise
            self._stream = _nowhere()


def open_streams() -> None:
    """Make stdout and stderr safe to write to, even without a console.

    Without one (pythonw, a service, ``>&-``) they are None, and the file descriptors 0 to 2 are free for the
    next files to be opened, into which libraries in C would then write their messages.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = cast(TextIO, _Stream(sys.stdout or _nowhere(), results=True))
    sys.stderr = cast(TextIO, _Stream(sys.stderr or _nowhere(), results=False))


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def error_line(error: BaseException) -> str | None:
    """Return the message for an error of the data or the machine; None for a bug."""
    if isinstance(error, TidemarkError):
        return str(error)
    if isinstance(error, MemoryError) or _is_about_memory(error):
        return (
            "not enough memory; close other programs, do less at once (with --crop, --batch or --size, if "
            "available), or use a larger machine."
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        advice = "; free some space and run again" if error.errno in NO_ROOM else ""
        return f"{where}{error.strerror or error}{advice}."
    return None


def show_error(error: BaseException, subject: str = "") -> int:
    """Print an error to stderr, in one line unless it is a bug, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        notice("interrupted: no half-written output is left.", ERROR)
        return INTERRUPTED
    line = error_line(error)
    if line is None or os.environ.get("TIDEMARK_DEBUG"):
        notice("".join(traceback.format_exception(error)).rstrip())
    if line is None:
        notice(f"bug: {subject}{type(error).__name__}: {error}; please report it with the lines above", ERROR)
        return BUG
    notice(f"error: {subject}{' '.join(line.split())}", ERROR)
    return 1


def notice(text: str, style: str = "") -> None:
    """Print a message to stderr."""
    if (lines := _kept.get()) is not None:
        lines.append((text, style))
    elif style:
        Console(stderr=True, soft_wrap=True).print(Text(text, style=style))
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def kept() -> Iterator[list[Line]]:
    """Collect the messages in the list that is yielded, instead of printing them; there is no progress."""
    lines: list[Line] = []
    token = _kept.set(lines)
    try:
        yield lines
    finally:
        _kept.reset(token)


def result(text: str) -> None:
    """Print a result to stdout."""
    print(text, flush=True)  # flushed, so that a closed pipe is noticed here and not at exit


def result_json(content: dict[str, Any]) -> None:
    """Print a result to stdout as one line of JSON."""
    result(json.dumps(content, allow_nan=False))


def result_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout, fitted to the terminal, if any."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    console.print(table)
    sys.stdout.flush()


@contextmanager
def progress(label: str, quiet: bool = False) -> Iterator[Advance | None]:
    """Yield a callback ``(done, total)`` that shows the progress and the time left; None if `quiet`.

    On a terminal it draws a bar, elsewhere it prints a line every ten seconds.
    """
    if quiet or _kept.get() is not None:
        yield None
    elif sys.stderr.isatty():
        with _bar(label) as advance:
            yield advance
    else:
        yield _plain_progress(label)


@contextmanager
def _bar(label: str) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console, on_terminal = Console(stderr=True), sys.stdout.isatty()  # results must not go to stderr
    with Progress(*columns, console=console, transient=True, redirect_stdout=on_terminal) as bar:
        task = bar.add_task(escape(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain_progress(label: str) -> Advance:
    start = last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 10 and 0 < done < total:
            last = now
            left = round((now - start) * (total - done) / done)
            notice(f"{label}: {100 * done // total} %, {left // 60}:{left % 60:02d} left")

    return advance


def _is_about_memory(error: BaseException) -> bool:
    """Return whether PyTorch (on any device) or OpenCV has run out of memory."""
    said = ("can't allocate memory", "out of memory", "Insufficient memory")
    theirs = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    return theirs and any(words in str(error) for words in said)
