"""Slices in, probability volume out: ZX and ZY slices through the network, averaged (paper, 3.1).

Everything between the network and the result is 8-bit, as in the paper's code: predicted slices,
those interpolated between them, and the volume that both planes are averaged into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from .. import arrays
from ..errors import ModelError
from .devices import keep_freed_memory, streams
from .fused import Fused
from .greylevels import Normalise, normaliser
from .passes import Pass, plan_passes
from .planes import AXES, blend, clear_far, cut_rows, find_chords, find_near
from .unet import UNet

MARGIN_UM = 100.0  # round the plug, as far as its box reaches
SCOUTS_UM = 200.0  # between the slices that tell at which heights there is hard tissue
REACH_UM = 350.0  # the other slices are computed so far below and above it
FAINT = 0.5  # of the threshold: above it a voxel may be hard tissue

Array = np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What the networks make of a scan.

    Attributes
    ----------
    probability : (Z, Y, X) uint8, 255 = surely hard tissue; averaged over planes and models.
    disagreement : (Z, Y, X) uint8, largest minus smallest probability over planes and models;
        None if it was not asked for.
    slices : plane to the number of its slices that were predicted, all models together.
    """

    probability: Array
    disagreement: Array | None
    slices: dict[str, int]

    def upside_down(self) -> Prediction:
        """The same with its slices along Z in reverse order; views, no copies."""
        other = None if self.disagreement is None else self.disagreement[::-1]
        return Prediction(self.probability[::-1], other, self.slices)


