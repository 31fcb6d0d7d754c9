"""How long the common formats take to read here, against another checkout of this repository.

    python tests/benchmarks/bench_read.py OTHER [--size Z Y X] [--rounds N]

The two are timed in turn, each round in processes of their own, and the least of the rounds is compared:
seconds of the processor, of all threads, and on the clock. Every voxel is touched.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
import tifffile

HERE = Path(__file__).parents[2]
VOXEL_UM = 3.2
TIMED = """
import json, sys, time
from pathlib import Path
from tidemark_cli.core.scans.volume import read_volume
read_volume(Path(sys.argv[2])).array.sum()
found = []
for _ in range(int(sys.argv[1])):
    used, clock = time.process_time(), time.perf_counter()
    read_volume(Path(sys.argv[2])).array.sum()
    found.append((time.process_time() - used, time.perf_counter() - clock))
print(json.dumps(min(found)))
"""


def write_scans(folder: Path, shape: tuple[int, int, int]) -> dict[str, Path]:
    """Write a scan in the common formats: 8-bit, smooth, with noise that packs as that of scans does."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 200, [-(-n // 16) for n in shape])
    scan = np.kron(coarse, np.ones((16, 16, 16)))[: shape[0], : shape[1], : shape[2]]
    scan = np.clip(scan + rng.normal(0, 4, shape), 0, 255).astype(np.uint8)
    told = {"metadata": {"axes": "ZYX", "unit": "um", "spacing": VOXEL_UM}, "resolution": (1 / VOXEL_UM,) * 2}
    tifffile.imwrite(folder / "plain.tif", scan, imagej=True, **told)
    tifffile.imwrite(folder / "deflate.tif", scan, imagej=True, compression="zlib", **told)
    tifffile.imwrite(folder / "lzw.tif", scan, compression="lzw", photometric="minisblack")
    image = sitk.GetImageFromArray(scan)
    image.SetSpacing([VOXEL_UM / 1000] * 3)
    sitk.WriteImage(image, str(folder / "raw.nrrd"))
    sitk.WriteImage(image, str(folder / "gzip.nrrd"), useCompression=True)
    found = {path.name: path for path in sorted(folder.iterdir())}
    for suffix in (".bmp", ".tif", ".png"):
        slices = folder / f"slices{suffix}"
        slices.mkdir()
        for z, plane in enumerate(scan):
            cv2.imwrite(str(slices / f"S1_rec{z:08d}{suffix}"), plane)
        (slices / "S1_rec.log").write_text(f"[Reconstruction]\nPixel Size (um)={VOXEL_UM}\n")
        found[f"slices as {suffix}"] = slices
    return found


def seconds(checkout: Path, path: Path) -> tuple[float, float]:
    """Return the least seconds of the processor and on the clock of three reads in a new process."""
    command = [sys.executable, "-c", TIMED, "3", str(path)]
    done = subprocess.run(
        command,
        cwd=checkout,
        env={"PYTHONPATH": str(checkout)},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    processor, clock = json.loads(done.stdout)
    return processor, clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--size", type=int, nargs=3, default=(256, 448, 448))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':16}{'there, s':>10}{'here, s':>10}{'ratio':>8}{'on the clock':>14}")
        for name, path in write_scans(Path(folder), tuple(options.size)).items():
            rounds = [
                (seconds(options.other.resolve(), path), seconds(HERE, path)) for _ in range(options.rounds)
            ]
            there, here = (min(one[side] for one in rounds) for side in (0, 1))
            clock = min(one[1][1] for one in rounds) / min(one[0][1] for one in rounds)
            print(
                f"{name:16}{there[0]:10.3f}{here[0]:10.3f}{here[0] / there[0]:8.2f}{clock:14.2f}", flush=True
            )


if __name__ == "__main__":
    main()
