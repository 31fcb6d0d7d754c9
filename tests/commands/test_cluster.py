"""Scans and folds on the workers of a Dask cluster: as without one, whatever becomes of the workers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import VOXEL_UM, Ended
from tidemark_cli import __version__
from tidemark_cli.commands import cluster
from tidemark_cli.commands.on_workers import SchedulerLost
from tidemark_cli.commands.options import Screen
from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.errors import ClusterError
from tidemark_cli.core.scans.volume import write_volume

pytest.importorskip("distributed")
Run = Callable[..., Ended]
posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

OTHER_VERSION = 'import tidemark_cli\ntidemark_cli.__version__ = "0.0.1"\n'
DEADLY = """
import os, signal
from pathlib import Path
from tidemark_cli.core import results
from tidemark_cli.core.scans import volume

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_once(name):
    if not (mark := Path(MARKS, name)).exists():
        mark.touch()
        die()

def read_volume(path, *rest):
    {"killer": die, "once": lambda: die_once("once")}.get(path.stem, lambda: None)()
    return volume.before(path, *rest)

def write_segmentation(outputs, scan, *rest):
    results.before(outputs, scan, *rest)
    if scan.path.stem == "late":
        die_once("late")

if not hasattr(volume, "before"):  # a preload is loaded twice
    volume.before, results.before = volume.read_volume, results.write_segmentation
    volume.read_volume, results.write_segmentation = read_volume, write_segmentation
"""


@pytest.fixture
def preload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have workers run a text before anything else."""

    def use(text: str) -> None:
        path = tmp_path / "preload.py"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str(path))

    return use


def write_scans(folder: Path, plug: np.ndarray, *names: str) -> Path:
    folder.mkdir()
    for shift, name in enumerate(names):
        write_volume(folder / f"{name}.tif", np.roll(plug, shift, axis=1), VOXEL_UM)
    return folder


def outputs(kind: Path) -> list[str]:
    return ["-o", f"{kind}/", "--stats", f"{kind}/", "--csv", f"{kind}.csv"]


def states(ended: Ended) -> dict[str, str]:
    """Return the state of each scan in the table."""
    return {row.split()[0]: row.split()[1] for row in ended.out.splitlines()[1:] if ".tif" in row}


def content(path: Path) -> object:
    """Return what is in a file, less when and by which command it was made."""
    if path.suffix != ".json":
        return path.read_bytes()
    return json.loads(path.read_text(encoding="utf-8")) | {"date": "", "command": ""}


