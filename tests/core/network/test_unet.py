"""The network has the paper's shape, and model files come back as they were written or not at all."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tidemark_cli.core.errors import ModelError
from tidemark_cli.core.network.unet import ModelInfo, UNet, load_model, save_model

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "original_unet_state_dict.json"
TINY = ModelInfo(width=2, depth=2)


def random_net(info: ModelInfo, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    net = UNet(info).eval()
    for name, buffer in net.named_buffers():  # batch norm that does nothing would hide a mix-up
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return net


def original_names(net: UNet) -> dict[str, torch.Tensor]:
    """Return the weights under the names of the paper's code, spelled out from its modules."""
    weights = {}
    for name, tensor in net.state_dict().items():
        words = name.split(".")
        if words[0] in ("down", "up"):
            side, level, block, layer, parameter = words
            name = f"{side}{int(level) + 1}.layers.conv_3x3_{block}.0.{layer}.{parameter}"
        elif words[0] == "center":
            name = f"center.0.{words[1]}.{words[2]}"
        else:
            name = f"mixer.{words[1]}"
        weights[name] = tensor.clone()
    return weights


def output(net: UNet) -> torch.Tensor:
    x = torch.linspace(-1, 2, 2 * 16 * 24).reshape(2, 1, 16, 24)  # tagged: two slices of 16 x 24
    with torch.inference_mode():
        return net(x)


@pytest.mark.parametrize(
    ("info", "shape"),
    [
        (ModelInfo(width=2, depth=1), (2, 6)),
        (ModelInfo(width=2, depth=3), (16, 8)),
        (ModelInfo(width=3, depth=2, stem=2), (8, 24)),
        (ModelInfo(width=1, depth=1, stem=4), (16, 8)),
    ],
)
def test_logits_have_the_shape_of_the_slices(info: ModelInfo, shape: tuple[int, int]) -> None:
    assert all(side % info.multiple == 0 for side in shape)
    assert UNet(info).eval()(torch.zeros(3, 1, *shape)).shape == (3, 1, *shape)


def test_multiple_is_what_stem_and_pooling_need() -> None:
    assert ModelInfo(depth=6).multiple == 64
    assert ModelInfo(depth=5, stem=2).multiple == 64
    with pytest.raises(RuntimeError):
        UNet(ModelInfo(width=1, depth=3)).eval()(torch.zeros(1, 1, 12, 16))


def test_the_paper_s_network_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        net = UNet(ModelInfo())
    assert sum(p.numel() for p in net.parameters()) == 24_790_561


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference of the original's parameters is not here")
def test_names_and_shapes_are_those_of_the_original() -> None:
    with torch.device("meta"):
        net = UNet(ModelInfo())
    shapes = {name: list(tensor.shape) for name, tensor in original_names(net).items()}
    assert shapes == json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("folder", [".", ".."], ids=["beside", "above"])
def test_a_checkpoint_of_the_authors_gives_the_same_output(
    tmp_path: Path, wrapped: bool, folder: str
) -> None:
    net = random_net(TINY)
    run = tmp_path / "run"
    run.mkdir()
    weights = original_names(net)
    torch.save({"model": weights} if wrapped else weights, run / "fold_0_3.pth")
    np.save(run / folder / "mean_std.npy", np.array([80.0, 60.0]))
    loaded = load_model(run / "fold_0_3.pth")
    assert torch.equal(output(loaded), output(net))
    assert loaded.info.normalisation == {"kind": "standard", "mean": 80.0, "std": 60.0}
    assert (loaded.info.width, loaded.info.depth, loaded.info.stem) == (2, 2, 1)
    assert (loaded.info.threshold, loaded.info.either_end) == (0.3, False)
    assert not loaded.training


def test_a_checkpoint_without_its_grey_levels_is_refused(tmp_path: Path) -> None:
    torch.save(original_names(random_net(TINY)), tmp_path / "fold_0.pth")
    with pytest.raises(ModelError, match=r"mean_std\.npy"):
        load_model(tmp_path / "fold_0.pth")


def test_a_checkpoint_with_damaged_grey_levels_is_refused(tmp_path: Path) -> None:
    torch.save(original_names(random_net(TINY)), tmp_path / "fold_0.pth")
    for damaged in (b"", b"text"):
        (tmp_path / "mean_std.npy").write_bytes(damaged)
        with pytest.raises(ModelError, match="two numbers"):
            load_model(tmp_path / "fold_0.pth")
    for numbers in ([80.0], [80.0, 0.0], [math.nan, 60.0], [80.0, 60.0, 1.0]):
        np.save(tmp_path / "mean_std.npy", np.array(numbers))
        with pytest.raises(ModelError, match="two numbers"):
            load_model(tmp_path / "fold_0.pth")


def test_grey_levels_of_colour_images_are_those_of_their_first_channel(tmp_path: Path) -> None:
    torch.save(original_names(random_net(TINY)), tmp_path / "fold_0.pth")
    np.save(tmp_path / "mean_std.npy", np.array([[80.0] * 3, [60.0] * 3]))
    info = load_model(tmp_path / "fold_0.pth").info
    assert info.normalisation == {"kind": "standard", "mean": 80.0, "std": 60.0}
    assert info.loss == "unknown"


