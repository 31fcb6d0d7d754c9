"""How far the predicted tidemark is from the true one: on unseen phantoms, and on annotated real slices.

    python tests/benchmarks/bench_accuracy.py [--count N] [--second N] [--weights MODEL] [--real FOLDER]

Three kinds of data, never mixed in one figure:

- phantoms of the package's own generator, from seeds that training never uses (training draws slices from
  other seeds, with wider ranges);
- phantoms of a second generator, `second_family.py`, written apart from the first and never trained on: a
  sixth of them with the crest lost, a sixth with voids at the interface; over all, and each kind apart;
- FOLDER with NAME.png, a real PTA slice, and NAME_tidemark.csv with columns column,row: the first hard pixel.

All are segmented as `tidemark predict` does it. Heights are compared where the truth has a tidemark;
"missed" are those columns where none was found, marked openings among them; "missed inside" leaves out the
16 µm along the true tidemark's edge, where a column grazes the drilled wall or the side of an opening;
"excess" are columns found where the truth has none. For both together there is a yardstick, "by level": the
columns that one grey level gets wrong at that edge, told the true heights and the best level.
"""

from __future__ import annotations

import argparse
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from tidemark_cli.core.inference import load_models
from tidemark_cli.core.metrics import height_errors, pad_voxels, zone_counts
from tidemark_cli.core.phantom import SHAPE, VOXEL_UM, draw_phantom
from tidemark_cli.core.segmentation import Settings, segment
from tidemark_cli.core.surface import find_surface
from tidemark_cli.core.volume import Volume, read_volume

sys.path.insert(0, str(Path(__file__).parent))
from second_family import draw_plug

FIRST_SEED = 1000
PADS_UM = (15, 75)
RIM_UM = 16
KINDS = ("easy", "easy", "crest_lost", "easy", "easy", "voids")  # of the second generator, in turn


def phantom_row(
    name: str, scan: np.ndarray, mask: np.ndarray, voxel_um: float, models: list
) -> dict[str, float]:
    """Errors of the height map in voxels, and overlap of the masks, of one phantom."""
    found = segment(Volume(scan, voxel_um, "option", Path(name)), models, Settings())
    truth = find_surface(mask, voxel_um, "first")
    errors = height_errors(found.surface.height_um, truth.height_um)
    zones = zone_counts(found.mask, mask, "first", [pad_voxels(p, voxel_um) for p in PADS_UM])
    row = {
        "median": _voxels(errors["median_error_um"], voxel_um),
        "mean": _voxels(errors["mean_error_um"], voxel_um),
        "p95": _voxels(errors["p95_error_um"], voxel_um),
        "bias": _voxels(errors["bias_um"], voxel_um),
        "missed %": 100 * _number(errors["missed_columns"]),
    }
    row |= columns_wrong(scan, found.surface.height_um, truth.height_um, voxel_um)
    row |= {f"IoU {pad} µm": float(v) for pad, v in zip(PADS_UM, zones.iou[0], strict=True)}
    return row | {"seconds": found.seconds}


def columns_wrong(
    scan: np.ndarray, found_um: np.ndarray, truth_um: np.ndarray, voxel_um: float
) -> dict[str, float]:
    """Percent of the true columns missed inside, found in excess, and wrong by grey level (see the top)."""
    found, true = np.isfinite(found_um), np.isfinite(truth_um)
    inside = distance_transform_edt(true) * voxel_um > RIM_UM
    return {
        "missed inside %": 100 * float((~found & inside).sum() / max(1, inside.sum())),
        "excess %": 100 * float((found & ~true).sum() / true.sum()),
        "by level %": 100 * _wrong_by_level(scan, truth_um, voxel_um),
    }


