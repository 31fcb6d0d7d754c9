"""What the confidence is worth: confidence against true error, over many phantoms and changed ones.

    python tests/benchmarks/bench_reliability.py [--count N] [--first-seed N] [--plot OUT.png]

Each plug of both generators (see `plugs.py`) is segmented as it is and in one changed way: blurred, denoised,
noisy, with larger voxels, with little contrast or an inverted one. A mask is good where its IoU with the
whole truth is at least 0.85 and the median error of the tidemark at most 16 µm. All data are synthetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, median_filter

from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.network.models import load_models

sys.path.insert(0, str(Path(__file__).parent))
from bench_accuracy import accuracy
from plugs import FAMILIES, Case, at_voxels, cases

GOOD_IOU, GOOD_UM = 0.85, 16.0
BINS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


def _grey(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Case], Case]:
    def changed(case: Case) -> Case:
        return replace(case, scan=np.clip(np.rint(change(case.scan)), 0, 255).astype(np.uint8))

    return changed


CHANGES: dict[str, Callable[[Case], Case]] = {
    "blurred by 1": _grey(lambda scan: gaussian_filter(scan.astype(np.float32), 1)),
    "blurred by 2": _grey(lambda scan: gaussian_filter(scan.astype(np.float32), 2)),
    "blurred by 3": _grey(lambda scan: gaussian_filter(scan.astype(np.float32), 3)),
    "blurred by 6": _grey(lambda scan: gaussian_filter(scan.astype(np.float32), 6)),
    "median of 5": _grey(lambda scan: median_filter(scan, 5)),
    "6.4 µm": lambda case: at_voxels(case, 6.4),
    "12 µm": lambda case: at_voxels(case, 12.0),
    "20 µm": lambda case: at_voxels(case, 20.0),
    "32 µm": lambda case: at_voxels(case, 32.0),
    "noise of 25": _grey(lambda scan: scan + np.random.default_rng(0).normal(0, 25, scan.shape)),
    "a tenth of the contrast": _grey(lambda scan: scan / 10 + 100),
    "inverted": _grey(lambda scan: 255.0 - scan),
}


def table(results: list[tuple[str, float, float, float]]) -> None:
    """Print, for each range of confidence, how many masks were good and how wrong they were."""
    print(
        "\n| confidence | scans | good masks | least IoU | median IoU | median error, 90th percentile, µm |"
    )
    print("|---|---|---|---|---|---|")
    for low, high in pairwise(BINS):
        some = [r for r in results if low <= r[1] < high or (high == 1 and r[1] == 1)]
        if not some:
            print(f"| {low} to {high} | 0 | | | | |")
            continue
        iou, error = np.array([r[2] for r in some]), np.array([r[3] for r in some])
        good = np.count_nonzero((iou >= GOOD_IOU) & (error <= GOOD_UM))
        worst = np.percentile(np.nan_to_num(error, nan=999), 90)
        print(
            f"| {low} to {high} | {len(some)} | {good} ({good / len(some):.0%}) | {iou.min():.2f} | "
            f"{np.median(iou):.2f} | {worst:.0f} |"
        )


def plot(results: list[tuple[str, float, float, float]], path: Path) -> None:
    """Draw confidence against the IoU of the whole mask, one point a scan."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    confidence = [r[1] for r in results]
    axes[0].scatter(confidence, [r[2] for r in results], s=14, alpha=0.6)
    axes[0].set(xlabel="confidence", ylabel="IoU of the whole mask", ylim=(0, 1.02))
    axes[1].scatter(confidence, np.clip([r[3] for r in results], 1, 500), s=14, alpha=0.6)
    axes[1].set(xlabel="confidence", ylabel="median error of the tidemark, µm", yscale="log")
    for axis, limit in zip(axes, (GOOD_IOU, GOOD_UM), strict=True):
        axis.axhline(limit, color="0.5", lw=0.8, ls="--")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="plugs of each family")
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--kept", type=Path, help="folder of phantoms, drawn where they are not in it yet")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    models = load_models(options.weights)
    results = []
    print("| scan | confidence | mask IoU | median error, µm |\n|---|---|---|---|")
    for family in FAMILIES:
        for number, case in enumerate(cases(family, options.first_seed, options.count, options.kept)):
            name = list(CHANGES)[(number + number // len(CHANGES) + number % 3) % len(CHANGES)]
            for how, scan in (("as it is", case), (name, CHANGES[name](case))):
                try:
                    row, _ = accuracy(scan, models)
                except ContentError as error:
                    print(f"| {case.name}, {how} | refused: {error} | | |", flush=True)
                    continue
                found = (f"{case.name}, {how}", row["confidence"], row["mask IoU"], row["median µm"])
                results.append(found)
                print(f"| {found[0]} | {found[1]:.2f} | {found[2]:.3f} | {found[3]:.1f} |", flush=True)
    table(results)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
