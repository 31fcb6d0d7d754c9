"""One network made ready to be computed: batch norm folded, channels last, in the device's fast numbers."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..resize import resize
from .devices import fast_dtype, streams
from .greylevels import Normalise, black
from .unet import UNet

Array = np.ndarray


class Fused:
    """A copy of a network for one device; the network itself is left as it is."""

    def __init__(self, net: UNet, device: torch.device) -> None:
        self.info, self.device = net.info, device
        self.dtype = fast_dtype(device)
        net = copy.deepcopy(net).eval()
        for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
            if isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d):
                block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
        net = net.to(device, self.dtype)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batch_size(self, shape: tuple[int, int], voxels: int) -> int:
        """Slices at a time: more keep a GPU busy, but spill out of a processor's caches.

        A slice is computed at `shape`; `voxels` of the result come with it, its own and those interpolated.
        """
        # bytes; on an H200 four times as many were no faster
        budget = 96e6 / streams(self.device) if self.device.type == "cpu" else 5e8
        # at the widest point, in the last decoder, six tensors of the first level's size live at once
        activations = 6 * self.info.width / self.info.stem**2 * self.dtype.itemsize
        around = 16  # the slice itself in float32, before and after the network
        return max(1, int(budget / (math.prod(shape) * (activations + around) + 4 * voxels)))

    @torch.inference_mode()
    def __call__(self, slices: Array, normalise: Normalise, shape: tuple[int, int]) -> Array:
        """Predict grey slices (N, H, W), computed at `shape`; returns uint8 of the slices' shape."""
        grey = normalise(slices)
        x = torch.from_numpy(np.stack([resize(image, shape) for image in grey]))[:, None]
        # Beyond the box round a plug there is air: reflecting would draw a second tidemark, repeating
        # the edge would smear it. At the far end, so that row 0 stays the bone end.
        rows, columns = (-side % self.info.multiple for side in shape)
        x = F.pad(x, (0, columns, 0, rows), value=black(self.info))
        x = x.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.net(x)[:, 0, : shape[0], : shape[1]]
        probability = (torch.sigmoid(logits.float()) * 255).round().byte().cpu().numpy()
        return np.stack([resize(image, slices.shape[1:]) for image in probability])
