"""Pairs of a PTA scan and its mask or CA4+ scan, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from .. import core
from ..core.scans.scan_names import sample_name, scan_name, split_member
from .jobs import scans_in


def pair_scans(inputs: Sequence[Path], option: str, other: Path) -> list[tuple[Path, Path]]:
    """Return each scan with its partner in `other`.

    Parameters
    ----------
    inputs : scans, or folders of scans.
    option : of `other`, for messages.
    other : one scan, for one input; or a folder of scans, matched by their whole names, else by
        `sample_name`.

    Raises
    ------
    ScanError
        If something does not exist, a folder holds no scan, or a scan has no partner or several.
    typer.BadParameter
        If `other` is one scan for several inputs.
    """
    scans = [scan for path in inputs for scan in _scans(path)]
    others = _scans(other)
    if others == [other]:
        if len(scans) > 1:
            raise typer.BadParameter(f"{option} {other}: expected a folder of scans for several inputs.")
        return [(scans[0], other)]
    given = {scan.resolve() for scan in scans}
    others = [one for one in others if one.resolve() not in given]
    pairs = []
    for scan in scans:
        found = _partners(scan, others)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise core.errors.ScanError(
                f"{scan}: expected one scan of its name ({sample_name(scan)}) in {option} {other}, "
                f"found {names}; rename or add it."
            )
        pairs.append((scan, found[0]))
    return pairs


def _scans(path: Path) -> list[Path]:
    if not split_member(path)[0].exists():
        raise core.errors.ScanError(
            f"{path} does not exist; expected a scan or a folder of scans; check the name."
        )
    return scans_in(path)


def _partners(scan: Path, others: Sequence[Path]) -> list[Path]:
    same = [one for one in others if scan_name(one) == scan_name(scan)]
    return same or [one for one in others if sample_name(one) == sample_name(scan)]
