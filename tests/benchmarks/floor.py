"""The least time that a device needs for a network: for its operations, and for memory without caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tidemark_cli.core.network.unet import UNet


@dataclass(frozen=True)
class Load:
    """Billions of operations, and of bytes: of the inputs and outputs of convolutions, each moved once."""

    gflop: float
    gbyte: float

    def __add__(self, other: Load) -> Load:
        return Load(self.gflop + other.gflop, self.gbyte + other.gbyte)

    def __mul__(self, times: float) -> Load:
        return Load(self.gflop * times, self.gbyte * times)


@dataclass(frozen=True)
class Rates:
    """What a device was measured to do: billions of operations, and of bytes read or written, a second."""

    gflops: float
    gbytes: float
    dtype: torch.dtype

    def floor(self, load: Load, unit: str = "s") -> str:
        """Say how long the device needs at least, in "s" or "ms"."""
        times = {"s": 1, "ms": 1000}[unit]
        operations, memory = load.gflop / self.gflops * times, load.gbyte / self.gbytes * times
        return f"floor {operations:.3g} {unit} (operations), {memory:.3g} {unit} (memory without caches)"

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{self.gflops:.0f} GFLOP/s of a {name} matrix product, {self.gbytes:.0f} GB/s of a copy"


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def seconds(work: Callable[[], object], device: torch.device, repeat: int) -> float:
    """Return the mean over repeats, after two that set themselves up."""
    start = 0.0
    for count in (2, repeat):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(count):
            work()
        synchronise(device)
    return (time.perf_counter() - start) / repeat


def measured(device: torch.device, dtype: torch.dtype) -> Rates:
    """Measure a large matrix product and a copy of a large array."""
    side, size = (2048, 2**28) if device.type == "cpu" else (8192, 2**30)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = seconds(lambda: a @ a, device, 5)
    copy_s = seconds(lambda: target.copy_(source), device, 5)
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
