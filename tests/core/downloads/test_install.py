"""What every download goes through: brought, verified, installed whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tidemark_cli.core.downloads.fetch import SILENT
from tidemark_cli.core.downloads.install import bring, installing, verified
from tidemark_cli.core.errors import AssetError

SHA256 = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    return tmp_path / "file"


def test_a_file_of_this_machine_is_copied(file: Path) -> None:
    copy = file.with_name("copy")
    bring(str(file), copy, True, SILENT)
    assert copy.read_bytes() == file.read_bytes() == b"content"
    with pytest.raises(AssetError, match="expected the file that the registry lists"):
        bring(str(file.with_name("none")), copy, True, SILENT)
    with pytest.raises(AssetError, match="offline: http://host/file is on the network"):
        bring("http://host/file", copy, True, SILENT)


def test_a_checksum_is_told_and_compared(file: Path) -> None:
    assert verified(file, None) == verified(file, SHA256) == verified(file, f"sha256:{SHA256}") == SHA256
    assert verified(file, f"md5:{hashlib.md5(b'content').hexdigest()}") == hashlib.md5(b"content").hexdigest()
    told = f"^https://host/a: expected the SHA-256 00, found {SHA256}; say {SHA256}.$"
    with pytest.raises(AssetError, match=told):
        verified(file, "00", "https://me:secret@host/a?token=b", advice="say {found}")
    with pytest.raises(AssetError, match="not available"):
        verified(file, "rot13:00")


def test_a_folder_appears_with_its_registry_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    with installing(target, False, "registry.txt", {"a": "sha256:00"}) as stage:
        (stage / "a").touch()
        assert not target.exists()
    assert (target / "registry.txt").read_text() == "a sha256:00\n"
    with pytest.raises(KeyboardInterrupt), installing(target, True, "registry.txt", {}) as stage:
        raise KeyboardInterrupt
    assert sorted(path.name for path in target.iterdir()) == ["a", "registry.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
