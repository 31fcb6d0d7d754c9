"""Headings, scale bars and the writing of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.pictures.style import bare, heading, scale_bar, write_picture


@pytest.mark.parametrize(
    ("width", "unit_um", "told"), [(800, 1.0, "200 µm"), (500, 3.2, "500 µm"), (36, 40.0, "500 µm")]
)
def test_a_scale_bar_is_round_and_about_a_quarter(width: int, unit_um: float, told: str) -> None:
    axes = Figure().subplots()
    axes.set(xlim=(0, width), ylim=(0, width))
    scale_bar(axes, unit_um)
    assert [text.get_text() for text in axes.texts] == [told]
    bar = axes.patches[0]
    assert bar.get_width() * width * unit_um == pytest.approx(float(told.split()[0]))
    assert bar.get_x() + bar.get_width() == pytest.approx(0.96)


def test_a_note_stands_above_the_length() -> None:
    axes = Figure().subplots()
    axes.set(xlim=(0, 800), ylim=(0, 800))
    scale_bar(axes, note="assumed")
    assert axes.texts[0].get_text() == "assumed\n200 µm"


def test_a_heading_has_a_line_for_each_warning() -> None:
    figure = Figure()
    heading(figure, "$title$", "told", ["one", "two"])
    assert [text.get_text() for text in figure.texts] == ["$title$", "told", "one", "two"]
    assert len({text.get_position()[1] for text in figure.texts[2:]}) == 2


def test_bare_axes_have_no_ticks_and_no_frame() -> None:
    axes = Figure().subplots()
    bare(axes)
    assert not len(axes.get_xticks()) and not len(axes.get_yticks())
    assert not any(spine.get_visible() for spine in axes.spines.values())


def test_letters_that_are_none_are_written_as_question_marks(tmp_path: Path) -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "lat\udce4")
    write_picture(tmp_path / "p.svg", figure)
    assert figure.texts[0].get_text() == "lat?"


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        write_picture(tmp_path / "missing" / "p.png", Figure())
