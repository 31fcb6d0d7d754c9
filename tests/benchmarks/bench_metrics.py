"""How fast ``tidemark metrics`` scores a 448 x 448 x 768 sample, ten pads and three thresholds. Linux.

    python tests/benchmarks/bench_metrics.py [--size Z Y X] [--rows 8] [--folder FOLDER]

The true mask is a phantom's; the prediction is a copy of it, its tidemark moved by smooth noise and its
levels made probabilities. The plain way computes each pad and threshold apart, as the paper's script does: a
loop over the columns marks the zone, a two-dimensional histogram of the zone's voxels counts. It would take
minutes, so it is timed on some rows of the sample, for the narrowest and the widest pad, and scaled to all
rows and pads; on these rows its counts must be ours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from tidemark_cli.core.anatomy.surface import last_hard
from tidemark_cli.core.scans.volume import read_volume
from tidemark_cli.core.scoring.scores import PAPER_PADS_UM, score_pair
from tidemark_cli.core.scoring.zones import pad_voxels, zone_counts

VOXEL_UM = 3.2
PADS = [pad_voxels(pad, VOXEL_UM, paper=True) for pad in PAPER_PADS_UM]
THRESHOLDS = (0.3, 0.5, 0.7)


def perturbed(truth: np.ndarray) -> np.ndarray:
    """Return a prediction (Z, Y, X) uint8: `truth`, its columns moved by some voxels, as probabilities."""
    rng = np.random.default_rng(0)
    shift = np.round(gaussian_filter(rng.normal(size=truth.shape[1:]), 8) * 60).astype(int)
    prediction = np.empty_like(truth)
    for y in range(truth.shape[1]):
        z = np.clip(np.arange(len(truth))[:, None] + shift[y], 0, len(truth) - 1)
        hard = np.take_along_axis(truth[:, y], z, 0) != 0
        low, high = np.where(hard, 120, 0), np.where(hard, 256, 60)
        prediction[:, y] = rng.integers(low, high)
    return prediction


def zone_by_columns(truth: np.ndarray, pad: int) -> np.ndarray:
    """Mark the zone column by column; (Z, Y, X) with the bone first, cut where the deepest zone ends."""
    top = last_hard(truth)
    zone = np.zeros(truth.shape)
    for y in range(truth.shape[1]):
        for x in range(truth.shape[2]):
            if top[y, x] >= 0:
                zone[max(0, top[y, x] - pad + 1) : top[y, x] + pad + 1, y, x] = 1
    return zone


def counts_by_histogram(
    prediction: np.ndarray, truth: np.ndarray, zone: np.ndarray, threshold: float
) -> list[int]:
    """Count true positives, false positives and false negatives by a histogram of pairs of labels."""
    found, true = (prediction * zone > threshold * 255).ravel(), ((truth != 0) * zone).ravel()
    counts, _ = np.histogramdd(np.vstack([true, found]).T, bins=(2, 2), range=[(0, 2), (0, 2)])
    return [int(counts[1, 1]), int(counts[0, 1]), int(counts[1, 0])]


def plain_seconds(prediction: np.ndarray, truth: np.ndarray, rows: int) -> float:
    """Seconds of the plain way for the whole sample, from `rows` rows in its middle."""
    middle = slice(truth.shape[1] // 2 - rows // 2, truth.shape[1] // 2 - rows // 2 + rows)
    # as the script does, the volume ends where the zones do
    top = last_hard(truth)
    bottom = max(0, int(top[top >= 0].min()) - max(PADS))
    prediction, truth = prediction[bottom:, middle], truth[bottom:, middle]
    ours = zone_counts(prediction, truth, PADS, THRESHOLDS)
    per_zone, per_histogram = [], []
    for p in (0, len(PADS) - 1):
        start = time.perf_counter()
        zone = zone_by_columns(truth, PADS[p])
        per_zone.append(time.perf_counter() - start)
        for t, threshold in enumerate(THRESHOLDS):
            start = time.perf_counter()
            counts = counts_by_histogram(prediction, truth, zone, threshold)
            per_histogram.append(time.perf_counter() - start)
            expected = [ours.true_positive[t, p], ours.false_positive[t, p], ours.false_negative[t, p]]
            if counts != expected:
                sys.exit(f"the counts differ: {counts}, ours {expected}")
    seconds = len(PADS) * (np.mean(per_zone) + len(THRESHOLDS) * np.mean(per_histogram))
    return float(seconds)


def peak_bytes() -> int:
    """The high-water mark of this process's resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(768, 448, 448), metavar=("Z", "Y", "X"))
    parser.add_argument("--rows", type=int, default=8, help="rows that the plain way is timed on")
    parser.add_argument("--folder", type=Path, help="where the phantom is written, or was by an earlier run")
    options = parser.parse_args()
    print(f"load at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "truth.tif").exists():  # drawn by another process: its memory is not counted
            command = [
                sys.executable,
                "-m",
                "tidemark_cli",
                "phantom",
                str(folder / "scan.tif"),
                "--overwrite",
            ]
            size = ["--size", *map(str, options.size)]
            subprocess.run([*command, *size, "--mask", str(folder / "truth.tif")], check=True)
        truth = read_volume(folder / "truth.tif").array
    prediction = perturbed(truth)
    shape = " x ".join(map(str, truth.shape))
    print(f"{shape} voxels (Z x Y x X), {len(PADS)} pads, {len(THRESHOLDS)} thresholds")

    runs = []
    for _ in range(3):
        start = time.perf_counter()
        counts = zone_counts(prediction, truth, PADS, THRESHOLDS)
        _ = counts.iou, counts.dice, counts.volumetric_similarity
        runs.append(time.perf_counter() - start)
    ours, peak = min(runs), peak_bytes()
    print(
        f"all overlap scores: {ours:.2f} s (best of 3), peak memory {peak / 2**30:.2f} GiB with both volumes"
    )

    start, cpu = time.perf_counter(), time.process_time()
    scores = score_pair(prediction, truth, VOXEL_UM, PAPER_PADS_UM, THRESHOLDS, paper=True)
    whole, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"with the surface's: {whole:.1f} s ({cpu:.1f} s of processor), peak {peak_bytes() / 2**30:.2f} GiB"
    )
    iou, hd95_um = scores[1].overlap["iou"][0], scores[1].surface["hd95_um"]
    print(f"at threshold 0.5: IoU {iou:.2f} in the narrowest zone, HD95 {hd95_um:.1f} µm")

    share = truth.shape[1] / options.rows
    plain = plain_seconds(prediction, truth, options.rows) * share
    part = f"{options.rows} of {truth.shape[1]} rows and 2 of {len(PADS)} pads"
    print(f"the plain way: {plain:.0f} s, from {part}")
    print(f"ratio: {plain / ours:.0f} times")
    if plain < 200 * ours or peak > 2 * 2**30 or whole > 30:
        sys.exit("short of the target: 200 times, 2 GiB, 30 s")


if __name__ == "__main__":
    main()
