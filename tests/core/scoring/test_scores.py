"""Scores of pairs, folders, datasets and runs; medians, files, and what becomes of what cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.core.scoring.masks import SHAPE, VOXEL_UM, block, write
from tidemark_cli.core.errors import DatasetError, ScanError
from tidemark_cli.core.scans.content import Frame
from tidemark_cli.core.scans.volume import write_volume
from tidemark_cli.core.scoring.pairs import match_paths, match_run
from tidemark_cli.core.scoring.score_files import as_json
from tidemark_cli.core.scoring.scores import SURFACES, Bias, score, score_pair


def test_a_pair_by_hand():
    # one voxel too high everywhere: a false positive beside 1 or 2 hard voxels in each column's zone
    (low, high) = score_pair(block(11, 100), block(10), VOXEL_UM, (4, 8), (0.3, 0.5))
    assert low.pads_voxels == (1, 2)
    assert low.overlap["iou"] == pytest.approx((1 / 2, 2 / 3))
    assert low.overlap["dice"] == pytest.approx((2 / 3, 4 / 5))
    assert low.overlap["volumetric_similarity"] == pytest.approx((2 / 3, 4 / 5))
    expected = dict.fromkeys(("bias_um", "mean_error_um", "median_error_um", "rmse_um"), VOXEL_UM)
    expected |= dict.fromkeys(("p95_error_um", "hd95_um", "assd_um"), VOXEL_UM)
    expected |= {name: 1.0 for name in SURFACES if "dice" in name} | {
        "missed_columns": 0.0,
        "extra_columns": 0.0,
    }
    assert low.surface == pytest.approx(expected)
    assert set(high.overlap["iou"]) == {0}  # 100 of 255 is not above 0.5: nothing is predicted
    assert high.surface["missed_columns"] == 1 and high.surface["surface_dice_32um"] == 0
    assert high.surface["hd95_um"] is None and high.surface["bias_um"] is None


def test_the_other_bone_end_gives_the_same_scores(tmp_path: Path):
    write(tmp_path, found=block(11), true=block(10), up=block(11)[::-1], down=block(10)[::-1])
    upright = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"), (8,), bone_end="first").rows[
        0
    ]
    turned = score(match_paths(tmp_path / "up.tif", tmp_path / "down.tif"), (8,), bone_end="last").rows[0]
    assert (upright.bone_end, turned.bone_end) == ("first", "last")
    assert turned.overlap == upright.overlap
    assert turned.surface == upright.surface


def test_the_published_zones_are_five_voxels_wide():
    by_voxels, published = (
        score_pair(block(11), block(10), 3.2, (30,), (0.5,), paper)[0] for paper in (False, True)
    )
    assert (by_voxels.pads_voxels, published.pads_voxels) == ((9,), (10,))


@pytest.mark.parametrize(
    ("paper", "voxels", "iou", "zones"),
    [(True, 5, 5 / 6, "paper"), (False, 4, 4 / 5, "micrometres")],
    ids=["paper", "micrometres"],
)
def test_a_run_is_scored_in_the_published_zones_if_asked(
    run: Path, paper: bool, voxels: int, iou: float, zones: str
) -> None:
    scores = score(match_run(run), (15,), paper=paper)
    assert scores.rows[0].pads_voxels == (voxels,)
    assert scores.rows[0].overlap["iou"] == pytest.approx((iou,))
    assert as_json(scores)["zones"] == zones


def test_a_run_is_scored_at_its_own_threshold(run: Path):
    scores = score(match_run(run), (8,))
    assert scores.thresholds == (0.3,)
    assert [row.sample for row in scores.rows] == ["S01_1", "S01_2", "S02_1"]
    assert [row.overlap["iou"][0] for row in scores.rows] == pytest.approx([2 / 3, 2 / 4, 1])
    assert (scores.count, scores.not_scored) == (3, {})
    iou = scores.overlap("iou", 0.3)[0]
    assert (iou.median, iou.count) == (pytest.approx(2 / 3), 3)
    assert iou.sd == pytest.approx(np.std([2 / 3, 2 / 4, 1], ddof=1))
    bias = scores.surface("bias_um", 0.3)
    assert bias is not None and (bias.median, bias.sd) == (pytest.approx(4), pytest.approx(4))
    assert score(match_run(run), (8,), (0.5, 0.39)).thresholds == (0.39, 0.5)
    assert score(match_paths(run, run.parent / "dataset"), (8,)).rows == scores.rows


def test_a_moved_dataset_is_named_or_asked_for(run: Path, tmp_path: Path):
    (tmp_path / "dataset").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="--dataset"):
        score(match_run(run))
    assert score(match_run(run, tmp_path / "elsewhere")).count == 3


def test_samples_of_a_run_that_are_missing_on_a_side_are_named(run: Path):
    (run / "oof" / "S01_1.tif").unlink()
    write(run / "oof", S09_1=block(3))
    write(run / "oof", S01_3=block(3))
    content = json.loads((run / "run.json").read_text())
    content["folds"][1]["held_out"].append("S01_3")
    (run / "run.json").write_text(json.dumps(content))
    scores = score(match_run(run))
    assert [row.sample for row in scores.rows] == ["S01_2", "S02_1"]
    assert list(scores.not_scored) == ["S01_1", "S01_3", "S09_1"]
    assert "no prediction" in scores.not_scored["S01_1"]
    assert "not in the dataset" in scores.not_scored["S01_3"]
    assert "not one of the run" in scores.not_scored["S09_1"]


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": {}}', '{"kind": "folds", "folds": [1]}'])
def test_a_run_that_cannot_be_used_is_an_error(run: Path, content: str):
    (run / "run.json").write_text(content)
    with pytest.raises(DatasetError, match="run"):
        score(match_run(run))


def test_folders_are_matched_by_name_whatever_the_format(tmp_path: Path):
    found = write(tmp_path / "found", A=block(9), B=block(9), only_found=block(9))
    true = tmp_path / "true"
    true.mkdir()
    for name in ("A", "only_true"):
        write_volume(true / f"{name}.nrrd", block(9), VOXEL_UM)
    write_volume(true / "B.nii.gz", block(9)[:-1], VOXEL_UM)
    scores = score(match_paths(found, true))
    assert [row.sample for row in scores.rows] == ["A"]
    assert list(scores.not_scored) == ["only_found", "only_true", "B"]
    assert "24 x 12 x 12" in scores.not_scored["B"] and "23 x 12 x 12" in scores.not_scored["B"]


def test_a_dataset_may_be_the_truth_and_one_prediction_is_enough(run: Path, tmp_path: Path):
    assert score(match_paths(run, tmp_path / "dataset"), thresholds=(0.3,)).count == 3
    assert score(match_paths(run / "oof", tmp_path / "dataset"), thresholds=(0.3,)).count == 3
    scores = score(match_paths(run / "oof" / "S01_2.tif", tmp_path / "dataset"), (8,), (0.3,))
    assert [row.sample for row in scores.rows] == ["S01_2"]
    assert scores.not_scored == {}


def test_two_scans_need_no_common_name_and_the_bone_end_is_found(tmp_path: Path):
    write(tmp_path, found=block(11)[::-1], true=block(10)[::-1])
    scores = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"), (4, 8))
    assert (scores.rows[0].bone_end, scores.rows[0].overlap["iou"][0]) == ("last", 0.5)
    assert scores.notes == ()
    told = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"), (4,), bone_end="first")
    assert told.rows[0].bone_end == "first"


def test_a_guessed_bone_end_is_told(tmp_path: Path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:9] = 255
    write(tmp_path, found=mask, true=mask)
    scores = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"))
    assert any("--bone-end" in note for note in scores.notes)


def test_an_empty_prediction_scores_0_and_is_named(tmp_path: Path):
    found, true = write(tmp_path / "f", A=block(0), B=block(9)), write(tmp_path / "t", A=block(9), B=block(9))
    scores = score(match_paths(found, true), (8,))
    assert [row.overlap["iou"] for row in scores.rows] == [(0,), (1,)]
    assert scores.rows[0].surface["hd95_um"] is None
    hd95 = scores.surface("hd95_um", 0.5)
    assert hd95 is not None and (hd95.median, hd95.sd, hd95.count) == (0, None, 1)
    assert any(note.startswith("A: the prediction is empty") for note in scores.notes)


@pytest.mark.parametrize(("short", "told"), [(0, True), (1, True), (2, False)])
def test_a_prediction_that_is_nearly_full_is_warned_of(tmp_path: Path, short: int, told: bool) -> None:
    full = block(24)
    full.reshape(24, -1)[12, :short] = 0  # a voxel each of 144 columns of 4: under or over a 99th hard
    scores = score(match_paths(write(tmp_path / "f", A=full), write(tmp_path / "t", A=block(12))), (1, 2))
    notes = [note for note in scores.notes if "hard tissue in 100 % of the widest zone" in note]
    assert [note.startswith("warning: A: the prediction above 0.5 is") for note in notes] == [True] * told


@pytest.mark.parametrize(("mean_um", "offset_um"), [(59, -59), (-59, 59), (61, None), (-61, None)])
def test_a_bias_deeper_than_stain_has_no_offset(mean_um: float, offset_um: float | None) -> None:
    bias = Bias(mean_um, mean_um - 5, mean_um + 5, 4)
    assert not bias.may_be_chance and bias.offset_um == offset_um


def test_the_bias_over_samples_has_an_interval_and_an_offset_that_corrects_it(run: Path) -> None:
    sure = block(10, 100)
    for name, voxels in (("S01_1", 1), ("S01_2", 2), ("S02_1", 3)):
        write_volume(run / "oof" / f"{name}.tif", block(8 + voxels, 100), VOXEL_UM, overwrite=True)
    bias = score(match_run(run)).bias(0.3)
    assert bias is not None and (bias.mean_um, bias.count) == (pytest.approx(8), 3)
    assert (bias.low_um, bias.high_um) == pytest.approx(
        (8 - 4.3027 * 4 / 3**0.5, 8 + 4.3027 * 4 / 3**0.5), rel=1e-4
    )
    assert bias.low_um < 0 and bias.offset_um is None  # three so different tell nothing
    for name in ("S01_1", "S02_1"):
        write_volume(run / "oof" / f"{name}.tif", sure, VOXEL_UM, overwrite=True)
    scores = score(match_run(run), (8,), (0.3, 0.5))
    found = scores.bias(0.3)
    assert found is not None
    assert (found.mean_um, found.low_um, found.high_um, found.offset_um) == pytest.approx((8, 8, 8, -8))
    assert scores.bias(0.5) is None  # nothing is predicted


def test_a_single_sample_has_a_bias_and_no_interval(tmp_path: Path) -> None:
    write(tmp_path, found=block(9), true=block(10))
    scores = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"))
    bias = scores.bias(0.5)
    assert bias is not None and bias.mean_um == pytest.approx(-4)  # too deep
    assert (bias.low_um, bias.high_um, bias.count, bias.offset_um) == (None, None, 1, None)


def test_the_floor_is_scored_in_the_zones_of_each_sample(tmp_path: Path) -> None:
    cut = block(3)  # a zone of 4 voxels is cut at the scan's end
    found = write(tmp_path / "f", A=block(9), B=block(9), C=block(9))
    true = write(tmp_path / "t", A=block(8), B=block(9), C=cut)
    scores = score(match_paths(found, true), (8, 16), (0.3, 0.5))
    assert scores.rows[-1].all_hard["iou"] == pytest.approx((1 / 2, 3 / 7))
    assert scores.rows[-1].hard_share == (1, 1)
    assert scores.rows[0].hard_share == pytest.approx((3 / 4, 5 / 8))
    narrow, wide = scores.all_hard("iou")
    assert (narrow.median, narrow.sd, narrow.count) == (0.5, 0, 3)
    assert (wide.median, wide.sd) == pytest.approx((0.5, np.std([0.5, 0.5, 3 / 7], ddof=1)))
    assert [zone.median for zone in scores.all_hard("dice")] == pytest.approx([2 / 3, 2 / 3])


def test_an_empty_truth_cannot_be_scored(tmp_path: Path):
    found, true = write(tmp_path / "f", A=block(9)), write(tmp_path / "t", A=block(0))
    scores = score(match_paths(found, true))
    assert scores.rows == () and "empty" in scores.not_scored["A"]


@pytest.mark.parametrize("level", [1, 255, 65535])
def test_a_mask_may_have_any_level(tmp_path: Path, level: int):
    dtype = np.uint8 if level < 256 else np.uint16
    write(tmp_path, found=block(9).astype(dtype) // 255 * dtype(level), true=block(8))
    scores = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"), (8,), (0.3, 0.9))
    assert [row.overlap["iou"] for row in scores.rows] == [pytest.approx((2 / 3,))] * 2


def test_probabilities_as_floats(tmp_path: Path):
    soft = block(9, 1).astype(np.float32) * np.float32(0.5004)  # level 128 when rounded, 127 when cut
    soft[:3] = 0.9
    write(tmp_path, soft=soft, true=block(8))
    scores = score(match_paths(tmp_path / "soft.tif", tmp_path / "true.tif"), (8,), (0.5, 0.6))
    assert [row.overlap["iou"] for row in scores.rows] == [pytest.approx((2 / 3,)), (0,)]
    assert any(
        "above 0.5" in note for note in score(match_paths(tmp_path / "soft.tif", tmp_path / "true.tif")).notes
    )


def test_what_is_no_mask_is_refused(tmp_path: Path):
    grey = np.random.default_rng(0).integers(0, 200, SHAPE, dtype=np.uint8)
    write(tmp_path, grey=grey, deep=grey.astype(np.uint16) * 9, true=block(8))
    swapped = score(match_paths(tmp_path / "true.tif", tmp_path / "grey.tif"))
    assert "TRUTH second" in swapped.not_scored["true"]
    assert (
        "neither a mask nor"
        in score(match_paths(tmp_path / "deep.tif", tmp_path / "true.tif")).not_scored["deep"]
    )


def test_a_truth_with_flipped_axes_is_scored_in_its_place(tmp_path: Path):
    tilted = block(9)
    tilted[3:, :, 1:] = 0  # of no symmetry
    frame = Frame((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    write_volume(tmp_path / "found.nrrd", tilted, VOXEL_UM, frame=frame)
    image = sitk.ReadImage(str(tmp_path / "found.nrrd"))
    for flips in ((False, False, True), (True, False, False), (True, True, True)):
        sitk.WriteImage(sitk.Flip(image, flips), str(tmp_path / "true.nii.gz"))
        (row,) = score(match_paths(tmp_path / "found.nrrd", tmp_path / "true.nii.gz")).rows
        assert set(row.overlap["iou"]) == {1.0} and row.surface["bias_um"] == 0
    image.SetOrigin((0.0, 0.0, 5 * VOXEL_UM / 1000))
    sitk.WriteImage(image, str(tmp_path / "true.nii.gz"))
    scores = score(match_paths(tmp_path / "found.nrrd", tmp_path / "true.nii.gz"))
    assert "lies elsewhere" in scores.not_scored["found"]


def test_voxel_sizes_that_differ_are_refused_unless_overruled(tmp_path: Path):
    write_volume(tmp_path / "found.tif", block(9), 8.0)
    write_volume(tmp_path / "true.tif", block(9), VOXEL_UM)
    scores = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"))
    assert scores.rows == ()
    assert "--voxel-size" in scores.not_scored["found"]
    assert score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"), voxel_um=5).rows[0].voxel_um == 5


def test_an_assumed_voxel_size_and_zones_that_coincide_are_told(tmp_path: Path):
    for name in ("found", "true"):
        write_volume(tmp_path / f"{name}.tif", block(9), 600.0)  # no micro-CT scan's
    scores = score(match_paths(tmp_path / "found.tif", tmp_path / "true.tif"), (3, 4))
    assert scores.rows[0].voxel_um == 3.2
    assert any("3.2 µm assumed" in note for note in scores.notes)
    assert any("too large" in note for note in scores.notes)


def test_paths_that_cannot_be_used_are_errors(tmp_path: Path):
    found, empty = write(tmp_path / "f", A=block(9)), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ScanError, match="does not exist"):
        score(match_paths(found, tmp_path / "none"))
    with pytest.raises(ScanError, match="holds no scan"):
        score(match_paths(found, empty))
    write_volume(found / "A.nrrd", block(9), VOXEL_UM)
    with pytest.raises(ScanError, match="both named A"):
        score(match_paths(found, found))


def test_a_damaged_scan_does_not_stop_the_others(tmp_path: Path):
    found, true = write(tmp_path / "f", A=block(9)), write(tmp_path / "t", A=block(9), B=block(9))
    (found / "B.tif").write_text("no TIFF")
    progress: list[tuple[int, int]] = []
    scores = score(match_paths(found, true), progress=lambda done, total: progress.append((done, total)))
    assert scores.count == 1 and "B.tif" in scores.not_scored["B"]
    assert progress == [(1, 2), (2, 2)]
