"""A web server on the loopback that can also fail in every way a real one does."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np


@dataclass
class Site:
    """What the server holds, how it is to fail, and what it was asked.

    Attributes
    ----------
    files : content by path.
    faults : by path, what to do with the next requests, one each: an HTTP status, "cut" and "stall" half way,
        "hang" before an answer, "html", "slow", or "" for nothing wrong.
    asked : (path, Range header) of every request.
    ranges, tagged : whether it honours ranges, and sends a file's ETag.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    ranges: bool = True
    tagged: bool = True
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving() -> Iterator[Site]:
    """Serve a new site until the end of the block."""
    site = Site()

    class Handler(_Handler):
        pass

    Handler.site = site
    server = _Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that are gone."""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, asked_range = self.site, self.headers.get("Range")
        path = self.path.removeprefix("http://somewhere.invalid").partition("?")[0]  # as a proxy is asked
        site.asked.append((self.path, asked_range))
        faults = site.faults.get(path, [])
        fault = faults.pop(0) if faults else ""
        if isinstance(fault, int) or path not in site.files:
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        if fault == "hang":
            site.closing.wait(30)
            return
        if fault == "html":
            self._answer(200, b"<!DOCTYPE html><html>Please log in</html>", "text/html; charset=utf-8")
            return
        content = site.files[path]
        changed = self.headers.get("If-Range") != self._tag(content)
        start = int(asked_range[6:-1]) if asked_range and site.ranges and not changed else 0
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(content, start, fault)

    def _send(self, content: bytes, start: int, fault: int | str) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.site.tagged:
            self.send_header("ETag", self._tag(content))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if fault in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                self.site.closing.wait(30)
            self.close_connection = True
        elif fault == "slow":
            for i in range(0, len(body), 1 << 17):
                self.wfile.write(body[i : i + (1 << 17)])
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(body)

    def _tag(self, content: bytes) -> str:
        return f'"{hashlib.md5(content).hexdigest()}"'

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def dataset_archive(*samples: str, rows: int = 8) -> bytes:
    """Return a small dataset as it was published: samples of two ZX and two ZY slices, in ``Data/``."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for sample in samples:
            for kind in ("imgs", "masks"):
                for plane in ("ZX", "ZY"):
                    for number in range(2):
                        image = rng.integers(0, 256, (rows, 2), np.uint8)
                        image = image if kind == "imgs" else np.where(image > 127, 255, 0).astype(np.uint8)
                        png = cv2.imencode(".png", image)[1].tobytes()
                        info = tarfile.TarInfo(f"Data/pre_processed/{sample}/{kind}/{plane}_{number}.png")
                        info.size = len(png)
                        tar.addfile(info, io.BytesIO(png))
        grades = b"sample_id,grade\n" + b"".join(f"{sample},1\n".encode() for sample in samples)
        info = tarfile.TarInfo("Data/grades.csv")
        info.size = len(grades)
        tar.addfile(info, io.BytesIO(grades))
    return buffer.getvalue()


def tree(folder: Path) -> set[str]:
    """Return the names of all files but locks in a folder, hidden ones too."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in names if not name.endswith(".lock")}
