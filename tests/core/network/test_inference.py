"""Slices in, probability volume out: every voxel comes back in its place, whatever the way there."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.network.nets import constant, noise, random_net
from tidemark_cli.core.errors import ContentError, ModelError
from tidemark_cli.core.network.fused import Fused
from tidemark_cli.core.network.inference import Prediction, Predictor
from tidemark_cli.core.network.passes import spread
from tidemark_cli.core.network.planes import AXES
from tidemark_cli.core.network.unet import UNet, load_model

CPU = torch.device("cpu")
UM = 3.2
BFLOAT16 = 8  # of 255, by which the bright network may be off: its gain of 40 times bfloat16 rounding

Bright = Callable[..., UNet]


def run(
    array: np.ndarray,
    *nets: UNet,
    voxel_um: float = UM,
    outline: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Prediction:
    return Predictor(nets, CPU, **options)(array, voxel_um, outline, progress)


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


def test_no_model_is_an_error() -> None:
    with pytest.raises(ModelError):
        run(noise((4, 4, 4)))


# ---- the volume ----


@pytest.mark.parametrize("shape", [(16, 8, 12), (17, 5, 23), (3, 40, 2)])
@pytest.mark.parametrize("either_end", [False, True])
def test_every_voxel_comes_back_in_its_place(
    bright: Bright, shape: tuple[int, int, int], either_end: bool
) -> None:
    scan = noise(shape)
    found = run(scan, bright(either_end=either_end))
    assert found.probability.dtype == np.uint8
    assert found.disagreement is None
    assert np.abs(found.probability - expected(scan)).max() < BFLOAT16


def test_a_view_a_memory_map_and_a_fortran_array_are_as_good(bright: Bright, tmp_path: Path) -> None:
    scan = noise((20, 14, 16))
    mapped = np.memmap(tmp_path / "scan", np.uint8, "w+", shape=scan.shape)
    mapped[:] = scan
    truth = run(scan[2:, 1:-1, 3:].copy(), bright()).probability
    for other in (scan, mapped, np.asfortranarray(scan), scan[::-1].copy()[::-1]):
        assert np.array_equal(run(other[2:, 1:-1, 3:], bright()).probability, truth)


def test_no_further_copy_of_the_volume_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fused, "batch_size", lambda *_: 1)
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


def test_a_predictor_serves_scan_after_scan_of_any_size() -> None:
    predictor = Predictor([random_net()], CPU, planes=["zx"])
    scans = [(noise((37, 20, 22)), 3.2), (noise((16, 8, 40)).astype(np.uint16) * 7, 5.0)]
    first = [predictor(scan, um).probability for scan, um in scans]
    again = [predictor(scan, um).probability for scan, um in scans[::-1]]
    for (scan, um), one, other in zip(scans, first, again[::-1], strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, run(scan, random_net(), voxel_um=um, planes=["zx"]).probability)


def test_upside_down_are_the_same_slices_in_reverse() -> None:
    found = run(noise((12, 6, 7)), random_net(), uncertainty=True)
    turned = found.upside_down()
    assert turned.disagreement is not None and found.disagreement is not None
    assert np.array_equal(turned.probability[::-1], found.probability)
    assert np.array_equal(turned.disagreement[::-1], found.disagreement)
    assert turned.slices == found.slices


def half_outline() -> np.ndarray:
    """A plug in 80 of 160 rows and 150 of 200 columns, on a grid of 10 voxels."""
    outline = np.zeros((16, 1, 20), bool)
    outline[:8, 0, 5:] = True
    return outline


def test_slices_are_computed_where_the_plug_is(bright: Bright) -> None:
    scan = noise((160, 6, 200))
    whole = run(scan, bright()).probability
    found = run(scan, bright(), outline=half_outline()).probability
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
    monkeypatch.setattr(Fused, "batch_size", lambda *_: size)
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
    """Hard tissue in rows 260 to 279 of 600: slice 31 says to look in rows 151 to 389, cells 150 to 389."""
    scan = np.zeros((600, 70, 40), np.uint8)
    scan[260:280, :35] = 255
    scan[[140, 151, 388, 400], 5] = 255  # which slice 31 does not show
    return scan


@pytest.mark.parametrize("planes", [["zx"], ["zx", "zy"]])
def test_heights_without_hard_tissue_are_left_out(bright: Bright, planes: list[str]) -> None:
    scan, net = tall_scan(), bright()
    near = scan.copy()
    near[:150] = near[390:] = 0
    assert np.array_equal(run(scan, net, planes=planes, outline=WHOLE).probability > 127, near > 0)
    scan[[140, 400], 31] = 255  # now it does
    assert np.array_equal(run(scan, net, planes=planes, outline=WHOLE).probability > 127, scan > 0)


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
    assert (found[400, 5] > 127).all()


def test_heights_of_a_finer_scan(bright: Bright) -> None:
    scan = np.zeros((700, 140, 40), np.uint8)
    scan[200:220] = 255
    scan[460:480, 100:130] = 255  # from 240 voxels of 2.2 µm above, between slices 45 and 136
    found = run(scan, bright(), voxel_um=2.2, outline=np.ones((700, 14, 4), bool), planes=["zx"]).probability
    assert (found[205:215] > 127).all()
    assert not (found[:, 100:130][443:] > 127).any()
    assert run(scan, bright(), voxel_um=2.2, planes=["zx"]).probability[470, 115].all()


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
    axis = AXES[plane]
    every = np.moveaxis(run(scan, bright(), planes=[plane]).probability, axis, 0).astype(float)
    found = np.moveaxis(run(scan, bright(step=step), planes=[plane]).probability, axis, 0)
    known = spread(len(every), step)
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
    monkeypatch.setattr(Fused, "batch_size", lambda *_: size)
    assert np.array_equal(run(scan, bright(step=3)).probability, truth)


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
