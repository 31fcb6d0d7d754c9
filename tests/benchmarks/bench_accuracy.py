"""How far the predicted tidemark is from the true one: on unseen phantoms, and on annotated real slices.

    python tests/benchmarks/bench_accuracy.py [--count 6] [--weights MODEL] [--real FOLDER]

Phantoms are drawn from seeds that training never uses (training draws slices from other seeds, with other
ranges). FOLDER holds NAME.png, a real PTA slice, and NAME_tidemark.csv with columns column,row: the first
hard pixel in image coordinates. Both are segmented as `tidemark predict` does it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tidemark_cli.core.inference import load_models
from tidemark_cli.core.phantom import SHAPE, draw_phantom
from tidemark_cli.core.segmentation import Settings, segment
from tidemark_cli.core.surface import find_surface
from tidemark_cli.core.volume import Volume, read_volume

FIRST_SEED = 1000


def phantom_row(seed: int, shape: tuple[int, int, int], models: list) -> dict[str, float]:
    """Error of the height map, in voxels, and overlap of the masks on one phantom."""
    phantom = draw_phantom(seed, shape)
    volume = Volume(phantom.scan, phantom.voxel_um, "option", Path(f"phantom_{seed}"))
    found = segment(volume, models, Settings())
    truth = find_surface(phantom.mask, phantom.voxel_um, "first").height_um
    height = found.surface.height_um
    columns = np.isfinite(truth)
    both = columns & np.isfinite(height)
    error = np.abs(height[both] - truth[both]) / phantom.voxel_um
    a, b = found.mask > 0, phantom.mask > 0
    # a truth column is missed when no tidemark is found in it at all: neither a height nor a marked opening
    missed = columns & ~np.isfinite(height) & ~found.surface.opening
    return {
        "median": float(np.median(error)),
        "mean": float(error.mean()),
        "p95": float(np.percentile(error, 95)),
        "missed %": 100 * float(missed.sum() / columns.sum()),
        "called opening %": 100 * float((columns & found.surface.opening).sum() / columns.sum()),
        "IoU": float((a & b).sum() / (a | b).sum()),
        "bone end": float(found.plug.bone_end == "first"),
    }


def real_row(image: Path, models: list) -> dict[str, float]:
    """Error of the first hard pixel in each annotated column of a real slice, in pixels."""
    found = segment(read_volume(image, 3.2), models, Settings())
    columns, rows = np.loadtxt(
        image.with_name(f"{image.stem}_tidemark.csv"), delimiter=",", skiprows=1, dtype=int
    ).T
    hard = found.mask[:, 0] > 0
    if found.plug.bone_end == "first":
        first = hard.shape[0] - 1 - hard[::-1].argmax(axis=0)
    else:
        first = hard.argmax(axis=0)
    seen = hard.any(axis=0)[columns]
    error = first[columns][seen] - rows[seen]
    size = np.abs(error)
    return {
        "columns": float(len(columns)),
        "missed": float((~seen).sum()),
        "bias": float(error.mean()),
        "median": float(np.median(size)),
        "mean": float(size.mean()),
        "p95": float(np.percentile(size, 95)),
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a Markdown table."""
    heads = list(next(iter(rows.values())))
    print(f"\n{title}\n\n| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[h]:.3g}' for h in heads)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    models = load_models(options.weights)
    if options.count:
        seeds = range(FIRST_SEED, FIRST_SEED + options.count)
        rows = {f"seed {seed}": phantom_row(seed, tuple(options.shape), models) for seed in seeds}
        rows["median"] = {
            h: float(np.median([row[h] for row in rows.values()])) for h in rows[f"seed {FIRST_SEED}"]
        }
        show("Phantoms (voxels)", rows)
    if options.real:
        images = sorted(
            p for p in options.real.glob("*.png") if p.with_name(f"{p.stem}_tidemark.csv").exists()
        )
        show("Real slices (pixels)", {image.stem: real_row(image, models) for image in images})


if __name__ == "__main__":
    main()
