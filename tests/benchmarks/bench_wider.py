"""How good `predict` is on samples that are no 2 mm cylinder: 4 mm plugs, blocks, slabs of a condyle.

    python tests/benchmarks/bench_wider.py [--count N] [--first-seed N] [--voxel UM] [--only NAME ...]

All are phantoms (`tidemark phantom --kind`), whole in the field of view or cut off by it, and segmented as
`tidemark predict` does it. The columns are those of `bench_accuracy.py`; "box" is 1 where the box round the
sample holds all of its hard tissue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from tidemark_cli.core.anatomy.plug import find_plug
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.settings import Kind

sys.path.insert(0, str(Path(__file__).parent))
from bench_accuracy import Row, accuracy, show, with_median
from plugs import Case

FIELDS: dict[str, tuple[Kind, tuple[float, float, float]]] = {  # kind, and field of view (Z, Y, X) in mm
    "plug of 4 mm": ("wide", (3.4, 4.8, 4.8)),
    "plug of 4 mm, cut by all sides": ("wide", (3.4, 2.8, 2.8)),
    "block": ("block", (3.4, 5.6, 5.6)),
    "block, cut by all sides": ("block", (3.4, 2.2, 2.2)),
    "slab": ("slab", (4.6, 4.0, 15.0)),
    "slab, cut by two sides": ("slab", (4.6, 4.0, 8.0)),
    "slab, cut by all sides": ("slab", (4.6, 1.4, 8.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=3, help="samples of each")
    parser.add_argument("--first-seed", type=int, default=50000)
    parser.add_argument("--voxel", type=float, default=9.6, help="voxel size in µm")
    parser.add_argument("--only", nargs="+", choices=FIELDS, default=list(FIELDS))
    options = parser.parse_args()
    models = load_models(None)
    for name in options.only:
        kind, size_mm = FIELDS[name]
        shape = tuple(round(1000 * side / options.voxel) for side in size_mm)
        rows: dict[str, Row] = {}
        for seed in range(options.first_seed, options.first_seed + options.count):
            drawn = draw_phantom(seed, shape, options.voxel, kind=kind)
            box = find_plug(drawn.scan, options.voxel).box
            whole = np.count_nonzero(drawn.mask[box]) == np.count_nonzero(drawn.mask)
            case = Case(str(seed), "own", False, drawn.scan, drawn.mask, drawn.edge_um, options.voxel)
            rows[str(seed)] = {"box": float(whole)} | accuracy(case, models)[0]
            print(f"{name} {seed}: {rows[str(seed)]}", file=sys.stderr, flush=True)
        show(f"{name}, voxels of {options.voxel:g} µm", with_median(rows))


if __name__ == "__main__":
    main()
