"""The second family of test plugs: what it draws is what its recipe says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.second_family import (
    KINDS,
    Plug,
    Recipe,
    draw_plug,
    draw_recipe,
    plane_of,
    render,
    spectral_field,
    tidemark_map,
)

SHAPE, VOXEL_UM = (96, 64, 72), 8.0


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
    return {kind: [draw_plug(seed, SHAPE, VOXEL_UM, kind) for seed in range(3)] for kind in KINDS}


def test_the_same_arguments_give_the_same_plug(plugs: dict[str, list[Plug]]) -> None:
    again = draw_plug(2, SHAPE, VOXEL_UM, "voids")
    assert np.array_equal(again.scan, plugs["voids"][2].scan)
    assert np.array_equal(again.mask, plugs["voids"][2].mask)
    assert not np.array_equal(plugs["easy"][0].mask, plugs["easy"][1].mask)


def test_shapes_types_and_the_bone_end(plugs: dict[str, list[Plug]]) -> None:
    for kind in KINDS:
        for plug in plugs[kind]:
            assert plug.scan.shape == plug.mask.shape == SHAPE
            assert plug.scan.dtype == plug.mask.dtype == np.uint8
            assert set(np.unique(plug.mask)) == {0, 255}
            assert (plug.kind, plug.voxel_um) == (kind, VOXEL_UM)
            assert plug.mask[:20].any()
            assert not plug.mask[70:].any()
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


def test_kinds_share_their_anatomy(plugs: dict[str, list[Plug]]) -> None:
    for easy, lost, voids in zip(*(plugs[kind] for kind in KINDS), strict=True):
        assert np.array_equal(easy.mask, lost.mask)
        assert np.array_equal(easy.mask, voids.mask)


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
