"""``tidemark register``: CA4+ scans onto PTA scans of the same plugs, and hard-tissue masks from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import console, core
from .jobs import Job, plan_jobs
from .options import Overwrite, Quiet, SkipExisting, refuse_both, voxel_size_option
from .pairs import pair_scans

if TYPE_CHECKING:
    import numpy as np


class Metric(str, Enum):
    """What the refinement minimises or maximises."""

    mi = "mi"
    mse = "mse"


@dataclass(frozen=True)
class Run:
    """What is the same for all pairs of one command."""

    metric: Metric
    threshold: float | None
    initial: Path | None
    apply: bool
    accept: bool
    voxel_um: float | None
    overwrite: bool
    quiet: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one pair: "done", "refused", "skipped" or "failed", with reason and exit code."""

    job: Job
    ca4: Path
    state: str
    error: str = ""
    code: int = 0
    found: core.registration.register.Registration | None = None


def register(
    pta: Annotated[Path, typer.Argument(metavar="PTA", help="The scan that stays, or a folder of scans.")],
    ca4: Annotated[
        Path,
        typer.Argument(
            metavar="CA4",
            help="The CA4+ scan of the same plug; for a folder a folder, matched by the names, whole or up "
            "to _PTA, _CA4 or _rec.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="REGISTERED",
            help="CA4+ in PTA's frame: .tif, .nrrd, .nii.gz, .nii or .mha. A folder (existing or "
            "ending in /) takes NAME.tif of each PTA scan; needed for folders, then for every PATH below.",
        ),
    ],
    mask: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write the hard-tissue mask, 8-bit, 0 and 255.")
    ] = None,
    threshold: Annotated[
        str,
        typer.Option(
            metavar="otsu|VALUE",
            help="Hard tissue is where CA4+ is above this grey level; otsu takes one between cartilage and "
            "bone.",
        ),
    ] = "otsu",
    metric: Annotated[
        Metric, typer.Option(help="Refine by mutual information, or by the paper's mean squared error.")
    ] = Metric.mi,
    transform: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write the transform, .tfm for ITK and 3D Slicer.")
    ] = None,
    initial: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Start from this rigid transform (.tfm, .txt or .h5, as 3D Slicer saves it) instead of "
            "searching; for folders, a folder with NAME.tfm of each PTA scan.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Take --initial as it is: resample only, judge nothing.")
    ] = False,
    preview: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write a picture to judge the result by, PNG.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the result even where its quality is below 0.4.")
    ] = False,
    voxel_size: Annotated[
        float | None,
        voxel_size_option("Voxel size of both scans in µm. Without it, each file's or log's, else 3.2."),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each pair.")] = False,
) -> None:
    """Align CA4+ scans onto PTA scans, and take the hard tissue from them."""
    refuse_both(overwrite, skip_existing)
    if apply and initial is None:
        raise typer.BadParameter("--apply: expected --initial with it, the transform to apply.")
    level = _level(threshold)
    wanted = {"--out": out, "--mask": mask, "--transform": transform, "--preview": preview}
    targets = {option: path for option, path in wanted.items() if path is not None}
    pairs = pair_scans([pta], "CA4", ca4)
    scans, others = [one for one, _ in pairs], [other for _, other in pairs]
    jobs = plan_jobs(scans, targets, _suffixes(), overwrite, skip_existing, beside=others)
    run = Run(metric, level, initial, apply, accept, voxel_size, overwrite, quiet)
    if initial is not None and not initial.is_dir() and len(jobs) > 1:
        raise typer.BadParameter(f"--initial {initial}: expected a folder for several pairs.")
    outcomes = []
    for number, (job, (_, other)) in enumerate(zip(jobs, pairs, strict=True), 1):
        label = f"[{number}/{len(jobs)}] {job.scan.name}: " if len(jobs) > 1 else ""
        outcomes.append(_register(job, other, label, run))
        if as_json:
            console.result_json(_summary(outcomes[-1]))
    if not (as_json or quiet):
        _show(outcomes)
    if code := max(outcome.code for outcome in outcomes):
        raise typer.Exit(code)


def _level(threshold: str) -> float | None:
    if threshold.lower() == "otsu":
        return None
    try:
        level = float(threshold)
    except ValueError:
        level = math.nan
    if not math.isfinite(level):
        raise typer.BadParameter(f"--threshold {threshold}: expected otsu or a grey level of the CA4+ scan.")
    return level


def _suffixes() -> dict[str, tuple[str, ...]]:
    """Return the endings that the file of each option may have; in a folder it gets the first."""
    volume = (*core.scans.formats.TIFF_SUFFIXES, *core.scans.volume.ITK_SUFFIXES)
    return {"--out": volume, "--mask": volume, "--transform": (".tfm",), "--preview": (".png",)}


def _register(job: Job, ca4_path: Path, label: str, run: Run) -> Outcome:
    """Register one pair and write its outputs; an error is shown and becomes the outcome."""
    if not job.outputs:
        return Outcome(job, ca4_path, "skipped")
    try:
        start = _initial(job, run)
        pta, ca4 = (
            core.scans.volume.read_volume(job.scan, run.voxel_um),
            core.scans.volume.read_volume(ca4_path, run.voxel_um),
        )
        if "--out" in job.outputs:
            core.scans.volume.check_dtype(job.outputs["--out"], ca4.array.dtype)
        if not run.quiet:
            _announce(pta, ca4, label)
        found = None if run.apply else _find(pta, ca4, start, label, run)
        refused = found is not None and not (found.trusted or run.accept)
        outputs = {o: path for o, path in job.outputs.items() if not refused or o == "--preview"}
        matrix = found.matrix if found else start
        assert matrix is not None
        if outputs:
            with console.progress(f"{label or job.scan.name + ': '}resampling", run.quiet) as advance:
                registered = core.registration.register.resample(ca4, matrix, pta, advance)
            del ca4  # its memory is needed for the mask
            _write(outputs, pta, registered, matrix, found, run)
    except Exception as error:
        code = console.show_error(error, label)
        return Outcome(job, ca4_path, "failed", console.error_line(error) or repr(error), code)
    if found is None or found.trusted:
        return Outcome(job, ca4_path, "done", found=found)
    return _doubted(job, ca4_path, found, label, run)


