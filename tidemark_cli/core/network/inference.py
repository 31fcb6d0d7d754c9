"""Slices in, probability volume out: ZX and ZY slices through the network, averaged (paper, 3.1).

Everything between the network and the result is 8-bit, as in the paper's code: predicted slices,
those interpolated between them, and the volume that both planes are averaged into.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import chain, groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..anatomy.plug import MARGIN_UM
from ..cache import installed_weights, weights_folder
from ..errors import ContentError, ModelError
from .devices import fast_dtype, keep_freed_memory, streams
from .greylevels import Normalise, black, normaliser
from .planes import AXES, Window, blend, clear_far, cut_rows, find_chords, find_near, find_windows
from .unet import ModelInfo, UNet, load_model

SAME_SIZE = 0.02  # voxel sizes closer than this ratio are not resampled
COARSEST = 16  # times the model's voxels: beyond, slices would be enlarged until they fill the memory
SCOUTS_UM = 200.0  # between the slices that tell at which heights there is hard tissue
REACH_UM = 600.0  # the other slices are computed so far below and above it
FAINT = 0.5  # of the threshold: above it a voxel may be hard tissue
READ_AT_ONCE = 8  # slices: ZY slices are strided in memory, and neighbours share cache lines and pages

EMBEDDED = "default"  # names the model inside the package, wherever a model is named

Array = np.ndarray


def load_one(name: str) -> UNet:
    """Read one network: the model file of that path, or for "default" the model inside the package.

    Raises
    ------
    ModelError
        If there is no such file, or it is no model.
    """
    if name != EMBEDDED:
        return load_model(Path(name))
    with resources.as_file(resources.files("tidemark_cli") / "models" / "default.safetensors") as path:
        return load_model(path)


def load_models(weights: Path | None) -> list[UNet]:
    """Read the networks to average.

    Parameters
    ----------
    weights : a model file; a folder, of which every ``.safetensors`` is read or, where there is
        none, every ``.pth``; the name of installed weights, where there is no such path; or None or
        "default", whatever is installed or lies here under that name, for the model inside the package.

    Raises
    ------
    ModelError
        If a file is missing or not a model, or the folder holds none.
    """
    if weights is None or str(weights) == EMBEDDED:
        return [load_one(EMBEDDED)]
    if not weights.exists():
        weights = _find_installed(str(weights))
    if not weights.is_dir():
        return [load_model(weights)]
    # not the hidden files that a killed run may leave
    files = sorted(weights.glob("[!.]*.safetensors")) or sorted(weights.glob("[!.]*.pth"))
    if not files:
        raise ModelError(f"{weights}: expected model files (.safetensors or .pth) in it, found none.")
    return [load_model(file) for file in files]


def _find_installed(name: str) -> Path:
    folder = weights_folder(name)
    if folder is None:
        names = ", ".join(installed_weights()) or "none"
        raise ModelError(
            f"{name}: expected a model file, a folder of them, or the name of installed weights, found none; "
            f"installed are: {names} (tidemark download)."
        )
    return folder


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


class _Predictor:
    """One network made ready for one device: batch norm folded, channels last, the fast dtype."""

    def __init__(self, net: UNet, device: torch.device, normalise: Normalise) -> None:
        self.info, self.device, self.normalise = net.info, device, normalise
        self.dtype = fast_dtype(device)
        net = copy.deepcopy(net).eval()
        for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
            if isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d):
                block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
        net = net.to(device, self.dtype)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batch_size(self, shape: tuple[int, int], voxels: int) -> int:
        """Slices at a time: more keep a GPU busy, but spill out of a processor's caches.

        A slice is computed at `shape` and brings `voxels` of the scan with it, itself and those skipped.
        """
        budget = 96e6 / streams(self.device) if self.device.type == "cpu" else 2e9  # bytes
        # at the widest point, in the last decoder, six tensors of the first level's size live at once
        activations = 6 * self.info.width / self.info.stem**2 * self.dtype.itemsize
        around = 16  # the slice itself in float32, before and after the network
        return max(1, int(budget / (math.prod(shape) * (activations + around) + 4 * voxels)))

    @torch.inference_mode()
    def __call__(self, slices: Array, shape: tuple[int, int]) -> Array:
        """Predict grey slices (N, H, W), computed at `shape`; returns uint8 of the slices' shape."""
        grey = self.normalise(slices)
        x = torch.from_numpy(np.stack([resize(image, shape) for image in grey]))[:, None]
        # Beyond the box round a plug there is air: reflecting would draw a second tidemark, repeating
        # the edge would smear it. At the far end, so that row 0 stays the bone end.
        rows, columns = (-side % self.info.multiple for side in shape)
        x = F.pad(x, (0, columns, 0, rows), value=black(self.info))
        x = x.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.net(x)[:, 0, : shape[0], : shape[1]]
        probability = (torch.sigmoid(logits.float()) * 255).round().byte().cpu().numpy()
        return np.stack([resize(image, slices.shape[1:]) for image in probability])


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