def _wrong_by_level(scan: np.ndarray, truth_um: np.ndarray, voxel_um: float) -> float:
    """Share of the true columns missed or in excess by the best grey level under the true tidemark."""
    true = np.isfinite(truth_um)
    away, nearest = distance_transform_edt(~true, return_indices=True)
    edge = np.maximum(away, distance_transform_edt(true)) * voxel_um <= RIM_UM
    y, x = np.nonzero(edge)
    top = np.round(truth_um[tuple(nearest)][edge] / voxel_um).astype(int) - 1  # carried on outside
    wrong = []
    for depth in (1, 3, 6, 12):
        grey = scan[np.maximum(top - np.arange(depth)[:, None], 0), y, x].mean(axis=0)
        levels = np.linspace(grey.min(), grey.max(), 200)
        wrong += [np.count_nonzero((grey > level) != true[edge]) for level in levels]
    return min(wrong) / np.count_nonzero(true)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _voxels(value_um: float | None, voxel_um: float) -> float:
    return _number(value_um) / voxel_um


def annotated(image: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey levels of a real slice (rows, columns), and columns and rows of its first hard pixels."""
    table = np.loadtxt(image.with_name(f"{image.stem}_tidemark.csv"), delimiter=",", skiprows=1)
    return read_volume(image, VOXEL_UM).array[:, 0], table[:, 0], table[:, 1]


def annotated_slices(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.png") if p.with_name(f"{p.stem}_tidemark.csv").exists())


def real_row(
    grey: np.ndarray, columns: np.ndarray, rows: np.ndarray, voxel_um: float, models: list
) -> dict[str, float]:
    """Error of the first hard pixel in each annotated column of a slice, in pixels.

    "Surface's bias" is that of the tidemark itself, which lies between pixels, from the middle of the row.
    """
    found = segment(Volume(grey[:, None], voxel_um, "option", Path("slice")), models, Settings())
    at = np.round(columns).astype(int)
    hard = found.mask[:, 0] > 0
    surface = found.surface.height_um[0] / voxel_um - 0.5  # row 0 has its middle at 0
    if found.plug.bone_end == "first":
        first = hard.shape[0] - 1 - hard[::-1].argmax(axis=0)
    else:
        first = hard.argmax(axis=0)
        surface = len(hard) - 1 - surface
    seen = hard.any(axis=0)[at]
    error = first[at][seen] - rows[seen]
    size = np.abs(error)
    return {
        "columns": float(len(columns)),
        "missed": float((~seen).sum()),
        "bias": float(error.mean()),
        "surface's bias": float(np.nanmean(surface[at] - rows)),
        "median": float(np.median(size)),
        "mean": float(size.mean()),
        "p95": float(np.percentile(size, 95)),
    }


def with_median(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Add a row of the medians over the plugs."""
    heads = next(iter(rows.values()))
    return rows | {
        "median": {head: float(np.nanmedian([row[head] for row in rows.values()])) for head in heads}
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
    parser.add_argument("--second", type=int, default=0)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    models = load_models(options.weights)
    seeds = range(options.first_seed, options.first_seed + options.count)
    if options.count:
        rows = {}
        for seed in seeds:
            plug = draw_phantom(seed, tuple(options.shape))
            rows[f"seed {seed}"] = phantom_row(f"seed {seed}", plug.scan, plug.mask, plug.voxel_um, models)
        show("Phantoms of the package's generator (voxels)", with_median(rows))
    apart: dict[str, dict[str, dict[str, float]]] = {}
    for number, kind in zip(range(options.second), cycle(KINDS)):
        name = f"seed {options.first_seed + number}"
        other = draw_plug(options.first_seed + number, kind=kind)
        row = phantom_row(name, other.scan, other.mask, other.voxel_um, models)
        apart.setdefault(kind, {})[name] = row
        print(f"{name}, {kind}: median {row['median']:.2f}", file=sys.stderr, flush=True)
    for kind, rows in apart.items():
        show(f"Phantoms of the second generator, {kind} (voxels)", with_median(rows))
    if options.second:
        every = {name: row for rows in apart.values() for name, row in rows.items()}
        median = {"median": with_median(every)["median"]}
        show(f"Phantoms of the second generator, all {options.second} (voxels)", median)
    if options.real:
        slices = {image.stem: annotated(image) for image in annotated_slices(options.real)}
        show("Real slices (pixels)", {n: real_row(*one, VOXEL_UM, models) for n, one in slices.items()})


if __name__ == "__main__":
    main()
