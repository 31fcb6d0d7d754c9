"""Confidence by hand: each sign alone can take it away."""

import numpy as np
import pytest

from tidemark_cli.core.anatomy.bone_grey import BoneGrey
from tidemark_cli.core.anatomy.confidence import REASONS, Doubts, judge
from tidemark_cli.core.anatomy.surface import Surface

SHAPE = (40, 12, 12)


def a_plug(height: int = 20) -> tuple[np.ndarray, Surface, np.ndarray, np.ndarray]:
    """Probability, surface, thickness and sample of a flat plug with its bone at low Z, 10 µm voxels."""
    probability = np.zeros(SHAPE, np.uint8)
    probability[:height] = 255
    surface = Surface(np.full(SHAPE[1:], height * 10, np.float32), np.zeros(SHAPE[1:], bool), 10.0)
    return probability, surface, np.full(SHAPE[1:], 500.0), np.ones(SHAPE[1:], bool)


def test_a_clear_plug_is_believed():
    assert judge(*a_plug()).value == 1


def test_a_bone_end_in_dispute_is_doubted():
    probability, surface, thickness, sample = a_plug()
    doubt = judge(probability, surface, thickness, sample, Doubts(agreement=0.1))
    assert doubt.value == pytest.approx(0.1) and doubt.reason == REASONS["agreement"]


@pytest.mark.parametrize("fraction", [-0.49, 0.0, 0.49])
def test_heights_between_voxels_are_probed_at_the_same_voxels(fraction):
    probability, surface, thickness, sample = a_plug()
    probability[15:20], probability[20:25] = 200, 50  # a drop of 150 / 255, reached by all four probes
    between = Surface(surface.height_um + np.float32(fraction * 10), surface.opening, 10.0)
    expected = (150 / 255 - 0.3) / (0.8 - 0.3)
    assert judge(probability, between, thickness, sample).signs["sharpness"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sign", "doubt", "confidence"),
    [
        ("wholeness", {"grey": BoneGrey(left_out=0.05)}, 1),
        ("wholeness", {"grey": BoneGrey(left_out=0.125)}, 0.5),
        ("wholeness", {"grey": BoneGrey(left_out=0.2)}, 0),
        ("solidity", {"grey": BoneGrey(filled=0.1)}, 1),
        ("solidity", {"grey": BoneGrey(filled=0.2)}, 0.5),
        ("solidity", {"grey": BoneGrey(filled=0.3)}, 0),
        ("stain", {"grey": BoneGrey(brightness=1.5)}, 1),
        ("stain", {"grey": BoneGrey(brightness=1.75)}, 0.5),
        ("stain", {"grey": BoneGrey(brightness=3.0)}, 0),
        ("resolution", {"coarseness": 1.25}, 1),
        ("resolution", {"coarseness": 2.0}, 0),
        ("singleness", {"rival": 0.4}, 1),
        ("singleness", {"rival": 0.6}, 0.5),
        ("singleness", {"rival": 1.0}, 0),
        ("scale", {"assumed_scale": False}, 1),
        ("scale", {"assumed_scale": True}, 0.6),
    ],
)
def test_a_perfect_tidemark_is_not_all(sign, doubt, confidence):
    judged = judge(*a_plug(), Doubts(**doubt))
    assert judged.value == pytest.approx(confidence) and judged.signs[sign] == pytest.approx(confidence)
    assert confidence == 1 or judged.reason == REASONS[sign]


def test_nothing_found_is_no_confidence():
    probability, surface, thickness, sample = a_plug()
    nothing = Surface(np.full(SHAPE[1:], np.nan, np.float32), surface.opening, 10.0)
    assert judge(probability, nothing, thickness, sample).value == 0


def test_a_gradual_probability_is_doubted():
    _, surface, thickness, sample = a_plug()
    ramp = np.linspace(255, 0, SHAPE[0]).astype(np.uint8)[:, None, None] + np.zeros(SHAPE, np.uint8)
    doubt = judge(ramp, surface, thickness, sample)
    assert doubt.value == 0 and doubt.reason == REASONS["sharpness"]


