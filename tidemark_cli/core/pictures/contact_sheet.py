"""All samples of a dataset on one picture, to see at a glance whether scans and masks are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..data.dataset import Sample, middle_section
from ..files import check_writable
from .style import AMBER, DPI, INK, write_picture

COLUMNS = 7
TILE_INCHES, HEADING_INCHES = 2.0, 6.5


def draw_contact_sheet(path: Path, samples: Sequence[Sample], overwrite: bool = False) -> None:
    """Write a PNG with the middle ZX slice of each sample, cartilage up, bone down, the mask outlined.

    Raises
    ------
    DatasetError, FormatError
        If a slice is missing or damaged.
    OutputError
        If `path` exists and `overwrite` is false, or cannot be written.
    """
    check_writable(path, overwrite)
    sections = [middle_section(sample) for sample in samples]
    columns = min(COLUMNS, len(samples))
    rows = math.ceil(len(samples) / columns)
    tall = max(scan.shape[0] / scan.shape[1] for scan, _ in sections)
    width = max(HEADING_INCHES, columns * (TILE_INCHES + 0.1) + 0.1)
    height = rows * (TILE_INCHES * tall + 0.45) + 0.45
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    subjects = len({sample.subject_id for sample in samples})
    told = f"{len(samples)} sample(s) of {subjects} subject(s): middle ZX slice, bone down, mask outlined"
    figure.suptitle(told, size=10, color=INK)
    for number, (sample, (scan, mask)) in enumerate(zip(samples, sections, strict=True), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(scan[::-1], cmap="gray", vmin=0, vmax=255)
        hard = mask[::-1] > 0
        if hard.any():
            axes.contour(hard.astype(float), [0.5], colors=AMBER, linewidths=0.8)
        grade = "" if sample.grade is None else f"  (grade {sample.grade})"
        axes.set_title(sample.sample_id + grade, size=8, color=INK, parse_math=False)
        axes.set_axis_off()
    write_picture(path, figure)
