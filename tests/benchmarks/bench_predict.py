"""How fast `predict` is, against the paper's network run the plain way; all in one run on one machine.

python tests/benchmarks/bench_predict.py [--size Z Y X] [--blocks N] [--device cpu]

The plain way takes every slice of the whole scan; its time is that of blocks of slices, times their number.
Ours is the time from the scan in memory to its probabilities: finding the plug, then its slices; each of
them with a model of the paper's kind, every second one with `--step 2`. Masks are compared where blocks of
slices of both planes cross: the plain mean of both, thresholded, with what `predict` makes of them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from floor import Load, Rates, load_of, measured
from torch.nn import functional

from tidemark_cli.core.anatomy.plug import find_plug
from tidemark_cli.core.errors import ModelError
from tidemark_cli.core.network.devices import choose_device, fast_dtype
from tidemark_cli.core.network.fused import Fused
from tidemark_cli.core.network.greylevels import Normalise, normaliser
from tidemark_cli.core.network.inference import Prediction, Predictor
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.planes import AXES
from tidemark_cli.core.network.unet import ModelInfo, UNet
from tidemark_cli.core.phantoms.phantom import VOXEL_UM, draw_phantom
from tidemark_cli.core.training.settings import PhantomTraining

BLOCK = 5  # neighbouring slices


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def fit(net: UNet, scan: np.ndarray, mask: np.ndarray, steps: int, device: torch.device) -> None:
    """Fit the network to slices of the phantom, far enough that its masks look like masks."""
    rng = np.random.default_rng(0)
    net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    side = min(256, *(n // 64 * 64 for n in scan.shape))
    normalise = normaliser(scan, net.info)
    for _ in range(steps):
        crops = []
        for y in rng.integers(scan.shape[1], size=8):
            z, x = (rng.integers(n - side + 1) for n in (scan.shape[0], scan.shape[2]))
            here = (slice(z, z + side), y, slice(x, x + side))
            crops.append((normalise(scan[here]), (mask[here] > 0).astype(np.float32)))
        grey, hard = (torch.from_numpy(np.stack(c))[:, None].to(device) for c in zip(*crops, strict=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16):
            logits = net(grey)
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(logits.float(), hard).backward()
        optimiser.step()
        schedule.step()
    net.eval()


def widened(net: UNet, times: int) -> UNet:
    """Return a network with every channel so many times over, which gives the same as the first."""
    wide = UNet(replace(net.info, width=net.info.width * times))
    weights = {}
    for (name, weight), like in zip(net.state_dict().items(), wide.state_dict().values(), strict=True):
        for axis in range(min(2, weight.ndim)):
            if weight.shape[axis] != like.shape[axis]:
                weight = weight.repeat_interleave(times, axis) / (times if axis else 1)
        weights[name] = weight.contiguous()
    wide.load_state_dict(weights)
    return wide.eval()


def plain_way(net: UNet, slices: np.ndarray) -> np.ndarray:
    """Predict slices (N, H, W) in float32, default memory format, one by one; gives probabilities * 255."""
    normalise = normaliser(slices, net.info)
    found = []
    with torch.no_grad():
        for image in slices:
            probability = torch.sigmoid(
                net(torch.from_numpy(normalise(image))[None, None].to(net.head.weight.device))
            )
            found.append(255 * probability[0, 0].cpu().numpy())
    return np.stack(found)


Blocks = dict[str, dict[int, np.ndarray]]  # plane, first slice of a block: probabilities of it, 0 to 255


def ours(net: UNet, scan: np.ndarray, step: int | None, device: torch.device) -> Prediction:
    """Find the plug and predict its box; the probabilities come in the frame of the scan."""
    plug = find_plug(scan, VOXEL_UM)
    found = Predictor([net], device, step=step)(plug.view(scan), VOXEL_UM, plug.outline_view())
    whole = np.zeros(scan.shape, np.uint8)
    plug.view(whole)[...] = found.probability
    return replace(found, probability=whole)


@contextmanager
def watched() -> Iterator[list[tuple[int, int]]]:
    """Watch `predict` at work: yields a list that fills with the shape of every slice that it computes."""
    shapes: list[tuple[int, int]] = []
    call = Fused.__call__

    def noting(self: Fused, slices: np.ndarray, normalise: Normalise, shape: tuple[int, int]) -> np.ndarray:
        shapes.extend([shape] * len(slices))
        return call(self, slices, normalise, shape)

    Fused.__call__ = noting  # type: ignore[method-assign]
    try:
        yield shapes
    finally:
        Fused.__call__ = call  # type: ignore[method-assign]


def total(net: UNet, shapes: list[tuple[int, int]], rates: Rates) -> Load:
    return sum(
        (load_of(net, shape, rates.dtype) * count for shape, count in Counter(shapes).items()), Load(0, 0)
    )


def timed_ours(
    net: UNet, scan: np.ndarray, step: int | None, device: torch.device
) -> tuple[float, Prediction, list[tuple[int, int]]]:
    """Return the seconds, what was predicted, and the shapes of the slices that were computed."""
    if device.type == "cuda":
        ours(net, scan, step, device)  # the first call loads the kernels
    with watched() as shapes:
        ours_s, found = timed(partial(ours, net, scan, step, device))
    return ours_s, found, shapes


def equal_share(plain: Blocks, probability: np.ndarray, threshold: float) -> float:
    """Share of voxels, where blocks of both planes cross, that are in both masks or in neither."""
    same = []
    for y, zx in plain["zx"].items():
        for x, zy in plain["zy"].items():
            mean = (
                zx[:, :, x : x + BLOCK].transpose(1, 0, 2) + zy[:, :, y : y + BLOCK].transpose(1, 2, 0)
            ) / 2
            here = probability[:, y : y + BLOCK, x : x + BLOCK]
            same.append(np.mean((mean > 255 * threshold) == (here / 255 > threshold)))
    return float(np.mean(same))


def embedded() -> tuple[str, UNet]:
    try:
        return "embedded model", load_models(None)[0]
    except ModelError:
        return "embedded model (random weights)", UNet(PhantomTraining().model_info()).eval()


def report(name: str, seconds: float, plain_s: float, detail: str) -> None:
    print(f"{name}: {seconds:.2f} s, {plain_s / seconds:.1f} times as fast; {detail}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(768, 448, 448), metavar=("Z", "Y", "X"))
    parser.add_argument("--blocks", type=int, default=4, help="of slices of each plane, the plain way")
    parser.add_argument(
        "--steps", type=int, default=600, help="of fitting a third of the paper's network to the phantom"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    dtype = str(fast_dtype(device)).removeprefix("torch.")
    print(f"{device}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {dtype}", flush=True)
    phantom = draw_phantom(arguments.seed, tuple(arguments.size), VOXEL_UM)
    scan, slices = phantom.scan, sum(arguments.size[1:])

    torch.manual_seed(0)
    narrow = UNet(ModelInfo(width=8))
    fit(narrow, scan, phantom.mask, arguments.steps, device)
    paper = widened(narrow, 3).to(device)
    plain: Blocks = {}
    seconds = []
    for plane, axis in AXES.items():
        stack = np.moveaxis(scan, axis, 0)
        plain_way(paper, stack[:1])  # the first call sets itself up
        plain[plane] = {}
        for at in np.linspace(0, len(stack) - BLOCK, arguments.blocks + 2)[1:-1].astype(int):
            block_s, plain[plane][int(at)] = timed(partial(plain_way, paper, stack[at : at + BLOCK]))
            seconds.append(block_s / BLOCK)
    plain_s = slices * float(np.mean(seconds))
    report("paper's network, the plain way", plain_s, plain_s, f"from {len(seconds) * BLOCK} slices")
    print(f"finding the plug, a part of what follows: {timed(partial(find_plug, scan, VOXEL_UM))[0]:.2f} s")
    rates = measured(device, fast_dtype(device))
    for step in (1, 2):
        ours_s, found, shapes = timed_ours(paper, scan, step, device)
        equal = equal_share(plain, found.probability, paper.info.threshold)
        detail = f"{rates.floor(total(paper, shapes, rates))}; masks equal in {100 * equal:.3f} % of voxels"
        report(f"paper's network, predict --step {step}", ours_s, plain_s, f"{len(shapes)} slices, {detail}")
    name, net = embedded()
    ours_s, _, shapes = timed_ours(net, scan, None, device)
    detail = f"{len(shapes)} slices, {rates.floor(total(net, shapes, rates))}"
    report(f"{name}, predict", ours_s, plain_s, detail)
    print(f"floors: of the network alone, at {rates}")


if __name__ == "__main__":
    main()
