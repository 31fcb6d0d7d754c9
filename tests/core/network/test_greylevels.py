"""Grey levels of any kind as a network wants them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.network.nets import STANDARD, WINDOW, noise
from tidemark_cli.core.network.greylevels import black, normaliser
from tidemark_cli.core.network.unet import ModelInfo


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


def test_air_is_grey_level_0_or_the_low_end_of_the_window() -> None:
    assert (black(STANDARD), black(WINDOW)) == (-2, 0)
