"""The grades of a dataset's samples: a CSV file with the columns sample_id and grade."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import DatasetError, OutputError
from ..files import written_whole
from ..locks import one_at_a_time
from ..names import open_table
from ..scans.scan_names import same_form


def read_grades(path: Path) -> dict[str, int | None]:
    """Return the grades by sample id from a CSV file with the columns sample_id and grade.

    An empty grade is None; other columns are ignored.

    Raises
    ------
    DatasetError
        If the file or a column is missing, a grade is not a whole number, or a sample has two.
    """
    grades: dict[str, int | None] = {}
    for row in _read_table(path):
        sample_id, text = same_form(row["sample_id"].strip()), row["grade"].strip()
        try:
            grade = int(text.removesuffix(".0")) if text else None
        except ValueError:
            raise DatasetError(
                f"{path}: the grade {text!r} of {sample_id} is not a whole number; correct it."
            ) from None
        if grades.setdefault(sample_id, grade) != grade:
            raise DatasetError(
                f"{path}: {sample_id} has the grades {grades[sample_id]} and {grade}; keep one of them."
            )
    return grades


def write_grades(path: Path, grades: Mapping[str, int]) -> None:
    """Write `grades` into a new or existing CSV file: rows that differ are replaced, new ones appended.

    Other rows and columns stay as they are; if nothing changes, nothing is written.

    Raises
    ------
    DatasetError
        If an existing file cannot be read.
    OutputError
        If it cannot be written.
    """
    try:
        with one_at_a_time(path.with_name(f".{path.name}.lock")):  # two scans may be added at once
            _change_grades(path, grades)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error


def _change_grades(path: Path, grades: Mapping[str, int]) -> None:
    rows = _read_table(path) if path.exists() else []
    before = read_grades(path) if path.exists() else {}
    grades = {same_form(one): grade for one, grade in grades.items()}
    if all(before.get(sample_id) == grade for sample_id, grade in grades.items()):
        return
    for row in rows:
        row["grade"] = str(grades.get(same_form(row["sample_id"].strip()), row["grade"]))
    rows += [{"sample_id": one, "grade": str(grade)} for one, grade in grades.items() if one not in before]
    columns = list(dict.fromkeys(("sample_id", "grade", *(rows[0] if rows else ()))))
    with written_whole(path) as temporary, open_table(temporary) as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a grades.csv, separated by commas, semicolons or tabs."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DatasetError(
            f"{path} cannot be read ({reason}); expected a CSV file with the columns sample_id and grade."
        ) from error
    # undo what `open_table` does to bytes that are not UTF-8
    text = re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    header, *rows = [row for row in csv.reader(text.splitlines(), delimiter=separator) if any(row)] or [[]]
    columns = [name.strip() for name in header]
    if not {"sample_id", "grade"} <= set(columns):
        raise DatasetError(
            f"{path} has the columns {', '.join(columns)!r}; expected sample_id and grade in its first line."
        )
    for row in rows:
        if len(row) != len(columns):
            raise DatasetError(
                f"{path}: the line {separator.join(row)!r} has {len(row)} field(s); "
                f"expected {len(columns)} ({', '.join(columns)}); correct it."
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]