def resize(image: Array, shape: tuple[int, ...]) -> Array:
    """Resample a slice to the pixels that a network sees, or back."""
    if image.shape == shape:
        return image
    way = cv2.INTER_AREA if shape[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, shape[::-1], interpolation=way)


def _positions(length: int, stride: int) -> list[int]:
    """Spread slices evenly from the first to the last of `length`, at most `stride` apart."""
    count = -(-(length - 1) // stride) + 1
    return [int(p) for p in np.linspace(0, length - 1, count).round()]


View = tuple[slice, slice, slice]  # of (slices, rows, columns): rows and columns as they are or turned round
_Batch = tuple[list[int], list["Future[Array]"]]  # numbers of slices, and what the network makes of each view


@dataclass(frozen=True)
class _Pass:
    """One model over the slices of one plane of an array (Z, Y, X)."""

    net: UNet
    axis: int
    positions: list[int]  # of the slices between which others are interpolated
    ratio: float  # voxel size of the array over that of the model; 1 if they are as good as equal
    views: list[View]  # of each slice, averaged
    windows: list[Window]  # what of each slice of the array is computed

    @property
    def predicted(self) -> list[int]:
        """The slices that the network looks at: those that do not pass the plug by."""
        return [p for p in self.positions if self.windows[p][0] != slice(0, 0)]

    def run(
        self,
        array: Array,
        predictor: _Predictor,
        pool: ThreadPoolExecutor,
        tick: Callable[[int], None],
    ) -> Iterator[list[tuple[int, Array]]]:
        """Yield batches of (number of the slice, its probabilities as uint8), 0 outside its window."""
        # the other plane's axis runs along the columns of the slices
        height, width = array.shape[0], array.shape[3 - self.axis]
        size = predictor.batch_size(self._computed(height, width), array.size // len(self.positions))
        stack = np.moveaxis(array, self.axis, 0)

        def submit(numbers: list[int], slices: Array) -> _Batch:
            shape = self._computed(*slices.shape[1:])
            return numbers, [pool.submit(predictor, slices[view], shape) for view in self.views]

        def finish(numbers: list[int], batches: list[_Batch]) -> list[tuple[int, Array]]:
            whole = {p: np.zeros((height, width), np.uint8) for p in numbers}
            for some, seen in batches:
                found = [batch.result()[view] for batch, view in zip(seen, self.views, strict=True)]
                mean = found[0] if len(found) == 1 else np.mean(found, axis=0).round()
                for p, image in zip(some, mean, strict=True):
                    whole[p][self.windows[p]] = image
                tick(len(some))
            return list(whole.items())

        read = size * -(-READ_AT_ONCE // size)
        ahead: tuple[list[int], list[_Batch]] | None = None
        for first in range(0, len(self.positions), read):
            numbers = self.positions[first : first + read]
            block = np.ascontiguousarray(stack[numbers[0] : numbers[-1] + 1])
            batches = []
            for window, group in groupby(numbers, self.windows.__getitem__):
                alike = list(group)
                slices = block[[p - numbers[0] for p in alike]][:, window[0], window[1]]
                if slices.size:
                    starts = range(0, len(alike), size)
                    batches += [submit(alike[k : k + size], slices[k : k + size]) for k in starts]
            if ahead:
                yield finish(*ahead)
            ahead = numbers, batches
        if ahead:
            yield finish(*ahead)

    def hard_rows(
        self, array: Array, predictor: _Predictor, pool: ThreadPoolExecutor, every: int, level: float
    ) -> Array:
        """Tell in which rows one slice of so many shows more than a level, 0 to 255: (Z,) bool."""
        stack, view = np.moveaxis(array, self.axis, 0), self.views[0]
        rows = np.zeros(len(array), bool)

        def seen(number: int) -> Array:
            slices = stack[number][self.windows[number]][None]
            if not slices.size:
                return np.zeros(0, bool)
            found: Array = predictor(slices[view], self._computed(*slices.shape[1:]))[view]
            return (found[0] > level).any(axis=1)

        scouts = range(every // 2, len(stack), every)
        for number, found in zip(scouts, pool.map(seen, scouts), strict=True):
            rows[self.windows[number][0]] |= found
        return rows

    def _computed(self, height: int, width: int) -> tuple[int, int]:
        """Shape of a part of a slice as the network sees it."""
        return max(1, round(height * self.ratio)), max(1, round(width * self.ratio))


def _filled(batches: Iterable[list[tuple[int, Array]]]) -> Iterator[tuple[int, Array]]:
    """Interpolate between predicted slices; yield (number of the first slice, slices) without gaps."""
    known: list[tuple[int, Array]] = []
    for batch in batches:
        filled = [] if known else [batch[0][1]]
        known = known[-1:] + batch
        for (a, before), (b, after) in pairwise(known):
            for p in range(a + 1, b):
                filled.append(cv2.addWeighted(before, (b - p) / (b - a), after, (p - a) / (b - a), 0))
            filled.append(after)
        yield batch[-1][0] + 1 - len(filled), np.stack(filled)


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


class _Range:
    """Lowest and highest of several 8-bit volumes that arrive block by block."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.lowest = np.full(shape, 255, np.uint8)
        self.highest = np.zeros(shape, np.uint8)

    def add(self, axis: int, start: int, block: Array) -> None:
        """Take slices stacked along `axis`, the first being slice `start`."""
        for volume, extreme in ((self.lowest, np.minimum), (self.highest, np.maximum)):
            place = np.moveaxis(volume, axis, 0)[start : start + len(block)]
            extreme(place, block, out=place)

    def result(self) -> Array:
        """Give highest minus lowest; the object is used up."""
        return np.subtract(self.highest, self.lowest, out=self.highest)


def predict(
    array: Array,
    voxel_um: float,
    models: Sequence[UNet],
    *,
    device: torch.device,
    bone_end: str,
    planes: Sequence[str] | None = None,
    step: int | None = None,
    outline: Array | None = None,
    threshold: float | None = None,
    uncertainty: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict hard tissue in a scan: every model over every plane, averaged.

    Planes are averaged as `planes.blend` does it, models equally. A single slice has no second plane: it
    is averaged with its mirror images, also upside down where the model takes either bone end.

    Parameters
    ----------
    array : (Z, Y, X), any real dtype; a single ZX slice is (Z, 1, X), a single ZY slice (Z, Y, 1).
    voxel_um : its voxel size in µm; slices are resampled in-plane where it is not the model's.
    models : networks to average, each with its own normalisation, voxel size, planes and step.
    device : from `choose_device`.
    bone_end : "first" or "last", the end of Z where the bone lies.
    planes : "zx", "zy" or both, in place of the models' own. Planes without extent are dropped.
    step : predict every so many slices of the array and interpolate those between; 1 predicts each, as the
        paper does. None takes the models' own, in slices of their voxel size.
    outline : (z, y, x) bool, the plug, on any coarser grid over the extent of the array. Slices count
        by what they cut of it, and what is not within 100 µm of it (or a cell of the grid) is 0; so is what
        lies more than 600 µm below or above all that may be hard tissue in a slice every 200 µm, of the first
        plane and any model. Where they show none, all heights are computed. None: the plug fills the array,
        and all of it is predicted.
    threshold : of the caller: what exceeds half of it may be hard tissue. None takes the models' own.
    uncertainty : whether to keep the disagreement of planes and models too.
    progress : called with (slices done, slices in all).

    Raises
    ------
    ContentError
        If the array has no extent in any of the planes, or voxels over 16 times as wide as a model's.
    ModelError
        If there is no model, or one wants a plane or a normalisation that is unknown.
    """
    if not models:
        raise ModelError("there is no model to predict with: expected at least one.")
    if device.type == "cpu":
        keep_freed_memory()
    near = find_near(outline, array.shape, MARGIN_UM / voxel_um)

    def plan() -> list[list[_Pass]]:
        return [_passes(net, array.shape, near, voxel_um, bone_end, planes, step) for net in models]

    if outline is not None and 1 not in array.shape:
        _cut_heights(near, array, voxel_um, models, plan(), device, threshold)
    passes = plan()
    total, done = sum(len(p.predicted) for p in chain(*passes)), 0

    def tick(slices: int) -> None:
        nonlocal done
        done += slices
        if progress is not None:
            progress(done, total)

    chords = find_chords(outline, array.shape)
    extremes = _Range(array.shape) if uncertainty else None
    volume = np.zeros(array.shape, np.uint8)
    # models are summed in 16 bits: averaged one by one in 8, their rounding would add up
    every = np.zeros(array.shape, np.uint16) if len(models) > 1 else None
    with _pool(device) as pool:
        for net, of_model in zip(models, passes, strict=True):
            predictor = _Predictor(net, device, normaliser(array, net.info))
            for item in of_model:
                for start, block in _filled(item.run(array, predictor, pool, tick)):
                    if item is of_model[0]:
                        np.moveaxis(volume, item.axis, 0)[start : start + len(block)] = block
                    else:
                        blend(volume, block, item.axis, start, chords)
                    if extremes is not None:
                        extremes.add(item.axis, start, block)
            if every is not None:
                every += volume
    if every is not None:
        for plane, summed in zip(volume, every, strict=True):
            plane[...] = (summed.astype(np.uint32) + len(models) // 2) // len(models)
    slices = {plane: sum(len(p.predicted) for p in chain(*passes) if p.axis == AXES[plane]) for plane in AXES}
    disagreement = None if extremes is None else extremes.result()
    for found in (volume, disagreement):
        if found is not None:
            clear_far(found, near)
    return Prediction(volume, disagreement, slices)


def _cut_heights(
    near: Array,
    array: Array,
    voxel_um: float,
    models: Sequence[UNet],
    passes: list[list[_Pass]],
    device: torch.device,
    threshold: float | None,
) -> None:
    """Clear from `near` the heights without hard tissue, as slices far apart show them: most cartilage."""
    rows = np.zeros(len(array), bool)
    every = max(1, round(SCOUTS_UM / voxel_um))
    with _pool(device) as pool:
        for net, of_model in zip(models, passes, strict=True):
            predictor = _Predictor(net, device, normaliser(array, net.info))
            level = 255 * FAINT * (net.info.threshold if threshold is None else threshold)
            rows |= of_model[0].hard_rows(array, predictor, pool, every, level)
    cut_rows(near, rows, REACH_UM / voxel_um)


def _passes(
    net: UNet,
    shape: tuple[int, ...],
    near: Array,
    voxel_um: float,
    bone_end: str,
    planes: Sequence[str] | None,
    step: int | None,
) -> list[_Pass]:
    info = net.info
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
    stride = step or max(1, round(info.step / ratio))
    same, turned = slice(None), slice(None, None, -1)
    rows = [turned if bone_end == "last" and not info.either_end else same]
    columns = [same]
    if 1 in shape[1:]:  # an image has no second plane to be averaged with
        rows, columns = [same, turned] if info.either_end else rows, [same, turned]
    views = [(same, row, column) for row in rows for column in columns]
    return [
        _Pass(
            net,
            axis,
            _positions(shape[axis], stride),
            ratio,
            views,
            find_windows(near, shape, axis, info.multiple / ratio),
        )
        for axis in axes
    ]
