"""``tidemark metrics`` from end to end, on blocks of hard tissue."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import Ended
from tidemark_cli.commands.from_fields import spread_lists
from tidemark_cli.commands.metrics import show
from tidemark_cli.commands.options import Screen
from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.scans.volume import write_volume
from tidemark_cli.core.scoring.pairs import match_run
from tidemark_cli.core.scoring.scores import score

Tidemark = Callable[..., Ended]
SHAPE = (24, 12, 12)


def block(height: int, value: int = 255) -> np.ndarray:
    """Return a mask (Z, Y, X) of `height` hard slices from the first on."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:height] = value
    return mask


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A prediction one voxel of 4 µm too high, and the truth."""
    for name, height in (("found", 11), ("true", 10)):
        write_volume(tmp_path / f"{name}.tif", block(height), 4.0)
    return tmp_path / "found.tif", tmp_path / "true.tif"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on a dataset of two samples in a folder of its own."""
    folder = tmp_path / "work" / "run"
    (folder / "oof").mkdir(parents=True)
    for name, height in (("S01_1", 9), ("S02_1", 10)):
        write_sample(tmp_path / "dataset", name, block(8, 90), block(8))
        write_volume(folder / "oof" / f"{name}.tif", block(height, 100), 4.0)
    folds = [{"held_out": ["S01_1"]}, {"held_out": ["S02_1"]}]
    content = {"kind": "folds", "dataset": str(tmp_path / "dataset"), "threshold": 0.3, "folds": folds}
    (folder / "run.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--pad 15 30 45", "--pad=15 --pad=30 --pad=45"),
        ("--pad 15,30,45", "--pad=15 --pad=30 --pad=45"),
        ("--pad 15, 30 ,45", "--pad=15 --pad=30 ,45"),
        ("--pad=15 30", "--pad=15 --pad=30"),
        ("--pad 15 --pad 30", "--pad=15 --pad=30"),
        ("--pad 15 30 run", "--pad=15 --pad=30 run"),
        ("--pad 15 ./30", "--pad=15 ./30"),
        ("--pad 15 .", "--pad=15 ."),
        ("--pad 15 2024-05-01", "--pad=15 2024-05-01"),
        ("--pad 15 13_2", "--pad=15 13_2"),
        ("--pad 15 nan", "--pad=15 nan"),
        ("run --pad 15 30", "run --pad=15 --pad=30"),
        ("2024 --pad 15", "2024 --pad=15"),
        ("--pad 7.5 1e2 --threshold 0.3 .5 a b", "--pad=7.5 --pad=1e2 --threshold=0.3 --threshold=.5 a b"),
        ("--pad 15 --paper 30", "--pad=15 --paper 30"),
        ("--pad -- 15", "--pad -- 15"),
        ("--pad 15 -- 30", "--pad=15 -- 30"),
        ("--pad", "--pad"),
        ("--pad= run", "--pad= run"),
        ("--csv 15 30", "--csv 15 30"),
    ],
)
def test_numbers_belong_to_the_option_before_them(typed: str, meant: str) -> None:
    assert spread_lists(typed.split(), ("--pad", "--threshold")) == meant.split()


@pytest.mark.parametrize(
    "order", ["{found} {true} --pad 4 8", "--pad 4 8 {found} {true}", "{found} --pad 4,8 {true}"]
)
def test_a_pair_by_hand(tidemark: Tidemark, pair: tuple[Path, Path], order: str) -> None:
    found, true = pair
    ended = tidemark("metrics", *order.format(found=found, true=true).split())
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["IoU", "4", "µm", "8", "µm"] in lines
    assert lines[lines.index(["IoU", "4", "µm", "8", "µm"]) + 1] == ["threshold", "0.5", "0.50", "0.67"]
    assert ["threshold", "0.5", "0.67", "0.80"] in lines
    for row in (
        "bias of the height 4.0 µm",
        "HD95 4.0 µm",
        "columns missed 0.0 %",
        "surface Dice at 6.4 µm 1.00",
    ):
        assert row.split() in lines


