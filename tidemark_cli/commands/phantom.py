"""``tidemark phantom``: synthetic plugs with their true mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import core
from ..core.settings import Kind, Limits, check_limits
from . import batch
from .batch import Outcome
from .from_fields import Look, Without
from .jobs import Job, named_file, volume_suffixes
from .options import Existing, Screen, Target

SMALLEST = 64  # voxels a side: less holds no plug


@dataclass(frozen=True)
class Outputs:
    """What to write.

    Attributes
    ----------
    out : the PTA scan (.tif, .nrrd, .nii.gz, ...), or a set's folder.
    mask : write the true hard-tissue mask.
    pair : write the CA4+ scan of the same plug, remounted, and beside it the true transform (.tfm).
    """

    out: Annotated[str, Look("OUT", argument=True)]
    mask: Target = None
    pair: Target = None


@dataclass(frozen=True)
class Drawing:
    """What to draw.

    Attributes
    ----------
    seed : the same seed draws the same plug.
    size : voxels along each axis.
    voxel_um : voxel size in µm.
    kind : plug is drilled, up to 2 mm wide; wide is one of 4 mm; block is sawn, 3 x 4 mm; slab is sawn from a
        condyle, curved, 10 to 14 mm long. What does not fit into the size is cut off.
    """

    seed: Annotated[int, Limits(0)] = 0
    size: Annotated[tuple[int, int, int], Look("Z Y X")] = (768, 448, 448)
    voxel_um: Annotated[float, Limits(0.01, 500)] = 3.2
    kind: Kind = "plug"

    def __post_init__(self) -> None:
        check_limits(self)
        if min(self.size) < SMALLEST:
            raise ValueError(f"size: expected at least {SMALLEST} voxels along each axis")


@dataclass(frozen=True)
class Set:
    """How many plugs to draw.

    Attributes
    ----------
    samples : draw a set of this many: OUT and every PATH are folders, of S01_1.tif and so on.
    subjects : subjects that the names share the samples among; the plugs are drawn apart.
    """

    samples: Annotated[int | None, Limits(1)] = None
    subjects: Annotated[int | None, Limits(1)] = None

    def __post_init__(self) -> None:
        if self.subjects is not None and not self.subjects <= (self.samples or 0):
            raise ValueError("subjects: expected --samples with it, at least one for each subject")


@dataclass(frozen=True)
class Plug(Job):
    """A plug to draw: the files to write, and its number in the set."""

    number: int = 0


def phantom(
    outputs: Outputs,
    plug: Drawing,
    a_set: Set,
    existing_outputs: Annotated[Existing, Without(["skip_existing"])],
    on_screen: Screen,
) -> None:
    """Draw a synthetic osteochondral plug as a PTA scan, with its true mask on request.

    Examples
    --------
    tidemark phantom sample.tif --seed 7 --mask truth.tif
    tidemark phantom pta.tif --pair ca4.tif --size 256 256 256 --voxel-size 8
    tidemark phantom slab.tif --kind slab --size 448 320 1400 --voxel-size 9
    tidemark phantom scans/ --mask masks/ --samples 6 --subjects 3
    """
    wanted = {"OUT": outputs.out, "--mask": outputs.mask, "--pair": outputs.pair}
    targets = {option: path for option, path in wanted.items() if path is not None}
    plugs = _plan(targets, a_set, existing_outputs.overwrite)
    work = partial(_draw, how=plug, overwrite=existing_outputs.overwrite, screen=on_screen)
    batch.end(batch.run(work, plugs, on_screen, ("scan", "written beside it")))


def _plan(targets: dict[str, str], wanted: Set, overwrite: bool) -> list[Plug]:
    """Name every file to write, and refuse what could not be written after the work."""
    if wanted.samples is None:
        plugs = [{option: named_file(option, path, volume_suffixes()) for option, path in targets.items()}]
    else:
        count = wanted.subjects or wanted.samples
        names = [f"S{i % count + 1:02d}_{i // count + 1}" for i in range(wanted.samples)]
        plugs = [{option: Path(path) / f"{name}.tif" for option, path in targets.items()} for name in names]
        for target in targets.values():
            Path(target).mkdir(parents=True, exist_ok=True)
    for paths in plugs:
        if pair := paths.get("--pair"):
            paths["transform"] = pair.with_name(f"{core.scans.scan_names.scan_name(pair)}.tfm")
        if len({path.resolve() for path in paths.values()}) < len(paths):
            raise typer.BadParameter("OUT, --mask and --pair: expected a name or folder of its own for each.")
        for path in paths.values():
            core.files.check_writable(path, overwrite)
    return [Plug(paths["OUT"], paths, number=number) for number, paths in enumerate(plugs)]


def _draw(plug: Plug, label: str, *, how: Drawing, overwrite: bool, screen: Screen) -> Outcome:
    """Draw one plug and write its files: all of them, or none."""
    paths = plug.outputs
    with screen.progress(label.removesuffix(": ") or plug.scan.name) as advance:
        drawn = core.phantoms.phantom.draw_phantom(
            how.seed + plug.number,
            how.size,
            how.voxel_um,
            pair="--pair" in paths,
            kind=how.kind,
            progress=advance,
        )
    with core.files.all_or_none():
        for option, array in (("OUT", drawn.scan), ("--mask", drawn.mask), ("--pair", drawn.ca4)):
            if option in paths and array is not None:
                core.scans.volume.write_volume(paths[option], array, drawn.voxel_um, overwrite=overwrite)
        if drawn.matrix is not None:
            core.registration.transform.write_transform(paths["transform"], drawn.matrix)
    written = {name.lower(): path for name, path in plug.written.items()}
    content: dict[str, Any] = {"seed": how.seed + plug.number, "outputs": written}
    beside = ", ".join(name for name in written if name != "out")
    return Outcome("done", beside, tuple(map(str, paths.values())), content)
