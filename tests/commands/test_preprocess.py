"""``tidemark preprocess`` from end to end: what it writes is read back as a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.helpers import Ended, draw_plug
from tidemark_cli.core.data import crop as preprocessing
from tidemark_cli.core.data.dataset import find_samples, read_mask, read_scan, write_sample
from tidemark_cli.core.registration import register as registration
from tidemark_cli.core.scans.scan_names import sample_name
from tidemark_cli.core.scans.volume import write_volume

Tidemark = Callable[..., Ended]
UM = 3.2
SIZE = ("--size", 48, 32, 40)
SHAPE = (48, 32, 40)


@pytest.fixture(scope="module")
def plug() -> np.ndarray:
    return draw_plug((60, 54, 54))


@pytest.fixture(scope="module")
def mask(plug: np.ndarray) -> np.ndarray:
    return (plug > 150).astype(np.uint8) * np.uint8(255)


@pytest.fixture
def pair(tmp_path: Path, plug: np.ndarray, mask: np.ndarray) -> tuple[Path, Path]:
    scan, truth = tmp_path / "S01_1_PTA_48h__rec.tif", tmp_path / "truth.nrrd"
    write_volume(scan, plug, UM)
    write_volume(truth, mask, UM)
    return scan, truth


@pytest.fixture
def pairs(tmp_path: Path, plug: np.ndarray, mask: np.ndarray) -> tuple[Path, Path]:
    scans, masks = tmp_path / "scans", tmp_path / "masks"
    scans.mkdir()
    masks.mkdir()
    for name in ("S01_1", "S02_1"):
        write_volume(scans / f"{name}_PTA.tif", plug, UM)
        write_volume(masks / f"{name}_mask.nrrd", mask, UM)
    return scans, masks


def names(dataset: Path) -> list[str]:
    """Return the names of all folders of samples, hidden ones too."""
    return sorted(path.name for path in (dataset / "pre_processed").iterdir())


# ------------------------------------------------------------------------------------- what it makes


def test_one_pair_is_a_dataset(
    tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path, plug: np.ndarray, mask: np.ndarray
) -> None:
    dataset = tmp_path / "new" / "dataset"
    ended = tidemark("preprocess", pair[0], "--mask", pair[1], "-o", dataset, "--grade", 2, *SIZE)
    assert ended.code == 0
    assert ended.out.split() == [str(dataset / "pre_processed" / "S01_1")]
    assert "60 x 54 x 54 voxels" in ended.err
    (sample,) = find_samples(dataset)
    assert (sample.sample_id, sample.subject_id, sample.grade) == ("S01_1", "S01", 2)
    scan, found = read_scan(sample), read_mask(sample)
    assert scan.shape == found.shape == SHAPE
    # every voxel of the crop is one of the scan's, with its own mask
    starts = [(y, x) for y in range(10, 13) for x in range(6, 9)]
    placed = [(y, x) for y, x in starts if np.array_equal(scan, plug[:48, y : y + 32, x : x + 40])]
    assert len(placed) == 1
    ((y, x),) = placed
    assert np.array_equal(found, mask[:48, y : y + 32, x : x + 40])


def test_folders_are_matched_by_name(tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, sheet = tmp_path / "dataset", tmp_path / "sheet.png"
    (tmp_path / "grades.csv").write_text("sample_id,grade\nS02_1,3\nS01_1,\n")
    command = ("preprocess", pairs[0], "--mask", pairs[1], "-o", dataset, *SIZE)
    ended = tidemark(*command, "--grades", tmp_path / "grades.csv", "--preview", sheet)
    assert ended.code == 0
    assert [(s.sample_id, s.grade) for s in find_samples(dataset)] == [("S01_1", None), ("S02_1", 3)]
    assert (dataset / "grades.csv").read_text() == "sample_id,grade\nS02_1,3\n"
    assert "[2/2] S02_1: " in ended.err
    assert [line.split()[2] for line in ended.out.splitlines()[1:3]] == ["done", "done"]
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert min(picture.shape[:2]) > 200


def test_scans_and_masks_may_share_a_folder(
    tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    for path in pairs[1].iterdir():
        path.rename(pairs[0] / path.name)
    scans = sorted(pairs[0].glob("*_PTA.tif"))
    assert tidemark("preprocess", *scans, "--mask", pairs[0], "-o", tmp_path / "d", *SIZE).code == 0
    assert names(tmp_path / "d") == ["S01_1", "S02_1"]


def test_a_stack_folder_is_one_scan(
    tidemark: Tidemark, tmp_path: Path, plug: np.ndarray, mask: np.ndarray
) -> None:
    for name, array in (("S03_1__rec", plug), ("S03_1_mask", mask)):
        (tmp_path / name).mkdir()
        for z, image in enumerate(array):
            cv2.imwrite(str(tmp_path / name / f"{name}{z + 12:08d}.png"), image)
    scan, truth = tmp_path / "S03_1__rec", tmp_path / "S03_1_mask"
    ended = tidemark("preprocess", scan, "--mask", truth, "-o", tmp_path / "d", "--voxel-size", UM, *SIZE)
    assert ended.code == 0
    assert names(tmp_path / "d") == ["S03_1"]


@pytest.mark.parametrize(
    ("options", "sample_id"),
    [
        (("--sample", "P7_left"), "P7_left"),
        (("--subject", "P7"), "P7_S01_1"),
        (("--subject", "S01"), "S01_1"),
        (("--subject", "P7", "--sample", "left"), "P7_left"),
        (("--subject", "P7", "--sample", "P7_left"), "P7_left"),
    ],
)
def test_ids_from_options(
    tidemark: Tidemark,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    sample_id: str,
) -> None:
    crop = preprocessing.Crop(np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8))
    monkeypatch.setattr(preprocessing, "crop_sample", lambda *_: crop)
    assert tidemark("preprocess", pair[0], "--mask", pair[1], "-o", tmp_path / "d", *options).code == 0
    (sample,) = find_samples(tmp_path / "d")
    assert sample.sample_id == sample_id
    assert sample.subject_id == sample_id.partition("_")[0]


def test_the_crop_is_made_as_asked(
    tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def crop_sample(pta, mask, size, bone_end):
        asked.append((pta.voxel_um, size, bone_end))
        return preprocessing.Crop(np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8))

    monkeypatch.setattr(preprocessing, "crop_sample", crop_sample)
    command = ("preprocess", pair[0], "--mask", pair[1], "-o", tmp_path / "d")
    assert tidemark(*command).code == 0
    options = ("--bone-end", "last", "--voxel-size", 5, "--overwrite", *SIZE)
    assert tidemark(*command, *options).code == 0
    assert asked == [(pytest.approx(UM), (768, 448, 448), "auto"), (5, SHAPE, "last")]


def test_a_name_without_a_subject_is_pointed_out(
    tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    command = ("preprocess", pair[0], "--mask", pair[1], "-o", tmp_path / "d", *SIZE)
    assert "no _ in S01-1: " in tidemark(*command, "--sample", "S01-1").err
    assert "no _ in" not in tidemark(*command, "--sample", "1", "--subject", "S02").err


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("S01_1.tif", "S01_1"),
        ("S01_1_PTA_48h__rec_Tar.tif", "S01_1"),
        ("S01_1CA4.tif", "S01_1CA4"),
        ("S01_1 CA4+__rec_Tra_Tar.nii.gz", "S01_1"),
        ("S01_1-mask.ome.tif", "S01_1"),
        ("S01_1_IR_rec.tif", "S01_1"),
        ("S01_1__rec.tif", "S01_1"),
        ("S01_record.tif", "S01_record"),
        ("S01_PTA2.tif", "S01"),
        ("PTA_1.tif", "PTA_1"),
    ],
)
def test_the_name_of_a_sample(file: str, name: str) -> None:
    assert sample_name(Path(file)) == name


def test_a_registered_ca4_scan_gives_the_mask(
    tidemark: Tidemark,
    pair: tuple[Path, Path],
    tmp_path: Path,
    mask: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command's part alone: what it asks of the registration and makes of its answer."""
    answer = SimpleNamespace(matrix=np.eye(4), quality=0.9, trusted=True)
    asked: list[object] = []

    def register(pta, ca4, progress):
        asked.append((pta.voxel_um, ca4.voxel_um))
        return answer

    def resample(ca4, matrix, pta):
        asked.append(matrix)
        return ca4.array

    monkeypatch.setattr(registration, "register", register)
    monkeypatch.setattr(registration, "resample", resample)
    monkeypatch.setattr(registration, "hard_tissue", lambda array, voxel_um: mask * (voxel_um == UM))
    write_volume(pair[1], mask, 4.0, overwrite=True)  # told wrongly
    command = ("preprocess", pair[0], "--ca4", pair[1], "-o", tmp_path / "d", "--voxel-size", UM, *SIZE)
    ended = tidemark(*command)
    assert ended.code == 0
    assert asked[0] == (UM, UM) and asked[1] is answer.matrix
    assert "quality 0.90" in ended.err
    assert read_mask(find_samples(tmp_path / "d")[0])[20].any()
    answer.trusted = False
    ended = tidemark(*command, "--overwrite")
    assert ended.code == 1
    assert "--mask" in ended.err


