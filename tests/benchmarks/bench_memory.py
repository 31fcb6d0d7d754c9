"""Peak memory of ``tidemark predict`` on a large scan, against 3 times the scan's bytes + 1 GiB. Linux.

python tests/benchmarks/bench_memory.py [--size Z Y X] [--format tiff|compressed|slices]
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

from tidemark_cli.core.phantoms.phantom import draw_phantom

VOXEL_UM = 3.2
COARSE = 12  # the phantom is drawn at voxels this many times larger, which is quicker, and enlarged


def slices(shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yield the slices of a plug of 2 mm in a scan (Z, Y, X), without ever holding the scan."""
    coarse = tuple(-(-n // COARSE) for n in shape)
    phantom = draw_phantom(0, (coarse[0], coarse[1], coarse[2]), VOXEL_UM * COARSE).scan
    noise = np.random.default_rng(0).normal(0, 4, shape[1:]).astype(np.float32)
    for z in range(shape[0]):
        large = cv2.resize(phantom[z // COARSE].astype(np.float32), shape[:0:-1])
        yield np.clip(large + np.roll(noise, 7 * z, 1), 0, 255).astype(np.uint8)


def write_scan(folder: Path, shape: tuple[int, int, int], kind: str) -> Path:
    if kind == "slices":
        path = folder / "plug_rec"
        path.mkdir()
        for z, image in enumerate(slices(shape), 1):
            cv2.imwrite(str(path / f"plug_rec{z:08d}.bmp"), image)
        return path
    path = folder / "plug.tif"
    compression = "zlib" if kind == "compressed" else None
    with tifffile.TiffWriter(path, bigtiff=math.prod(shape) > 2**31) as file:
        file.write(
            slices(shape), shape=shape, dtype=np.uint8, compression=compression, metadata={"axes": "ZYX"}
        )
    return path


def peak_bytes(command: list[str]) -> int:
    """Run a command; return the high-water mark of its resident memory, memory-mapped files included."""
    process, peak = subprocess.Popen(command), 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        # getrusage would count what this process held before it started the other
        peak = max(
            [
                peak,
                *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")),
            ]
        )
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"predict failed with exit code {process.returncode}")
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(1500, 1008, 1008), metavar=("Z", "Y", "X"))
    parser.add_argument("--format", choices=("tiff", "compressed", "slices"), default="tiff")
    parser.add_argument(
        "--folder", type=Path, help="where the scan is written; by default a temporary folder"
    )
    parser.add_argument(
        "options", nargs="*", help="for predict, after --, as in: -- --weights model.safetensors"
    )
    arguments = parser.parse_args()
    shape = tuple(arguments.size)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        scan = write_scan(folder, shape, arguments.format)
        command = [sys.executable, "-m", "tidemark_cli", "predict", str(scan), "-o", str(folder / "mask.tif")]
        started = time.monotonic()
        peak = peak_bytes([*command, "--voxel-size", str(VOXEL_UM), *arguments.options])
    size = math.prod(shape)
    limit = 3 * size + 2**30
    print(f"{' x '.join(map(str, shape))} 8-bit, {arguments.format}: scan {size / 2**30:.2f} GiB")
    print(f"peak {peak / 2**30:.2f} GiB, limit {limit / 2**30:.2f} GiB, {time.monotonic() - started:.0f} s")
    if peak > limit:
        sys.exit("over the limit")


if __name__ == "__main__":
    main()
