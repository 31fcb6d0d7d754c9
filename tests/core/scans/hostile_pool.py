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

SECONDS = 30.0
MEMORY_BYTES = 4 * 2**30  # of address space, libraries included


def run_trials(seeds: list[int], folder: Path) -> Iterator[Verdict]:
    """Yield what became of each seed; a worker that hangs or dies is a fault, and replaced."""
    whole = folder / "whole"
    make_whole(whole)
    worker: _Worker | None = None
    try:
        for seed in seeds:
            worker = worker or _Worker(whole)
            verdict = worker.run(seed)
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

    def run(self, seed: int) -> Verdict:
        self.pipe.send(seed)
        started = time.monotonic()
        try:
            if self.pipe.poll(SECONDS):
                found: Verdict = self.pipe.recv()
                return found
        except EOFError:
            self.process.join()
            return Verdict(seed, "?", "?", "crash", f"the process ended with {self.process.exitcode}")
        self.stop()
        return Verdict(seed, "?", "?", "hang", f"over {time.monotonic() - started:.0f} s")

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
        seed = pipe.recv()
        folder = Path(tempfile.mkdtemp(dir=Path(whole).parent))
        try:
            verdict = trial(seed, Path(whole), folder)
        except MemoryError:
            verdict = Verdict(seed, "?", "?", "memory", "MemoryError")
        shutil.rmtree(folder, ignore_errors=True)
        pipe.send(verdict)
