"""``python -m tidemark_cli`` is the command ``tidemark``."""

from __future__ import annotations

from .app import run

run()