# -------------------------------------------------------------------------- kept, skipped, replaced


def test_existing_samples(tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, sheet = tmp_path / "dataset", tmp_path / "sheet.png"
    blank = np.zeros(SHAPE, np.uint8)
    write_sample(dataset, "S01_1", blank, blank)
    command = ("preprocess", pairs[0], "--mask", pairs[1], "-o", dataset, *SIZE)
    refused = tidemark(*command)
    assert (refused.code, names(dataset)) == (1, ["S01_1"])
    assert "--overwrite" in refused.err and "--skip-existing" in refused.err
    sheet.write_text("old")
    (tmp_path / "g.csv").write_text("sample_id,grade\nS01_1,1\nS02_1,2\n")
    ended = tidemark(*command, "--skip-existing", "--preview", sheet, "--grades", tmp_path / "g.csv")
    assert ended.code == 0
    assert [line.split()[2] for line in ended.out.splitlines()[1:3]] == ["skipped", "done"]
    assert cv2.imread(str(sheet)) is not None
    first, second = find_samples(dataset)
    assert not read_scan(first).any()
    assert read_scan(second).any()
    assert (first.grade, second.grade) == (1, 2)
    assert tidemark(*command, "--overwrite").code == 0
    assert np.array_equal(read_scan(first), read_scan(second))


def test_a_grade_is_kept_unless_asked(tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "grades.csv").write_text("sample_id,grade\nS01_1,1\n")
    command = ("preprocess", pair[0], "--mask", pair[1], "-o", tmp_path, "--grade", 2, *SIZE)
    refused = tidemark(*command)
    assert refused.code == 1
    assert "the grade 1, not 2" in refused.err
    assert tidemark(*command, "--overwrite").code == 0
    assert (tmp_path / "grades.csv").read_text() == "sample_id,grade\nS01_1,2\n"


# ------------------------------------------------------------------------------------------- errors


def test_a_bad_pair_does_not_stop_the_others(
    tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path, mask: np.ndarray
) -> None:
    write_volume(pairs[1] / "S01_1_mask.nrrd", np.zeros_like(mask), UM, overwrite=True)
    (tmp_path / "g.csv").write_text("sample_id,grade\nS01_1,1\nS02_1,2\n")
    command = ("preprocess", pairs[0], "--mask", pairs[1], "-o", tmp_path / "d", *SIZE)
    ended = tidemark(*command, "--grades", tmp_path / "g.csv")
    assert ended.code == 1
    assert names(tmp_path / "d") == ["S02_1"]
    assert (tmp_path / "d" / "grades.csv").read_text() == "sample_id,grade\nS02_1,2\n"
    assert ended.err.count("error: ") == 1
    assert "is 0 everywhere" in ended.err
    assert [line.split()[2] for line in ended.out.splitlines()[1:3]] == ["failed", "done"]


def test_nothing_is_left_of_a_sample_that_failed(
    tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path, mask: np.ndarray
) -> None:
    write_volume(tmp_path / "short.tif", mask[:50], UM)
    dataset = tmp_path / "new" / "d"
    ended = tidemark("preprocess", pair[0], "--mask", tmp_path / "short.tif", "-o", dataset, "--quiet", *SIZE)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "50 x 54 x 54" in ended.err
    assert not dataset.parent.exists()


def test_a_scan_without_its_mask(tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    command = ("preprocess", pairs[0], "--mask", pairs[1], "-o", tmp_path / "d")
    (pairs[1] / "S02_1_mask.nrrd").rename(pairs[1] / "S03_1_mask.nrrd")
    ended = tidemark(*command)
    assert ended.code == 1
    assert "S02_1_PTA.tif" in ended.err and "found none" in ended.err
    for name in ("S02_1_mask_a.nrrd", "S02_1_mask_b.nrrd"):
        (pairs[1] / "S03_1_mask.nrrd").with_name(name).write_bytes(b"")
    ended = tidemark(*command)
    assert ended.code == 1
    assert "found S02_1_mask_a.nrrd, S02_1_mask_b.nrrd" in ended.err
    assert not (tmp_path / "d").exists()


def test_a_grade_that_is_missing(tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("sample_id,grade\nS01_1,1\n")
    command = ("preprocess", pairs[0], "--mask", pairs[1], "-o", tmp_path / "d")
    ended = tidemark(*command, "--grades", tmp_path / "g.csv")
    assert ended.code == 1
    assert "no row for S02_1" in ended.err


def test_inputs_and_outputs_that_cannot_be(
    tidemark: Tidemark, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocessing, "crop_sample", lambda *_: pytest.fail("it was computed"))
    scan, truth = pair
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for arguments, complaint in {
        (tmp_path / "none.tif", "--mask", truth, "-o", tmp_path / "d"): "none.tif does not exist",
        (scan, "--mask", tmp_path / "none.tif", "-o", tmp_path / "d"): "none.tif does not exist",
        (tmp_path / "empty", "--mask", truth, "-o", tmp_path / "d"): "found no scan in it",
        (scan, "--mask", truth, "-o", tmp_path / "file"): "is a file",
        (
            scan,
            "--mask",
            truth,
            "-o",
            tmp_path / "d",
            "--preview",
            tmp_path / "no" / "p.png",
        ): "does not exist",
        (scan, "--mask", truth, "-o", tmp_path / "d", "--grades", tmp_path / "no.csv"): "no.csv",
    }.items():
        ended = tidemark("preprocess", *arguments)
        assert ended.code == 1
        assert complaint in ended.err
        assert not (tmp_path / "d").exists()


WRONG: dict[str, tuple[str, ...]] = {
    "no mask": (),
    "mask and CA4+": ("--mask", "m.tif", "--ca4", "c.tif"),
    "no folder for a subject": ("--mask", "m.tif", "--subject", "S01_1"),
    "a path for a sample": ("--mask", "m.tif", "--sample", "../S01"),
    "grade and grades": ("--mask", "m.tif", "--grade", "1", "--grades", "g.csv"),
    "overwrite and skip": ("--mask", "m.tif", "--overwrite", "--skip-existing"),
    "no voxel size": ("--mask", "m.tif", "--voxel-size", "nan"),
    "no size": ("--mask", "m.tif", "--size", "0", "1", "1"),
    "preview not png": ("--mask", "m.tif", "--preview", "p.jpg"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tidemark("preprocess", "a.tif", "-o", "d", *arguments).code == 2
    assert not list(tmp_path.iterdir())


def test_wrong_usage_with_several_scans(tidemark: Tidemark, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    scans, masks = pairs
    mask = next(masks.iterdir())
    for arguments in (
        (scans, "--mask", mask),
        (scans, "--mask", masks, "--sample", "S01"),
        (scans, "--mask", masks, "--grade", 1),
        (scans, scans, "--mask", masks),
    ):
        assert tidemark("preprocess", *arguments, "-o", tmp_path / "d").code == 2
    assert not (tmp_path / "d").exists()


def test_a_turned_scan_is_the_same_sample(tidemark: Tidemark, tmp_path: Path, mask: np.ndarray) -> None:
    for name, bone_end in (("S01_1", "first"), ("S01_2", "last")):
        turned = mask if bone_end == "first" else mask[::-1]
        write_volume(tmp_path / f"{name}.tif", draw_plug((60, 54, 54), bone_end).astype(np.uint16) * 100, UM)
        write_volume(tmp_path / f"{name}_mask.tif", turned, UM)
        command = ("preprocess", tmp_path / f"{name}.tif", "--mask", tmp_path / f"{name}_mask.tif")
        assert tidemark(*command, "-o", tmp_path / "d", *SIZE).code == 0
    first, last = find_samples(tmp_path / "d")
    assert np.array_equal(read_scan(first), read_scan(last))
    assert np.array_equal(read_mask(first), read_mask(last))
