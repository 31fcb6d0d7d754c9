"""A file over HTTP, resumed where it was interrupted: the only place that reaches the network."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from requests import Response, Session, exceptions
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from ... import __version__
from ..errors import AssetError, OutputError
from ..files import replace

CONNECT_S, STALL_S = 10, 30  # seconds without an answer, or without a byte, before another attempt
WAITS_S = (1, 2, 4, 8)  # between attempts that bring nothing new; then it is given up
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that another attempt may not meet
CHUNK = 1 << 14  # bytes; one that a host stalls in is lost
_LASTING = (exceptions.SSLError, exceptions.TooManyRedirects, ValueError)  # ValueError: of the URL itself

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Feedback:
    """Who hears of long work.

    Attributes
    ----------
    tell : takes a line of text.
    progress : takes the label of a stage; a context that gives a callback ``(done, total)``, or None.
    """

    tell: Callable[[str], None] = lambda text: None
    progress: Callable[[str], AbstractContextManager[Advance | None]] = lambda label: nullcontext()


SILENT = Feedback()


class _PassingError(Exception):
    """A failure that another attempt may not meet."""


def fetch(url: str, target: Path, feedback: Feedback = SILENT, limit: int | None = None) -> None:
    """Download a file, going on from what an interrupted download of it has left.

    The bytes come into ``<target>.<key>.part`` and are renamed when all are there. The key is made of what
    the server says of the file's version and size: a part of another version is begun anew. Proxies and
    certificates are those of the environment, as requests takes them.

    Parameters
    ----------
    url : http or https.
    target : the file to write; its folder exists.
    limit : bytes; a larger file is refused.

    Raises
    ------
    AssetError
        If the host cannot be reached, stalls, or answers with an error or a web page, after several attempts
        where that may pass. What has come until then is kept.
    OutputError
        If the file cannot be written, or the disk has no room for it.
    """
    try:
        with Session() as session:
            # not compressed on the way: a length and a range then mean the file's own bytes
            session.headers.update(
                {"Accept-Encoding": "identity", "User-Agent": f"tidemark-cli/{__version__}"}
            )
            _persist(session, url, target, feedback, limit)
    except KeyboardInterrupt:
        if have := _size(_part(target)):
            feedback.tell(f"{readable_size(have)} are kept; the same command goes on from there")
        raise


def readable_size(count: float) -> str:
    """Return a number of bytes for people: "12 bytes", "3.4 MiB"."""
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} GiB"


def is_url(place: str) -> bool:
    """Tell whether a place is on the network, ``http(s)://host/...``, and not a path or something else."""
    try:
        parts = urlsplit(place)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as an unfinished IPv6 address
        return False


def shown(url: str) -> str:
    """Return a URL without the password and the token that it may hold; a path as it is."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def check_room(folder: Path, need: int) -> None:
    """Raise an OutputError where the disk of `folder` has fewer than `need` bytes free."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"{folder}: {readable_size(need)} are needed, {readable_size(free)} are free; make room, or "
            "name a folder on another disk (-o, or TIDEMARK_HOME for downloads)."
        )


def _persist(session: Session, url: str, target: Path, feedback: Feedback, limit: int | None) -> None:
    """Try until the file is whole, or several attempts in a row have brought nothing new."""
    failures, most = 0, _size(_part(target))
    while True:
        try:
            if _attempt(session, url, target, feedback, limit):
                return
        except (exceptions.RequestException, HTTPError, _PassingError) as error:
            have = _size(_part(target))
            failures, most = (1, have) if have > most else (failures + 1, most)
            if failures > len(WAITS_S) or isinstance(error, _LASTING):
                kept = f" {readable_size(have)} are kept to go on from." if have else ""
                raise AssetError(f"{shown(url)}: {_describe(error)}.{kept}") from error
            feedback.tell(f"{_describe(error)}; trying again in {WAITS_S[failures - 1]} s")
            time.sleep(WAITS_S[failures - 1])


