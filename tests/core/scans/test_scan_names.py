"""Names of scans and masks as laboratories, 3D Slicer and other systems write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from tidemark_cli.core.data.grades import read_grades
from tidemark_cli.core.scans.scan_names import sample_name, scan_name, split_member, suffix_of
from tidemark_cli.core.scans.volume import write_volume
from tidemark_cli.core.scoring.pairs import match_paths

UMLAUT = "Pr\u00fcfling_1"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "S1_1.nrrd",
            "S1_1.seg.nrrd",
            "S1_1.SEG.NRRD",
            "S1_1-label.nrrd",
            "S1_1_label.nii.gz",
            "S1_1_seg.tif",
        ),
        *("S1_1-segmentation.nrrd", "S1_1_Segmentations.nrrd", "S1_1_labels.tif", "S1_1_labelmap.mha"),
        *("S1_1_mask.ome.tif", "S1_1.label.nrrd", "S1_1_masks.tif", "S1_1_PTA-label.nrrd", "S1_1_seg.tif"),
    ],
)
def test_what_stands_behind_the_name_of_a_sample(name):
    assert sample_name(Path(name)) == "S1_1"


@pytest.mark.parametrize("name", ["S1_seg2", "S1_labelled", "S1_segA", "label"])
def test_what_belongs_to_the_name_of_a_sample(name):
    assert sample_name(Path(f"{name}.tif")) == name


def test_one_unicode_form():
    forms = {scan_name(Path(unicodedata.normalize(form, f"{UMLAUT}.nrrd"))) for form in ("NFC", "NFD")}
    assert forms == {UMLAUT}


def masks(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        write_volume(folder / name, np.arange(60, dtype=np.uint8).reshape(3, 4, 5), 3.2)
    return folder


@pytest.mark.parametrize("name", ["S1_1.nrrd", "S1_1-label.nrrd", "S1_1_segmentation.nrrd", "S1_1_mask.tif"])
def test_a_prediction_finds_its_truth_by_the_name_of_the_sample(name, tmp_path):
    found = masks(tmp_path / "found", name, "S2_1.tif")
    truth = masks(tmp_path / "truth", "S1_1_seg.nrrd", "S3_1.nrrd")
    matched = match_paths(found, truth)
    assert [(pair.prediction.name, pair.truth.name) for pair in matched.pairs] == [(name, "S1_1_seg.nrrd")]
    assert set(matched.unmatched) == {"S2_1", "S3_1"}
    matched = match_paths(found / name, truth)
    assert len(matched.pairs) == 1 and matched.unmatched == {}


def test_two_masks_of_a_sample_are_not_chosen_from(tmp_path):
    found = masks(tmp_path / "found", "S1_1.tif")
    truth = masks(tmp_path / "truth", "S1_1_seg.tif", "S1_1-label.tif")
    assert match_paths(found, truth).pairs == ()


def test_folders_of_a_mac_and_of_windows_fit(tmp_path):
    found = masks(tmp_path / "found", unicodedata.normalize("NFD", f"{UMLAUT}.tif"))
    truth = masks(tmp_path / "truth", f"{UMLAUT}.tif")
    assert [pair.name for pair in match_paths(found, truth).pairs] == [UMLAUT]


def test_grades_are_found_in_either_form(tmp_path):
    text = f"sample_id,grade\n{unicodedata.normalize('NFD', UMLAUT)},2\n"
    (tmp_path / "grades.csv").write_text(text, encoding="utf-8")
    assert read_grades(tmp_path / "grades.csv") == {UMLAUT: 2}


def test_a_data_set_named_in_a_file():
    path = Path("scans/S1.h5:/entry/data")
    assert split_member(path) == (Path("scans/S1.h5"), "/entry/data")
    assert (suffix_of(path), scan_name(path)) == (".h5", "S1_data")
    assert split_member(Path("a:b/c.tif")) == (Path("a:b/c.tif"), "")


def test_versions_of_a_file_by_vms():
    assert (suffix_of(Path("C0001.ISQ;12")), scan_name(Path("C0001.ISQ;12"))) == (".isq", "C0001")
