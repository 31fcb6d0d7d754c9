"""How far the predicted tidemark is from the true one, on unseen phantoms of both generators.

    python tests/benchmarks/bench_accuracy.py [--count N] [--first-seed N] [--voxels UM ...] [--weights MODEL]

The package's own generator, from seeds that training never uses, and `second_family.py`, written apart from
it and never trained on; a third of the plugs are hard (see `plugs.py`). Everything is segmented as
`tidemark predict` does it; all data are synthetic.

Heights are compared where the truth has a tidemark; "missed" are those columns where none was found. How deep
PTA soaked differs from plug to plug, and no picture tells it exactly: "floor" is the median error of a
predictor that is told the steepest fall exactly and adds its mean depth over the plugs of the family. (The
package's generator tells the edge everywhere, the second one only where the contrast is not lost.)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from tidemark_cli.core.anatomy.surface import find_surface
from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.phantoms.phantom import VOXEL_UM
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.scoring.zones import height_errors, pad_voxels, zone_counts
from tidemark_cli.core.segmentation import Settings, segment

sys.path.insert(0, str(Path(__file__).parent))
from plugs import FAMILIES, Case, at_voxels, cases

PADS_UM = (15, 75)

Row = dict[str, float]


def accuracy(case: Case, models: list) -> tuple[Row, np.ndarray]:
    """Errors of the height map in µm, and overlap of the masks; and the depths of the PTA edge."""
    found = segment(Volume(case.scan, case.voxel_um, "option", Path(case.name)), models, Settings())
    truth = find_surface(case.mask, case.voxel_um)
    errors = height_errors(found.surface.height_um, truth.height_um)
    zones = zone_counts(found.mask, case.mask, [pad_voxels(p, case.voxel_um) for p in PADS_UM])
    hard, true = found.mask > 0, case.mask > 0
    row = {
        "median µm": _number(errors["median_error_um"]),
        "bias µm": _number(errors["bias_um"]),
        "p95 µm": _number(errors["p95_error_um"]),
        "missed %": 100 * _number(errors["missed_columns"]),
        "mask IoU": float((hard & true).sum() / max(1, (hard | true).sum())),
    }
    row |= {f"IoU {pad} µm": float(v) for pad, v in zip(PADS_UM, zones.iou[0], strict=True)}
    row |= {"confidence": found.stats["confidence"], "seconds": found.seconds}
    depths = case.edge_um[np.isfinite(truth.height_um)]
    return row, depths[np.isfinite(depths)]


def with_floor(rows: dict[str, Row], depths: dict[str, np.ndarray]) -> dict[str, Row]:
    """Add to each plug the median error of a predictor that is told the PTA edge and adds its mean depth."""
    mean = np.mean([some.mean() for some in depths.values() if some.size])
    floors = {
        name: float(np.median(np.abs(some - mean))) if some.size else np.nan for name, some in depths.items()
    }
    return {name: {"floor µm": floors[name]} | row for name, row in rows.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def with_median(rows: dict[str, Row]) -> dict[str, Row]:
    """Add a row of the medians over the plugs."""
    heads = next(iter(rows.values()))
    return rows | {
        "median": {head: float(np.nanmedian([row[head] for row in rows.values()])) for head in heads}
    }


def show(title: str, rows: dict[str, Row]) -> None:
    """Print a Markdown table."""
    heads = list(next(iter(rows.values())))
    print(f"\n{title}\n\n| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[h]:.3g}' for h in heads)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="plugs of each family")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--voxels", type=float, nargs="+", default=[VOXEL_UM], help="voxel sizes in µm")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--kept", type=Path, help="folder of phantoms, drawn where they are not in it yet")
    options = parser.parse_args()
    models = load_models(options.weights)
    for family in FAMILIES:
        rows: dict[float, dict[str, Row]] = {voxel_um: {} for voxel_um in options.voxels}
        depths: dict[float, dict[str, np.ndarray]] = {voxel_um: {} for voxel_um in options.voxels}
        for case in cases(family, options.first_seed, options.count, options.kept):
            for voxel_um in options.voxels:
                try:
                    row, depth = accuracy(at_voxels(case, voxel_um), models)
                except ContentError as error:
                    print(f"{case.name}, {voxel_um:g} µm: refused: {error}", flush=True)
                    continue
                rows[voxel_um][case.name], depths[voxel_um][case.name] = row, depth
                print(f"{case.name}, {voxel_um:g} µm: {row}", file=sys.stderr, flush=True)
        for voxel_um, table in rows.items():
            full = with_floor(table, depths[voxel_um])
            show(f"{family} generator, voxels of {voxel_um:g} µm", with_median(full))
            for trust in (0.5, 0.9):
                trusted = [row["mask IoU"] for row in table.values() if row["confidence"] >= trust]
                least = min(trusted, default=np.nan)
                print(f"\nconfidence of {trust} or more: {len(trusted)}, the least mask IoU {least:.3f}")
            for hard in (False, True):
                part = {n: r for n, r in full.items() if n.endswith(" easy") != hard}
                if part:
                    show("hard alone" if hard else "easy alone", {"median": with_median(part)["median"]})


if __name__ == "__main__":
    main()
