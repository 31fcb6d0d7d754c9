"""How often the grey levels tell the bone end, and how sure they are where they are wrong.

    python tests/benchmarks/bench_bone_end.py [--seeds 200 205]

Plugs of both families, 1.6 x 1 x 1 mm, half of them with a plate 0.5-1 mm thick and free of marrow; every
other one with a sawn bone end; whole and as a single slice, blurred by 0 to 3 voxels, both ways up.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import second_family
from scipy.ndimage import gaussian_filter

from tidemark_cli.core.anatomy.plug import find_plug
from tidemark_cli.core.phantoms.anatomy import Anatomy, Stain
from tidemark_cli.core.phantoms.scanner import Scanner, ring_profile
from tidemark_cli.core.phantoms.texture import make_grid
from tidemark_cli.core.phantoms.tissue import Tissue

SHAPE, VOXEL_UM = (256, 160, 160), 6.4


def draw_first(seed: int, thick: bool) -> np.ndarray:
    """Return a plug of the package's own family (Z, Y, X), bone first."""
    rng = np.random.default_rng([seed, thick])
    height_um, width_um = SHAPE[0] * VOXEL_UM, SHAPE[1] * VOXEL_UM
    anatomy, stain = Anatomy.draw(rng, height_um, width_um), Stain.draw(rng)
    if thick:
        tidemark_um = height_um * rng.uniform(0.35, 0.55)
        anatomy = replace(anatomy, tidemark_um=tidemark_um, surface_um=tidemark_um + 0.4 * height_um)
        anatomy = replace(anatomy, plate_um=rng.uniform(500, 1000), breach=-4, marrow=-4)
    if seed % 2:
        anatomy = replace(anatomy, bottom_um=rng.uniform(30, 200))
    scanner = Scanner.draw(rng, max(stain.deep, stain.bone))
    grid = make_grid(SHAPE, VOXEL_UM)
    tissue = Tissue(rng, grid.extent, anatomy, stain).draw(grid)[0]
    return scanner.scan(rng, tissue, grid, ring_profile(rng, 4096))


def draw_second(seed: int, thick: bool) -> np.ndarray:
    """Return a plug of the second family (Z, Y, X), bone first."""
    rng = np.random.default_rng([seed, thick])
    recipe = second_family.draw_recipe(rng)
    if thick:
        recipe = replace(recipe, plate_um=rng.uniform(500, 1000), bone_share=rng.uniform(0.35, 0.55))
        recipe = replace(recipe, marrow_fraction=0, thin_spots=0, canals=0, channels=0)
    recipe = replace(recipe, sawn_um=rng.uniform(30, 200) if seed % 2 else -1.0)
    return second_family.render(recipe, seed, SHAPE, VOXEL_UM, "easy").scan


def draw(seeds: range) -> Iterator[tuple[str, np.ndarray]]:
    """Draw the group and the scan of each phantom."""
    for seed in seeds:
        for thick in (True, False):
            for family, plug in (("first", draw_first(seed, thick)), ("second", draw_second(seed, thick))):
                plate = "thick plate" if thick else "ordinary"
                blur = float(np.random.default_rng([seed, thick, 1]).uniform(0, 3))
                middle = plug[:, SHAPE[1] // 2, None].astype(np.float32)
                yield f"{plate}, {family} family, volume", gaussian_filter(plug.astype(np.float32), blur)
                yield f"{plate}, {family} family, image", gaussian_filter(middle, (blur, 0, blur))


def main() -> None:
    """Print a row for each group."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(200, 205), help="first, last + 1")
    found: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for group, scan in draw(range(*parser.parse_args().seeds)):
        for turned, end in ((scan, "first"), (scan[::-1], "last")):
            plug = find_plug(turned, VOXEL_UM)
            found[group].append((plug.bone.end == end, plug.bone.confidence))
    print(f"{'':38s} right        mean confidence where right, wrong")
    for group, judged in sorted(found.items()):
        means = [np.mean([c for r, c in judged if r == right] or [np.nan]) for right in (True, False)]
        right = sum(r for r, _ in judged)
        print(f"{group:38s} {right:3d} of {len(judged):3d}   {means[0]:.2f}, {means[1]:.2f}")


if __name__ == "__main__":
    main()
