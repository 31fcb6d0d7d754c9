"""``tidemark predict`` from end to end, with a network that calls hard tissue what is bright."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from tests.helpers import SURFACE_Z, VOXEL_UM, Ended, draw_plug
from tidemark_cli.core import memory, segmentation
from tidemark_cli.core.errors import ScanError
from tidemark_cli.core.network import models
from tidemark_cli.core.pictures import preview
from tidemark_cli.core.scans.volume import read_volume, write_volume

Tidemark = Callable[..., Ended]


@pytest.fixture
def scan(tmp_path: Path, plug: np.ndarray) -> Path:
    path = tmp_path / "S01_1.tif"
    write_volume(path, plug, VOXEL_UM)
    return path


@pytest.fixture
def scans(tmp_path: Path, plug: np.ndarray) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("S01_1", "S02_1"):
        write_volume(folder / f"{name}.tif", plug, VOXEL_UM)
    return folder


def files(folder: Path) -> set[str]:
    """Return the names of all files in a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_mask_is_the_hard_tissue_in_the_scan_s_frame(
    tidemark: Tidemark, scan: Path, model: Path, plug: np.ndarray
) -> None:
    ended = tidemark(
        "predict", scan, "-o", scan.with_name("mask.nrrd"), "--weights", model, "--device", "cpu"
    )
    assert ended.code == 0
    mask = read_volume(scan.with_name("mask.nrrd"))
    assert mask.voxel_um == pytest.approx(VOXEL_UM)
    assert set(np.unique(mask.array)) == {0, 255}
    assert np.mean((mask.array > 0) != (plug > 150)) < 1e-3
    assert "mask.nrrd" in ended.out
    assert "80 x 64 x 64 voxels" in ended.err


@pytest.fixture
def two_plugs(tmp_path: Path, plug: np.ndarray) -> Path:
    """A scan of two plugs side by side, the second one's bone at the last slices."""
    wide = np.pad(plug, ((0, 0), (0, 0), (4, 4)))
    write_volume(tmp_path / "pair.tif", np.concatenate([wide, wide[::-1]], axis=2), VOXEL_UM)
    return tmp_path / "pair.tif"


def test_of_two_plugs_one_is_taken_and_the_other_warned_of(
    tidemark: Tidemark, two_plugs: Path, model: Path
) -> None:
    ended = tidemark("predict", two_plugs, "-o", two_plugs.with_name("m.tif"), "--weights", model, "--json")
    assert ended.code == 0
    assert "holds 2 plugs" in ended.err and "--plug" in ended.err
    assert json.loads(ended.out)["stats"]["confidence_signs"]["singleness"] == 0


@pytest.mark.parametrize("number", [1, 2])
def test_the_plug_that_is_named_is_taken(
    tidemark: Tidemark, two_plugs: Path, model: Path, number: int
) -> None:
    out = two_plugs.with_name("m.tif")
    ended = tidemark("predict", two_plugs, "-o", out, "--weights", model, "--plug", number, "--json")
    assert ended.code == 0
    assert "holds 2 plugs" not in ended.err
    halves = np.array_split(read_volume(out).array, 2, axis=2)
    assert [half.any() for half in halves] == [number == 1, number == 2]
    assert json.loads(ended.out)["stats"]["confidence_signs"]["singleness"] == 1


