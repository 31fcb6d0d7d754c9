"""The folder of a run: its description, ``run.json``, and its log."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ..errors import OutputError
from ..files import written_whole
from ..names import open_table

DESCRIPTION = "run.json"
ON_DATASET = "folds"  # the "kind" of a run on a dataset


def refuse_existing(run: Path) -> None:
    """Raise an OutputError if the folder holds a run already, or is a file."""
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run} is a file; expected the name of a folder for the run.")
    if (run / DESCRIPTION).exists():
        raise OutputError(
            f"{run} holds a run already; use --resume to go on with it, or name another folder."
        )


def read_description(run: Path) -> dict[str, Any]:
    """Return the content of ``run.json``; raise an OutputError if it is missing or damaged."""
    path = run / DESCRIPTION
    if not path.is_file():
        raise OutputError(
            f"{run}: expected a run to resume (run.json), found none; start it without --resume."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is damaged ({error}); start another run.") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise OutputError(f"{path} is damaged (no settings in it); start another run.")
    return content


def write_description(run: Path, content: Mapping[str, Any]) -> None:
    """Make the run's folder and write ``run.json``, with the version of tidemark."""
    run.mkdir(parents=True, exist_ok=True)
    with written_whole(run / DESCRIPTION) as temporary:
        text = json.dumps({"tidemark": __version__, **content}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_log(run: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``log.csv``, a line per row; missing entries are left empty."""
    with written_whole(run / "log.csv") as temporary, open_table(temporary) as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)
