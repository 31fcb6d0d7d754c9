"""The folder of a run: its description and its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark_cli import __version__
from tidemark_cli.core.data.run import read_description, refuse_existing, write_description, write_log
from tidemark_cli.core.errors import OutputError


def test_a_description_is_read_as_it_was_written(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "run")
    write_description(tmp_path / "run", {"settings": {"seed": 3}})
    assert read_description(tmp_path / "run") == {"tidemark": __version__, "settings": {"seed": 3}}
    with pytest.raises(OutputError, match="holds a run already; use --resume"):
        refuse_existing(tmp_path / "run")


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputError, match="is a file"):
        refuse_existing(tmp_path / "run")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": 1}', "\xff"])
def test_a_damaged_description(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(OutputError, match=r"run\.json is damaged"):
        read_description(tmp_path)


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="found none; start it without --resume"):
        read_description(tmp_path)


def test_the_log_has_a_line_for_each_row(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "loss": None}, {"epoch": 1, "loss": 0.5}, {"epoch": 2, "missed": 0.25}]
    write_log(tmp_path, rows)
    assert (tmp_path / "log.csv").read_text() == "epoch,loss,missed\n0,,\n1,0.5,\n2,,0.25\n"