def test_all_plugs_are_segmented_each_under_a_name_of_its_own(
    tidemark: Tidemark, two_plugs: Path, model: Path
) -> None:
    folder = two_plugs.parent / "out"
    folder.mkdir()
    options = ("--weights", model, "--plug", "all", "--stats", folder / "s.json")
    mask, table = folder / "m.nii.gz", folder / "t.csv"
    ended = tidemark("predict", two_plugs, "-o", mask, *options, "--csv", table)
    assert ended.code == 0
    written = {"m_plug1.nii.gz", "m_plug2.nii.gz", "s_plug1.json", "s_plug2.json"}
    assert files(folder) == written | {"t.csv"}
    first, second = (read_volume(folder / f"m_plug{number}.nii.gz").array for number in (1, 2))
    half = first.shape[2] // 2
    assert first.any() and not first[:, :, half:].any() and not second[:, :, :half].any()
    np.testing.assert_array_equal(first[::-1, :, :half], second[:, :, half:])
    with open(table, newline="") as file:
        assert [row["plug"] for row in csv.DictReader(file)] == ["plug1", "plug2"]
    refused = tidemark("predict", two_plugs, "-o", mask, *options)
    assert refused.code == 1 and "exists" in refused.err
    (folder / "m_plug1.nii.gz").unlink()
    again = tidemark("predict", two_plugs, "-o", mask, *options, "--skip-existing", "--quiet")
    assert again.code == 0 and (folder / "m_plug1.nii.gz").exists()


@pytest.mark.parametrize(("choice", "code", "told"), [("3", 1, "found 2"), ("0", 2, "from 1 on")])
def test_a_plug_that_is_not_there(
    tidemark: Tidemark, two_plugs: Path, model: Path, choice: str, code: int, told: str
) -> None:
    out = two_plugs.with_name("m.tif")
    ended = tidemark("predict", two_plugs, "-o", out, "--weights", model, "--plug", choice)
    assert ended.code == code and told in " ".join(ended.err.split())


def test_every_output(tidemark: Tidemark, scan: Path, model: Path, plug: np.ndarray) -> None:
    out = scan.parent / "out"
    out.mkdir()
    kinds = {"--probability": "p.tif", "--uncertainty": "u.mha", "--surface": "s.tif", "--stats": "s.json"}
    options = [a for option, name in (kinds | {"--preview": "p.png"}).items() for a in (option, out / name)]
    ended = tidemark("predict", scan, "-o", out / "mask.tif", "--weights", model, *options)
    assert (ended.code, files(out)) == (0, {"mask.tif", "p.tif", "u.mha", "s.tif", "s.json", "p.png"})
    probability = read_volume(out / "p.tif").array
    assert probability.dtype == np.uint8
    assert np.mean((probability > 127) != (plug > 150)) < 1e-3
    disagreement = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "u.mha")))
    assert (disagreement.shape, disagreement.dtype) == (plug.shape, np.uint8)
    assert disagreement.max() <= 1  # both planes see the same grey level
    height_um = tifffile.imread(out / "s.tif")
    assert (height_um.shape, height_um.dtype) == (plug.shape[1:], np.float32)
    assert np.nanmedian(height_um) == pytest.approx(SURFACE_Z * VOXEL_UM, abs=VOXEL_UM)
    assert np.isnan(height_um[0, 0])
    stats = json.loads((out / "s.json").read_text(encoding="utf-8"))
    assert stats["scan"] == str(scan)
    assert stats["definitions"]
    picture = cv2.imread(str(out / "p.png"))
    assert picture is not None
    assert min(picture.shape[:2]) > 300


def test_every_output_lies_where_the_scan_does(tidemark: Tidemark, tmp_path: Path, model: Path) -> None:
    scan = np.pad(draw_plug(), ((0, 0), (3, 16), (20, 0)))
    image = sitk.GetImageFromArray(scan)
    image.SetSpacing([VOXEL_UM / 1000] * 3)
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    names = {"-o": "m.nrrd", "--probability": "p.nrrd", "--uncertainty": "u.mha", "--surface": "s.tif"}
    options = [a for option, name in names.items() for a in (option, tmp_path / name)]
    ended = tidemark(
        "predict", tmp_path / "scan.nrrd", "--weights", model, *options, "--stats", tmp_path / "s.json"
    )
    assert ended.code == 0
    for name in ("m.nrrd", "p.nrrd", "u.mha"):
        written = sitk.ReadImage(str(tmp_path / name))
        assert written.GetOrigin() == (1, 2, 3)
        assert written.GetSpacing() == pytest.approx([VOXEL_UM / 1000] * 3)
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        height_um = file.asarray()
        columns, microns = file.pages.first.tags["XResolution"].value
    assert microns / columns == pytest.approx(VOXEL_UM)
    mask = read_volume(tmp_path / "m.nrrd").array
    np.testing.assert_array_equal(np.isfinite(height_um), mask.any(axis=0))
    thickness = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["thickness_median_um"]
    assert f"cartilage {thickness:.0f} µm thick" in ended.out
    assert "confidence 1.00, " in ended.out


