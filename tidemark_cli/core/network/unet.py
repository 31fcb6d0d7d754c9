"""The slice-wise U-Net of the paper (section 2.3), and the model files that carry it.

A model file is one ``.safetensors``: the weights, and in its header, as JSON under the key
``tidemark``, everything needed to use them (`ModelInfo`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..files import written_whole
from ..settings import with_tuples

_DEEPEST, _WIDEST = 12, 2**14  # levels and channels: a damaged header must not take all memory


@dataclass(frozen=True)
class ModelInfo:
    """How a network is built and how it wants to be used.

    Attributes
    ----------
    width : filters at the first level, doubled at each further one (paper: 24).
    depth : number of levels, each followed by a 2 x 2 max-pool (paper: 6).
    stem : side of the pixel blocks folded into channels before the first level and unfolded after
        the last (1: none, as in the paper; 2: the network computes at half the resolution).
    filters : of each level, the finest first, where they are not doubled.
    normalisation : ``{"kind": "standard", "mean": m, "std": s}`` standardises grey levels (the
        paper's way); ``{"kind": "window", "low": p, "high": q}`` maps the scan's p-th and q-th
        percentiles to 0 and 1.
    voxel_um : voxel size the network was trained at, in µm.
    coarsest_um : largest voxels that scans it was trained on had before they were enlarged to `voxel_um`, in
        µm; None: they were not enlarged.
    planes : slicing planes to predict and average, of "zx" and "zy".
    step : distance between predicted slices, in slices of `voxel_um`; those between are interpolated.
    threshold : probability above which (strictly) a voxel is hard tissue.
    either_end : whether the network takes slices with the bone at either end; otherwise row 0
        must be the bone end, as in the public dataset.
    loss, training, licence : provenance.
    """

    width: int = 24
    depth: int = 6
    stem: int = 1
    filters: tuple[int, ...] | None = None
    normalisation: dict[str, Any] = field(
        default_factory=lambda: {"kind": "standard", "mean": 88.904, "std": 62.049}
    )
    voxel_um: float = 3.2
    coarsest_um: float | None = None
    planes: tuple[str, ...] = ("zx", "zy")
    step: int = 1
    threshold: float = 0.3
    either_end: bool = False
    loss: str = "bce-logjaccard"
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = "MIT"

    def __post_init__(self) -> None:
        needed = {"standard": {"mean", "std"}, "window": {"low", "high"}}
        if not isinstance(self.normalisation, dict):
            raise ValueError(f"normalisation {self.normalisation!r} is no table")
        kind = self.normalisation.get("kind")
        if kind not in needed or not needed[kind] <= self.normalisation.keys():
            raise ValueError(f"normalisation {self.normalisation} is unknown")
        if min(self.width, self.depth, self.stem, self.step) < 1 or not self.voxel_um > 0:
            raise ValueError("width, depth, stem, step and voxel size must be above 0")
        if self.depth > _DEEPEST or self.width * 2**self.depth > _WIDEST or max(self.levels) > _WIDEST:
            raise ValueError(f"width {self.width} and depth {self.depth} make too large a network")
        whole = all(isinstance(filters, int) and filters > 0 for filters in self.levels)
        if not whole or (self.levels[0], len(self.levels)) != (self.width, self.depth):
            raise ValueError(f"filters {self.filters} are not those of {self.depth} levels from {self.width}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold} is not within 0 to 1")

    @property
    def levels(self) -> tuple[int, ...]:
        """Filters of each level, the finest first."""
        return self.filters or tuple(self.width * 2**level for level in range(self.depth))

    @property
    def multiple(self) -> int:
        """Slice sides must be multiples of this many pixels."""
        return self.stem * 2**self.depth


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _module(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(_block(channels_in, channels_out), _block(channels_out, channels_out))


class UNet(nn.Module):
    """The paper's U-Net: ``(N, 1, H, W)`` normalised slices to ``(N, 1, H, W)`` logits.

    Parameters
    ----------
    info : width, depth and stem; 24, 6 and 1 give the paper's 24,790,561 parameters.

    Attributes
    ----------
    sha256 : of the file that the weights were read from, None where they were not.

    H and W must be multiples of ``info.multiple``.
    """

    sha256: str | None = None

    def __init__(self, info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        levels = info.levels
        inputs = [info.stem**2, *levels[:-1]]
        self.down = nn.ModuleList(_module(i, o) for i, o in zip(inputs, levels, strict=True))
        self.center = _block(levels[-1], levels[-1])
        finer = [info.width, *levels[:-1]]
        self.up = nn.ModuleList(_module(2 * i, o) for i, o in zip(levels, finer, strict=True))
        self.head = nn.Conv2d(info.width, info.stem**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) of slices (N, 1, H, W); H and W are multiples of `info.multiple`."""
        x = F.pixel_unshuffle(x, self.info.stem)  # (N, stem², H/stem, W/stem)
        skips = []
        for module in self.down:
            x = module(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.center(x)  # (N, C, H/multiple, W/multiple)
        for module, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = module(torch.cat([x, skip], dim=1))
        return F.pixel_shuffle(self.head(x), self.info.stem)  # (N, 1, H, W)


def save_model(path: Path, net: UNet) -> None:
    """Write the weights and `net.info` as one ``.safetensors``, whole or not at all."""
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(save(weights, metadata={"tidemark": json.dumps(asdict(net.info))}))


def load_model(path: Path) -> UNet:
    """Read one network, ready for inference, on the CPU.

    Parameters
    ----------
    path : a ``.safetensors`` written by `save_model`, or a ``.pth`` of the paper's authors, with
        ``mean_std.npy`` beside it or one folder up (never unpickled).

    Raises
    ------
    ModelError
        If the file is missing, not a model, truncated, or its weights do not fit.
    """
    if not path.is_file():
        raise ModelError(f"{path}: expected a model file (.safetensors or .pth), found none.")
    if path.suffix == ".safetensors":
        net = _network(*_read_safetensors(path), path)
    elif path.suffix in (".pth", ".pt"):
        net = _load_original(path)
    else:
        found = path.suffix or "no suffix"
        raise ModelError(f"{path}: expected a model file (.safetensors or .pth), found {found}.")
    net.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return net


def read_info(path: Path) -> ModelInfo:
    """Read how a ``.safetensors`` written by `save_model` is used, without its weights.

    Raises
    ------
    ModelError
        If the file is missing, truncated, or not written by `save_model`.
    """
    return _read_safetensors(path, with_weights=False)[0]


def _read_safetensors(path: Path, with_weights: bool = True) -> tuple[ModelInfo, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("tidemark")
            names = file.keys() if with_weights else ()
            weights = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        message = f"{path} is not a whole .safetensors file ({error}); fetch or copy it again."
        raise ModelError(message) from error
    if header is None:
        raise ModelError(f"{path} was not written by tidemark: its header has no 'tidemark' entry.")
    try:
        info = ModelInfo(**with_tuples(json.loads(header)))
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path}: the header is damaged or of another tidemark ({error}); fetch it again."
        raise ModelError(message) from error
    return info, weights


def _load_original(path: Path) -> UNet:
    """Read a ``fold_<k>_*.pth`` of the paper's authors."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a bad file
        message = (
            f"{path}: expected a PyTorch checkpoint of weights alone, found a damaged file or code in it."
        )
        raise ModelError(f"{message} It is never unpickled.") from error
    weights = content.get("model", content) if isinstance(content, dict) else None
    if isinstance(weights, dict):  # trained on several GPUs, the names have a prefix
        weights = {str(name).removeprefix("module."): tensor for name, tensor in weights.items()}
    if not isinstance(weights, dict) or not _are_parameters(weights):
        raise ModelError(
            f"{path}: expected parameters of the paper's U-Net (mixer.weight, ...), found others."
        )
    statistics = next(
        (f for f in (path.parent / "mean_std.npy", path.parent.parent / "mean_std.npy") if f.is_file()), None
    )
    if statistics is None:
        raise ModelError(
            f"{path}: expected the grey levels it was trained with, mean_std.npy, beside it; found none."
        )
    try:
        # of colour images three each; ours are grey
        mean, std = (float(v) for v in np.load(statistics, allow_pickle=False).reshape(2, -1)[:, 0])
        if not (np.isfinite((mean, std)).all() and std > 0):
            raise ValueError(f"found {mean} and {std}")
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise ModelError(f"{statistics}: expected two numbers, a mean and a standard deviation.") from error
    depth = len({name.split(".")[0] for name in weights if name.startswith("down")})
    info = ModelInfo(
        width=weights["mixer.weight"].shape[1],
        depth=depth,
        loss="unknown",
        normalisation={"kind": "standard", "mean": mean, "std": std},
        training={"source": path.name, "trained_on": "a checkpoint in the format of arXiv 1907.05089"},
    )
    return _network(info, {_our_name(name): tensor for name, tensor in weights.items()}, path)


def _are_parameters(weights: dict[str, Any]) -> bool:
    """Tell whether these may be the parameters of the authors' network."""
    head = weights.get("mixer.weight")
    return (
        all(isinstance(tensor, Tensor) for tensor in weights.values())
        and head is not None
        and head.ndim == 4
        and any(name.startswith("down") for name in weights)
    )


def _our_name(original: str) -> str:
    """Map a parameter name of the authors' checkpoints to ours.

    >>> _our_name("down1.layers.conv_3x3_0.0.1.running_mean")
    'down.0.0.1.running_mean'
    """
    name = re.sub(
        r"^(down|up)(\d+)\.layers\.conv_3x3_(\d)\.0\.", lambda m: f"{m[1]}.{int(m[2]) - 1}.{m[3]}.", original
    )
    return name.replace("center.0.", "center.", 1).replace("mixer.", "head.", 1)


def _network(info: ModelInfo, weights: dict[str, Tensor], path: Path) -> UNet:
    net = UNet(info)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
        size = f"a U-Net with {info.levels} filters"
        raise ModelError(f"{path}: the weights do not fit {size}: {reason}") from error
    return net.eval()
