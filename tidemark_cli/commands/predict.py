"""``tidemark predict``: from raw scans to hard-tissue masks and what is derived from them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from csv import DictWriter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__, console
from ..core.scans.scan_names import split_member
from .jobs import Job, named_file, plan_jobs
from .options import BoneEnd, Device, Overwrite, Quiet, SkipExisting, refuse_both, voxel_size_option

if TYPE_CHECKING:
    from ..core.network.unet import UNet
    from ..core.scans.volume import Volume
    from ..core.segmentation import Segmentation, Settings


# what a person is told of the numbers; --stats and --json have them all
FIGURES = {
    "confidence": "confidence {:.2f}",
    "tidemark_depth_mean_um": "depth {:.0f} µm",
    "roughness_ra_um": "Ra {:.1f} µm",
    "roughness_rq_um": "Rq {:.1f} µm",
    "openings_count": "openings {}",
    "thickness_median_um": "cartilage {:.0f} µm thick",
}


class Planes(str, Enum):
    """Slicing planes to predict and average."""

    both = "zx,zy"
    zx = "zx"
    zy = "zy"


NESTED = ("confidence_signs", "shape_zyx", "box_zyx", "models", "slices_predicted")  # not for a table


@dataclass(frozen=True)
class Run:
    """What is the same for all scans of one command."""

    models: list[UNet]
    settings: Settings
    voxel_um: float | None
    overwrite: bool
    quiet: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: "done", "skipped" or "failed", with the error's line and exit code."""

    job: Job
    state: str
    error: str = ""
    code: int = 0
    stats: dict[str, Any] | None = None


def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Scans: files, folders of slices, or folders of scans."),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="The mask: .tif, .nrrd, .nii.gz, .nii or .mha. A folder (existing, or ending in /) takes "
            "NAME.tif of each scan; needed for several scans, and then for every PATH below.",
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|FOLDER|NAME",
            help="A model (.safetensors, or .pth of the paper's authors), a folder of them, averaged, or the "
            "name of weights from `tidemark download`. Without it, or as default, the embedded model, "
            "whatever is installed under that name. A .pth needs mean_std.npy beside it; its threshold is "
            "0.3, which suits BCE - log J: give --threshold 0.5 for BCE and focal.",
        ),
    ] = None,
    device: Device = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Hard tissue is where the probability is above it. Without it, the model's."
        ),
    ] = None,
    planes: Annotated[
        Planes | None, typer.Option(help="Slicing planes to predict and average. Without it, the model's.")
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="Predict every so many slices and interpolate those between; 1 predicts each, as the paper "
            "does. 2 halves the time of the paper's network; large steps smooth the tidemark. Without it, "
            "the model's.",
        ),
    ] = None,
    offset: Annotated[
        float,
        typer.Option(
            metavar="UM",
            min=-100,
            max=100,
            help="Raise the tidemark by so many µm towards the cartilage surface; a negative number lowers "
            "it. Minus the bias that `tidemark metrics` reports corrects that bias. Mask, surface and "
            "numbers move; probability and confidence stay.",
        ),
    ] = 0.0,
    bone_end: Annotated[
        BoneEnd,
        typer.Option(
            help="At which end of Z the bone lies. auto guesses it from the grey levels; with the embedded "
            "model the mask then decides."
        ),
    ] = BoneEnd.auto,
    crop: Annotated[
        bool, typer.Option("--crop", help="Segment the paper's 448 x 448 x 768 voxels only, at the bone end.")
    ] = False,
    voxel_size: Annotated[
        float | None, voxel_size_option("Voxel size in µm. Without it, the file's or log's, else 3.2.")
    ] = None,
    probability: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write the probability, 8-bit, 255 is 1.")
    ] = None,
    uncertainty: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the largest minus the smallest probability over planes and models, 8-bit, 255 is 1.",
        ),
    ] = None,
    surface: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the height of the tidemark above the bone end in µm, float TIFF; NaN where there is "
            "none.",
        ),
    ] = None,
    stats: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write the numbers, with their definitions, as JSON.")
    ] = None,
    preview: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write a picture to judge the result by, PNG.")
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the numbers of all scans as .csv, a row each; those of skipped scans from --stats.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each scan.")] = False,
) -> None:
    """Segment the hard tissue of PTA scans, and find the tidemark on it."""
    from ..core.files import check_writable

    refuse_both(overwrite, skip_existing)
    if threshold is not None and not math.isfinite(threshold):
        raise typer.BadParameter("--threshold: expected a finite number.")
    if not math.isfinite(offset):
        raise typer.BadParameter("--offset: expected a finite number of µm.")
    wanted = {
        "--out": out,
        "--probability": probability,
        "--uncertainty": uncertainty,
        "--surface": surface,
        "--stats": stats,
        "--preview": preview,
    }
    targets = {option: path for option, path in wanted.items() if path is not None}
    jobs = plan_jobs(inputs, targets, _suffixes(), overwrite, skip_existing)
    table = None if csv is None else named_file("--csv", csv, (".csv",))
    if table is not None:
        check_writable(table, overwrite or skip_existing)

    from ..core.segmentation import Settings

    settings = Settings(
        threshold=threshold,
        planes=None if planes is None else tuple(planes.value.split(",")),
        step=step,
        bone_end=bone_end.value,
        crop=crop,
        uncertainty=uncertainty is not None,
        device=device,
        offset_um=offset,
    )
    todo = any(job.outputs and split_member(job.scan)[0].exists() for job in jobs)
    models = _load(weights, device, quiet) if todo else []
    run = Run(models, settings, voxel_size, overwrite, quiet)
    outcomes = []
    for number, job in enumerate(jobs, 1):
        outcomes.append(
            _segment(job, f"[{number}/{len(jobs)}] {job.scan.name}: " if len(jobs) > 1 else "", run)
        )
        if as_json:
            console.result_json(_summary(outcomes[-1]))
    if table is not None:
        _write_csv(table, outcomes)
    if not (as_json or quiet):
        _show(outcomes)
        if table is not None:
            console.result(f"{'table':13}{table}")
    if code := max(outcome.code for outcome in outcomes):
        raise typer.Exit(code)