def test_an_empty_mask_is_told_and_no_error(tidemark: Tidemark, scan: Path, model: Path) -> None:
    out = scan.with_name("mask.tif")
    ended = tidemark("predict", scan, "-o", out, "--weights", model, "--threshold", "1")
    assert ended.code == 0
    assert not tifffile.imread(out).any()
    assert "the mask is empty" in ended.err
    assert f"voxel size ({VOXEL_UM:g} µm)" in ended.err
    assert "none found" in ended.out


def test_every_setting_is_an_option(tidemark: Tidemark, scan: Path, model: Path, monkeypatch) -> None:
    asked: list[segmentation.Settings] = []

    def segment(volume, models, settings, progress, plug):
        asked.append(settings)
        raise ScanError("enough")

    monkeypatch.setattr(segmentation, "segment", segment)
    plain = ("predict", scan, "-o", scan.with_name("m.tif"), "--weights", model)
    options = ("--threshold", 0.25, "--planes", "zy", "--step", 3, "--bone-end", "last", "--crop")
    options += ("--offset", -7.5)
    assert tidemark(*plain).code == 1
    assert tidemark(*plain, *options, "--device", "cpu", "--uncertainty", scan.with_name("u.tif")).code == 1
    assert asked == [
        segmentation.Settings(),
        segmentation.Settings(0.25, ("zy",), 3, "last", True, True, "cpu", offset_um=-7.5),
    ]


def test_an_offset_is_kept_with_the_numbers_and_told(tidemark: Tidemark, scan: Path, model: Path) -> None:
    heights = []
    for name, offset in (("plain", 0), ("raised", 80)):
        mask, height, numbers = (scan.with_name(f"{name}{end}") for end in (".tif", "_height.tif", ".json"))
        options = ("--weights", model, "--surface", height, "--stats", numbers, "--offset", offset)
        ended = tidemark("predict", scan, "-o", mask, *options)
        assert ended.code == 0
        assert (", offset" in ended.out, ", offset +80 µm" in ended.out) == (offset > 0, offset > 0)
        stats = json.loads(numbers.read_text(encoding="utf-8"))
        assert stats["offset_um"] == offset and "raised" in stats["definitions"]["offset_um"]
        heights.append(tifffile.imread(height))
        hard = tifffile.imread(mask).any(axis=(1, 2))
        assert np.flatnonzero(hard)[-1] == SURFACE_Z - 1 + offset / VOXEL_UM
    np.testing.assert_allclose(heights[1], heights[0] + 80, atol=1e-3)


def test_the_offset_that_metrics_tells_takes_the_bias_away(
    tidemark: Tidemark, scans: Path, model: Path, plug: np.ndarray
) -> None:
    truths = scans.parent / "truths"
    truths.mkdir()
    for name in ("S01_1", "S02_1"):
        write_volume(truths / f"{name}.tif", np.where(plug > 150, 255, 0).astype(np.uint8), VOXEL_UM)
    biases = []
    offset = -40.0
    for attempt in ("first", "second"):
        masks = scans.parent / attempt
        assert tidemark("predict", scans, "-o", f"{masks}/", "--weights", model, "--offset", offset).code == 0
        bias = json.loads(tidemark("metrics", masks, truths, "--json").out)["summary"][0]["bias"]
        biases.append(bias["mean_um"])
        offset += bias["offset_um"] or 0
    assert biases == pytest.approx([-40, 0], abs=0.5)


