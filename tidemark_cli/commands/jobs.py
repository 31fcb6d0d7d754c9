"""Which scans a command takes and which files it writes for each, settled before the work starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from .. import core
from .options import Existing, Spread

SKIPPED = "skipped: every output exists"


@dataclass(frozen=True)
class Job:
    """One scan and the files to write for it, by their kinds.

    Attributes
    ----------
    kept : outputs that exist and stay as they are.
    """

    scan: Path
    outputs: dict[str, Path]
    kept: dict[str, Path] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Its first cells in the table."""
        return (self.scan.name,)

    @property
    def known(self) -> dict[str, Any]:
        """Its first entries in JSON."""
        return {"scan": str(self.scan)}

    @property
    def written(self) -> dict[str, str]:
        """The outputs for JSON."""
        return texts(self.outputs)


def texts(paths: Mapping[str, Path]) -> dict[str, str]:
    """Return paths as JSON takes them."""
    return {name: str(path) for name, path in paths.items()}


def plan_jobs(
    inputs: Sequence[Path],
    targets: Mapping[str, str | None],
    suffixes: Mapping[str, tuple[str, ...]],
    existing: Existing,
    beside: Sequence[Path] = (),
    spread: Spread = Spread(),  # noqa: B008  # frozen
) -> list[Job]:
    """Pair every scan with its outputs, and refuse what could not be written after the work.

    Parameters
    ----------
    inputs : scans, or folders of scans, in which the outputs of other scans are passed over.
    targets : the PATH of each kind of output, None where it is not wanted: a file for a single scan; or a
        folder (existing, or ending in "/" and then made), for files named after the scans.
    suffixes : the endings that each kind of file may have, the first of which it gets in a folder. The first
        kind is what --out asks for, the others have options of their own names.
    existing : where existing outputs are kept, a job may have nothing to write.
    beside : other scans that are read, and that no output may replace.
    spread : the part of the scans to take; the others are only checked for clashes.

    Raises
    ------
    FormatError, OutputError
        If a folder holds no scan; if a file exists, without a word on that, or cannot be written.
    typer.BadParameter
        If several scans would go to a file, two outputs to the same, or one onto a scan or a slice of it.
    """
    scans = [scan for path in inputs for scan in scans_in(path)]
    several = len(scans) > 1 or scans != list(inputs)
    options = {kind: f"--{'out' if number == 0 else kind}" for number, kind in enumerate(suffixes)}
    wanted = {kind: target for kind in suffixes if (target := targets.get(kind)) is not None}
    jobs = [
        Job(scan, {k: _destination(scan, options[k], t, suffixes[k], several) for k, t in wanted.items()})
        for scan in scans
    ]
    jobs = _without_outputs(jobs, inputs, wanted)
    _refuse_clashes(jobs, beside, options)
    jobs = spread.taken(jobs, lambda job: job.scan)
    for target in filter(_means_folder, wanted.values()):
        Path(target).mkdir(parents=True, exist_ok=True)
    if existing.skip_existing:
        jobs = [_keeping_existing(job) for job in jobs]
    for job in jobs:
        for path in job.outputs.values():
            core.files.check_writable(path, existing.overwrite)
    return jobs


def scans_in(path: Path) -> list[Path]:
    """Return the scans of a folder, or `path` itself; raise a FormatError if the folder has none."""
    found = core.scans.volume.find_scans(path) if path.is_dir() else [path]
    if not found:
        raise core.errors.FormatError(
            f"{path}: expected a scan, a folder of slices or a folder of scans, found no scan in it."
        )
    return found


def _without_outputs(jobs: Sequence[Job], inputs: Sequence[Path], targets: Mapping[str, str]) -> list[Job]:
    """Leave out the outputs of an earlier run among the scans, unless they are inputs by their own names."""
    written = {Path(target).resolve() for target in targets.values() if _means_folder(target)}
    for job in jobs:
        written |= {path.resolve() for path in job.outputs.values()} - {job.scan.resolve()}
    left = [job for job in jobs if job.scan in inputs or job.scan.resolve() not in written]
    return left or list(jobs)  # if all would replace one another, the next check says so


def _keeping_existing(job: Job) -> Job:
    kept = {kind: path for kind, path in job.outputs.items() if path.exists()}
    return replace(job, outputs={k: path for k, path in job.outputs.items() if k not in kept}, kept=kept)


def _means_folder(target: str) -> bool:
    return target.endswith(("/", os.sep)) or (Path(target).is_dir() and not target.endswith(".zarr"))


def _destination(scan: Path, option: str, target: str, suffixes: tuple[str, ...], several: bool) -> Path:
    if _means_folder(target):
        return Path(target) / (core.scans.scan_names.scan_name(scan) + suffixes[0])
    if several:
        raise typer.BadParameter(
            f"{option} {target}: expected a folder, for several scans or for a folder of scans; make it, or "
            "end its name in /."
        )
    return named_file(option, target, suffixes)


def named_file(option: str, target: str, suffixes: tuple[str, ...]) -> Path:
    """Return `target` as a path; refuse it as wrong usage if it ends in none of `suffixes`."""
    if not target.lower().endswith(suffixes) or Path(target).name.lower() in suffixes:
        raise typer.BadParameter(f"{option} {target}: expected a name ending in {', '.join(suffixes)}.")
    return Path(target)


def _refuse_clashes(jobs: Sequence[Job], beside: Sequence[Path], options: Mapping[str, str]) -> None:
    """Raise if two outputs would be one file, or an output would be a scan or one of its slices."""
    scans = {scan.resolve() for scan in (*(job.scan for job in jobs), *beside)}
    stacks = [series for scan in scans if scan.is_dir() for series in core.scans.skyscan.list_series(scan)[0]]
    scans |= {path.resolve() for series in stacks for path in series.files}
    taken: dict[Path, str] = {}
    for job in jobs:
        for kind, path in job.outputs.items():
            place, claim = path.resolve(), f"{options[kind]} of {job.scan}"
            if place in scans:
                raise typer.BadParameter(f"{claim} would replace the scan {path}; name another file.")
            if place in taken:
                raise typer.BadParameter(
                    f"{taken[place]} and {claim} would both be {path}; name other files."
                )
            taken[place] = claim


def volume_suffixes() -> tuple[str, ...]:
    """Return the endings of files that a volume can be written to; in a folder it gets the first."""
    return (*core.scans.formats.TIFF_SUFFIXES, *core.scans.volume.ITK_SUFFIXES)


def running_on(device: str) -> str:
    """Return a line on the device chosen; raise a DeviceError if it is missing."""
    chosen = core.network.devices.choose_device(device)
    return f"device: {chosen}{' (auto)' if device == 'auto' else ''}"


def described(volume: core.scans.volume.Volume) -> str:
    """Return the size of a scan in words."""
    shape = " x ".join(map(str, volume.array.shape))
    return f"{shape} voxels (Z x Y x X) of {volume.voxel_um:g} µm"
