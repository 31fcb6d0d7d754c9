"""Foreign archives: what is good comes out byte by byte, nothing else comes out at all."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemark_cli.core.downloads import archive as module
from tidemark_cli.core.downloads.archive import unpack
from tidemark_cli.core.errors import AssetError, OutputError

NOISE = np.random.default_rng(0).bytes(20_000)  # does not compress


def member(name: str, content: bytes = b"", **rest: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in rest.items():
        setattr(info, key, value)
    return info, content


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def try_unpack(content: bytes, folder: Path, root: str = "Data") -> dict[str, bytes]:
    """Unpack into ``folder/out`` and return the files there; see that nothing comes beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    (folder / "a.tar.gz").write_bytes(content)
    try:
        unpack(folder / "a.tar.gz", folder / "out", root)
    finally:
        assert sorted(path.name for path in folder.iterdir()) == ["a.tar.gz", "out"]
    return files(folder / "out")


FIRST = member("Data/first.txt", b"first")


def test_the_top_folder_is_left_out(tmp_path: Path) -> None:
    folders = [member(name, type=tarfile.DIRTYPE) for name in ("Data", "Data/imgs", "./empty/")]
    plain = [FIRST, member("./Data/imgs/ZX_0.png", NOISE), member("imgs/Data/x", b"x"), member("readme", b"")]
    assert try_unpack(packed(*folders, *plain), tmp_path) == {
        "first.txt": b"first",
        "imgs/ZX_0.png": NOISE,
        "imgs/Data/x": b"x",
        "readme": b"",
    }
    assert (tmp_path / "out" / "empty").is_dir()


def test_permissions_are_not_taken(tmp_path: Path) -> None:
    try_unpack(packed(member("x", b"x", mode=0o4777, uid=1234)), tmp_path)
    assert (tmp_path / "out" / "x").stat().st_mode & 0o7111 == 0


def test_progress_is_in_packed_bytes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    content = packed(*(member(f"{i}", np.random.default_rng(i).bytes(20_000)) for i in range(50)))
    (tmp_path / "a.tar.gz").write_bytes(content)
    seen: list[tuple[int, int]] = []
    unpack(tmp_path / "a.tar.gz", tmp_path / "out", "Data", lambda *figures: seen.append(figures))
    assert len(seen) == 50
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {len(content)}
    assert 0 < seen[0][0] < seen[-1][0] <= len(content)


