"""Whether the same plug gives the same tidemark, however it was scanned; phantoms of the package's generator.

    python tests/benchmarks/bench_invariance.py [--count 2]

For each way: the median difference of the height map from that of the plain scan, in voxels of 3.2 µm,
and the columns that only one of the two has, in percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.segmentation import Settings, segment

SHAPE = (512, 320, 320)
VOXEL_UM = 3.2
TURN_DEG = 37.0

Map = np.ndarray


def turned(image: np.ndarray, degrees: float, way: int, outside: float) -> np.ndarray:
    """Rotate an image (Y, X) about its centre."""
    centre = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=way, borderValue=outside)


def stretched(height: Map) -> Map:
    """A height map (Y, X) on the columns of the plain scan."""
    return cv2.resize(height, SHAPE[:0:-1], interpolation=cv2.INTER_NEAREST)


def redrawn(seed: int, voxel_um: float) -> np.ndarray:
    """The same plug, scanned at another voxel size."""
    return draw_phantom(seed, tuple(round(n * VOXEL_UM / voxel_um) for n in SHAPE), voxel_um).scan


def ways(
    seed: int, scan: np.ndarray
) -> dict[str, tuple[Callable[[], np.ndarray], float, Callable[[Map], Map]]]:
    """Name: how to make the scan, its voxel size, and how to bring its height map back."""

    def same(height: Map) -> Map:
        return height

    def turn() -> np.ndarray:
        return np.stack([turned(plane, TURN_DEG, cv2.INTER_LINEAR, 0) for plane in scan])

    def quarter_turn() -> np.ndarray:
        return np.ascontiguousarray(np.rot90(scan, axes=(1, 2)))

    return {
        "upside down": (lambda: np.ascontiguousarray(scan[::-1]), VOXEL_UM, same),
        "a quarter turn": (quarter_turn, VOXEL_UM, lambda h: np.rot90(h, -1)),
        "a turn of 37°": (turn, VOXEL_UM, lambda h: turned(h, -TURN_DEG, cv2.INTER_NEAREST, np.nan)),
        "half the contrast": (lambda: (scan // 2 + 40).astype(np.uint8), VOXEL_UM, same),
        "16 bit": (lambda: scan.astype(np.uint16) * 150 + 3000, VOXEL_UM, same),
        "scanned again": (lambda: draw_phantom(seed, SHAPE, VOXEL_UM, scan_number=1).scan, VOXEL_UM, same),
        "voxels of 2.5 µm": (lambda: redrawn(seed, 2.5), 2.5, stretched),
        "voxels of 5 µm": (lambda: redrawn(seed, 5.0), 5.0, stretched),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    models = load_models(options.weights)

    def height(scan: np.ndarray, voxel_um: float) -> Map:
        return segment(Volume(scan, voxel_um, "option", Path("scan")), models, Settings()).surface.height_um

    print("| seed | scan | median difference, voxels | in one only, % |\n|---|---|---|---|")
    for seed in range(2000, 2000 + options.count):
        scan = draw_phantom(seed, SHAPE, VOXEL_UM).scan
        plain = height(scan, VOXEL_UM)
        for name, (make, voxel_um, back) in ways(seed, scan).items():
            found = back(height(make(), voxel_um))
            both = np.isfinite(found) & np.isfinite(plain)
            either = np.isfinite(found) | np.isfinite(plain)
            difference = np.median(np.abs(found[both] - plain[both])) / VOXEL_UM
            print(
                f"| {seed} | {name} | {difference:.2f} | {100 * (1 - both.sum() / either.sum()):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
