"""Modules that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tidemark_cli.core import lazily


def test_a_module_is_imported_when_something_of_it_is_asked_for() -> None:
    code = (
        "import sys; from tidemark_cli.core import lazily; module = lazily.imported('wave');"
        "before = 'wave' in sys.modules; print(before, module.WAVE_FORMAT_PCM)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "1"]


def test_a_missing_module_is_an_error_when_it_is_used() -> None:
    missing = lazily.imported("no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        assert missing.anything
