"""One process at a time, even on network shares without file locks."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows always has locks
    fcntl = None  # type: ignore[assignment]

_PATIENCE_S = 10  # for a lock file that a killed process may have left


@contextmanager
def one_at_a_time(lock: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keep other processes out of the block with a lock file, and wait for one that is in it.

    On a share without locks the existence of another file is the lock. A killed process leaves it behind, so
    the wait ends after ten seconds.

    Parameters
    ----------
    waiting : called once if another process is in the block.

    Raises
    ------
    OSError
        If the lock file cannot be made.
    """
    held: BaseFileLock = FileLock(lock)
    if not _has_locks(lock):
        held = SoftFileLock(lock.with_name(f"{lock.name}.held"), timeout=_PATIENCE_S)
    try:
        held.acquire(timeout=0)
    except Timeout:
        waiting()
        with suppress(Timeout):
            held.acquire()
    try:
        yield
    finally:
        held.release()


def _has_locks(lock: Path) -> bool:
    """Return whether the file system of a lock file has locks; NFS without its lock daemon does not."""
    if fcntl is None:
        return True
    made = not lock.exists()
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):  # another process has it
                return True
    if made:
        lock.unlink(missing_ok=True)
    return False
