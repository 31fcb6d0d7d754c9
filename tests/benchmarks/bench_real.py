"""Whether a real slice gives the same tidemark however it is turned, scaled, cut or windowed.

    python tests/benchmarks/bench_real.py FOLDER [--weights MODEL]

FOLDER holds NAME.png, a real PTA slice, and NAME_tidemark.csv with columns column,row: the first hard pixel.
Errors in pixels of the changed slice. "told" gives `predict` the changed voxel size, "untold" does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from tidemark_cli.core.inference import load_models
from tidemark_cli.core.phantom import VOXEL_UM

sys.path.insert(0, str(Path(__file__).parent))
from bench_accuracy import annotated, annotated_slices, real_row, show

Slice = tuple[np.ndarray, np.ndarray, np.ndarray, float]  # grey levels, columns, rows, voxel size told


def turned(grey: np.ndarray, columns: np.ndarray, rows: np.ndarray, degrees: float) -> Slice:
    """Turn the slice about its middle, on a larger field of view."""
    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    larger = int(1.3 * width), int(1.3 * height)
    matrix[:, 2] += (larger[0] - width) / 2, (larger[1] - height) / 2
    x, y = matrix @ np.stack([columns, rows, np.ones(len(rows))])
    at = np.arange(np.ceil(x.min()), np.floor(x.max()))
    order = np.argsort(x)
    return cv2.warpAffine(grey, matrix, larger), at, np.interp(at, x[order], y[order]), VOXEL_UM


def scaled(grey: np.ndarray, columns: np.ndarray, rows: np.ndarray, factor: float) -> Slice:
    size = [round(n * factor) for n in grey.shape]
    x, y = (
        (where + 0.5) * new / old - 0.5
        for where, new, old in zip((columns, rows), size[::-1], grey.shape[::-1], strict=True)
    )
    return cv2.resize(grey, size[::-1], interpolation=cv2.INTER_LINEAR), x, y, VOXEL_UM


def changes(grey: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> Iterator[tuple[str, Slice]]:
    height, width = grey.shape
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(grey.shape), 1)
    side = width // 5
    inner = (columns >= side) & (columns < width - side)

    yield "as it is", (grey, columns, rows, VOXEL_UM)
    yield "upside down", (grey[::-1], columns, height - 1 - rows, VOXEL_UM)
    yield "mirrored", (grey[:, ::-1], width - 1 - columns, rows, VOXEL_UM)
    for degrees in (-30, -20, -10, 10, 20, 30):
        yield f"turned by {degrees}°", turned(grey, columns, rows, degrees)
    for factor in (0.64, 0.8, 1.25, 1.6):
        larger = scaled(grey, columns, rows, factor)
        yield f"{factor} times the pixels, told", (*larger[:3], VOXEL_UM / factor)
        yield f"{factor} times the pixels, untold", larger
    levels = {
        "half the contrast": grey / 2,
        "lifted": 0.7 * grey + 40,
        "gamma 0.6": 255 * (grey / 255) ** 0.6,
        "gamma 1.6": 255 * (grey / 255) ** 1.6,
        "blurred by 1.5 pixels": gaussian_filter(grey, 1.5),
        "noise of 10": grey + 10 * noise / noise.std(),
    }
    for name, changed in levels.items():
        yield name, (changed, columns, rows, VOXEL_UM)
    yield "cut above", (grey[100:], columns, rows - 100, VOXEL_UM)
    yield "cut below", (grey[:-100], columns, rows, VOXEL_UM)
    yield "cut at both sides", (grey[:, side:-side], columns[inner] - side, rows[inner], VOXEL_UM)
    yield "more air", (np.pad(grey, 150), columns + 150, rows + 150, VOXEL_UM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    models = load_models(options.weights)
    for image in annotated_slices(options.folder):
        grey, columns, rows = annotated(image)
        table = {}
        for name, (changed, x, y, voxel_um) in changes(grey.astype(np.float32), columns, rows):
            levels = np.clip(np.round(changed), 0, 255).astype(np.uint8)
            table[name] = real_row(np.ascontiguousarray(levels), x, y, voxel_um, models)
        show(f"{image.stem} (pixels)", table)


if __name__ == "__main__":
    main()
