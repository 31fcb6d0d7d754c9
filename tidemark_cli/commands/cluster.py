"""Connects a command to a Dask cluster, or starts one on this machine for as long as the command runs.

Dask schedules the tasks, and replaces workers that die.
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

from .. import __version__
from ..core import lazily
from ..core.errors import ClusterError
from .on_workers import Workers, refuse_unfit, stop
from .options import Screen

dask = lazily.imported("dask")
distributed = lazily.imported("distributed")
torch = lazily.imported("torch")

SILENT = logging.CRITICAL + 1
NOISY = {"distributed", "tornado", "asyncio", "bokeh"}  # loggers
THREADS = (  # variables that limit the threads of a worker's libraries
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
FAILURES = 1  # local workers that a scan may kill and still be retried
START_S, END_S = 120, 8  # time limits for local workers
CONNECT_S = 10  # time limit for a scheduler to answer


@contextmanager
def connected(
    where: str | None, screen: Screen, device: str = "cpu", most: int | None = None
) -> Iterator[Executor | None]:
    """Yield the executor that does its work on a cluster; None without one.

    Changed settings of this process and of Dask are restored at the end. When the block raises, running tasks
    are stopped.

    Parameters
    ----------
    where : the address of a scheduler, its file, or local[:N].
    device : where the work computes; if that may be a GPU, each local worker gets one.
    most : the number of tasks, if fewer local workers than one per GPU or core will do.

    Raises
    ------
    ClusterError
        If `distributed` is missing, no scheduler answers, or a worker has another version of tidemark or
        several threads; and from the futures, if a task killed its workers, or the scheduler went away.
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
                with suppress(Exception):  # the workers may have gone as well
                    client.run(stop, executor.run, on_error="ignore")
            raise


@contextmanager
def _as_before() -> Iterator[None]:
    """Silence Dask, and restore its loggers and settings at the end."""
    assert distributed.__version__  # loads it, which creates its loggers
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
        scheduler: Any
        if kind == "local":  # a scheduler in this process, which ends with it
            scheduler = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=0,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=SILENT,
                    scheduler_kwargs={"allowed_failures": FAILURES},
                )
            )
        else:
            scheduler = _reached(where)
        client = stack.enter_context(
            distributed.Client(scheduler, timeout=f"{CONNECT_S} s", set_as_default=False)
        )
        if kind == "local":
            stack.enter_context(_workers(client, int(count or 0), device, most))
        yield client


def _reached(where: str) -> str:
    """Return the address of a scheduler, given as such or by its file, after checking that it answers."""
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


@contextmanager
def _workers(client: Any, count: int, device: str, most: int | None) -> Iterator[None]:
    """Start local workers, `count` of them or as many as suit, each with a nanny that replaces it.

    Ctrl-C does not reach them from the terminal: their client stops them.
    """
    gpus = _gpus() if device.startswith(("auto", "cuda")) else []
    cores = dask.system.CPU_COUNT
    found = len(gpus) or cores
    count = count or min(found, most or found)
    environment = dict.fromkeys(THREADS, str(max(1, cores // count))) | os.environ
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address]
    command += ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]  # as much as without a cluster
    quiet: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    started = []
    try:
        for number in range(count):
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            started.append(subprocess.Popen(command, env=environment | gpu, start_new_session=True, **quiet))
        client.wait_for_workers(count, timeout=START_S)
        yield
    except TimeoutError as error:
        raise ClusterError(
            f"{count} local workers did not start within {START_S} s; try fewer, with --cluster local:N."
        ) from error
    finally:
        _end(started)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Terminate processes, or kill them, with their children."""
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
            process.kill()  # its children end with it
        process.wait()


def _gpus() -> list[str]:
    """Return the names that CUDA_VISIBLE_DEVICES has for the GPUs of this process."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    return names.split(",")[:count]


def _check_workers(client: Any, where: str, screen: Screen) -> None:
    """Refuse workers of another version or with several threads, and print how many there are."""
    found = client.run(pkgutil.resolve_name, "tidemark_cli:__version__", on_error="return")
    for address, threads in client.nthreads().items():
        version = found.get(address, __version__)  # a worker that just came is checked by its first task
        version = "none" if isinstance(version, Exception) else version
        refuse_unfit(f"the worker {address}", __version__, version, threads)
    count = (
        f"{len(found)} worker{'s' if len(found) > 1 else ''}" if found else "no workers yet, waiting for them"
    )
    screen.notice(f"cluster: {where}, {count}")
