"""Samples that are no 2 mm cylinder, from the scan to the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import VOXEL_UM
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.segmentation import Settings, segment

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]
DEPTH = 90
THICK = 30  # voxels of cartilage


def draw(
    field: tuple[int, int], sides: tuple[float, float], *, turn: float = 0, tilt: float = 0, radius: float = 0
) -> Drawn:
    """Return a scan (Z, Y, X), its tidemark (Y, X) in voxels and its columns: bone of 170, cartilage of 120.

    `sides` are half its widths in voxels, of a sawn sample turned by so many degrees, or of a disc where the
    second is 0; its tidemark slopes by `tilt` and falls to both ends of the second with a `radius`.
    """
    y, x = np.mgrid[: field[0], : field[1]] - (np.array(field)[:, None, None] - 1) / 2
    angle = np.radians(turn)
    across, along = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    inside = np.hypot(y, x) < sides[0] if not sides[1] else (abs(across) < sides[0]) & (abs(along) < sides[1])
    tidemark = 50 + tilt * x + (np.sqrt(radius**2 - along**2) - radius if radius else 0)
    z = np.arange(DEPTH)[:, None, None]
    scan = np.where(z + 0.5 < tidemark, 170.0, 120.0) * (inside & (z + 0.5 < tidemark + THICK))
    rng = np.random.default_rng(0)
    for low, cy, cx in rng.uniform((12, 0, 0), (45, *field), (int(0.02 * inside.size), 3)):  # marrow
        hole = np.s_[:, max(0, int(cy) - 3) : int(cy) + 4, max(0, int(cx) - 3) : int(cx) + 4]
        scan[hole][(abs(z - tidemark[hole[1:]] + low) < 3) & (scan[hole] > 0)] = 10
    noise = rng.normal(0, 3, scan.shape)
    return np.clip(scan + noise, 0, 255).astype(np.uint8), tidemark, inside


SAMPLES: dict[str, dict] = {
    "a plug of 4 mm": {"field": (116, 120), "sides": (50, 0)},
    "a plug of 4 mm cut by all sides of the field": {"field": (70, 70), "sides": (50, 0)},
    "a block": {"field": (120, 130), "sides": (37, 50), "turn": 30},
    "a block that leans": {"field": (90, 120), "sides": (37, 50), "tilt": 0.25},
    "a block cut by two sides": {"field": (60, 116), "sides": (37, 50)},
    "a block cut by four sides": {"field": (60, 80), "sides": (37, 50)},
    "a slab": {"field": (84, 270), "sides": (30, 125), "turn": 4, "radius": 300},
    "a slab cut by two sides": {"field": (84, 200), "sides": (30, 125), "radius": 250},
    "a slab cut by four sides": {"field": (50, 200), "sides": (30, 125), "radius": 250},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_wide_sample_is_segmented_and_measured_like_a_plug(name: str, model: Path) -> None:
    scan, tidemark, inside = draw(**SAMPLES[name])
    found = segment(Volume(scan, VOXEL_UM, "file", Path(name)), load_models(model), Settings(device="cpu"))
    assert np.mean((found.mask > 0) != (scan > 150)) < 1e-3
    height = found.surface.height_um / VOXEL_UM
    assert np.isfinite(height[inside]).mean() > 0.99
    assert not np.isfinite(height[~inside]).any()
    assert np.nanmax(abs(height - tidemark)[inside]) < 1.5
    assert found.surface.opening.mean() < 0.01
    assert found.stats["bone_end"] == "first"
    assert found.stats["confidence"] > 0.9
    assert found.stats["thickness_median_um"] == pytest.approx(THICK * VOXEL_UM, abs=VOXEL_UM)
    assert found.stats["tidemark_depth_mean_um"] == pytest.approx(THICK * VOXEL_UM, abs=2 * VOXEL_UM)
    assert found.stats["roughness_sq_um"] < 0.5 * VOXEL_UM  # whole voxels: 0.29


def test_the_model_inside_the_package_finds_the_tidemark_of_a_slab() -> None:
    slab = draw_phantom(5, (100, 24, 250), 32.0, kind="slab")  # 8 mm of it
    volume = Volume(slab.scan, 32.0, "option", Path("slab"))
    found = segment(volume, load_models(None), Settings(device="cpu", planes=("zx",), step=4))
    top = 100 - (slab.mask[::-1] > 0).argmax(0)  # (Y, X)
    assert np.ptp(np.median(top, axis=0)) > 15  # it falls by half a millimetre
    errors = found.surface.height_um - 32 * top
    assert np.isfinite(errors).mean() > 0.95
    assert np.nanmedian(abs(errors)) < 32
