"""What becomes of scans on a cluster whose workers and scheduler die, and what the engine costs. POSIX.

python tests/benchmarks/bench_cluster.py deaths|scheduler|throughput|many

`deaths`: 40 small scans on two workers with folders of their own; one worker is killed in the middle, one
scan kills its workers, one cannot be read. `scheduler`: it is killed in the middle, then the command is given
again. `throughput`: 16 scans, two workers of one thread against one process of two. `many`: 10,000 tasks that
sleep, and the memory of the client. Exit code 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client

from tests.helpers import VOXEL_UM, draw_small_plug, save_bright_model
from tidemark_cli.commands import batch, cluster
from tidemark_cli.commands.batch import Outcome
from tidemark_cli.commands.options import Screen
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.scans.volume import write_volume

KINDS = (("", ".tif"), ("", ".json"), ("_surface", ".tif"))  # of outputs: ending of the folder, of the file
KILLER = """
import os, signal
from tidemark_cli.core.scans import volume

def read_volume(path, *rest):
    if path.stem == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return volume.before(path, *rest)

if not hasattr(volume, "before"):  # a preload is loaded twice
    volume.before, volume.read_volume = volume.read_volume, read_volume
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tidemark_cli", "predict", *map(str, arguments)]


@contextmanager
def started(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of distributed in a folder of its own; kill it and what it has started at the end."""
    folder.mkdir(exist_ok=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    line = [sys.executable, "-m", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    with subprocess.Popen(line, cwd=folder, env=environment, start_new_session=True, **quiet) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def a_cluster(folder: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Run a scheduler and two workers; yield the scheduler's file and process."""
    file, preload = folder / "scheduler.json", folder / "killer.py"
    file.unlink(missing_ok=True)
    preload.write_text(KILLER)
    host = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard")
    scheduler = ("distributed.cli.dask_scheduler", *host, "--scheduler-file", file)
    how = ("--nthreads", 1, "--no-dashboard", "--memory-limit", 0, "--preload", preload)
    worker = ("distributed.cli.dask_worker", "--scheduler-file", file, *how)
    with started(folder / "s", *scheduler) as process:
        while not file.exists():
            time.sleep(0.05)
        with started(folder / "w1", *worker), started(folder / "w2", *worker):
            with Client(scheduler_file=str(file), set_as_default=False) as client:
                client.wait_for_workers(2)
            yield file, process


@dataclass(frozen=True)
class Run:
    """How a command ended, and its results in JSON by the names of scans."""

    code: int
    err: list[str]
    results: dict[str, Any]
    seconds: float


def run(*arguments: object, at: int = -1, then: Any = None) -> Run:
    """Run the command and call `then` when `at` scans have ended."""
    start, results = time.perf_counter(), {}
    with (
        tempfile.TemporaryFile("w+") as err,
        subprocess.Popen(
            command(*arguments, "--json"), stdout=subprocess.PIPE, stderr=err, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            result = json.loads(line)
            results[Path(result["scan"]).stem] = result
            if len(results) == at:
                then()
        code = process.wait()
        err.seek(0)
        return Run(code, err.read().splitlines(), results, time.perf_counter() - start)


def small_scans(folder: Path) -> tuple[Path, list[object]]:
    """Write 40 scans, of which one kills its worker and one is none; return them and the model to use."""
    scans, model = folder / "scans", folder / "bright.safetensors"
    scans.mkdir()
    for n in range(39):
        name = "killer" if n == 17 else f"s{n:02d}"
        write_volume(scans / f"{name}.tif", draw_small_plug(n), VOXEL_UM)
    (scans / "bad.tif").write_text("no scan")
    save_bright_model(model)
    return scans, ["--weights", model, "--device", "cpu"]


def outputs(folder: Path) -> list[str]:
    return ["-o", f"{folder}/", "--stats", f"{folder}/", "--surface", f"{folder}_surface/"]


def same(one: Path, other: Path, names: list[str]) -> bool:
    """Tell whether two runs have written the same bytes for these scans: masks, numbers and surfaces."""
    ends = [f"{folder}/{name}{suffix}" for name in names for folder, suffix in KINDS]
    return all(Path(f"{one}{end}").read_bytes() == Path(f"{other}{end}").read_bytes() for end in ends)


def serial(folder: Path, scans: Path, how: list[object]) -> list[str]:
    """Do all scans in one process; return the names of those that can be read."""
    done = run(scans, *outputs(folder / "serial"), *how)
    good = sorted(name for name, one in done.results.items() if one["state"] == "done")
    print(f"serial: {len(good)} done in {done.seconds:.1f} s")
    return [name for name in good if name != "killer"]


def deaths(folder: Path) -> bool:
    scans, how = small_scans(folder)
    good = serial(folder, scans, how)
    with a_cluster(folder) as (file, _):

        def kill_one() -> None:
            with Client(scheduler_file=str(file), set_as_default=False) as client:
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

        ended = run(scans, *outputs(folder / "out"), *how, "--cluster", file, at=15, then=kill_one)
    states = {name: one["state"] for name, one in ended.results.items()}
    failed = sorted(name for name, state in states.items() if state == "failed")
    equal = same(folder / "serial", folder / "out", good)
    print(f"cluster: code {ended.code}, {len(good)} equal: {equal}, failed: {failed}, {ended.seconds:.1f} s")
    print(*(line for line in ended.err if line.startswith("error")), sep="\n")
    return equal and len(good) == 38 and failed == ["bad", "killer"] and ended.code == 1


def scheduler(folder: Path) -> bool:
    scans, how = small_scans(folder)
    (scans / "killer.tif").unlink()
    good = serial(folder, scans, how)
    how += outputs(folder / "out")
    with a_cluster(folder) as (file, process):
        lost = run(scans, *how, "--cluster", file, at=10, then=process.kill)
    print(f"scheduler killed: code {lost.code}, {len(lost.results)} told, {lost.err[-1]}")
    with a_cluster(folder) as (file, _):
        again = run(scans, *how, "--cluster", file, "--skip-existing")
    states = [one["state"] for one in again.results.values()]
    equal = same(folder / "serial", folder / "out", good)
    counts = {state: states.count(state) for state in sorted(set(states))}
    print(f"again: code {again.code}, {counts}, {len(good)} equal: {equal}")
    one_line = sum(line.startswith(("error", "bug")) for line in lost.err) <= 2  # bad.tif, and the scheduler
    return equal and lost.code == again.code == 1 and one_line


def throughput(folder: Path) -> bool:
    """Compare by turns, with the embedded model, starting included."""
    scans = folder / "scans"
    scans.mkdir()
    for n in range(16):
        write_volume(scans / f"s{n:02d}.tif", draw_phantom(n, (128, 112, 112), 12.8).scan, 12.8)
    seconds: dict[str, list[float]] = {"one process": [], "two workers": []}
    for turn in range(2):
        for name, threads, how in (("one process", "2", []), ("two workers", "1", ["--cluster", "local:2"])):
            os.environ["OMP_NUM_THREADS"] = threads
            ended = run(scans, *outputs(folder / f"{turn}{name}"), "--device", "cpu", *how)
            seconds[name].append(ended.seconds)
            print(
                f"{name}: {ended.seconds:.1f} s, code {ended.code}, load {os.getloadavg()[0]:.1f}", flush=True
            )
    gain = min(seconds["one process"]) / min(seconds["two workers"])
    print(f"throughput of two workers: {gain:.2f} times")
    return gain >= 1


@dataclass(frozen=True)
class Nap:
    names: tuple[str, ...]
    known: dict[str, Any]


def nap(job: Nap, label: str, *, seconds: float) -> Outcome:
    time.sleep(seconds)
    return Outcome("done", label, content={"numbers": dict.fromkeys(map(str, range(40)), 0.5)})


def memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def many(folder: Path) -> bool:
    for count in (100, 10_000):
        jobs = [Nap((f"scan{n:05d}.tif",), {"scan": f"scan{n:05d}.tif"}) for n in range(count)]
        start = time.perf_counter()
        with (
            cluster.connected("local:2", Screen(quiet=True)) as executor,
            (folder / "table").open("w") as table,
            redirect_stdout(table),
        ):
            ready = time.perf_counter()
            outcomes = batch.run(partial(nap, seconds=0.01), jobs, Screen(), ("scan", "nap"), executor)
            lines = [memory_mib(), ready - start, time.perf_counter() - ready]
        rows = len((folder / "table").read_text().splitlines())
        print(
            "{} tasks: peak {:.0f} MiB, start {:.1f} s, work {:.1f} s".format(count, *lines), f"{rows} rows"
        )
    return len(outcomes) == rows - 1 == 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    benchmarks = (deaths, scheduler, throughput, many)
    parser.add_argument("which", choices=[one.__name__ for one in benchmarks])
    which = parser.parse_args().which
    with tempfile.TemporaryDirectory() as folder:
        good = next(one for one in benchmarks if one.__name__ == which)(Path(folder))
    print("as it should be" if good else "NOT as it should be")
    sys.exit(not good)


if __name__ == "__main__":
    main()
