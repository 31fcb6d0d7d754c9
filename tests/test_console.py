"""What a person sees: errors, tables, progress."""

from __future__ import annotations

import errno

import pytest

from tidemark_cli import console
from tidemark_cli.core.errors import ScanError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ScanError("a.tif is no scan."), "a.tif is no scan."),
        (
            OSError(errno.ENOSPC, "No space left", "m.tif"),
            "m.tif: No space left; free some space and run again.",
        ),
        (OSError("lost"), "lost."),
        (
            RuntimeError("Symlink loop from '/a.tif'"),
            "'/a.tif' is a symbolic link that leads to itself; mend it.",
        ),
        (ZeroDivisionError("oops"), None),
    ],
)
def test_the_line_of_an_error(error: BaseException, line: str | None) -> None:
    assert console.error_line(error) == line


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ScanError("two\nlines"), 1, "error: a: two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted: no half-written output is left.\n"),
    ],
)
def test_an_error_is_one_line(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.show_error(error, "a: ") == code
    assert capsys.readouterr().err == told


def test_a_table_is_whole_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.result_table(("scan", "state"), [("x" * 300, "[red]done")])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["scan", "state"] and second.split() == ["x" * 300, "[red]done"]


def test_progress_is_told_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 5.0, 20.0, 21.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(times))
    with console.progress("work") as advance:
        assert advance is not None
        for done in (1, 2, 3):
            advance(done, 4)
    assert capsys.readouterr().err == "work: 50 %, 0:20 left\n"


def test_messages_are_kept_and_said_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with console.kept() as lines, console.progress("work") as advance:
        console.notice("read")
        console.show_error(ScanError("no scan"))
    assert advance is None
    assert lines == [("read", ""), ("error: no scan", "red")]
    assert capsys.readouterr().err == ""
    for line in lines:
        console.notice(*line)
    assert capsys.readouterr().err == "read\nerror: no scan\n"
