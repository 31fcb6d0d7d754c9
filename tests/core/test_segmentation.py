"""From a scan to mask, tidemark and numbers: in the scan's frame, either way up, or with nothing in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import SURFACE_Z, VOXEL_UM, draw_plug
from tidemark_cli.core import arrays, segmentation
from tidemark_cli.core.anatomy.ends import judge_mask
from tidemark_cli.core.anatomy.plug import MARGIN_UM, Plug, find_plug, find_plugs
from tidemark_cli.core.anatomy.surface import find_surface, last_hard
from tidemark_cli.core.errors import ContentError, DeviceError
from tidemark_cli.core.memory import Beside, disk_needed, least_memory, memory_needed
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.passes import spread
from tidemark_cli.core.network.planes import AXES, find_near
from tidemark_cli.core.network.unet import ModelInfo, UNet
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.segmentation import Segmentation, Settings, segment

ALL = Settings(device="cpu", uncertainty=True)


@pytest.fixture
def net(model: Path) -> UNet:
    return load_models(model)[0]


def volume_of(array: np.ndarray, **options: Any) -> Volume:
    return Volume(array, VOXEL_UM, "file", Path("scan.tif"), **options)


def run(array: np.ndarray, *nets: UNet, settings: Settings = ALL, **options: Any) -> Segmentation:
    return segment(volume_of(array, **options), nets, settings)


def test_everything_comes_in_the_frame_of_the_scan(plug: np.ndarray, net: UNet) -> None:
    # more air on all sides, each by another amount, than the box round the plug keeps
    scan = np.pad(plug, ((10, 24), (16, 30), (20, 12)))
    found = run(scan, net)
    assert found.mask.shape == scan.shape
    assert found.mask.dtype == np.uint8
    assert set(np.unique(found.mask)) == {0, 255}
    assert np.mean((found.mask > 0) != (scan > 150)) < 1e-3
    assert found.plug.box != tuple(slice(0, n) for n in scan.shape)
    assert found.uncertainty is not None
    assert found.probability.shape == found.uncertainty.shape == scan.shape
    assert np.mean((found.probability > 127) != (scan > 150)) < 1e-3
    assert found.uncertainty.max() <= 1  # both planes see the same grey level
    assert np.nanmedian(found.surface.height_um) == pytest.approx(
        (10 + SURFACE_Z) * VOXEL_UM, abs=VOXEL_UM / 2
    )
    assert found.surface.height_um.shape == found.surface.opening.shape == scan.shape[1:]
    assert np.isnan(found.surface.height_um[:16]).all()
    assert found.notes == ()
    assert found.seconds > 0


def test_far_from_the_plug_nothing_is_hard(plug: np.ndarray, net: UNet) -> None:
    scan = np.pad(plug, ((10, 24), (90, 30), (20, 80)))
    scan[:, :4] = 255  # a wall of the holder: brighter than bone
    settings = replace(ALL, crop=True)  # of more than the plug's box
    found = run(scan, net, settings=settings)
    assert found.plug.box == tuple(slice(0, n) for n in scan.shape)
    assert not found.probability[:, :4].any()
    assert found.uncertainty is not None
    assert not found.uncertainty[:, :4].any()
    assert found.mask.any()


def test_each_of_two_plugs_is_segmented_as_if_alone(plug: np.ndarray, net: UNet) -> None:
    alone = np.pad(plug, ((0, 0), (8, 8), (8, 8)))
    both = np.concatenate([alone, alone[::-1, :, ::-1]], axis=2)
    assert run(both, net).stats["confidence_signs"]["singleness"] == 0
    left, right = (
        segment(volume_of(both), [net], ALL, plug=replace(chosen, rival=0))
        for chosen in find_plugs(both, VOXEL_UM)
    )
    half = alone.shape[2]
    assert left.mask[:, :, :half].any() and not left.mask[:, :, half:].any()
    np.testing.assert_array_equal(right.mask[::-1, :, ::-1], left.mask)
    assert left.stats["confidence_signs"]["singleness"] == 1


def test_the_other_way_up_gives_the_same_upside_down(net: UNet) -> None:
    first, last = (run(draw_plug(bone_end=end), net) for end in ("first", "last"))
    assert (first.plug.bone.end, last.plug.bone.end) == ("first", "last")
    assert np.array_equal(last.mask[::-1], first.mask)
    assert np.array_equal(last.probability[::-1], first.probability)
    assert np.array_equal(last.surface.height_um, first.surface.height_um, equal_nan=True)
    height = first.stats["tidemark_height_mean_um"]
    assert last.stats["tidemark_height_mean_um"] == pytest.approx(height)
    assert height == pytest.approx(SURFACE_Z * VOXEL_UM, abs=VOXEL_UM / 2)


@pytest.mark.parametrize("either_end", [True, False])
def test_the_network_sees_a_scan_of_either_end_bone_first(either_end: bool) -> None:
    torch.manual_seed(0)
    net = UNet(ModelInfo(width=2, depth=2, voxel_um=VOXEL_UM, either_end=either_end)).eval()
    scans = {end: draw_plug((40, 30, 30), end) for end in ("first", "last")}
    first, last = (run(scan, net, settings=replace(ALL, bone_end=end)) for end, scan in scans.items())
    assert np.ptp(first.probability) > 1
    assert np.array_equal(last.probability[::-1], first.probability)
    assert last.uncertainty is not None and first.uncertainty is not None
    assert np.array_equal(last.uncertainty[::-1], first.uncertainty)


def test_stats_are_json_and_say_what_they_were_made_with(plug: np.ndarray, net: UNet, model: Path) -> None:
    found = run(plug, net)
    stats = json.loads(json.dumps(found.stats, allow_nan=False))
    assert set(stats) == set(segmentation.DEFINITIONS)
    voxels = int(np.count_nonzero(found.mask))
    top = np.flatnonzero(plug[:, plug.shape[1] // 2, plug.shape[2] // 2] > 50)[-1] + 1
    assert stats["hard_tissue_voxels"] == voxels > 0
    assert stats["hard_tissue_mm3"] == pytest.approx(voxels * (VOXEL_UM / 1000) ** 3, rel=1e-4)
    assert stats["hard_tissue_share"] == pytest.approx(voxels / plug.size, rel=1e-4)
    assert stats["shape_zyx"] == list(plug.shape)
    assert (stats["voxel_um"], stats["voxel_source"]) == (VOXEL_UM, "file")
    assert (stats["threshold"], stats["bone_end"]) == (0.5, "first")
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert [(m["width"], m["sha256"]) for m in stats["models"]] == [(1, sha256)]
    assert stats["thickness_median_um"] == pytest.approx((top - SURFACE_Z) * VOXEL_UM, abs=2 * VOXEL_UM)
    assert found.mask[tuple(slice(*side) for side in stats["box_zyx"])].sum() == voxels * 255


@pytest.mark.parametrize("uncertainty", [False, True])
def test_no_hard_tissue_is_no_error(plug: np.ndarray, net: UNet, uncertainty: bool) -> None:
    found = run(plug, net, settings=replace(ALL, threshold=1.0, uncertainty=uncertainty))
    assert not found.mask.any()
    assert np.isnan(found.surface.height_um).all()
    assert not found.surface.opening.any()
    assert found.stats["hard_tissue_voxels"] == 0
    assert found.stats["tidemark_columns_count"] is None
    assert found.stats["roughness_sa_um"] is None
    assert "no hard tissue" in found.notes[0]
    assert (found.uncertainty is not None) == uncertainty


def test_the_threshold_is_the_models_mean_or_what_is_asked(plug: np.ndarray, net: UNet, model: Path) -> None:
    other = load_models(model)[0]
    other.info = replace(net.info, threshold=0.2)
    assert run(plug, net, other).stats["threshold"] == pytest.approx(0.35)
    found = run(plug, net, other, settings=replace(ALL, threshold=0.7))
    assert found.stats["threshold"] == 0.7


def test_the_threshold_decides_on_the_mask_and_on_the_height(plug: np.ndarray, net: UNet) -> None:
    dim = np.where(plug > 150, 147, plug)  # a probability of 0.385
    found = run(dim, net, settings=replace(ALL, threshold=0.3))
    assert np.mean((found.mask > 0) != (plug > 150)) < 1e-3
    # from 0.385 in the last hard voxel to 0 in the next, it crosses 0.3 at 0.22 of the way
    height_um = (SURFACE_Z - 0.5 + 0.22) * VOXEL_UM
    assert np.nanmedian(found.surface.height_um) == pytest.approx(height_um, abs=0.05 * VOXEL_UM)
    assert not run(dim, net).mask.any()


def test_an_opening_and_the_thickness_do_not_move_with_the_plug(plug: np.ndarray, net: UNet) -> None:
    drilled = plug.copy()
    drilled[20:SURFACE_Z, 30:32, 36:38] = 10
    here, there = run(drilled, net), run(np.pad(drilled, ((10, 24), (16, 30), (20, 12))), net)
    assert here.surface.opening[30:32, 36:38].all()
    assert np.array_equal(there.surface.opening[16:-30, 20:-12], here.surface.opening)
    for key in ("openings_count", "openings_area_percent", "thickness_median_um", "thickness_sd_um"):
        assert there.stats[key] == pytest.approx(here.stats[key]) != 0


def test_bone_under_half_of_the_sample_is_doubted(plug: np.ndarray, net: UNet) -> None:
    half = plug.copy()
    half[:SURFACE_Z, :, 32:] = 0
    # columns 8 to 31 of 8 to 56 that hold tissue: 0.49, (0.49 - 0.2) / (0.6 - 0.2)
    assert run(half, net).stats["confidence_signs"]["coverage"] == pytest.approx(0.72, abs=0.02)


def test_a_film_on_the_cartilage_is_not_left_in_the_mask(plug: np.ndarray, net: UNet) -> None:
    film = plug.copy()
    film[72:75, 20:40, 24:44] = 200
    assert run(film, net).probability[73, 30, 34] > 250
    assert np.array_equal(run(film, net).mask, run(plug, net).mask)


def wrong_guess(array: np.ndarray, voxel_um: float, bone_end: str) -> Plug:
    return find_plug(array, voxel_um, "last" if bone_end == "auto" else bone_end)


def test_the_mask_overrules_the_guess_of_the_bone_end(
    plug: np.ndarray, net: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = run(plug, net)
    monkeypatch.setattr(segmentation, "find_plug", wrong_guess)
    found = run(plug, net)
    assert found.plug.bone.end == found.stats["bone_end"] == "first"
    assert np.array_equal(found.surface.height_um, truth.surface.height_um, equal_nan=True)
    assert "first" in found.notes[0]
    assert found.plug.bone.confidence > 0.9  # the mask's, not the guess's
    assert run(plug, net, settings=replace(ALL, bone_end="last")).plug.bone.end == "last"
    net.info = replace(net.info, either_end=False)  # it was shown the slices the wrong way up
    assert run(plug, net).plug.bone.end == "last"


@pytest.mark.parametrize("either_end", [True, False])
def test_hard_tissue_at_another_end_than_told_is_doubted(
    either_end: bool, plug: np.ndarray, net: UNet
) -> None:
    net.info = replace(net.info, either_end=either_end)
    assert run(plug, net).stats["confidence_signs"]["agreement"] == 1
    found = run(plug, net, settings=replace(ALL, bone_end="last"))
    if either_end:  # other networks are shown the slices upside down, and may find anything
        assert found.stats["confidence_signs"]["agreement"] == found.stats["confidence"] == 0
        assert "see --bone-end" in found.notes[0]
    seen = judge_mask(found.mask, plug, found.plug.tissue_level)
    assert seen is not None
    assert found.stats["confidence_signs"]["agreement"] == (found.stats["bone_end"] == seen.end)


@pytest.mark.parametrize("start", [30, SURFACE_Z + 10], ids=["some bone in it", "no bone in it"])
def test_a_crop_at_the_wrong_end_is_cut_again(
    start: int, plug: np.ndarray, net: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crop(shape: tuple[int, ...], plug: Plug) -> tuple[slice, ...]:
        rows = slice(0, 60) if plug.bone.end == "first" else slice(start, shape[0])
        return rows, slice(5, shape[1]), slice(6, 60)

    monkeypatch.setattr(segmentation, "crop_box", crop)
    truth = run(plug, net, settings=replace(ALL, crop=True))
    assert truth.plug.box == (slice(0, 60), slice(5, plug.shape[1]), slice(6, 60))
    assert np.mean((truth.mask > 0) != (plug > 150)) < 0.1
    monkeypatch.setattr(segmentation, "find_plug", wrong_guess)
    found = run(plug, net, settings=replace(ALL, crop=True))
    assert found.plug.box == truth.plug.box
    assert np.array_equal(found.mask, truth.mask)


def test_a_leaning_plug_is_cut_at_its_own_bone_after_a_wrong_guess(
    plug: np.ndarray, net: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaning = np.stack([np.roll(plane, z // 10, axis=1) for z, plane in enumerate(plug)])
    right = find_plug(leaning, VOXEL_UM, "first")
    assert right.centre_yx != find_plug(leaning, VOXEL_UM, "last").centre_yx
    monkeypatch.setattr(segmentation, "find_plug", wrong_guess)
    found = run(leaning, net, settings=replace(ALL, crop=True)).plug
    assert (found.bone.end, found.centre_yx) == ("first", right.centre_yx)


@pytest.mark.parametrize("bone_end", ["first", "last"])
def test_an_offset_moves_mask_surface_and_numbers_and_no_confidence(net: UNet, bone_end: str) -> None:
    scan = np.pad(draw_plug(bone_end=bone_end), ((7, 20), (16, 4), (4, 12)))
    there = run(scan, net)
    for voxels in (2, -2):
        found = run(scan, net, settings=replace(ALL, offset_um=voxels * VOXEL_UM))
        moved = found.surface.height_um - there.surface.height_um
        np.testing.assert_allclose(moved[np.isfinite(moved)], voxels * VOXEL_UM, atol=1e-3)
        way = 1 if bone_end == "first" else -1
        tops = [last_hard(each.mask[::way]) for each in (there, found)]
        np.testing.assert_array_equal(tops[1] - tops[0], np.where(np.isfinite(moved), voxels, 0))
        shifts = {"tidemark_height_mean_um": 1, "thickness_median_um": -1, "tidemark_depth_mean_um": -1}
        for key, sign in shifts.items():
            expected = there.stats[key] + sign * voxels * VOXEL_UM
            assert found.stats[key] == pytest.approx(expected, abs=0.1), key
        assert found.stats["hard_tissue_voxels"] == np.count_nonzero(found.mask)
        for key in ("confidence", "confidence_signs", "roughness_sq_um", "openings_count"):
            assert found.stats[key] == pytest.approx(there.stats[key], abs=1e-3), key
        assert (found.stats["offset_um"], there.stats["offset_um"]) == (voxels * VOXEL_UM, 0)
        np.testing.assert_array_equal(found.probability_box, there.probability_box)


def test_with_an_offset_an_empty_mask_stays_empty_and_air_air(plug: np.ndarray, net: UNet) -> None:
    nothing = run(plug, net, settings=replace(ALL, threshold=1.0, offset_um=VOXEL_UM))
    assert not nothing.mask.any() and nothing.stats["offset_um"] == VOXEL_UM
    thin = plug.copy()
    thin[SURFACE_Z + 2 :] = 0  # 80 µm of cartilage
    found = run(thin, net, settings=replace(ALL, offset_um=100))
    assert found.mask[SURFACE_Z + 1].any() and not found.mask[SURFACE_Z + 2 :].any()
    assert np.nanmax(found.surface.height_um) == pytest.approx((SURFACE_Z + 2) * VOXEL_UM, abs=0.01)
    assert found.stats["thickness_median_um"] == pytest.approx(0, abs=0.01)


def test_a_single_image(plug: np.ndarray, net: UNet) -> None:
    middle = plug.shape[1] // 2
    image = plug[:, middle : middle + 1]
    found = run(image, net, is_image=True)
    assert found.mask.shape == image.shape
    assert np.mean((found.mask > 0) != (image > 150)) < 5e-3
    assert found.surface.height_um.shape == (1, plug.shape[2])
    assert np.nanmedian(found.surface.height_um) == pytest.approx(SURFACE_Z * VOXEL_UM, abs=VOXEL_UM / 2)
    assert found.stats["hard_tissue_mm3"] is None
    json.dumps(found.stats, allow_nan=False)


def slices_near(found: Segmentation) -> dict[str, np.ndarray]:
    """Plane to (slices,) bool, whether a slice of the box comes near the plug."""
    outline = found.plug.outline_view()
    shape = tuple(side.stop - side.start for side in found.plug.box)
    near = find_near(outline, shape, MARGIN_UM / VOXEL_UM)
    whole = [near.any(axis=(0, 3 - axis)) for axis in AXES.values()]
    return {
        plane: cells[np.arange(shape[axis]) * len(cells) // shape[axis]]
        for (plane, axis), cells in zip(AXES.items(), whole, strict=True)
    }


def test_the_numbers_tell_what_was_predicted(plug: np.ndarray, net: UNet) -> None:
    both = run(plug, net, net)
    near = slices_near(both)
    assert all(some.mean() > 0.95 for some in near.values())  # the box has this margin, too
    assert both.stats["slices_predicted"] == {plane: 2 * some.sum() for plane, some in near.items()}
    third = near["zy"][spread(near["zy"].size, 3)]
    found = run(plug, net, settings=replace(ALL, planes=("zy",), step=3))
    assert found.stats["slices_predicted"] == {"zx": 0, "zy": third.sum()}
    assert run(plug[:, 20:21], net).stats["slices_predicted"] == {"zx": 1, "zy": 0}


@pytest.mark.parametrize("planes", [None, ("zx",), ("zy",)])
def test_progress_counts_the_slices_of_the_planes_asked_for(
    plug: np.ndarray, net: UNet, planes: tuple[str, ...] | None
) -> None:
    calls: list[tuple[int, int]] = []
    volume = Volume(plug, VOXEL_UM, "file", Path("scan.tif"))
    found = segment(volume, [net], replace(ALL, planes=planes), lambda *c: calls.append(c))
    total = sum(some.sum() for plane, some in slices_near(found).items() if plane in (planes or AXES))
    assert calls[-1] == (total, total)
    assert {t for _, t in calls} == {total}


def test_a_scan_without_a_voxel_size_is_believed_less(plug: np.ndarray, net: UNet) -> None:
    told = run(plug, net)
    assumed = segment(replace(volume_of(plug), voxel_source="default"), [net], ALL)
    assert told.stats["confidence_signs"]["scale"] == 1
    assert assumed.stats["confidence"] == 0.6
    assert assumed.notes == ()  # no warning
    assert np.array_equal(assumed.mask, told.mask)


def test_the_model_inside_the_package_finds_the_tidemark_of_a_phantom() -> None:
    plug = draw_phantom(1, (256, 256, 256))
    volume = Volume(plug.scan, plug.voxel_um, "option", Path("plug"))
    found = segment(volume, load_models(None), Settings(device="cpu")).surface.height_um
    truth = find_surface(plug.mask, plug.voxel_um).height_um
    assert np.isfinite(found[np.isfinite(truth)]).mean() > 0.95
    assert np.nanmedian(abs(found - truth)) < 2 * plug.voxel_um


def test_what_is_no_plug_is_refused(net: UNet) -> None:
    with pytest.raises(ContentError, match=r"scan\.tif: the scan is constant"):
        run(np.full((40, 40, 40), 7, np.uint8), net)


def test_a_missing_device_is_refused_before_the_work(net: UNet, plug: np.ndarray) -> None:
    with pytest.raises(DeviceError):
        run(plug, net, settings=replace(ALL, device="cuda:99"))


def test_memory_is_that_of_the_scan_its_results_and_the_program() -> None:
    shape = (1500, 1008, 1008)
    size = 1500 * 1008 * 1008
    assert memory_needed(shape, 1, Beside()) == 3 * size + 2**30
    assert memory_needed(shape, 4, Beside(uncertainty=True)) == 7 * size + 2**30
    assert memory_needed(shape, 1, Beside(copies=1)) == 4 * size + 2**30
    assert memory_needed(shape, 1, Beside(models=2, uncertainty=True)) == 6 * size + 2**30


@pytest.mark.parametrize(("planes", "step"), [(None, 1), (None, 3), (("zy",), 2)])
def test_over_the_disk_everything_is_the_same(
    plug: np.ndarray,
    net: UNet,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    planes: tuple[Any, ...] | None,
    step: int,
) -> None:
    monkeypatch.setattr(arrays, "SEEN_BYTES", 4096)
    monkeypatch.setattr(arrays, "SLAB_BYTES", 2**16)
    other = load_models(model)[0]
    other.info = replace(net.info, normalisation={"kind": "window", "low": 1.0, "high": 99.0})
    drilled = np.pad(plug, ((10, 24), (16, 30), (20, 12)))[::-1].astype(np.uint16) * 7
    drilled[60:80, 50:52, 56:58] = 10
    settings = replace(ALL, planes=planes, step=step, offset_um=20.0)
    whole = run(drilled, net, other, settings=settings)
    with arrays.reading_into(arrays.Room(0, 2, tmp_path)):
        spooled = arrays.settled(drilled)
    found = run(spooled, net, other, settings=settings)
    assert arrays.on_disk(found.mask) and arrays.on_disk(found.probability)
    assert not list(tmp_path.iterdir())
    for name in ("mask", "probability", "uncertainty"):
        assert getattr(whole, name).any()
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    np.testing.assert_array_equal(found.surface.height_um, whole.surface.height_um)
    np.testing.assert_array_equal(found.surface.opening, whole.surface.opening)
    assert found.stats == whole.stats


def test_over_the_disk_two_slices_are_enough(plug: np.ndarray, net: UNet, tmp_path: Path) -> None:
    thin = plug[:, 50:52]
    with arrays.reading_into(arrays.Room(0, 2, tmp_path)):
        spooled = arrays.settled(thin)
    whole, found = (run(array, net, settings=ALL) for array in (thin, spooled))
    assert whole.mask.any()
    np.testing.assert_array_equal(found.mask, whole.mask)


def test_voxels_too_coarse_are_told_with_the_name_of_the_scan(plug: np.ndarray, net: UNet) -> None:
    volume = Volume(plug, 20 * VOXEL_UM, "option", Path("plug.tif"))
    with pytest.raises(ContentError, match=r"plug\.tif: voxels of .* are 20 times as wide"):
        segment(volume, [net], ALL)


def test_over_the_disk_memory_is_that_of_the_program_and_a_slice_or_the_maps() -> None:
    assert least_memory((1000, 500, 800), 1) == 2**29 + 320 * 1000 * 800
    assert least_memory((1000, 500, 800), 2.5) == 2**29 + 320 * 2500 * 2000
    assert least_memory((10, 500, 800), 0.5) == 2**29 + 100 * 500 * 800


def test_on_disk_lie_a_copy_of_the_scan_and_what_is_made_of_it() -> None:
    shape = (10, 10, 10)
    assert disk_needed(shape, 2, Beside(), stride=1) == 1000 + 3000
    assert disk_needed(shape, 1, Beside(models=2, uncertainty=True), stride=1) == 5000 + 2000
    assert disk_needed(shape, 2, Beside(), stride=3) == 1000 + 400 * 3
    assert disk_needed(shape, 1, Beside(), stride=9) == 2000
    assert disk_needed(shape, 1, Beside(copies=2, uncertainty=True), stride=3) == 5000
