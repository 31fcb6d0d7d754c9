from __future__ import annotations

import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidemark_cli.core.data.dataset import (
    Sample,
    check_sample_id,
    find_samples,
    middle_section,
    read_mask,
    read_scan,
    update_grades,
    write_sample,
)
from tidemark_cli.core.data.grades import read_grades
from tidemark_cli.core.errors import DatasetError, FormatError, OutputError, TidemarkError

SHAPE = (6, 3, 4)  # Z, Y, X
SCAN = np.arange(72, dtype=np.uint8).reshape(SHAPE)
MASK = (SCAN < 40).astype(np.uint8) * np.uint8(255)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for sample_id in ("S02_1", "S01_2", "S01_1"):
        write_sample(tmp_path, sample_id, SCAN, MASK)
    update_grades(tmp_path, {"S01_1": 2, "S02_1": 0})
    return tmp_path


def imgs(dataset: Path, sample_id: str = "S01_1", kind: str = "imgs") -> Path:
    return dataset / "pre_processed" / sample_id / kind


# ------------------------------------------------------------------------------------------ layout


def test_the_layout_is_the_public_one(dataset: Path) -> None:
    files = {path.name for path in imgs(dataset).iterdir()}
    assert files == {"ZX_0.png", "ZX_1.png", "ZX_2.png", "ZY_0.png", "ZY_1.png", "ZY_2.png", "ZY_3.png"}
    assert {path.name for path in imgs(dataset, kind="masks").iterdir()} == files
    # by hand: voxel (z, y, x) is 12 z + 4 y + x
    zx_1 = cv2.imread(str(imgs(dataset) / "ZX_1.png"), cv2.IMREAD_UNCHANGED)
    assert zx_1.tolist() == [[12 * z + 4 + x for x in range(4)] for z in range(6)]
    zy_3 = cv2.imread(str(imgs(dataset) / "ZY_3.png"), cv2.IMREAD_UNCHANGED)
    assert zy_3.tolist() == [[12 * z + 4 * y + 3 for y in range(3)] for z in range(6)]
    mask = cv2.imread(str(imgs(dataset, kind="masks") / "ZX_1.png"), cv2.IMREAD_UNCHANGED)
    assert mask[:, 0].tolist() == [255, 255, 255, 0, 0, 0]  # 4, 16, 28, 40, 52, 64
    assert (dataset / "grades.csv").read_text() == "sample_id,grade\nS01_1,2\nS02_1,0\n"


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9)),
    subject=st.from_regex(r"\A[A-Za-z0-9-]{1,6}\Z").filter(lambda s: s[0] != "-"),
    rest=st.from_regex(r"\A[A-Za-z0-9_-]{1,6}\Z"),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    shape: tuple[int, int, int],
    subject: str,
    rest: str,
) -> None:
    scan = data.draw(arrays(np.uint8, shape))
    mask = data.draw(arrays(np.bool_, shape))
    root = tmp_path_factory.mktemp("dataset")
    write_sample(root, f"{subject}_{rest}", scan, mask)
    (sample,) = find_samples(root)
    assert (sample.sample_id, sample.subject_id, sample.grade) == (f"{subject}_{rest}", subject, None)
    assert np.array_equal(read_scan(sample), scan)
    assert np.array_equal(read_mask(sample), mask * np.uint8(255))
    middle = shape[1] // 2
    assert np.array_equal(middle_section(sample)[0], scan[:, middle])
    assert np.array_equal(middle_section(sample)[1], mask[:, middle] * np.uint8(255))


@pytest.mark.parametrize("unpacked", ["", "Data"])
@pytest.mark.parametrize("given_as", ["root", "pre_processed"])
def test_root_data_and_pre_processed_are_one_dataset(dataset: Path, unpacked: str, given_as: str) -> None:
    if unpacked:
        (dataset / "Data").mkdir()
        for name in ("pre_processed", "grades.csv"):
            shutil.move(dataset / name, dataset / "Data" / name)
    given = dataset if given_as == "root" else dataset / unpacked / "pre_processed"
    samples = find_samples(given)
    assert [(s.sample_id, s.grade) for s in samples] == [("S01_1", 2), ("S01_2", None), ("S02_1", 0)]
    assert np.array_equal(read_scan(samples[0]), SCAN)
    write_sample(given, "S03_1", SCAN, MASK)
    assert (dataset / unpacked / "pre_processed" / "S03_1").is_dir()


