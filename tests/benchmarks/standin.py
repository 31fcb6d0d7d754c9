"""The paper's experiment in small, on phantoms: 35 samples of 20 subjects, three losses, five folds.

python tests/benchmarks/standin.py FOLDER [--samples N] [--subjects N] [--losses LOSS ...]

Through the commands phantom, preprocess, train and metrics. What is done in FOLDER is kept: started again
after a stop, it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

PUBLISHED = {  # IoU of Table 1 at the pads below, on 35 real samples at 3.2 µm: for the order, not the level
    "bce": "0.57±0.14  0.71±0.11  0.77±0.10  0.82±0.09  0.85±0.08",
    "focal": "0.44±0.19  0.65±0.18  0.73±0.15  0.79±0.14  0.82±0.12",
    "bce-logjaccard": "0.59±0.13  0.70±0.10  0.79±0.08  0.83±0.08  0.86±0.07",
}
PADS_UM = (15, 30, 45, 60, 75)
MEASURES = {"iou": "IoU", "dice": "Dice", "volumetric_similarity": "VS"}
VOXEL_UM = 16  # five times the paper's: "15 µm" is one voxel
DRAWN = (160, 128, 128)  # voxels Z, Y, X: a plug of 2 mm, whole
CUT = (128, 80, 80)  # 2.0 x 1.3 x 1.3 mm of it; the paper's is 2.5 x 1.4 x 1.4 mm
# a network and an amount of slices that a processor trains in a minute or two; pads and crops in proportion
TRAINING = (
    *("--width", 8, "--depth", 4, "--batch", 16, "--learning-rate", 3e-3, "--epochs", 8, "--step", 4),
    *("--pad-to", 133, 144, "--crop", 112, 64, "--voxel-size", VOXEL_UM),
)


def tidemark(*arguments: object) -> str:
    """Run a command, its messages to stderr; gives what it prints to stdout."""
    print("$ tidemark", *arguments, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tidemark_cli", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def make_dataset(folder: Path, samples: int, subjects: int) -> Path:
    """Draw the phantoms and cut them to a dataset, as far as they are not there."""
    scans, masks, dataset = (folder / name for name in ("scans", "masks", "dataset"))
    if len(list(masks.glob("*.tif"))) < samples:  # a mask is written after its scan
        drawn = ("--samples", samples, "--subjects", subjects, "--size", *DRAWN, "--voxel-size", VOXEL_UM)
        tidemark("phantom", f"{scans}/", "--mask", f"{masks}/", *drawn, "--overwrite")
    # the layout holds no voxel size: told that they are of 3.2 µm, the scans are not resampled
    cut = ("--size", *CUT, "--voxel-size", 3.2, "--bone-end", "first", "--skip-existing", "--quiet")
    tidemark("preprocess", scans, "--mask", masks, "-o", dataset, *cut)
    return dataset


def train(dataset: Path, run: Path, loss: str) -> None:
    """Train the folds with one loss, or go on with them."""
    begun = (run / "run.json").exists()
    tidemark("train", dataset, "-o", run, *(("--resume",) if begun else ("--loss", loss, *TRAINING)))


def score(run: Path) -> dict[str, list[str]]:
    """Score a run; gives for each measure the cells "median±SD" at each pad."""
    scores = json.loads(tidemark("metrics", run, "--pad", *PADS_UM, "--json", "--quiet"))
    summary = scores["summary"][0]
    return {
        name: [f"{zone['median']:.2f}±{zone['sd']:.2f}" for zone in summary[key]]
        for key, name in MEASURES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=35)
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--losses", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    arguments = parser.parse_args()
    start = time.monotonic()
    dataset = make_dataset(arguments.folder, arguments.samples, arguments.subjects)
    table = {}
    for loss in arguments.losses:
        train(dataset, arguments.folder / f"run_{loss}", loss)
        table[loss] = score(arguments.folder / f"run_{loss}")
    print(
        f"PHANTOMS, {arguments.samples} samples of {arguments.subjects} subjects, voxels of {VOXEL_UM} µm: "
        "median±SD over samples, out of fold"
    )
    print(f"{'':28}", *(f"{pad:>6} µm " for pad in PADS_UM))
    for name in MEASURES.values():
        for loss, cells in table.items():
            print(f"{name:5} {loss:21} ", *(f"{cell:>10}" for cell in cells[name]))
    print("\nThe paper's Table 1, IoU on 35 real samples, voxels of 3.2 µm:")
    for loss in table:
        print(f"{'':5} {loss:21} ", *(f"{cell:>10}" for cell in PUBLISHED[loss].split()))
    print(f"\n{(time.monotonic() - start) / 60:.1f} min in this go")


if __name__ == "__main__":
    main()
