"""``tidemark preprocess``: from scans and masks to a dataset in the layout of the public one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import core
from ..core.settings import BoneEnd, Limits, VoxelSize
from . import batch, cluster
from .batch import Outcome
from .from_fields import Look
from .jobs import described, named_file
from .options import Existing, Screen, Spread, Target
from .pairs import pair_scans

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Inputs:
    """The scans, and where the hard tissue comes from.

    Attributes
    ----------
    scans : PTA scans: files, folders of slices, or folders of scans.
    mask : the hard-tissue mask in the frame of the scan, 0 and 255; for several scans a folder of masks,
        matched by name, whole or up to _PTA, _CA4, _mask, -label, _seg or _rec.
    ca4 : instead of --mask, the CA4+ scan, to be registered and thresholded.
    voxel_um : voxel size of the scans in µm. Default: the file's or log's, else 3.2.
    """

    scans: Annotated[tuple[Path, ...], Look("PTA", argument=True)]
    mask: Annotated[Path | None, Look("PATH")] = None
    ca4: Annotated[Path | None, Look("PATH")] = None
    voxel_um: VoxelSize = None

    def __post_init__(self) -> None:
        if (self.mask is None) == (self.ca4 is None):
            raise ValueError("expected one of --mask and --ca4, from which to take the hard tissue")

    @property
    def other(self) -> tuple[str, Path]:
        """The option for the hard tissue, and its path."""
        return ("--mask", self.mask) if self.mask else ("--ca4", self.ca4 or Path())


@dataclass(frozen=True)
class Outputs:
    """What to write.

    Attributes
    ----------
    out : the folder of the dataset, new or to be added to.
    preview : write a contact sheet of the whole dataset, PNG.
    """

    out: Annotated[Path, Look("DATASET", short="o")]
    preview: Target = None


@dataclass(frozen=True)
class Names:
    """Names and grades of the samples.

    Attributes
    ----------
    sample : name of the sample. Default: the name of the scan, up to _PTA.
    subject : put before the name, as in SUBJECT_NAME. Default: what the name begins with, up to the first _.
    grade : grade of a single sample, for the dataset's grades.csv.
    grades : table of the grades of all samples, with the columns sample_id and grade.
    """

    sample: Annotated[str | None, Look("ID")] = None
    subject: Annotated[str | None, Look("ID")] = None
    grade: int | None = None
    grades: Annotated[Path | None, Look("CSV")] = None

    def __post_init__(self) -> None:
        if self.grade is not None and self.grades is not None:
            raise ValueError("--grade and --grades exclude each other")
        if self.subject is not None and "_" in self.subject:
            raise ValueError(
                f"subject: expected no _ in it, which ends the subject's name, found {self.subject}"
            )
        for name in (self.sample, self.subject):
            try:
                core.data.dataset.check_sample_id("S" if name is None else name)
            except core.errors.DatasetError as error:
                raise ValueError(str(error)) from error


@dataclass(frozen=True)
class Cut:
    """What is cut out of a scan.

    Attributes
    ----------
    size : voxels of 3.2 µm in the crop.
    bone_end : the end of Z at which the bone lies; auto finds it in the mask.
    """

    size: Annotated[tuple[int, int, int], Look("Z Y X"), Limits(1)] = (768, 448, 448)
    bone_end: BoneEnd = "auto"


@dataclass(frozen=True)
class Plan:
    """One sample to write: its scan, the mask or CA4+ scan, and its grade, if any."""

    sample_id: str
    scan: Path
    other: Path
    grade: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """Its first cells in the table."""
        return self.sample_id, self.scan.name

    @property
    def known(self) -> dict[str, Any]:
        """Its first entries in JSON."""
        return {"sample": self.sample_id, "scan": str(self.scan)}

    def folder(self, dataset: Path) -> Path:
        """The sample's folder in a dataset."""
        return core.data.dataset.dataset_root(dataset) / "pre_processed" / self.sample_id


def preprocess(
    inputs: Inputs,
    outputs: Outputs,
    names: Names,
    crop: Cut,
    existing_samples: Existing,
    many_scans: Spread,
    on_screen: Screen,
) -> None:
    """Cut the plugs out of PTA scans and write a dataset in the layout of the public one.

    The crop is centred on the bone third of the plug and begins at its
    bone end, which becomes row 0. Near an edge it is moved inward; a
    smaller scan is padded with background. Scans are resampled to voxels
    of 3.2 µm, since the layout has no place for a voxel size.

    8-bit grey levels stay as they are. Others are scaled linearly, so that
    the 0.1th percentile of the crop becomes 0 and the 99.9th 255.

    Examples
    --------
    tidemark preprocess pta/ --mask masks/ -o dataset/ --grades grades.csv --preview sheet.png
    tidemark preprocess S01_1_PTA.tif --ca4 S01_1_CA4.tif -o dataset/ --grade 2
    """
    sheet = None if outputs.preview is None else named_file("--preview", outputs.preview, (".png",))
    plans = many_scans.taken(_plan(pair_scans(inputs.scans, *inputs.other), names), lambda plan: plan.scan)
    work = partial(
        _preprocess,
        dataset=outputs.out,
        inputs=replace(inputs, scans=()),  # a task does not need the names of all scans
        cut=crop,
        existing=many_scans.existing(existing_samples),
        screen=on_screen,
    )
    made = [folder for folder in (outputs.out, *outputs.out.parents) if not folder.exists()]
    try:
        _check_outputs(plans, outputs.out, existing_samples, sheet)
        with cluster.connected(many_scans.cluster, on_screen, most=len(plans)) as executor:
            outcomes = batch.run(work, plans, on_screen, ("sample", "scan", "mask"), executor)
    finally:
        with suppress(OSError):  # folders that are not empty stay
            for folder in made:
                folder.rmdir()
    if sheet is not None and any(outcome.state != "failed" for outcome in outcomes):
        samples = core.data.dataset.find_samples(outputs.out)  # those of earlier commands as well
        page = core.pictures.contact_sheet.compose_contact_sheet(samples)
        core.pictures.style.write_picture(sheet, page, existing_samples.allowed)
        if not on_screen.as_json:
            on_screen.result({}, [str(sheet)])
    batch.end(outcomes)


