"""The phantoms that the benchmarks measure on: both generators, a third of the plugs hard, any voxel size.

Plugs of a seed are drawn once and kept in a folder, so that several benchmarks, or two models, see the same.
Every third plug is hard: the package's generator draws rare shapes, stains and processing (`hard=True`), the
second one takes its hard kinds in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy.ndimage import gaussian_filter
from second_family import KINDS, coarser, coarser_edge, draw_plug

from tidemark_cli.core.phantoms.phantom import VOXEL_UM, draw_phantom

SHAPE = (448, 256, 256)
FAMILIES = ("own", "second")
HARD_KINDS = tuple(kind for kind in KINDS if kind != "easy")


@dataclass(frozen=True)
class Case:
    """A phantom: `scan` and `mask` uint8 (Z, Y, X), bone at low Z; `edge_um` (Y, X): the PTA edge's depth."""

    name: str
    family: str
    hard: bool
    scan: np.ndarray
    mask: np.ndarray
    edge_um: np.ndarray
    voxel_um: float = VOXEL_UM


def cases(family: str, first_seed: int, count: int, kept: Path | None = None) -> Iterator[Case]:
    """Yield `count` phantoms of a family, every third one hard; `kept` holds those drawn before."""
    for number in range(count):
        seed, hard = first_seed + number, number % 3 == 2
        kind = HARD_KINDS[number // 3 % len(HARD_KINDS)] if hard else "easy"
        kind = ("hard" if hard else "easy") if family == "own" else kind
        name = f"{family} {seed} {kind}"
        file = None if kept is None else kept / f"{name.replace(' ', '_')}.npz"
        if file is not None and file.exists():
            with np.load(file) as arrays:
                yield Case(name, family, hard, arrays["scan"], arrays["mask"], arrays["edge_um"])
            continue
        plug = draw_phantom(seed, SHAPE, hard=hard) if family == "own" else draw_plug(seed, SHAPE, kind=kind)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(file, scan=plug.scan, mask=plug.mask, edge_um=plug.edge_um)
        yield Case(name, family, hard, plug.scan, plug.mask, plug.edge_um)


def at_voxels(case: Case, voxel_um: float) -> Case:
    """Return the plug as a scanner with larger voxels sees it: blurred, averaged, with noise of its own."""
    if voxel_um == case.voxel_um:
        return case
    ratio = voxel_um / case.voxel_um
    blurred = gaussian_filter(case.scan.astype(np.float32), 0.7 * ratio)
    shape = tuple(int(n / ratio) for n in blurred.shape)
    scan = coarser(blurred, ratio, shape)
    noise = gaussian_filter(np.random.default_rng(crc32(case.name.encode())).standard_normal(scan.shape), 0.8)
    scan = np.clip(np.rint(scan + 4 * noise / noise.std()), 0, 255).astype(np.uint8)
    mask = (255 * (coarser(case.mask, ratio, shape) >= 127.5)).astype(np.uint8)
    edge_um = coarser_edge(case.edge_um, ratio, shape[1:])
    return Case(f"{case.name} {voxel_um:g} µm", case.family, case.hard, scan, mask, edge_um, voxel_um)