def test_the_tables_by_hand(tidemark: Tidemark, tmp_path: Path) -> None:
    found, true = block(9), block(10)
    found[:15, 6:11] = 255  # 5 rows of columns 5 voxels of 4 µm too high, the others 1 too low
    found[:, 11], true[:, :2] = 0, 0  # 1 row of 10 missed, 2 in excess
    for name, mask in (("found", found), ("true", true)):
        write_volume(tmp_path / f"{name}.tif", mask, 4.0)
    ended = tidemark("metrics", tmp_path / "found.tif", tmp_path / "true.tif", "--pad", 4)
    assert [" ".join(line.split()) for line in ended.out.splitlines()[1:] if line] == [
        "IoU 4 µm",
        "threshold 0.5 0.33",
        "all hard 0.50",
        "Dice 4 µm",
        "threshold 0.5 0.50",
        "all hard 0.67",
        "volumetric similarity 4 µm",
        "threshold 0.5 1.00",
        "all hard 0.67",
        "surface threshold 0.5",
        "bias of the height 9.3 µm",
        "MAE of the height 12.9 µm",
        "RMSE of the height 15.1 µm",
        "95th percentile of the height's error 20.0 µm",
        "columns missed 10.0 %",
        "columns found in excess 20.0 %",
        "HD95 20.4 µm",
        "ASSD 11.0 µm",
        "surface Dice at 6.4 µm 0.48",
        "surface Dice at 9.6 µm 0.57",
        "surface Dice at 16 µm 0.62",
        "surface Dice at 32 µm 1.00",
    ]


def test_several_thresholds_are_rows_of_the_zones_and_columns_of_the_surface(
    tidemark: Tidemark, run: Path
) -> None:
    write_volume(run / "oof" / "S01_1.tif", block(9, 200), 4.0, overwrite=True)
    ended = tidemark("metrics", run, "--threshold", 0.3, 0.5, "--pad", 8)
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "bias of the height 6.0 ± 2.8 µm 4.0 µm" in lines
    assert "columns missed 0.0 ± 0.0 % 50.0 ± 70.7 %" in lines
    rows = [line for line in lines if line.startswith("threshold")]
    assert rows[:2] == ["threshold 0.3 0.58 ± 0.12", "threshold 0.5 0.33 ± 0.47"]
    assert "S02_1: the prediction is empty above 0.5" in ended.err


def test_a_sure_bias_is_told_with_the_very_offset_that_corrects_it(tidemark: Tidemark, run: Path) -> None:
    for name, height in (("S01_1", 3), ("S02_1", 3)):
        write_volume(run / "oof" / f"{name}.tif", block(height, 100), 4.0, overwrite=True)
    shown = tidemark("metrics", run, "--pad", 40).out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "mean bias (95 % interval) -20.0 (-20.0 to -20.0) µm" in lines
    assert lines[-1].startswith("the tidemark is found too deep, and not by chance")
    assert "predict --offset +20.0, added" in lines[-1] and "train --init default" in lines[-1]
    for name, height in (("S01_1", 10), ("S02_1", 11)):
        write_volume(run / "oof" / f"{name}.tif", block(height, 100), 4.0, overwrite=True)
    lines = tidemark("metrics", run, "--threshold", 0.3, 0.5).out.splitlines()
    assert lines[-1] == "threshold 0.3: the interval of the bias includes 0: nothing to correct."
    row = next(" ".join(line.split()) for line in lines if line.startswith("mean bias"))
    assert row == "mean bias (95 % interval) 10.0 (-15.4 to 35.4) µm none"