def test_masks_of_0_and_1_are_masks(dataset: Path) -> None:
    for path in imgs(dataset, kind="masks").iterdir():
        cv2.imwrite(str(path), (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0).astype(np.uint8))
    assert np.array_equal(read_mask(find_samples(dataset)[0]), MASK)


# ----------------------------------------------------------------------------------- whole or absent


def test_a_sample_is_kept_unless_asked(dataset: Path) -> None:
    with pytest.raises(OutputError, match="--overwrite"):
        write_sample(dataset, "S01_1", SCAN + 1, MASK)
    assert np.array_equal(read_scan(find_samples(dataset)[0]), SCAN)
    smaller = (SCAN + 1)[:, :2]
    write_sample(dataset, "S01_1", smaller, MASK[:, :2], overwrite=True)
    assert np.array_equal(read_scan(find_samples(dataset)[0]), smaller)
    assert sorted(path.name for path in (dataset / "pre_processed").iterdir()) == ["S01_1", "S01_2", "S02_1"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_was_there(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    encode = cv2.imencode

    def fail(suffix: str, pixels: np.ndarray) -> object:
        if set(np.unique(pixels)) <= {0, 255}:  # a mask: the slices of the scan are written by then
            raise failure
        return encode(suffix, pixels)

    monkeypatch.setattr(cv2, "imencode", fail)
    expected = OutputError if isinstance(failure, OSError) else KeyboardInterrupt
    for sample_id in ("S01_1", "S09_1"):
        with pytest.raises(expected):
            write_sample(dataset, sample_id, SCAN + 1, MASK, overwrite=True)
    assert sorted(path.name for path in (dataset / "pre_processed").iterdir()) == ["S01_1", "S01_2", "S02_1"]
    assert np.array_equal(read_scan(find_samples(dataset)[0]), SCAN)


def test_a_failed_replacement_brings_the_old_sample_back(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(source: Path, target: Path) -> Path:
        if ".partial." in source.name:
            raise OSError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Permission denied"):
        write_sample(dataset, "S01_1", SCAN + 1, MASK, overwrite=True)
    assert sorted(path.name for path in (dataset / "pre_processed").iterdir()) == ["S01_1", "S01_2", "S02_1"]
    assert np.array_equal(read_scan(find_samples(dataset)[0]), SCAN)


def test_a_sample_that_another_process_wrote_meanwhile_is_kept_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, late = cv2.imencode, threading.Lock()

    def write_late(suffix: str, pixels: np.ndarray) -> object:
        if late.acquire(blocking=False):  # once
            write_sample(tmp_path, "S01_1", SCAN, MASK)
        return encode(suffix, pixels)

    monkeypatch.setattr(cv2, "imencode", write_late)
    with pytest.raises(OutputError, match="S01_1 could not be written"):
        write_sample(tmp_path, "S01_1", SCAN + 1, MASK)
    assert [path.name for path in (tmp_path / "pre_processed").iterdir()] == ["S01_1"]
    assert np.array_equal(read_scan(find_samples(tmp_path)[0]), SCAN)


def test_hidden_folders_are_no_samples(dataset: Path) -> None:
    (dataset / "pre_processed" / ".1234.partial.S04_1" / "imgs").mkdir(parents=True)
    assert len(find_samples(dataset)) == 3


@pytest.mark.parametrize("name", ["", "_1", ".hidden", "a/b", "a\\b", "..", "a\n", "a ", "-1", "a."])
def test_impossible_ids(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="sample id"):
        write_sample(tmp_path, name, SCAN, MASK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["S01_1", "KP03-L4-LC2", "7", "Ä1_b", "plug 3_left"])
def test_possible_ids(name: str) -> None:
    check_sample_id(name)


# ------------------------------------------------------------------------------------------ damage


def test_no_dataset(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match="pre_processed"):
            find_samples(path)
    (tmp_path / "pre_processed").mkdir()
    with pytest.raises(DatasetError, match="no sample"):
        find_samples(tmp_path)


def test_missing_slices_are_named(dataset: Path) -> None:
    (imgs(dataset) / "ZX_1.png").unlink()
    with pytest.raises(DatasetError, match=r"S01_1.imgs misses 1 slice\(s\): ZX_1\.png"):
        find_samples(dataset)
    with pytest.raises(DatasetError, match=r"ZX_1\.png"):
        read_scan(Sample("S01_1", imgs(dataset).parent, None))


def test_padded_numbers_are_other_names(dataset: Path) -> None:
    (imgs(dataset) / "ZX_1.png").rename(imgs(dataset) / "ZX_001.png")
    with pytest.raises(DatasetError, match=r"misses 1 slice\(s\): ZX_1\.png"):
        find_samples(dataset)


@pytest.mark.parametrize(("kind", "name"), [("imgs", "ZX_2"), ("imgs", "ZY_3"), ("masks", "ZY_3")])
def test_zx_and_zy_that_do_not_fit(dataset: Path, kind: str, name: str) -> None:
    (imgs(dataset, kind=kind) / f"{name}.png").unlink()  # the last of its plane: no gap
    with pytest.raises(DatasetError, match="do not fit"):
        find_samples(dataset)


@pytest.mark.parametrize("plane", ["ZX", "ZY"])
def test_a_plane_that_is_missing(dataset: Path, plane: str) -> None:
    for path in imgs(dataset).glob(f"{plane}_*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=f"no {plane} slices"):
        find_samples(dataset)


def test_missing_masks(dataset: Path) -> None:
    shutil.rmtree(imgs(dataset, kind="masks"))
    with pytest.raises(DatasetError, match="masks is missing"):
        find_samples(dataset)


def test_masks_of_another_shape(dataset: Path) -> None:
    write_sample(dataset, "S01_9", SCAN[:, :2], MASK[:, :2])
    shutil.rmtree(imgs(dataset, kind="masks"))
    shutil.move(imgs(dataset, "S01_9", "masks"), imgs(dataset, kind="masks"))
    shutil.rmtree(imgs(dataset, "S01_9").parent)
    with pytest.raises(DatasetError, match=r"S01_1 has a scan of 6 x 3 x 4 voxels.* mask of 6 x 2 x 4"):
        find_samples(dataset)


@pytest.mark.parametrize("kind", ["imgs", "masks"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: b"", lambda data: b"no PNG", lambda d: d[:45] + b"\0\0" + d[47:]],
    ids=["cut short", "empty", "foreign", "flipped bytes"],
)
def test_a_damaged_slice_is_named(dataset: Path, kind: str, damage: object) -> None:
    path = imgs(dataset, kind=kind) / "ZX_2.png"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    sample = Sample("S01_1", imgs(dataset).parent, None)
    with pytest.raises(FormatError, match=r"ZX_2\.png"):
        (read_scan if kind == "imgs" else read_mask)(sample)


def test_a_slice_of_another_shape_is_named(dataset: Path) -> None:
    cv2.imwrite(str(imgs(dataset) / "ZX_2.png"), SCAN[:, 2, :3])
    with pytest.raises(DatasetError, match=r"ZX_2\.png has 6 x 3 pixels"):
        read_scan(Sample("S01_1", imgs(dataset).parent, None))


def test_16_bit_and_colour_slices_are_refused(dataset: Path) -> None:
    sample = Sample("S01_1", imgs(dataset).parent, None)
    cv2.imwrite(str(imgs(dataset) / "ZX_2.png"), SCAN[:, 2].astype(np.uint16))
    with pytest.raises(DatasetError, match="uint16"):
        read_scan(sample)
    cv2.imwrite(str(imgs(dataset) / "ZX_2.png"), np.dstack([SCAN[:, 2], SCAN[:, 1], SCAN[:, 0]]))
    with pytest.raises(TidemarkError, match="colour"):
        read_scan(sample)


def test_a_grey_mask_is_refused(dataset: Path) -> None:
    cv2.imwrite(str(imgs(dataset, kind="masks") / "ZX_2.png"), SCAN[:, 2])
    with pytest.raises(DatasetError, match=r"ZX_2\.png is no mask"):
        read_mask(Sample("S01_1", imgs(dataset).parent, None))


# ------------------------------------------------------------------------------------------ grades


def test_grades_from_another_file(dataset: Path, tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text('"no";"sample_id";"grade"\n1;S01_1;3.0\n2;S02_1;\n', encoding="utf-8-sig")
    assert read_grades(table) == {"S01_1": 3, "S02_1": None}
    assert [sample.grade for sample in find_samples(dataset, table)] == [3, None, None]
    with pytest.raises(DatasetError, match=r"nowhere\.csv"):
        find_samples(dataset, tmp_path / "nowhere.csv")
