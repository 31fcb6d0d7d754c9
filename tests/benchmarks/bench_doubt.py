"""Confidence that `predict` gives to plugs, and to what is no plug.

    python tests/benchmarks/bench_doubt.py [--count 3]

Plugs: phantoms of both generators, unseen in training. No plugs: made here, each a thing that a user could
hand over by mistake. Both are synthetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from tidemark_cli.core.anatomy.confidence import REASONS
from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.segmentation import Settings, segment

sys.path.insert(0, str(Path(__file__).parent))
from second_family import draw_plug

SHAPE = (384, 224, 224)
VOXEL_UM = 6.4  # half the resolution: the whole plug at an eighth of the work


def plugs(count: int) -> Iterator[tuple[str, np.ndarray, float]]:
    for seed in range(3000, 3000 + count):
        yield f"phantom {seed}", draw_phantom(seed, SHAPE, VOXEL_UM).scan, VOXEL_UM
        for kind in ("easy", "crest_lost", "voids"):
            yield f"second generator, {kind}, {seed}", draw_plug(seed, (448, 256, 256), kind=kind).scan, 3.2


def no_plugs(count: int) -> Iterator[tuple[str, np.ndarray, float]]:
    for seed in range(4000, 4000 + count):
        rng = np.random.default_rng(seed)
        plug = draw_phantom(seed, SHAPE, VOXEL_UM, pair=True)
        assert plug.ca4 is not None
        top = int(np.flatnonzero((plug.mask > 0).any(axis=(1, 2)))[-1])
        yield f"CA4+ instead of PTA, {seed}", plug.ca4, VOXEL_UM
        gap = np.zeros((*SHAPE[:2], round(300 / VOXEL_UM)), np.uint8)  # nearer than 150 µm they are one body
        two = np.concatenate([plug.scan, gap, plug.scan[:, :, ::-1]], axis=2)
        yield f"two plugs side by side, {seed}", two, VOXEL_UM
        yield f"cartilage without bone, {seed}", np.ascontiguousarray(plug.scan[top + 20 :]), VOXEL_UM
        low = int(np.percentile(np.flatnonzero((plug.mask > 0).any(axis=(1, 2))), 50))
        yield f"bone without cartilage, {seed}", np.ascontiguousarray(plug.scan[:low]), VOXEL_UM
        yield f"on its side, {seed}", np.ascontiguousarray(plug.scan.transpose(2, 1, 0)), VOXEL_UM
        noise = gaussian_filter(rng.standard_normal((256, 192, 192)), 6)
        yield f"blobs, {seed}", _grey(noise), VOXEL_UM
        radius = np.sqrt(sum(g**2 for g in np.ogrid[-1:1:256j, -1:1:192j, -1:1:192j]))
        brain = np.sin(18 * radius + 40 * noise) * (radius < 0.9) + 2 * (radius < 0.9)
        yield f"a folded ball, {seed}", _grey(brain + 0.1 * rng.standard_normal(brain.shape)), VOXEL_UM


def _grey(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return (255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    models = load_models(options.weights)
    print(f"| scan | confidence | {' | '.join(REASONS)} |\n|---|---|{'---|' * len(REASONS)}")
    for things in (plugs(options.count), no_plugs(options.count)):
        for name, scan, voxel_um in things:
            try:
                stats = segment(Volume(scan, voxel_um, "option", Path(name)), models, Settings()).stats
            except ContentError as error:
                print(f"| {name} | refused: {error} |")
                continue
            signs = " | ".join(f"{v:.2f}" for v in stats["confidence_signs"].values())
            print(f"| {name} | {stats['confidence']:.2f} | {signs} |", flush=True)


if __name__ == "__main__":
    main()
