"""An executor on the workers of a Dask cluster, and what runs there."""

from __future__ import annotations

import ctypes
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .. import __version__
from ..core import lazily
from ..core.errors import ClusterError

distributed = lazily.imported("distributed")

_running: dict[int, str] = {}  # on a worker: the run that each busy thread works for


class SchedulerLost(ClusterError, BrokenExecutor):
    """The scheduler has gone, and its tasks with it."""


@dataclass(frozen=True)
class _Call:
    """Work for a worker, and the future of its result."""

    future: Future[Any]
    work: Callable[[], Any]
    alone: bool = False


class Workers(Executor):
    """Does work on the workers of a cluster.

    When a worker dies, Dask blames all its tasks, even those that only waited. So a task that Dask gives up
    is tried once more, alone at the end: if workers die again, it is to blame.
    """

    def __init__(self, client: Any) -> None:
        self.run = secrets.token_hex(8)
        self._client = client
        self._folder = os.getcwd()
        self._lock = threading.Lock()
        self._busy = 0
        self._suspects: list[_Call] = []
        self._lost = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand over a call, to be made in the current folder of the command."""
        call = _Call(
            Future(), partial(_do, __version__, self.run, self._folder, partial(work, *args, **kwargs))
        )
        self._hand_over(call)
        return call.future

    def _hand_over(self, call: _Call) -> None:
        if self._lost or self._client.status != "running":
            raise _lost()
        with self._lock:
            self._busy += 1
        theirs = self._client.submit(call.work, pure=False)
        theirs.add_done_callback(partial(self._settle, call))

    def _settle(self, call: _Call, theirs: Any) -> None:
        """Pass on the result of a call, or put it aside. Dask never runs two of these at once."""
        result, error = None, None
        try:
            result = theirs.result()
        except BaseException as raised:  # in some versions CancelledError is no Exception
            error = raised
        killed = isinstance(error, distributed.scheduler.KilledWorker)
        if theirs.status in ("cancelled", "lost"):
            self._lost, error = True, _lost()
        elif killed and call.alone:
            error = ClusterError(
                "every worker that took it died: it may need more memory than they have; try it alone, "
                "without --cluster, or on larger workers."
            )
        if killed and not call.alone:
            self._suspects.append(replace(call, alone=True))
        else:
            _conclude(call.future, result, error)
        with self._lock:
            self._busy -= 1
            free = not self._busy
        if free and self._suspects:
            self._try_alone(self._suspects.pop(0))

    def _try_alone(self, call: _Call) -> None:
        try:
            self._hand_over(call)
        except SchedulerLost as error:
            _conclude(call.future, None, error)


def _conclude(future: Future[Any], result: Any, error: BaseException | None) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _lost() -> SchedulerLost:
    return SchedulerLost(
        "the cluster's scheduler has gone; finished work is kept: start it again, and run the same command "
        "with --skip-existing (train: --resume)."
    )


def _do(version: str, run: str, folder: str, work: Callable[[], Any]) -> Any:
    """On a worker: do some work for a client of this version, so that `stop` can stop it."""
    worker = distributed.get_worker()
    name = f"the worker {worker.address}"
    refuse_unfit(name, version, __version__, worker.state.nthreads)
    before = os.getcwd()
    with suppress(OSError):  # the folder may not be shared; absolute paths may be
        os.chdir(folder)
    _running[threading.get_ident()] = run
    try:
        return work()
    finally:
        os.chdir(before)
        del _running[threading.get_ident()]


def stop(run: str) -> None:
    """On a worker: interrupt its work for a run, so that no half-written file is left."""
    for thread, of in list(_running.items()):
        if of == run:
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), interrupt)


def refuse_unfit(worker: str, expected: str, found: str, threads: int) -> None:
    """Raise a ClusterError if a worker has another version of tidemark, or several threads."""
    if found != expected:
        raise ClusterError(
            f"{worker}: expected tidemark {expected}, as the command has, found {found}; install the same "
            "version in both places."
        )

    if threads != 1:
        raise ClusterError(
            f"{worker}: expected 1 thread, found {threads}: a process does one scan at a time; start workers "
            "with --nthreads 1."
        )
