"""``tidemark register`` from end to end, on a plug drawn under both stains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers import Ended, draw_small_plug
from tidemark_cli.core.registration import register as registration
from tidemark_cli.core.registration.register import Registration
from tidemark_cli.core.registration.transform import read_transform, write_transform
from tidemark_cli.core.scans.volume import read_volume, write_volume

Tidemark = Callable[..., Ended]
UM = 55.0
SHIFT = np.eye(4)
SHIFT[:3, 3] = np.array([2, 3, 4]) * UM / 1000  # PTA voxel (z, y, x) is CA4+ voxel (z + 4, y + 3, x + 2)


@pytest.fixture(scope="module")
def plug() -> np.ndarray:
    return draw_small_plug(0)


@pytest.fixture
def pair(tmp_path: Path, plug: np.ndarray) -> tuple[Path, Path]:
    """PTA and CA4+, which is shifted by whole voxels."""
    ca4 = np.zeros((60, 50, 50), np.uint8)
    ca4[4:56, 3:47, 2:46] = np.interp(plug, (0, 60, 90, 150, 200, 255), (2, 4, 75, 90, 250, 255))
    paths = tmp_path / "S01_1_PTA_48h__rec.tif", tmp_path / "S01_1_CA4+__rec.nrrd"
    write_volume(paths[0], plug, UM)
    write_volume(paths[1], ca4, UM)
    return paths


@pytest.fixture
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the search for granted: the truth, at once."""
    monkeypatch.setattr(registration, "register", lambda *_, **__: Registration(SHIFT, 0.8, True))


@pytest.fixture
def doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "register", lambda *_, **__: Registration(SHIFT, 0.1, False))