def test_bone_at_the_other_end_comes_back_as_it_went_in(
    tidemark: Tidemark, tmp_path: Path, model: Path
) -> None:
    upside_down = draw_plug(bone_end="last")
    write_volume(tmp_path / "scan.tif", upside_down, VOXEL_UM)
    assert (
        tidemark("predict", tmp_path / "scan.tif", "-o", tmp_path / "mask.tif", "--weights", model).code == 0
    )
    mask = read_volume(tmp_path / "mask.tif").array
    assert np.mean((mask > 0) != (upside_down > 150)) < 1e-3


def test_several_inputs_share_one_model(
    tidemark: Tidemark, scans: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load_models = models.load_models
    monkeypatch.setattr(models, "load_models", lambda w: loads.append(w) or load_models(w))
    out = scans.parent / "new" / "masks"
    inputs = (scans / "S01_1.tif", scans / "S02_1.tif")
    ended = tidemark("predict", *inputs, "-o", f"{out}/", "--stats", f"{out}/", "--weights", model)
    assert ended.code == 0
    assert files(out) == {"S01_1.tif", "S02_1.tif", "S01_1.json", "S02_1.json"}
    assert loads == [model]


def test_no_model_is_loaded_for_a_scan_that_is_not_there(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load_models", lambda _: pytest.fail("a model was loaded"))
    ended = tidemark("predict", tmp_path / "none.tif", "-o", tmp_path / "mask.tif")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert len(ended.err.splitlines()) == 1


def test_what_an_earlier_run_wrote_among_the_scans_is_no_scan(
    tidemark: Tidemark, scans: Path, model: Path
) -> None:
    kinds = {"-o": "masks/", "--surface": "heights/", "--preview": ""}
    options = [a for option, name in kinds.items() for a in (option, f"{scans}/{name}")]
    for again in (False, True):
        skip = ("--skip-existing",) if again else ()
        ended = tidemark("predict", scans, *options, *skip, "--weights", model, "--json")
        told = [json.loads(line) for line in ended.out.splitlines()]
        assert [Path(one["scan"]).name for one in told] == ["S01_1.tif", "S02_1.tif"]
        assert {one["state"] for one in told} == {"skipped" if again else "done"}
        assert ended.code == 0


def test_a_slice_of_the_scan_is_never_replaced(tidemark: Tidemark, tmp_path: Path, plug: np.ndarray) -> None:
    for z, image in enumerate(plug[:20]):
        cv2.imwrite(str(tmp_path / f"S01_rec{z:04d}.png"), image)
    before = (tmp_path / "S01_rec0007.png").read_bytes()
    ended = tidemark(
        "predict",
        tmp_path,
        "-o",
        tmp_path / "m.tif",
        "--preview",
        tmp_path / "S01_rec0007.png",
        "--overwrite",
    )
    assert (ended.code, (tmp_path / "S01_rec0007.png").read_bytes()) == (2, before)


def test_the_table_of_all_scans(tidemark: Tidemark, scans: Path, model: Path) -> None:
    (scans / "S01_2.tif").write_text("not a TIFF")
    out, table = scans.parent / "out", scans.parent / "all.csv"
    command = ("predict", scans, "-o", f"{out}/", "--stats", f"{out}/", "--csv", table, "--weights", model)

    def rows() -> list[dict[str, str]]:
        with table.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    ended = tidemark(*command)
    assert (ended.code, ended.out.splitlines()[-1].split()) == (1, ["table", str(table)])
    first = rows()
    stats = json.loads((out / "S01_1.json").read_text(encoding="utf-8"))
    assert [(Path(row["scan"]).name, row["state"]) for row in first] == [
        ("S01_1.tif", "done"),
        ("S01_2.tif", "failed"),
        ("S02_1.tif", "done"),
    ]
    assert "S01_2.tif" in first[1]["error"]
    for key, value in stats.items():
        if not isinstance(value, dict | list) and key in segmentation.DEFINITIONS:
            assert first[0][key] == ("" if value is None else str(value))
    assert first[1]["roughness_sa_um"] == ""
    (out / "S02_1.json").unlink()
    again = tidemark(*command, "--skip-existing")
    assert f"kept as it is, whatever made it: {out / 'S02_1.tif'}" in again.err
    assert [row["state"] for row in rows()] == ["skipped", "failed", "done"]
    assert [row | {"state": ""} for row in rows()] == [row | {"state": ""} for row in first]
    (out / "S01_1.json").write_text("damaged")
    told = [json.loads(line) for line in tidemark(*command, "--skip-existing", "--json").out.splitlines()]
    assert [one["state"] for one in told] == ["skipped", "failed", "skipped"]
    assert told[0]["stats"] is None
    assert told[2]["stats"] == {key: stats[key] for key in segmentation.DEFINITIONS}


def test_a_bad_scan_does_not_stop_the_others(tidemark: Tidemark, scans: Path, model: Path) -> None:
    (scans / "S01_2.tif").write_text("not a TIFF")
    out = scans.parent / "masks"
    out.mkdir()
    ended = tidemark("predict", scans, "-o", out, "--weights", model)
    assert ended.code == 1
    assert files(out) == {"S01_1.tif", "S02_1.tif"}
    assert ended.err.count("error: ") == 1
    failed = [line for line in ended.out.splitlines() if "failed" in line]
    assert len(failed) == 1
    assert "S01_2" in failed[0]


def test_a_stack_folder_is_one_scan(
    tidemark: Tidemark, tmp_path: Path, model: Path, plug: np.ndarray
) -> None:
    folder = tmp_path / "S03_1"
    folder.mkdir()
    for z, image in enumerate(plug):
        cv2.imwrite(str(folder / f"S03_1_rec{z + 12:08d}.png"), image)
    options = ("--weights", model, "--voxel-size", VOXEL_UM)
    assert tidemark("predict", folder, "-o", tmp_path / "mask.tif", *options).code == 0
    assert read_volume(tmp_path / "mask.tif").array.shape == plug.shape
    (tmp_path / "masks").mkdir()
    assert tidemark("predict", f"{folder}/", "-o", tmp_path / "masks", *options).code == 0
    assert files(tmp_path / "masks") == {"S03_1.tif"}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")
def test_a_name_that_is_no_utf8_is_in_every_output(
    tidemark: Tidemark, scan: Path, model: Path, tmp_path: Path
) -> None:
    odd = scan.rename(tmp_path / os.fsdecode(b"M\xfcller_1.tif"))
    outputs = ("-o", "m.nii.gz", "--stats", "s.json", "--preview", "p.png", "--csv", "t.csv")
    outputs = tuple(part if part.startswith("-") else str(tmp_path / part) for part in outputs)
    assert tidemark("predict", odd, *outputs, "--weights", model, "--step", 8).code == 0
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["scan"].endswith(r"M\udcfcller_1.tif") and row["state"] == "done"
    assert json.loads((tmp_path / "s.json").read_text())["scan"] == str(odd)
    assert all((tmp_path / name).exists() for name in ("m.nii.gz", "p.png"))


@pytest.mark.parametrize("content", [None, b"", b"no scan", b"II*\x00\x08\x00\x00\x00"])
def test_an_unreadable_scan_is_one_line(
    tidemark: Tidemark, tmp_path: Path, model: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "scan.tif").write_bytes(content)
    ended = tidemark(
        "predict", tmp_path / "scan.tif", "-o", tmp_path / "mask.tif", "--weights", model, "--quiet"
    )
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ")
    assert "scan.tif" in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "mask.tif").exists()


def test_an_existing_output_is_kept_unless_asked(tidemark: Tidemark, scan: Path, model: Path) -> None:
    mask, preview = scan.with_name("mask.tif"), scan.with_name("preview.png")
    mask.write_text("mine")
    command = ("predict", scan, "-o", mask, "--weights", model)
    refused = tidemark(*command)
    assert (refused.code, mask.read_text()) == (1, "mine")
    assert "--overwrite" in refused.err
    assert tidemark(*command, "--skip-existing", "--preview", preview).code == 0
    assert mask.read_text() == "mine"
    assert preview.exists()
    assert "skipped" in tidemark(*command, "--skip-existing", "--preview", preview).out
    assert tidemark(*command, "--overwrite").code == 0
    assert read_volume(mask).array.any()


def test_nothing_is_computed_for_an_output_that_cannot_be_written(
    tidemark: Tidemark, scan: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation, "segment", lambda *_: pytest.fail("it was computed"))
    ended = tidemark("predict", scan, "-o", scan.parent / "nowhere" / "mask.tif", "--weights", model)
    assert ended.code == 1
    assert "nowhere" in ended.err
    ended = tidemark(
        "predict",
        scan,
        "-o",
        scan.with_name("m.tif"),
        "--stats",
        scan.parent / "no" / "s.json",
        "--weights",
        model,
    )
    assert ended.code == 1


WRONG: dict[str, tuple[str, ...]] = {
    "no output": ("a.tif",),
    "no input": ("-o", "m.tif"),
    "unknown format": ("a.tif", "-o", "m.xyz"),
    "no format": ("a.tif", "-o", "m"),
    "no name": ("a.tif", "-o", ".tif"),
    "preview not png": ("a.tif", "-o", "m.tif", "--preview", "p.jpg"),
    "file for several": ("a.tif", "b.tif", "-o", "m.tif"),
    "file for several previews": ("a.tif", "b.tif", "-o", "m/", "--preview", "p.png"),
    "same name twice": ("a.tif", "x/a.tif", "-o", "m/"),
    "same scan twice": ("a.tif", "a.tif", "-o", "m/"),
    "table of another kind": ("a.tif", "-o", "m.tif", "--csv", "t.xlsx"),
    "two outputs in one": ("a.tif", "-o", "m.tif", "--probability", "m.tif"),
    "onto the scan": ("a.tif", "-o", "a.tif", "--overwrite"),
    "onto a scan": ("a.tif", "b.tif", "-o", "./", "--overwrite"),
    "threshold": ("a.tif", "-o", "m.tif", "--threshold", "1.5"),
    "threshold nan": ("a.tif", "-o", "m.tif", "--threshold", "nan"),
    "offset nan": ("a.tif", "-o", "m.tif", "--offset", "nan"),
    "offset of more than any stain's depth": ("a.tif", "-o", "m.tif", "--offset", "-150"),
    "voxel size": ("a.tif", "-o", "m.tif", "--voxel-size", "0"),
    "voxel size infinite": ("a.tif", "-o", "m.tif", "--voxel-size", "inf"),
    "bone end": ("a.tif", "-o", "m.tif", "--bone-end", "top"),
    "planes": ("a.tif", "-o", "m.tif", "--planes", "xy"),
    "step": ("a.tif", "-o", "m.tif", "--step", "0"),
    "large step": ("a.tif", "-o", "m.tif", "--step", "9"),
    "overwrite and skip": ("a.tif", "-o", "m.tif", "--overwrite", "--skip-existing"),
    "unknown option": ("a.tif", "-o", "m.tif", "--nonsense"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_text("scan")
    ended = tidemark("predict", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert files(tmp_path) == {"a.tif"}
    assert (tmp_path / "a.tif").read_text() == "scan"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--weights", "none.safetensors"), ("--weights", "."), ("--device", "cuda:99"), ("--device", "abacus")],
)
def test_what_is_named_and_missing_is_an_error(
    tidemark: Tidemark, scan: Path, model: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    monkeypatch.chdir(scan.parent)
    ended = tidemark("predict", scan, "-o", "mask.tif", *({"--weights": model} | {option: value}).popitem())
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("error: ")  # after the name of the model that is there
    assert files(scan.parent) == {"S01_1.tif"}


def test_json_is_one_line_a_scan(tidemark: Tidemark, scans: Path, model: Path) -> None:
    (scans / "bad.tif").write_text("not a TIFF")
    out = scans.parent / "masks"
    ended = tidemark("predict", scans, "-o", f"{out}/", "--weights", model, "--json")
    assert ended.code == 1
    lines = {Path(line["scan"]).stem: line for line in map(json.loads, ended.out.splitlines())}
    assert {name: line["state"] for name, line in lines.items()} == {
        "S01_1": "done",
        "S02_1": "done",
        "bad": "failed",
    }
    assert lines["S01_1"]["outputs"] == {"mask": str(out / "S01_1.tif")}
    assert lines["S01_1"]["stats"]
    assert "bad.tif" in lines["bad"]["error"]


def test_quiet_says_nothing(tidemark: Tidemark, scan: Path, model: Path) -> None:
    ended = tidemark("predict", scan, "-o", scan.with_name("m.tif"), "--weights", model, "--quiet")
    assert ended == Ended(0, "", "")


def test_a_2d_image_gives_a_2d_mask(
    tidemark: Tidemark, tmp_path: Path, model: Path, plug: np.ndarray
) -> None:
    slice_zx = plug[:, 32]
    cv2.imwrite(str(tmp_path / "slice.png"), slice_zx)
    for name in ("mask.tif", "mask.png"):
        options = (
            "--weights",
            model,
            "--voxel-size",
            VOXEL_UM,
            "--preview",
            tmp_path / f"{name}.preview.png",
        )
        assert tidemark("predict", tmp_path / "slice.png", "-o", tmp_path / name, *options).code == 0
        mask = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape == slice_zx.shape
        assert np.mean((mask > 0) != (slice_zx > 150)) < 5e-3


def test_a_16_bit_scan(tidemark: Tidemark, tmp_path: Path, model: Path, plug: np.ndarray) -> None:
    dim = np.where(plug > 150, plug, plug // 2).astype(np.uint16)  # stretched, cartilage stays below 150
    write_volume(tmp_path / "scan.tif", dim * 200 + 1000, VOXEL_UM)
    assert (
        tidemark("predict", tmp_path / "scan.tif", "-o", tmp_path / "mask.tif", "--weights", model).code == 0
    )
    mask = read_volume(tmp_path / "mask.tif").array
    assert mask.dtype == np.uint8
    assert np.mean((mask > 0) != (plug > 150)) < 1e-2  # its grey levels are stretched to 0-255


def test_an_assumed_voxel_size_is_told(
    tidemark: Tidemark, tmp_path: Path, model: Path, plug: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "slice.png"), np.repeat(np.repeat(plug[:, 32], 4, 0), 4, 1))
    ended = tidemark("predict", tmp_path / "slice.png", "-o", tmp_path / "mask.tif", "--weights", model)
    assert "3.2" in ended.err
    assert "--voxel-size" in ended.err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (MemoryError(), 1, "error: not enough memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "m.tif"), 1, "error: m.tif: No space left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: not enough memory"),
        (RuntimeError("MPS backend out of memory"), 1, "error: not enough memory"),
        (cv2.error("(-4:Insufficient memory) Failed to allocate"), 1, "error: not enough memory"),
        (RuntimeError("oops"), 70, "bug: RuntimeError: oops"),
        (ZeroDivisionError("oops"), 70, "bug: ZeroDivisionError: oops"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_ends_a_run_is_told_as_what_it_is(
    tidemark: Tidemark,
    scan: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    told: str,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(segmentation, "segment", fail)
    ended = tidemark("predict", scan, "-o", scan.with_name("m.tif"), "--weights", model)
    assert ended.code == code
    assert told in ended.err
    assert ("Traceback" in ended.err) == (code == 70)
    assert files(scan.parent) == {"S01_1.tif"}


def test_debug_adds_the_traceback(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_DEBUG", "1")
    ended = tidemark("predict", tmp_path / "scan.tif", "-o", tmp_path / "none" / "mask.tif")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "\nerror: " in ended.err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (ScanError, 1), (ValueError, 70)])
def test_what_stops_the_writing_leaves_everything_as_it_was(
    error: type[BaseException],
    code: int,
    tidemark: Tidemark,
    scan: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: Any) -> None:
        raise error("no picture today")

    monkeypatch.setattr(preview, "compose_preview", stop)
    scan.with_name("m.tif").write_text("old")
    outputs = ("-o", scan.with_name("m.tif"), "--stats", scan.with_name("s.json"))
    options = ("--weights", model, "--preview", scan.with_name("p.png"), "--overwrite")
    assert tidemark("predict", scan, *outputs, *options).code == code
    assert scan.with_name("m.tif").read_text() == "old"
    assert files(scan.parent) == {"S01_1.tif", "m.tif"}


# ---- a scan larger than memory ----

OUTPUTS = {"-o": "mask.tif", "--probability": "p.ome.zarr", "--surface": "height.tif", "--preview": "p.png"}


def test_over_the_disk_the_outputs_are_the_same(
    tidemark: Tidemark, tmp_path: Path, plug: np.ndarray, model: Path
) -> None:
    write_volume(tmp_path / "scan.tif", plug.astype(np.uint16), VOXEL_UM)  # compressed: copied to disk
    for way, options in {"whole": (), "disk": ("--max-memory", "600MiB")}.items():
        (tmp_path / way).mkdir()
        outputs = [part for name, file in OUTPUTS.items() for part in (name, tmp_path / way / file)]
        ended = tidemark("predict", tmp_path / "scan.tif", *outputs, "--weights", model, *options)
        assert ended.code == 0
        told = f"more than the 600.0 MiB allowed: up to 1.2 MiB are kept in files in {tmp_path / way}"
        assert (told in ended.err) == (way == "disk")
    assert files(tmp_path / "disk") == files(tmp_path / "whole")
    assert (tmp_path / "disk/height.tif").read_bytes() == (tmp_path / "whole/height.tif").read_bytes()
    for name in ("mask.tif", "p.ome.zarr"):
        whole, disk = (read_volume(tmp_path / way / name, mask=True).array for way in ("whole", "disk"))
        assert whole.any()
        np.testing.assert_array_equal(disk, whole)
    whole, disk = (cv2.imread(str(tmp_path / way / "p.png")) for way in ("whole", "disk"))
    np.testing.assert_array_equal(disk, whole)


def test_over_the_disk_formats_that_need_a_copy_in_memory_are_refused_before_the_work(
    tidemark: Tidemark, scan: Path, model: Path
) -> None:
    options = ("--weights", model, "--max-memory", "600MiB")
    ended = tidemark("predict", scan, "-o", scan.with_name("mask.nii.gz"), *options)
    assert ended.code == 1
    assert ".nii.gz is written from a copy in memory" in ended.err
    assert "use .tif or .ome.zarr" in ended.err
    assert not scan.with_name("mask.nii.gz").exists()


def test_less_memory_than_any_scan_needs_is_refused(tidemark: Tidemark, scan: Path, model: Path) -> None:
    out = scan.with_name("mask.tif")
    ended = tidemark("predict", scan, "-o", out, "--weights", model, "--max-memory", "100MB")
    assert ended.code == 1
    assert "needs 513.6 MiB of memory at the least, 95.4 MiB are allowed" in ended.err


def test_a_disk_without_room_is_refused_before_the_work(
    tidemark: Tidemark, scan: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "disk_needed", lambda *_: 10**18)
    out = scan.with_name("mask.tif")
    ended = tidemark("predict", scan, "-o", out, "--weights", model, "--max-memory", "600MiB")
    assert ended.code == 1
    assert "931322574.6 GiB are needed" in ended.err


@pytest.mark.parametrize("size", ["4", "lots", "-1GB"])
def test_what_is_no_size_is_wrong_usage(tidemark: Tidemark, scan: Path, size: str) -> None:
    ended = tidemark("predict", scan, "-o", scan.with_name("mask.tif"), "--max-memory", size)
    assert ended.code == 2
    assert "--max-memory: expected a size such as 512MiB or 4GB" in " ".join(ended.err.split())
