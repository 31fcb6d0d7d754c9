"""The scanner's artefacts and what processing takes away, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from tidemark_cli.core.phantoms.scanner import Processing, Scanner, ring_profile
from tidemark_cli.core.phantoms.texture import make_grid

CLEAN = Scanner(blur=0, noise=0, noise_blur=0, ring=0, hardening=0, shading=0, low=0, high=255, gamma=1)


def test_each_kind_of_processing_takes_detail_away():
    rng = np.random.default_rng(0)
    grey = np.full((64, 64), 100, np.float32) + 5 * rng.standard_normal((64, 64)).astype(np.float32)
    for kind in Processing.KINDS[1:]:
        out = Processing(kind, 0.8).apply(grey)
        assert out.shape == grey.shape and out.dtype == np.float32
        assert out.std() < 0.7 * grey.std(), kind
        assert out.mean() == pytest.approx(100, abs=0.5)
    np.testing.assert_allclose(Processing("none", 0.8).apply(grey), np.rint(grey))


def test_a_scanner_without_artefacts_changes_nothing():
    grid = make_grid((4, 5, 6), 3.2)
    tissue = np.random.default_rng(0).uniform(0, 255, grid.shape).astype(np.float32)
    np.testing.assert_allclose(
        CLEAN.scan(np.random.default_rng(0), tissue, grid, np.zeros(20)), tissue, atol=1e-3
    )


def test_the_window_and_gamma_by_hand():
    grid = make_grid((1, 1, 3), 3.2)
    tissue = np.array([[[50.0, 100.0, 300.0]]], np.float32)
    scanner = replace(CLEAN, low=50, high=150, gamma=2)
    np.testing.assert_allclose(
        scanner.scan(np.random.default_rng(0), tissue, grid, np.zeros(9)), [[[0, 63.75, 255]]], atol=1e-3
    )


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_noise_has_the_standard_deviation_asked_for(blur):
    grid = make_grid((40, 40, 40), 3.2)
    scanner = replace(CLEAN, noise=6, noise_blur=blur)
    scan = scanner.scan(np.random.default_rng(0), np.full(grid.shape, 128, np.float32), grid, np.zeros(99))
    assert scan.std() == pytest.approx(6, rel=0.05)


def test_rings_depend_on_the_distance_from_the_axis_alone():
    grid = make_grid((2, 9, 9), 3.2)
    rings = ring_profile(np.random.default_rng(1), 20)
    scan = replace(CLEAN, ring=5).scan(
        np.random.default_rng(0), np.full(grid.shape, 100, np.float32), grid, rings
    )
    np.testing.assert_allclose(scan, scan.transpose(0, 2, 1))
    np.testing.assert_allclose(scan[0], scan[1])
    assert scan[0, 4, 6] == pytest.approx(100 + 5 * rings[2], abs=1e-3)
