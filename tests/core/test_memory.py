"""How much memory is free, of a machine, a container, a job; systems that are made up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tidemark_cli.core.memory import memory_available

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not told on Windows")


def system(root: Path, **files: str) -> Path:
    """Write the files that a system tells of itself in; ``__`` is a slash and ``_`` a dot after memory."""
    files = {"proc__meminfo": "MemTotal: 9 kB\nMemAvailable:  2048 kB\n"} | files
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_of_a_machine(tmp_path: Path) -> None:
    assert memory_available(system(tmp_path)) == 2048 * 1024


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


def test_of_a_process_with_a_limit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (100 * os.sysconf("SC_PAGE_SIZE"), -1))
    files = {"proc__self__statm": "60 20 5 1 0 9 0\n"}
    assert memory_available(system(tmp_path, **files)) == 40 * os.sysconf("SC_PAGE_SIZE")
