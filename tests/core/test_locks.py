"""One process at a time, with locks and without."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from tidemark_cli.core.locks import one_at_a_time

posix = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")


@posix
@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_second_one_waits(
    number: int | None, existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number or 0))

    if number is not None:  # a share without locks
        monkeypatch.setattr("fcntl.flock", refuse)
    if existed:
        (tmp_path / "lock").touch()
    inside = threading.Event()
    waited: list[bool] = []

    def second() -> None:
        with one_at_a_time(tmp_path / "lock", lambda: waited.append(inside.is_set())):
            assert not inside.is_set()

    with one_at_a_time(tmp_path / "lock"):
        inside.set()
        thread = threading.Thread(target=second)
        thread.start()
        while not waited and thread.is_alive():
            thread.join(0.01)
        inside.clear()
    thread.join()
    assert waited == [True]
    if number is not None:
        assert (tmp_path / "lock").exists() == existed
        assert len(list(tmp_path.iterdir())) == existed