def _suffixes() -> dict[str, tuple[str, ...]]:
    """Return the endings that the file of each option may have; in a folder it gets the first."""
    from ..core.scans.formats import TIFF_SUFFIXES
    from ..core.scans.volume import ITK_SUFFIXES

    volume = (*TIFF_SUFFIXES, *ITK_SUFFIXES, ".png", ".zarr")
    return {
        "--out": volume,
        "--probability": volume,
        "--uncertainty": volume,
        "--surface": TIFF_SUFFIXES,
        "--stats": (".json",),
        "--preview": (".png",),
    }


def _load(weights: Path | None, device: str, quiet: bool) -> list[UNet]:
    """Load the models, and say which they are and where they run."""
    from ..core.network.devices import choose_device
    from ..core.network.inference import EMBEDDED, load_models

    chosen = choose_device(device)
    models = load_models(weights)
    if not quiet:
        count = f", {len(models)} averaged" if len(models) > 1 else ""
        told = "the embedded one, trained on phantoms only"
        console.notice(f"model: {told if str(weights or EMBEDDED) == EMBEDDED else weights}{count}")
        console.notice(f"device: {chosen}{' (auto)' if device == 'auto' else ''}")
    return models


def _segment(job: Job, label: str, run: Run) -> Outcome:
    """Segment one scan and write its outputs; an error is shown and becomes the outcome."""
    from ..core.scans.volume import read_volume
    from ..core.segmentation import segment

    if not job.outputs:
        return Outcome(job, "skipped", stats=_kept_stats(job))
    if job.kept and not run.quiet:
        _tell(label, [f"kept as it is, whatever made it: {path}" for path in job.kept.values()])
    try:
        volume = read_volume(job.scan, run.voxel_um)
        _check_formats(job, volume)
        if not run.quiet:
            _announce(volume, label, run.settings.uncertainty)
        with console.progress(label.removesuffix(": ") or job.scan.name, run.quiet) as advance:
            segmentation = segment(volume, run.models, run.settings, advance)
        if not run.quiet:
            _tell(label, segmentation.notes)
        _write(job, volume, segmentation, run.overwrite)
    except Exception as error:
        code = console.show_error(error, label)
        return Outcome(job, "failed", console.error_line(error) or repr(error), code)
    return Outcome(job, "done", stats=segmentation.stats)


def _check_formats(job: Job, volume: Volume) -> None:
    from ..core.errors import OutputError

    for option in ("--out", "--probability", "--uncertainty"):
        path = job.outputs.get(option)
        if path is not None and path.suffix.lower() == ".png" and not volume.is_image:
            raise OutputError(
                f"{path}: a PNG holds a 2D image, {volume.path} is a volume; use .tif or .nrrd."
            )


def _announce(volume: Volume, label: str, uncertainty: bool) -> None:
    from ..core.memory import memory_available
    from ..core.segmentation import memory_needed

    shape, array = " x ".join(map(str, volume.array.shape)), volume.array
    need, free = memory_needed(array.shape, array.itemsize, uncertainty), memory_available()
    told = [
        f"{shape} voxels (Z x Y x X) of {volume.voxel_um:g} µm, about {_size(need)} of memory",
        *volume.notes,
    ]
    if free is not None and need > free:
        told.append(f"warning: only {_size(free)} of memory are free here; it may fail, --crop takes less")
    _tell(label, told)


