"""Prune a network: keep of each layer the filters that vary most, as a start for further training.

    python tests/benchmarks/prune.py MODEL OUT --filters 12 24 48 64 64

The embedded model was made this way from an earlier one. How much a filter varies is the standard deviation
of what it gives after batch norm and ReLU, for inputs that batch norm makes normal. The statistics of batch
norm are estimated anew on 64 phantom slices.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tidemark_cli.core.network.models import load_one
from tidemark_cli.core.network.unet import UNet, save_model
from tidemark_cli.core.training.on_phantoms import TRAINING, PhantomSlices
from tidemark_cli.core.training.settings import PhantomTraining

SEED, SLICES, BATCH = 18, 64, 8  # of the slices that batch norm is estimated on


def kept(block: nn.Module, count: int, normal: Tensor) -> Tensor:
    """Return the numbers of the filters of a block (convolution, batch norm, ReLU) that vary most."""
    norm = block[1]
    varies = torch.relu(normal * norm.weight + norm.bias).std(0)
    return torch.sort(varies.topk(count).indices).values


def pruned(net: UNet, filters: tuple[int, ...]) -> UNet:
    """Return a smaller network with the weights of the filters that are kept."""
    small = UNet(replace(net.info, width=filters[0], filters=filters, training={}))
    normal = torch.randn(4096, 1, generator=torch.Generator().manual_seed(SEED))

    def take(old: nn.Module, new: nn.Module, seen: Tensor) -> Tensor:
        """Fill a block that sees these channels of what the old one saw; return the filters kept."""
        keep = kept(old, new[0].out_channels, normal)
        new[0].weight.data = old[0].weight.data[keep][:, seen].clone()
        new[0].bias.data = old[0].bias.data[keep].clone()
        for name, values in old[1].state_dict().items():
            if values.ndim:
                new[1].state_dict()[name].copy_(values[keep])
        return keep

    seen, skips = torch.arange(net.info.stem**2), []
    for old, new in zip(net.down, small.down, strict=True):
        for old_block, new_block in zip(old, new, strict=True):
            seen = take(old_block, new_block, seen)
        skips.append(seen)
    seen = take(net.center, small.center, seen)
    for old, new, skip in zip(reversed(net.up), reversed(small.up), reversed(skips), strict=True):
        seen = torch.cat([seen, skip + old[0][0].in_channels // 2])
        for old_block, new_block in zip(old, new, strict=True):
            seen = take(old_block, new_block, seen)
    small.head.weight.data = net.head.weight.data[:, seen].clone()
    small.head.bias.data = net.head.bias.data.clone()
    return small


def estimate_anew(net: UNet) -> None:
    """Estimate the statistics of batch norm on phantom slices."""
    slices = PhantomSlices(PhantomTraining(seed=SEED), TRAINING, 0, SLICES)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    net.train()
    with torch.no_grad():
        for batch in torch.stack([slices[i][0] for i in range(SLICES)]).split(BATCH):
            net(batch)
    net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--filters", type=int, nargs="+", required=True)
    options = parser.parse_args()
    net = pruned(load_one(str(options.model)), tuple(options.filters))
    estimate_anew(net)
    save_model(options.out, net)


if __name__ == "__main__":
    main()
