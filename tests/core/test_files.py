"""Outputs are whole or absent, one by one and as a set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.files import all_or_none, written_whole


def write(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text)


@pytest.fixture
def old(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in paths:
        path.write_text("old")
    return paths


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_at_the_end_of_its_block(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
    assert contents(tmp_path) == {"a.txt": "new"}


def test_a_set_appears_at_the_end_of_its_block(old: list[Path], tmp_path: Path) -> None:
    with all_or_none():
        for path in old:
            write(path, "new")
        assert old[0].read_text() == old[1].read_text() == "old"
    assert contents(tmp_path) == {"a.txt": "new", "b.txt": "new"}
    write(old[0], "newer")  # the block is over
    assert contents(tmp_path) == {"a.txt": "newer", "b.txt": "new"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OutputError, ValueError])
def test_what_was_there_stays_when_a_set_fails(
    error: type[BaseException], old: list[Path], tmp_path: Path
) -> None:
    def write_two_and_fail() -> None:
        with all_or_none():
            write(old[0], "new")
            write(tmp_path / "c.txt", "new")
            raise error

    with pytest.raises(error):
        write_two_and_fail()
    assert contents(tmp_path) == {"a.txt": "old", "b.txt": "old"}


def test_a_file_that_failed_is_not_of_the_set(old: list[Path], tmp_path: Path) -> None:
    def write_half() -> None:
        with written_whole(old[1]) as temporary:
            temporary.write_text("half")
            raise ValueError("enough")

    with all_or_none():
        write(old[0], "new")
        with pytest.raises(ValueError, match="enough"):
            write_half()
    assert contents(tmp_path) == {"a.txt": "new", "b.txt": "old"}


def test_what_the_system_refuses_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").write_text("")
    with pytest.raises(OutputError, match="folder could not be written"):
        write(tmp_path / "folder", "new")
    with pytest.raises(OutputError, match=r"gone.a\.txt could not be written: No such file"):
        write(tmp_path / "gone" / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