def _tell(label: str, lines: Sequence[str]) -> None:
    for line in lines:
        console.notice(f"{label}{line}")


def _write(job: Job, volume: Volume, segmentation: Segmentation, overwrite: bool) -> None:
    """Write every output asked for: all of them or, where one fails or the user stops it, none."""
    from ..core.files import all_or_none
    from ..core.pictures.preview import draw_preview

    with all_or_none():
        for option, path in job.outputs.items():
            if option == "--stats":
                _write_stats(path, job.scan, segmentation)
            elif option == "--preview":
                found = (segmentation.mask, segmentation.surface, segmentation.plug)
                draw_preview(path, volume.array, *found, volume.name, overwrite, segmentation.stats)
            else:
                _write_array(option, path, volume, segmentation, overwrite)


def _write_array(
    option: str, path: Path, volume: Volume, segmentation: Segmentation, overwrite: bool
) -> None:
    from ..core.scans.volume import write_volume

    if option == "--out":
        array = segmentation.mask
    elif option == "--probability":
        array = segmentation.probability
    elif option == "--uncertainty":
        assert segmentation.uncertainty is not None
        array = segmentation.uncertainty
    else:
        array = segmentation.surface.height_um[:, None, :]  # (Y, 1, X)
    # a medical format holds an image as a volume one voxel thick
    is_image = option == "--surface" or (volume.is_image and path.suffix.lower() in (".tif", ".tiff", ".png"))
    write_volume(path, array, volume.voxel_um, overwrite=overwrite, is_image=is_image, frame=volume.frame)


def _write_stats(path: Path, scan: Path, segmentation: Segmentation) -> None:
    from ..core.files import written_whole
    from ..core.segmentation import DEFINITIONS

    made = {"scan": str(scan), "tidemark_cli": __version__}
    text = json.dumps(made | segmentation.stats | {"definitions": DEFINITIONS}, indent=2, allow_nan=False)
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _kept_stats(job: Job) -> dict[str, Any] | None:
    """Read the numbers of an earlier run, where there are such."""
    from ..core.segmentation import DEFINITIONS

    try:
        content = json.loads(job.kept["--stats"].read_text(encoding="utf-8"))
        return {key: content[key] for key in DEFINITIONS if key in content}
    except (KeyError, OSError, TypeError, ValueError):
        return None


def _write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a row for each scan: what became of it, the confidence, and every number of `DEFINITIONS`."""
    from ..core.files import written_whole
    from ..core.names import open_table
    from ..core.segmentation import DEFINITIONS

    numbers = [key for key in DEFINITIONS if key not in ("confidence", *NESTED)]
    heads = ("scan", "state", "confidence", *numbers, "error")
    with written_whole(path) as temporary, open_table(temporary) as file:
        table = DictWriter(file, heads, extrasaction="ignore")
        table.writeheader()
        for outcome in outcomes:
            row = {"scan": outcome.job.scan, "state": outcome.state, "error": outcome.error}
            table.writerow((outcome.stats or {}) | row)


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _summary(outcome: Outcome) -> dict[str, Any]:
    content: dict[str, Any] = {"scan": str(outcome.job.scan), "state": outcome.state}
    if outcome.state == "failed":
        return content | {"error": outcome.error}
    outputs = {option.removeprefix("--"): str(path) for option, path in outcome.job.outputs.items()}
    return content | {"outputs": outputs, "stats": outcome.stats}


def _show(outcomes: Sequence[Outcome]) -> None:
    """Show what was written, or for several scans what became of each."""
    if len(outcomes) > 1:
        rows = [(o.job.scan.name, o.state, o.error or _figures(o.stats)) for o in outcomes]
        console.result_table(("scan", "state", "tidemark"), rows)
        return
    outcome = outcomes[0]
    if outcome.state == "skipped":
        console.result("skipped: every output exists")
    elif outcome.state == "done":
        for option, path in outcome.job.outputs.items():
            console.result(f"{'mask' if option == '--out' else option.removeprefix('--'):13}{path}")
        console.result(f"{'tidemark':13}{_figures(outcome.stats)}")


def _figures(stats: dict[str, Any] | None) -> str:
    if stats is None:
        return ""
    if stats.get("tidemark_columns_count") is None:
        return "none found"
    told = [text.format(stats[key]) for key, text in FIGURES.items() if stats.get(key) is not None]
    if stats.get("offset_um"):
        told.append(f"offset {stats['offset_um']:+g} µm")
    return ", ".join(told)
