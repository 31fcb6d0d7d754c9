"""How much memory is free, of a machine, a container, a job; systems that are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tidemark_cli.core.memory import memory_available, parse_size

FREE = 2048 * 1024  # of the machine


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 2 MiB free, and no limit of the process."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=FREE))
    limit_process(monkeypatch, psutil.RLIM_INFINITY, 0)


def limit_process(monkeypatch: pytest.MonkeyPatch, most: int, taken: int) -> None:
    process = SimpleNamespace(rlimit=lambda _: (most, -1), memory_info=lambda: SimpleNamespace(vms=taken))
    monkeypatch.setattr(psutil, "Process", lambda: process)


def system(root: Path, **files: str) -> Path:
    """Write the files in which a system tells its limits; ``__`` is a slash and ``_`` a dot after memory."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_of_a_machine(tmp_path: Path) -> None:
    assert memory_available(tmp_path) == FREE


def test_of_a_container(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "0::/\n",
        "sys__fs__cgroup__memory_max": "1000\n",
        "sys__fs__cgroup__memory_current": "700\n",
        "sys__fs__cgroup__memory_stat": "anon 400\ninactive_file 50\nactive_file 250\n",
    }
    assert memory_available(system(tmp_path, **files)) == 350


def test_of_a_job_whose_limit_is_that_of_the_group_above(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "0::/job/step\n",
        "sys__fs__cgroup__job__memory_max": "1000\n",
        "sys__fs__cgroup__job__memory_current": "1400\n",
        "sys__fs__cgroup__job__step__memory_max": "max\n",
        "sys__fs__cgroup__job__step__memory_current": "700\n",
    }
    assert memory_available(system(tmp_path, **files)) == 0


def test_of_a_job_on_an_older_system(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "9:cpu,cpuacct:/job\n8:memory:/job\n",
        "sys__fs__cgroup__memory__job__memory_limit_in_bytes": "3000\n",
        "sys__fs__cgroup__memory__job__memory_usage_in_bytes": "1000\n",
    }
    assert memory_available(system(tmp_path, **files)) == 2000


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="limits of Linux")
def test_of_a_process_with_a_limit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_process(monkeypatch, 1000, taken=600)
    assert memory_available(tmp_path) == 400


def test_sizes_are_told_in_powers_of_1000_and_1024() -> None:
    texts = ("512MiB", "4GB", "1.5 GiB", "3kb", "2TiB")
    assert [parse_size(text) for text in texts] == [2**29, 4 * 10**9, 3 * 2**29, 3000, 2**41]


@pytest.mark.parametrize("text", ["", "4", "4G", "-1GB", "0MB", "a lot", "1.GB", "1GBs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 512MiB or 4GB"):
        parse_size(text)
