"""The least time that a device needs for a network: for its operations, and for the memory of its layers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tidemark_cli.core.network.devices import fast_dtype
from tidemark_cli.core.network.unet import UNet


@dataclass(frozen=True)
class Rates:
    """What a device was measured to do: billions of operations, and of bytes read or written, a second."""

    gflops: float
    gbytes: float
    dtype: torch.dtype

    def floor(self, load: Load) -> str:
        """Say how long the device needs at least."""
        operations_s, memory_s = load.gflop / self.gflops, load.gbyte / self.gbytes
        return f"floor {operations_s:.2f} s (operations), {memory_s:.2f} s (memory)"

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{self.gflops:.0f} GFLOP/s of a {name} matrix product, {self.gbytes:.0f} GB/s of a copy"


@dataclass(frozen=True)
class Load:
    """Billions of operations, and of bytes: of the inputs and outputs of convolutions, each moved once."""

    gflop: float
    gbyte: float

    def __add__(self, other: Load) -> Load:
        return Load(self.gflop + other.gflop, self.gbyte + other.gbyte)

    def __mul__(self, times: float) -> Load:
        return Load(self.gflop * times, self.gbyte * times)


def measured(device: torch.device) -> Rates:
    """Measure large matrix products, in the dtype that `predict` uses, and copies: the best of five."""
    cuda, dtype = device.type == "cuda", fast_dtype(device)

    def best(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(7):
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds[2:])  # the first ones set themselves up

    side, size = (8192, 2**32) if cuda else (2048, 2**28)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s, copy_s = best(lambda: a @ a), best(lambda: target.copy_(source))
    return Rates(2 * side**3 / product_s / 1e9, 2 * size / copy_s / 1e9, dtype)


def load_of(net: UNet, shape: tuple[int, ...], dtype: torch.dtype) -> Load:
    """Return what the network takes for a slice (rows, columns)."""
    sides = [n + -n % net.info.multiple for n in shape]
    moved = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += (inputs[0].numel() + output.numel()) * dtype.itemsize

    with torch.device("meta"):
        empty, x = UNet(net.info).eval(), torch.zeros(1, 1, *sides)
    for layer in empty.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        empty(x)
    return Load(counter.get_total_flops() / 1e9, moved / 1e9)
