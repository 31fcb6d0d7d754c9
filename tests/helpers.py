"""What the tests of several folders draw and run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOXEL_UM = 40.0  # a 2 mm plug is then 50 voxels wide
SURFACE_Z = 40  # rows below are hard tissue


def draw_plug(shape: tuple[int, int, int] = (80, 64, 64), bone_end: str = "first") -> np.ndarray:
    """Return a uint8 cylinder (Z, Y, X): bone of 170 with cavities, flat tidemark, cartilage of 120."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = (y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < 25**2
    scan = np.where(inside & (z >= 5) & (z < shape[0] - 5), np.where(z < SURFACE_Z, 170, 120), 0)
    for centre in rng.uniform((10, 14, 14), (30, shape[1] - 14, shape[2] - 14), (20, 3)):
        scan[((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 4**2) & inside] = 10
    scan = np.clip(scan + rng.normal(0, 3, shape), 0, 255).astype(np.uint8)
    return scan if bone_end == "first" else scan[::-1].copy()


def draw_small_plug(seed: int) -> np.ndarray:
    """Return a cylinder (52, 44, 44) in air: bone at 200 with cavities of its own, below cartilage at 90."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:52, :44, :44]
    inside = (y - 21.5) ** 2 + (x - 21.5) ** 2 < 18**2
    scan = np.where(inside & (z >= 4) & (z < 48), np.where(z < 28, 200, 90), 0)
    for centre in rng.uniform((6, 8, 8), (22, 36, 36), (16, 3)):
        scan[((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 3.5**2) & inside] = 10
    return np.clip(scan + rng.normal(0, 3, scan.shape), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
