"""The figure of the scores: a line for each threshold, and the published points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.pictures.scores import PUBLISHED, compose_figure
from tidemark_cli.core.pictures.style import write_picture
from tidemark_cli.core.scoring.scores import OVERLAPS, PAPER_PADS_UM, SampleScore, Scores

SPREAD = (-0.1, 0.0, 0.05)  # of three samples about their median


def scores(
    medians: dict[float, tuple[float, ...]], pads_um: tuple[float, ...] = (15.0, 30.0), paper: bool = False
) -> Scores:
    """Return scores of three samples, their medians by threshold; dice is 0.1 higher than IoU, and so on."""
    rows = [
        SampleScore(
            sample=f"S{number}",
            threshold=threshold,
            voxel_um=3.2,
            bone_end="first",
            pads_voxels=(5,) * len(pads_um),
            overlap={name: tuple(v + 0.1 * i + off for v in values) for i, name in enumerate(OVERLAPS)},
            all_hard=dict.fromkeys(OVERLAPS, (0.5 + off,) * len(pads_um)),
            hard_share=(0.5,) * len(pads_um),
            surface={},
        )
        for number, off in enumerate(SPREAD)
        for threshold, values in medians.items()
    ]
    return Scores(pads_um, tuple(medians), paper, tuple(rows), {}, ())


def test_the_medians_of_each_measure_at_each_threshold() -> None:
    panels = compose_figure(scores({0.3: (0.6, 0.7), 0.5: (0.2, 0.3)})).axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "(a) IoU",
        "(b) Dice",
        "(c) Volumetric similarity",
    ]
    for more, axes in zip((0, 0.1, 0.2), panels, strict=True):
        assert [line.get_label() for line in axes.lines] == ["threshold 0.3", "threshold 0.5", "all hard"]
        expected = [[0.6 + more, 0.7 + more], [0.2 + more, 0.3 + more], [0.5, 0.5]]
        np.testing.assert_allclose([line.get_ydata() for line in axes.lines], expected)
    assert panels[0].get_ylabel() == "median of 3 samples"
    assert panels[0].get_ylim()[0] == pytest.approx(0.18)  # below the lowest line


def test_the_published_points_are_as_they_were_published() -> None:
    medians = {0.3: (0.6,) * len(PAPER_PADS_UM)}
    lines = compose_figure(scores(medians, PAPER_PADS_UM, paper=True)).axes[0].lines
    grey = [line for line in lines if line.get_color() == PUBLISHED]
    assert [list(line.get_xdata()) for line in grey] == [[15, 30, 45, 60, 75]] * 3
    assert [list(line.get_ydata()) for line in grey] == [
        [0.57, 0.71, 0.77, 0.82, 0.85],
        [0.44, 0.65, 0.73, 0.79, 0.82],
        [0.59, 0.70, 0.79, 0.83, 0.86],
    ]
    others = compose_figure(scores(medians, PAPER_PADS_UM)).axes
    assert not any(line.get_color() == PUBLISHED for axes in others for line in axes.lines)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_figure_is_written(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"figure.{suffix}"
    page = compose_figure(scores({0.3: (0.6, 0.7)}))
    write_picture(path, page)
    assert path.read_bytes().startswith(start)
    with pytest.raises(OutputError, match="--overwrite"):
        write_picture(path, page)
