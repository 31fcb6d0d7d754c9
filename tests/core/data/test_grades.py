"""The grades of a dataset, read and written."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tidemark_cli.core.data.grades import read_grades, write_grades
from tidemark_cli.core.errors import DatasetError


def test_other_columns_and_separators_and_empty_grades(tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text('"no";"sample_id";"grade"\n1;S01_1;3.0\n2;S02_1;\n', encoding="utf-8-sig")
    assert read_grades(table) == {"S01_1": 3, "S02_1": None}
    with pytest.raises(DatasetError, match=r"nowhere\.csv"):
        read_grades(tmp_path / "nowhere.csv")


def test_grades_written_at_once_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_grades(tmp_path / "grades.csv", {f"S{i}_1": i}), range(40)))
    assert read_grades(tmp_path / "grades.csv") == {f"S{i}_1": i for i in range(40)}


def test_a_grade_of_a_name_that_is_no_utf8_is_found_again(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller_1")
    write_grades(tmp_path / "grades.csv", {name: 2})
    write_grades(tmp_path / "grades.csv", {"S1_1": 3})
    assert read_grades(tmp_path / "grades.csv") == {name: 2, "S1_1": 3}
    assert "M\\udcfcller_1,2\n" in (tmp_path / "grades.csv").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_a_grade_is_written_on_a_share_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_grades(tmp_path / "grades.csv", {"S1_1": 3})
    assert read_grades(tmp_path / "grades.csv") == {"S1_1": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["grades.csv"]


def test_a_grade_is_replaced_in_either_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = "S\u00e4_1", "Sa\u0308_1"
    (tmp_path / "grades.csv").write_text(f"sample_id,grade\n{decomposed},1\n", encoding="utf-8")
    write_grades(tmp_path / "grades.csv", {composed: 2})
    assert read_grades(tmp_path / "grades.csv") == {composed: 2}


def test_grades_are_merged(tmp_path: Path) -> None:
    table = tmp_path / "grades.csv"
    table.write_text("sample_id,grade,side\nS02_1,0,left\nS01_1,2,right\n")
    write_grades(table, {"S01_1": 3, "S03_1": 1})
    assert table.read_text() == "sample_id,grade,side\nS02_1,0,left\nS01_1,3,right\nS03_1,1,\n"
    before = table.stat().st_mtime_ns
    write_grades(table, {"S03_1": 1})
    assert table.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "columns"),
        ("id,grade\nS01_1,2\n", "sample_id"),
        ("sample_id,grade\nS01_1,mild\n", "'mild' of S01_1"),
        ("sample_id,grade\nS01_1,1.5\n", "1.5"),
        ("sample_id,grade\nS01_1,1\nS01_1,2\n", "S01_1 has the grades 1 and 2"),
        ("sample_id,grade\nS01_1\n", "1 field"),
    ],
)
def test_bad_grades(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "grades.csv").write_text(text)
    with pytest.raises(DatasetError, match=complaint):
        read_grades(tmp_path / "grades.csv")


def test_grades_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "grades.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_grades(tmp_path / "grades.csv")
