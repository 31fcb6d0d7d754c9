"""The scans of a command on the workers of a Dask cluster, elsewhere or made here for the command.

Dask schedules, replaces workers that die, and does their scans again. What is here hands scans over, and says
in tidemark's words what goes wrong.
"""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lazy_loader as lazy

from .. import __version__
from ..core.errors import ClusterError
from .on_workers import Workers, refuse_threads, refuse_version, stop
from .options import Screen

dask = lazy.load("dask")
distributed = lazy.load("distributed")
torch = lazy.load("torch")

SILENT = logging.CRITICAL + 1
NOISY = {"distributed", "tornado", "asyncio", "bokeh"}  # loggers
THREADS = (  # how many threads the libraries in a worker take
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
FAILURES = 1  # of workers made here that a scan may kill and still be done again
START_S, END_S = 120, 8  # that workers made here may take
CONNECT_S = 10  # until a scheduler answers


@contextmanager
def connected(
    where: str | None, screen: Screen, device: str = "cpu", most: int | None = None
) -> Iterator[Executor | None]:
    """Give the executor that does its work on the workers of a cluster; None without one.

    Settings of this process and of Dask that are changed for it are given back at the end. When the block
    raises, the scans that run are stopped.

    Parameters
    ----------
    where : the address of a scheduler, its file, or local[:N].
    device : where the work computes; where that may be a GPU, local workers have one each.
    most : workers to start at most where their number is not given, by default one per GPU or core.

    Raises
    ------
    ClusterError
        If `distributed` is missing, no scheduler answers, or a worker has another version of tidemark or
        several threads; and later, from the futures, if a scan has killed its workers, or the scheduler goes.
    """
    if where is None:
        yield None
        return
    if find_spec("distributed") is None:
        raise ClusterError("--cluster needs the package distributed; pip install 'tidemark-cli[cluster]'.")
    with _as_before(), _client(where, device, most) as client:
        _check_workers(client, where, screen)
        executor = Workers(client)
        try:
            yield executor
        except BaseException:
            if client.status == "running":
                with suppress(Exception):  # of workers that go, too
                    client.run(stop, executor.run, on_error="ignore")
            raise


@contextmanager
def _as_before() -> Iterator[None]:
    """Keep what Dask has to say from the screen, and give back what is changed for that."""
    assert distributed.__version__  # loads it: it makes loggers
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in NOISY]
    loggers = [logging.getLogger(name) for name in {*names, *NOISY}]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_S} s"}):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(SILENT)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _client(where: str, device: str, most: int | None) -> Iterator[Any]:
    kind, _, count = where.partition(":")
    with ExitStack() as stack:
        scheduler: Any = stack.enter_context(_scheduler()) if kind == "local" else _reached(where)
        client = stack.enter_context(
            distributed.Client(scheduler, timeout=f"{CONNECT_S} s", set_as_default=False)
        )
        if kind == "local":
            stack.enter_context(_workers(client, int(count or 0), device, most))
        yield client


def _reached(where: str) -> str:
    """Return the address of a scheduler that is given by it or its file, once something answers there."""
    try:
        file = Path(where)
        address = str(json.loads(file.read_text(encoding="utf-8"))["address"]) if file.is_file() else where
        host_port = distributed.comm.get_address_host_port(address)
        socket.create_connection(host_port, CONNECT_S).close()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ClusterError(
            f"--cluster {where}: no Dask scheduler answers there; expected an address such as "
            "tcp://HOST:8786, the file of a scheduler, or local:N; check that it runs."
        ) from error
    return address


def _scheduler() -> Any:
    """Return a context with a scheduler in this process: it, and its workers, end with this."""
    return distributed.LocalCluster(
        n_workers=0,
        processes=True,
        dashboard_address=None,
        silence_logs=SILENT,
        scheduler_kwargs={"allowed_failures": FAILURES},
    )


@contextmanager
def _workers(client: Any, count: int, device: str, most: int | None) -> Iterator[None]:
    """Start workers here, each with its nanny, which replaces it: `count`, or as many as suit.

    They are out of reach of the terminal: their client tells them when to stop.
    """
    gpus = _gpus() if device.startswith(("auto", "cuda")) else []
    cores = dask.system.CPU_COUNT
    found = len(gpus) or cores
    count = count or min(found, most or found)
    environment = dict.fromkeys(THREADS, str(max(1, cores // count))) | os.environ
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address]
    command += ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]  # as much as without a cluster
    nowhere, started = subprocess.DEVNULL, []
    try:
        for number in range(count):
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            started.append(
                subprocess.Popen(
                    command,
                    env=environment | gpu,
                    stdin=nowhere,
                    stdout=nowhere,
                    stderr=nowhere,
                    start_new_session=True,
                )
            )
        client.wait_for_workers(count, timeout=START_S)
        yield
    except TimeoutError as error:
        raise ClusterError(
            f"{count} local workers did not start within {START_S} s; try fewer, with --cluster local:N."
        ) from error
    finally:
        _end(started)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and kill those that do not, with what they have started."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + END_S
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()  # what it has started ends with it
        process.wait()


def _gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls each GPU that this process may use."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    return names.split(",")[:count]


def _check_workers(client: Any, where: str, screen: Screen) -> None:
    """Refuse workers of another version, or that would do several scans in one process."""
    found = client.run(pkgutil.resolve_name, "tidemark_cli:__version__", on_error="return")
    for address, version in found.items():
        told = "none" if isinstance(version, Exception) else version
        refuse_version(f"the worker {address}", __version__, told)
    for address, threads in client.nthreads().items():
        refuse_threads(f"the worker {address}", threads)
    count = (
        f"{len(found)} worker{'s' if len(found) > 1 else ''}" if found else "no workers yet, waiting for them"
    )
    screen.notice(f"cluster: {where}, {count}")
