"""The networks alone, in prediction and in training, as PyTorch can compute them, beside their floor.

python tests/benchmarks/bench_network.py [--device cuda] [--slices N ...] [--batch N] [--repeat N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from floor import Rates, load_of, measured

from tidemark_cli.core.network.devices import choose_device, fast_dtype
from tidemark_cli.core.network.fused import Fused
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.unet import ModelInfo, UNet
from tidemark_cli.core.training.loop import step
from tidemark_cli.core.training.losses import bce_log_jaccard


def seconds(work: Callable[[], object], device: torch.device, repeat: int) -> float:
    """Return the mean over repeats, after two that set themselves up."""
    for round_ in (2, repeat):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(round_):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeat


@torch.inference_mode()
def predict_s(
    net: UNet,
    count: int,
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
    graph: bool,
    repeat: int,
) -> float:
    """Return the seconds for so many slices at once."""
    fused = Fused(net, device).net.to(dtype)
    sides = [n + -n % net.info.multiple for n in shape]
    x = torch.randn(count, 1, *sides, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    if not graph:
        return seconds(lambda: fused(x), device, repeat)
    fused(x)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        fused(x)
    return seconds(captured.replay, device, repeat)


def train_s(
    net: UNet,
    count: int,
    shape: tuple[int, int],
    layout: torch.memory_format,
    device: torch.device,
    repeat: int,
) -> float:
    """Return the seconds for a step of training on so many slices."""
    net = net.to(device, memory_format=layout)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=1e-4)
    x = torch.randn(count, 1, *shape, device=device)
    hard = (torch.rand(x.shape, device=device) > 0.5).float()
    return seconds(lambda: step(net, optimiser, x, hard, bce_log_jaccard, device), device, repeat)


def report(
    name: str, all_s: float, count: int, net: UNet, shape: tuple[int, int], rates: Rates, times: int
) -> None:
    load = load_of(net, shape, rates.dtype) * times
    floor = (
        f"{1e3 * load.gflop / rates.gflops:.3f} (operations), {1e3 * load.gbyte / rates.gbytes:.3f} (memory)"
    )
    print(f"{name}: {1e3 * all_s / count:.3f} ms a slice, floor {floor}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(768, 448), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 4, 16, 64], help="predicted at once")
    parser.add_argument("--crop", type=int, nargs=2, default=(640, 384), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--batch", type=int, default=32, help="slices in a step of training")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, repeat = choose_device(options.device), options.repeat
    rates, cuda = measured(device), device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability()
    print(f"{name}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads: {rates}", flush=True)
    fast = fast_dtype(device)
    dtypes = [fast] + [other for other in (torch.float16, torch.float32) if cuda and other != fast]
    nets = {"the embedded network": load_models(None)[0], "the paper's": UNet(ModelInfo())}
    for title, net in nets.items():
        for count in options.slices:
            for dtype in dtypes:
                took = predict_s(net, count, options.size, dtype, device, False, repeat)
                report(f"{title}, {count} at once, {dtype}", took, count, net, options.size, rates, 1)
            if cuda:
                torch.backends.cudnn.benchmark = True
                took = predict_s(net, count, options.size, fast, device, False, repeat)
                report("- cuDNN searching for the fastest", took, count, net, options.size, rates, 1)
                torch.backends.cudnn.benchmark = False
                took = predict_s(net, count, options.size, fast, device, True, repeat)
                report("- as a CUDA graph", took, count, net, options.size, rates, 1)
    for title, net in nets.items():
        for layout in (torch.channels_last, torch.contiguous_format):
            took = train_s(net, options.batch, options.crop, layout, device, repeat)
            what = f"{title}, a step of training on {options.batch}, {layout}"
            report(what, took, options.batch, net, options.crop, rates, 3)


if __name__ == "__main__":
    main()
