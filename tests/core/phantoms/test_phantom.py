"""Phantoms: the drawn truth is the truth."""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from tidemark_cli.core.phantoms.phantom import Section, draw_phantom, draw_slice
from tidemark_cli.core.phantoms.scanner import Processing, Scanner
from tidemark_cli.core.phantoms.texture import Grid, make_grid
from tidemark_cli.core.phantoms.tissue import Tissue
from tidemark_cli.core.registration.transform import write_transform

SHAPE = (96, 48, 56)


def sections(
    count: int, shape: tuple[int, int], thick: bool
) -> Iterator[tuple[Section, np.random.Generator]]:
    """Draw sections along the wall or elsewhere, each with the generator that goes on drawing its slice."""
    for seed in range(1000):
        rng = np.random.default_rng((3, seed))
        section = Section.draw(rng, shape)
        if section.thick == thick:
            yield section, rng
            count -= 1
        if not count:
            return


def test_one_seed_gives_one_phantom_on_any_number_of_cores(monkeypatch):
    first = draw_phantom(7, SHAPE)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    second = draw_phantom(7, SHAPE)
    np.testing.assert_array_equal(first.scan, second.scan)
    np.testing.assert_array_equal(first.mask, second.mask)
    assert (draw_phantom(8, SHAPE).mask != first.mask).any()


def test_a_plug_of_a_seed_stays_the_same():
    drawn = draw_phantom(7, SHAPE)
    assert hashlib.sha256(drawn.mask.tobytes()).hexdigest()[:16] == "c8c17b8ab0ee5af7"
    # the grey levels go through a blur and a matrix product, whose last digits depend on the processor
    assert float(drawn.scan.mean()) == pytest.approx(24.55568, abs=0.01)


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


def widths_mm(tissue: np.ndarray, voxel_um: float) -> tuple[float, float]:
    """Sides of the smallest rectangle round what is seen of a sample along Z, the shorter first."""
    points = cv2.findNonZero(tissue.any(axis=0).astype(np.uint8))
    low, high = sorted(cv2.minAreaRect(points)[1])
    return (low + 1) * voxel_um / 1000, (high + 1) * voxel_um / 1000


@pytest.mark.parametrize(
    ("kind", "shape", "short_mm", "long_mm"),
    [
        ("wide", (64, 100, 100), (3.6, 4.6), (3.6, 4.6)),
        ("block", (64, 110, 110), (2.7, 3.5), (3.7, 4.5)),
        ("slab", (90, 100, 300), (1.9, 3.3), (9.8, 14.4)),
        ("slab", (90, 100, 120), (1.9, 3.3), (5.9, 6.4)),  # cut off by a field of view 6 mm wide
    ],
)
def test_other_samples_are_as_wide_as_they_are_told_to_be(kind, shape, short_mm, long_mm):
    drawn = draw_phantom(1, shape, 50.0, kind=kind)
    short, long = widths_mm(drawn.mask > 0, 50.0)
    assert short_mm[0] < short < short_mm[1] and long_mm[0] < long < long_mm[1]


def test_the_tidemark_of_a_slab_falls_to_both_ends():
    drawn = draw_phantom(3, (90, 80, 240), 50.0, kind="slab")
    top = 90 - (drawn.mask[::-1] > 0).argmax(0)[30:50]  # (rows, X), along the middle
    middle = np.median(top[:, 110:130])
    ends = np.median(top[:, 30:40]), np.median(top[:, 200:210])
    # 4 mm from the middle a circle with a radius of 10 to 25 mm lies 322 to 835 µm lower, tilt left out
    assert 5 < middle - np.mean(ends) < 18


def test_hard_phantoms_are_others():
    assert (draw_phantom(7, SHAPE, hard=True).scan != draw_phantom(7, SHAPE).scan).any()


def test_a_quarter_of_the_slices_lie_along_the_wall():
    thick = 0
    for seed in range(200):
        section = Section.draw(np.random.default_rng(seed), (96, 240))
        off_axis = abs(section.centre_um[0]) / section.anatomy.radius_um
        assert 0.8 <= off_axis <= 1.05 if section.thick else off_axis <= 0.95
        thick += section.thick
    assert 30 < thick < 70


@pytest.mark.parametrize(("thick", "least", "most"), [(False, 0.8, 1.1), (True, 0.2, 0.7)])
def test_slices_along_the_wall_show_less_tissue_than_their_overview(thick: bool, least: float, most: float):
    shares = []
    for section, rng in sections(20, (96, 240), thick):
        scan, _, overview = section.scan(rng, (96, 240))
        tissue = 0.4 * np.percentile(overview, 95)
        shares.append((scan > tissue).mean() / (overview > tissue).mean())
    assert least < np.median(shares) < most


@pytest.mark.parametrize("thick", [False, True])
def test_slices_along_the_wall_are_blurred_across_their_thickness(thick: bool):
    scanner = Scanner(1, 0, 0, 0, 0, 0, low=0, high=255, gamma=1)  # it blurs by one voxel, and no more
    apart = []
    for section, rng in sections(4, (96, 64), thick):
        plain = replace(section, scanner=scanner, processing=Processing("none", 0), ratio=1.0)
        again = copy.deepcopy(rng)
        scan, hard, _ = plain.scan(rng, (96, 64))
        grid = make_grid((96, 1, 64), plain.voxel_um, plain.centre_um)
        offsets, weights = ((-(3**0.5), 0, 3**0.5), (1 / 6, 2 / 3, 1 / 6)) if thick else ((0,), (1,))
        planes = Grid(grid.z, (grid.y + plain.voxel_um * np.array(offsets)).astype(np.float32), grid.x)
        tissue, truth, _ = Tissue(again, planes.extent, plain.anatomy, plain.stain).draw(planes)
        middle = len(offsets) // 2
        np.testing.assert_array_equal(hard, truth[:, middle])
        mean = np.average(tissue, axis=1, weights=weights).astype(np.float32)
        blurred, sharp = (
            scanner.scan(again, levels[:, None], grid, np.zeros(9))[:, 0]
            for levels in (mean, tissue[:, middle])
        )
        np.testing.assert_allclose(scan, blurred, atol=0.51)
        apart.append(np.abs(scan - sharp).mean())
    assert max(apart) > 1 if thick else max(apart) < 0.51
