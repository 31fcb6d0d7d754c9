"""Small networks and scans of noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from tidemark_cli.core.network.unet import ModelInfo, UNet

STANDARD = ModelInfo(normalisation={"kind": "standard", "mean": 100.0, "std": 50.0})
WINDOW = ModelInfo(normalisation={"kind": "window", "low": 10.0, "high": 60.0})


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def constant(probability: float, **changes: Any) -> UNet:
    net = UNet(ModelInfo(width=1, depth=1, **changes)).eval()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias[:] = math.log(probability / (1 - probability))  # type: ignore[index]
    return net


def random_net(seed: int = 0, **changes: Any) -> UNet:
    torch.manual_seed(seed)
    net = UNet(ModelInfo(width=2, depth=2, **changes)).eval()
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.2, 0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.05, 0.2)  # small, so that the logits are not all alike
    return net
