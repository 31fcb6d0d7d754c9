"""The command ``tidemark``: its subcommands, and the one place where errors become exit codes.

0: done; 1: the data or the machine did not allow it; 2: wrong usage; 70: a bug; 130: interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from . import __version__, console
from .commands.download import download
from .commands.from_fields import HELP_OPTIONS, Group, add
from .commands.metrics import metrics
from .commands.phantom import phantom
from .commands.predict import predict
from .commands.preprocess import preprocess
from .commands.register import register
from .commands.train import train

app = typer.Typer(
    name="tidemark",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
    epilog="Examples:\n\ntidemark phantom sample.tif\n\ntidemark predict sample.tif -o mask.tif",
)
for command in (predict, register, preprocess, phantom, train, metrics):
    add(app, command)
app.add_typer(download, name="download")


def _show_version(wanted: bool) -> None:
    if wanted:
        console.result(f"tidemark {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the tidemark in PTA-stained osteochondral micro-CT scans."""


def run() -> NoReturn:
    """Run the command line, with or without a console, and raise SystemExit with its code."""
    console.open_streams()
    main()


def main() -> NoReturn:
    """Run the command line, and raise SystemExit with its code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # no file name may crash a message
    ended: BaseException = SystemExit(0)
    with _stoppable() as signals:
        try:
            app()
        except BaseException as error:
            ended = error
    code = ended.code if isinstance(ended, SystemExit) else 1
    if code == console.INTERRUPTED or (signals and code):
        ended = KeyboardInterrupt()  # Typer has handled it, or a library raised another error for it
    exec("")  # else `python -m` ends by SIGINT where the last exec() of a library was interrupted
    sys.exit(ended.code if isinstance(ended, SystemExit) else console.show_error(ended))


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP too, so that temporary files are removed.

    Yields the list of the signals received.
    """
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # the terminal was closed; not on Windows, ignored under nohup
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
