from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tidemark_cli.core.anatomy import mask as module
from tidemark_cli.core.anatomy.mask import clean_mask, drop_caps

UM = 10.0  # islands go below 500 voxels (25 in a slice), pinholes below 34 (12.5 in a slice)


def bone(shape: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    """Return probabilities (Z, Y, X): hard below Z 25, off the edges by 2."""
    probability = np.zeros(shape, np.uint8)
    probability[2:25, 2:-2, 2:-2] = 255
    return probability


def test_threshold_is_strict() -> None:
    probability = np.array([50, 51, 52, 76, 77, 255], np.uint8).reshape(6, 1, 1)
    assert clean_mask(probability, 51 / 255, 3.2).ravel().tolist() == [0, 0, 255, 255, 255, 255]
    assert clean_mask(probability, 0.3, 3.2).ravel().tolist() == [0, 0, 0, 0, 255, 255]
    assert not clean_mask(probability, 1.0, 3.2).any()
    assert clean_mask(probability, 0.0, 3.2).all()


def test_small_islands_go_and_wide_thin_pieces_stay() -> None:
    probability = bone((60, 40, 40))
    probability[30:37, 10:17, 10:17] = 200  # 343 voxels: 70 µm a side
    plate = np.s_[50:54, 5:17, 5:17]  # 576 voxels: 40 µm thick, 120 µm wide
    probability[plate] = 200
    cleaned = clean_mask(probability, 0.5, UM)
    assert not cleaned[30:37].any()
    assert cleaned[plate].all()
    assert np.count_nonzero(cleaned) == 23 * 36 * 36 + 576


def test_an_island_touching_at_a_corner_stays() -> None:
    probability = bone()
    probability[25, 1, 1] = 255  # diagonal to the bone's corner voxel (24, 2, 2)
    assert clean_mask(probability, 0.5, UM)[25, 1, 1] == 255


def test_small_pieces_stay_where_there_is_nothing_larger() -> None:
    probability = np.zeros((20, 20, 20), np.uint8)
    probability[3:6, 3:6, 3:6] = 255  # 27 voxels
    probability[12, 12, 12] = 255  # under 5 % of that
    cleaned = clean_mask(probability, 0.5, UM)
    assert cleaned[3:6, 3:6, 3:6].all()
    assert cleaned[12, 12, 12] == 0


def test_pinholes_are_filled_and_pores_stay_open() -> None:
    probability = bone()
    probability[5:8, 5:8, 5:8] = 0  # 27 voxels, filled
    probability[12:16, 12:16, 12:16] = 0  # 64 voxels, a pore
    probability[24, 20, 20] = 0  # open to the outside
    cleaned = clean_mask(probability, 0.5, UM)
    assert cleaned[5:8, 5:8, 5:8].all()
    assert not cleaned[12:16, 12:16, 12:16].any()
    assert cleaned[24, 20, 20] == 0


def test_a_pinhole_that_touches_a_pit_at_an_edge_is_enclosed() -> None:
    probability = bone()
    probability[23, 10, 10] = probability[24, 11, 10] = 0
    cleaned = clean_mask(probability, 0.5, UM)
    assert (cleaned[23, 10, 10], cleaned[24, 11, 10]) == (255, 0)


def test_a_hole_at_the_edge_of_the_scan_is_not_enclosed() -> None:
    probability = np.full((10, 10, 10), 255, np.uint8)
    probability[0, 5, 5] = 0
    probability[5, 5, 5] = 0
    cleaned = clean_mask(probability, 0.5, UM)
    assert cleaned[0, 5, 5] == 0
    assert cleaned[5, 5, 5] == 255


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_judged_by_area(axis: int) -> None:
    plane = np.zeros((60, 60), np.uint8)
    plane[:25] = 255
    plane[40:44, 10:16] = 255  # 24 pixels, an island
    plane[40:44, 30:37] = 255  # 28 pixels
    plane[5:8, 5:9] = 0  # 12 pixels, a pinhole
    plane[15:18, 15:20] = 0  # 15 pixels
    cleaned = np.take(clean_mask(np.expand_dims(plane, axis), 0.5, UM), 0, axis)
    plane[40:44, 10:16] = 0
    plane[5:8, 5:9] = 255
    np.testing.assert_array_equal(cleaned, plane)


def test_large_scans_labelled_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    probability = bone((61, 41, 43))  # odd sides: the last cell of two is half empty
    probability[30:36, 10:16, 10:16] = 200
    probability[50:55, 5:17, 5:17] = 200
    for z in range(4, 22, 4):  # pinholes all along Z, over every seam of the slabs
        probability[z : z + 2, 8 + z, 8] = 0
    whole = clean_mask(probability, 0.5, UM)
    monkeypatch.setattr(module, "ISLAND_CELLS", 2000)
    monkeypatch.setattr(module, "LABEL_VOXELS", 2000)
    np.testing.assert_array_equal(clean_mask(probability, 0.5, UM), whole)
    assert whole[4:24, 5:35, 8].all()


def test_pinholes_on_the_seams_of_tiles_along_y_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    probability = bone((30, 90, 40))
    for y in range(4, 86, 3):
        probability[10:12, y : y + 2, 8] = 0
    monkeypatch.setattr(module, "LABEL_VOXELS", 20_000)  # tiles of 20 voxels along Z and Y
    assert clean_mask(probability, 0.5, UM)[2:25, 2:-2, 2:-2].all()


def test_pieces_are_told_apart_by_two_cells_of_a_third_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    probability = bone((60, 42, 42))
    probability[33:39, 12:18, 12:18] = 200  # 216 voxels, seven above the bone: an island
    probability[27:33, 30:36, 30:36] = 200  # two above it: connected in cells of three voxels
    monkeypatch.setattr(module, "ISLAND_CELLS", 37 * 38 * 38 // 20)  # of the box round both
    cleaned = clean_mask(probability, 0.5, UM)
    assert not cleaned[33:39].any()
    assert np.count_nonzero(cleaned) == 23 * 38 * 38 + 216


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(2, 9)] * 3), elements=st.sampled_from([0, 90, 255])))
def test_turning_the_scan_turns_the_mask(probability: np.ndarray) -> None:
    cleaned = clean_mask(probability, 0.5, 40.0)  # islands below 7.8 voxels, pinholes below 0.53
    for axis in range(3):
        np.testing.assert_array_equal(
            clean_mask(np.flip(probability, axis), 0.5, 40.0), np.flip(cleaned, axis)
        )
    assert set(np.unique(cleaned)) <= {0, 255}
    assert not cleaned[probability == 90].any()