def test_without_paths_it_is_the_newest_run_here(
    tidemark: Tidemark, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tidemark("metrics", run, "--pad", 4, 8)
    monkeypatch.chdir(run.parent)
    assert tidemark("metrics", "--pad", 4, 8).out == named.out
    monkeypatch.chdir(run)
    ended = tidemark("metrics", "--pad", 4, 8)
    assert ended.out == named.out
    assert str(run) in ended.err
    assert "median ± SD of 2 samples" in ended.out
    monkeypatch.chdir(run / "oof")
    assert tidemark("metrics").code == 1


def test_train_prints_the_same_table(
    tidemark: Tidemark, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = tidemark("metrics", run).out
    show(score(match_run(run)), Screen())
    assert capsys.readouterr().out == shown
    assert "150 µm" in shown


def test_the_tables_are_cut_to_the_terminal(
    tidemark: Tidemark, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = tidemark("metrics", run, "--paper").out
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("IoU")]) == 3  # four pads in each
    assert all(line[:1].strip() for line in lines if line)  # nothing is folded


def test_the_published_rows_stand_beside_their_own_zones(tidemark: Tidemark, run: Path) -> None:
    ended = tidemark("metrics", run, "--paper", "--pad", 15, 20, 75)
    published = [line.split() for line in ended.out.splitlines() if line.startswith("published")]
    assert published == [
        ["published", "BCE,", "0.5", "0.57", "±", "0.14", "0.85", "±", "0.08"],
        ["published", "focal,", "0.5", "0.44", "±", "0.19", "0.82", "±", "0.12"],
        ["published", "BCE", "-", "log", "J,", "0.3", "0.59", "±", "0.13", "0.86", "±", "0.07"],
    ]
    assert "published" not in tidemark("metrics", run, "--pad", 15).out


def test_a_sample_that_cannot_be_scored_is_named_and_the_code_is_1(
    tidemark: Tidemark, run: Path, tmp_path: Path
) -> None:
    (run / "oof" / "S01_1.tif").unlink()
    table, figure = tmp_path / "s.csv", tmp_path / "f.png"
    ended = tidemark("metrics", run, "--csv", table, "--plot", figure)
    assert ended.code == 1
    assert "1 sample;" in ended.out
    assert [
        line for line in ended.err.splitlines() if line.startswith("error: S01_1 not scored: no prediction")
    ]
    with table.open(newline="", encoding="utf-8") as file:
        assert [row["sample"] for row in csv.DictReader(file)] == ["S02_1", "S01_1"]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_score_writes_nothing(tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path) -> None:
    write_volume(tmp_path / "empty.tif", block(0), 4.0)
    ended = tidemark("metrics", pair[0], tmp_path / "empty.tif", "--csv", tmp_path / "s.csv", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("error: ") == 1 and "empty" in ended.err
    assert not (tmp_path / "s.csv").exists()


def test_json_is_one_line(tidemark: Tidemark, run: Path) -> None:
    ended = tidemark("metrics", run, "--json", "--pad", 8, "--quiet")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    content = json.loads(ended.out)
    assert [row["sample"] for row in content["samples"]] == ["S01_1", "S02_1"]
    assert content["summary"][0]["iou"][0]["median"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_the_bone_end_that_is_named_is_taken(tidemark: Tidemark, pair: tuple[Path, Path]) -> None:
    for arguments, end in (((), "first"), (("--bone-end", "last"), "last")):
        content = json.loads(tidemark("metrics", *pair, "--json", *arguments).out)
        assert content["samples"][0]["bone_end"] == end


def test_a_dataset_that_has_moved_is_found_where_it_is_named(
    tidemark: Tidemark, run: Path, tmp_path: Path
) -> None:
    before = tidemark("metrics", run).out
    (tmp_path / "dataset").rename(tmp_path / "elsewhere")
    assert tidemark("metrics", run).code == 1
    assert tidemark("metrics", run, "--dataset", tmp_path / "elsewhere").out == before


def test_an_assumed_voxel_size_is_told(tidemark: Tidemark, run: Path, tmp_path: Path) -> None:
    for name in ("S01_1", "S02_1"):
        write_volume(run / "oof" / f"{name}.tif", block(9), 600.0, overwrite=True)  # no micro-CT scan's
    assert "--voxel-size" in tidemark("metrics", run, "--pad", 15).err
    assert "--voxel-size" not in tidemark("metrics", run, "--pad", 15, "--voxel-size", 4).err


def test_an_existing_output_is_kept_unless_asked(tidemark: Tidemark, pair: tuple[Path, Path]) -> None:
    table = pair[0].with_name("s.csv")
    table.write_text("mine")
    refused = tidemark("metrics", *pair, "--csv", table)
    assert (refused.code, refused.out, table.read_text()) == (1, "", "mine")
    assert tidemark("metrics", *pair, "--csv", table, "--overwrite").code == 0
    assert table.read_text().startswith("sample,threshold")


WRONG: dict[str, tuple[str, ...]] = {
    "one that is no run and does not exist": ("--pad", "run"),
    "three paths": ("a", "b", "c"),
    "pad of 0": ("--pad", "0", "15"),
    "negative pad": ("--pad", "-5"),
    "no number": ("--pad=wide",),
    "no pad": ("--pad",),
    "threshold": ("--threshold", "0.3", "1.5"),
    "voxel size": ("--voxel-size", "0"),
    "bone end": ("a", "b", "--bone-end", "top"),
    "bone end of a run": ("run", "--bone-end", "last"),
    "dataset and truth": ("a", "b", "--dataset", "c"),
    "plot": ("a", "b", "--plot", "f.jpg"),
    "table": ("a", "b", "--csv", "f.txt"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = tidemark("metrics", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err


@pytest.mark.parametrize("arguments", [(), ("nowhere",), ("found.tif",), ("found.tif", "nowhere")])
def test_what_is_not_there_is_one_line(
    tidemark: Tidemark, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(pair[0].parent)
    ended = tidemark("metrics", *arguments, "--quiet")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1
