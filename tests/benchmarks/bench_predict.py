"""How fast `predict` is, against the paper's network run the plain way; all in one run on one machine.

python tests/benchmarks/bench_predict.py [--size Z Y X] [--blocks N] [--device cpu]

The plain way takes every slice; `predict` every second one, interpolating between, and with `--step 1` every
one, too. Masks are compared plane by plane, on blocks of neighbouring slices, before the planes are averaged.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

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
    """Predict slices (N, H, W) in float32, default memory format, one by one; gives probabilities."""
    normalise = normaliser(slices, net.info)
    found = []
    with torch.no_grad():
        for image in slices:
            probability = torch.sigmoid(
                net(torch.from_numpy(normalise(image))[None, None].to(net.head.weight.device))
            )
            found.append(probability[0, 0].cpu().numpy())
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


@dataclass(frozen=True)
class Pace:
    """The paper's network through `predict`: one step, one plane."""

    setup_s: float  # once
    slice_s: float  # a predicted slice
    equal: float  # share of voxels in which the mask is that of the plain way


def pace(
    net: UNet, scan: np.ndarray, plane: str, step: int, plain: dict[int, np.ndarray], device: torch.device
) -> Pace:
    """Time `predict`, and compare its masks with those of the plain way on blocks of slices."""
    axis = AXES[plane]
    stack = np.moveaxis(scan, axis, 0)

    def ours(start: int, slices: int) -> np.ndarray:
        some = np.moveaxis(stack[start : start + slices], 0, axis)
        options = {"device": device, "bone_end": "first", "planes": [plane], "step": step}
        return np.moveaxis(predict(some, VOXEL_UM, [net], **options).probability, axis, 0)

    start, predicted = next(iter(plain)), 16
    ours(start, 1)  # the first call sets itself up
    one_s, _ = timed(lambda: ours(start, 1))
    all_s, _ = timed(lambda: ours(start, step * (predicted - 1) + 1))
    slice_s = (all_s - one_s) / (predicted - 1)
    level = net.info.threshold
    equal = [
        # the first of a block is predicted whatever the step is
        np.mean((ours(at, BLOCK)[1:] > 255 * level) == (truth[1:] > level))
        for at, truth in plain.items()
    ]
    return Pace(one_s - slice_s, slice_s, float(np.mean(equal)))


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
    blocks, plain_s = {}, []
    for plane, axis in AXES.items():
        stack = np.moveaxis(scan, axis, 0)
        starts = np.linspace(len(stack) // 4, len(stack) * 3 // 4 - BLOCK, arguments.blocks).astype(int)
        plain_way(paper, stack[:1])  # the first call sets itself up
        timings = {int(at): timed(lambda: plain_way(paper, stack[at : at + BLOCK])) for at in starts}  # noqa: B023
        plain_s += [seconds / BLOCK for seconds, _ in timings.values()]
        blocks[plane] = {at: found for at, (_, found) in timings.items()}
    plain_s = slices * float(np.mean(plain_s))
    hard = np.mean([(found > paper.info.threshold).mean() for b in blocks.values() for found in b.values()])
    count = 2 * arguments.blocks * BLOCK
    report("paper's network, the plain way", plain_s, plain_s, None, f"from {count} slices")
    peak = peak_gflops(device)
    for step in (2, 1):
        paces = [pace(paper, scan, plane, step, blocks[plane], device) for plane in AXES]
        predicted = sum(-(-(n - 1) // step) + 1 for n in scan.shape[1:])
        ours_s = np.mean([p.setup_s for p in paces]) + predicted * np.mean([p.slice_s for p in paces])
        floor_s = predicted * gflop(paper, scan[:, 0].shape) / peak
        equal = 100 * np.mean([p.equal for p in paces])
        detail = f"masks equal in {equal:.3f} % of voxels ({100 * hard:.0f} % hard)"
        report(f"paper's network, predict --step {step}", ours_s, plain_s, floor_s, detail)
    name, net, predicted, seconds = whole(scan, device)
    floor_s = predicted * gflop(net, scan[:, 0].shape) / peak
    report(f"{name}, predict", seconds, plain_s, floor_s, f"all {predicted} slices")
    print(f"floor: the network's operations at the measured {peak:.0f} GFLOP/s of a {dtype} matrix product")


if __name__ == "__main__":
    main()
