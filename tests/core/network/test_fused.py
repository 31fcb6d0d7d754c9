"""A network made ready sees black beyond the slice, and gives what the plain one gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.core.network.nets import STANDARD, WINDOW, noise, random_net
from tidemark_cli.core.network import fused
from tidemark_cli.core.network.fused import Fused
from tidemark_cli.core.network.greylevels import normaliser
from tidemark_cli.core.network.unet import ModelInfo, UNet

CPU = torch.device("cpu")


@pytest.mark.parametrize("info", [STANDARD, WINDOW], ids=["standard", "window"])
def test_slices_are_padded_with_black_at_the_far_end(
    monkeypatch: pytest.MonkeyPatch, info: ModelInfo
) -> None:
    seen = []

    def spy(net: UNet, x: torch.Tensor) -> torch.Tensor:
        seen.append(x.float())
        return x

    monkeypatch.setattr(UNet, "forward", spy)
    slices = noise((6, 5, 7))
    Fused(UNet(replace(info, width=1, depth=2)), CPU)(slices, normaliser(slices, info), (5, 7))
    (shown,) = seen
    black = -2.0 if info is STANDARD else 0.0
    assert shown.shape == (6, 1, 8, 8)
    assert (shown[:, :, 5:] == black).all()
    assert (shown[:, :, :, 7:] == black).all()
    inside = normaliser(slices, info)(slices)
    assert np.abs(shown[:, 0, :5, :7].numpy() - inside).max() < 0.02


def test_the_network_is_made_faster_but_not_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "fast_dtype", lambda device: torch.float32)
    slices, net = noise((3, 16, 24)), random_net()
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    normalise = normaliser(slices, net.info)
    found = Fused(net, CPU)(slices, normalise, (16, 24))
    with torch.inference_mode():
        plain = torch.sigmoid(net(torch.from_numpy(normalise(slices))[:, None]))[:, 0].numpy()
    assert np.ptp(plain) > 0.1
    assert np.abs(found - plain * 255).max() < 0.51
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


def test_bfloat16_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    slices, net = noise((5, 16, 24)), random_net()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(fused, "fast_dtype", lambda device, dtype=dtype: dtype)
        found.append(Fused(net, CPU)(slices, normaliser(slices, net.info), (16, 24)).astype(int))
    assert np.abs(found[1] - found[0]).max() < 13
    assert np.abs(found[1] - found[0]).mean() < 2


def test_batches_fit_in_memory() -> None:
    def slices(info: ModelInfo, device: str, voxels: int = 768 * 448) -> int:
        network = Fused(UNet(replace(info, width=1, depth=1)), CPU)
        network.info, network.device, network.dtype = info, torch.device(device), torch.bfloat16
        return network.batch_size((768, 448), voxels)

    small = ModelInfo(width=16, depth=5, stem=2)
    assert slices(ModelInfo(), "cpu") == 1
    assert 1 < slices(small, "cpu") < slices(small, "cuda")
    assert slices(small, "cpu", 20 * 768 * 448) < slices(small, "cpu")  # many slices are skipped
