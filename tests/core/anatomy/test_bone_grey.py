"""Bone that is not in the mask and stains that are none, by hand: cells of one voxel of 12.8 µm."""

import numpy as np
import pytest

from tidemark_cli.core.anatomy.bone_grey import BoneGrey, compare_greys
from tidemark_cli.core.anatomy.surface import Surface, find_surface

SHAPE = (40, 20, 20)


def a_plug() -> tuple[np.ndarray, np.ndarray]:
    """Scan and mask: 24 slices of bone (100) under cartilage (180), with two layers of marrow (0)."""
    scan = np.full(SHAPE, 180, np.uint8)
    scan[:24] = 100
    scan[4:6] = 0
    return scan, np.where(scan == 100, 255, 0).astype(np.uint8)


def share(scan: np.ndarray, mask: np.ndarray, surface: Surface | None = None) -> float:
    return compare_greys(scan, mask, surface or find_surface(mask, 12.8), 40.0).left_out


def test_marrow_is_not_left_out_bone():
    assert share(*a_plug()) == 0


def test_debris_brighter_than_bone_is_not_left_out_bone():
    scan, mask = a_plug()
    scan[4:10], mask[4:10] = 131, 0  # bone of 100 over tissue of 40: up to 130 it would be taken for bone
    assert share(scan, mask) == 0
    scan[4:10] = 129
    assert share(scan, mask) == pytest.approx(6 / 24)


def test_bone_left_out_is_counted():
    scan, mask = a_plug()
    mask[10:15] = 0
    assert share(scan, mask) == pytest.approx(5 / 22)  # 24 layers less two of marrow


@pytest.mark.parametrize(("across", "counted"), [(10, 0), (18, 0), (20, 20**3), (63, 63**3)])
def test_specks_of_debris_do_not_count_and_a_missing_block_does(across, counted):
    """Cells of one voxel of 3.2 µm x 4: 32, 58, 64 and 200 µm."""
    scan, mask = (np.repeat(np.repeat(np.repeat(a, 4, 0), 4, 1), 4, 2) for a in a_plug())
    scan[16:24], mask[16:24] = 100, 255
    mask[8 : 8 + across, 4 : 4 + across, 4 : 4 + across] = 0
    whole = across // 4 * 4  # cells that are empty throughout
    expected = 0 if not counted else whole**3
    found = compare_greys(scan, mask, find_surface(mask, 3.2), 40.0).left_out
    touched = -(-across // 4) * 4
    assert found == pytest.approx(expected / (expected + 96 * 80 * 80 - touched**3))


def test_a_gap_in_the_tidemark_does_not_hide_what_is_left_out():
    scan, mask = a_plug()
    mask[:, 5:15, 5:15] = 0  # a quarter of the plug is hollow, up to its top
    # left out are 14 layers, from 50 µm below the tidemark down to the marrow (the 4 below that are thin)
    assert share(scan, mask) == pytest.approx(14 * 100 / (14 * 100 + 22 * 300))


def test_any_height_of_grey_levels():
    scan, mask = a_plug()
    mask[10:15] = 0
    lifted = compare_greys(scan.astype(float) * 9 - 500, mask, find_surface(mask, 12.8), -140.0)
    assert lifted.left_out == pytest.approx(5 / 22)
    assert lifted.brightness == pytest.approx(100 / 180)


def test_cells_of_fine_voxels_average_their_noise():
    scan, mask = (np.repeat(np.repeat(np.repeat(a, 4, 0), 4, 1), 4, 2) for a in a_plug())
    mask[40:60] = 0
    noisy = np.clip(scan + np.random.default_rng(0).normal(0, 40, scan.shape), 0, 255)
    found = compare_greys(noisy, mask, find_surface(mask, 3.2), 40.0)
    assert found.left_out == pytest.approx(5 / 22, abs=0.01)


def test_a_single_slice_and_nothing_found():
    scan, mask = (a[:, :1] for a in a_plug())
    mask = mask.copy()
    mask[10:15] = 0
    assert share(scan, mask) == pytest.approx(5 / 22)
    nothing = np.zeros_like(mask)
    assert compare_greys(scan, nothing, find_surface(nothing, 12.8), 40.0) == BoneGrey(0, 0, 1)


@pytest.mark.parametrize(("bone", "expected"), [(100, 100 / 180), (250, 250 / 180)])
def test_brightness_is_that_of_bone_over_cartilage(bone, expected):
    scan, mask = a_plug()
    scan[mask > 0] = bone
    found = compare_greys(scan, mask, find_surface(mask, 12.8), 40.0)
    assert found.brightness == pytest.approx(expected)  # marrow, of 0, is the darkest


def test_a_clot_under_a_thin_plate_is_little():
    scan = np.full(SHAPE, 180, np.uint8)
    scan[:24] = 0
    scan[20:24] = 100  # 51 µm
    mask = np.where(scan == 100, 255, 0).astype(np.uint8)
    scan[8:13, 8:13, 8:13] = 100
    assert share(scan, mask) == pytest.approx(125 / (125 + 4 * 400))


def test_marrow_in_the_mask_is_counted():
    scan, mask = a_plug()
    mask[4:6] = 255
    found = compare_greys(scan, mask, find_surface(mask, 12.8), 40.0)
    assert found.left_out == 0 and found.filled == pytest.approx(2 / 24)


def test_without_air_or_marrow_nothing_tells_what_is_bright():
    scan, mask = a_plug()
    scan[4:6] = 100
    mask[4:6] = 255
    found = compare_greys(scan, mask, find_surface(mask, 12.8), 40.0)
    assert found == BoneGrey(0, 0, 1)


def test_bone_without_cartilage_has_nothing_to_be_compared_with():
    scan, mask = a_plug()
    scan[24:] = 0
    found = compare_greys(scan, mask, find_surface(mask, 12.8), 40.0)
    assert found == BoneGrey(0, 0, 1)