@pytest.mark.parametrize("name", ["mixer.weight alone", "no tensor", "no axes"])
def test_what_are_not_the_parameters_of_a_network_is_refused(name: str, tmp_path: Path) -> None:
    weights = original_names(random_net(TINY))
    if name == "mixer.weight alone":
        weights = {"mixer.weight": weights["mixer.weight"]}
    else:
        weights["mixer.weight"] = 3 if name == "no tensor" else torch.tensor(3.0)
    torch.save(weights, tmp_path / "fold_0.pth")
    np.save(tmp_path / "mean_std.npy", np.array([80.0, 60.0]))
    with pytest.raises(ModelError, match="expected parameters of the paper's U-Net"):
        load_model(tmp_path / "fold_0.pth")


def test_filters_need_not_be_doubled(tmp_path: Path) -> None:
    info = ModelInfo(width=2, depth=3, stem=2, filters=(2, 3, 3))
    net = random_net(info)
    assert net.down[1][0][0].weight.shape == (3, 2, 3, 3) and net.up[2][0][0].weight.shape == (3, 6, 3, 3)
    assert net.up[0][1][0].weight.shape == (2, 2, 3, 3) and net.head.weight.shape == (4, 2, 1, 1)
    save_model(tmp_path / "m.safetensors", net)
    assert load_model(tmp_path / "m.safetensors").info == info and info.levels == (2, 3, 3)
    assert ModelInfo().levels == (24, 48, 96, 192, 384, 768)


@pytest.mark.parametrize(
    "wrong",
    [
        {"normalisation": "x"},
        {"depth": 30},
        {"width": 10**6},
        {"filters": [1, 2]},
        {"filters": [2, 0]},
        {"filters": [2, "x"]},
        {"filters": [2, 2.5]},
        {"filters": [2, 10**6]},
    ],
)
def test_a_header_that_cannot_be_is_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    net = random_net(TINY)
    header = {"tidemark": json.dumps(asdict(net.info) | wrong)}
    save_file(net.state_dict(), tmp_path / "m.safetensors", metadata=header)
    with pytest.raises(ModelError, match="the header is damaged"):
        load_model(tmp_path / "m.safetensors")


def test_a_checkpoint_from_several_gpus_loads(tmp_path: Path) -> None:
    net = random_net(TINY)
    np.save(tmp_path / "mean_std.npy", np.array([80.0, 60.0]))
    torch.save({f"module.{k}": v for k, v in original_names(net).items()}, tmp_path / "fold_0.pth")
    assert torch.equal(output(load_model(tmp_path / "fold_0.pth")), output(net))


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
def test_a_malicious_checkpoint_is_refused_and_never_runs(tmp_path: Path, legacy: bool) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "fold_0.pth"
    content = {**original_names(random_net(TINY)), "extra": Malicious(trap)}
    np.save(tmp_path / "mean_std.npy", np.array([80.0, 60.0]))
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="never unpickled"):
        load_model(path)
    path.write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(ModelError):
        load_model(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content", [{"other": torch.zeros(1)}, [torch.zeros(1)], {"model": 3}], ids=["names", "list", "number"]
)
def test_foreign_checkpoints_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"net\.pth"):
        load_model(tmp_path / "net.pth")


def test_a_model_file_comes_back(tmp_path: Path) -> None:
    net = random_net(TINY)
    save_model(tmp_path / "m.safetensors", net)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.info == net.info
    assert torch.equal(output(loaded), output(net))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


words = st.text(max_size=8)
infos = st.builds(
    ModelInfo,
    width=st.integers(1, 3),
    depth=st.integers(1, 2),
    stem=st.sampled_from([1, 2]),
    normalisation=st.fixed_dictionaries(
        {"kind": st.just("window"), "low": st.floats(0, 50), "high": st.floats(51, 100)}
    ),
    voxel_um=st.floats(0.1, 100),
    planes=st.sampled_from([("zx",), ("zy",), ("zx", "zy")]),
    step=st.integers(1, 9),
    threshold=st.floats(0, 1),
    either_end=st.booleans(),
    loss=words,
    training=st.dictionaries(
        words, st.one_of(words, st.integers(), st.none(), st.lists(st.integers(), max_size=2))
    ),
    licence=words,
)


@settings(max_examples=25, deadline=None)
@given(info=infos)
def test_everything_about_a_model_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, info: ModelInfo
) -> None:
    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    save_model(path, UNet(info))
    assert load_model(path).info == info


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_model_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, random_net(TINY))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"m\.safetensors"):
        load_model(path)


def test_a_model_file_of_another_program_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="not written by tidemark"):
        load_model(tmp_path / "m.safetensors")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net = random_net(TINY)
    net.info = ModelInfo(width=4, depth=2)
    save_model(tmp_path / "m.safetensors", net)
    with pytest.raises(ModelError, match=r"do not fit a U-Net with \(4, 8\) filters"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "header",
    ["not json", "[]", "{}", '{"planes": ["zx"], "colour": 1}', '{"planes": ["zx"], "voxel_um": 0}'],
    ids=["no-json", "a-list", "empty", "unknown-key", "no-size"],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: str) -> None:
    from safetensors.torch import save_file

    save_file(random_net(TINY).state_dict(), tmp_path / "m.safetensors", metadata={"tidemark": header})
    with pytest.raises(ModelError, match=r"m\.safetensors"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pth", "model.onnx", "model"])
def test_what_is_no_model_file_is_refused(tmp_path: Path, name: str) -> None:
    if "none" not in name:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=name):
        load_model(tmp_path / name)
