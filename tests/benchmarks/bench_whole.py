"""How long a whole `tidemark predict` takes, from the command to its prompt, beside that of another version.

    python tests/benchmarks/bench_whole.py [--other CHECKOUT] [--repeat N] [--size Z Y X] [--seed N]

Each run is a process of its own that writes mask, surface, numbers and preview of a phantom; versions take
turns. `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` shows a processor without AVX-512 on any machine.
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
import torch

from tidemark_cli.core.phantoms.phantom import VOXEL_UM, draw_phantom
from tidemark_cli.core.scans.volume import read_volume, write_volume

HERE = Path(__file__).parents[2]


def run(checkout: Path, scan: Path, folder: Path) -> tuple[float, float]:
    """Return the seconds until the first line on the screen, and until the end."""
    outputs = (
        "-o",
        "mask.tif",
        "--surface",
        "surface.tif",
        "--stats",
        "stats.json",
        "--preview",
        "preview.png",
    )
    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "tidemark_cli", "predict", scan, *outputs, "--overwrite"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        first_s = time.perf_counter() - start
        process.stderr.read()
    if process.returncode:
        sys.exit(f"{checkout}: exit code {process.returncode}")
    return first_s, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--other", type=Path, help="a checkout of another version")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=3, default=(768, 448, 448), metavar=("Z", "Y", "X"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    checkouts = {"this version": HERE} | ({"the other": options.other.resolve()} if options.other else {})
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{torch.get_num_threads()} threads, {capability}, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = folder / "scan.tif"
        write_volume(scan, draw_phantom(options.seed, tuple(options.size), VOXEL_UM).scan, VOXEL_UM)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
        for _ in range(options.repeat):
            for name, checkout in checkouts.items():
                seconds[name].append(run(checkout, scan, folder / name))
        for name, runs in seconds.items():
            all_s = ", ".join(f"{whole:.1f}" for _, whole in runs)
            first_s, whole_s = np.median(runs, axis=0)
            print(f"{name}: {whole_s:.1f} s in the median ({all_s}), first line after {first_s:.1f} s")
        if options.other:
            mine, theirs = (np.median([whole for _, whole in runs]) for runs in seconds.values())
            masks = [read_volume(folder / name / "mask.tif", mask=True).array for name in checkouts]
            equal = float(np.mean(masks[0] == masks[1]))
            print(f"{theirs / mine:.2f} times as fast; masks equal in {100 * equal:.3f} % of the voxels")


if __name__ == "__main__":
    main()
