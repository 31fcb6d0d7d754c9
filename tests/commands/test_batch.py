"""The loop over scans: outcomes, errors of one scan, what is shown, the executor."""

from __future__ import annotations

import json
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer

from tidemark_cli.commands import batch
from tidemark_cli.commands.batch import Outcome
from tidemark_cli.commands.options import Screen
from tidemark_cli.core.errors import ScanError

HEADS = ("scan", "length")


@dataclass(frozen=True)
class Job:
    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def known(self) -> dict[str, Any]:
        return {"scan": self.name}


def measure(job: Job, label: str, *, unit: str) -> Outcome:
    """Tell how long a name is; "bad" cannot be read, "bug" is one, "stop" is Ctrl-C."""
    if job.name == "bad":
        raise ScanError("bad is no scan.")
    if job.name == "bug":
        raise ZeroDivisionError("oops")
    if job.name == "stop":
        raise KeyboardInterrupt
    if job.name == "old":
        return Outcome("skipped", lines=("skipped: it exists",))
    told = f"{len(job.name)} {unit}"
    return Outcome("done", told, (f"length {told}",), {"length": len(job.name), "label": label})


def run(*names: str, quiet: bool = False, as_json: bool = False, executor: Any = None) -> list[Outcome]:
    screen = Screen(quiet, as_json)
    return batch.run(partial(measure, unit="letters"), [Job(n) for n in names], screen, HEADS, executor)


def code_of(outcomes: list[Outcome]) -> int:
    with pytest.raises(typer.Exit) as ended:
        batch.end(outcomes)
    return ended.value.exit_code


def test_the_only_scan_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    batch.end(run("a1"))
    assert capsys.readouterr() == ("length 2 letters\n", "")


def test_an_error_of_one_scan_is_named_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = run("a1", "bad", "old", "a1b2")
    assert [one.state for one in outcomes] == ["done", "failed", "skipped", "done"]
    assert code_of(outcomes) == 1
    out, err = capsys.readouterr()
    assert err == "error: [2/4] bad: bad is no scan.\n"
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "scan state length",
        "a1 done 2 letters",
        "bad failed bad is no scan.",
        "old skipped",
        "a1b2 done 4 letters",
    ]


def test_the_worst_code_is_the_command_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(run("bug", "bad", "a1", quiet=True)) == 70
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" in err and "bug: [1/3] bug: ZeroDivisionError: oops" in err


def test_json_is_one_line_a_scan_as_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    run("a1", "bad", as_json=True, quiet=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"scan": "a1", "state": "done", "length": 2, "label": "[1/2] a1: "},
        {"scan": "bad", "state": "failed", "error": "bad is no scan."},
    ]


def test_ctrl_c_stops_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("a1", "stop", "a1b2", as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 1


class Backwards(Executor):
    """Does nothing before it is asked for, then the last first."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Any, tuple[Any, ...]]] = []

    def submit(self, work: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((future, work, args))
        if len(self.calls) == 3:
            for waiting, call, given in reversed(self.calls):
                waiting.set_result(call(*given))
        return future


def test_outcomes_are_in_the_order_of_the_jobs_wherever_they_end(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = run("a", "bc", "def", executor=Backwards())
    assert [one.content["length"] for one in outcomes] == [1, 2, 3]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["scan", "a", "bc", "def"]


def test_another_process_does_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool:
        outcomes = run("a1", "bad", executor=pool)
    assert [(one.state, one.told) for one in outcomes] == [
        ("done", "2 letters"),
        ("failed", "bad is no scan."),
    ]
    assert "error: [2/2] bad: bad is no scan." in capsys.readouterr().err


class Broken(Executor):
    """Says that it can do no more."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("gone"))
        return future


def test_an_executor_that_breaks_ends_the_run() -> None:
    with pytest.raises(BrokenExecutor, match="gone"):
        run("a1", "bad", executor=Broken())


def test_no_scan_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    batch.end(run())
    assert capsys.readouterr().out.split() == ["scan", "state", "length"]


def test_an_executor_is_told_of_few_jobs_ahead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Counting(Executor):
        """Counts the jobs whose results are not printed yet when it is given another."""

        ahead: ClassVar[list[int]] = []
        printed = 0

        def submit(self, work: Any, /, *args: Any, **_: Any) -> Future[Any]:
            self.printed += len(capsys.readouterr().out.splitlines())
            self.ahead.append(len(self.ahead) - self.printed)
            future: Future[Any] = Future()
            future.set_result(work(*args))
            return future

    monkeypatch.setattr(batch, "AHEAD", 2)
    run(*"abcde", as_json=True, executor=(counting := Counting()))
    assert counting.ahead == [0, 1, 1, 1, 1]
