"""One process at a time, also on shares that have no locks."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows, which always has locks
    fcntl = None  # type: ignore[assignment]

_PATIENCE_S = 10  # for a lock that a killed process may have left


@contextmanager
def one_at_a_time(lock: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keep other processes out of the block, by a lock file; waits for one that is in it.

    On a share without locks another kind of lock file stands in, which a process that was killed leaves
    behind: it is waited for no longer than ten seconds.

    Parameters
    ----------
    waiting : called once where another process is in the block.

    Raises
    ------
    OSError
        If the lock file cannot be made.
    """
    has_locks = _has_locks(lock)
    patience_s = -1 if has_locks else _PATIENCE_S
    held: BaseFileLock = FileLock(lock) if has_locks else SoftFileLock(lock.with_name(f"{lock.name}.held"))
    try:
        held.acquire(timeout=0)
    except Timeout:
        waiting()
        with suppress(Timeout):
            held.acquire(timeout=patience_s)
    try:
        yield
    finally:
        held.release()


def _has_locks(lock: Path) -> bool:
    """Tell whether the file system of a lock file has locks; NFS without its lock daemon has none."""
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
