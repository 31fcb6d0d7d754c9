"""Options that several commands have, told and named alike in each."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class BoneEnd(str, Enum):
    """At which end of the scan the bone lies."""

    auto = "auto"
    first = "first"
    last = "last"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Keep outputs that exist and make the missing ones.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def refuse_both(overwrite: bool, skip_existing: bool) -> None:
    """Refuse --overwrite together with --skip-existing as wrong usage."""
    if overwrite and skip_existing:
        raise typer.BadParameter("--overwrite and --skip-existing exclude each other.")
