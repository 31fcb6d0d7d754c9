"""Numbers in the names of slices, wherever they stand and however they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemark_cli.core.scans.numbering import find_series


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    "name",
    [
        lambda i: f"slice_{i:04d}_8bit.tif",
        lambda i: f"{i:04d}_S1.tif",
        lambda i: f"S1 ({i + 1}).tif",
        lambda i: f"S1_{i:04d}_of_0100.tif",
        lambda i: f"S1_z{i:03d}_c001.tif",
        lambda i: f"rec_{i:05d}.rec.tif",
        lambda i: f"S1_{i - 50}.tif",
        lambda i: f"S1 ({i - 50}).tif",
        lambda i: f"S1-{i:04d}.tif",
        lambda i: f"S1_-{i:04d}.tif",
        lambda i: f"S1_{i:04x}.tif",
        lambda i: f"rec{i:03x}_S1.tif",
        lambda i: f"S1_{i:04X}.TIF",
        lambda i: f"S1_rec{i:08X}.bmp",
        lambda i: f"{i}.bmp",
        lambda i: f"S1_{i:04d}_{0.02 * i:.3f}mm.png",
        lambda i: f"S1_{i:04d}_{103000 + 7 * i}.png",
        lambda i: f"20251125_{i:03d}.png",
    ],
)
def test_the_number_that_differs_counts(name: Callable[[int], str]) -> None:
    names = [name(i) for i in range(100)]
    (series,), loose = find_series(paths(*sorted(names)))
    assert [path.name for path in series.files] == names
    assert loose == [] and series.indices[99] - series.indices[0] == 99


def test_a_missing_slice_has_a_name():
    (series,), _ = find_series(paths(*(f"S1_{i:04x}_raw.tif" for i in range(40) if i != 27)))
    assert series.name(27, series.width(0)) == "S1_001b_raw.tif"
    (series,), _ = find_series(paths("a (1).tif", "a (3).tif", "a (4).tif"))
    assert series.name(2, series.width(0)) == "a (2).tif"


def test_two_stacks_are_two_series_not_pairs():
    names = [f"S{k}_rec{i:04d}.png" for k in (1, 2) for i in range(9)]
    assert [one.prefix for one in find_series(paths(*names))[0]] == ["S1_rec", "S2_rec"]
    names = [f"{i:04d}_S{k}.png" for k in (1, 2) for i in range(9)]
    assert [(one.prefix, one.tail) for one in find_series(paths(*names))[0]] == [("", "_S1"), ("", "_S2")]


def test_pictures_of_samples_with_numbers_in_their_names_are_no_series():
    names = paths("13_R3L_PTA.png", "47_R2M_PTA.png", "s7_overview.png", "s91_overview.png", "plain.png")
    assert find_series(names) == ([], sorted(names))


def test_letters_behind_numbers_are_not_hexadecimal():
    names = [f"S1_{i:04d}{letter}.png" for i in range(10) for letter in "ab"]
    assert sorted(len(one.files) for one in find_series(paths(*names))[0]) == [10, 10]
