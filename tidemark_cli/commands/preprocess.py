"""``tidemark preprocess``: from scans and their masks to a dataset in the layout of the public one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, core
from ..core.scans.scan_names import same_form, sample_name
from .jobs import named_file
from .options import BoneEnd, Quiet, refuse_both, voxel_size_option
from .pairs import pair_scans

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Plan:
    """One sample to write: its scan, the mask or CA4+ scan of that, and its grade where one was given."""

    sample_id: str
    scan: Path
    other: Path
    grade: int | None


@dataclass(frozen=True)
class Choices:
    """What is the same for all samples of one command."""

    dataset: Path
    from_ca4: bool
    size: tuple[int, int, int]
    bone_end: str
    voxel_um: float | None
    overwrite: bool
    skip_existing: bool
    quiet: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one sample: "done", "skipped" or "failed", with the error's line and exit code."""

    plan: Plan
    state: str
    told: str = ""
    code: int = 0


def preprocess(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="PTA...", help="PTA scans: files, folders of slices, or folders of scans."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DATASET", help="The dataset's folder; made, or added to.")
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The hard-tissue mask, in the scan's frame: 0 and 255. For several scans a folder of masks: "
            "the same names, or the same up to _PTA, _CA4, _mask, -label, _seg or _rec.",
        ),
    ] = None,
    ca4: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="In place of --mask, the CA4+ scan: it is registered and thresholded first."
        ),
    ] = None,
    sample: Annotated[
        str | None, typer.Option(metavar="ID", help="Name of the sample. Without it, the scan's, up to _PTA.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Subject, put before the name: SUBJECT_NAME. Without it, the name's."
        ),
    ] = None,
    grade: Annotated[
        int | None, typer.Option(help="Grade of one sample, for the dataset's grades.csv.")
    ] = None,
    grades: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Grades of all samples: columns sample_id and grade."),
    ] = None,
    size: Annotated[
        tuple[int, int, int], typer.Option(metavar="Z Y X", min=1, help="Voxels of 3.2 µm in the crop.")
    ] = (768, 448, 448),
    bone_end: Annotated[
        BoneEnd, typer.Option(help="At which end of Z the bone lies; auto asks the mask.")
    ] = BoneEnd.auto,
    voxel_size: Annotated[
        float | None,
        voxel_size_option("Voxel size of the scans in µm. Without it, the file's or log's, else 3.2."),
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Write a contact sheet of the whole dataset, PNG."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace samples that exist.")] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Keep samples that exist; the contact sheet is drawn anew."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Cut the plugs out of PTA scans and write a dataset in the layout of the public one.

    The crop is centred on the bone third of the plug and begins at its
    bone end, which becomes row 0. Near an edge it is moved inward; a scan
    smaller than it is padded with background. Scans of other voxels than
    3.2 µm are resampled to them, for the layout holds no voxel size.

    8-bit grey levels stay as they are. Of all others the 0.1th percentile
    of the crop becomes 0 and the 99.9th 255; what is between is linear,
    what is beyond is clipped.
    """
    other = _one_of(mask, ca4)
    _check_options(sample, subject, grade, grades, overwrite, skip_existing)
    sheet = None if preview is None else named_file("--preview", preview, (".png",))
    pairs = pair_scans(inputs, "--mask" if ca4 is None else "--ca4", other)
    plans = _plan(pairs, sample, subject, grade, grades)
    choices = Choices(out, ca4 is not None, size, bone_end.value, voxel_size, overwrite, skip_existing, quiet)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        _check_outputs(plans, choices, sheet)
        outcomes = []
        for number, plan in enumerate(plans, 1):
            label = f"[{number}/{len(plans)}] {plan.sample_id}: " if len(plans) > 1 else ""
            outcomes.append(_preprocess(plan, label, choices))
    finally:
        with suppress(OSError):  # something was written
            for folder in made:
                folder.rmdir()
    if not quiet:
        _show(outcomes, choices)
    if sheet is not None and any(outcome.state != "failed" for outcome in outcomes):
        _draw(sheet, choices)
    if code := max(outcome.code for outcome in outcomes):
        raise typer.Exit(code)


def _one_of(mask: Path | None, ca4: Path | None) -> Path:
    other = mask or ca4
    if other is None or (mask and ca4):
        raise typer.BadParameter("expected one of --mask and --ca4: where the hard tissue comes from.")
    return other


def _check_options(
    sample: str | None,
    subject: str | None,
    grade: int | None,
    grades: Path | None,
    overwrite: bool,
    skip_existing: bool,
) -> None:

    refuse_both(overwrite, skip_existing)
    if grade is not None and grades is not None:
        raise typer.BadParameter("--grade and --grades exclude each other.")
    if subject is not None and "_" in subject:
        raise typer.BadParameter(f"--subject {subject}: expected no _ in it, which ends the subject's name.")
    for name in (sample, subject):
        try:
            core.data.dataset.check_sample_id("S" if name is None else name)
        except core.errors.DatasetError as error:
            raise typer.BadParameter(str(error)) from error


def _plan(
    pairs: Sequence[tuple[Path, Path]],
    sample: str | None,
    subject: str | None,
    grade: int | None,
    grades: Path | None,
) -> list[Plan]:
    """Name every sample and find its grade."""
    if len(pairs) > 1 and (sample is not None or grade is not None):
        raise typer.BadParameter("--sample and --grade: expected one scan; for several, --grades CSV.")
    known = {} if grades is None else core.data.grades.read_grades(grades)
    plans: dict[str, Plan] = {}
    for scan, other in pairs:
        name = sample or sample_name(scan)
        sample_id = name if subject is None or name.split("_")[0] == subject else f"{subject}_{name}"
        core.data.dataset.check_sample_id(sample_id)
        if sample_id in plans:
            raise typer.BadParameter(
                f"{plans[sample_id].scan} and {scan} would both be the sample {sample_id}; rename one."
            )
        plans[sample_id] = Plan(sample_id, scan, other, known.get(same_form(sample_id), grade))
    ungraded = [sample_id for sample_id in plans if same_form(sample_id) not in known]
    if grades is not None and ungraded:
        raise core.errors.DatasetError(
            f"{grades} has no row for {', '.join(ungraded)}; add one for each, with an empty grade where it "
            "is not known."
        )
    return list(plans.values())


def _check_outputs(plans: Sequence[Plan], choices: Choices, sheet: Path | None) -> None:
    """Refuse what could not be written after the work."""
    if choices.dataset.exists() and not choices.dataset.is_dir():
        raise core.errors.OutputError(f"{choices.dataset} is a file; expected the folder of a dataset.")
    choices.dataset.mkdir(parents=True, exist_ok=True)
    root = core.data.dataset.dataset_root(choices.dataset)
    core.files.check_writable(root / "grades.csv", overwrite=True)
    if sheet is not None:
        core.files.check_writable(sheet, choices.overwrite or choices.skip_existing)
    present = core.data.grades.read_grades(root / "grades.csv") if (root / "grades.csv").exists() else {}
    for plan in plans:
        folder = root / "pre_processed" / plan.sample_id
        if folder.exists() and not (choices.overwrite or choices.skip_existing):
            raise core.errors.OutputError(f"{folder} exists already; use --overwrite or --skip-existing.")
        before = present.get(plan.sample_id)
        if None not in (plan.grade, before) and plan.grade != before and not choices.overwrite:
            raise core.errors.OutputError(
                f"{root / 'grades.csv'} gives {plan.sample_id} the grade {before}, not {plan.grade}; "
                "use --overwrite to replace it."
            )


def _preprocess(plan: Plan, label: str, choices: Choices) -> Outcome:
    """Make one sample; an error is shown and becomes the outcome."""
    graded = {} if plan.grade is None else {plan.sample_id: plan.grade}
    try:
        folder = core.data.dataset.dataset_root(choices.dataset) / "pre_processed" / plan.sample_id
        if folder.exists() and choices.skip_existing:
            core.data.dataset.update_grades(choices.dataset, graded)
            return Outcome(plan, "skipped")
        crop = _crop(plan, label, choices)
        for note in crop.notes if not choices.quiet else ():
            console.notice(f"{label}{note}")
        core.data.dataset.write_sample(
            choices.dataset, plan.sample_id, crop.scan, crop.mask, choices.overwrite
        )
        core.data.dataset.update_grades(choices.dataset, graded)
    except Exception as error:
        code = console.show_error(error, label)
        return Outcome(plan, "failed", console.error_line(error) or repr(error), code)
    return Outcome(plan, "done", f"{(crop.mask > 0).mean():.0%} hard tissue")


def _crop(plan: Plan, label: str, choices: Choices) -> core.data.crop.Crop:

    pta = core.scans.volume.read_volume(plan.scan, choices.voxel_um)
    if not choices.quiet:
        told = [
            f"{' x '.join(map(str, pta.array.shape))} voxels (Z x Y x X) of {pta.voxel_um:g} µm",
            *pta.notes,
        ]
        if "_" not in plan.sample_id:
            told.append(f"no _ in {plan.sample_id}: taken for a subject of its own, else give --subject")
        for line in told:
            console.notice(f"{label}{line}")
    if choices.from_ca4:
        hard = _registered(pta, plan, label, choices)
    else:
        hard = core.data.crop.read_mask_of(pta, plan.other, choices.voxel_um)
    return core.data.crop.crop_sample(pta, hard, choices.size, choices.bone_end)


def _registered(pta: core.scans.volume.Volume, plan: Plan, label: str, choices: Choices) -> np.ndarray:
    """Register the CA4+ scan and return its hard tissue in the frame of the PTA scan."""
    ca4 = core.scans.volume.read_volume(plan.other, choices.voxel_um)
    with console.progress(f"{label}registration", choices.quiet) as advance:
        found = core.registration.register.register(pta, ca4, progress=advance)
    if not found.trusted:
        raise core.errors.ScanError(
            f"{plan.other} could not be registered to {plan.scan} with certainty (quality "
            f"{found.quality:.2f}); see tidemark register --preview, and give its mask with --mask."
        )
    if not choices.quiet:
        console.notice(f"{label}registered, quality {found.quality:.2f}")
    return core.registration.register.hard_tissue(
        core.registration.register.resample(ca4, found.matrix, pta), pta.voxel_um
    )


def _show(outcomes: Sequence[Outcome], choices: Choices) -> None:
    """Show what was written, or for several samples what became of each."""
    if len(outcomes) > 1:
        rows = [(o.plan.sample_id, o.plan.scan.name, o.state, o.told) for o in outcomes]
        console.result_table(("sample", "scan", "state", "mask"), rows)
    elif outcomes[0].state != "failed":
        folder = (
            core.data.dataset.dataset_root(choices.dataset) / "pre_processed" / outcomes[0].plan.sample_id
        )
        console.result(f"skipped: {folder} exists" if outcomes[0].state == "skipped" else str(folder))


def _draw(sheet: Path, choices: Choices) -> None:
    """Draw the contact sheet of all that the dataset holds, this command's samples and earlier ones."""
    core.pictures.contact_sheet.draw_contact_sheet(
        sheet,
        core.data.dataset.find_samples(choices.dataset),
        overwrite=choices.overwrite or choices.skip_existing,
    )
    if not choices.quiet:
        console.result(str(sheet))
