"""Options that several commands have, told and named alike in each."""

from __future__ import annotations

import math
from enum import Enum
from typing import Annotated, Any

import typer


class BoneEnd(str, Enum):
    """At which end of the scan the bone lies."""

    auto = "auto"
    first = "first"
    last = "last"


Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:N]|mps",
        help="Where to compute; auto takes a GPU if there is one, a missing device is an error.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Keep outputs that exist and make the missing ones.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def refuse_both(overwrite: bool, skip_existing: bool) -> None:
    """Refuse --overwrite together with --skip-existing as wrong usage."""
    if overwrite and skip_existing:
        raise typer.BadParameter("--overwrite and --skip-existing exclude each other.")


def voxel_size_option(told: str) -> Any:
    """Return ``--voxel-size`` with its help: a finite number of µm."""
    return typer.Option(metavar="UM", min=0.01, max=500, callback=_finite, help=told)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):  # no number is above or below "nan"
        raise typer.BadParameter("expected a finite number.")
    return value
