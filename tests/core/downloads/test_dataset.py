"""The public dataset from a server on the loopback: installed whole, verified, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Site, dataset_archive, serving, tree
from tidemark_cli.core.data.dataset import find_samples
from tidemark_cli.core.downloads import fetch as fetching
from tidemark_cli.core.downloads.dataset import download_dataset, list_assets, remembered_sha256
from tidemark_cli.core.downloads.fetch import Feedback
from tidemark_cli.core.errors import AssetError, OutputError

CONTENT = dataset_archive("S01_1", "S01_2", "S02_1")
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = dataset_archive("S03_1")
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()


@pytest.fixture(autouse=True)
def impatient(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STALL_S", 0.3)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files["/PTA_dataset.tar.gz"] = CONTENT
        yield site


@pytest.fixture
def url(site: Site) -> str:
    return f"{site.url}/PTA_dataset.tar.gz"


def test_the_dataset_is_installed_and_read(url: str, home: Path) -> None:
    found = download_dataset(url=url)
    assert (found.folder, found.samples, found.sha256, found.fresh) == (home / "dataset", 3, SHA256, True)
    samples = find_samples(found.folder)
    assert [(s.sample_id, s.subject_id, s.grade) for s in samples] == [
        ("S01_1", "S01", 1),
        ("S01_2", "S01", 1),
        ("S02_1", "S02", 1),
    ]
    assert (home / "archives" / "PTA_dataset.tar.gz").read_bytes() == CONTENT
    registry = f"PTA_dataset.tar.gz sha256:{SHA256}\n"
    assert (home / "archives" / "registry.txt").read_text() == registry
    assert (home / "dataset" / "archive.txt").read_text() == registry
    assert not any(name.startswith("partial/") for name in tree(home))


def test_another_time_nothing_is_fetched(url: str, site: Site, home: Path, tmp_path: Path) -> None:
    download_dataset(url=url)
    again = download_dataset(url=url)
    assert (again.fresh, again.samples, again.sha256) == (False, 3, SHA256)
    elsewhere = download_dataset(tmp_path / "elsewhere", url=url, offline=True)
    assert elsewhere.fresh
    assert tree(elsewhere.folder) == tree(home / "dataset")
    assert len(site.asked) == 1


def test_what_exists_is_not_replaced_unless_asked(url: str, site: Site, tmp_path: Path) -> None:
    site.files["/other"] = OTHER
    out = tmp_path / "out"
    download_dataset(out, url=url)
    with pytest.raises(OutputError, match="exists already; use --overwrite"):
        download_dataset(out, url=f"{site.url}/other", sha256=OTHER_SHA256)
    assert [sample.sample_id for sample in find_samples(out)] == ["S01_1", "S01_2", "S02_1"]
    assert len(site.asked) == 1
    download_dataset(out, url=f"{site.url}/other", sha256=OTHER_SHA256, overwrite=True)
    assert [sample.sample_id for sample in find_samples(out)] == ["S03_1"]
    assert remembered_sha256() == OTHER_SHA256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_what_is_no_dataset_is_never_replaced(url: str, site: Site, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.doc").touch()
    with pytest.raises(OutputError, match="not a dataset and is not replaced"):
        download_dataset(tmp_path / "precious", url=url, overwrite=True)
    with pytest.raises(OutputError, match="does not exist; create it first"):
        download_dataset(tmp_path / "nowhere" / "out", url=url)
    assert site.asked == []
    (tmp_path / "empty").mkdir()
    assert download_dataset(tmp_path / "empty", url=url).samples == 3


# ---------------------------------------------------------------------------------------- checksums


def test_a_later_archive_must_be_the_first(url: str, site: Site, home: Path, tmp_path: Path) -> None:
    download_dataset(tmp_path / "first", url=url)
    (home / "archives" / "PTA_dataset.tar.gz").unlink()
    site.files["/PTA_dataset.tar.gz"] = OTHER
    with pytest.raises(AssetError, match=f"expected the SHA-256 {SHA256}, found {OTHER_SHA256}"):
        download_dataset(url=url)
    assert tree(home) == {"archives/registry.txt"}
    assert download_dataset(url=url, sha256=OTHER_SHA256).samples == 1  # it is known to have changed
    assert remembered_sha256() == OTHER_SHA256


def test_a_checksum_asked_for_is_enforced(url: str, home: Path) -> None:
    with pytest.raises(AssetError, match=f"expected the SHA-256 {OTHER_SHA256}, found {SHA256}"):
        download_dataset(url=url, sha256=OTHER_SHA256)
    assert tree(home) == set()
    assert download_dataset(url=url, sha256=SHA256).fresh


def test_a_damaged_archive_in_the_cache_is_fetched_again(
    url: str, site: Site, home: Path, tmp_path: Path
) -> None:
    download_dataset(url=url)
    (home / "archives" / "PTA_dataset.tar.gz").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(AssetError, match=r"offline: .* has another checksum"):
        download_dataset(tmp_path / "out", url=url, offline=True)
    assert len(site.asked) == 1
    assert download_dataset(tmp_path / "out", url=url).fresh
    assert (home / "archives" / "PTA_dataset.tar.gz").read_bytes() == CONTENT


# ----------------------------------------------------------------------------- by hand, and offline


def test_a_copy_carried_by_hand(url: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.tar.gz").write_bytes(CONTENT)
    found = download_dataset(copy=tmp_path / "copy.tar.gz", url="http://127.0.0.1:1/", offline=True)
    assert (found.samples, found.sha256, remembered_sha256()) == (3, SHA256, SHA256)
    assert not (home / "archives" / "PTA_dataset.tar.gz").exists()  # it is where it was, once is enough
    (tmp_path / "copy.tar.gz").write_bytes(OTHER)
    with pytest.raises(AssetError, match="expected the SHA-256"):
        download_dataset(tmp_path / "out", copy=tmp_path / "copy.tar.gz")
    (tmp_path / "copy.tar.gz").write_bytes(CONTENT[:500])
    with pytest.raises(AssetError, match="not a complete"):
        download_dataset(
            tmp_path / "out", copy=tmp_path / "copy.tar.gz", sha256=hashlib.sha256(CONTENT[:500]).hexdigest()
        )
    assert (tmp_path / "copy.tar.gz").exists()
    assert remembered_sha256() == SHA256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar.gz", "home"]


def test_offline_and_nothing_there(url: str, site: Site, home: Path) -> None:
    with pytest.raises(AssetError, match=r"offline: .*--from"):
        download_dataset(url=url, offline=True)
    assert (site.asked, tree(home)) == ([], set())


# ------------------------------------------------------------------------------------ what goes wrong


def test_nothing_half_installed(url: str, site: Site, home: Path) -> None:
    for fault in (404, "html"):
        site.faults["/PTA_dataset.tar.gz"] = [fault]
        with pytest.raises(AssetError, match="host may be gone: use a mirror with --url, or a copy"):
            download_dataset(url=url)
        assert tree(home) == set()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (CONTENT[:500], "not a complete"),
        (b"<!DOCTYPE html>", "not a complete"),
        (dataset_archive(), "expected pre_processed/SAMPLE/imgs and masks in it, found grades"),
    ],
    ids=["truncated", "HTML", "of something else"],
)
def test_an_archive_that_is_none(url: str, site: Site, home: Path, content: bytes, told: str) -> None:
    site.files["/PTA_dataset.tar.gz"] = content
    with pytest.raises(AssetError, match=told):
        download_dataset(url=url)
    assert tree(home) == set()
    site.files["/PTA_dataset.tar.gz"] = CONTENT
    assert download_dataset(url=url).fresh


def test_a_full_disk_while_unpacking(
    url: str, site: Site, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(OutputError, match="No space left on device; fix that"):
            download_dataset(url=url)
    assert tree(home) == {"partial/dataset/PTA_dataset.tar.gz"}
    assert download_dataset(url=url).fresh
    assert len(site.asked) == 1


def test_interrupted_while_unpacking(
    url: str, site: Site, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download_dataset(url=url)
    assert tree(home) == {"partial/dataset/PTA_dataset.tar.gz"}
    assert [asset.state for asset in list_assets()] == ["interrupted", "absent"]
    assert download_dataset(url=url).fresh
    assert len(site.asked) == 1


def test_an_overwritten_dataset_comes_back_when_it_fails(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download_dataset(url=url)
    before = tree(home)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if "partial" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        download_dataset(url=url, overwrite=True)
    assert tree(home) == before


def test_a_home_that_cannot_be_made(
    url: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(OutputError, match=r"cannot be written .*; set TIDEMARK_HOME to a folder"):
        download_dataset(tmp_path / "out", url=url)
    assert site.asked == []
    (tmp_path / "copy.tar.gz").write_bytes(CONTENT)
    told: list[str] = []
    found = download_dataset(tmp_path / "out", copy=tmp_path / "copy.tar.gz", feedback=Feedback(told.append))
    assert found.samples == 3  # a copy needs no cache
    assert any("could not be kept" in line for line in told)


def test_a_read_only_cache_is_used(url: str, home: Path, tmp_path: Path) -> None:
    download_dataset(tmp_path / "out", url=url)
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        if os.access(home, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert download_dataset(tmp_path / "again", url=url).samples == 3
        with pytest.raises(OutputError, match=r"dataset could not be written"):
            download_dataset(url=url)
    finally:
        for folder in folders:
            folder.chmod(0o755)


# ---------------------------------------------------------------------------------------------- list


def test_the_list(url: str, site: Site, home: Path) -> None:
    assert [(a.kind, a.state, a.size_bytes) for a in list_assets()] == [
        ("archive", "absent", 0),
        ("dataset", "absent", 0),
    ]
    assert not home.exists()
    site.faults["/PTA_dataset.tar.gz"] = ["cut", 404]
    with pytest.raises(AssetError):
        download_dataset(url=url)
    assert (list_assets()[0].state, list_assets()[0].size_bytes) == ("interrupted", len(CONTENT) // 2)
    download_dataset(url=url)
    asked = len(site.asked)
    listed = list_assets()
    assert [(a.kind, a.state) for a in listed] == [("archive", "verified"), ("dataset", "unpacked")]
    assert listed[0].size_bytes == len(CONTENT)
    assert listed[1].size_bytes == sum(p.stat().st_size for p in listed[1].path.rglob("*") if p.is_file())
    (home / "archives" / "PTA_dataset.tar.gz").write_bytes(OTHER)
    assert list_assets()[0].state == "damaged"
    (home / "archives" / "registry.txt").unlink()
    assert list_assets()[0].state == "unverified"
    assert len(site.asked) == asked