class Predictor:
    """Networks made ready for one device once, to predict scan after scan.

    Parameters
    ----------
    models : networks to average, each with its own normalisation, voxel size, planes and step.
    device : from `choose_device`.
    planes : "zx", "zy" or both, in place of the models' own. Planes without extent are dropped.
    step : predict every Nth slice of the array and interpolate those between; 1 predicts each, as the
        paper does. None takes the models' own, in slices of their voxel size.
    threshold : of the caller: what exceeds half of it may be hard tissue. None takes the models' own.
    uncertainty : whether to keep the disagreement of planes and models too.

    Raises
    ------
    ModelError
        If there is no model.
    """

    def __init__(
        self,
        models: Sequence[UNet],
        device: torch.device,
        *,
        planes: Sequence[str] | None = None,
        step: int | None = None,
        threshold: float | None = None,
        uncertainty: bool = False,
    ) -> None:
        if not models:
            raise ModelError("there is no model to predict with: expected at least one.")
        keep_freed_memory()
        self.networks = [Fused(net, device) for net in models]
        self.device, self.planes, self.step = device, planes, step
        self.threshold, self.uncertainty = threshold, uncertainty

    @property
    def either_end(self) -> bool:
        """Whether all networks take slices either way up."""
        return all(network.info.either_end for network in self.networks)

    def __call__(
        self,
        array: Array,
        voxel_um: float,
        outline: Array | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Prediction:
        """Predict hard tissue in a scan: every model over every plane, averaged.

        Planes are averaged as `planes.blend` does it, models equally. A single slice has no second plane: it
        is averaged with its mirror images, also upside down where the model takes either bone end.

        Parameters
        ----------
        array : (Z, Y, X), bone first, any real dtype; a single ZX slice is (Z, 1, X), a ZY slice (Z, Y, 1).
        voxel_um : its voxel size in µm; slices are resampled in-plane where it is not the model's.
        outline : (z, y, x) bool, the plug, on any coarser grid over the extent of the array. Slices count
            by what they cut of it, and what is not within 100 µm of it (or a cell of the grid) is 0; so is
            what lies more than 350 µm below or above all that may be hard tissue in a slice every 200 µm, of
            the first plane and any model. Where they show none, all heights are computed. None: the plug
            fills the array, and all of it is predicted.
        progress : called with (slices done, slices in all).

        Raises
        ------
        ContentError
            If the array has no extent in any of the planes, or voxels over 16 times as wide as a model's.
        ModelError
            If a model wants a plane that is unknown.
        """
        near = find_near(outline, array.shape, MARGIN_UM / voxel_um)
        normalisers = [normaliser(array, network.info) for network in self.networks]

        def plan() -> list[list[Pass]]:
            infos = [network.info for network in self.networks]
            return [plan_passes(i, array.shape, near, voxel_um, self.planes, self.step) for i in infos]

        with _pool(self.device) as pool:
            if outline is not None and 1 not in array.shape:
                rows = self._hard_rows(array, plan(), normalisers, pool, max(1, round(SCOUTS_UM / voxel_um)))
                cut_rows(near, rows, REACH_UM / voxel_um)
            passes = plan()
            tick = _counter(sum(len(item.predicted) for item in chain(*passes)), progress)
            chords = find_chords(outline, array.shape)
            found = self._averaged(array, passes, normalisers, chords, pool, tick)
        for volume in found:
            if volume is not None:
                clear_far(volume, near)
        slices = {
            plane: sum(len(item.predicted) for item in chain(*passes) if item.axis == axis)
            for plane, axis in AXES.items()
        }
        return Prediction(*found, slices)

    def _hard_rows(
        self,
        scan: Array,
        passes: list[list[Pass]],
        normalisers: list[Normalise],
        pool: ThreadPoolExecutor,
        every: int,
    ) -> Array:
        """Tell at which heights slices far apart show what may be hard tissue: (Z,) bool."""
        rows = np.zeros(1, bool)
        for network, (first, *_), normalise in zip(self.networks, passes, normalisers, strict=True):
            threshold = network.info.threshold if self.threshold is None else self.threshold
            highest = first.hard_rows(scan, network, normalise, pool, every)
            rows = rows | (highest > 255 * FAINT * threshold)
        return rows

    def _averaged(
        self,
        scan: Array,
        passes: list[list[Pass]],
        normalisers: list[Normalise],
        chords: dict[int, Array],
        pool: ThreadPoolExecutor,
        tick: Callable[[int], None],
    ) -> tuple[Array, Array | None]:
        """Return the mean over planes and models, and the disagreement where that is asked for."""
        shape = scan.shape
        extremes = _Range(scan) if self.uncertainty else None
        volume = arrays.zeros(shape, np.uint8, beside=scan)
        # models are summed in 16 bits: averaged one by one in 8, their rounding would add up
        every = arrays.zeros(shape, np.uint16, beside=scan) if len(passes) > 1 else None

        for network, of_model, normalise in zip(self.networks, passes, normalisers, strict=True):
            for item in of_model:
                blocks = item.blocks(item.run(scan, network, normalise, pool, tick), scan)
                _add(volume, blocks, item.axis, None if item is of_model[0] else chords, extremes)
            if every is not None:
                for summed, plane in zip(every, volume, strict=True):
                    summed += plane
        if every is not None:
            for plane, summed in zip(volume, every, strict=True):
                plane[...] = (summed.astype(np.uint32) + len(passes) // 2) // len(passes)
        return volume, None if extremes is None else extremes.result()


def _add(
    volume: Array,
    blocks: Iterator[tuple[slice, int, Array]],
    axis: int,
    chords: dict[int, Array] | None,
    extremes: _Range | None,
) -> None:
    """Put the slices of a plane into the volume, or where there are chords mix them into it."""
    for slab, start, block in blocks:
        part = volume[slab]
        if chords is None:
            np.moveaxis(part, axis, 0)[start : start + len(block)] = block
        else:
            blend(part, block, axis, start, {other: share[slab] for other, share in chords.items()})
        if extremes is not None:
            extremes.add(slab, axis, start, block)


class _Range:
    """Lowest and highest of several 8-bit volumes that arrive block by block."""

    def __init__(self, scan: Array) -> None:
        self.highest = arrays.zeros(scan.shape, np.uint8, beside=scan)
        self.depth = arrays.zeros(scan.shape, np.uint8, beside=scan)  # 255 - lowest

    def add(self, slab: slice, axis: int, start: int, block: Array) -> None:
        """Take slices of a part of Z, stacked along `axis`, the first being slice `start`."""
        for volume, found in ((self.highest, block), (self.depth, 255 - block)):
            place = np.moveaxis(volume[slab], axis, 0)[start : start + len(block)]
            np.maximum(place, found, out=place)

    def result(self) -> Array:
        """Give highest minus lowest; the object is used up."""
        for highest, depth in zip(self.highest, self.depth, strict=True):
            highest -= 255 - depth
        return self.highest


@contextmanager
def _pool(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Yield the threads that predict; batches still waiting at the end, after an error, are dropped."""
    count = streams(device)
    threads = max(1, torch.get_num_threads() // count)
    pool = ThreadPoolExecutor(count, "predict", torch.set_num_threads, (threads,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """Return what adds up slices and tells `progress` of them."""
    done = 0

    def tick(slices: int) -> None:
        nonlocal done
        done += slices
        if progress is not None:
            progress(done, total)

    return tick
