"""Libraries in C++ that write on the screen what becomes our errors: silent for a while, then as before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2

from .. import lazily

sitk = lazily.imported("SimpleITK")


class _Silence:
    """A setting of the whole process, changed while at least one thread wants it so."""

    def __init__(self, get: Callable[[], Any], change: Callable[[Any], Any], silent: Any) -> None:
        self.get, self.change, self.silent = get, change, silent
        self.lock = threading.Lock()
        self.users, self.before = 0, None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.users == 0:
                self.before = self.get()
                self.change(self.silent)
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    self.change(self.before)


_opencv_logs: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4, OpenCV 5

quiet_opencv = _Silence(_opencv_logs.getLogLevel, _opencv_logs.setLogLevel, 0)
quiet_itk = _Silence(
    lambda: sitk.ProcessObject.GetGlobalWarningDisplay(),
    lambda shown: sitk.ProcessObject.SetGlobalWarningDisplay(shown),
    False,
)