def _attempt(session: Session, url: str, target: Path, feedback: Feedback, limit: int | None) -> bool:
    """Fetch what is missing; False where a part of another version was dropped, to be begun anew."""
    part = _part(target)
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT_S, STALL_S)) as response:
        if part and have and response.status_code == 416:
            part.unlink()
            return False
        _check_answer(response, ranged=have > 0)
        start, total = _extent(response)
        current = target.with_name(f"{target.name}.{_key(response, total)}.part")
        if part and (part != current or start != have):
            part.unlink()
            if start:
                return False
        if limit and (total or 0) > limit:
            raise AssetError(f"{shown(url)}: expected at most {limit} bytes, found {total}.")
        check_room(target.parent, (total or 0) - start)
        going_on = f", going on from {readable_size(start)}" if start else ""
        feedback.tell(f"{target.name}: {readable_size(total) if total else 'of unknown size'}{going_on}")
        with feedback.progress(f"downloading {target.name}") as advance:
            size = _receive(response, current, start, total, limit, advance)
    if total is not None and size != total:
        raise _PassingError(f"the connection ended at {readable_size(size)} of {readable_size(total)}")
    replace(current, target)
    return True


def _receive(
    response: Response, part: Path, start: int, total: int | None, limit: int | None, advance: Advance | None
) -> int:
    """Append what comes to the part; returns the bytes that are then in it."""
    size = start
    try:
        with open(part, "ab") as file:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                size += len(chunk)
                if limit and size > limit:
                    raise AssetError(f"{shown(response.url)}: expected at most {limit} bytes, found more.")
                if advance is not None and total:
                    advance(size - start, total - start)  # of what was missing, for the time left to be right
    except OSError as error:  # of the disk: what the network raises here is none
        raise OutputError(
            f"{part} could not be written: {error.strerror or error}; mend that and run the same again, "
            "it goes on from there."
        ) from error
    return size


def _check_answer(response: Response, ranged: bool) -> None:
    status, reason = response.status_code, response.reason
    answer = f"the server answers {status} {reason}".strip()
    if status in PASSING:
        raise _PassingError(answer)
    if status != 200 and not (status == 206 and ranged):
        raise AssetError(f"{shown(response.url)}: {answer}.")
    if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise AssetError(f"{shown(response.url)}: expected a file, found a web page (HTML).")


def _extent(response: Response) -> tuple[int, int | None]:
    """Return the first byte of the answer, and the size of the whole file or None."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not found:
            raise _PassingError("the server answers 206 without saying which bytes it sends")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _key(response: Response, total: int | None) -> str:
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return hashlib.sha256(f"{version} {total}".encode()).hexdigest()[:8]


def _part(target: Path) -> Path | None:
    """Return what an interrupted download of `target` has left."""
    name = re.compile(re.escape(target.name) + r"\.[0-9a-f]{8}\.part")
    return next((path for path in target.parent.glob("*.part") if name.fullmatch(path.name)), None)


def _size(path: Path | None) -> int:
    return path.stat().st_size if path else 0


def _describe(error: Exception) -> str:
    """Say in a few words why an attempt failed."""
    if isinstance(error, exceptions.ConnectTimeout):
        return f"the host does not answer within {CONNECT_S} s"
    if isinstance(error, (exceptions.ReadTimeout, ReadTimeoutError)):
        return f"the host sends nothing for {STALL_S} s"
    if isinstance(error, exceptions.ConnectionError):
        cause = getattr(error.args[0], "reason", error.args[0]) if error.args else error
        way = "the proxy" if isinstance(error, exceptions.ProxyError) else "the host"
        return f"{way} cannot be reached ({str(cause).rpartition(': ')[2].rstrip('.')})"
    if isinstance(error, ProtocolError):
        return "the connection was cut"
    return str(error).rstrip(".")