def test_workers_do_what_one_process_does(
    tidemark: Run, plug: np.ndarray, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scans(tmp_path / "scans", plug, "a", "b", "c")
    (tmp_path / "scans" / "bad.tif").write_text("no scan")
    monkeypatch.chdir(tmp_path)  # what is given is no whole path
    serial = tidemark("predict", "scans", *outputs(Path("serial")), "--weights", model)
    level, environment = logging.getLogger("distributed").level, dict(os.environ)
    workers = tidemark(
        "predict", "scans", *outputs(Path("cluster")), "--weights", model, "--cluster", "local:2"
    )
    assert (workers.code, workers.out.replace("cluster", "serial")) == (1, serial.out)
    assert states(workers) == {"a.tif": "done", "b.tif": "done", "bad.tif": "failed", "c.tif": "done"}
    told = {*serial.err.splitlines(), "cluster: local:2, 2 workers"} - {"device: cpu (auto)"}
    assert {line for line in workers.err.splitlines() if not line.startswith("scans: ")} == told
    for path in [*Path("serial").iterdir(), Path("serial.csv")]:
        assert content(Path(str(path).replace("serial", "cluster"))) == content(path)
    assert (logging.getLogger("distributed").level, dict(os.environ)) == (level, environment)


@posix
def test_a_scan_that_kills_workers_fails_alone(
    tidemark: Run, plug: np.ndarray, model: Path, tmp_path: Path, preload: Callable[[str], None]
) -> None:
    scans = write_scans(tmp_path / "scans", plug, "a", "killer", "late", "once")
    preload(DEADLY.replace("MARKS", repr(str(tmp_path))))
    ended = tidemark("predict", scans, *outputs(tmp_path / "m"), "--weights", model, "--cluster", "local:2")
    assert ended.code == 1, ended.err
    assert states(ended) == {"a.tif": "done", "killer.tif": "failed", "late.tif": "done", "once.tif": "done"}
    (error,) = [line for line in ended.err.splitlines() if line.startswith("error")]
    assert error.startswith("error: [2/4] killer.tif: every worker that took it died: ")
    assert {path.name for path in tmp_path.iterdir()} >= {"late", "once"}  # they did die


def test_workers_of_another_version_are_refused(
    tidemark: Run, plug: np.ndarray, model: Path, tmp_path: Path, preload: Callable[[str], None]
) -> None:
    scans = write_scans(tmp_path / "scans", plug, "a", "b")
    preload(OTHER_VERSION)
    ended = tidemark(
        "predict", scans, "-o", f"{tmp_path}/m/", "--weights", model, "-q", "--cluster", "local:1"
    )
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (1, "", 1)
    assert (
        f": expected tidemark {__version__}, as the command has, found 0.0.1; install the same" in ended.err
    )


def test_without_distributed(
    tidemark: Run, plug: np.ndarray, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    scans = write_scans(tmp_path / "scans", plug, "a")
    ended = tidemark(
        "predict", scans, "-o", f"{tmp_path}/m/", "--weights", model, "-q", "--cluster", "local:1"
    )
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "error: --cluster needs the package distributed; pip install 'tidemark-cli[cluster]'.\n"
    )


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:1", "missing.json", "no.json", "http://[", "127.0.0.1"])
def test_where_no_scheduler_answers(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no.json").write_text("{}")
    with (
        pytest.raises(ClusterError, match=f"--cluster {re.escape(where)}: no Dask scheduler answers there"),
        cluster.connected(where, Screen(quiet=True)),
    ):
        pass


@contextlib.contextmanager
def started(*command: object) -> Iterator[subprocess.Popen[bytes]]:
    line = [sys.executable, "-m", *map(str, command)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(line, **quiet) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A scheduler in a process of its own, and its file."""
    file = tmp_path / "scheduler.json"
    host = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard")
    with started("distributed.cli.dask_scheduler", *host, "--scheduler-file", file) as process:
        yield process, file


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def worker(file: Path, threads: int) -> contextlib.AbstractContextManager[object]:
    wait_for(file.exists)
    how = ("--nthreads", threads, "--no-nanny", "--no-dashboard", "--local-directory", file.parent / "work")
    return started("distributed.cli.dask_worker", "--scheduler-file", file, *how)


def test_a_scheduler_that_goes_away_ends_the_run(
    scheduler: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    process, file = scheduler
    with worker(file, 1), cluster.connected(str(file), Screen(quiet=True)) as executor:
        assert executor is not None
        mark = tmp_path / "mark"
        assert executor.submit(mark.touch).result(60) is None
        assert mark.exists()
        waiting = executor.submit(time.sleep, 60)
        process.kill()
        with pytest.raises(
            SchedulerLost, match="run the same command with --skip-existing \\(train: --resume"
        ):
            waiting.result(60)
        with pytest.raises(SchedulerLost):
            executor.submit(time.sleep, 60)


def test_a_worker_does_one_scan_at_a_time(scheduler: tuple[subprocess.Popen[bytes], Path]) -> None:
    _, file = scheduler
    with worker(file, 2), cluster.connected(str(file), Screen(quiet=True)) as executor:  # it comes later
        assert executor is not None
        with pytest.raises(ClusterError, match="expected 1 thread, found 2"):
            executor.submit(time.sleep, 0).result(60)


def test_folds_on_workers_make_the_run_of_one_process(
    scheduler: tuple[subprocess.Popen[bytes], Path],
    tidemark: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the worker; another number sums in another order
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    hard = np.repeat(np.uint8([255, 0]), 8)[:, None, None].repeat(4, 1).repeat(4, 2)
    for seed, name in enumerate(("A_1", "B_1", "C_1")):
        noise = np.random.default_rng(seed).integers(60, 90, hard.shape, np.uint8)
        write_sample(Path("data"), name, hard // 4 + noise, hard)
    sizes = ("--width", 2, "--depth", 2, "--crop", 16, 4, "--batch", 2, "--epochs", 2, "--folds", 3)
    serial = tidemark("train", "data", "-o", "serial", *sizes, "--device", "cpu")
    train = ("train", "data", "-o", "run", "--cluster", scheduler[1], "--device", "cpu")
    damaged = Path("run/fold_1.checkpoint.pt")
    with worker(scheduler[1], 1):
        first = tidemark(*train, *sizes, "--fold", 0)
        assert (first.code, first.out) == (0, "")
        assert "fold 0: epoch " in first.err and "not trained yet: fold(s) 1, 2;" in first.err
        damaged.write_bytes(b"damaged")
        second = tidemark(*train, "--resume", "--json")
        assert (second.code, json.loads(second.out)) == (1, {"run": "run", "folds_missing": [1]})
        errors = [line for line in second.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and errors[0].startswith(f"error: fold 1: {damaged} is damaged")
        damaged.unlink()
        last = tidemark(*train, "--resume")
    assert (last.code, last.out) == (0, serial.out)
    files = [
        {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        for folder in ("serial", "run")
    ]
    assert files[0] == files[1]


def test_only_folds_are_spread(tidemark: Run, tmp_path: Path) -> None:
    ended = tidemark("train", "--phantom", "-o", tmp_path / "run", "--cluster", "local:1")
    assert ended.code == 2 and "--cluster: only for a training on a dataset" in ended.err


@posix
def test_an_interruption_leaves_nothing_half_written(plug: np.ndarray, model: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(20, 230, (600, *plug.shape[1:]), np.uint8)
    scans = write_scans(tmp_path / "scans", np.concatenate([plug, noise]), "a", "b")
    command = [sys.executable, "-m", "tidemark_cli", "predict", scans, *outputs(tmp_path / "m")]
    command += ["--weights", model, "--cluster", "local:2"]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE, start_new_session=True) as run:
        assert run.stderr is not None
        wait_for(lambda: run.stderr.readline().startswith("cluster: "))
        time.sleep(1)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        err = run.communicate(timeout=60)[1]
    assert (run.returncode, err) == (130, "interrupted: no half-written output is left.\n")
    left = {path.name for path in (tmp_path / "m").iterdir()}  # of a scan that was done before, both files
    whole = [
        {f"{name}{end}" for name in names for end in (".tif", ".json")} for names in ("", "a", "b", "ab")
    ]
    assert left in whole


@pytest.mark.parametrize(("part", "names"), [("1/2", "ac"), ("2/2", "b"), ("4/4", "")])
def test_a_part_of_the_scans(
    part: str, names: str, tidemark: Run, plug: np.ndarray, model: Path, tmp_path: Path
) -> None:
    scans = write_scans(tmp_path / "scans", plug, "c", "a", "b")
    ended = tidemark("predict", scans, "-o", f"{tmp_path}/m/", "--weights", model, "--part", part)
    assert ended.code == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [f"{name}.tif" for name in names]


def test_parts_beside_one_another(tidemark: Run, plug: np.ndarray, model: Path, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans", plug, "a", "b")
    ended = [
        tidemark("predict", scans, "-o", f"{tmp_path}/m/", "--weights", model, "--part", part)
        for part in ("1/2", "2/2", "1/2")
    ]
    assert [one.code for one in ended] == [0, 0, 1]  # the last would write again
    assert "a.tif exists already" in ended[-1].err


@posix
def test_each_local_worker_has_a_gpu_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cluster.dask.system, "CPU_COUNT", 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with cluster.connected("local", Screen(quiet=True), "auto") as executor:
        assert executor is not None
        asked = "sleep 1; echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS $MKL_NUM_THREADS"
        told = [executor.submit(subprocess.getoutput, asked) for _ in range(2)]
        assert sorted(one.result(60) for one in told) == ["3 3 3", "5 3 3"]
