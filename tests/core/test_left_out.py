"""Bone that is not in the mask, by hand: cells of one voxel of 12.8 µm."""

import numpy as np
import pytest

from tidemark_cli.core.left_out import left_out_share
from tidemark_cli.core.surface import Surface, find_surface

SHAPE = (40, 20, 20)


def a_plug() -> tuple[np.ndarray, np.ndarray]:
    """Scan and mask: 24 slices of bone (100) under cartilage (180), with two layers of marrow (0)."""
    scan = np.full(SHAPE, 180, np.uint8)
    scan[:24] = 100
    scan[4:6] = 0
    return scan, np.where(scan == 100, 255, 0).astype(np.uint8)


def share(scan: np.ndarray, mask: np.ndarray, surface: Surface | None = None) -> float:
    return left_out_share(scan, mask, surface or find_surface(mask, 12.8, "first"), 40.0)


def test_marrow_is_not_left_out_bone():
    assert share(*a_plug()) == 0


def test_debris_brighter_than_bone_is_not_left_out_bone():
    scan, mask = a_plug()
    scan[4:6] = 131  # bone of 100 over tissue of 40: up to 130 it would be taken for bone
    assert share(scan, mask) == 0
    scan[4:6] = 129
    assert share(scan, mask) == pytest.approx(2 / 20)


@pytest.mark.parametrize("layers", [1, 5])
def test_bone_left_out_is_counted(layers):
    scan, mask = a_plug()
    mask[10 : 10 + layers] = 0
    # 50 µm below the tidemark at 307.2 µm: middles up to 256 µm, 20 layers less two of marrow
    assert share(scan, mask) == pytest.approx(layers / 18)


def test_a_gap_in_the_tidemark_does_not_hide_what_is_left_out():
    scan, mask = a_plug()
    mask[:, 5:15, 5:15] = 0  # a quarter of the plug is hollow, up to its top
    assert share(scan, mask) == pytest.approx(0.25)


def test_either_end_and_any_height_of_grey_levels():
    scan, mask = a_plug()
    mask[10:15] = 0
    surface = find_surface(mask[::-1], 12.8, "last")
    assert left_out_share(scan[::-1], mask[::-1], surface, 40.0) == pytest.approx(5 / 18)
    assert left_out_share(scan.astype(float) * 9 - 500, mask, find_surface(mask, 12.8, "first"), -140.0) == (
        pytest.approx(5 / 18)
    )


def test_cells_of_fine_voxels_average_their_noise():
    scan, mask = (np.repeat(np.repeat(np.repeat(a, 4, 0), 4, 1), 4, 2) for a in a_plug())
    mask[40:60] = 0
    noisy = np.clip(scan + np.random.default_rng(0).normal(0, 40, scan.shape), 0, 255)
    assert left_out_share(noisy, mask, find_surface(mask, 3.2, "first"), 40.0) == pytest.approx(
        5 / 18, abs=0.01
    )


def test_a_single_slice_and_nothing_found():
    scan, mask = (a[:, :1] for a in a_plug())
    mask = mask.copy()
    mask[10:15] = 0
    assert share(scan, mask) == pytest.approx(5 / 18)
    assert share(scan, np.zeros_like(mask)) == 0