HOSTILE = {
    "up": (member("../evil", b"evil"), "leads out"),
    "up, from within": (member("Data/imgs/../../../evil", b"evil"), "leads out"),
    "up, as a folder": (member("Data/../..", type=tarfile.DIRTYPE), "leads out"),
    "absolute": (member("/tmp/evil", b"evil"), "leads out"),
    "two slashes": (member("//tmp/evil", b"evil"), "leads out"),
    "of Windows": (member("..\\evil", b"evil"), "leads out"),
    "a drive": (member("C:/evil", b"evil"), "leads out"),
    "symlink": (member("Data/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a link"),
    "symlink inside": (member("Data/link", type=tarfile.SYMTYPE, linkname="first.txt"), "a link"),
    "hard link": (member("Data/link", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "a link"),
    "character device": (member("Data/zero", type=tarfile.CHRTYPE, devmajor=1, devminor=5), "a device"),
    "block device": (member("Data/disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0), "a device"),
    "pipe": (member("Data/pipe", type=tarfile.FIFOTYPE), "a device"),
    "unknown": (member("Data/odd", type=b"W"), "a device"),
    "sparse": (member("Data/sparse", type=tarfile.GNUTYPE_SPARSE), "sparse"),
    "twice": (member("first.txt", b"again"), "twice"),
    "twice, as a folder": (member("Data/first.txt", type=tarfile.DIRTYPE), "twice"),
    "below a file": (member("Data/first.txt/below", b"x"), "twice"),
    "the top as a file": (member("Data", b"x"), "twice"),
}


@pytest.mark.parametrize(("evil", "told"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_hostile_members(tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes], told: str, form: int) -> None:
    with pytest.raises(AssetError, match=told) as raised:
        try_unpack(packed(FIRST, evil, member("Data/last", b""), form=form), tmp_path)
    assert not Path("/tmp/evil").exists()
    assert "\n" not in str(raised.value)
    assert files(tmp_path / "out") in ({"first.txt": b"first"}, {})
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_symlink_below_which_the_next_file_lies(tmp_path: Path) -> None:
    link = member("Data/d", type=tarfile.SYMTYPE, linkname="..")
    with pytest.raises(AssetError, match="a link"):
        try_unpack(packed(link, member("Data/d/evil", b"evil")), tmp_path)


BOMBS = {
    "ratio": (member("big", bytes(80 << 20)), {}, "over 100 times its size"),
    "members": (FIRST, {"MOST_MEMBERS": 1}, "more than 1 files"),
    "bytes": (member("big", NOISE), {"MOST_BYTES": 20_000}, "or 0 GiB"),
    "header": (member("x" * 3_000_000, b""), {}, "a header in it is larger"),
    "pax header": (
        member("x", b"", pax_headers={"comment": "x" * 3_000_000}),
        {},
        "a header in it is larger",
    ),
}


@pytest.mark.parametrize(("bomb", "limits", "told"), BOMBS.values(), ids=BOMBS)
def test_bombs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bomb: tuple[tarfile.TarInfo, bytes],
    limits: Mapping[str, int],
    told: str,
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(module, name, value)
    with pytest.raises(AssetError, match=told):
        try_unpack(packed(FIRST, bomb), tmp_path)


def test_a_size_that_is_only_claimed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("big")
    info.size = 1 << 50
    with pytest.raises(AssetError, match="or 64 GiB"):
        try_unpack(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), tmp_path)


def test_zeros_behind_the_end_are_no_way_round_the_limits(tmp_path: Path) -> None:
    tar = gzip.decompress(packed(FIRST))
    assert try_unpack(gzip.compress(tar + bytes(100_000)), tmp_path) == {"first.txt": b"first"}
    with pytest.raises(AssetError, match="larger than"):
        try_unpack(gzip.compress(tar + bytes(3_000_000)), tmp_path)


TAR = gzip.decompress(packed(FIRST, member("b", NOISE[:2000]), member("c", b"c")))
NO_ARCHIVE = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html></html>",
    "a tar not compressed": TAR,
    "gz of text": gzip.compress(b"no tar" * 200),
    "gz of nothing": gzip.compress(b""),
    "cut": gzip.compress(TAR)[:-900],
    "without checksum": gzip.compress(TAR)[:-8],
    "wrong checksum": gzip.compress(TAR)[:-8] + bytes(8),
    "tar cut between files, then compressed": gzip.compress(TAR[:1024]),
    "tar cut in a file, then compressed": gzip.compress(TAR[:2000]),
    "header damaged, then compressed": gzip.compress(TAR[:1024] + b"?" * 512 + TAR[1536:]),
    "something behind it": gzip.compress(TAR + b"?" * 512),
    "something behind the gz": gzip.compress(TAR) + b"????????",
}


@pytest.mark.parametrize("content", NO_ARCHIVE.values(), ids=NO_ARCHIVE)
def test_damaged(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(AssetError, match=r"not a complete \.tar\.gz archive \(.+\); get it again") as raised:
        try_unpack(content, tmp_path)
    assert "\n" not in str(raised.value)


SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = packed(FIRST, member("Data/noise", NOISE[:3000]), member("x/y/z", b"z" * 700))


@SLOW
@given(cut=st.integers(0, len(WHOLE) - 1))
def test_every_truncation_is_noticed(tmp_path: Path, cut: int) -> None:
    with pytest.raises(AssetError):
        try_unpack(WHOLE[:cut], tmp_path)


@SLOW
@given(place=st.integers(10, len(WHOLE) - 1), change=st.integers(1, 255))
def test_every_changed_byte_is_noticed(tmp_path: Path, place: int, change: int) -> None:
    """From the tenth byte on: those before are the header of the .gz, with its time."""
    flipped = WHOLE[:place] + bytes([WHOLE[place] ^ change]) + WHOLE[place + 1 :]
    try:
        found = try_unpack(flipped, tmp_path)
    except AssetError:
        return
    assert found == {"first.txt": b"first", "noise": NOISE[:3000], "x/y/z": b"z" * 700}


@settings(SLOW, max_examples=200)
@given(data=st.data())
def test_a_tar_of_any_bytes_does_no_harm(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever the headers say, under a right checksum: an AssetError, or plain files inside the folder."""
    tar = bytearray(TAR)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.sampled_from([0, 1024, 4096])) + data.draw(
            st.sampled_from([0, 100, 124, 156, 257])
        )
        change = data.draw(st.binary(min_size=1, max_size=12))
        tar[start : start + len(change)] = change
    for start in (0, 1024, 4096):  # so that the headers are believed
        header = tar[start : start + 512]
        header[148:156] = b" " * 8
        tar[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    with suppress(AssetError, OutputError):
        try_unpack(gzip.compress(bytes(tar)), tmp_path)
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_negative_size(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(AssetError, match="negative"):
        try_unpack(gzip.compress(bytes(header) + bytes(10240)), tmp_path)


PART = st.text(st.characters(exclude_characters="/\\:\0", codec="utf-8"), min_size=1, max_size=30).filter(
    lambda part: part not in (".", "..")
)


@SLOW
@given(
    tree=st.dictionaries(st.tuples(PART, PART), st.binary(max_size=2000), min_size=1, max_size=8),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_is_packed_is_unpacked(tmp_path: Path, tree: dict[tuple[str, str], bytes], form: int) -> None:
    names = {"/".join((*parts, "file")): content for parts, content in tree.items()}
    content = packed(*(member(f"Data/{name}", content) for name, content in names.items()), form=form)
    assert try_unpack(content, tmp_path) == names


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OutputError, match="No space left on device; fix that"):
        try_unpack(packed(FIRST), tmp_path)
