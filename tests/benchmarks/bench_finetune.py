"""Whether fine-tuning helps another laboratory: a model before and after, on plugs it was not tuned on.

    python tests/benchmarks/bench_finetune.py [--soak-um UM ...] [--tuned-on N ...] [--unseen N] [--shift N]

A laboratory is plugs of the second family (`second_family.py`) with one protocol: the stain and the scanner
of one recipe, and PTA that soaks in to `--soak-um`; the anatomy is each plug's own. The model is tuned on 2,
4 and 8 of its plugs by `tidemark train DATASET --init`, in as many folds as there are plugs, at most 4 (those
of 2 plugs choose the epoch on the held-out one, `--paper`), and the folds' networks are averaged as `tidemark
predict --weights RUN` does it. Options that are not told here go to `tidemark train`.

Measured on other plugs of the laboratory, means over plugs: bias (positive: nearer to the cartilage) and mean
absolute error of the tidemark's height, IoU in the paper's zones, columns missed. "Change" is the error less
that of the start, plug by plug, with the standard error of its mean: within two of them it is noise.

`--shift N` moves the truth of all plugs N voxels up, a bias that nothing in the image tells.

Small: --shape 320 192 192 --tuned-on 2 4 --unseen 4 --step 8 --epochs 5 --batch 8
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tidemark_cli.core.anatomy.surface import find_surface
from tidemark_cli.core.data.dataset import write_sample
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.unet import UNet
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.scoring.zones import height_errors, pad_voxels, zone_counts
from tidemark_cli.core.segmentation import Settings, segment

sys.path.insert(0, str(Path(__file__).parent))
from second_family import Plug, draw_recipe, render

VOXEL_UM = 3.2
PADS_UM = (15, 75)
STAIN = ("mid", "deep", "cell_level", "crest", "crest_um", "soak_spread", "soak_power", "bone")
SCANNER = ("blur_vox", "motion_vox", "noise", "ring", "cupping", "gain", "gamma")
UNSEEN = 500  # seeds of the plugs measured on begin so far above those of the plugs tuned on


def draw_plug_of(lab: int, soak_um: float, number: int, shape: tuple[int, int, int], shift: int) -> Plug:
    """Draw a plug of a laboratory; its mask is moved `shift` voxels up."""
    seed = 10_000 * lab + number
    protocol = draw_recipe(np.random.default_rng([lab, 0]))
    shared = {name: getattr(protocol, name) for name in STAIN + SCANNER}
    recipe = replace(draw_recipe(np.random.default_rng([seed, 0])), soak_um=soak_um, **shared)
    plug = render(recipe, seed, shape, VOXEL_UM, "easy")
    moved = np.roll(plug.mask, shift, axis=0)
    if shift > 0:
        moved[:shift] = plug.mask[0]
    elif shift < 0:
        moved[shift:] = 0
    return replace(plug, mask=moved)


def tuned(folder: Path, plugs: Sequence[Plug], start: str, options: Sequence[str]) -> list[UNet]:
    """Fine-tune the start on some plugs; gives the networks of all folds."""
    for number, plug in enumerate(plugs):
        write_sample(folder / "dataset", f"P{number}_1", plug.scan, plug.mask)
    few = ["--paper"] if len(plugs) == 2 else []
    command = ["train", folder / "dataset", "-o", folder / "run", "--init", start]
    command += ["--folds", min(4, len(plugs)), "--voxel-size", VOXEL_UM, *few, *options]
    subprocess.run([sys.executable, "-m", "tidemark_cli", *map(str, command)], check=True, stdout=sys.stderr)
    return load_models(folder / "run")


def measured(plugs: Sequence[Plug], models: list[UNet]) -> dict[str, np.ndarray]:
    """Return the figures of each plug, arrays over the plugs."""
    rows = []
    for plug in plugs:
        volume = Volume(plug.scan, plug.voxel_um, "option", Path("plug"))
        found = segment(volume, models, Settings(bone_end="first"))
        truth = find_surface(plug.mask, plug.voxel_um)
        errors = height_errors(found.surface.height_um, truth.height_um)
        zones = zone_counts(found.mask, plug.mask, [pad_voxels(p, plug.voxel_um) for p in PADS_UM])
        row = {"bias µm": errors["bias_um"], "error µm": errors["mean_error_um"]}
        row |= {f"IoU {pad} µm": value for pad, value in zip(PADS_UM, zones.iou[0], strict=True)}
        rows.append(row | {"missed %": 100 * (errors["missed_columns"] or 0)})
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def show_row(name: str, figures: dict[str, np.ndarray], start: dict[str, np.ndarray], minutes: float) -> None:
    """Print a line of the table."""
    change = figures["error µm"] - start["error µm"]
    error = np.nanstd(change, ddof=1) / np.sqrt(np.isfinite(change).sum())
    means = " | ".join(f"{np.nanmean(values):.3g}" for values in figures.values())
    told = f"{np.nanmean(change):+.2f} ± {error:.2f}" if figures is not start else ""
    print(f"| {name} | {means} | {told} | {minutes:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=int, default=7, help="seed of the protocol")
    parser.add_argument("--soak-um", type=float, nargs="+", default=[20.0, 34.0])
    parser.add_argument("--shift", type=int, default=0, metavar="VOXELS")
    parser.add_argument("--tuned-on", type=int, nargs="+", default=[2, 4, 8], metavar="N")
    parser.add_argument("--unseen", type=int, default=8, metavar="N")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 320, 320), metavar=("Z", "Y", "X"))
    parser.add_argument("--init", default="default", metavar="MODEL")
    options, training = parser.parse_known_args()  # what is unknown goes to `tidemark train`
    start = load_models(Path(options.init))
    for soak_um in options.soak_um:

        def draw(numbers: range, soak_um: float = soak_um) -> list[Plug]:
            shape = tuple(options.shape)
            return [draw_plug_of(options.lab, soak_um, n, shape, options.shift) for n in numbers]

        unseen = draw(range(UNSEEN, UNSEEN + options.unseen))
        plugs = draw(range(max(options.tuned_on)))
        before = measured(unseen, start)
        print(f"\nHalf of PTA's fall at {soak_um:g} µm, truth moved by {options.shift} voxels; ", end="")
        print(f"{options.unseen} unseen plugs of {' x '.join(map(str, options.shape))} voxels\n")
        print(f"| tuned on | {' | '.join(before)} | change µm | minutes |\n|---|{'---|' * (len(before) + 2)}")
        show_row("nothing", before, before, 0)
        for count in options.tuned_on:
            with tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                models = tuned(Path(folder), plugs[:count], options.init, training)
                minutes = (time.monotonic() - began) / 60
            show_row(f"{count} plugs", measured(unseen, models), before, minutes)


if __name__ == "__main__":
    main()
