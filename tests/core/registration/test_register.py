"""Registration: known mountings are found again, different plugs are not believed, masks are clean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers import draw_small_plug
from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.registration import register as registration
from tidemark_cli.core.registration.register import (
    TRUSTED,
    agreement,
    hard_tissue,
    otsu_level,
    register,
    resample,
)
from tidemark_cli.core.registration.search import Grid, look
from tidemark_cli.core.registration.transform import Matrix
from tidemark_cli.core.scans.content import Frame
from tidemark_cli.core.scans.volume import Volume

VOXEL_UM = 55.0  # a plug of 2 mm is then 36 voxels wide
MM = VOXEL_UM / 1000
LEVELS = np.interp(np.arange(256), (0, 60, 90, 150, 200, 255), (2, 4, 75, 90, 250, 255))  # PTA to CA4+


@pytest.fixture(scope="module")
def plug() -> np.ndarray:
    return draw_small_plug(0)


def volume(array: np.ndarray, voxel_um: float = VOXEL_UM, frame: Frame | None = None) -> Volume:
    return Volume(array, voxel_um, "file", Path("plug.tif"), frame=frame)


def mounted(
    turn_deg: float, tilt_deg: float, shift_mm: tuple[float, float, float], over: bool = False
) -> Matrix:
    """Turn about the middle of the plug, tilt about X, shift; end for end where `over`."""
    euler = sitk.Euler3DTransform()
    euler.SetRotation(np.deg2rad(tilt_deg), 0, np.deg2rad(turn_deg))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(euler.GetMatrix(), (3, 3)) @ np.diag([1, -1, -1] if over else [1, 1, 1])
    middle = (np.array([44, 44, 52]) - 1) / 2 * MM
    matrix[:3, 3] = middle + shift_mm - matrix[:3, :3] @ middle
    return matrix


def remounted(plug: np.ndarray, matrix: Matrix, voxel_um: float = VOXEL_UM, length: int = 58) -> np.ndarray:
    """Draw the CA4+ scan that `matrix` takes PTA's points to."""
    from scipy.ndimage import affine_transform

    to_pta = np.linalg.inv(matrix @ np.diag([MM, MM, MM, 1])) @ np.diag([*[voxel_um / 1000] * 3, 1])
    linear, offset = to_pta[:3, :3][::-1, ::-1], to_pta[:3, 3][::-1]
    levels = LEVELS[plug].astype(np.float32)
    return affine_transform(levels, linear, offset, (length, 48, 48), order=1).astype(np.uint8)


def error_voxels(found: Matrix, true: Matrix) -> float:
    """Mean distance over the corners of the plug's box."""
    corners = [(x, y, z, 1 / MM) for x in (4, 40) for y in (4, 40) for z in (4, 48)]
    return float(np.linalg.norm(((found - true) @ np.transpose(corners))[:3], axis=0).mean())


@pytest.mark.parametrize(
    ("turn", "tilt", "shift", "over", "voxel_um"),
    [
        (75, -10, (-0.1, 0.1, 0.1), True, 55.0),
        (310, 15, (0.1, 0.0, -0.2), False, 54.0),
    ],
    ids=["end for end", "tilted, other voxels"],
)
def test_a_mounting_is_found_again(
    plug: np.ndarray, turn: float, tilt: float, shift: tuple[float, ...], over: bool, voxel_um: float
) -> None:
    true = mounted(turn, tilt, shift, over)
    told: list[tuple[int, int]] = []
    ca4 = volume(remounted(plug, true, voxel_um), voxel_um)
    found = register(volume(plug), ca4, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1][0] == told[-1][1]
    assert error_voxels(found.matrix, true) < 0.5
    assert found.trusted and found.quality > 0.5
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(("gain", "zero", "dtype"), [(20, 32768, np.uint16), (8, -1000, np.int16)])
def test_grey_levels_may_be_shifted(plug: np.ndarray, gain: int, zero: int, dtype: type) -> None:
    true = mounted(75, -4, (-0.1, 0.1, 0.1))
    shifted = (plug.astype(float) * gain + zero).astype(dtype)
    found = register(volume(shifted), volume(remounted(plug, true)))
    assert error_voxels(found.matrix, true) < 0.5
    assert found.trusted


