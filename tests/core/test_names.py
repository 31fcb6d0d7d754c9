"""Names of files in any encoding."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tidemark_cli.core.files import written_whole
from tidemark_cli.core.names import open_table, plain_name, utf8_name

any_name = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")


@any_name
def test_a_library_that_wants_utf8_reaches_any_file(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    folder.mkdir()
    odd = folder / os.fsdecode(b"\xe4.nii.gz")
    for path in (tmp_path / "µ.txt", folder / "a.txt", odd):
        path.write_text(repr(path))
        with utf8_name(path) as name:
            assert str(name).encode().decode() == str(name)  # no byte that is no letter
            assert name.read_text() == repr(path)
            assert name.name.endswith(".nii.gz" if path == odd else path.name)
    with written_whole(odd) as temporary, utf8_name(temporary) as name:
        name.write_text("new")
    assert odd.read_text() == "new"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("scan.tif", "scan.tif"),
        ("µ.tif", "µ.tif"),
        (f"{'a' * 240}.tif", ".tif"),  # longer than what a temporary name may add to
        (f"{'a' * 240}.nii.gz", ".nii.gz"),
        (os.fsdecode(b"M\xfcller.tif"), ".tif"),
        (os.fsdecode(b"scan.\xfc"), ""),
    ],
)
@any_name
def test_a_plain_name_keeps_at_least_the_suffix(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@any_name
def test_a_table_takes_any_name(tmp_path: Path) -> None:
    with open_table(tmp_path / "table.csv") as file:
        file.write(os.fsdecode(b"M\xfcller"))
    assert (tmp_path / "table.csv").read_bytes() == b"M\\udcfcller"
