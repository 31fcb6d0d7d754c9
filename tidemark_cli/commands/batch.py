"""The loop over the scans of a command: the outcome of each, the table of all, and the exit code.

A scan that fails is named and does not stop the others. The work may run in any executor with the standard
`concurrent.futures` interface, so it is a function of a module, or a `functools.partial` of one, and its
arguments and results can be pickled.
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
        """Its first cells in the table; the first also labels its messages."""

    @property
    def known(self) -> dict[str, Any]:
        """Its first entries in JSON."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes
    ----------
    told : the last cell of its row in the table; the reason, if it was refused or failed.
    lines : printed instead of the table if it is the only one.
    content : its entries in JSON after `Job.known` and the state.
    code : its exit code.
    """

    state: Literal["done", "skipped", "refused", "failed"]
    told: str = ""
    lines: tuple[str, ...] = ()
    content: dict[str, Any] = field(default_factory=dict)
    code: int = 0


Work = Callable[[Any, str], Outcome]
Call = tuple[Any, str]  # a job, and the label of its messages
Told = tuple[Outcome, list[console.Line]]  # an outcome, and the messages that came with it
AHEAD = 1000  # jobs that an executor is given at once: more than it has workers


def run(
    work: Callable[[AnyJob, str], Outcome],
    jobs: Sequence[AnyJob],
    screen: Screen,
    heads: Sequence[str],
    executor: Executor | None = None,
) -> list[Outcome]:
    """Do every job, print what became of it, and return the outcomes in the order of the jobs.

    Parameters
    ----------
    work : takes a job and the label of its messages, and returns the outcome or raises.
    heads : of the columns of the table, except the state: those of `Job.names`, and that of `Outcome.told`.
    executor : where the work runs, by default here, one job after the other. The caller shuts it down.

    Raises
    ------
    BrokenExecutor
        If the executor breaks down.
    """
    labels = [f"[{n}/{len(jobs)}] {job.names[0]}: " if len(jobs) > 1 else "" for n, job in enumerate(jobs, 1)]
    calls = list(zip(jobs, labels, strict=True))
    here = ((index, _tried(work, *call)) for index, call in enumerate(calls))
    outcomes: dict[int, Outcome] = {}
    for index, outcome in here if executor is None else each(executor, work, calls, screen):
        outcomes[index] = outcome
        if screen.as_json:
            reason = {"error": outcome.told} if outcome.state in ("refused", "failed") else {}
            console.result_json(jobs[index].known | {"state": outcome.state} | reason | outcome.content)
    in_order = [outcomes[index] for index in range(len(jobs))]
    if len(jobs) == 1:
        for line in () if screen.as_json or screen.quiet else in_order[0].lines:
            console.result(line)
    elif not (screen.as_json or screen.quiet):
        *names, last = heads
        rows = [(*job.names, one.state, one.told) for job, one in zip(jobs, in_order, strict=True)]
        console.result_table((*names, "state", last), rows)
    return in_order


def end(outcomes: Sequence[Outcome]) -> None:
    """End the command with the worst exit code, if any is not 0."""
    if code := max((outcome.code for outcome in outcomes), default=0):
        raise typer.Exit(code)


def each(
    executor: Executor, work: Work, calls: Sequence[Call], screen: Screen, what: str = "scans"
) -> Iterator[tuple[int, Outcome]]:
    """Make every call in an executor, print its messages when it ends, and yield its index and outcome.

    When the caller stops, the calls that wait are cancelled.
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
                try:
                    outcome, lines = future.result()
                except BrokenExecutor:
                    raise
                except Exception as error:  # such as a worker that died
                    outcome, lines = _failed(error, calls[index][1]), []
                for line in lines:
                    console.notice(*line)
                if advance is not None:
                    advance(done + 1, len(calls))
                yield index, outcome
    finally:
        for future in waiting:
            future.cancel()


def _tried_elsewhere(work: Work, job: Any, label: str) -> Told:
    """Do a job in another process, and return the outcome and the messages."""
    with console.kept() as lines:
        return _tried(work, job, label), lines


def _tried(work: Work, job: Any, label: str) -> Outcome:
    try:
        return work(job, label)
    except Exception as error:  # not what stops the whole run, such as Ctrl-C
        return _failed(error, label)


def _failed(error: Exception, label: str) -> Outcome:
    code = console.show_error(error, label)
    return Outcome("failed", console.error_line(error) or repr(error), code=code)
