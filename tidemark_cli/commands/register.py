"""``tidemark register``: CA4+ scans aligned with PTA scans of the same plugs, and masks from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import console, core
from ..core.settings import VoxelSize
from . import batch, cluster
from .batch import Outcome
from .from_fields import Look
from .jobs import SKIPPED, Job, described, plan_jobs, volume_suffixes
from .options import Existing, Screen, Spread, Target, entry
from .pairs import pair_scans

if TYPE_CHECKING:
    from ..core.registration.register import Registration
    from ..core.registration.transform import Matrix


@dataclass(frozen=True)
class Inputs:
    """Which scans belong together.

    Attributes
    ----------
    pta : the PTA scan, which stays where it is, or a folder of PTA scans.
    ca4 : the CA4+ scan of the same plug, or a folder of them, matched by name, whole or up to _PTA, _CA4 or
        _rec.
    voxel_um : voxel size of both scans in µm. Default: each file's or log's, else 3.2.
    """

    pta: Annotated[Path, Look("PTA", argument=True)]
    ca4: Annotated[Path, Look("CA4", argument=True)]
    voxel_um: VoxelSize = None


@dataclass(frozen=True)
class Outputs:
    """What to write.

    Attributes
    ----------
    registered : CA4+ in PTA's frame: .tif, .nrrd, .nii.gz, .nii or .mha. In a folder (existing, or ending in
        /) it is NAME.tif for each PTA scan; for folders of scans every PATH must be a folder.
    mask : write the hard-tissue mask, 8-bit, 0 and 255.
    transform : write the transform for ITK and 3D Slicer, .tfm.
    preview : write a picture to judge the result by, PNG.
    """

    registered: Annotated[str, Look("REGISTERED", "out", "o")]
    mask: Target = None
    transform: Target = None
    preview: Target = None


@dataclass(frozen=True)
class Alignment:
    """How to find the transform and the hard tissue.

    Attributes
    ----------
    threshold : grey level of CA4+ above which tissue is hard; otsu finds one between cartilage and bone.
    metric : refine by mutual information, or by the paper's mean squared error.
    initial : start from this rigid transform (.tfm, .txt or .h5, as 3D Slicer saves it) instead of searching;
        for folders of scans, a folder with NAME.tfm for each PTA scan.
    apply : apply --initial unchanged, without judging it.
    accept : write the result even if its quality is below 0.4.
    """

    threshold: Annotated[str, Look("otsu|VALUE")] = "otsu"
    metric: Literal["mi", "mse"] = "mi"
    initial: Annotated[Path | None, Look("PATH")] = None
    apply: bool = False
    accept: bool = False

    def __post_init__(self) -> None:
        if self.apply and self.initial is None:
            raise ValueError("apply: expected --initial with the transform to apply")
        if self.threshold.lower() != "otsu" and not _is_number(self.threshold):
            raise ValueError(
                f"threshold: expected otsu or a grey level of the CA4+ scan, found {self.threshold}"
            )

    @property
    def level(self) -> float | None:
        """The threshold as a grey level; None is Otsu's."""
        return None if self.threshold.lower() == "otsu" else float(self.threshold)


@dataclass(frozen=True)
class Pair(Job):
    """A PTA scan and the CA4+ scan of the same plug."""

    ca4: Path = Path()

    @property
    def known(self) -> dict[str, Any]:
        """Its first entries in JSON."""
        return {"scan": str(self.scan), "ca4": str(self.ca4)}


