"""How fast `predict` is, against the paper's network run the plain way; all in one run on one machine.

python tests/benchmarks/bench_predict.py [--size Z Y X] [--slices N] [--device cpu]
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
class Comparison:
    """The paper's network on the same slices, the plain way and through `predict`."""

    plain_s: float  # a slice
    setup_s: float  # of `predict`, once
    ours_s: float  # a slice
    equal: float  # share of voxels in which the two masks agree
    hard: float  # share of voxels that the plain way calls hard


def compare(net: UNet, scan: np.ndarray, plane: str, count: int, device: torch.device) -> Comparison:
    axis = AXES[plane]
    length = scan.shape[axis]
    part = np.take(scan, np.linspace(length // 4, length * 3 // 4, count).astype(int), axis)
    stack = np.moveaxis(part, axis, 0)

    def ours(slices: int) -> np.ndarray:
        some = np.take(part, range(slices), axis)
        return predict(some, VOXEL_UM, [net], device=device, bone_end="first", planes=[plane]).probability

    plain_way(net, stack[:1]), ours(1)  # the first call of each kind sets itself up
    plain_s, truth = timed(partial(plain_way, net, stack))
    one_s, _ = timed(partial(ours, 1))
    all_s, found = timed(partial(ours, count))
    ours_s = (all_s - one_s) / (count - 1)
    hard = truth > net.info.threshold
    equal = (np.moveaxis(found, axis, 0) > 255 * net.info.threshold) == hard
    return Comparison(plain_s / count, one_s - ours_s, ours_s, float(equal.mean()), float(hard.mean()))


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
    parser.add_argument("--slices", type=int, default=20, help="of the paper's network, half of each plane")
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
    count = max(2, arguments.slices // 2)
    planes = [compare(paper, scan, plane, count, device) for plane in AXES]
    plain_s = slices * np.mean([p.plain_s for p in planes])
    ours_s = np.mean([p.setup_s for p in planes]) + slices * np.mean([p.ours_s for p in planes])
    peak = peak_gflops(device)
    report("paper's network, the plain way", plain_s, plain_s, None, f"from {2 * count} slices")
    equal, hard = (100 * np.mean([getattr(p, name) for p in planes]) for name in ("equal", "hard"))
    floor_s = slices * gflop(paper, scan[:, 0].shape) / peak
    detail = f"from {2 * count} slices; masks equal in {equal:.3f} % of voxels ({hard:.0f} % hard)"
    report("paper's network, predict", ours_s, plain_s, floor_s, detail)
    name, net, predicted, seconds = whole(scan, device)
    floor_s = predicted * gflop(net, scan[:, 0].shape) / peak
    report(f"{name}, predict", seconds, plain_s, floor_s, f"all {predicted} slices")
    print(f"floor: the network's operations at the measured {peak:.0f} GFLOP/s of a {dtype} matrix product")


if __name__ == "__main__":
    main()
