"""Slices in, probability volume out: every voxel comes back in its place, whatever the way there."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.anatomy.surface import find_surface
from tidemark_cli.core.errors import ContentError, DeviceError, ModelError
from tidemark_cli.core.network import inference
from tidemark_cli.core.network.devices import choose_device
from tidemark_cli.core.network.greylevels import normaliser
from tidemark_cli.core.network.inference import Prediction, load_models, predict
from tidemark_cli.core.network.unet import ModelInfo, UNet, load_model, save_model
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.scans.volume import Volume
from tidemark_cli.core.segmentation import Settings, segment

CPU = torch.device("cpu")
UM = 3.2
BFLOAT16 = 8  # of 255, by which the bright network may be off: its gain of 40 times bfloat16 rounding

Bright = Callable[..., UNet]


def run(
    array: np.ndarray, *nets: UNet, voxel_um: float = UM, bone_end: str = "first", **options: Any
) -> Prediction:
    return predict(array, voxel_um, nets, device=CPU, bone_end=bone_end, **options)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def bright(model: Path) -> Bright:
    """A network that looks at single voxels: hard is what is brighter than 150."""

    def make(**changes: Any) -> UNet:
        net = load_model(model)
        net.info = replace(net.info, **{"voxel_um": UM} | changes)
        return net

    return make


def expected(array: np.ndarray) -> np.ndarray:
    """What the bright network gives: a steep sigmoid of the grey level, 0-255."""
    return 255 / (1 + np.exp(-40 / 255 * (array.astype(float) - 150)))


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


# ---- devices and models ----


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, taken: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == taken


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps:1", "CPU"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_asked_for_by_name_and_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=name):
        choose_device(name)


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="found 2 CUDA devices"):
        choose_device("cuda:2")


def test_a_file_a_folder_and_the_embedded_model_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    for name, step in (("default", 1), ("fold_1", 3), ("fold_0", 2)):
        save_model(tmp_path / "models" / f"{name}.safetensors", constant(0.5, step=step))
    (tmp_path / "models" / "fold_9.pth").write_bytes(b"left alone beside .safetensors")
    (tmp_path / "models" / "run.json").write_text("{}")
    monkeypatch.setattr(inference.resources, "files", lambda package: tmp_path)
    steps = [
        [net.info.step for net in load_models(weights)]
        for weights in (None, tmp_path / "models" / "fold_1.safetensors", tmp_path / "models")
    ]
    assert steps == [[1], [3], [1, 2, 3]]


def test_the_model_inside_the_package_finds_the_tidemark_of_a_phantom() -> None:
    plug = draw_phantom(1, (256, 256, 256))
    (net,) = load_models(None)
    volume = Volume(plug.scan, plug.voxel_um, "option", Path("plug"))
    found = segment(volume, [net], Settings(device="cpu")).surface.height_um
    truth = find_surface(plug.mask, plug.voxel_um, "first").height_um
    assert np.isfinite(found[np.isfinite(truth)]).mean() > 0.95
    assert np.nanmedian(abs(found - truth)) < 2 * plug.voxel_um


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found none"):
        load_models(tmp_path)
    (tmp_path / "fold_0.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"fold_0\.pth"):  # .pth files count where there is nothing better
        load_models(tmp_path)


def test_no_model_is_an_error() -> None:
    with pytest.raises(ModelError):
        run(noise((4, 4, 4)))


# ---- grey levels ----

STANDARD = ModelInfo(normalisation={"kind": "standard", "mean": 100.0, "std": 50.0})
WINDOW = ModelInfo(normalisation={"kind": "window", "low": 10.0, "high": 60.0})


def test_8_bit_grey_levels_are_standardised_as_they_are() -> None:
    grey = np.array([[0, 100], [150, 255]], np.uint8)
    values = normaliser(noise((3, 3, 3)), STANDARD)(grey)
    assert values.dtype == np.float32
    assert values.tolist() == [[-2, 0], [1, pytest.approx(3.1)]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", ">i4", "<f4", ">f8"])
@pytest.mark.parametrize("info", [STANDARD, WINDOW], ids=["standard", "window"])
def test_other_grey_levels_are_brought_to_8_bits(dtype: str, info: ModelInfo) -> None:
    eight = np.arange(256, dtype=np.uint8).repeat(64).reshape(256, 8, 8)  # tagged: a ramp of 8 x 8 planes
    other = (eight.astype(float) * 90 + 1000).astype(dtype)
    values = normaliser(other, info)(other[:, 0, :])
    assert values.dtype == np.float32
    assert np.abs(values - normaliser(eight, info)(eight[:, 0, :])).max() < 0.02


def test_outliers_of_a_float_scan_are_clipped() -> None:
    grey = np.full(100_000, 1.0, np.float32)
    grey[::2], grey[7], grey[8] = 3, 1e6, -1e6
    values = normaliser(grey, STANDARD)(np.array([-1e6, 1, 3, 1e6]))
    assert values == pytest.approx([-2, -2, 3.1, 3.1], abs=1e-4)


def test_the_window_goes_between_its_percentiles_and_is_clipped() -> None:
    grey = np.arange(101, dtype=np.float32)
    values = normaliser(grey, WINDOW)(np.array([-1000, 10, 35, 60, 85, 1000], np.int32))
    assert values == pytest.approx([-0.5, 0, 0.5, 1, 1.5, 2])


@pytest.mark.parametrize("info", [STANDARD, WINDOW], ids=["standard", "window"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_flat_scan_divides_by_nothing(info: ModelInfo, dtype: type) -> None:
    flat: np.ndarray = np.full((3, 4, 5), 7, dtype)
    assert np.isfinite(normaliser(flat, info)(flat)).all()


def test_the_scan_is_left_alone() -> None:
    scan = noise((5, 6, 7)).astype(np.float32)
    before = scan.copy()
    normaliser(scan, WINDOW)(scan)
    assert np.array_equal(scan, before)


def test_an_unknown_normalisation_is_refused() -> None:
    for kind in ({"kind": "magic"}, {}, {"kind": "standard"}, {"kind": "window", "low": 1}):
        with pytest.raises(ValueError, match="normalisation"):
            ModelInfo(normalisation=kind)


# ---- the volume ----


@pytest.mark.parametrize("shape", [(16, 8, 12), (17, 5, 23), (3, 40, 2)])
@pytest.mark.parametrize("bone_end", ["first", "last"])
@pytest.mark.parametrize("either_end", [False, True])
def test_every_voxel_comes_back_in_its_place(
    bright: Bright, shape: tuple[int, int, int], bone_end: str, either_end: bool
) -> None:
    scan = noise(shape)
    found = run(scan, bright(either_end=either_end), bone_end=bone_end)
    assert found.probability.dtype == np.uint8
    assert found.disagreement is None
    assert np.abs(found.probability - expected(scan)).max() < BFLOAT16


def test_a_view_a_memory_map_and_a_fortran_array_are_as_good(bright: Bright, tmp_path: Path) -> None:
    scan = noise((20, 14, 16))
    mapped = np.memmap(tmp_path / "scan", np.uint8, "w+", shape=scan.shape)
    mapped[:] = scan
    truth = run(scan[2:, 1:-1, 3:].copy(), bright()).probability
    for other in (scan, mapped, np.asfortranarray(scan)):
        assert np.array_equal(run(other[2:, 1:-1, 3:], bright()).probability, truth)


def test_no_further_copy_of_the_volume_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference._Predictor, "batch_size", lambda *_: 1)
    scan = noise((90, 250, 260))[10:, 5:, 5:]  # a box in a scan
    tracemalloc.start()
    try:
        run(scan, constant(0.5))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scan.size < peak < 1.5 * scan.size


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.93])
@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("voxel_um", [1.6, 3.2, 7.0])
def test_a_constant_network_gives_a_constant(probability: float, step: int, voxel_um: float) -> None:
    found = run(noise((33, 18, 21)), constant(probability, step=step), voxel_um=voxel_um, uncertainty=True)
    assert np.abs(found.probability.astype(int) - 255 * probability).max() <= 1
    assert found.disagreement is not None
    assert not found.disagreement.any()


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("voxel_um", [3.2, 5.0])
def test_the_other_bone_end_gives_the_flipped_result(step: int, voxel_um: float) -> None:
    scan, net = noise((37, 20, 22)), random_net(step=step)
    first = run(scan, net, voxel_um=voxel_um).probability
    last = run(scan[::-1], net, voxel_um=voxel_um, bone_end="last").probability
    assert np.array_equal(last[::-1], first)
    assert not np.array_equal(run(scan, net, voxel_um=voxel_um, bone_end="last").probability, first)


def test_a_network_for_either_end_sees_the_scan_as_it_lies() -> None:
    scan, net = noise((37, 20, 22)), random_net(either_end=True)
    assert np.array_equal(run(scan, net).probability, run(scan, net, bone_end="last").probability)


@pytest.mark.parametrize("info", [STANDARD, WINDOW], ids=["standard", "window"])
def test_slices_are_padded_with_black_at_the_far_end(
    monkeypatch: pytest.MonkeyPatch, info: ModelInfo
) -> None:
    seen = []

    def spy(net: UNet, x: torch.Tensor) -> torch.Tensor:
        seen.append(x.float())
        return x

    monkeypatch.setattr(UNet, "forward", spy)
    scan = noise((5, 6, 7))
    run(scan, UNet(replace(info, width=1, depth=2)), planes=["zx"])
    slices = torch.cat(seen)[:, 0]
    black = -2.0 if info is STANDARD else 0.0
    assert slices.shape == (6, 8, 8)
    assert (slices[:, 5:] == black).all()
    assert (slices[:, :, 7:] == black).all()
    inside = normaliser(scan, info)(scan).swapaxes(0, 1)
    assert np.abs(slices[:, :5, :7].numpy() - inside).max() < 0.02


def test_the_network_is_made_faster_but_not_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "fast_dtype", lambda device: torch.float32)
    scan, net = noise((16, 3, 24)), random_net()
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = run(scan, net, planes=["zx"]).probability
    grey = torch.from_numpy(normaliser(scan, net.info)(scan)).permute(1, 0, 2)[:, None]  # (Y, 1, Z, X)
    with torch.inference_mode():
        plain = torch.sigmoid(net(grey))[:, 0].permute(1, 0, 2).numpy()
    assert np.ptp(plain) > 0.1
    assert np.abs(found - plain * 255).max() < 0.51
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


def test_bfloat16_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, net = noise((16, 5, 24)), random_net()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(inference, "fast_dtype", lambda device, dtype=dtype: dtype)
        found.append(run(scan, net).probability.astype(int))
    assert np.abs(found[1] - found[0]).max() < 13
    assert np.abs(found[1] - found[0]).mean() < 2


def half_outline() -> np.ndarray:
    """A plug in 80 of 160 rows and 150 of 200 columns, on a grid of 10 voxels."""
    outline = np.zeros((16, 1, 20), bool)
    outline[:8, 0, 5:] = True
    return outline


@pytest.mark.parametrize("bone_end", ["first", "last"])
def test_slices_are_computed_where_the_plug_is(bright: Bright, bone_end: str) -> None:
    scan = noise((160, 6, 200))
    whole = run(scan, bright(), bone_end=bone_end).probability
    found = run(scan, bright(), bone_end=bone_end, outline=half_outline()).probability
    assert np.array_equal(found[:80, :, 50:], whole[:80, :, 50:])
    assert found[80:105, :, 20:].any()  # the air beside it
    assert not found[120:].any()
    assert not found[:, :, :10].any()


@pytest.mark.parametrize("voxel_um", [2.2, 2.9, 5.0])
def test_the_part_that_is_computed_keeps_its_place_at_another_voxel_size(
    bright: Bright, voxel_um: float
) -> None:
    z, y, x = np.mgrid[:160, :6, :200]
    scan = (z + y + x // 2).astype(np.uint8)
    found = run(scan, bright(), voxel_um=voxel_um, outline=half_outline()).probability
    plug = (slice(4, 80), slice(None), slice(50, 196))
    assert np.abs(found - expected(scan))[plug].max() < 3 * BFLOAT16


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_batches_do_not_show_where_the_plug_is_oblique(
    monkeypatch: pytest.MonkeyPatch, bright: Bright, size: int
) -> None:
    scan, oblique = noise((70, 40, 80)), np.eye(8, dtype=bool)[None].repeat(4, 0)
    calls: list[tuple[int, int]] = []
    truth = run(scan, bright(step=3), outline=oblique).probability
    monkeypatch.setattr(inference._Predictor, "batch_size", lambda *_: size)
    found = run(scan, bright(step=3), outline=oblique, progress=lambda *c: calls.append(c))
    assert np.array_equal(found.probability, truth)
    assert calls[-1] == (sum(found.slices.values()),) * 2


def test_slices_that_pass_the_plug_by_are_empty(bright: Bright) -> None:
    beside = np.zeros((1, 10, 1), bool)
    beside[:, 0] = True
    found = run(np.full((30, 400, 30), 255, np.uint8), bright(), outline=beside, planes=["zx"]).probability
    assert found[:, :40].all()
    assert not found[:, 150:].any()


WHOLE = np.ones((60, 7, 4), bool)


def tall_scan() -> np.ndarray:
    """Hard tissue in rows 260 to 279 of 600: slice 31 says to look in rows 72 to 467, in cells 70 to 469."""
    scan = np.zeros((600, 70, 40), np.uint8)
    scan[260:280, :35] = 255
    scan[[60, 72, 467, 480], 5] = 255  # which slice 31 does not show
    return scan


@pytest.mark.parametrize("either_end", [True, False])
@pytest.mark.parametrize("bone_end", ["first", "last"])
@pytest.mark.parametrize("planes", [["zx"], ["zx", "zy"]])
def test_heights_without_hard_tissue_are_left_out(
    bright: Bright, planes: list[str], bone_end: str, either_end: bool
) -> None:
    scan, net = tall_scan(), bright(either_end=either_end)
    near = scan.copy()
    near[:70] = near[470:] = 0
    turn = slice(None, None, -1 if bone_end == "last" else None)
    options: dict[str, Any] = {"bone_end": bone_end, "planes": planes, "outline": WHOLE}
    assert np.array_equal(run(scan[turn], net, **options).probability[turn] > 127, near > 0)
    scan[[60, 480], 31] = 255  # now it does
    assert np.array_equal(run(scan[turn], net, **options).probability[turn] > 127, scan > 0)


@pytest.mark.parametrize(("ratio", "same"), [(1.015, True), (1.05, False)])
def test_voxels_within_2_percent_of_the_model_s_are_not_resampled(
    bright: Bright, ratio: float, same: bool
) -> None:
    scan = noise((40, 41, 42))
    found = run(scan, bright(), voxel_um=ratio * UM, planes=["zx"]).probability
    assert (np.abs(found - expected(scan)).max() <= BFLOAT16) == same


def test_voxels_too_coarse_to_be_enlarged_are_refused(bright: Bright) -> None:
    um = bright().info.voxel_um
    scan = np.full((9, 8, 7), 200, np.uint8)
    assert run(scan, bright(), voxel_um=16 * um).probability.any()
    with pytest.raises(ContentError, match="17 times as wide"):
        run(scan, bright(), voxel_um=17 * um)


def test_a_slice_across_the_plug_is_refused(bright: Bright) -> None:
    with pytest.raises(ContentError, match="slices along the plug's axis"):
        run(np.full((1, 8, 7), 200, np.uint8), bright())


def test_the_heights_are_those_of_all_models(bright: Bright) -> None:
    scan = tall_scan()
    scan[520, 31] = 100  # bright enough for the second alone
    eager = bright()
    with torch.no_grad():
        eager.head.bias += 20  # type: ignore[operator]
    found = run(scan, bright(), eager, outline=WHOLE, planes=["zx"]).probability
    assert (found[480, 5] > 127).all()


def test_heights_of_a_finer_scan(bright: Bright) -> None:
    scan = np.zeros((700, 140, 40), np.uint8)
    scan[200:220] = 255
    scan[510:530, 100:130] = 255  # from 290 voxels of 2.2 µm above, between slices 45 and 136
    found = run(scan, bright(), voxel_um=2.2, outline=np.ones((700, 14, 4), bool), planes=["zx"]).probability
    assert (found[205:215] > 127).all()
    assert not (found[:, 100:130][493:] > 127).any()
    assert run(scan, bright(), voxel_um=2.2, planes=["zx"]).probability[520, 115].all()


@pytest.mark.parametrize(("threshold", "seen"), [(None, False), (0.5, False), (0.1, True)])
def test_a_low_threshold_looks_at_what_is_faint(bright: Bright, threshold: float | None, seen: bool) -> None:
    scan = tall_scan()
    scan[480, :] = 138  # a probability of 0.13
    found = run(scan, bright(), outline=WHOLE, planes=["zx"], threshold=threshold).probability
    assert found[480, 10:].any() == seen


def test_where_no_hard_tissue_is_told_all_is_looked_at(bright: Bright) -> None:
    scan = tall_scan()
    scan[:, 31] = 0
    found = run(scan, bright(), planes=["zx"], outline=WHOLE).probability
    assert np.array_equal(found > 127, scan > 127)


# ---- voxel sizes and steps ----


@pytest.mark.parametrize("voxel_um", [1.6, 2.9, 4.4, 6.4])
def test_another_voxel_size_keeps_shape_and_place(bright: Bright, voxel_um: float) -> None:
    z, y, x = np.mgrid[:40, :36, :44]
    scan = (2 * z + y + x + 40).astype(np.uint8)
    found = run(scan, bright(), voxel_um=voxel_um).probability
    inner = (slice(4, -4),) * 3  # the edge may be repeated
    assert found.shape == scan.shape
    assert np.abs(found - expected(scan))[inner].max() < 3 * BFLOAT16


@pytest.mark.parametrize("ratio", [0.981, 1.019])
def test_a_voxel_size_as_good_as_equal_is_not_resampled(bright: Bright, ratio: float) -> None:
    scan = noise((40, 36, 44))
    assert np.array_equal(
        run(scan, bright(), voxel_um=UM * ratio).probability, run(scan, bright()).probability
    )


@settings(deadline=None)
@given(length=st.integers(1, 400), stride=st.integers(1, 20))
def test_predicted_slices_go_evenly_from_end_to_end(length: int, stride: int) -> None:
    positions = inference._positions(length, stride)
    gaps = np.diff(positions)
    assert (positions[0], positions[-1]) == (0, length - 1)
    if length > 1:
        assert 1 <= gaps.min() <= gaps.max() <= stride
        assert gaps.max() - gaps.min() <= 1
        assert len(positions) == math.ceil((length - 1) / stride) + 1


@pytest.mark.parametrize(
    ("step", "voxel_um", "stride"), [(1, 3.2, 1), (2, 3.2, 2), (1, 1.6, 2), (2, 0.8, 8), (3, 9, 1)]
)
def test_finer_scans_skip_more_slices(step: int, voxel_um: float, stride: int) -> None:
    calls: list[tuple[int, int]] = []
    run(
        noise((8, 41, 8)),
        constant(0.5, step=step, planes=("zx",)),
        voxel_um=voxel_um,
        progress=lambda *c: calls.append(c),
    )
    slices = 40 // stride + 1
    assert calls[-1] == (slices, slices)


def test_a_step_that_is_asked_for_replaces_the_model_s(bright: Bright) -> None:
    scan = noise((8, 21, 20))
    for voxel_um in (1.6, 3.2, 6.4):  # it is in slices of the scan
        assert run(scan, bright(step=4), step=1, voxel_um=voxel_um).slices == {"zx": 21, "zy": 20}
    assert np.array_equal(
        run(scan, bright(step=1), step=3).probability, run(scan, bright(step=3)).probability
    )
    assert not np.array_equal(
        run(scan, bright(step=3), step=1).probability, run(scan, bright(step=3)).probability
    )


@pytest.mark.parametrize("plane", ["zx", "zy"])
@pytest.mark.parametrize("step", [2, 3, 7, 100])
def test_slices_between_are_interpolated_linearly(bright: Bright, plane: str, step: int) -> None:
    scan = noise((9, 24, 26))
    axis = inference.AXES[plane]
    every = np.moveaxis(run(scan, bright(), planes=[plane]).probability, axis, 0).astype(float)
    found = np.moveaxis(run(scan, bright(step=step), planes=[plane]).probability, axis, 0)
    known = inference._positions(len(every), step)
    truth = np.array(
        [
            [np.interp(range(len(every)), known, line[known]) for line in row]
            for row in every.transpose(1, 2, 0)
        ]
    )
    assert np.abs(found - truth.transpose(2, 0, 1)).max() <= 0.51
    assert np.array_equal(found[known], every[known])


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_batches_do_not_show(bright: Bright, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    scan = noise((12, 23, 18))
    truth = run(scan, bright(step=3)).probability
    monkeypatch.setattr(inference._Predictor, "batch_size", lambda *_: size)
    assert np.array_equal(run(scan, bright(step=3)).probability, truth)


def test_batches_fit_in_memory() -> None:
    def slices(info: ModelInfo, device: str, voxels: int = 768 * 448) -> int:
        with torch.device("meta"):
            net = UNet(replace(info, width=1))
        net.info = info
        predictor = inference._Predictor.__new__(inference._Predictor)
        predictor.info, predictor.device, predictor.dtype = info, torch.device(device), torch.bfloat16
        return predictor.batch_size((768, 448), voxels)

    small = ModelInfo(width=16, depth=5, stem=2)
    assert slices(ModelInfo(), "cpu") == 1
    assert 1 < slices(small, "cpu") < slices(small, "cuda")
    assert slices(small, "cpu", 20 * 768 * 448) < slices(small, "cpu")  # many slices are skipped


# ---- planes and ensembles ----


def test_planes_are_averaged_and_their_disagreement_is_kept() -> None:
    scan, net = noise((16, 17, 18)), random_net()
    zx, zy = (run(scan, net, planes=[plane]).probability.astype(int) for plane in ("zx", "zy"))
    both = run(scan, net, uncertainty=True)
    assert (zx != zy).any()
    assert np.abs(both.probability - (zx + zy) / 2).max() <= 0.5
    assert both.disagreement is not None
    assert np.array_equal(both.disagreement, abs(zx - zy))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("planes", [("zx",), ("zx", "zy")])
def test_an_ensemble_of_equal_models_equals_one(count: int, planes: tuple[str, ...]) -> None:
    scan = noise((16, 17, 18))
    one = run(scan, random_net(planes=planes), uncertainty=True)
    more = run(scan, *[random_net(planes=planes)] * count, uncertainty=True)
    assert np.abs(more.probability.astype(int) - one.probability).max() <= 1  # two planes round once more
    assert more.disagreement is not None
    assert np.array_equal(more.disagreement, one.disagreement)  # type: ignore[arg-type]
    if planes == ("zx",):
        assert np.array_equal(more.probability, one.probability)


def test_models_of_different_kinds_are_averaged() -> None:
    nets = (constant(0.2, planes=("zx",)), constant(0.4, voxel_um=5.0), constant(0.9, step=3, planes=("zy",)))
    found = run(noise((9, 10, 11)), *nets, uncertainty=True)
    assert set(np.unique(found.probability)) == {round(255 * (0.2 + 0.4 + 0.9) / 3)}
    assert found.disagreement is not None
    assert set(np.unique(found.disagreement)) == {round(255 * 0.9) - round(255 * 0.2)}


def test_each_model_applies_its_own_normalisation(bright: Bright) -> None:
    scan = noise((10, 9, 12))
    dark = bright(normalisation={"kind": "standard", "mean": 1000.0, "std": 255.0})
    alone = run(scan, bright()).probability
    found = run(scan, bright(), dark).probability
    assert np.abs(found - alone / 2).max() <= 1


def test_progress_counts_the_slices_of_all_planes_and_models() -> None:
    calls: list[tuple[int, int]] = []
    run(noise((6, 7, 9)), constant(0.5), constant(0.5), progress=lambda *c: calls.append(c))
    assert calls[-1] == (32, 32)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


@pytest.mark.parametrize("shape", [(20, 1, 24), (20, 24, 1)])
def test_a_single_slice_has_one_plane(bright: Bright, shape: tuple[int, int, int]) -> None:
    scan = noise(shape)
    calls: list[tuple[int, int]] = []
    found = run(scan, bright(), uncertainty=True, progress=lambda *c: calls.append(c))
    assert np.abs(found.probability - expected(scan)).max() < BFLOAT16
    assert calls == [(1, 1)]


@pytest.mark.parametrize("either_end", [False, True])
@pytest.mark.parametrize("shape", [(20, 1, 24), (20, 24, 1)])
def test_a_single_slice_is_seen_mirrored_as_well(shape: tuple[int, int, int], either_end: bool) -> None:
    scan, net = noise(shape), random_net(either_end=either_end)
    found = run(scan, net).probability
    for axis, alike in ((1, True), (2, True), (0, either_end)):
        turned = np.flip(run(np.flip(scan, axis), net).probability, axis)
        assert np.array_equal(turned, found) == alike


@pytest.mark.parametrize(
    ("shape", "planes"), [((20, 1, 24), ["zy"]), ((1, 20, 24), None), ((20, 1, 1), None)]
)
def test_planes_without_extent_are_refused_when_none_is_left(
    shape: tuple[int, int, int], planes: list[str] | None
) -> None:
    with pytest.raises(ContentError, match=" x ".join(map(str, shape))):
        run(noise(shape), constant(0.5), planes=planes)


def test_an_unknown_plane_is_refused() -> None:
    with pytest.raises(ModelError, match="xy"):
        run(noise((4, 4, 4)), constant(0.5, planes=("zx", "xy")))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_scans_of_other_dtypes(bright: Bright, dtype: type) -> None:
    scan = noise((24, 30, 31))
    scan[0], scan[-1] = 0, 255  # so that the percentiles are the ends
    other = (scan * 100.0 - 5000).astype(dtype) if dtype != np.uint16 else scan.astype(dtype) * 100
    found = run(other, bright()).probability
    assert np.abs(found - expected(scan)).max() < BFLOAT16 + 1
