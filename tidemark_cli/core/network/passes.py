"""The way of one network over the slices of one plane: which it sees, in what batches, and those between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

import cv2
import numpy as np

from ..arrays import Slices, on_disk, sampled, slabs, zeros
from ..errors import ContentError, ModelError
from .fused import Fused
from .greylevels import Normalise
from .planes import AXES, Window, find_windows
from .unet import ModelInfo

SAME_SIZE = 0.02  # voxel sizes closer than this ratio are not resampled
COARSEST = 16  # times the model's voxels: beyond, slices would be enlarged until they fill the memory
READ_AT_ONCE = 8  # slices: ZY slices are strided in memory, and neighbours share cache lines and pages

Array = np.ndarray
View = tuple[slice, slice, slice]  # of (slices, rows, columns): rows and columns as they are or turned round
_Batch = tuple[list[int], list["Future[Array]"]]  # numbers of slices, and what the network makes of each view


def scale_between(voxel_um: float, info: ModelInfo) -> float:
    """Return how many pixels a network sees for each of a slice; 1 where the sizes are as good as equal.

    Raises
    ------
    ContentError
        If the voxels are over 16 times as wide as the model's.
    """
    ratio = voxel_um / info.voxel_um
    if ratio > COARSEST:
        raise ContentError(
            f"voxels of {voxel_um:g} µm are {ratio:.0f} times as wide as the model's, {info.voxel_um:g} µm; "
            f"expected at most {COARSEST} times, or there is no tidemark to see; check --voxel-size."
        )
    return 1.0 if abs(ratio - 1) <= SAME_SIZE else ratio


def stride_between(info: ModelInfo, voxel_um: float, step: int | None) -> int:
    """Return N where a network sees every Nth slice, or closer; `step` takes the place of its own."""
    return step or max(1, round(info.step / scale_between(voxel_um, info)))


def spread(length: int, stride: int) -> list[int]:
    """Spread slices evenly from the first to the last of `length`, at most `stride` apart.

    >>> spread(8, 3)
    [0, 2, 5, 7]
    """
    count = -(-(length - 1) // stride) + 1
    return [int(p) for p in np.linspace(0, length - 1, count).round()]


@dataclass(frozen=True)
class Pass:
    """One network over the slices of one plane of an array (Z, Y, X), bone first.

    Attributes
    ----------
    axis : along which the slices are stacked.
    positions : of the slices between which others are interpolated.
    ratio : voxel size of the array over that of the model; 1 if they are as good as equal.
    views : of each slice, averaged.
    windows : what of each slice of the array is computed.
    """

    axis: int
    positions: list[int]
    ratio: float
    views: list[View]
    windows: list[Window]

    @property
    def predicted(self) -> list[int]:
        """The slices that the network looks at: those that do not pass the plug by."""
        return [p for p in self.positions if self.windows[p][0] != slice(0, 0)]

    def run(
        self,
        array: Array,
        network: Fused,
        normalise: Normalise,
        pool: ThreadPoolExecutor,
        tick: Callable[[int], None],
    ) -> Iterator[list[tuple[int, Array]]]:
        """Yield batches of (number of the slice, its probabilities as uint8), 0 outside its window."""
        # the other plane's axis runs along the columns of the slices
        height, width = array.shape[0], array.shape[3 - self.axis]
        size = network.batch_size(self._computed(height, width), array.size // len(self.positions))
        stack = Slices(array, self.axis, self.positions)

        def submit(numbers: list[int], slices: Array) -> _Batch:
            shape = self._computed(*slices.shape[1:])
            return numbers, [pool.submit(network, slices[view], normalise, shape) for view in self.views]

        def finish(numbers: list[int], batches: list[_Batch]) -> list[tuple[int, Array]]:
            whole = {p: np.zeros((height, width), np.uint8) for p in numbers}
            for some, seen in batches:
                found = [batch.result()[view] for batch, view in zip(seen, self.views, strict=True)]
                mean = found[0] if len(found) == 1 else np.mean(found, axis=0).round()
                for p, image in zip(some, mean, strict=True):
                    whole[p][self.windows[p]] = image
                tick(len(some))
            return list(whole.items())

        stride = (self.positions[-1] - self.positions[0]) // len(self.positions) + 1
        most = min(READ_AT_ONCE, max(1, 2 * READ_AT_ONCE // stride))  # each brings those interpolated with it
        read = size * -(-most // size)
        ahead: tuple[list[int], list[_Batch]] | None = None
        for first in range(0, len(self.positions), read):
            numbers = self.positions[first : first + read]
            batches = []
            for window, group in groupby(numbers, self.windows.__getitem__):
                alike = list(group)
                slices = stack.picked(alike, *window)
                if slices.size:
                    starts = range(0, len(alike), size)
                    batches += [submit(alike[k : k + size], slices[k : k + size]) for k in starts]
            if ahead:
                yield finish(*ahead)
            ahead = numbers, batches
        if ahead:
            yield finish(*ahead)

    def blocks(
        self, batches: Iterable[list[tuple[int, Array]]], array: Array
    ) -> Iterator[tuple[slice, int, Array]]:
        """Interpolate between the slices that `run` yields of an array.

        Yields
        ------
        A part of Z, the number of the first slice, and (slices, that part of Z, columns) uint8, without gaps:
        whole slices, some at a time, as they come; of an array on disk all slices, slab by slab along Z.
        """
        if not on_disk(array):
            for first, block in filled(batches):
                yield slice(None), first, block
            return
        predicted = zeros((len(self.positions), len(array), array.shape[3 - self.axis]), np.uint8, array)
        for place, (_, image) in enumerate(chain.from_iterable(batches)):
            predicted[place] = image
        for slab in slabs(array):
            # slice by slice: of each page that a strided view touches, the system brings its neighbours, too
            parts = sampled(predicted, slice(None), slab)
            for first, block in filled([list(zip(self.positions, parts, strict=True))]):
                yield slab, first, block

    def hard_rows(
        self, array: Array, network: Fused, normalise: Normalise, pool: ThreadPoolExecutor, every: int
    ) -> Array:
        """Return (Z,) uint8, the highest probability in each row, of one slice out of `every`."""
        scouts = range(every // 2, array.shape[self.axis], every)
        highest = np.zeros(len(array), np.uint8)
        if not scouts:
            return highest
        stack, view = Slices(array, self.axis, scouts), self.views[0]

        def seen(number: int) -> Array:
            slices = stack.picked([number], *self.windows[number])
            if not slices.size:
                return np.zeros(0, np.uint8)
            found = network(slices[view], normalise, self._computed(*slices.shape[1:]))[view]
            return np.asarray(found[0].max(axis=1))

        for number, found in zip(scouts, pool.map(seen, scouts), strict=True):
            rows = highest[self.windows[number][0]]
            np.maximum(rows, found, out=rows)
        return highest

    def _computed(self, height: int, width: int) -> tuple[int, int]:
        """Shape of a part of a slice as the network sees it."""
        return max(1, round(height * self.ratio)), max(1, round(width * self.ratio))


def plan_passes(
    info: ModelInfo,
    shape: tuple[int, ...],
    near: Array,
    voxel_um: float,
    planes: Sequence[str] | None,
    step: int | None,
) -> list[Pass]:
    """Plan the passes of a network over an array of `shape`, one for each plane that has an extent.

    Parameters
    ----------
    near : from `planes.find_near`.
    planes, step : in place of the model's own.

    Raises
    ------
    ContentError
        If no plane has an extent, or the voxels are too coarse.
    ModelError
        If a plane is unknown.
    """
    wanted = planes or info.planes
    unknown = [plane for plane in wanted if plane not in AXES]
    if unknown:
        raise ModelError(f"planes {', '.join(unknown)} are unknown: expected zx, zy or both.")
    axes = [AXES[plane] for plane in wanted if shape[0] > 1 and shape[3 - AXES[plane]] > 1]
    if not axes:
        raise ContentError(
            f"a scan of {' x '.join(map(str, shape))} voxels (Z, Y, X) has no extent in the planes "
            f"{', '.join(wanted)}; expected slices along the plug's axis Z: one across it shows no tidemark."
        )
    ratio = scale_between(voxel_um, info)
    stride = stride_between(info, voxel_um, step)
    same, turned = slice(None), slice(None, None, -1)
    rows, columns = [same], [same]
    if 1 in shape[1:]:  # an image has no second plane to be averaged with
        rows, columns = [same, turned] if info.either_end else rows, [same, turned]
    views = [(same, row, column) for row in rows for column in columns]
    return [
        Pass(
            axis,
            spread(shape[axis], stride),
            ratio,
            views,
            find_windows(near, shape, axis, info.multiple / ratio),
        )
        for axis in axes
    ]


def filled(batches: Iterable[list[tuple[int, Array]]]) -> Iterator[tuple[int, Array]]:
    """Interpolate between predicted slices; yield (number of the first slice, slices) without gaps."""
    known: list[tuple[int, Array]] = []
    for batch in batches:
        first = known[-1][0] + 1 if known else batch[0][0]
        known = known[-1:] + batch
        block = np.empty((batch[-1][0] + 1 - first, *batch[0][1].shape), np.uint8)
        for p, image in batch:
            block[p - first] = image
        for (a, before), (b, after) in pairwise(known):
            for p in range(a + 1, b):
                weights = (b - p) / (b - a), (p - a) / (b - a)
                cv2.addWeighted(before, weights[0], after, weights[1], 0, dst=block[p - first])
        yield first, block
