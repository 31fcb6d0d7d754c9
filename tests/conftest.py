"""A plug small enough to segment in a moment, a network that knows it, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import VOXEL_UM, Ended, draw_plug


@pytest.fixture(scope="session")
def plug() -> np.ndarray:
    """The plug (Z, Y, X); its hard tissue is what is above grey level 150."""
    return draw_plug()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose network calls hard tissue what is brighter than 150 of 255."""
    import torch

    from tidemark_cli.core.network.unet import ModelInfo, UNet, save_model

    normalisation = {"kind": "standard", "mean": 0.0, "std": 255.0}
    info = ModelInfo(
        width=1, depth=1, normalisation=normalisation, voxel_um=VOXEL_UM, threshold=0.5, either_end=True
    )
    net = UNet(info).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for block in (*net.down[0], *net.up[0]):
            block[0].weight[0, -1, 1, 1] = 1  # the last channel goes through: of the decoder, the skip
            block[1].weight.fill_(1)
        net.head.weight.fill_(40)
        net.head.bias.fill_(-40 * 150 / 255)
    path = tmp_path_factory.mktemp("model") / "bright.safetensors"
    save_model(path, net)
    return path


@pytest.fixture
def tidemark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process."""
    from tidemark_cli.app import main

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tidemark", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for downloads of the test's own; no long waits, no proxy of the machine's."""
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("tidemark_cli.core.downloads.fetch.WAITS_S", (0, 0))
    return tmp_path / "home"
