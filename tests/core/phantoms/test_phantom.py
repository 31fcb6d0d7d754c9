"""Phantoms: the drawn truth is the truth."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from tidemark_cli.core.phantoms import phantom as phantoms
from tidemark_cli.core.phantoms.anatomy import Anatomy, Stain
from tidemark_cli.core.phantoms.phantom import draw_phantom, draw_slice
from tidemark_cli.core.phantoms.scanner import Processing, Scanner, ring_profile
from tidemark_cli.core.phantoms.texture import make_grid
from tidemark_cli.core.phantoms.tissue import Tissue
from tidemark_cli.core.registration.transform import write_transform

SHAPE = (96, 48, 56)
CLEAN = Scanner(blur=0, noise=0, noise_blur=0, ring=0, hardening=0, shading=0, low=0, high=255, gamma=1)


# a stain of two grey levels: cartilage of 200 down to the tidemark, bone of 100
PLAIN = {
    "superficial": 200.0, "middle": 200.0, "deep": 200.0, "bone": 100.0, "calcified": 1.0, "soak_spread": 0.0,
    "crest": 0.0, "lost": 0.0, "lamina": 0.0, "rim": 0.0, "cavity_rim": 0.0, "crush": 0.0, "chondron": 0.0,
    "skin": 0.0, "streak": 0.0, "blotch": 0.0, "grain": 0.0, "void": 0.0,
}  # fmt: skip


def flat_tissue(stain: dict | None = None, **changes) -> Tissue:
    rng = np.random.default_rng(0)
    flat = {
        "tidemark_um": 100.0,
        "surface_um": 250.0,
        "tilt": (0.0, 0.0),
        "curvature": 0.0,
        "roughness_um": 0.0,
    } | dict.fromkeys(("scallops_um", "terraces_um", "cleft_um"), 0.0)
    solid = {"radius_um": 1000.0, "breach": -9.0, "plate_um": 5000.0}
    anatomy = replace(Anatomy.draw(rng, 300, 160), **(flat | solid | changes))
    return Tissue(rng, make_grid(SHAPE, 3.2).extent, anatomy, replace(Stain.draw(rng), **(stain or {})))


def test_the_hard_tissue_of_a_flat_plug_ends_at_its_tidemark():
    _, hard, _ = flat_tissue().draw(make_grid(SHAPE, 3.2))
    below = int(100 / 3.2 - 0.5) + 1  # voxel centres at (k + 0.5) * 3.2 below 100 µm
    assert hard[:below].mean() > 0.98  # all but vascular channels
    assert not hard[below:].any()


@pytest.mark.parametrize("shape", [1.5, 2.0, 3.0])
def test_stain_is_whole_down_to_the_tidemark_and_half_gone_at_its_depth(shape):
    tissue = flat_tissue(PLAIN | {"soak_um": 24.0, "soak_shape": shape}, pores=9.0)
    grid = make_grid(SHAPE, 3.2)
    pta, hard, _ = tissue.draw(grid)
    level = np.median(pta, axis=(1, 2))
    assert hard[30].all() and not hard[31].any()  # 97.6 and 100.8 µm; the tidemark lies at 100 µm
    np.testing.assert_allclose(level[31:60], 200, atol=0.5)
    depth = 100 - grid.z[:31]
    np.testing.assert_allclose(level[:31], 100 + 100 * 0.5 ** ((depth / 24) ** shape), atol=0.5)
    assert np.interp(76, grid.z, level) == pytest.approx(150, abs=1)


def test_the_pta_edge_is_where_the_grey_level_falls_most_steeply():
    tissue = flat_tissue(PLAIN | {"soak_um": 30.0, "soak_shape": 2.0}, pores=9.0)
    grid = make_grid((300, 4, 4), 0.5)
    level = np.median(tissue.draw(grid)[0], axis=(1, 2))
    steepest = 100 - grid.z[np.diff(level).argmax()]
    np.testing.assert_allclose(tissue.edge_depth(grid), 30 * np.sqrt(0.5 / np.log(2)))
    assert steepest == pytest.approx(30 * np.sqrt(0.5 / np.log(2)), abs=0.6)


def test_a_cleft_parts_cartilage_from_bone_and_takes_no_bone():
    whole, torn = (
        flat_tissue(PLAIN, cleft_um=gap, cleft_above_um=0.0, cleft_cover=-99.0, pores=9.0)
        for gap in (0.0, 30.0)
    )
    grid = make_grid(SHAPE, 3.2)
    (pta, hard, _), (before, same, _) = torn.draw(grid), whole.draw(grid)
    np.testing.assert_array_equal(hard, same)
    np.testing.assert_array_equal(pta[:31], before[:31])
    assert (pta[31:40] < 10).all()  # 100.8 to 126.4 µm: air
    np.testing.assert_array_equal(pta[41:], before[41:])


def test_scallops_and_terraces_shape_the_tidemark():
    grid = make_grid(SHAPE, 3.2)
    heights, _ = flat_tissue(terraces_um=40.0).heights(grid)
    low, high = heights.min(), heights.max()
    assert high - low == pytest.approx(40, abs=1e-3)
    assert ((heights == low) | (heights == high)).mean() > 0.8  # steps, no slopes
    scalloped, _ = flat_tissue(scallops_um=40.0).heights(grid)
    assert scalloped.min() == pytest.approx(100 - 0.8 * 40, abs=0.5)  # |f| - 0.8, f through 0


def test_each_kind_of_processing_takes_detail_away():
    rng = np.random.default_rng(0)
    grey = np.full((64, 64), 100, np.float32) + 5 * rng.standard_normal((64, 64)).astype(np.float32)
    for kind in Processing.KINDS[1:]:
        out = Processing(kind, 0.8).apply(grey)
        assert out.shape == grey.shape and out.dtype == np.float32
        assert out.std() < 0.7 * grey.std(), kind
        assert out.mean() == pytest.approx(100, abs=0.5)
    np.testing.assert_allclose(Processing("none", 0.8).apply(grey), np.rint(grey))


def test_hard_phantoms_have_what_easy_ones_lack():
    def drawn(hard: bool) -> list:
        rng = np.random.default_rng(1)
        return [(Anatomy.draw(rng, 2400, 1400, odd=hard), Stain.draw(rng, wide=hard)) for _ in range(60)]

    easy, odd = drawn(False), drawn(True)
    assert not any(a.cleft_um or a.scallops_um or a.terraces_um for a, _ in easy)
    assert any(a.cleft_um for a, _ in odd) and any(a.scallops_um for a, _ in odd)
    assert min(a.plate_um for a, _ in odd) < 60 and max(a.plate_um for a, _ in odd) > 700
    depths = [s.soak_um for _, s in odd]
    assert 15 < np.median(depths) < 30 and min(depths) == 1 and max(depths) <= 45
    assert any(s.clot_threshold < 2 for _, s in odd) and not any(s.clot_threshold < 2 for _, s in easy)
    assert (draw_phantom(7, SHAPE, hard=True).scan != draw_phantom(7, SHAPE).scan).any()


def test_a_tilted_plug_has_a_tilted_tidemark():
    heights, _ = flat_tissue(tilt=(0.0, 0.5)).heights(make_grid(SHAPE, 3.2))
    np.testing.assert_allclose(np.diff(heights[0], axis=1), 0.5 * 3.2, rtol=1e-3)


def test_one_seed_gives_one_phantom_on_any_number_of_cores(monkeypatch):
    first = draw_phantom(7, SHAPE)
    monkeypatch.setattr(phantoms.os, "cpu_count", lambda: 1)
    second = draw_phantom(7, SHAPE)
    np.testing.assert_array_equal(first.scan, second.scan)
    np.testing.assert_array_equal(first.mask, second.mask)
    assert (draw_phantom(8, SHAPE).mask != first.mask).any()


def test_phantoms_have_cartilage_above_hard_tissue():
    below = []
    for seed in range(6):
        plug = draw_phantom(seed, SHAPE)
        assert plug.scan.dtype == plug.mask.dtype == np.uint8
        assert plug.scan.shape == plug.mask.shape == SHAPE
        assert set(np.unique(plug.mask)) == {0, 255}
        share = (plug.mask > 0).mean(axis=(1, 2))
        assert share[-10:].max() == 0
        below.append(share[:10].mean())
    assert np.mean(below) > 0.2  # a single one may show mostly marrow there


def test_another_scan_of_the_same_plug_differs_in_its_noise_only():
    first, second = draw_phantom(2, SHAPE), draw_phantom(2, SHAPE, scan_number=1)
    np.testing.assert_array_equal(first.mask, second.mask)
    difference = first.scan.astype(float) - second.scan
    assert 0 < np.abs(difference).mean() < 15


def test_half_the_voxel_size_shows_the_same_plug():
    coarse = draw_phantom(3, SHAPE).mask > 0
    fine = draw_phantom(3, tuple(2 * n for n in SHAPE), 1.6).mask > 0
    blocks = fine.reshape(SHAPE[0], 2, SHAPE[1], 2, SHAPE[2], 2).mean(axis=(1, 3, 5)) > 0.5
    assert (coarse & blocks).sum() / (coarse | blocks).sum() > 0.97


def test_the_true_transform_takes_ca4_onto_pta(tmp_path):
    plug = draw_phantom(4, (128, 64, 64), pair=True)
    write_transform(tmp_path / "true.tfm", plug.matrix)
    transform = sitk.ReadTransform(str(tmp_path / "true.tfm"))
    images = [sitk.GetImageFromArray(v) for v in (plug.scan, plug.ca4)]
    for image in images:
        image.SetSpacing([0.0032] * 3)
    resampled = sitk.Resample(images[1], images[0], transform, sitk.sitkLinear, -1.0, sitk.sitkFloat32)
    moved = sitk.GetArrayFromImage(resampled)
    seen = moved > 5  # the remounted field of view leaves parts out
    assert seen.mean() > 0.1
    hard = moved > 160
    truth = plug.mask > 0
    aligned = (hard & truth & seen).sum() / ((hard | truth) & seen).sum()
    assert aligned > 0.85
    assert aligned > ((plug.ca4 > 160) & truth).sum() / ((plug.ca4 > 160) | truth).sum() + 0.1
    assert abs(np.linalg.det(plug.matrix[:3, :3]) - 1) < 1e-6


def test_slices_are_fresh_reproducible_and_in_range():
    scan, hard, overview = draw_slice((0, 1), (64, 48))
    again, _, _ = draw_slice((0, 1), (64, 48))
    other, _, _ = draw_slice((0, 2), (64, 48))
    assert scan.shape == hard.shape == (64, 48)
    np.testing.assert_array_equal(scan, again)
    assert (scan != other).any()
    assert overview.shape == (16, 12)
    for levels in (scan, overview):
        assert np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 255


@pytest.mark.parametrize(("along_wall", "least", "most"), [(0.0, 0.9, 1.1), (1.0, 0.2, 0.7)])
def test_slices_along_the_wall_show_less_tissue_than_their_overview(
    monkeypatch: pytest.MonkeyPatch, along_wall: float, least: float, most: float
):
    monkeypatch.setattr(phantoms, "_ALONG_WALL", along_wall)
    shares = []
    for i in range(30):
        scan, _, overview = draw_slice((3, i), (96, 240))
        tissue = 0.4 * np.percentile(overview, 95)
        shares.append((scan > tissue).mean() / (overview > tissue).mean())
    assert least < np.median(shares) < most


@pytest.mark.parametrize("along_wall", [0.0, 1.0])
def test_slices_along_the_wall_are_blurred_across_their_thickness(
    monkeypatch: pytest.MonkeyPatch, along_wall: float
):
    monkeypatch.setattr(phantoms, "_ALONG_WALL", along_wall)
    blurred, hard, _ = draw_slice((5, 6), (96, 64))
    monkeypatch.setattr(phantoms, "_ACROSS_WEIGHTS", (0, 1, 0))
    sharp, same, _ = draw_slice((5, 6), (96, 64))
    assert 0.1 < hard.mean() < 0.9
    np.testing.assert_array_equal(hard, same)
    if along_wall:
        assert 0.1 < np.abs(blurred - sharp).mean() < 10
    else:
        np.testing.assert_array_equal(blurred, sharp)


def test_a_scanner_without_artefacts_changes_nothing():
    grid = make_grid((4, 5, 6), 3.2)
    tissue = np.random.default_rng(0).uniform(0, 255, grid.shape).astype(np.float32)
    np.testing.assert_allclose(
        CLEAN.scan(np.random.default_rng(0), tissue, grid, np.zeros(20)), tissue, atol=1e-3
    )


def test_the_window_and_gamma_by_hand():
    grid = make_grid((1, 1, 3), 3.2)
    tissue = np.array([[[50.0, 100.0, 300.0]]], np.float32)
    scanner = replace(CLEAN, low=50, high=150, gamma=2)
    np.testing.assert_allclose(
        scanner.scan(np.random.default_rng(0), tissue, grid, np.zeros(9)), [[[0, 63.75, 255]]], atol=1e-3
    )


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_noise_has_the_standard_deviation_asked_for(blur):
    grid = make_grid((40, 40, 40), 3.2)
    scanner = replace(CLEAN, noise=6, noise_blur=blur)
    scan = scanner.scan(np.random.default_rng(0), np.full(grid.shape, 128, np.float32), grid, np.zeros(99))
    assert scan.std() == pytest.approx(6, rel=0.05)


def test_rings_depend_on_the_distance_from_the_axis_alone():
    grid = make_grid((2, 9, 9), 3.2)
    rings = ring_profile(np.random.default_rng(1), 20)
    scan = replace(CLEAN, ring=5).scan(
        np.random.default_rng(0), np.full(grid.shape, 100, np.float32), grid, rings
    )
    np.testing.assert_allclose(scan, scan.transpose(0, 2, 1))
    np.testing.assert_allclose(scan[0], scan[1])
    assert scan[0, 4, 6] == pytest.approx(100 + 5 * rings[2], abs=1e-3)
