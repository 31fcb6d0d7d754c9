"""The coarse search: block means, outlines and candidates on a small plug."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers import draw_small_plug
from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.registration import search
from tidemark_cli.core.registration.search import block_means, find_candidates, look, otsu_levels
from tidemark_cli.core.scans.volume import Volume

VOXEL_UM = 55.0
MM = VOXEL_UM / 1000


@pytest.fixture(scope="module")
def plug() -> np.ndarray:
    return draw_small_plug(0)


def volume(array: np.ndarray, voxel_um: float = VOXEL_UM) -> Volume:
    return Volume(array, voxel_um, "file", Path("plug.tif"))


def test_block_means_by_hand() -> None:
    array = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6)
    means = block_means(volume(array, 1000.0), 2)
    assert means.array.shape == (2, 2, 3)
    assert means.array[0, 0, 0] == np.mean([0, 1, 6, 7, 24, 25, 30, 31])
    np.testing.assert_allclose(means.points(np.array([[0, 0, 0], [1, 0, 2]])), [[0.5] * 3, [4.5, 0.5, 2.5]])
    part = block_means(volume(array, 1000.0), 2, (slice(1, 5), slice(2, 4), slice(0, 5)))
    assert part.array.shape == (2, 1, 2)
    assert part.array[0, 0, 0] == array[1:3, 2:4, 0:2].mean()
    np.testing.assert_allclose(part.points(np.array([[0, 0, 0]])), [[0.5, 2.5, 1.5]])


def test_the_outline_is_the_plug(plug: np.ndarray) -> None:
    found = look(volume(plug))
    assert found.factor == 1
    assert found.outline.sum() == pytest.approx(44 * np.pi * 18**2, rel=0.1)
    assert abs(found.axis[2]) > 0.999
    np.testing.assert_allclose(found.middle_mm, np.array([21.5, 21.5, 25.5]) * MM, atol=MM)


def test_wax_that_hides_the_air_is_not_the_plug(plug: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(array: np.ndarray, voxel_um: float) -> SimpleNamespace:
        return SimpleNamespace(tissue_level=float(array.min()) - 1)  # no background, as `find_plug` says it

    monkeypatch.setattr(search, "find_plug", blind)
    outline = look(volume(plug)).outline
    assert 0.3 < outline.mean() < 0.6  # of the field; the cylinder fills 44 %


def test_a_scan_without_a_plug_is_an_error(plug: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "otsu_levels", lambda array: (255.0, 255.0))
    monkeypatch.setattr(search, "find_plug", lambda *_: SimpleNamespace(tissue_level=255.0))
    with pytest.raises(ContentError, match=r"plug\.tif: no plug found"):
        look(volume(plug))


def test_a_quarter_turn_is_the_likeliest_of_candidates_that_lie_apart(plug: np.ndarray) -> None:
    turned = look(volume(np.rot90(plug, axes=(1, 2))))
    told: list[tuple[int, int]] = []
    found = find_candidates(look(volume(plug)), turned, 3, lambda *steps: told.append(steps))
    assert len(found) == 3 and told == [(n, 120) for n in range(1, 121)]
    # rot90 takes voxel (y, x) to (43 - x, y)
    np.testing.assert_allclose(abs(found[0][:3, :3]), [[0, 1, 0], [1, 0, 0], [0, 0, 1]], atol=0.09)
    corner = found[0] @ (4 * MM, 30 * MM, 20 * MM, 1)
    np.testing.assert_allclose(corner[:3], (30 * MM, 39 * MM, 20 * MM), atol=1.5 * MM)


def test_otsu_levels_lie_between_three_classes() -> None:
    low, high = otsu_levels(np.repeat(np.array([0, 100, 250], np.uint8), 90).reshape(9, 5, 6))
    assert 0 <= low < 100 <= high < 250
