"""A run that is killed, ended or interrupted at any moment leaves every output whole or absent."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import VOXEL_UM
from tidemark_cli.core.scans.volume import read_volume, write_volume

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
KINDS = {"-o": "mask.tif", "--probability": "probability.tif", "--stats": "stats.json"}


def command(scan: Path, model: Path, folder: Path) -> list[str]:
    outputs = [str(a) for option, name in KINDS.items() for a in (option, folder / name)]
    program = [sys.executable, "-m", "tidemark_cli", "predict", str(scan), "--weights", str(model)]
    return [*program, "--device", "cpu", *outputs]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory, plug: np.ndarray) -> Path:
    """A scan long enough to be killed in: the plug, with random grey levels above it that compress badly."""
    noise = np.random.default_rng(0).integers(20, 230, (280, *plug.shape[1:]), np.uint8)
    path = tmp_path_factory.mktemp("scan") / "scan.tif"
    write_volume(path, np.concatenate([plug, noise]), VOXEL_UM)
    return path


@pytest.fixture(scope="module")
def whole(scan: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """What an undisturbed run writes, and the seconds it takes once the model is loaded."""
    folder = tmp_path_factory.mktemp("whole")
    with subprocess.Popen(
        command(scan, model, folder), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stderr is not None
        run.stderr.readline()
        started = time.monotonic()
        run.communicate()
        seconds = time.monotonic() - started
    assert run.returncode == 0
    return folder, seconds


def assert_whole_or_absent(folder: Path, whole: Path) -> None:
    for name in KINDS.values():
        path = folder / name
        if not path.exists():
            continue
        if path.suffix == ".json":
            assert (
                json.loads(path.read_text(encoding="utf-8")).keys()
                == json.loads((whole / name).read_text()).keys()
            )
        else:
            assert np.array_equal(read_volume(path).array, read_volume(whole / name).array)


@pytest.mark.parametrize(
    ("number", "rounds"), [(signal.SIGKILL, 2), (signal.SIGTERM, 1), (signal.SIGINT, 1)], ids=str
)
def test_killed_at_any_moment(
    number: signal.Signals, rounds: int, scan: Path, model: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    reference, seconds = whole
    for i in range(rounds):
        folder = tmp_path / str(i)
        folder.mkdir()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command(scan, model, folder), text=True, **pipes) as run:
            assert run.stderr is not None
            run.stderr.readline()  # the model is loaded, the work begins
            moment = seconds * (i + random.random()) / rounds
            print(f"{number.name} after {moment:.3f} s")  # shown where the test fails
            time.sleep(moment)
            run.send_signal(number)
            err = run.communicate(timeout=300)[1]
        assert_whole_or_absent(folder, reference)
        if number != signal.SIGKILL:
            names = {path.name for path in folder.iterdir()}
            everything = set(KINDS.values())
            assert names in (set(), everything)
            assert run.returncode == 130 or names == everything, err  # else the run had ended before
            assert ("interrupted" in err) == (run.returncode == 130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=str)
def test_an_interruption_after_the_first_line_ends_with_130(
    number: signal.Signals, scan: Path, model: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(command(scan, model, tmp_path), text=True, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        run.stderr.readline()
        run.send_signal(number)
        err = run.communicate(timeout=300)[1]
    assert run.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted")
    assert not list(tmp_path.iterdir())
