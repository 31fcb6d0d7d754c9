"""``tidemark download`` from end to end, against a server on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import VOXEL_UM, Ended
from tests.server import Site, dataset_archive, serving, tree
from tidemark_cli.core.downloads import fetch as fetching
from tidemark_cli.core.scans.volume import write_volume

Tidemark = Callable[..., Ended]
CONTENT = dataset_archive("S01_1", "S02_1")
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LARGE = dataset_archive("S01_1", "S02_1", rows=200_000)  # a megabyte and a half: time to be stopped in


@pytest.fixture(autouse=True)
def impatient(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STALL_S", 0.3)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files |= {"/data.tar.gz": CONTENT, "/large.tar.gz": LARGE}
        yield site


# ------------------------------------------------------------------------------------------ dataset


def test_the_dataset(tidemark: Tidemark, site: Site, tmp_path: Path) -> None:
    ended = tidemark("download", "dataset", "-o", tmp_path / "data", "--url", f"{site.url}/data.tar.gz")
    assert (ended.code, ended.out.splitlines()) == (
        0,
        [
            f"dataset      {tmp_path / 'data'}",
            "samples      2",
            f"SHA-256      {SHA256} of the archive",
        ],
    )
    assert f"downloading {site.url}/data.tar.gz" in ended.err
    assert "PTA_dataset.tar.gz: " in ended.err  # its size
    assert (tmp_path / "data" / "pre_processed" / "S01_1" / "imgs" / "ZX_0.png").is_file()
    again = tidemark("download", "dataset", "-o", tmp_path / "data", "--quiet", "--json")
    assert (again.code, again.err, again.out.count("\n")) == (0, "", 1)
    folder = str(tmp_path / "data")
    assert json.loads(again.out) == {"folder": folder, "samples": 2, "sha256": SHA256, "fresh": False}
    assert tidemark("download", "dataset", "-o", folder, "--overwrite", "--offline", "-q") == Ended(0, "", "")


def test_the_list(tidemark: Tidemark, site: Site, home: Path) -> None:
    ended = tidemark("download")
    assert ended.code == 0
    assert [line.split()[:3] for line in ended.out.splitlines()[1:]] == [
        ["archive", "PTA_dataset.tar.gz", "absent"],
        ["dataset", "dataset", "absent"],
    ]
    assert tidemark("download", "dataset", "--url", f"{site.url}/data.tar.gz").code == 0
    listed = tidemark("download", "--json")
    assert listed.err == ""
    content = json.loads(listed.out)
    assert (content["home"], content["dataset_sha256"]) == (str(home), SHA256)
    assert content["assets"][0] == {
        "kind": "archive",
        "name": "PTA_dataset.tar.gz",
        "state": "verified",
        "size_bytes": len(CONTENT),
        "path": str(home / "archives" / "PTA_dataset.tar.gz"),
    }
    assert len(site.asked) == 1


@pytest.mark.parametrize("fault", [404, 500, "html", "hang", "cut"])
def test_a_failing_host_is_one_line(
    tidemark: Tidemark, site: Site, home: Path, tmp_path: Path, fault: str | int
) -> None:
    site.ranges = False
    site.faults["/data.tar.gz"] = [fault] * 9
    out = tmp_path / "data"
    ended = tidemark("download", "dataset", "-o", out, "--url", f"{site.url}/data.tar.gz")
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (ended.code, ended.out, ended.err.splitlines()[-1:]) == (1, "", errors)
    assert "--url" in errors[0] and "--from" in errors[0]
    assert not out.exists()
    assert all(name.endswith((".part", ".version")) for name in tree(tmp_path))


@pytest.mark.parametrize(
    "content", [CONTENT[:700], b"<html>", dataset_archive()], ids=["cut", "HTML", "empty"]
)
def test_a_bad_copy_is_one_line(tidemark: Tidemark, tmp_path: Path, content: bytes) -> None:
    copy = tmp_path / "copy.tar.gz"
    copy.write_bytes(content)
    ended = tidemark("download", "dataset", "-o", tmp_path / "data", "--from", copy, "--quiet")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert str(copy) in ended.err
    assert tree(tmp_path) == {"copy.tar.gz"}


def test_a_wrong_checksum(tidemark: Tidemark, site: Site, tmp_path: Path) -> None:
    url = f"{site.url}/data.tar.gz"
    ended = tidemark("download", "dataset", "--url", url, "--sha256", "0" * 64, "--quiet")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert SHA256 in ended.err
    assert tree(tmp_path) == set()
    assert tidemark("download", "dataset", "--url", url, "--sha256", f"sha256:{SHA256.upper()}").code == 0


def test_offline(tidemark: Tidemark, site: Site) -> None:
    for arguments in (("dataset",), ("dataset", "--url", f"{site.url}/data.tar.gz")):
        ended = tidemark("download", *arguments, "--offline")
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert ended.err.startswith("error: offline: ")
    assert site.asked == []


WRONG = {
    "no digits": ("dataset", "--sha256", "xyz"),
    "too few digits": ("dataset", "--sha256", "0" * 63),
    "not http": ("dataset", "--url", "ftp://host/file"),
    "no host": ("dataset", "--url", "http:///file"),
    "an odd host": ("dataset", "--url", "http://[::1/file"),
    "two sources": ("dataset", "--url", "http://host/file", "--from", "copy"),
    "no such copy": ("dataset", "--from", "nowhere"),
    "no registry": ("weights",),
    "a registry not http": ("weights", "--url", "ftp://host/registry.txt"),
    "a name that is a path": ("weights", "--url", "run", "--name", "../evil"),
    "no name": ("weights", "--url", "http://host/registry.txt"),
    "unknown": ("everything",),
    "the option of another": ("--json", "dataset"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2(tidemark: Tidemark, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = tidemark("download", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert tree(tmp_path) == set()


# ------------------------------------------------------------------------------------------ weights


@pytest.fixture
def run(site: Site, model: Path, tmp_path: Path) -> Path:
    """A run with one fold, as `train` leaves it; the server has it at ``/run-7``, too."""
    folder = tmp_path / "run-7"
    folder.mkdir()
    (folder / "fold_0.safetensors").write_bytes(model.read_bytes())
    digits = hashlib.sha256(model.read_bytes()).hexdigest()
    (folder / "registry.txt").write_text(f"fold_0.safetensors sha256:{digits}\n")
    site.files |= {f"/run-7/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return folder


def test_weights_by_name(
    tidemark: Tidemark, site: Site, run: Path, plug: np.ndarray, tmp_path: Path, home: Path
) -> None:
    scan = tmp_path / "scan.tif"
    write_volume(scan, plug, VOXEL_UM)
    ended = tidemark("predict", scan, "-o", tmp_path / "mask.tif", "--weights", "bright")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].endswith("installed are: none (tidemark download).")
    ended = tidemark("download", "weights", "--url", f"{site.url}/run-7", "--name", "bright")
    assert (ended.code, ended.out.splitlines()) == (
        0,
        [
            f"weights      bright, fold_0.safetensors, in {home / 'weights' / 'bright'}",
            "use          tidemark predict SCAN -o MASK --weights bright",
        ],
    )
    assert "verified" in tidemark("download").out.splitlines()[-1]
    ended = tidemark("predict", scan, "-o", tmp_path / "mask.tif", "--weights", "bright")
    assert ended.code == 0
    assert "model: bright" in ended.err
    ended = tidemark("predict", scan, "-o", tmp_path / "other.tif", "--weights", "brigth")
    assert "installed are: bright" in ended.err


def test_weights_from_a_folder(tidemark: Tidemark, run: Path, home: Path) -> None:
    ended = tidemark("download", "weights", "--url", run, "--offline", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    folder = str(home / "weights" / "run-7")
    models = ["fold_0.safetensors"]
    assert json.loads(ended.out) == {"folder": folder, "models": models, "fresh": True, "name": "run-7"}


def test_weights_that_fail_are_one_line(tidemark: Tidemark, site: Site, run: Path, home: Path) -> None:
    site.files["/run-7/fold_0.safetensors"] = b"other"
    ended = tidemark("download", "weights", "--url", f"{site.url}/run-7", "--quiet")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "get it again" in ended.err
    assert not (home / "weights").exists()
    ended = tidemark("download", "weights", "--url", f"{site.url}/run-8", "--quiet")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "404" in ended.err


# -------------------------------------------------------------------------------- stopped, and twice


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tidemark_cli", "download", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=str)
def test_stopped_and_gone_on(site: Site, home: Path, tmp_path: Path, number: signal.Signals) -> None:
    site.faults["/large.tar.gz"] = ["slow"]
    arguments = ("dataset", "--url", f"{site.url}/large.tar.gz")
    with start(*arguments) as run:
        parts = home / "partial" / "dataset"
        wait_until(lambda: any(path.stat().st_size > 300_000 for path in parts.glob("*.part")))
        run.send_signal(number)
        err = run.communicate(timeout=60)[1]
    part = "partial/dataset/PTA_dataset.tar.gz.part"
    assert tree(home) == {part, part.replace(".part", ".version")}
    had = (home / part).stat().st_size
    assert 300_000 < had < len(LARGE)
    if number != signal.SIGKILL:
        assert run.returncode == 130
        assert "are kept; run the same command again to resume" in err
        assert err.splitlines()[-1].startswith("interrupted")
    with start(*arguments) as run:
        out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert site.asked[1:] == [("/large.tar.gz", f"bytes={had}-")]
    assert hashlib.sha256(LARGE).hexdigest() in out


def test_two_at_once(site: Site, home: Path) -> None:
    site.faults["/large.tar.gz"] = ["slow"]
    arguments = ("dataset", "--url", f"{site.url}/large.tar.gz")
    with start(*arguments) as first:
        wait_until(lambda: site.asked)
        with start(*arguments) as second:
            told = second.communicate(timeout=60)
        err = first.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0), (err, told)
    assert "another tidemark is using dataset; waiting for it" in told[1]
    assert "was there already" in told[0]
    assert len(site.asked) == 1
    assert (home / "archives" / "PTA_dataset.tar.gz").read_bytes() == LARGE
    assert not [name for name in tree(home) if name.startswith("partial/")]
