"""Outputs are whole or absent, one by one and as a set."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.files import (
    all_or_none,
    check_room,
    check_writable,
    folder_whole,
    readable_size,
    written_whole,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="names, modes and locks of POSIX")
any_name = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")


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


# -------------------------------------------------------------------------- links, permissions, shares


@posix
def test_through_a_link_the_file_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("old.txt", "new.txt"):  # one that is there, and one that a link only promises
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "old.txt").write_text("old")
    for name in ("old.txt", "new.txt"):
        check_writable(tmp_path / name, overwrite=True)
        write(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
    assert contents(tmp_path / "disk") == {"old.txt": "new", "new.txt": "new"}


@posix
def test_through_a_link_a_folder_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk" / "set").mkdir(parents=True)
    (tmp_path / "set").symlink_to(tmp_path / "disk" / "set")
    with folder_whole(tmp_path / "set", replace=True) as stage:
        (stage / "a.txt").write_text("new")
    assert (tmp_path / "set").is_symlink()
    assert contents(tmp_path / "set") == {"a.txt": "new"}
    assert sorted(path.name for path in (*tmp_path.iterdir(), *(tmp_path / "disk").iterdir())) == [
        "disk",
        "set",
        "set",
    ]


@posix
def test_a_link_to_a_device_or_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "null.txt").symlink_to(os.devnull)
    with pytest.raises(OutputError, match="is a device or a pipe"):
        check_writable(tmp_path / "null.txt", overwrite=True)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "gone" / "a.txt")
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "gone.txt", overwrite=True)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_what_is_replaced_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(mode)
    write(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_a_write_protected_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_dir())  # root may write anything
    with pytest.raises(OutputError, match="write-protected"):
        check_writable(tmp_path / "a.txt", overwrite=True)


def test_a_share_that_does_not_rename_onto_a_file(
    old: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def refusing(source: Path, target: Path) -> None:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "File exists")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(os, "rename", refusing)
    write(old[0], "new")
    assert contents(tmp_path) == {"a.txt": "new", "b.txt": "old"}


def test_a_folder_that_does_not_rename_at_all(
    old: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(os, "rename", refusing)
    write(old[0], "new")
    write(tmp_path / "c.txt", "new")
    assert contents(tmp_path) == {"a.txt": "new", "b.txt": "old", "c.txt": "new"}


def test_a_share_that_tells_late_that_it_is_full(
    old: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="quota exceeded; there is no room left"):
        write(old[0], "new")
    assert contents(tmp_path) == {"a.txt": "old", "b.txt": "old"}


# -------------------------------------------------------------------------------------------- names


def test_a_very_long_name_can_be_written(tmp_path: Path) -> None:
    write(tmp_path / f"{'a' * 240}.txt", "new")
    assert contents(tmp_path) == {f"{'a' * 240}.txt": "new"}


def test_room_on_the_disk(tmp_path: Path) -> None:
    check_room(tmp_path, 1, "make room")
    with pytest.raises(OutputError, match=r"931322574\.6 GiB are needed, .*iB are free; make room\."):
        check_room(tmp_path, 10**18, "make room")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (3 << 20, "3.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3072.0 GiB"),
    ],
)
def test_readable_size(count: int, text: str) -> None:
    assert readable_size(count) == text
