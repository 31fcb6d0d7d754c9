"""What the tests of several folders draw and run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def save_bright_model(path: Path, voxel_um: float = VOXEL_UM) -> None:
    """Save a model whose network calls hard tissue what is brighter than 150 of 255."""
    import torch

    from tidemark_cli.core.network.unet import ModelInfo, UNet, save_model

    normalisation = {"kind": "standard", "mean": 0.0, "std": 255.0}
    info = ModelInfo(
        width=1, depth=1, normalisation=normalisation, voxel_um=voxel_um, threshold=0.5, either_end=True
    )
    net = UNet(info).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for block in (*net.down[0], *net.up[0]):
            block[0].weight[0, -1, 1, 1] = 1  # the last channel goes through: of the decoder, the skip
            block[1].weight.fill_(1)
        net.head.weight.fill_(40)
        net.head.bias.fill_(-40 * 150 / 255)
    save_model(path, net)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
