"""The paper's figure 4: overlap in zones about the tidemark, medians over the samples."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..scoring.scores import PAPER_PADS_UM, PAPER_ROWS, Scores
from .style import FAINT, INK, PAPER

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
PUBLISHED = "#9aa3ad"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # safe for colour-blind readers
PANELS = (("iou", "IoU"), ("dice", "Dice"), ("volumetric_similarity", "Volumetric similarity"))


def compose_figure(scores: Scores) -> Figure:
    """Draw the medians of IoU, Dice and volumetric similarity over the pads, a line for each threshold.

    The dotted line is the score of a mask that is hard tissue everywhere. In the zones of the published
    table, grey lines show its IoU at 15 to 75 µm, the only medians published as numbers.
    """
    figure = Figure(figsize=(13, 4.9), dpi=150, facecolor=PAPER, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, letter, (measure, name) in zip(panels, "abc", PANELS, strict=True):
        if measure == "iou" and scores.paper:
            _draw_published(axes)
        for i, threshold in enumerate(scores.thresholds):
            medians = [zone.median for zone in scores.overlap(measure, threshold)]
            width = min(4, 1 + len(scores.thresholds) - i)  # so that a line under another still shows
            style = {"color": LINES[i % len(LINES)], "lw": width, "marker": "o", "ms": 2.5 * width}
            axes.plot(scores.pads_um, medians, label=f"threshold {threshold:g}", **style)
        floor = [zone.median for zone in scores.all_hard(measure)]
        axes.plot(scores.pads_um, floor, label="all hard", color=FAINT, ls=(0, (1, 2)), lw=1.4)
        axes.set_title(f"({letter}) {name}", size=13, color=INK, loc="left")
        axes.set_xlabel(f"pad, µm{' (5 voxels to 15 µm)' if scores.paper else ''}", color=INK, size=11)
        axes.set_xticks(scores.pads_um)
        axes.grid(color="#e4e7eb", lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=FAINT, labelcolor=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[:].set_color(FAINT)
    lowest = min(line.get_ydata().min() for axes in panels for line in axes.lines)
    panels[0].set_ylim(min(0.4, lowest - 0.02), 1.01)  # the published points begin at 0.44
    samples = f"median of {scores.count} samples" if scores.count > 1 else "one sample"
    panels[0].set_ylabel(samples, color=INK, size=11)
    handles = panels[0].get_legend_handles_labels()
    plain: dict[str, Any] = {"frameon": False, "fontsize": 10, "labelcolor": INK}
    figure.legend(*handles, loc="outside lower center", ncols=6, **plain)
    return figure


def _draw_published(axes: Axes) -> None:
    for (loss, threshold, points), style in zip(PAPER_ROWS, ("--", ":", "-"), strict=True):
        pads, medians = PAPER_PADS_UM[: len(points)], [median for median, _ in points]
        name = f"published {loss}, {threshold:g}"
        axes.plot(pads, medians, color=PUBLISHED, ls=style, marker="o", lw=1.4, ms=3.5, label=name)