def register(
    inputs: Inputs,
    outputs: Outputs,
    alignment: Alignment,
    existing_outputs: Existing,
    many_scans: Spread,
    on_screen: Screen,
) -> None:
    """Align CA4+ scans with PTA scans, and take the hard tissue from them.

    Examples
    --------
    tidemark register S01_PTA.tif S01_CA4.tif -o registered.tif --mask mask.tif --preview p.png
    tidemark register pta/ ca4/ -o registered/ --mask masks/ --preview previews/
    tidemark register S01_PTA.tif S01_CA4.tif -o registered.tif --initial slicer.tfm --apply
    """
    volume = volume_suffixes()
    suffixes = {"registered": volume, "mask": volume, "transform": (".tfm",), "preview": (".png",)}
    pairs = pair_scans([inputs.pta], "CA4", inputs.ca4)
    ca4 = dict(pairs)
    jobs = plan_jobs(list(ca4), vars(outputs), suffixes, existing_outputs, list(ca4.values()), many_scans)
    initial = alignment.initial
    if initial is not None and not initial.is_dir() and len(jobs) > 1:
        raise typer.BadParameter(f"--initial {initial}: expected a folder for several pairs.")
    todo = [Pair(**vars(job), ca4=ca4[job.scan]) for job in jobs]
    work = partial(
        _register,
        voxel_um=inputs.voxel_um,
        alignment=alignment,
        overwrite=many_scans.existing(existing_outputs).allowed,
        screen=on_screen,
    )
    with cluster.connected(many_scans.cluster, on_screen, most=len(todo)) as executor:
        outcomes = batch.run(work, todo, on_screen, ("scan", "registration"), executor)
    batch.end(outcomes)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _register(
    pair: Pair, label: str, *, voxel_um: float | None, alignment: Alignment, overwrite: bool, screen: Screen
) -> Outcome:
    if not pair.outputs:
        return Outcome("skipped", lines=(SKIPPED,))
    start = _initial(pair, alignment.initial)
    pta, ca4 = (core.scans.volume.read_volume(path, voxel_um) for path in (pair.scan, pair.ca4))
    if "registered" in pair.outputs:
        core.scans.volume.check_dtype(pair.outputs["registered"], ca4.array.dtype)
    for stain, volume in (("PTA", pta), ("CA4+", ca4)):
        screen.notice(*(f"{stain}: {line}" for line in (described(volume), *volume.notes)), label=label)
    name, found = label or f"{pair.scan.name}: ", None
    if not alignment.apply:
        with screen.progress(f"{name}registering") as advance:
            found = core.registration.register.register(
                pta, ca4, metric=alignment.metric, initial=start, progress=advance
            )
    refused = found is not None and not (found.trusted or alignment.accept)
    outputs = {kind: path for kind, path in pair.outputs.items() if not refused or kind == "preview"}
    matrix = found.matrix if found else start
    assert matrix is not None
    if outputs:
        with screen.progress(f"{name}resampling") as advance:
            registered = core.registration.register.resample(ca4, matrix, pta, advance)
        del ca4  # its memory is needed for the mask
        core.results.write_registration(
            outputs, pta, registered, matrix, found=found, level=alignment.level, overwrite=overwrite
        )
    return _outcome(pair, found, label, alignment.accept)


def _initial(pair: Pair, initial: Path | None) -> Matrix | None:
    """Read the transform to start from; in a folder it is named after the scan."""
    if initial is None:
        return None
    path = initial
    if initial.is_dir():
        name = f"{core.scans.scan_names.scan_name(pair.scan)}.tfm"
        same = (one for one in initial.iterdir() if core.scans.scan_names.same_form(one.name) == name)
        path = next(same, initial / name)
    if not path.exists():
        raise core.errors.ScanError(
            f"{path} does not exist; expected the transform to start from; check --initial."
        )
    return core.registration.transform.read_transform(path)


def _outcome(pair: Pair, found: Registration | None, label: str, accept: bool) -> Outcome:
    """Return what became of a pair, and warn if its quality is too low."""
    written = map(entry, pair.outputs, pair.outputs.values())
    if found is None:
        lines = (*written, entry("transform", "as given"))
        return Outcome("done", "as given", lines, {"outputs": pair.written})
    quality = f"{found.quality:.2f}"
    content = {"quality": found.quality, "trusted": found.trusted, "matrix": found.matrix.tolist()}
    low = (
        f"quality {quality}, expected {core.registration.register.TRUSTED:g} or more: other plugs, or too "
        "little in common"
    )
    if not (found.trusted or accept):
        advice = "look at --preview, align by hand in 3D Slicer and give --initial, or --accept it"
        kept = "only the preview is written" if "preview" in pair.outputs else "nothing is written"
        console.notice(f"{label}warning: {low}; {kept}; {advice}")
        return Outcome("refused", low, (), content, 1)
    if not found.trusted:
        console.notice(f"{label}warning: {low}; written all the same (--accept)")
    lines = (*written, entry("quality", quality))
    return Outcome("done", quality, lines, content | {"outputs": pair.written})
