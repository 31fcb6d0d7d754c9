"""Tissue drawn from a plain recipe is where the recipe puts it."""

from dataclasses import replace

import numpy as np
import pytest

from tidemark_cli.core.phantoms.anatomy import Anatomy, Stain
from tidemark_cli.core.phantoms.texture import make_grid
from tidemark_cli.core.phantoms.tissue import Tissue

SHAPE = (96, 48, 56)

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


def test_a_tilted_plug_has_a_tilted_tidemark():
    heights, _ = flat_tissue(tilt=(0.0, 0.5)).heights(make_grid(SHAPE, 3.2))
    np.testing.assert_allclose(np.diff(heights[0], axis=1), 0.5 * 3.2, rtol=1e-3)


def test_a_sawn_sample_ends_at_its_sides_and_bends_along_the_second() -> None:
    sawn = flat_tissue(sides_um=(40.0, 60.0), wall_roughness_um=0.0, lean=(0.0, 0.0), pores=9.0)
    grid = make_grid(SHAPE, 3.2)
    hard = sawn.draw(grid)[1].any(0)
    y, x = np.abs(grid.y)[:, None] < 40, np.abs(grid.x)[None] < 60
    np.testing.assert_array_equal(hard, y & x)
    turned = flat_tissue(sides_um=(40.0, 60.0), wall_roughness_um=0.0, lean=(0.0, 0.0), turn=np.pi / 2)
    assert turned.draw(make_grid(SHAPE, 3.2))[1].any(0)[:, 24:-24].any(1).sum() == 38  # within 60 µm
    bent, surface = flat_tissue(bend_um=500.0).heights(grid)
    np.testing.assert_allclose(bent[0, 0], 100 + np.sqrt(500**2 - grid.x**2) - 500, rtol=1e-4)
    np.testing.assert_allclose(np.diff(bent[0], axis=0), 0, atol=1e-3)
    assert surface.shape == bent.shape
