"""A contact sheet of a dataset, to see at a glance whether scans and masks fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from ..data.dataset import Sample, middle_section
from .style import AMBER, DPI, INK

COLUMNS = 7
TILE_INCHES, HEADING_INCHES = 2.0, 6.5


def compose_contact_sheet(samples: Sequence[Sample]) -> Figure:
    """Draw the middle ZX slice of each sample, cartilage at the top, with its mask outlined.

    Raises
    ------
    DatasetError, FormatError
        If a slice is missing or damaged.
    """
    sections = [middle_section(sample) for sample in samples]
    columns = min(COLUMNS, len(samples))
    rows = math.ceil(len(samples) / columns)
    tall = max(scan.shape[0] / scan.shape[1] for scan, _ in sections)
    width = max(HEADING_INCHES, columns * (TILE_INCHES + 0.1) + 0.1)
    height = rows * (TILE_INCHES * tall + 0.45) + 0.45
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    subjects = len({sample.subject_id for sample in samples})
    title = f"{len(samples)} sample(s) of {subjects} subject(s): middle ZX slice, bone down, mask outlined"
    figure.suptitle(title, size=10, color=INK)
    for number, (sample, (scan, mask)) in enumerate(zip(samples, sections, strict=True), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(scan[::-1], cmap="gray", vmin=0, vmax=255)
        hard = mask[::-1] > 0
        if hard.any():
            axes.contour(hard.astype(float), [0.5], colors=AMBER, linewidths=0.8)
        grade = "" if sample.grade is None else f"  (grade {sample.grade})"
        axes.set_title(sample.sample_id + grade, size=8, color=INK, parse_math=False)
        axes.set_axis_off()
    return figure
