"""The networks alone, in prediction and in training, as PyTorch can compute them, beside their floor.

python tests/benchmarks/bench_network.py [--device cuda] [--slices N ...] [--batch N] [--repeat N]
"""

from __future__ import annotations

import argparse

import torch
from floor import load_of, measured, seconds

from tidemark_cli.core.network.devices import choose_device, fast_dtype
from tidemark_cli.core.network.fused import Fused
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.unet import ModelInfo, UNet
from tidemark_cli.core.training.loop import step
from tidemark_cli.core.training.losses import bce_log_jaccard


@torch.inference_mode()
def predict_s(
    net: UNet, x: torch.Tensor, dtype: torch.dtype, graph: bool, search: bool, repeat: int
) -> float:
    """Return the seconds for slices (N, 1, H, W) at once.

    Parameters
    ----------
    graph : whether to compute them as a CUDA graph.
    search : whether cuDNN searches for the fastest way.
    """
    fused = Fused(net, x.device).net.to(dtype)
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = search
    try:
        if not graph:
            return seconds(lambda: fused(x), x.device, repeat)
        fused(x)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            fused(x)
        return seconds(captured.replay, x.device, repeat)
    finally:
        torch.backends.cudnn.benchmark = False


def train_s(net: UNet, x: torch.Tensor, repeat: int) -> float:
    """Return the seconds for a step of training on slices (N, 1, H, W)."""
    net = net.to(x.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=1e-4)
    hard = (torch.rand(x.shape, device=x.device) > 0.5).float()
    return seconds(lambda: step(net, optimiser, x, hard, bce_log_jaccard, x.device), x.device, repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(768, 448), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 4, 16, 64], help="predicted at once")
    parser.add_argument("--crop", type=int, nargs=2, default=(640, 384), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--batch", type=int, default=32, help="slices in a step of training")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    cuda, fast = device.type == "cuda", fast_dtype(device)
    name = torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability()
    print(f"{name}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    dtypes = dict.fromkeys([fast, torch.float16, torch.float32] if cuda else [fast])
    rates = {dtype: measured(device, dtype) for dtype in dtypes}
    for each in rates.values():
        print(each, flush=True)
    ways = [(dtype, False, False) for dtype in dtypes] + [(fast, False, True), (fast, True, False)] * cuda
    for title, net in {
        "the embedded network": load_models(None)[0],
        "the paper's": UNet(ModelInfo()),
    }.items():
        for count in options.slices:
            x = torch.randn(count, 1, *options.size, device=device)
            for dtype, graph, search in ways:
                took = predict_s(net, x, dtype, graph, search, options.repeat) / count
                how = f"{dtype}{', a CUDA graph' * graph}{', cuDNN searching' * search}"
                floor = rates[dtype].floor(load_of(net, options.size, dtype), "ms")
                print(f"{title}, {count} at once, {how}: {1e3 * took:.3f} ms a slice, {floor}", flush=True)
        x = torch.randn(options.batch, 1, *options.crop, device=device)
        took = train_s(net, x, options.repeat) / options.batch
        # forwards, and backwards for the inputs and for the weights
        floor = rates[fast].floor(load_of(net, options.crop, fast) * 3, "ms")
        print(
            f"{title}, training on {options.batch}, {fast}: {1e3 * took:.3f} ms a slice, {floor}", flush=True
        )


if __name__ == "__main__":
    main()