def files(folder: Path) -> set[str]:
    """Return the names of all files in a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_output(tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], plug: np.ndarray) -> None:
    out = tmp_path / "out"
    out.mkdir()
    options = {"-o": "r.nrrd", "--mask": "m.tif", "--transform": "t.tfm", "--preview": "p.png"}
    ended = tidemark("register", *pair, *[a for o, name in options.items() for a in (o, out / name)])
    assert (ended.code, files(out)) == (0, set(options.values()))
    registered, mask = read_volume(out / "r.nrrd"), read_volume(out / "m.tif")
    assert registered.array.shape == mask.array.shape == plug.shape
    assert registered.voxel_um == mask.voxel_um == pytest.approx(UM)
    hard = plug > 150
    assert set(np.unique(mask.array)) == {0, 255}
    assert np.sum((mask.array > 0) & hard) / np.sum((mask.array > 0) | hard) > 0.95
    found = read_transform(out / "t.tfm")
    assert np.linalg.norm(((found - SHIFT) @ (1.2, 1.2, 1.4, 1))[:3]) < 0.5 * UM / 1000
    picture = cv2.imread(str(out / "p.png"))
    assert picture is not None and min(picture.shape[:2]) > 400
    assert picture.std() > 30
    assert "quality" in ended.out and "52 x 44 x 44 voxels" in ended.err


@pytest.mark.usefixtures("believed")
def test_the_transform_moves_ca4_onto_pta_in_itk(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    r, t = tmp_path / "r.tif", tmp_path / "t.tfm"
    assert tidemark("register", *pair, "-o", r, "--transform", t).code == 0
    ca4 = sitk.ReadImage(str(pair[1]))
    pta = sitk.GetImageFromArray(read_volume(pair[0]).array)
    pta.SetSpacing([UM / 1000] * 3)
    moved = sitk.Resample(ca4, pta, sitk.ReadTransform(str(t)), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(read_volume(r).array, sitk.GetArrayFromImage(moved))


@pytest.mark.usefixtures("doubted")
def test_a_doubted_pair_leaves_the_preview_only(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outputs = ("-o", out / "r.tif", "--mask", out / "m.tif", "--preview", out / "p.png")
    ended = tidemark("register", *pair, *outputs)
    assert (ended.code, ended.out, files(out)) == (1, "", {"p.png"})
    assert "quality 0.10" in ended.err and "--accept" in ended.err
    accepted = tidemark("register", *pair, *outputs, "--accept", "--overwrite")
    assert (accepted.code, files(out)) == (0, {"p.png", "r.tif", "m.tif"})
    assert "warning" in accepted.err


def test_apply_resamples_only(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "register", lambda *_, **__: pytest.fail("it registered"))
    write_transform(tmp_path / "t.tfm", SHIFT)
    command = ("register", *pair, "-o", tmp_path / "r.tif", "--initial", tmp_path / "t.tfm", "--apply")
    ended = tidemark(*command, "--mask", tmp_path / "m.tif", "--threshold", 50)  # Otsu's is above cartilage
    assert ended.code == 0
    ca4 = read_volume(pair[1]).array
    np.testing.assert_array_equal(read_volume(tmp_path / "r.tif").array, ca4[4:56, 3:47, 2:46])
    above = read_volume(tmp_path / "r.tif").array > 50
    assert np.sum((read_volume(tmp_path / "m.tif").array > 0) != above) < 10  # specks


def test_what_is_asked_for_is_registered(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float, str, np.ndarray]] = []

    def register(pta, ca4, *, metric, initial, progress):
        asked.append((pta.voxel_um, ca4.voxel_um, metric, initial))
        return Registration(SHIFT, 0.8, True)

    monkeypatch.setattr(registration, "register", register)
    starts = tmp_path / "starts"
    starts.mkdir()
    write_transform(starts / "A_other.tfm", np.eye(4))
    write_transform(starts / f"{pair[0].stem}.tfm", SHIFT)
    plain = ("register", *pair, "-o", tmp_path / "r.tif")
    assert tidemark(*plain).code == 0
    options = ("--voxel-size", 50, "--metric", "mse", "--initial", starts, "--overwrite")
    assert tidemark(*plain, *options).code == 0
    assert [row[:3] for row in asked] == [(pytest.approx(UM), pytest.approx(UM), "mi"), (50, 50, "mse")]
    assert asked[0][3] is None
    np.testing.assert_allclose(asked[1][3], SHIFT)


def test_grey_levels_that_cannot_be_written_are_refused_before_the_work(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "register", lambda *_, **__: pytest.fail("it registered"))
    wide = read_volume(pair[1]).array.astype(np.int64)
    sitk.WriteImage(sitk.GetImageFromArray(wide), str(pair[1]))
    ended = tidemark("register", *pair, "-o", tmp_path / "r.tif", "--quiet")
    assert ended.code == 1
    assert "r.tif cannot be written: .tif does not hold int64 values" in ended.err


def test_the_scan_without_a_plug_is_named(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], plug: np.ndarray
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, plug.shape).astype(np.uint8)
    write_volume(pair[1], noise, UM, overwrite=True)
    ended = tidemark("register", *pair, "-o", tmp_path / "r.tif", "--quiet")
    assert (ended.code, ended.err.startswith(f"error: {pair[1]}: the scan looks like noise")) == (1, True)


@pytest.mark.usefixtures("believed")
def test_outputs_lie_where_the_pta_scan_does(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], plug: np.ndarray
) -> None:
    image = sitk.GetImageFromArray(plug)
    image.SetSpacing([UM / 1000] * 3)
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "pta.nrrd"))
    r, m = tmp_path / "r.nrrd", tmp_path / "m.nii.gz"
    assert tidemark("register", tmp_path / "pta.nrrd", pair[1], "-o", r, "--mask", m).code == 0
    assert [sitk.ReadImage(str(path)).GetOrigin() for path in (r, m)] == [pytest.approx((1, 2, 3))] * 2


@pytest.mark.usefixtures("believed")
def test_folders_are_matched_by_name(tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    for stain, path in zip(("pta", "ca4"), pair, strict=True):
        (tmp_path / stain).mkdir()
        for name in ("S01_1", "S02_1"):
            target = tmp_path / stain / f"{name}_{stain.upper()}{path.suffix}"
            target.write_bytes(path.read_bytes())
    (tmp_path / "pta" / "S02_1_PTA.tif").write_text("not a TIFF")
    out = tmp_path / "out"
    command = ("register", tmp_path / "pta", tmp_path / "ca4", "-o", f"{out}/", "--mask", f"{out}/m/")
    ended = tidemark(*command)
    assert (ended.code, files(out)) == (1, {"S01_1_PTA.tif", "m/S01_1_PTA.tif"})
    assert "failed" in ended.out and "S02_1_PTA" in ended.err
    again = tidemark(*command, "--skip-existing", "--json")
    states = {Path(line["scan"]).name: line["state"] for line in map(json.loads, again.out.splitlines())}
    assert states == {"S01_1_PTA.tif": "skipped", "S02_1_PTA.tif": "failed"}
    (tmp_path / "ca4" / "S02_1_CA4.nrrd").unlink()
    alone = tidemark(*command, "--overwrite")
    assert alone.code == 1 and "S02_1" in alone.err


@pytest.mark.usefixtures("believed")
def test_json_and_quiet(tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    ended = tidemark("register", *pair, "-o", tmp_path / "r.tif", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["state"], told["quality"], told["trusted"]) == ("done", 0.8, True)
    assert told["ca4"] == str(pair[1]) and told["outputs"] == {"registered": str(tmp_path / "r.tif")}
    np.testing.assert_allclose(told["matrix"], SHIFT)


@pytest.mark.usefixtures("believed")
def test_an_existing_output_is_kept_unless_asked(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    mask = tmp_path / "m.tif"
    mask.write_text("mine")
    command = ("register", *pair, "-o", tmp_path / "r.tif", "--mask", mask)
    refused = tidemark(*command)
    assert (refused.code, mask.read_text()) == (1, "mine")
    assert "--overwrite" in refused.err and not (tmp_path / "r.tif").exists()
    assert tidemark(*command, "--overwrite").code == 0
    assert read_volume(mask).array.any()


WRONG: dict[str, tuple[str, ...]] = {
    "no output": ("a.tif", "b.tif"),
    "one scan": ("a.tif", "-o", "r.tif"),
    "unknown format": ("a.tif", "b.tif", "-o", "r.png"),
    "transform of another kind": ("a.tif", "b.tif", "-o", "r.tif", "--transform", "t.mat"),
    "onto PTA": ("a.tif", "b.tif", "-o", "a.tif", "--overwrite"),
    "onto CA4+": ("a.tif", "b.tif", "-o", "b.tif", "--overwrite"),
    "two outputs in one": ("a.tif", "b.tif", "-o", "r.tif", "--mask", "r.tif"),
    "threshold": ("a.tif", "b.tif", "-o", "r.tif", "--threshold", "high"),
    "threshold nan": ("a.tif", "b.tif", "-o", "r.tif", "--threshold", "nan"),
    "metric": ("a.tif", "b.tif", "-o", "r.tif", "--metric", "ssd"),
    "apply what": ("a.tif", "b.tif", "-o", "r.tif", "--apply"),
    "voxel size": ("a.tif", "b.tif", "-o", "r.tif", "--voxel-size", "0"),
    "overwrite and skip": ("a.tif", "b.tif", "-o", "r.tif", "--overwrite", "--skip-existing"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2(
    tidemark: Tidemark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_text("scan")
    ended = tidemark("register", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert files(tmp_path) == {"a.tif", "b.tif"}


@pytest.mark.parametrize("content", [None, "nothing", "stretched"])
def test_a_bad_transform_is_one_line(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], content: str | None
) -> None:
    initial = tmp_path / "t.tfm"
    if content == "stretched":
        sitk.WriteTransform(sitk.AffineTransform((np.eye(3) * 1.1).ravel().tolist(), [0.0] * 3), str(initial))
    elif content is not None:
        initial.write_text(content)
    ended = tidemark("register", *pair, "-o", tmp_path / "r.tif", "--initial", initial, "--quiet")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1
    assert "t.tfm" in ended.err and not (tmp_path / "r.tif").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_scan_that_cannot_be_read_is_one_line(
    tidemark: Tidemark, tmp_path: Path, pair: tuple[Path, Path], which: int
) -> None:
    pair[which].write_text("no scan")
    ended = tidemark("register", *pair, "-o", tmp_path / "r.tif", "--quiet")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ") and pair[which].name in ended.err