def test_frames_are_heeded(plug: np.ndarray) -> None:
    true = mounted(120, 4, (0.1, 0.1, 0.2))
    mirrored = Frame((5.0, 6.0, 7.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    found = register(volume(plug, frame=mirrored), volume(remounted(plug, true)[:, :, ::-1]))
    shown = np.diag([-1.0, 1.0, 1.0, 1.0])  # where the frame shows a point of the plug
    shown[:3, 3] = 5, 6, 7
    shown_ca4 = np.diag([-1.0, 1.0, 1.0, 1.0])
    shown_ca4[0, 3] = 47 * MM
    corners = shown @ np.diag([MM, MM, MM, 1]) @ [[4, 40, 4], [4, 4, 40], [4, 48, 4], [1, 1, 1]]
    away = (found.matrix - shown_ca4 @ true @ np.linalg.inv(shown)) @ corners
    assert np.linalg.norm(away[:3], axis=0).max() < MM


def test_rings_do_not_hide_that_two_plugs_are_one(plug: np.ndarray) -> None:
    true = mounted(75, 8, (0.1, 0.1, 0.1))
    scans = []
    for seed, scan in enumerate((plug, remounted(plug, true))):
        y, x = (np.arange(n) - n * 0.4 for n in scan.shape[1:])
        profile = np.random.default_rng(seed).normal(0, 40, 100)
        rings = profile[np.hypot(y[:, None], x[None, :]).astype(int)]
        scans.append(volume(np.clip(scan + rings, 0, 255).astype(np.uint8)))
    still, moved = (look(scan) for scan in scans)
    assert agreement(still, moved, true) > 0.8  # 0.7 with them


def test_what_does_not_overlap_or_vary_does_not_agree(plug: np.ndarray) -> None:
    still = look(volume(plug))
    assert agreement(still, still, np.eye(4)) == pytest.approx(1)
    assert agreement(still, still, mounted(0, 0, (30, 0, 0))) == 0
    flat = replace(still, detail=np.zeros_like(still.detail))
    assert agreement(still, flat, np.eye(4)) == 0


def test_different_plugs_are_not_believed(plug: np.ndarray) -> None:
    found = register(volume(plug), volume(remounted(draw_small_plug(1), np.eye(4))))
    assert not found.trusted
    assert found.quality < TRUSTED


def test_an_initial_transform_is_refined_not_replaced(
    plug: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = mounted(40, 3, (0.1, 0, 0))
    monkeypatch.setattr(registration, "find_candidates", lambda *_: pytest.fail("it searched"))
    start = mounted(43, 2, (0.15, 0.03, 0.05))
    ca4 = volume(remounted(plug, true))
    found = register(volume(plug), ca4, initial=start)
    assert error_voxels(found.matrix, true) < 0.5 < error_voxels(start, true)
    assert found.trusted
    astray = register(volume(plug), ca4, initial=mounted(220, 0, (0, 0, 0)))
    assert not astray.trusted


def test_each_refinement_goes_on_from_the_one_before(
    plug: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def refine(still: Grid, samples: np.ndarray, moved: Grid, start: Matrix, metric: str) -> Matrix:
        steps.append(1)
        return start + 0.001

    monkeypatch.setattr(registration, "refine", refine)
    found = register(volume(plug), volume(plug), initial=np.eye(4))
    assert len(steps) >= 3
    np.testing.assert_allclose(found.matrix, np.eye(4) + 0.001 * len(steps))


def test_the_paper_s_cost_fits_scans_of_one_stain(plug: np.ndarray) -> None:
    true = mounted(100, 5, (0.1, 0.1, 0.1))
    same = remounted(plug, true)
    again = np.interp(same, LEVELS[[0, 90, 200]], (0, 90, 200)).astype(np.uint8)
    start = mounted(102, 6, (0.12, 0.08, 0.15))
    found = register(volume(plug), volume(again), metric="mse", initial=start)
    assert error_voxels(found.matrix, true) < 0.5


@pytest.mark.parametrize(
    "array",
    [np.zeros((52, 44, 44), np.uint8), np.arange(80 * 64, dtype=np.uint16).reshape(80, 1, 64)],
    ids=["empty", "slice"],
)
def test_a_scan_without_a_plug_is_an_error(plug: np.ndarray, array: np.ndarray) -> None:
    with pytest.raises(ContentError):
        register(volume(plug), volume(array))


# ------------------------------------------------------------------------------ resampling and masks


def test_a_shift_by_whole_voxels_is_exact() -> None:
    ca4 = np.random.default_rng(0).integers(5, 200, (150, 6, 7)).astype(np.uint16)
    shift = np.eye(4)
    shift[:3, 3] = 1 * MM, 2 * MM, 3 * MM  # PTA voxel (z, y, x) is CA4+ voxel (z + 3, y + 2, x + 1)
    out = resample(volume(ca4), shift, volume(np.zeros((148, 6, 7), np.uint8)))
    assert (out.shape, out.dtype) == ((148, 6, 7), np.uint16)
    np.testing.assert_array_equal(out[:147, :4, :6], ca4[3:150, 2:, 1:])
    darkest = ca4.min()
    assert (out[147] == darkest).all() and (out[:, 4:] == darkest).all() and (out[:, :, 6] == darkest).all()


def test_resampling_is_itk_s(plug: np.ndarray) -> None:
    matrix = mounted(30, 12, (0.3, 0.2, -0.4))
    ca4, pta = volume(remounted(plug, matrix, 50.0, 70), 50.0), volume(np.zeros((140, 44, 33), np.uint8))
    images = [sitk.GetImageFromArray(v.array) for v in (ca4, pta)]
    for image, scan in zip(images, (ca4, pta), strict=True):
        image.SetSpacing([scan.voxel_um / 1000] * 3)
    move = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
    at_once = sitk.Resample(*images, move, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    whole = sitk.GetArrayFromImage(at_once)
    ours = resample(ca4, matrix, pta)
    assert np.mean(abs(ours - whole) > 0.501) < 1e-3  # but for the rim of the field of view
    assert whole.any()


def test_scans_that_do_not_meet_resample_to_darkness() -> None:
    away = np.eye(4)
    away[:3, 3] = 99.0
    ca4 = np.full((5, 5, 5), 7, np.int16)
    assert (resample(volume(ca4), away, volume(np.zeros((4, 4, 4), np.uint8))) == 7).all()


def test_otsu_parts_bone_from_cartilage_even_where_bone_is_scarce() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat([3.0, 75.0, 250.0], [60_000, 30_000, 3_000]) + rng.normal(0, 4, 93_000)
    registered = rng.permutation(levels.clip(0, 255)).astype(np.uint8).reshape(30, 31, 100)
    level = otsu_level(registered)
    assert np.count_nonzero(registered > level) == 3_000


def test_hard_tissue_is_cleaned() -> None:
    registered = np.zeros((40, 40, 40), np.uint16)
    registered[2:20, 2:38, 2:38] = 30_000
    registered[20:38, 2:38, 2:38] = 9_000
    truth = registered > 20_000
    registered[10, 10, 10] = 100  # a pinhole of 3.2 µm in bone
    registered[30, 30, 30] = 31_000  # a speck in cartilage
    for threshold in (None, 20_000.0):
        mask = hard_tissue(registered, 3.2, threshold)
        assert (mask.dtype, set(np.unique(mask))) == (np.uint8, {0, 255})
        np.testing.assert_array_equal(mask > 0, truth)
    assert not hard_tissue(registered, 3.2, 40_000.0).any()
    assert not hard_tissue(np.zeros((9, 9, 9), np.uint8), 3.2).any()
