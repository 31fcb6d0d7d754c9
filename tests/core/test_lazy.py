"""Modules that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tidemark_cli.core import lazy


def test_a_module_is_imported_when_something_of_it_is_asked_for() -> None:
    code = (
        "import sys; from tidemark_cli.core import lazy; module = lazy.load('fractions');"
        "before = 'fractions' in sys.modules; half = module.Fraction(1, 2); print(before, half)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "1/2"]


def test_a_missing_module_is_an_error_when_it_is_used() -> None:
    missing = lazy.load("no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        assert missing.anything