def test_the_input_is_left_alone_and_an_empty_one_gives_an_empty_mask() -> None:
    probability = bone()
    probability[30, 30, 30] = 255
    before = probability.copy()
    clean_mask(probability, 0.5, UM)
    np.testing.assert_array_equal(probability, before)
    empty = clean_mask(np.zeros((4, 5, 6), np.uint8), 0.5, UM)
    assert empty.shape == (4, 5, 6)
    assert empty.dtype == np.uint8
    assert not empty.any()


@pytest.mark.parametrize(
    ("probability", "threshold"),
    [
        (np.zeros((3, 3, 3), np.float32), 0.5),
        (np.zeros((3, 3), np.uint8), 0.5),
        (np.zeros((3, 3, 3), np.uint8), 1.5),
        (np.zeros((3, 3, 3), np.uint8), float("nan")),
    ],
)
def test_wrong_arguments_are_refused(probability: np.ndarray, threshold: float) -> None:
    with pytest.raises(ValueError, match="must"):
        clean_mask(probability, threshold, UM)


def plug_with(
    piece: tuple[slice, ...], marrow: tuple[slice, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask and its scan (60, 20, 20): bone to Z 20, cartilage to Z 50, one more hard piece."""
    mask, scan = np.zeros((60, 20, 20), np.uint8), np.zeros((60, 20, 20), np.uint8)
    mask[:20], scan[:50] = 255, 100
    mask[piece] = 255
    if marrow:
        mask[marrow] = scan[marrow] = 0
    return mask, scan


def test_a_piece_on_the_cartilage_surface_goes() -> None:
    mask, scan = plug_with(np.s_[46:50, 2:13, 2:14])
    drop_caps(mask, scan, 50, UM)
    assert np.count_nonzero(mask) == 20 * 20 * 20
    assert (mask[:20] == 255).all()


def test_pieces_of_the_plate_stay() -> None:
    plate = np.s_[17:20, 2:13, 2:14]
    mask, scan = plug_with(plate, marrow=np.s_[10:17, :, :])  # cut off by marrow, cartilage above
    before = mask.copy()
    drop_caps(mask, scan, 50, UM)
    np.testing.assert_array_equal(mask, before)
    mask, scan = plug_with(np.s_[30:33, 2:13, 2:14])  # 100 µm up in the cartilage: too near, covered
    before = mask.copy()
    drop_caps(mask, scan, 50, UM)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize(("top", "goes"), [(40, False), (42, True)])
def test_a_piece_under_100_um_of_cartilage_is_not_on_its_surface(top: int, goes: bool) -> None:
    mask, scan = plug_with(np.s_[top - 4 : top, 2:13, 2:14])  # cartilage to Z 50
    drop_caps(mask, scan, 50, UM)
    assert mask[30:].any() != goes


@pytest.mark.parametrize(("thickness_um", "goes"), [(490, False), (510, True)])
def test_a_film_over_the_cartilage_goes_where_nothing_but_cartilage_can_be_under_it(
    thickness_um: int, goes: bool
) -> None:
    mask, scan = np.zeros((120, 20, 20), np.uint8), np.zeros((120, 20, 20), np.uint8)
    mask[:20], scan[: 20 + thickness_um // 10] = 255, 100
    mask[100:104] = scan[100:104] = 255  # 300 µm of air under it
    drop_caps(mask, scan, 50, 10.0)
    assert mask[100:104].any() != goes
    assert (mask[:20] == 255).all()


@pytest.mark.parametrize(
    ("gap_um", "width", "bone_width", "goes"),
    [
        (510, 17, 20, True),  # 289 of 400 columns
        (490, 17, 20, False),
        (510, 18, 20, False),  # 324 of 400: a plate cut off by marrow as grey as tissue is as wide
        (510, 5, 8, False),  # beside the bone, not above it
    ],
)
def test_a_piece_within_the_cartilage_goes_where_it_is_small_and_high_above_bone(
    gap_um: int, width: int, bone_width: int, goes: bool
) -> None:
    mask, scan = np.zeros((120, 20, 20), np.uint8), np.zeros((120, 20, 20), np.uint8)
    scan[:110] = 100
    mask[:20, :, :bone_width] = 255
    piece = np.s_[20 + gap_um // 10 :, 20 - width :, 20 - width :]
    mask[piece][:4] = 255  # under 350 µm of cartilage
    drop_caps(mask, scan, 50, UM)
    assert mask[20:].any() != goes
    assert np.count_nonzero(mask[:20]) == 20 * 20 * bone_width


def test_a_plate_in_fragments_over_grey_marrow_stays() -> None:
    mask, scan = np.zeros((120, 40, 40), np.uint8), np.full((120, 40, 40), 100, np.uint8)
    mask[:10] = 255
    for y, x in np.ndindex(4, 4):  # tiles over 1296 of 1600 columns
        mask[70:74, 10 * y : 10 * y + 9, 10 * x : 10 * x + 9] = 255
    before = mask.copy()
    drop_caps(mask, scan, 50, UM)
    np.testing.assert_array_equal(mask, before)
    mask[70:74, :, 30:] = 0  # 972 of 1600 columns
    drop_caps(mask, scan, 50, UM)
    assert not mask[70:].any()


def test_marrow_as_grey_as_tissue_is_no_cartilage_between() -> None:
    mask, scan = np.zeros((120, 20, 20), np.uint8), np.full((120, 20, 20), 100, np.uint8)
    mask[60:64] = 255  # a plate over 600 µm of marrow
    mask[94:98, 3:9, 3:9] = 255  # 300 µm above it
    before = mask.copy()
    drop_caps(mask, scan, 50, UM)
    np.testing.assert_array_equal(mask, before)


def test_caps_are_found_on_a_coarse_grid_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAP_VOXELS", 4000)
    mask, scan = plug_with(np.s_[46:50, 3:12, 3:12])
    drop_caps(mask, scan, 50, UM)
    assert not mask[40:].any()
    assert (mask[:20] == 255).all()


def test_the_mask_can_be_put_into_a_part_of_a_larger_one() -> None:
    probability = bone()
    whole = np.zeros((50, 44, 42), np.uint8)
    clean_mask(probability, 0.5, UM, out=whole[5:45, 1:41, 2:42])
    np.testing.assert_array_equal(whole[5:45, 1:41, 2:42], clean_mask(probability, 0.5, UM))
    assert np.count_nonzero(whole) == 23 * 36 * 36


def test_a_single_line_of_voxels() -> None:
    probability = np.array([255, 0, 255, 0, 0, 255, 255], np.uint8).reshape(7, 1, 1)
    cleaned = clean_mask(probability, 0.5, UM)
    assert cleaned.ravel()[[0, 5, 6]].tolist() == [255, 255, 255]
    drop_caps(cleaned, probability, 50, UM)


def test_an_empty_mask_has_no_caps() -> None:
    mask = np.zeros((5, 5, 5), np.uint8)
    drop_caps(mask, mask + 100, 50, UM)
    assert not mask.any()
