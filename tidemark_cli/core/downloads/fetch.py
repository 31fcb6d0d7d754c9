"""Download a file over HTTP, resuming where a download was interrupted: all access to the network is here."""

from __future__ import annotations

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
from ..files import check_room, readable_size, replace

CONNECT_S, STALL_S = 10, 30  # seconds without an answer, or without a byte, before another attempt
ANOTHER_DISK = "make room, or name a folder on another disk (-o, or TIDEMARK_HOME for downloads)"
WAITS_S = (1, 2, 4, 8)  # between attempts; after as many that bring nothing new, it gives up
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses worth another attempt
CHUNK = 1 << 14  # bytes; a stalled chunk is lost
_LASTING = (exceptions.SSLError, exceptions.TooManyRedirects, ValueError)  # ValueError: a bad URL

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Feedback:
    """How long work reports to the user.

    Attributes
    ----------
    tell : takes a line of text.
    progress : takes the label of a stage; a context that gives a callback ``(done, total)``, or None.
    """

    tell: Callable[[str], None] = lambda text: None
    progress: Callable[[str], AbstractContextManager[Advance | None]] = lambda label: nullcontext()


SILENT = Feedback()


class _PassingError(Exception):
    """A failure worth another attempt."""


def fetch(url: str, target: Path, feedback: Feedback = SILENT, limit: int | None = None) -> None:
    """Download a file, resuming an interrupted download of it.

    The bytes go to ``<target>.part``, beside ``<target>.version`` with the server's ETag or date, and are
    renamed when complete. If the file has changed since (`If-Range`), or the server gives no version, the
    download starts over. Proxies and certificates come from the environment, as usual with requests.

    Parameters
    ----------
    url : http or https.
    target : the file to write, in an existing folder.
    limit : in bytes; a larger file is refused.

    Raises
    ------
    AssetError
        If the host cannot be reached, stalls, or answers with an error or a web page; where that may be
        temporary, after several attempts. The part is kept.
    OutputError
        If the file cannot be written, or does not fit on the disk.
    """
    try:
        with Session() as session:
            # uncompressed, so that lengths and ranges count the bytes of the file itself
            session.headers.update(
                {"Accept-Encoding": "identity", "User-Agent": f"tidemark-cli/{__version__}"}
            )
            _persist(session, url, target, feedback, limit)
    except KeyboardInterrupt:
        if have := kept(target)[0]:
            feedback.tell(f"{readable_size(have)} are kept; run the same command again to resume")
        raise


def kept(target: Path) -> tuple[int, str]:
    """Return how many bytes of `target` an interrupted download has left, and of which version."""
    part, version = _beside(target)
    tag = version.read_text("latin-1") if version.is_file() else ""
    return part.stat().st_size if tag and part.is_file() else 0, tag


def is_url(place: str) -> bool:
    """Return whether `place` is ``http(s)://host/...`` rather than a path or anything else."""
    try:
        parts = urlsplit(place)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as an incomplete IPv6 address
        return False


def shown(url: str) -> str:
    """Return a URL without passwords and tokens; a path as it is."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _persist(session: Session, url: str, target: Path, feedback: Feedback, limit: int | None) -> None:
    """Try until the file is complete, or several attempts in a row have brought nothing new."""
    failures, most = 0, kept(target)[0]
    while True:
        try:
            return _attempt(session, url, target, feedback, limit)
        except (exceptions.RequestException, HTTPError, _PassingError) as error:
            have = kept(target)[0]
            failures, most = (1, have) if have > most else (failures + 1, most)
            if failures > len(WAITS_S) or isinstance(error, _LASTING):
                rest = f" {readable_size(have)} are kept to resume from." if have else ""
                raise AssetError(f"{shown(url)}: {_describe(error)}.{rest}") from error
            feedback.tell(f"{_describe(error)}; trying again in {WAITS_S[failures - 1]} s")
            time.sleep(WAITS_S[failures - 1])


def _attempt(session: Session, url: str, target: Path, feedback: Feedback, limit: int | None) -> None:
    """Fetch what is missing, or all of it where the server has another version."""
    part, version = _beside(target)
    have, tag = kept(target)
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT_S, STALL_S)) as response:
        if have and response.status_code == 416:  # nothing lies beyond the part
            part.unlink()
            return _attempt(session, url, target, feedback, limit)
        _check_answer(response)
        start = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length", "")
        missing = int(length) if length.isdecimal() else None
        check_room(target.parent, missing or 0, ANOTHER_DISK)
        size = "of unknown size" if missing is None else readable_size(start + missing)
        feedback.tell(f"{target.name}: {size}{f', resuming at {readable_size(start)}' if start else ''}")
        with feedback.progress(f"downloading {target.name}") as advance:
            _receive(response, target, start, missing, limit, advance)
    replace(part, target)
    version.unlink()


def _receive(
    response: Response,
    target: Path,
    start: int,
    missing: int | None,
    limit: int | None,
    advance: Advance | None,
) -> None:
    """Append the bytes of an answer to the part; urllib3 raises if fewer come than were announced."""
    part, version = _beside(target)
    try:
        if not start:
            part.unlink(missing_ok=True)
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            version.write_text(tag, "latin-1")
        with open(part, "ab") as file:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                if limit and file.tell() > limit:
                    raise AssetError(f"{shown(response.url)}: expected at most {limit} bytes, found more.")
                if advance and missing:
                    advance(file.tell() - start, missing)
    except OSError as error:  # from the disk: the network raises others here
        raise OutputError(
            f"{part} could not be written: {error.strerror or error}; fix that and run the same command "
            "again to resume."
        ) from error


def _check_answer(response: Response) -> None:
    answer = f"the server answers {response.status_code} {response.reason}".strip()
    if response.status_code in PASSING:
        raise _PassingError(answer)
    if response.status_code not in (200, 206):
        raise AssetError(f"{shown(response.url)}: {answer}.")
    if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise AssetError(f"{shown(response.url)}: expected a file, found a web page (HTML).")


def _beside(target: Path) -> tuple[Path, Path]:
    return target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.version")


def _describe(error: Exception) -> str:
    """Return in a few words why an attempt failed."""
    if isinstance(error, exceptions.ConnectTimeout):
        return f"the host does not answer within {CONNECT_S} s"
    if isinstance(error, (exceptions.ReadTimeout, ReadTimeoutError)):
        return f"the host has sent nothing for {STALL_S} s"
    if isinstance(error, exceptions.ConnectionError):
        cause = getattr(error.args[0], "reason", error.args[0]) if error.args else error
        way = "the proxy" if isinstance(error, exceptions.ProxyError) else "the host"
        return f"{way} cannot be reached ({str(cause).rpartition(': ')[2].rstrip('.')})"
    return "the connection was cut" if isinstance(error, ProtocolError) else str(error).rstrip(".")
