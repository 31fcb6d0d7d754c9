"""How fast `predict` is, against the paper's network run the plain way; all in one run on one machine.

python tests/benchmarks/bench_predict.py [--size Z Y X] [--blocks N] [--device cpu]

The plain way takes every slice, and so does `predict` with a model of the paper's kind; with `--step 2` it
takes every second one and interpolates. Masks (the mean of both planes, thresholded) are compared where
blocks of slices of both planes cross.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tidemark_cli.core.errors import ModelError
from tidemark_cli.core.inference import AXES, choose_device, fast_dtype, load_models, normaliser, predict
from tidemark_cli.core.losses import bce_log_jaccard
from tidemark_cli.core.phantom import VOXEL_UM, draw_phantom
from tidemark_cli.core.phantom_training import PhantomTraining
from tidemark_cli.core.unet import ModelInfo, UNet

BLOCK = 5  # neighbouring slices


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def fit(net: UNet, scan: np.ndarray, mask: np.ndarray, steps: int, device: torch.device) -> None:
    """Fit the network to slices of the phantom, far enough that its masks look like masks."""
    rng = np.random.default_rng(0)
    net.to(device).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    side = min(256, *(n // 64 * 64 for n in scan.shape))
    normalise = normaliser(scan, net.info)
    for _ in range(steps):
        crops = []
        for y in rng.integers(scan.shape[1], size=4):
            z, x = (rng.integers(n - side + 1) for n in (scan.shape[0], scan.shape[2]))
            here = (slice(z, z + side), y, slice(x, x + side))
            crops.append((normalise(scan[here]), (mask[here] > 0).astype(np.float32)))
        grey, hard = (torch.from_numpy(np.stack(c))[:, None].to(device) for c in zip(*crops, strict=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16):
            logits = net(grey)
        optimiser.zero_grad()
        bce_log_jaccard(logits.float(), hard).backward()
        optimiser.step()
    net.eval()


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


def gflop(net: UNet, shape: tuple[int, int]) -> float:
    sides = [n + -n % net.info.multiple for n in shape]
    with torch.device("meta"):
        net, x = UNet(net.info).eval(), torch.zeros(1, 1, *sides)
    with FlopCounterMode(display=False) as counter:
        net(x)
    return counter.get_total_flops() / 1e9


def peak_gflops(device: torch.device) -> float:
    """Billions of operations a second of a large matrix product in the dtype that `predict` uses."""
    a = torch.randn(2048, 2048, device=device).to(fast_dtype(device))

    def product() -> np.ndarray:
        return (a @ a)[:1, :1].float().cpu().numpy()

    product()
    return 2 * 2048**3 / min(timed(product)[0] for _ in range(5)) / 1e9


Blocks = dict[str, dict[int, np.ndarray]]  # plane, first slice of a block: probabilities of it, 0 to 255


@dataclass(frozen=True)
class Pace:
    """Seconds that `predict` takes in one plane: once, and for a slice that the network looks at."""

    setup_s: float
    slice_s: float


def ours(
    net: UNet, scan: np.ndarray, plane: str, start: int, slices: int, step: int, device: torch.device
) -> np.ndarray:
    """Predict neighbouring slices of one plane through `predict`; gives probabilities (N, H, W) uint8."""
    axis = AXES[plane]
    some = np.moveaxis(np.moveaxis(scan, axis, 0)[start : start + slices], 0, axis)
    found = predict(some, VOXEL_UM, [net], device=device, bone_end="first", planes=[plane], step=step)
    return np.moveaxis(found.probability, axis, 0)


def pace(net: UNet, scan: np.ndarray, plane: str, step: int, device: torch.device) -> Pace:
    """Time `predict` on two and on eighteen slices that the network looks at: both keep all cores busy."""
    middle = scan.shape[AXES[plane]] // 2
    ours(net, scan, plane, middle, 1, step, device)  # the first call sets itself up
    few_s, _ = timed(lambda: ours(net, scan, plane, middle, step + 1, step, device))
    all_s, _ = timed(lambda: ours(net, scan, plane, middle, 17 * step + 1, step, device))
    slice_s = (all_s - few_s) / 16
    return Pace(few_s - 2 * slice_s, slice_s)


def equal_share(plain: Blocks, found: Blocks, threshold: float) -> float:
    """Share of voxels, where blocks of both planes cross, that are in both masks or in neither.

    A mask is the mean of both planes, thresholded; `predict` rounds that up to 8 bits. The first slice of a
    block is left out: it is predicted whatever the step is.
    """

    def crossing(blocks: Blocks, y: int, x: int) -> tuple[np.ndarray, np.ndarray]:
        zx = blocks["zx"][y][1:, :, x + 1 : x + BLOCK]  # (Y, Z, X)
        zy = blocks["zy"][x][1:, :, y + 1 : y + BLOCK]  # (X, Z, Y)
        return zx, zy.transpose(2, 1, 0)

    same = []
    for y in plain["zx"]:
        for x in plain["zy"]:
            one, other = crossing(plain, y, x)
            truth = (one + other) / 2 > 255 * threshold
            one, other = crossing(found, y, x)
            mean = np.ceil((one.astype(float) + other) / 2)
            same.append(np.mean((mean / 255 > threshold) == truth))
    return float(np.mean(same))


def whole(scan: np.ndarray, device: torch.device) -> tuple[str, UNet, int, float]:
    """Predict the whole scan with the embedded model; give its name, slices predicted and seconds."""
    try:
        net, name = load_models(None)[0], "embedded model"
    except ModelError:
        net, name = UNet(PhantomTraining().model_info()).eval(), "embedded model (random weights)"
    done: list[int] = []

    def run() -> np.ndarray:
        found = predict(
            scan, VOXEL_UM, [net], device=device, bone_end="first", progress=lambda n, _: done.append(n)
        )
        return found.probability

    seconds, _ = timed(run)
    return name, net, done[-1], seconds


def report(name: str, seconds: float, plain_s: float, floor_s: float | None, detail: str) -> None:
    floor = "" if floor_s is None else f", floor {floor_s:.1f} s"
    print(f"{name}: {seconds:.1f} s, {plain_s / seconds:.1f} times as fast{floor}; {detail}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(768, 448, 448), metavar=("Z", "Y", "X"))
    parser.add_argument("--blocks", type=int, default=4, help="of slices of each plane, the plain way")
    parser.add_argument(
        "--steps", type=int, default=150, help="of fitting the paper's network to the phantom"
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
    paper = UNet(ModelInfo())
    fit(paper, scan, phantom.mask, arguments.steps, device)
    plain: Blocks = {}
    seconds = []
    for plane, axis in AXES.items():
        stack = np.moveaxis(scan, axis, 0)
        plain_way(paper, stack[:1])  # the first call sets itself up
        plain[plane] = {}
        for at in np.linspace(len(stack) // 4, len(stack) * 3 // 4 - BLOCK, arguments.blocks).astype(int):
            block_s, plain[plane][int(at)] = timed(partial(plain_way, paper, stack[at : at + BLOCK]))
            seconds.append(block_s / BLOCK)
    plain_s = slices * float(np.mean(seconds))
    report("paper's network, the plain way", plain_s, plain_s, None, f"from {len(seconds) * BLOCK} slices")
    peak = peak_gflops(device)
    for step in (1, 2):
        found = {
            plane: {at: ours(paper, scan, plane, at, BLOCK, step, device) for at in blocks}
            for plane, blocks in plain.items()
        }
        equal = equal_share(plain, found, paper.info.threshold)
        paces = [pace(paper, scan, plane, step, device) for plane in AXES]
        predicted = sum(-(-(n - 1) // step) + 1 for n in scan.shape[1:])
        ours_s = np.mean([p.setup_s for p in paces]) + predicted * np.mean([p.slice_s for p in paces])
        floor_s = predicted * gflop(paper, scan[:, 0].shape) / peak
        detail = f"{predicted} slices; masks equal in {100 * equal:.3f} % of voxels"
        report(f"paper's network, predict --step {step}", ours_s, plain_s, floor_s, detail)
    name, net, predicted, seconds = whole(scan, device)
    floor_s = predicted * gflop(net, scan[:, 0].shape) / peak
    report(f"{name}, predict", seconds, plain_s, floor_s, f"all {predicted} slices")
    print(f"floor: the network's operations at the measured {peak:.0f} GFLOP/s of a {dtype} matrix product")


if __name__ == "__main__":
    main()
