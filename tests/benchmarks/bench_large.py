"""A scan larger than memory: ``tidemark predict`` with and without ``--max-memory``, each in its own process.

python tests/benchmarks/bench_large.py [--size Z Y X] [--max-memory 1GiB] [--folder FOLDER] [-- --step 8]

The scan is a block of tissue: the middle of a drawn plug, mirrored along Y and X until it is as wide as asked
for, in air, written slab by slab as an uncompressed BigTIFF. Peaks are those of resident memory (ru_maxrss of
the process), pages of memory maps included. Linux.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile

from tidemark_cli.core.memory import parse_size
from tidemark_cli.core.phantoms.phantom import VOXEL_UM, draw_phantom

AIR = 40  # voxels of it on each side of the block
MIDDLE = 256  # voxels along Y and X of the plug that are repeated


@dataclass(frozen=True)
class Run:
    """What one run took."""

    peak: int  # bytes
    seconds: float


def planes(shape: tuple[int, int, int], seed: int) -> Iterator[np.ndarray]:
    """Yield the slices (Y, X) of the block."""
    depth, height, width = shape
    plug = draw_phantom(seed, (depth, 448, 448), VOXEL_UM).scan
    first = (448 - MIDDLE) // 2
    tile = plug[:, first : first + MIDDLE, first : first + MIDDLE]
    y, x = (mirrored(length - 2 * AIR) for length in (height, width))
    for plane in tile:
        yield np.pad(plane[np.ix_(y, x)], AIR)


def write_block(path: Path, shape: tuple[int, int, int], seed: int) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            planes(shape, seed), shape=shape, dtype=np.uint8, contiguous=True, metadata={"axes": "ZYX"}
        )


def mirrored(length: int) -> np.ndarray:
    """Return indices into the tile, forth and back."""
    there = np.arange(MIDDLE)
    return np.resize(np.concatenate([there, there[::-1]]), length)


def run(options: list[str]) -> Run:
    """Run ``tidemark predict``; the peak is that of this child alone."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "tidemark_cli", "predict", *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"predict failed with exit code {process.returncode}")
    return Run(usage.ru_maxrss * 1024, time.monotonic() - started)


def equal_share(first: Path, second: Path) -> float:
    """Return the share of voxels that two masks have in common, page by page."""
    with tifffile.TiffFile(first) as one, tifffile.TiffFile(second) as other:
        pairs = zip(one.pages, other.pages, strict=True)
        return float(np.mean([np.mean(a.asarray() == b.asarray()) for a, b in pairs]))


def height_difference(first: Path, second: Path) -> float:
    """Return the largest difference of two height maps in voxels; infinite where one alone has a tidemark."""
    one, other = (tifffile.imread(path) / VOXEL_UM for path in (first, second))
    if (np.isnan(one) != np.isnan(other)).any():
        return math.inf
    return float(np.nanmax(np.abs(one - other)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(768, 2048, 2048), metavar=("Z", "Y", "X"))
    parser.add_argument("--max-memory", default="1GiB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for scan and outputs; by default a temporary folder")
    parser.add_argument("--alone", action="store_true", help="over the disk only: the whole way does not fit")
    parser.add_argument("options", nargs="*", help="for predict, after --, as in: -- --step 8")
    arguments = parser.parse_args()
    shape = tuple(arguments.size)
    allowed, size = parse_size(arguments.max_memory), math.prod(shape)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        scan = Path(name) / "block.tif"
        # what this process holds would be counted as its child's
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            other.submit(write_block, scan, shape, arguments.seed).result()
        print(f"{' x '.join(map(str, shape))} 8-bit, {size / 2**30:.2f} GiB", flush=True)
        runs, ways = {}, {"disk": ["--max-memory", arguments.max_memory]}
        if not arguments.alone:
            ways["whole"] = ["--max-memory", "1TB"]
        for way, memory in ways.items():
            outputs = ["-o", f"{name}/{way}.ome.tif", "--surface", f"{name}/{way}_height.tif"]
            outputs += ["--stats", f"{name}/{way}.json", "--preview", f"{name}/{way}.png"]
            options = [str(scan), *outputs, "--voxel-size", str(VOXEL_UM), *memory, *arguments.options]
            runs[way] = run(options)
            peak = runs[way].peak
            print(f"{way:5}: peak {peak / 2**20:.0f} MiB, {runs[way].seconds:.0f} s", flush=True)
        print(f"peak over allowance: {runs['disk'].peak / allowed:.2f} (asked: at most 1.25)")
        if not arguments.alone:
            print(f"throughput: {runs['whole'].seconds / runs['disk'].seconds:.2f} of the whole way's (0.7)")
            masks = equal_share(*(Path(name) / f"{way}.ome.tif" for way in ways))
            print(f"equal voxels of the mask: {100 * masks:.4f} % (99.99)")
            heights = height_difference(*(Path(name) / f"{way}_height.tif" for way in ways))
            print(f"largest difference of heights: {heights:.4f} voxels (0.05)")


if __name__ == "__main__":
    main()
