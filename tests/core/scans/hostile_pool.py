"""Runs hostile trials in processes of their own, with limits on time and memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from tests.core.scans.hostile import Verdict, make_whole, trial

SECONDS = 30.0  # of the processor, where the system tells it
MOST_SECONDS = 300.0  # on the clock: a busy machine is slow
MEMORY_BYTES = 4 * 2**30  # of address space, libraries included


def run_trials(seeds: range, folder: Path, commands_every: int = 1) -> Iterator[Verdict]:
    """Yield what became of each seed; a worker that hangs or dies is a fault, and replaced.

    One of so many seeds is tried in the commands, the others are read alone.
    """
    whole = folder / "whole"
    make_whole(whole)
    worker: _Worker | None = None
    try:
        for seed in seeds:
            worker = worker or _Worker(whole)
            verdict = worker.run(seed, seed % commands_every == 0)
            if verdict.outcome in ("hang", "crash"):
                worker = None
            yield verdict
    finally:
        if worker is not None:
            worker.stop()


class _Worker:
    """A process that tries one seed after the other."""

    def __init__(self, whole: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, str(whole)), daemon=True)
        self.process.start()
        other.close()
        assert self.pipe.recv() == "ready"

    def run(self, seed: int, commands: bool) -> Verdict:
        self.pipe.send((seed, commands))
        started, used = time.monotonic(), self._seconds()
        try:
            while self._seconds() - used < SECONDS and time.monotonic() - started < MOST_SECONDS:
                if self.pipe.poll(1):
                    found: Verdict = self.pipe.recv()
                    return found
        except EOFError:
            self.process.join()
            return Verdict(seed, "?", "?", "crash", f"the process ended with {self.process.exitcode}")
        self.stop()
        return Verdict(seed, "?", "?", "hang", f"after {time.monotonic() - started:.0f} s")

    def _seconds(self) -> float:
        """Return what the process has used of the processor, on Linux; elsewhere what the clock shows."""
        if sys.platform != "linux":
            return time.monotonic()
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _work(pipe: Connection, whole: str) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # what libraries in C write
    pipe.send("ready")
    while True:
        seed, commands = pipe.recv()
        folder = Path(tempfile.mkdtemp(dir=Path(whole).parent))
        try:
            verdict = trial(seed, Path(whole), folder, commands)
        except MemoryError:
            verdict = Verdict(seed, "?", "?", "memory", "MemoryError")
        shutil.rmtree(folder, ignore_errors=True)
        pipe.send(verdict)
