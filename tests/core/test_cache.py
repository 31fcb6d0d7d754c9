"""The folder for downloads: where it is, its registries, one process at a time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pooch
import pytest

from tidemark_cli.core import cache
from tidemark_cli.core.errors import AssetError, OutputError
from tidemark_cli.core.files import write_registry

SHA256 = hashlib.sha256(b"content").hexdigest()
MD5 = hashlib.md5(b"content").hexdigest()


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<p>", "one\n", "a b c d\n", 'a "b\n', "\xff\xfe"])
def test_a_registry_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(AssetError, match=r"registry\.txt: expected a registry"):
        cache.read_registry(tmp_path / "registry.txt")


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    assert cache.home() == tmp_path
    monkeypatch.setenv("TIDEMARK_HOME", "~/data")
    assert cache.home() == Path.home() / "data"
    monkeypatch.setenv("TIDEMARK_HOME", "")
    default = cache.home()
    assert default.is_absolute() and "tidemark" in default.parts
    monkeypatch.delenv("TIDEMARK_HOME")
    assert cache.home() == default


def test_a_registry_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run" / "registry.txt"
    write_registry(path, {"a.bin": f"sha256:{SHA256}"})
    assert path.read_text() == f"a.bin sha256:{SHA256}\n"
    assert cache.read_registry(path) == {"a.bin": f"sha256:{SHA256}"}
    assert cache.read_registry(tmp_path / "none.txt") == {}


@pytest.mark.parametrize("checksum", [SHA256, f"sha256:{SHA256}", f"md5:{MD5}"])
def test_a_folder_is_intact_until_a_byte_changes(tmp_path: Path, checksum: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    write_registry(tmp_path / "registry.txt", {"a.bin": checksum})
    assert cache.is_intact(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"contenT")
    assert not cache.is_intact(tmp_path)
    (tmp_path / "a.bin").unlink()
    assert not cache.is_intact(tmp_path)


def test_a_folder_with_a_damaged_registry_is_not_intact(tmp_path: Path) -> None:
    (tmp_path / "registry.txt").write_text("one\n")
    assert not cache.is_intact(tmp_path)


def test_a_checksum_is_returned_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    for known in (None, SHA256, f"sha256:{SHA256}"):
        assert cache.verified(path, known) == SHA256
    assert cache.verified(path, f"md5:{MD5}") == MD5
    with pytest.raises(
        AssetError, match=f"^https://host/a: expected the SHA-256 00, found {SHA256}; say {SHA256}.$"
    ):
        cache.verified(path, "00", "https://host/a", "say {found}")
    with pytest.raises(AssetError, match="not available"):
        cache.verified(path, "rot13:00")


def test_no_checksum_of_an_unknown_kind_fits(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    assert not cache.has_checksum(tmp_path / "a.bin", f"rot13:{SHA256}")


def test_the_logger_of_pooch_is_left_as_it_was(tmp_path: Path) -> None:
    before = pooch.get_logger().level
    write_registry(tmp_path / "registry.txt", {"a.bin": SHA256})
    cache.read_registry(tmp_path / "registry.txt")
    assert pooch.get_logger().level == before


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path / "file" / "home"))
    with cache.locked("dataset", needed=False, tell=print):
        pass
    with pytest.raises(OutputError, match="set TIDEMARK_HOME"), cache.locked("dataset", True, print):
        pass


@pytest.mark.parametrize("text", ["", ".hidden", "../mine", "a b", "-a", "ä"])
def test_what_is_no_name(text: str) -> None:
    assert not cache.is_name(text)
    assert cache.weights_folder(text) is None
