"""``tidemark predict``: from raw scans to hard-tissue masks, the tidemark and its numbers."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from .. import core
from ..core.settings import EMBEDDED, Settings, VoxelSize
from . import batch, cluster
from .batch import Outcome
from .from_fields import Look, Without
from .jobs import SKIPPED, Job, named_file, plan_jobs, running_on, texts, volume_suffixes
from .opening import Memory, Opened, Opening
from .options import Existing, Screen, Spread, Target, entry

Models = Sequence["core.network.unet.UNet"]

# the numbers shown; --stats and --json have them all
FIGURES = {
    "confidence": "confidence {:.2f}",
    "tidemark_depth_mean_um": "depth {:.0f} µm",
    "roughness_sa_um": "Sa {:.1f} µm",
    "roughness_sq_um": "Sq {:.1f} µm",
    "roughness_ra_um": "Ra {:.1f} µm",  # of a single slice
    "roughness_rq_um": "Rq {:.1f} µm",
    "openings_count": "openings {}",
    "thickness_median_um": "cartilage {:.0f} µm thick",
}


@dataclass(frozen=True)
class Inputs:
    """What to segment, and with which model.

    Attributes
    ----------
    scans : files, folders of slices, or folders of scans.
    voxel_um : voxel size in µm. Default: the file's or log's, else 3.2.
    weights : a model (.safetensors, or a .pth of the paper's authors), a folder of models to average, or the
        name of weights from `tidemark download`. Default, and the name default: the embedded model. A .pth
        needs mean_std.npy beside it and has a threshold of 0.3, for BCE - log J; for BCE and focal give
        --threshold 0.5.
    plug : which of several plugs in a scan, numbered in their order along Z, Y or X; or all, each in files of
        its own, NAME_plug1 and so on. Default: the largest, with a warning.
    """

    scans: Annotated[tuple[Path, ...], Look("INPUT", argument=True)]
    voxel_um: VoxelSize = None
    weights: Annotated[Path | None, Look("FILE|FOLDER|NAME")] = None
    plug: Annotated[str | None, Look("N|all")] = None

    def __post_init__(self) -> None:
        if self.plug not in (None, "all") and not (self.plug.isdecimal() and int(self.plug) > 0):
            raise ValueError(f"plug: expected a number from 1 on, or all, found {self.plug}")


@dataclass(frozen=True)
class Outputs:
    """What to write.

    Attributes
    ----------
    mask : the mask: .tif, .nrrd, .nii.gz, .nii or .mha. In a folder (existing, or ending in /) it is
        NAME.tif for each scan; for several scans every PATH must be a folder.
    probability : write the probability, 8-bit; 255 is 1.
    uncertainty : write the largest minus the smallest probability over planes and models, 8-bit; 255 is 1.
    surface : write the height of the tidemark above the bone end in µm, float TIFF; NaN without one.
    stats : write the numbers and their definitions, JSON.
    preview : write a picture to judge the result by, PNG.
    csv : write a table of the numbers, a row per scan, .csv; skipped scans are read from --stats.
    """

    mask: Annotated[str, Look("OUT", "out", "o")]
    probability: Target = None
    uncertainty: Target = None
    surface: Target = None
    stats: Target = None
    preview: Target = None
    csv: Target = None


def predict(
    inputs: Inputs,
    outputs: Outputs,
    segmentation: Annotated[Settings, Without(["uncertainty"])],
    existing_outputs: Existing,
    many_scans: Spread,
    memory: Memory,
    on_screen: Screen,
) -> None:
    """Segment the hard tissue of PTA scans, and find the tidemark on it.

    Examples
    --------
    tidemark predict sample.tif -o mask.tif --preview preview.png
    tidemark predict scans/ -o masks/ --stats stats/ --csv all.csv --skip-existing
    tidemark predict sample.tif -o mask.tif --weights run/
    tidemark predict scans/ -o masks/ --cluster local:4
    """
    volume, tiff = (*volume_suffixes(), ".png", ".zarr"), core.scans.formats.TIFF_SUFFIXES
    suffixes = dict.fromkeys(("mask", "probability", "uncertainty"), volume)
    suffixes |= {"surface": tiff, "stats": (".json",), "preview": (".png",)}
    jobs = plan_jobs(inputs.scans, vars(outputs), suffixes, existing_outputs, spread=many_scans)
    table = None if outputs.csv is None else named_file("--csv", outputs.csv, (".csv",))
    if table is not None:
        core.files.check_writable(table, existing_outputs.allowed)
    settings = replace(segmentation, uncertainty=outputs.uncertainty is not None)
    models = partial(_models, inputs.weights, secrets.token_hex(8))
    embedded = str(inputs.weights or EMBEDDED) == EMBEDDED
    opening = Opening(inputs.voxel_um, inputs.plug, memory, settings, embedded, models)
    open_scan: Callable[[Job], Opened] = opening
    if any(job.outputs and core.scans.scan_names.split_member(job.scan)[0].exists() for job in jobs):
        if embedded:
            on_screen.notice("model: the embedded one, trained on phantoms only")
            if len(jobs) == 1 and many_scans.cluster is None:
                open_scan = opening.begun(jobs[0])  # PyTorch is loaded meanwhile
        device = settings.device if many_scans.cluster is None else None  # the workers have theirs
        _announce(None if embedded else inputs.weights, models, device, on_screen)
        if outputs.preview is not None and many_scans.cluster is None:
            assert core.pictures.preview  # loads Matplotlib, beside the thread that finds the plugs
    work = partial(
        _segment,
        open_scan=open_scan,
        models=models,
        settings=settings,
        existing=many_scans.existing(existing_outputs),
        screen=on_screen,
        command=shlex.join(["tidemark", *sys.argv[1:]]),
    )
    with cluster.connected(many_scans.cluster, on_screen, settings.device, len(jobs)) as executor:
        outcomes = batch.run(work, jobs, on_screen, ("scan", "tidemark"), executor)
    if table is not None:
        core.results.write_table(table, chain.from_iterable(map(_rows, jobs, outcomes)))
        if not on_screen.as_json:
            on_screen.result({}, [entry("table", table)])
    batch.end(outcomes)


@lru_cache(maxsize=1)
def _models(weights: Path | None, run: str) -> Models:
    """Load the models, once per process and run: the files may have changed since an earlier run."""
    return core.network.models.load_models(weights)


def _announce(weights: Path | None, models: Callable[[], Models], device: str | None, screen: Screen) -> None:
    """Load the models, and print what is known of others than the embedded one, and of the device."""
    device_line = () if device is None else (running_on(device),)
    count = len(models())
    model_line = () if weights is None else (f"model: {weights}{f', {count} averaged' if count > 1 else ''}",)
    screen.notice(*model_line, *device_line)


def _segment(
    job: Job,
    label: str,
    *,
    open_scan: Callable[[Job], Opened],
    models: Callable[[], Models],
    settings: Settings,
    existing: Existing,
    screen: Screen,
    command: str,
) -> Outcome:
    """Segment the plugs asked for in one scan, and write the outputs of each."""
    if not job.outputs:
        stats = core.results.read_stats(job.kept["stats"]) if "stats" in job.kept else None
        return Outcome("skipped", _figures(stats), (SKIPPED,), {"outputs": {}, "stats": stats})
    screen.notice(*(f"kept as it is, whatever made it: {path}" for path in job.kept.values()), label=label)
    opened = open_scan(job)
    volume = opened.volume
    core.results.check_images(job.outputs, volume)
    screen.notice(*opened.notes, label=label)
    todo = [(name, plug, _outputs_of(job, name, existing)) for name, plug in opened.plugs.items()]
    done = []
    for name, plug, outputs in todo:
        if outputs:
            with screen.progress(f"{label.removesuffix(': ') or job.scan.name} {name}".strip()) as advance:
                found = core.segmentation.segment(volume, models(), settings, advance, plug)
            screen.notice(*found.notes, label=f"{label}{name and name + ': '}")
            core.results.write_segmentation(outputs, volume, found, existing.allowed, command)
            done.append((name, outputs, found.stats))
            del found  # before there is the next plug's
    return _outcome(done)


def _outputs_of(job: Job, name: str, existing: Existing) -> dict[str, Path]:
    """Return the files to write for one of several plugs; those for a single one are settled already."""
    if not name:
        return job.outputs
    outputs = {kind: core.scans.scan_names.numbered(path, name) for kind, path in job.outputs.items()}
    if existing.skip_existing:
        outputs = {kind: path for kind, path in outputs.items() if not path.exists()}
    for path in outputs.values():
        core.files.check_writable(path, existing.overwrite)
    return outputs


def _outcome(done: Sequence[tuple[str, dict[str, Path], dict[str, Any]]]) -> Outcome:
    """Return what became of a scan, from the name, the outputs and the numbers of each of its plugs."""
    if not done:
        return Outcome("skipped", "", (SKIPPED,), {"outputs": {}, "stats": None})
    lines = [
        line
        for name, outputs, stats in done
        for line in (*map(entry, outputs, outputs.values()), entry(name or "tidemark", _figures(stats)))
    ]
    each = {name: {"outputs": texts(outputs), "stats": stats} for name, outputs, stats in done}
    if "" in each:
        return Outcome("done", _figures(done[0][2]), tuple(lines), each[""])
    told = "; ".join(f"{name}: {_figures(stats)}" for name, _, stats in done)
    return Outcome("done", told, tuple(lines), {"plugs": each})


def _rows(job: Job, outcome: Outcome) -> list[dict[str, Any]]:
    error = outcome.told if outcome.state == "failed" else ""
    told = {"scan": job.scan, "state": outcome.state, "error": error}
    each = outcome.content.get("plugs", {"": outcome.content})
    return [(content.get("stats") or {}) | told | {"plug": name} for name, content in each.items()]


def _figures(stats: dict[str, Any] | None) -> str:
    if stats is None:
        return ""
    if stats.get("tidemark_columns_count") is None:
        return "none found"
    told = [text.format(stats[key]) for key, text in FIGURES.items() if stats.get(key) is not None]
    if stats.get("offset_um"):
        told.append(f"offset {stats['offset_um']:+g} µm")
    return ", ".join(told)
