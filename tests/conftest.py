"""A plug small enough to segment in a moment, a network that knows it, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import Ended, draw_plug, save_bright_model


@pytest.fixture(scope="session")
def plug() -> np.ndarray:
    """The plug (Z, Y, X); its hard tissue is what is above grey level 150."""
    return draw_plug()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose network calls hard tissue what is brighter than 150 of 255."""
    path = tmp_path_factory.mktemp("model") / "bright.safetensors"
    save_bright_model(path)
    return path


@pytest.fixture
def tidemark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process."""
    from tidemark_cli.app import main

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tidemark", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for downloads of the test's own; no long waits, no proxy of the machine's."""
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("tidemark_cli.core.downloads.fetch.WAITS_S", (0, 0))
    return tmp_path / "home"
