"""``tidemark phantom``: synthetic plugs with their true mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console, core
from .jobs import named_file
from .options import Overwrite, voxel_size_option

SMALLEST = 64  # voxels a side: less holds no plug


def phantom(
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="The PTA scan (.tif, .nrrd, .nii.gz, ...), or a set's folder."),
    ],
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same plug.")] = 0,
    size: Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="Voxels along each axis.")] = (
        768,
        448,
        448,
    ),
    voxel_size: Annotated[float, voxel_size_option("Voxel size in µm.")] = 3.2,
    mask: Annotated[str | None, typer.Option(metavar="PATH", help="Write the true hard-tissue mask.")] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the CA4+ scan of the same plug, remounted, and beside it the true transform (.tfm).",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help="Draw a set of this many: OUT and every PATH are folders of SUBJECT_SAMPLE.tif."
        ),
    ] = None,
    subjects: Annotated[
        int | None,
        typer.Option(
            min=1, help="Subjects that the names share the samples among; the plugs are drawn apart."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a synthetic osteochondral plug as a PTA scan, with its true mask on request."""
    if min(size) < SMALLEST:
        raise typer.BadParameter(f"--size: expected at least {SMALLEST} voxels along each axis.")
    if subjects is not None and not subjects <= (samples or 0):
        raise typer.BadParameter("--subjects: expected --samples with it, at least one for each subject.")
    wanted = {"OUT": out, "--mask": mask, "--pair": pair}
    targets = {option: path for option, path in wanted.items() if path is not None}
    plugs = _plan(targets, samples, subjects, overwrite)

    for number, paths in enumerate(plugs):
        with console.progress(f"[{number + 1}/{len(plugs)}] {paths['OUT'].name}") as advance:
            drawn = core.phantoms.phantom.draw_phantom(
                seed + number, size, voxel_size, pair=pair is not None, progress=advance
            )
        _write(drawn, paths, overwrite)
        console.result("\n".join(str(path) for path in paths.values()))


def _plan(
    targets: dict[str, str], samples: int | None, subjects: int | None, overwrite: bool
) -> list[dict[str, Path]]:
    """Name every file to write, and refuse what could not be written after the work."""
    if samples is None:
        suffixes = (*core.scans.formats.TIFF_SUFFIXES, *core.scans.volume.ITK_SUFFIXES)
        plugs = [{option: named_file(option, target, suffixes) for option, target in targets.items()}]
    else:
        count = subjects or samples
        names = [f"S{i % count + 1:02d}_{i // count + 1}" for i in range(samples)]
        plugs = [
            {option: Path(target) / f"{name}.tif" for option, target in targets.items()} for name in names
        ]
        for target in targets.values():
            Path(target).mkdir(parents=True, exist_ok=True)
    for paths in plugs:
        if "--pair" in paths:
            pair = paths["--pair"]
            paths["transform"] = pair.with_name(f"{core.scans.scan_names.scan_name(pair)}.tfm")
        if len({path.resolve() for path in paths.values()}) < len(paths):
            raise typer.BadParameter("OUT, --mask and --pair: expected a name or folder of its own for each.")
        for path in paths.values():
            core.files.check_writable(path, overwrite)
    return plugs


def _write(drawn: core.phantoms.phantom.Phantom, paths: dict[str, Path], overwrite: bool) -> None:

    with core.files.all_or_none():
        for option, array in (("OUT", drawn.scan), ("--mask", drawn.mask), ("--pair", drawn.ca4)):
            if option in paths and array is not None:
                core.scans.volume.write_volume(paths[option], array, drawn.voxel_um, overwrite=overwrite)
        if drawn.matrix is not None:
            core.registration.transform.write_transform(paths["transform"], drawn.matrix)
