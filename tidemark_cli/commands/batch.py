"""The loop over the scans of a command: what becomes of each, how that is told, and the exit code.

A scan that fails is named, and the others go on. Where the work runs is up to an executor of the standard
`concurrent.futures` interface: the work is a function of a module, or a `functools.partial` of one, and what
it takes and gives can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

import typer

from .. import console
from .options import Screen


class Job(Protocol):
    """One scan to work on."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the table calls it; the first also stands before messages."""

    @property
    def known(self) -> dict[str, Any]:
        """What JSON tells of it whatever becomes of it."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes
    ----------
    told : the last cell of its row in the table; of one that was refused or failed the reason.
    lines : what is shown of it where it is the only one.
    content : what JSON tells beside `Job.known` and the state.
    code : the exit code that it stands for.
    """

    state: Literal["done", "skipped", "refused", "failed"]
    told: str = ""
    lines: tuple[str, ...] = ()
    content: dict[str, Any] = field(default_factory=dict)
    code: int = 0


Work = Callable[[Any, str], Outcome]
Call = tuple[Any, str]  # a job, and the label of its messages
Told = tuple[Outcome, list[console.Line]]  # an outcome, and the messages that came with it
AHEAD = 1000  # of this many jobs an executor is told at once: more than it has workers


def run(
    work: Callable[[AnyJob, str], Outcome],
    jobs: Sequence[AnyJob],
    screen: Screen,
    heads: Sequence[str],
    executor: Executor | None = None,
) -> list[Outcome]:
    """Do the work of every job, tell what becomes of each, and return the outcomes in the order of the jobs.

    Parameters
    ----------
    work : takes a job and the label of its messages, and returns the outcome or raises.
    heads : of the columns of the table, without the state: those of `Job.names`, and that of `Outcome.told`.
    executor : where the work runs, by default here and one after the other. The caller shuts it down. What
        is said there is printed here when the job ends.

    Raises
    ------
    BrokenExecutor
        If the executor says that it can do no more.
    """
    labels = [f"[{n}/{len(jobs)}] {job.names[0]}: " if len(jobs) > 1 else "" for n, job in enumerate(jobs, 1)]
    calls = list(zip(jobs, labels, strict=True))
    outcomes: dict[int, Outcome] = {}
    for index, outcome in (
        _done_here(work, calls) if executor is None else each(executor, work, calls, screen)
    ):
        outcomes[index] = outcome
        if screen.as_json:
            reason = {"error": outcome.told} if outcome.state in ("refused", "failed") else {}
            console.result_json(jobs[index].known | {"state": outcome.state} | reason | outcome.content)
    in_order = [outcomes[index] for index in range(len(jobs))]
    if not (screen.as_json or screen.quiet):
        _show(jobs, in_order, heads)
    return in_order


def end(outcomes: Sequence[Outcome]) -> None:
    """End the command with the worst exit code, if any is not 0."""
    if code := max((outcome.code for outcome in outcomes), default=0):
        raise typer.Exit(code)


def _done_here(work: Work, calls: Sequence[Call]) -> Iterator[tuple[int, Outcome]]:
    for index, call in enumerate(calls):
        yield index, _tried(work, *call)


def each(
    executor: Executor, work: Work, calls: Sequence[Call], screen: Screen, what: str = "scans"
) -> Iterator[tuple[int, Outcome]]:
    """Do the work of every call, and yield its index and outcome as it ends.

    What is said meanwhile is printed with the outcome. When the caller stops, no call is left waiting.
    """
    waiting: dict[Future[Told], int] = {}
    left = enumerate(calls)
    try:
        with screen.progress(what) as advance:
            ended: set[Future[Told]] = set()
            for done in range(len(calls)):
                for index, call in islice(left, AHEAD - len(waiting)):
                    waiting[executor.submit(_tried_elsewhere, work, *call)] = index
                ended = ended or wait(waiting, return_when=FIRST_COMPLETED).done
                future = ended.pop()
                index = waiting.pop(future)
                outcome, lines = _came_back(future, calls[index][1])
                for line in lines:
                    console.notice(*line)
                if advance is not None:
                    advance(done + 1, len(calls))
                yield index, outcome
    finally:
        for future in waiting:
            future.cancel()


def _came_back(future: Future[Told], label: str) -> Told:
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:  # it has not come to an end there
        return _failed(error, label), []


def _tried_elsewhere(work: Work, job: Any, label: str) -> Told:
    """Do the work of a job in another process, and return with the outcome what is to be said of it."""
    with console.kept() as lines:
        return _tried(work, job, label), lines


def _tried(work: Work, job: Any, label: str) -> Outcome:
    try:
        return work(job, label)
    except Exception as error:  # what stops the whole run, as Ctrl-C does, goes through
        return _failed(error, label)


def _failed(error: Exception, label: str) -> Outcome:
    code = console.show_error(error, label)
    return Outcome("failed", console.error_line(error) or repr(error), code=code)


def _show(jobs: Sequence[Job], outcomes: Sequence[Outcome], heads: Sequence[str]) -> None:
    """Show what became of each of several scans, or what came of the only one."""
    if len(jobs) != 1:
        *names, last = heads
        rows = [(*job.names, one.state, one.told) for job, one in zip(jobs, outcomes, strict=True)]
        console.result_table((*names, "state", last), rows)
    else:
        for line in outcomes[0].lines:
            console.result(line)
