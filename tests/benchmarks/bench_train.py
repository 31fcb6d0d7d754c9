"""Whether training waits for data: the loop against bare steps on the same batches, and the floor of these.

python tests/benchmarks/bench_train.py [--size Z Y X] [--batch N] [--steps N] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch
from floor import load_of, measured, synchronise
from torch import Tensor

from tidemark_cli.core.data.dataset import find_samples, write_sample
from tidemark_cli.core.network.devices import choose_device, fast_dtype
from tidemark_cli.core.network.greylevels import normaliser
from tidemark_cli.core.network.unet import ModelInfo, UNet
from tidemark_cli.core.phantoms.phantom import VOXEL_UM, draw_phantom
from tidemark_cli.core.training.batches import augmented
from tidemark_cli.core.training.loop import step
from tidemark_cli.core.training.losses import bce_log_jaccard
from tidemark_cli.core.training.settings import Augmentation
from tidemark_cli.core.training.slices import Slices, load_all


def train(net: UNet, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> tuple[float, int]:
    """Take a step on each batch; gives seconds and the number of slices."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=1e-4)
    start, slices = time.perf_counter(), 0
    for x, target in batches:
        step(net, optimiser, x, target, bce_log_jaccard, device)
        slices += len(x)
    synchronise(device)
    return time.perf_counter() - start, slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(768, 448, 448), metavar=("Z", "Y", "X"))
    parser.add_argument("--crop", type=int, nargs=2, default=(640, 384), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--pad", type=int, nargs=2, default=(800, 800), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2, help="of each of the two, in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    dtype = str(fast_dtype(device)).removeprefix("torch.")
    print(f"{device}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {dtype}", flush=True)
    phantom = draw_phantom(0, tuple(arguments.size), VOXEL_UM)
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder), "S01_1", phantom.scan, phantom.mask)
        start = time.perf_counter()
        slices = Slices(list(load_all(find_samples(Path(folder))).values()))
        print(
            f"{slices.samples[0].scan.shape} voxels decoded in {time.perf_counter() - start:.1f} s",
            flush=True,
        )
    net = UNet(ModelInfo(width=arguments.width, depth=arguments.depth))
    net.to(device, memory_format=torch.channels_last)
    normalise = [normaliser(phantom.scan, net.info)]
    how = Augmentation(pad=tuple(arguments.pad), crop=tuple(arguments.crop))

    def epoch(number: int) -> Iterable[tuple[Tensor, Tensor]]:
        batches = augmented(slices, arguments.batch, how, normalise, (0, 0, number), device)
        return islice(batches, arguments.steps)

    train(net, list(epoch(0))[:1], device)  # the first step sets itself up
    totals = {"the loop": 0.0, "bare steps": 0.0}
    slices_seen = 0
    for number in range(arguments.rounds):
        held = list(epoch(number))
        slices_seen += sum(len(x) for x, _ in held)
        for name, batches in (("bare steps", held), ("the loop", epoch(number))):
            seconds, count = train(net, batches, device)
            totals[name] += seconds
            print(f"{name}: {count / seconds:.2f} slices a second", flush=True)
    rates = measured(device, fast_dtype(device))
    # forwards, and backwards for the inputs and for the weights
    load = load_of(net, arguments.crop, rates.dtype) * 3 * slices_seen
    print(f"bare steps: {slices_seen} slices in {totals['bare steps']:.2f} s, {rates.floor(load)}")
    print(f"the floor is at {rates}")
    print(f"the loop has {totals['bare steps'] / totals['the loop']:.3f} of the throughput of bare steps")


if __name__ == "__main__":
    main()
