"""The second family of test plugs: what it draws is what its recipe says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.second_family import (
    KINDS,
    PROCESSING,
    Plug,
    Recipe,
    coarser,
    draw_plug,
    draw_recipe,
    plane_of,
    processed,
    render,
    soak_map,
    spectral_field,
    tidemark_map,
)

SHAPE, VOXEL_UM = (96, 64, 72), 8.0  # of plugs drawn from a recipe
SMALL, SMALL_UM = (144, 64, 72), 4.8  # of plugs drawn from a seed: the widest voxel that is drawn at once
SAME_MASK = ("easy", "crest_lost", "voids", "cleft", "clots")


def flat_recipe(**changes: object) -> Recipe:
    """A straight elliptic plug with a level tidemark and solid bone."""
    plain = {
        "tilt": (0.0, 0.0), "lean": (0.0, 0.0), "radii": (0.8, 0.7), "bone_share": 0.4, "air_share": 0.1,
        "bow_um": 0.0, "rough_um": 0.0, "tongues": 0, "overhang_um": 0.0, "wall_um": 0.0, "chips": 0,
        "sawn_um": -1.0, "marrow_fraction": 0.0, "canals": 0, "channels": 0, "pores": 0,
    }  # fmt: skip
    return replace(draw_recipe(np.random.default_rng(0)), **{**plain, **changes})


def hard_columns(plug: Plug) -> tuple[np.ndarray, np.ndarray]:
    """Return which columns (Y, X) have hard tissue, and the first plane above it."""
    hard = plug.mask > 0
    return hard.any(axis=0), hard.shape[0] - hard[::-1].argmax(axis=0)


def band(plug: Plug, start: int) -> np.ndarray:
    """Return the grey levels of the 3 voxels from `start` above the tidemark on, in every column (3, N)."""
    columns, top = hard_columns(plug)
    y, x = np.nonzero(columns)
    return np.stack([plug.scan[top[y, x] + start + step, y, x] for step in range(3)])


@pytest.fixture(scope="module")
def plugs() -> dict[str, list[Plug]]:
    return {kind: [draw_plug(seed, SMALL, SMALL_UM, kind) for seed in range(2)] for kind in KINDS}


def test_the_same_arguments_give_the_same_plug(plugs: dict[str, list[Plug]]) -> None:
    again = draw_plug(1, SMALL, SMALL_UM, "voids")
    assert np.array_equal(again.scan, plugs["voids"][1].scan)
    assert np.array_equal(again.mask, plugs["voids"][1].mask)
    assert np.array_equal(again.edge_um, plugs["voids"][1].edge_um, equal_nan=True)
    assert not np.array_equal(plugs["easy"][0].mask, plugs["easy"][1].mask)


def test_shapes_types_and_the_bone_end(plugs: dict[str, list[Plug]]) -> None:
    for kind in KINDS:
        for plug in plugs[kind]:
            assert plug.scan.shape == plug.mask.shape == SMALL
            assert plug.edge_um.shape == SMALL[1:] and plug.edge_um.dtype == np.float32
            assert plug.scan.dtype == plug.mask.dtype == np.uint8
            assert set(np.unique(plug.mask)) == {0, 255}
            assert (plug.kind, plug.voxel_um) == (kind, SMALL_UM)
            assert plug.mask[:60].any()
            assert not plug.mask[110:].any()
            assert np.median(plug.scan[-2:]) < 5  # air above the cartilage


def test_flat_plug_is_an_elliptic_cylinder() -> None:
    plug = render(flat_recipe(), 3, SHAPE, VOXEL_UM, "easy")
    columns, top = hard_columns(plug)
    # the tidemark is at 0.4 * 96 = 38.4 voxels: the centres of planes 0 to 37 lie below it
    assert (top[columns] == 38).all()
    assert columns.sum() == pytest.approx(np.pi * 0.8 * 32 * 0.7 * 36, rel=0.02)
    assert plug.mask.astype(bool).sum() == 38 * columns.sum()
    assert np.ptp(np.nonzero(columns.any(axis=1))[0]) == pytest.approx(2 * 0.8 * 32, abs=2)
    assert np.ptp(np.nonzero(columns.any(axis=0))[0]) == pytest.approx(2 * 0.7 * 36, abs=2)


def test_wide_channels_are_holes_and_narrow_ones_are_filled() -> None:
    solid = render(flat_recipe(), 3, SHAPE, VOXEL_UM, "easy").mask
    narrow = render(flat_recipe(channels=1, channel_um=(40.0, 40.0)), 3, SHAPE, VOXEL_UM, "easy")
    assert np.array_equal(narrow.mask, solid)
    wide = render(flat_recipe(channels=1, channel_um=(96.0, 96.0)), 3, SHAPE, VOXEL_UM, "easy")
    hole = (solid[37] > 0) & (wide.mask[37] == 0)  # the plane under the tidemark
    straight = np.pi * 6**2  # 96 µm are 12 voxels
    assert 0.85 * straight < hole.sum() < 1.5 * straight  # oblique tubes cut larger


def test_marrow_takes_its_share_below_the_plate() -> None:
    recipe = flat_recipe(marrow_fraction=0.6, plate_um=100.0, thin_spots=0)
    plug = render(recipe, 3, SHAPE, VOXEL_UM, "easy")
    columns, _ = hard_columns(plug)
    hard = (plug.mask > 0)[:, columns]
    assert hard[36:38].all()  # the plate has no hole
    assert 0.25 < hard[:20].mean() < 0.65


def test_kinds_share_their_mask_or_their_tidemark(plugs: dict[str, list[Plug]]) -> None:
    for kind in KINDS[1:]:
        for easy, plug in zip(plugs["easy"], plugs[kind], strict=True):
            same = np.array_equal(easy.mask, plug.mask)
            assert same == (kind in SAME_MASK)
            if kind in ("thick", "thin"):
                both = hard_columns(easy)[0] & hard_columns(plug)[0]
                apart = np.abs(hard_columns(easy)[1] - hard_columns(plug)[1])[both]
                assert np.median(apart) == 0


def test_the_pta_edge_lies_below_the_tidemark_at_the_depth_of_the_recipe() -> None:
    # with the power 2 and the half level at d, the fall is steepest at d / sqrt(2 ln 2)
    recipe = flat_recipe(soak_um=30.0, soak_spread=0.0, soak_power=2.0)
    plug = render(recipe, 3, SMALL, SMALL_UM, "easy")
    columns, _ = hard_columns(plug)
    known = np.isfinite(plug.edge_um)
    assert not known[~columns].any()
    assert known[columns].mean() > 0.6  # no fall shows along a bright rim
    assert plug.edge_um[known] == pytest.approx(30 / np.sqrt(2 * np.log(2)), abs=0.5)


def test_the_grey_begins_to_fall_at_the_tidemark() -> None:
    stained = flat_recipe(
        soak_um=30.0, soak_spread=0.0, soak_power=2.0, blur_vox=0.3, motion_vox=0.0, noise=0.5
    )
    unstained = replace(stained, soak_um=0.0)
    falls = {}
    for recipe in (stained, unstained):
        plug = render(recipe, 3, SMALL, SMALL_UM, "easy")
        y, x = np.nonzero(np.isfinite(plug.edge_um))
        top = hard_columns(plug)[1][y, x]
        level = [float(np.median(plug.scan[top + step, y, x])) for step in (0, -1, -7, -20)]
        falls[recipe.soak_um] = [(level[0] - grey) / (level[0] - level[3]) for grey in level[1:3]]
        if recipe is unstained:
            assert (plug.edge_um[y, x] == 0).all()
    assert falls[30.0][0] < 0.1  # 2 µm below the tidemark
    assert falls[30.0][1] == pytest.approx(0.5, abs=0.15)  # 31 µm below it
    assert falls[0.0][0] > 0.4


def test_the_depth_of_the_stain_varies_by_plug_and_by_place() -> None:
    recipe = flat_recipe(soak_um=20.0, soak_spread=0.4)
    depth = soak_map(recipe, 1, (8, 300, 300), 3.2)
    assert np.log(depth / 20).std() == pytest.approx(0.4, abs=0.15)
    assert np.abs(np.diff(depth, axis=1)).mean() < 1  # from voxel to voxel: smooth
    assert not soak_map(replace(recipe, soak_um=0.0), 1, (8, 30, 30), 3.2).any()
    drawn = np.array([draw_recipe(np.random.default_rng(seed)).soak_um for seed in range(400)])
    assert 0.02 < (drawn == 0).mean() < 0.13
    assert np.median(drawn) == pytest.approx(20, abs=2)
    assert np.log(drawn[drawn > 0]).std() == pytest.approx(0.33, abs=0.07)


def test_no_edge_where_the_contrast_is_lost_or_a_void_lies(plugs: dict[str, list[Plug]]) -> None:
    for kind in ("crest_lost", "voids"):
        known = [sum(int(np.isfinite(plug.edge_um).sum()) for plug in plugs[name]) for name in ("easy", kind)]
        assert known[1] < 0.95 * known[0]


def test_a_cleft_is_air_over_stained_calcified_cartilage(plugs: dict[str, list[Plug]]) -> None:
    for easy, cleft in zip(plugs["easy"], plugs["cleft"], strict=True):
        gap = (band(easy, 0).max(axis=0) > 100) & (band(cleft, 0).min(axis=0) < 40)
        assert gap.mean() > 0.02
        assert band(cleft, -4)[:, gap].mean() > 100


def test_clots_are_as_grey_as_bone(plugs: dict[str, list[Plug]]) -> None:
    for easy, clots in zip(plugs["easy"], plugs["clots"], strict=True):
        changed = np.abs(clots.scan.astype(int) - easy.scan) > 40
        assert changed.any() and not clots.mask[changed].all()
        bone = np.median(clots.scan[:40][clots.mask[:40] > 0])
        assert np.median(clots.scan[changed]) == pytest.approx(bone, abs=15)


def test_plates_are_thick_or_thin(plugs: dict[str, list[Plug]]) -> None:
    for easy, thick, thin in zip(*(plugs[kind] for kind in ("easy", "thick", "thin")), strict=True):
        share = [float((plug.mask[:, hard_columns(plug)[0]] > 0).sum()) for plug in (thin, easy, thick)]
        assert share[0] < share[1] < share[2]


def test_a_crushed_end_is_cut_obliquely_and_bright() -> None:
    recipe = flat_recipe(sawn_um=150.0, cut=(0.3, 0.0), crushed_um=60.0)
    crushed = render(recipe, 3, SHAPE, VOXEL_UM, "easy")
    hard = crushed.mask > 0
    lowest = np.where(hard.any(axis=0), hard.argmax(axis=0), -1)
    middle = lowest[:, SHAPE[2] // 2]
    rows = np.nonzero(middle > 0)[0]
    assert np.polyfit(rows, middle[rows], 1)[0] == pytest.approx(0.3, abs=0.05)
    y, x = np.nonzero(lowest > 8)
    whole = render(replace(recipe, crushed_um=0.0), 3, SHAPE, VOXEL_UM, "easy")
    near = lowest[y, x] + 2, y, x
    assert np.median(crushed.scan[near].astype(int) - whole.scan[near]) > 20
    assert np.median(crushed.scan[lowest[y, x] - 8, y, x]) < 5  # 64 µm below the cut is air


def test_a_scalloped_tidemark_is_rougher() -> None:
    plain, scalloped = (
        tidemark_map(np.random.default_rng(0), flat_recipe(scallop_um=height), (256, 160, 160), 3.2)
        for height in (0.0, 25.0)
    )
    assert np.ptp(plain) < 1e-3
    steep = np.abs(np.diff(scalloped, axis=1)) / 3.2
    assert np.percentile(steep, 98) > 4 * np.median(steep)  # steps between gentle bays


def test_coarse_voxels_show_the_same_plug() -> None:
    fine = draw_plug(1, (160, 48, 64), 3.2)
    coarse = draw_plug(1, (80, 24, 32), 6.4)
    assert (coarse.scan.shape, coarse.voxel_um) == ((80, 24, 32), 6.4)
    share = coarser(fine.mask, 2, (80, 24, 32))
    assert np.array_equal(coarse.mask > 0, share >= 127.5)
    grey = coarser(fine.scan, 2, (80, 24, 32))
    assert np.corrcoef(grey.ravel(), coarse.scan.ravel())[0, 1] > 0.97
    assert np.nanmedian(coarse.edge_um) == pytest.approx(np.nanmedian(fine.edge_um), abs=1)
    odd = draw_plug(1, (57, 17, 23), 9.0)  # 160, 48 and 64 voxels of 3.2 µm, rounded
    assert (odd.mask > 0).mean() == pytest.approx((fine.mask > 0).mean(), rel=0.05)


def test_coarser_is_the_mean_by_overlap() -> None:
    field = np.array([[0.0, 3.0, 6.0]], np.float32)
    # 1.5 voxels wide: 0 and half of 3; half of 3 and 6
    assert coarser(field, 1.5, (1, 2)) == pytest.approx(np.array([[1.0, 5.0]]))


@pytest.mark.parametrize("how", PROCESSING)
def test_processing_smooths_and_keeps_the_mean(how: str) -> None:
    rng = np.random.default_rng(0)
    scan = rng.normal(100, 8, (8, 20, 22)).round().astype(np.uint8)
    mask = np.zeros_like(scan)
    mask[:4] = 255
    plug = processed(Plug(scan, mask, np.full((20, 22), 7, np.float32), 3.2, "easy"), how)
    assert plug.scan.dtype == np.uint8
    assert plug.scan.std() < 0.75 * scan.std()
    assert plug.scan.mean() == pytest.approx(100, abs=1)
    if how == "binned":
        assert (plug.scan.shape, plug.voxel_um) == ((4, 10, 11), 6.4)
        assert plug.mask[:2].all() and not plug.mask[2:].any()
        assert (plug.edge_um == 7).all() and plug.edge_um.shape == (10, 11)
    else:
        assert np.array_equal(plug.mask, mask) and plug.voxel_um == 3.2


def test_unknown_processing() -> None:
    plug = Plug(*(np.zeros((2, 2, 2), np.uint8),) * 2, np.zeros((2, 2), np.float32), 3.2, "easy")
    with pytest.raises(ValueError, match="unknown processing 'sharpen'"):
        processed(plug, "sharpen")


def test_contrast_at_the_tidemark_is_lost(plugs: dict[str, list[Plug]]) -> None:
    for easy, lost in zip(plugs["easy"], plugs["crest_lost"], strict=True):
        drop = [float(np.mean(band(plug, 1)) - np.mean(band(plug, -5))) for plug in (easy, lost)]
        assert drop[0] > 15
        assert drop[1] < 0.7 * drop[0]


def test_voids_are_dark_at_the_tidemark(plugs: dict[str, list[Plug]]) -> None:
    for easy, voids in zip(plugs["easy"], plugs["voids"], strict=True):
        dark = [float((band(plug, 1) < 60).mean()) for plug in (easy, voids)]
        assert dark[1] > dark[0] + 0.03


def test_tidemark_has_the_roughness_and_the_tilt_of_the_recipe() -> None:
    recipe = flat_recipe(rough_um=18.0, rough_tail=0.25)
    rng = np.random.default_rng(0)
    height = tidemark_map(rng, recipe, (512, 320, 320), 3.2)
    assert height.mean() == pytest.approx(0.4 * 512 * 3.2, abs=5)
    assert height.std() == pytest.approx(18, rel=0.15)
    slope = np.hypot(np.diff(height, axis=1) / 3.2, 1).mean()
    assert 1.05 < slope < 1.3  # the length ratio of a real slice is 1.14
    tilted = tidemark_map(rng, flat_recipe(tilt=(0.0, 0.2)), (512, 320, 320), 3.2)
    assert np.diff(tilted, axis=1) == pytest.approx(np.full((320, 319), 0.2 * 3.2), abs=1e-3)


def test_spectral_field_keeps_to_its_band() -> None:
    field = spectral_field(np.random.default_rng(0), (64, 64), 2.0, (16, 32), 0.0)
    assert field.mean() == pytest.approx(0, abs=1e-6)
    assert field.std() == pytest.approx(1, abs=1e-5)
    wave = np.hypot(*np.meshgrid(np.fft.fftfreq(64, 2.0), np.fft.fftfreq(64, 2.0)))
    power = np.abs(np.fft.fft2(field)) ** 2
    outside = (wave < 1 / 32 - 1e-9) | (wave > 1 / 16 + 1e-9)
    assert power[outside].sum() < 1e-6 * power.sum()


def test_plane_between_two_coarse_planes() -> None:
    field = np.stack([np.zeros((4, 4)), np.ones((4, 4))]).astype(np.float32)
    # coarse planes 0 and 1 are centred on 1.5 and 5.5 of the fine grid; beyond them the value stays
    values = [plane_of(field, 4, z, (8, 16, 16))[0, 0] for z in (0, 1, 2, 5, 6, 7)]
    assert values == pytest.approx([0, 0, 0.125, 0.875, 1, 1])


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="unknown kind of plug 'hard'"):
        draw_plug(0, SHAPE, VOXEL_UM, "hard")