def _initial(job: Job, run: Run) -> core.registration.transform.Matrix | None:
    """Read the transform to start from, of a folder the one named after the scan."""
    if run.initial is None:
        return None
    path = run.initial
    if path.is_dir():
        path /= f"{core.scans.scan_names.scan_name(job.scan)}.tfm"
        path = next(
            (one for one in run.initial.iterdir() if core.scans.scan_names.same_form(one.name) == path.name),
            path,
        )
    if not path.exists():
        raise core.errors.ScanError(
            f"{path} does not exist; expected the transform to start from; check --initial."
        )
    return core.registration.transform.read_transform(path)


def _announce(pta: core.scans.volume.Volume, ca4: core.scans.volume.Volume, label: str) -> None:
    for stain, volume in (("PTA", pta), ("CA4+", ca4)):
        shape = " x ".join(map(str, volume.array.shape))
        told = f"{stain}: {shape} voxels (Z x Y x X) of {volume.voxel_um:g} µm"
        for line in (told, *(f"{stain}: {note}" for note in volume.notes)):
            console.notice(f"{label}{line}")


def _find(
    pta: core.scans.volume.Volume,
    ca4: core.scans.volume.Volume,
    start: core.registration.transform.Matrix | None,
    label: str,
    run: Run,
) -> core.registration.register.Registration:

    with console.progress(f"{label or pta.path.name + ': '}registering", run.quiet) as advance:
        return core.registration.register.register(
            pta, ca4, metric=run.metric.value, initial=start, progress=advance
        )


def _write(
    outputs: dict[str, Path],
    pta: core.scans.volume.Volume,
    registered: np.ndarray,
    matrix: core.registration.transform.Matrix,
    found: core.registration.register.Registration | None,
    run: Run,
) -> None:
    """Write every output asked for: all of them or, where one fails or the user stops it, none."""
    level = core.registration.register.otsu_level(registered) if run.threshold is None else run.threshold
    place: dict[str, Any] = {"overwrite": run.overwrite, "frame": pta.frame}
    with core.files.all_or_none():
        for option, path in outputs.items():
            if option == "--out":
                core.scans.volume.write_volume(path, registered, pta.voxel_um, **place)
            elif option == "--mask":
                mask = core.registration.register.hard_tissue(registered, pta.voxel_um, level)
                core.scans.volume.write_volume(path, mask, pta.voxel_um, **place)
            elif option == "--transform":
                core.registration.transform.write_transform(path, matrix)
            else:
                told = "as given" if found is None else f"quality {found.quality:.2f}"
                doubted = found is not None and not found.trusted
                core.pictures.overlay.draw_overlay(
                    path, pta, registered, level, told, doubted=doubted, overwrite=run.overwrite
                )


def _doubted(
    job: Job, ca4: Path, found: core.registration.register.Registration, label: str, run: Run
) -> Outcome:
    """Warn of a result whose quality is too low."""
    low = f"quality {found.quality:.2f}, expected {core.registration.register.TRUSTED:g} or more: other plugs, or too little in common"
    if run.accept:
        console.notice(f"{label}warning: {low}; written all the same (--accept)")
        return Outcome(job, ca4, "done", found=found)
    advice = "look at --preview, align by hand in 3D Slicer and give --initial, or --accept it"
    kept = "; only the preview is written" if "--preview" in job.outputs else "; nothing is written"
    console.notice(f"{label}warning: {low}{kept}; {advice}")
    return Outcome(job, ca4, "refused", low, 1, found)


def _summary(outcome: Outcome) -> dict[str, Any]:
    content: dict[str, Any] = {
        "scan": str(outcome.job.scan),
        "ca4": str(outcome.ca4),
        "state": outcome.state,
    }
    if outcome.error:
        content["error"] = outcome.error
    if outcome.found is not None:
        found = outcome.found
        content |= {"quality": found.quality, "trusted": found.trusted, "matrix": found.matrix.tolist()}
    if outcome.state == "done":
        outputs = {option.removeprefix("--"): str(path) for option, path in outcome.job.outputs.items()}
        content["outputs"] = outputs
    return content


def _show(outcomes: Sequence[Outcome]) -> None:
    """Show what was written, or for several pairs what became of each."""
    if len(outcomes) > 1:
        rows = [(o.job.scan.name, o.state, o.error or _quality(o)) for o in outcomes]
        console.result_table(("scan", "state", "registration"), rows)
        return
    outcome = outcomes[0]
    if outcome.state == "skipped":
        console.result("skipped: every output exists")
    elif outcome.state == "done":
        for option, path in outcome.job.outputs.items():
            console.result(f"{'registered' if option == '--out' else option.removeprefix('--'):13}{path}")
        console.result(f"{'transform' if outcome.found is None else 'quality':13}{_quality(outcome)}")


def _quality(outcome: Outcome) -> str:
    if outcome.found is None:
        return "as given" if outcome.state == "done" else ""
    return f"{outcome.found.quality:.2f}"