def test_a_tidemark_in_a_corner_of_the_sample_is_doubted():
    probability, surface, thickness, sample = a_plug()
    height = surface.height_um.copy()
    height[3:] = np.nan  # a quarter is left: (0.25 - 0.2) / (0.6 - 0.2)
    doubt = judge(probability, Surface(height, surface.opening, 10.0), thickness, sample)
    assert doubt.value == pytest.approx(0.125) and doubt.reason == REASONS["coverage"]
    sample[:3] = False  # the quarter lies beside the sample: (3 / 12 - 0.2) / (0.6 - 0.2) all the same
    assert judge(
        probability, Surface(height, surface.opening, 10.0), thickness, sample
    ).value == pytest.approx(0.125)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_surface_ragged_along_one_axis_is_doubted(axis):
    probability, surface, thickness, sample = a_plug()
    height = surface.height_um + np.where(np.indices(SHAPE[1:])[axis] % 2, 50, 0).astype(np.float32)
    doubt = judge(probability, Surface(height, surface.opening, 10.0), thickness, sample)
    assert doubt.signs["evenness"] == pytest.approx((0.5 - 0.4) / (0.8 - 0.4))


def test_a_ragged_surface_is_doubted():
    _, surface, thickness, sample = a_plug()
    height = surface.height_um + np.where(np.indices(SHAPE[1:]).sum(0) % 2, 100, 0).astype(np.float32)
    probability = (np.arange(SHAPE[0])[:, None, None] < height / 10).astype(np.uint8) * 255
    doubt = judge(probability, Surface(height, surface.opening, 10.0), thickness, sample)
    assert doubt.value == 0 and doubt.reason == REASONS["evenness"]


def test_bone_without_cartilage_is_doubted():
    probability, surface, thickness, sample = a_plug()
    thin = np.full_like(thickness, 100.0)
    thin[:5] = 900  # five rows of twelve
    doubt = judge(probability, surface, thin, sample)
    assert doubt.value == pytest.approx(0.5) and doubt.reason == REASONS["cover"]
    assert judge(probability, surface, np.full_like(thickness, np.nan), sample).value == 0


@pytest.mark.parametrize(
    ("shape", "flatness"),
    [
        (lambda i: 30 * i, 1),  # a tilt is none
        (lambda i: 18 * np.abs(i - 5.5), 1),  # range 90 µm: may be roughness
        (lambda i: 21.2 * np.abs(i - 5.5), 0.6),  # range 106 µm, 6 more than roughness, on 120 µm: 0.05
        (lambda i: 200 * ((i - 5.5) / 5.5) ** 2, 0),  # 98 µm more than roughness, on 120 µm
    ],
)
def test_a_bent_surface_is_doubted_and_a_tilted_one_is_not(shape, flatness):
    _, surface, thickness, sample = a_plug()
    height = surface.height_um + shape(np.indices(SHAPE[1:])[0]).astype(np.float32) - 50
    probability = (np.arange(SHAPE[0])[:, None, None] < height / 10).astype(np.uint8) * 255
    doubt = judge(probability, Surface(height, surface.opening, 10.0), thickness, sample)
    assert doubt.signs["flatness"] == pytest.approx(flatness, abs=1e-5)
    if not flatness:
        assert doubt.value == 0 and doubt.reason == REASONS["flatness"]


@pytest.mark.parametrize(("radius_um", "flatness"), [(10_000, 1), (1500, 0)])
def test_a_condyle_is_flat_and_a_folded_thing_is_not(radius_um, flatness):
    x = (np.arange(400) - 199.5) * 20.0  # 8 mm: one arc, or humps of 2.5 mm, half as high as wide
    bow = np.sqrt(radius_um**2 - ((x + 1250) % 2500 - 1250 if radius_um < 4000 else x) ** 2)
    surface = Surface(np.tile(bow, (40, 1)).astype(np.float32), np.zeros((40, 400), bool), 20.0)
    deep = np.full((100, 40, 400), 255, np.uint8)
    everywhere = np.ones((40, 400))
    signs = judge(deep, surface, 500 * everywhere, everywhere > 0).signs
    assert signs["flatness"] == flatness


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_thin_stacks_are_as_flat_as_whole_plugs(rows):
    rough = (
        np.random.default_rng(0).normal(200, 18, (rows, 300)).astype(np.float32)
    )  # as a real tidemark's Rq
    surface = Surface(rough, np.zeros(rough.shape, bool), 10.0)
    probability = (np.arange(SHAPE[0])[:, None, None] < rough / 10).astype(np.uint8) * 255
    doubt = judge(probability, surface, np.full(rough.shape, 500.0), np.ones(rough.shape, bool))
    assert doubt.signs["flatness"] == 1
