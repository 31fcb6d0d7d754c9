"""Where models are read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.network.nets import constant
from tidemark_cli.core.errors import ModelError
from tidemark_cli.core.network import models
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.unet import save_model


def test_a_file_a_folder_and_the_embedded_model_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    for name, step in (("default", 1), ("fold_1", 3), ("fold_0", 2)):
        save_model(tmp_path / "models" / f"{name}.safetensors", constant(0.5, step=step))
    (tmp_path / "models" / "fold_9.pth").write_bytes(b"left alone beside .safetensors")
    (tmp_path / "models" / "run.json").write_text("{}")
    monkeypatch.setattr(models.resources, "files", lambda package: tmp_path)
    steps = [
        [net.info.step for net in load_models(weights)]
        for weights in (None, tmp_path / "models" / "fold_1.safetensors", tmp_path / "models")
    ]
    assert steps == [[1], [3], [1, 2, 3]]


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found none"):
        load_models(tmp_path)
    (tmp_path / "fold_0.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"fold_0\.pth"):  # .pth files count where there is nothing better
        load_models(tmp_path)
