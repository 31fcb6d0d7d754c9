"""Where the tidemark is found on real PTA slices, as they are, blurred, and with larger pixels.

    python tests/benchmarks/bench_real.py FOLDER [--weights MODEL] [--changes]

FOLDER holds NAME.png, real slices with the cartilage up. Beside each may lie

- NAME_edge.csv with columns column,row: the PTA edge, the steepest fall of the grey level. It is not the
  tidemark, which lies some 17 µm (12 to 22) nearer to the cartilage. Without such a file, the edge is the
  steepest fall from 40 µm above to 80 µm below the surface found on the slice as it is, gaps bridged;
- NAME_automask.png, a mask on the same pixels by a network that was trained on CA4+ truth.

"above edge" is how far the surface lies above the edge, in the mean, and "scatter" its standard deviation.
Zones are counted on pixels of 3.2 µm, 5 of them for "15 µm" as in the published table. Each slice is also
blurred by 1, 2 and 3 pixels and resampled to pixels of 4.5, 6.4, 9 and 12 µm; `--changes` changes its grey
levels, too, mirrors and cuts it. "kept" is the hard tissue found, over that of the slice as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.scans.volume import Volume, read_volume
from tidemark_cli.core.scoring.zones import zone_counts
from tidemark_cli.core.segmentation import Segmentation, Settings, segment

sys.path.insert(0, str(Path(__file__).parent))
from bench_accuracy import show

PIXEL_UM = {"sampleA_coronal": 3.9, "sampleA_sagittal": 3.9, "sampleA_crop_coronal": 6.07}
PIXEL_UM |= {"sampleA_crop2_coronal": 3.55, "sampleA_crop2_sagittal": 3.55}
ZONE_UM = 3.2  # pixels that zones are counted on
PADS = (5, 10, 15, 20, 25)  # "15 µm" to "75 µm" of the published table
ABOVE_UM, BELOW_UM = 40.0, 80.0


@dataclass(frozen=True)
class Slice:
    """Grey levels (rows, columns) with the cartilage up, and what is known of them on their pixels."""

    grey: np.ndarray
    pixel_um: float
    columns: np.ndarray | None = None  # of the PTA edge
    rows: np.ndarray | None = None
    automask: np.ndarray | None = None  # bool

    def resampled(self, pixel_um: float) -> Slice:
        """The same on other pixels: area means where they are larger."""
        size = tuple(round(n * self.pixel_um / pixel_um) for n in self.grey.shape[::-1])
        way = cv2.INTER_AREA if pixel_um > self.pixel_um else cv2.INTER_LINEAR
        scale = self.grey.shape[1] / size[0], self.grey.shape[0] / size[1]
        x, y = (
            None if at is None else (at + 0.5) / ratio - 0.5
            for at, ratio in zip((self.columns, self.rows), scale, strict=True)
        )
        mask = None
        if self.automask is not None:
            mask = cv2.resize(self.automask.astype(np.float32), size, interpolation=way) >= 0.5
        return Slice(cv2.resize(self.grey, size, interpolation=way), pixel_um, x, y, mask)

    def changed(self, grey: np.ndarray) -> Slice:
        """The same with other grey levels."""
        return Slice(grey, self.pixel_um, self.columns, self.rows, self.automask)


def read_slices(folder: Path) -> dict[str, Slice]:
    found = {}
    for name, pixel_um in PIXEL_UM.items():
        path = folder / f"{name}.png"
        if not path.exists():
            continue
        grey = read_volume(path, pixel_um).array[:, 0].astype(np.float32)
        edge, mask = folder / f"{name}_edge.csv", folder / f"{name}_automask.png"
        x, y = np.loadtxt(edge, delimiter=",", skiprows=1).T if edge.exists() else (None, None)
        automask = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 127 if mask.exists() else None
        found[name] = Slice(grey, pixel_um, x, y, automask)
    return found


def segmented(slice_: Slice, models: list) -> Segmentation:
    levels = np.clip(np.rint(slice_.grey), 0, 255).astype(np.uint8)[:, None]
    return segment(Volume(levels, slice_.pixel_um, "option", Path("slice")), models, Settings())


def surface_rows(found: Segmentation) -> np.ndarray:
    """Row of the surface in each column, from the middle of row 0; NaN where there is none."""
    height = found.surface.height_um[0] / found.surface.voxel_um - 0.5
    return height if found.plug.bone.end == "first" else len(found.mask) - 1 - height


def with_edge(slice_: Slice, found: Segmentation) -> Slice:
    """Return the slice with its PTA edge: as read off, or the steepest fall about the surface found."""
    if slice_.columns is not None:
        return slice_
    surface = surface_rows(found)
    columns = np.flatnonzero(np.isfinite(surface))
    fall = -gaussian_filter1d(slice_.grey, 8 / slice_.pixel_um, axis=0, order=1)
    reach = np.arange(-round(ABOVE_UM / slice_.pixel_um), round(BELOW_UM / slice_.pixel_um))
    at = np.clip(np.round(surface[columns]).astype(int)[:, None] + reach, 0, len(fall) - 1)
    steepest = fall[at, columns[:, None]].argmax(axis=1)
    rows = at[np.arange(len(at)), steepest].astype(float)
    return replace(slice_, columns=columns.astype(float), rows=rows)


def edge_rows(slice_: Slice, width: int) -> np.ndarray:
    """Row of the PTA edge in each column of the slice, NaN where it is not known."""
    assert slice_.columns is not None and slice_.rows is not None
    rows = np.full(width, np.nan)
    first, last = max(0.0, slice_.columns.min()), min(width - 1.0, slice_.columns.max())
    at = np.arange(np.ceil(first), np.floor(last) + 1)
    rows[at.astype(int)] = np.interp(at, slice_.columns, slice_.rows)
    return rows


def real_row(slice_: Slice, models: list, plain: Segmentation | None = None) -> dict[str, float]:
    """The surface against the PTA edge and the automask."""
    found = segmented(slice_, models)
    surface = surface_rows(found)
    edge = edge_rows(slice_, len(surface))
    above = (edge - surface)[np.isfinite(edge) & np.isfinite(surface)]
    row = {
        "confidence": found.stats["confidence"],
        "above edge µm": float(above.mean() * slice_.pixel_um) if above.size else np.nan,
        "scatter px": float(above.std()) if above.size else np.nan,
        "missed": float(np.count_nonzero(np.isfinite(edge) & ~np.isfinite(surface))),
    }
    area = np.count_nonzero(found.mask) * slice_.pixel_um**2
    if plain is not None:
        row["kept %"] = 100 * area / max(1.0, np.count_nonzero(plain.mask) * plain.surface.voxel_um**2)
    if slice_.automask is not None:
        row |= against_automask(found, slice_.automask, slice_.pixel_um)
    return row


def against_automask(found: Segmentation, automask: np.ndarray, pixel_um: float) -> dict[str, float]:
    """Mean bias of the first hard row, voxels of 3.2 µm, positive too near the cartilage; Dice; IoUs."""
    hard = found.mask[:, 0] > 0
    both = hard.any(0) & automask.any(0)
    bias = (automask.argmax(0) - hard.argmax(0))[both] * pixel_um / ZONE_UM
    size = tuple(round(n * pixel_um / ZONE_UM) for n in hard.shape[::-1])
    fine = [
        cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5 for m in (hard, automask)
    ]
    mask, truth = ((m[::-1, None] * 255).astype(np.uint8) for m in fine)  # bone first
    zones = zone_counts(mask, truth, PADS)
    dice = 2 * (hard & automask).sum() / max(1, hard.sum() + automask.sum())
    row = {"bias": float(bias.mean()) if bias.size else np.nan, "Dice": float(dice)}
    return row | {f"IoU {3 * pad}": float(v) for pad, v in zip(PADS, zones.iou[0], strict=True)}


def basic_changes(slice_: Slice) -> Iterator[tuple[str, Slice]]:
    for sigma in (1, 2, 3):
        yield f"blurred by {sigma} px", slice_.changed(gaussian_filter(slice_.grey, sigma))
    for pixel_um in (4.5, 6.4, 9.0, 12.0):
        if pixel_um > slice_.pixel_um:
            yield f"pixels of {pixel_um:g} µm", slice_.resampled(pixel_um)


def more_changes(slice_: Slice) -> Iterator[tuple[str, Slice]]:
    grey, rows = slice_.grey, slice_.rows
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(grey.shape), 1)
    yield "half the contrast", slice_.changed(grey / 2)
    yield "lifted", slice_.changed(0.7 * grey + 40)
    yield "gamma 0.6", slice_.changed(255 * (grey / 255) ** 0.6)
    yield "gamma 1.6", slice_.changed(255 * (grey / 255) ** 1.6)
    yield "noise of 10", slice_.changed(grey + 10 * noise / noise.std())
    yield "pixels of 2.5 µm", slice_.resampled(2.5)
    mirrored = None if slice_.columns is None or rows is None else grey.shape[1] - 1 - slice_.columns[::-1]
    turned_rows = None if rows is None else rows[::-1]
    mask = None if slice_.automask is None else slice_.automask[:, ::-1]
    yield "mirrored", Slice(grey[:, ::-1], slice_.pixel_um, mirrored, turned_rows, mask)
    mask = None if slice_.automask is None else slice_.automask[:-60]
    yield "cut below", Slice(grey[:-60], slice_.pixel_um, slice_.columns, rows, mask)
    mask = None if slice_.automask is None else np.pad(slice_.automask, ((100, 100), (0, 0)))
    lower = None if rows is None else rows + 100
    yield "more air", Slice(np.pad(grey, ((100, 100), (0, 0))), slice_.pixel_um, slice_.columns, lower, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--changes", action="store_true")
    options = parser.parse_args()
    models = load_models(options.weights)
    for name, as_read in read_slices(options.folder).items():
        plain = segmented(as_read, models)
        slice_ = with_edge(as_read, plain)
        rows = {"as it is": real_row(slice_, models, plain)}
        for changes in (basic_changes, more_changes) if options.changes else (basic_changes,):
            rows |= {how: real_row(changed, models, plain) for how, changed in changes(slice_)}
        show(f"{name}, pixels of {slice_.pixel_um:g} µm (a real slice)", rows)


if __name__ == "__main__":
    main()
