"""Scores as a table and as JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.core.scoring.masks import VOXEL_UM, lopsided
from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.scans.volume import write_volume
from tidemark_cli.core.scoring.pairs import match_run
from tidemark_cli.core.scoring.score_files import as_json, write_csv
from tidemark_cli.core.scoring.scores import OVERLAPS, SURFACES, score


def test_the_csv_has_a_row_for_every_sample(run: Path, tmp_path: Path):
    (run / "oof" / "S01_1.tif").unlink()
    write_volume(run / "oof" / "S02_1.tif", lopsided(), VOXEL_UM, overwrite=True)
    scores = score(match_run(run), (8, 16), (0.3, 0.5, 0.9))
    write_csv(tmp_path / "s.csv", scores)
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == ["S01_2"] * 3 + ["S02_1"] * 3 + ["S01_1"]
    assert [row["threshold"] for row in rows] == ["0.3", "0.5", "0.9"] * 2 + [""]
    assert float(rows[0]["iou_8um"]) == 0.5 and float(rows[0]["bias_um"]) == pytest.approx(8)
    assert [float(rows[3][f"{measure}_8um"]) for measure in OVERLAPS] == pytest.approx([3 / 5, 3 / 4, 1])
    assert [float(rows[3][f"all_hard_{measure}_8um"]) for measure in OVERLAPS] == pytest.approx(
        [1 / 2, 2 / 3, 2 / 3]
    )
    found = [float(rows[i][f"bias_{part}_um"]) for i in (0, 3) for part in ("mean", "low", "high")]
    assert found[:3] == found[3:] == pytest.approx([4, 4 - 50.825, 4 + 50.825], abs=1e-3)
    assert rows[4]["bias_low_um"] == rows[5]["bias_mean_um"] == rows[-1]["bias_mean_um"] == ""
    assert (rows[3]["voxel_um"], rows[3]["zones"]) == ("4.0", "micrometres")
    assert rows[1]["hd95_um"] == "" and "no prediction" in rows[-1]["not_scored"]
    with pytest.raises(OutputError, match="--overwrite"):
        write_csv(tmp_path / "s.csv", scores)


def test_json_has_all_of_it_and_no_nan(run: Path):
    content = json.loads(json.dumps(as_json(score(match_run(run), (8,), (0.3, 0.5))), allow_nan=False))
    assert content["pads_um"] == [8] and len(content["samples"]) == 6
    assert set(OVERLAPS) | set(SURFACES) <= set(content["samples"][0])
    first, second = content["summary"]
    assert first["iou"][0]["median"] == pytest.approx(2 / 3)
    assert first["hd95_um"]["median"] == VOXEL_UM
    assert first["all_hard"]["iou"][0] == {"median": 0.5, "sd": 0, "count": 3}
    assert first["bias"]["mean_um"] == pytest.approx(4) and first["bias"]["offset_um"] is None
    assert first["bias"]["low_um"] < 0 < 8 < first["bias"]["high_um"] and second["bias"] is None
    assert content["samples"][0]["all_hard"]["dice"] == pytest.approx([2 / 3])
    assert {"bias", "all_hard", "hard_share"} <= set(content["definitions"])
    assert second["hd95_um"] is None  # above 0.5 every prediction is empty
    assert set(SURFACES) <= set(content["definitions"])
