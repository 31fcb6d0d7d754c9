"""Scores to files: a table of all samples as CSV, everything as JSON."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import check_writable, written_whole
from ..names import open_table
from .scores import DEFINITIONS, OVERLAPS, SURFACES, Scores


def write_csv(path: Path, scores: Scores, overwrite: bool = False) -> None:
    """Write a row for each sample and threshold, and the reason for each sample that was not scored.

    Every row of a threshold has its mean bias over all samples, with the interval.

    Raises
    ------
    OutputError
        If `path` cannot be written, or exists and `overwrite` is false.
    """
    check_writable(path, overwrite)
    zones = [f"{measure}_{pad:g}um" for measure in OVERLAPS for pad in scores.pads_um]
    floors = [f"all_hard_{zone}" for zone in zones]
    means = ("bias_mean_um", "bias_low_um", "bias_high_um")
    heads = ("sample", "threshold", "voxel_um", "zones", *zones, *floors, *SURFACES, *means, "not_scored")
    with written_whole(path) as temporary, open_table(temporary) as file:
        table = csv.DictWriter(file, heads, restval="")
        table.writeheader()
        for row in scores.rows:
            cells: dict[str, Any] = {"sample": row.sample, "threshold": row.threshold}
            cells |= {"voxel_um": row.voxel_um, "zones": _zones(scores)} | row.surface
            for names, overlap in ((zones, row.overlap), (floors, row.all_hard)):
                values = [value for measure in OVERLAPS for value in overlap[measure]]
                cells |= dict(zip(names, values, strict=True))
            if bias := scores.bias(row.threshold):
                cells |= dict(zip(means, (bias.mean_um, bias.low_um, bias.high_um), strict=True))
            table.writerow(cells)
        for sample, reason in scores.not_scored.items():
            table.writerow({"sample": sample, "not_scored": reason})


def as_json(scores: Scores) -> dict[str, Any]:
    """Return everything, with the definitions, as it goes into JSON."""
    floors = {measure: [asdict(zone) for zone in scores.all_hard(measure)] for measure in OVERLAPS}
    summary = []
    for threshold in scores.thresholds:
        bias = scores.bias(threshold)
        summary.append(
            {"threshold": threshold, "samples": scores.count}
            | {measure: [asdict(zone) for zone in scores.overlap(measure, threshold)] for measure in OVERLAPS}
            | {"all_hard": floors, "bias": bias and asdict(bias) | {"offset_um": bias.offset_um}}
            | {m: s and asdict(s) for m in SURFACES for s in [scores.surface(m, threshold)]}
        )
    samples = []
    for row in scores.rows:
        content = asdict(row)
        samples.append(content | content.pop("overlap") | content.pop("surface"))
    return {
        "zones": _zones(scores),
        "pads_um": scores.pads_um,
        "summary": summary,
        "samples": samples,
        "not_scored": scores.not_scored,
        "notes": scores.notes,
        "definitions": DEFINITIONS,
    }


def _zones(scores: Scores) -> str:
    return "paper" if scores.paper else "micrometres"
