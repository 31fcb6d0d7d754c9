"""Samples in memory, each decoded once, and their slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Sample, read_mask, read_scan
from ..errors import DatasetError
from ..network.planes import AXES
from ..resize import resize


@dataclass(frozen=True)
class Loaded:
    """A sample in memory."""

    scan: NDArray[np.uint8]  # (Z, Y, X)
    packed: NDArray[np.uint8]  # (ceil(Z / 8), Y, X), the mask with eight voxels along Z in a byte
    histogram: NDArray[np.int64]  # (256,) voxels of each grey level

    def slice(self, axis: int, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return one slice: grey levels and mask (0 or 1), both (Z, X) along axis 1, (Z, Y) along axis 2."""
        here = (slice(None),) * axis + (position,)
        return self.scan[here], np.unpackbits(self.packed[here], axis=0, count=len(self.scan))


def load_all(
    samples: Sequence[Sample], progress: Callable[[int, int], None] | None = None
) -> dict[str, Loaded]:
    """Decode samples into memory, by id; each of the paper's takes about 165 MiB.

    Parameters
    ----------
    progress : called with the samples done and the total.

    Raises
    ------
    DatasetError
        If a slice is missing or damaged, or a mask is not of its scan's shape.
    """
    loaded = {}
    for sample in samples:
        scan, mask = read_scan(sample), read_mask(sample)
        if scan.shape != mask.shape:
            raise DatasetError(
                f"{sample.folder}: the masks are {mask.shape} voxels (Z, Y, X), the scan {scan.shape}; "
                "expected the same; make the sample again."
            )
        packed, histogram = np.packbits(mask > 0, axis=0), np.bincount(scan.ravel(), minlength=256)
        loaded[sample.sample_id] = Loaded(scan, packed, histogram)
        if progress is not None:
            progress(len(loaded), len(samples))
    return loaded


def mean_and_sd(samples: Sequence[Loaded]) -> tuple[float, float]:
    """Return mean and standard deviation of the grey levels of samples; the deviation is at least 1."""
    counts = np.sum([loaded.histogram for loaded in samples], axis=0)
    mean = np.average(np.arange(256), weights=counts)
    variance = np.average((np.arange(256) - mean) ** 2, weights=counts)
    return float(mean), max(1.0, float(np.sqrt(variance)))


def scaled(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Return rows and columns of a slice resampled to `scale` times as many pixels a side."""
    rows, columns = (max(1, round(side * scale)) for side in shape)
    return rows, columns


class Slices:
    """The ZX and ZY slices of some samples, numbered from 0."""

    def __init__(self, samples: Sequence[Loaded], step: int = 1, scale: float = 1.0) -> None:
        """Take every `step`-th slice of both planes, resampled to `scale` times as many pixels a side."""
        self.samples, self.scale = samples, scale
        self.places = [
            (number, axis, position)
            for number, loaded in enumerate(samples)
            for axis in AXES.values()
            for position in range(0, loaded.scan.shape[axis], step)
        ]
        shapes = [loaded.scan.shape for loaded in samples]
        self.shape = scaled((max(z for z, _, _ in shapes), max(max(y, x) for _, y, x in shapes)), scale)

    def __len__(self) -> int:
        return len(self.places)

    def gather(self, numbers: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
        """Return slices: grey (N, H, W), mask 0 or 1 (N, H, W), and the index of each one's sample.

        H and W are those of the largest slice; smaller ones are padded with zeros at the far ends.
        """
        places = [self.places[number] for number in numbers]
        grey, hard = (np.zeros((len(places), *self.shape), np.uint8) for _ in range(2))
        for n, (number, axis, position) in enumerate(places):
            image, mask = self.samples[number].slice(axis, position)
            rows, columns = scaled(image.shape, self.scale)
            if self.scale != 1:  # as `predict` does; the mask's edge stays where it is to half a pixel
                image, mask = (resize(part, (rows, columns)) for part in (image, 255 * mask))
                mask >>= 7
            grey[n, :rows, :columns], hard[n, :rows, :columns] = image, mask
        return grey, hard, [number for number, _, _ in places]
