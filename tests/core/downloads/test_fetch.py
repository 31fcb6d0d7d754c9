"""Downloads over HTTP: resumed, retried, and every way in which a host fails told in one line."""

from __future__ import annotations

import ast
import errno
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests

from tests.server import Site, serving
from tidemark_cli.core.downloads import fetch as module
from tidemark_cli.core.downloads.fetch import Feedback, fetch, shown
from tidemark_cli.core.errors import AssetError, OutputError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing long; no proxy of the machine's in between."""
    monkeypatch.setattr(module, "WAITS_S", (0, 0))
    monkeypatch.setattr(module, "STALL_S", 0.3)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files["/file"] = CONTENT
        yield site


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path) -> int:
    """Return the size of the one part in a folder; nothing but its version may lie beside it."""
    assert names(folder) == ["out.part", "out.version"]
    return (folder / "out.part").stat().st_size


def test_a_file_comes_whole(site: Site, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    class Bar:
        def __init__(self, label: str) -> None:
            assert label == "downloading out"

        def __enter__(self) -> Any:
            return lambda *figures: done.append(figures)

        def __exit__(self, *_: object) -> None:
            pass

    told: list[str] = []
    fetch(f"{site.url}/file", tmp_path / "out", Feedback(told.append, Bar))
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert names(tmp_path) == ["out"]
    assert done[-1] == (len(CONTENT), len(CONTENT))
    assert told == ["out: 976.6 KiB"]


@pytest.mark.parametrize("fault", ["cut", "stall", "hang", 503, 429])
def test_what_may_pass_is_tried_again(site: Site, tmp_path: Path, fault: str) -> None:
    site.faults["/file"] = [fault, fault]
    fetch(f"{site.url}/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert names(tmp_path) == ["out"]
    ranges = [asked for _, asked in site.asked]
    assert ranges[0] is None
    # what had come before a stall or a cut is not asked for again
    assert (ranges[2] is not None) == (fault in ("cut", "stall"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [("cut", "the connection was cut"), ("hang", "has sent nothing"), (500, "500")],
)
def test_after_some_attempts_it_is_given_up(site: Site, tmp_path: Path, fault: str, told: str) -> None:
    site.ranges = False  # so that no attempt gets any further
    site.faults["/file"] = [fault] * 9
    with pytest.raises(AssetError, match=told) as raised:
        fetch(f"{site.url}/file", tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    assert 3 <= len(site.asked) <= 4


def test_many_interruptions_are_no_reason_to_give_up(site: Site, tmp_path: Path) -> None:
    site.faults["/file"] = ["cut"] * 10  # each brings half of what was missing
    fetch(f"{site.url}/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert len(site.asked) == 11


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_does_not_pass_is_not_tried_again(site: Site, tmp_path: Path, status: int) -> None:
    site.faults["/file"] = [status]
    with pytest.raises(AssetError, match=f"/file: the server answers {status} "):
        fetch(f"{site.url}/file", tmp_path / "out")
    assert len(site.asked) == 1
    assert names(tmp_path) == []


def test_a_web_page_is_no_file(site: Site, tmp_path: Path) -> None:
    site.faults["/file"] = ["html"]
    with pytest.raises(AssetError, match="found a web page"):
        fetch(f"{site.url}/file", tmp_path / "out")
    assert names(tmp_path) == []


def test_a_host_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: object, **__: object) -> None:
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests.Session, "get", wait)
    with pytest.raises(AssetError, match=r"^http://host/file: the host does not answer within 10 s\.$"):
        fetch("http://host/file", tmp_path / "out")


def test_no_host(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"the host cannot be reached \(.*refused\)"):
        fetch("http://127.0.0.1:1/file", tmp_path / "out")
    assert names(tmp_path) == []


def interrupt(site: Site, target: Path) -> None:
    """Leave half of the file."""
    site.faults["/file"] = ["cut", 404]
    with pytest.raises(AssetError, match="404"):
        fetch(f"{site.url}/file", target)
    assert left(target.parent) == len(CONTENT) // 2
    site.asked.clear()


def test_a_later_run_resumes(site: Site, tmp_path: Path) -> None:
    interrupt(site, tmp_path / "out")
    told: list[str] = []
    fetch(f"{site.url}/file", tmp_path / "out", Feedback(told.append))
    assert site.asked == [("/file", f"bytes={len(CONTENT) // 2}-")]
    assert told == ["out: 976.6 KiB, resuming at 488.3 KiB"]
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_a_file_without_a_version_starts_over(site: Site, tmp_path: Path) -> None:
    site.tagged = False
    interrupt(site, tmp_path / "out")
    fetch(f"{site.url}/file", tmp_path / "out")
    assert site.asked == [("/file", None)]
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert names(tmp_path) == ["out"]


def test_a_part_that_was_complete_starts_over(site: Site, tmp_path: Path) -> None:
    interrupt(site, tmp_path / "out")
    (tmp_path / "out.part").write_bytes(CONTENT)
    fetch(f"{site.url}/file", tmp_path / "out")
    assert [asked for _, asked in site.asked] == [f"bytes={len(CONTENT)}-", None]
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) // 4])
def test_another_version_starts_over(site: Site, tmp_path: Path, size: int, ranges: bool) -> None:
    interrupt(site, tmp_path / "out")
    site.files["/file"], site.ranges = CONTENT[::-1][:size], ranges
    fetch(f"{site.url}/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT[::-1][:size]
    assert names(tmp_path) == ["out"]


def test_interrupted_by_the_user(site: Site, tmp_path: Path) -> None:
    told: list[str] = []

    class Bar:
        def __init__(self, label: str) -> None:
            pass

        def __enter__(self) -> Any:
            def advance(done: int, total: int) -> None:
                if done > 300_000:
                    raise KeyboardInterrupt

            return advance

        def __exit__(self, *_: object) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{site.url}/file", tmp_path / "out", Feedback(told.append, Bar))
    assert told[-1].endswith("are kept; run the same command again to resume")
    assert 300_000 <= left(tmp_path) < len(CONTENT)
    fetch(f"{site.url}/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_interrupted_before_the_first_byte(site: Site, tmp_path: Path) -> None:
    def bar(label: str) -> Any:
        raise KeyboardInterrupt

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{site.url}/file", tmp_path / "out", Feedback(told.append, bar))
    assert told == ["out: 976.6 KiB"]


def test_a_full_disk_keeps_what_has_come(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > 400_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "open", Full, raising=False)
        with pytest.raises(OutputError, match="No space left on device; fix that"):
            fetch(f"{site.url}/file", tmp_path / "out")
    assert left(tmp_path) > 400_000
    assert len(site.asked) == 1
    fetch(f"{site.url}/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "out.version").mkdir()
    with pytest.raises(OutputError, match=r"out\.part could not be written: Is a directory"):
        fetch(f"{site.url}/file", tmp_path / "out")


def test_room_is_asked_for_before(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int = 999_999

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    with pytest.raises(OutputError, match=r"976.6 KiB are needed, 976.6 KiB are free; make room"):
        fetch(f"{site.url}/file", tmp_path / "out")
    assert names(tmp_path) == []


def test_too_large_a_file(site: Site, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="expected at most 1000 bytes"):
        fetch(f"{site.url}/file", tmp_path / "out", limit=1000)
    assert not (tmp_path / "out").exists()


def test_the_proxy_of_the_environment_is_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    fetch("http://somewhere.invalid/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert site.asked == [("http://somewhere.invalid/file", None)]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(AssetError, match="the proxy cannot be reached"):
        fetch("http://somewhere.invalid/file", tmp_path / "other")


def test_a_password_is_not_shown(site: Site, tmp_path: Path) -> None:
    assert shown("https://me:secret@host:8080/a/b.txt?token=secret#c") == "https://host:8080/a/b.txt"
    with pytest.raises(AssetError) as raised:
        fetch(f"{site.url.replace('//', '//me:secret@')}/none?token=secret", tmp_path / "out")
    assert "secret" not in str(raised.value)


def test_nothing_else_reaches_the_network() -> None:
    package = Path(module.__file__).parents[2]
    ways = {
        "requests",
        "urllib3",
        "httpx",
        "aiohttp",
        "socket",
        "http",
        "ftplib",
        "smtplib",
        "urllib.request",
    }
    users = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(name in ways or name.partition(".")[0] in ways for name in names):
                users.add(path.name)
    assert users == {"fetch.py", "cluster.py"}  # a cluster is reached where --cluster asks for it