def _plan(pairs: Sequence[tuple[Path, Path]], names: Names) -> list[Plan]:
    """Name every sample and find its grade."""
    if len(pairs) > 1 and (names.sample is not None or names.grade is not None):
        raise typer.BadParameter("--sample and --grade: expected one scan; for several, --grades CSV.")
    form = core.scans.scan_names.same_form
    known = {} if names.grades is None else core.data.grades.read_grades(names.grades)
    plans: dict[str, Plan] = {}
    for scan, other in pairs:
        name, subject = names.sample or core.scans.scan_names.sample_name(scan), names.subject
        sample_id = name if subject is None or name.split("_")[0] == subject else f"{subject}_{name}"
        core.data.dataset.check_sample_id(sample_id)
        if sample_id in plans:
            raise typer.BadParameter(
                f"{plans[sample_id].scan} and {scan} would both be the sample {sample_id}; rename one."
            )
        plans[sample_id] = Plan(sample_id, scan, other, known.get(form(sample_id), names.grade))
    ungraded = [sample_id for sample_id in plans if form(sample_id) not in known]
    if names.grades is not None and ungraded:
        raise core.errors.DatasetError(
            f"{names.grades} has no row for {', '.join(ungraded)}; add it, with an empty grade if unknown."
        )
    return list(plans.values())


def _check_outputs(plans: Sequence[Plan], dataset: Path, existing: Existing, sheet: Path | None) -> None:
    """Refuse what could not be written after the work."""
    if dataset.exists() and not dataset.is_dir():
        raise core.errors.OutputError(f"{dataset} is a file; expected the folder of a dataset.")
    dataset.mkdir(parents=True, exist_ok=True)
    table = core.data.dataset.dataset_root(dataset) / "grades.csv"
    core.files.check_writable(table, overwrite=True)
    if sheet is not None:
        core.files.check_writable(sheet, existing.allowed)
    present = core.data.grades.read_grades(table) if table.exists() else {}
    for plan in plans:
        folder = plan.folder(dataset)
        if folder.exists() and not existing.allowed:
            raise core.errors.OutputError(f"{folder} exists already; use --overwrite or --skip-existing.")
        before = present.get(plan.sample_id)
        if None not in (plan.grade, before) and plan.grade != before and not existing.overwrite:
            raise core.errors.OutputError(
                f"{table} gives {plan.sample_id} the grade {before}, not {plan.grade}; use --overwrite to "
                "replace it."
            )


def _preprocess(
    plan: Plan, label: str, *, dataset: Path, inputs: Inputs, cut: Cut, existing: Existing, screen: Screen
) -> Outcome:
    graded = {} if plan.grade is None else {plan.sample_id: plan.grade}
    folder = plan.folder(dataset)
    content: dict[str, Any] = {"folder": str(folder)}
    if folder.exists() and existing.skip_existing:
        core.data.dataset.update_grades(dataset, graded)
        return Outcome("skipped", lines=(f"skipped: {folder} exists",), content=content)
    pta = core.scans.volume.read_volume(plan.scan, inputs.voxel_um)
    screen.notice(described(pta), *pta.notes, label=label)
    if "_" not in plan.sample_id:
        alone = f"no _ in {plan.sample_id}: taken as a subject of its own; if it is not, give --subject"
        screen.notice(alone, label=label)
    if inputs.ca4:
        hard = _registered(pta, plan, label, inputs.voxel_um, screen)
    else:
        hard = core.data.crop.read_mask_of(pta, plan.other, inputs.voxel_um)
    crop = core.data.crop.crop_sample(pta, hard, cut.size, cut.bone_end)
    screen.notice(*crop.notes, label=label)
    overwrite = existing.overwrite
    core.data.dataset.write_sample(dataset, plan.sample_id, crop.scan, crop.mask, overwrite)
    core.data.dataset.update_grades(dataset, graded)
    share = float((crop.mask > 0).mean())
    return Outcome("done", f"{share:.0%} hard tissue", (str(folder),), content | {"hard_tissue_share": share})


def _registered(
    pta: core.scans.volume.Volume, plan: Plan, label: str, voxel_um: float | None, screen: Screen
) -> np.ndarray:
    """Register the CA4+ scan, and return its hard tissue in the frame of the PTA scan."""
    registration = core.registration.register
    ca4 = core.scans.volume.read_volume(plan.other, voxel_um)
    with screen.progress(f"{label}registration") as advance:
        found = registration.register(pta, ca4, progress=advance)
    if not found.trusted:
        raise core.errors.ScanError(
            f"{plan.other} could not be registered to {plan.scan} with certainty (quality "
            f"{found.quality:.2f}); look at tidemark register --preview, and give the mask with --mask."
        )
    screen.notice(f"registered, quality {found.quality:.2f}", label=label)
    return registration.hard_tissue(registration.resample(ca4, found.matrix, pta), pta.voxel_um)
