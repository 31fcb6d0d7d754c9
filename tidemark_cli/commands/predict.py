"""``tidemark predict``: from raw scans to hard-tissue masks and what is derived from them."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

from .. import core
from ..core.settings import Settings, VoxelSize
from . import batch, cluster
from .batch import Outcome
from .from_fields import Look, Without
from .jobs import Job, described, named_file, plan_jobs, volume_suffixes
from .options import Existing, Screen, Spread, Target, entry

Models = Sequence["core.network.unet.UNet"]
Plugs = Sequence["core.anatomy.plug.Plug"]
Opened = tuple["core.arrays.Room", "core.scans.volume.Volume", Plugs]

# what a person is told of the numbers; --stats and --json have them all
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
    voxel_um : voxel size in µm. Without it, the file's or log's, else 3.2.
    weights : a model (.safetensors, or .pth of the paper's authors), a folder of them, averaged, or the name
        of weights from `tidemark download`. Without it, or as default, the embedded model, whatever is
        installed under that name. A .pth needs mean_std.npy beside it; its threshold is 0.3, which suits
        BCE - log J: give --threshold 0.5 for BCE and focal.
    plug : which plug of several in a scan, numbered in the order in which they lie along Z, Y or X; or all,
        each in files of its own, NAME_plug1 and so on. Without it, the largest; others are warned of.
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
    out : the mask: .tif, .nrrd, .nii.gz, .nii or .mha. A folder (existing, or ending in /) takes NAME.tif of
        each scan; needed for several scans, and then for every PATH below.
    probability : write the probability, 8-bit, 255 is 1.
    uncertainty : write the largest minus the smallest probability over planes and models, 8-bit, 255 is 1.
    surface : write the height of the tidemark above the bone end in µm, float TIFF; NaN where there is none.
    stats : write the numbers, with their definitions, as JSON.
    preview : write a picture to judge the result by, PNG.
    csv : write the numbers of all scans as .csv, a row each; those of skipped scans from --stats.
    """

    out: Annotated[str, Look("OUT", short="o")]
    probability: Target = None
    uncertainty: Target = None
    surface: Target = None
    stats: Target = None
    preview: Target = None
    csv: Target = None


@dataclass(frozen=True)
class Memory:
    """How much memory is taken.

    Attributes
    ----------
    max_memory : of a scan that needs more, such as 4GiB or 512MB, keep all but a part at a time in files
        without names beside the first output. Without it, nine tenths of what is free.
    """

    max_memory: Annotated[str | None, Look("SIZE")] = None

    def __post_init__(self) -> None:
        if self.max_memory is not None:
            try:
                core.memory.parse_size(self.max_memory)
            except ValueError as error:
                raise ValueError(f"max_memory: {error}") from error

    def room(self, outputs: Mapping[str, Path], settings: Settings) -> core.arrays.Room:
        """Return where a scan and what is made of it may lie."""
        free = core.memory.memory_available() * 9 // 10
        most = free if self.max_memory is None else core.memory.parse_size(self.max_memory)
        folder = next(iter(outputs.values())).absolute().parent
        return core.arrays.Room(most - core.memory.BASE_BYTES, 2 + settings.uncertainty, folder)


@dataclass(frozen=True)
class How:
    """What is the same for all scans.

    Attributes
    ----------
    again : whether a scan may be done twice, as on a cluster whose worker died after it had written.
    """

    voxel_um: float | None
    plug: str | None
    models: Callable[[], Models]
    settings: Settings
    memory: Memory
    existing: Existing
    again: bool
    screen: Screen
    command: str

    @property
    def overwrite(self) -> bool:
        """Whether an output that exists is replaced."""
        return self.existing.overwrite or self.again


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
    suffixes = dict.fromkeys(("out", "probability", "uncertainty"), volume)
    suffixes |= {"surface": tiff, "stats": (".json",), "preview": (".png",)}
    targets = {name: path for name, path in vars(outputs).items() if name != "csv"}
    jobs = plan_jobs(inputs.scans, targets, suffixes, existing_outputs, spread=many_scans)
    table = None if outputs.csv is None else named_file("--csv", outputs.csv, (".csv",))
    if table is not None:
        core.files.check_writable(table, existing_outputs.allowed)
    settings = replace(segmentation, uncertainty=outputs.uncertainty is not None)
    models = partial(_models, inputs.weights, secrets.token_hex(8))
    command = shlex.join(["tidemark", *sys.argv[1:]])
    how = How(
        voxel_um=inputs.voxel_um,
        plug=inputs.plug,
        models=models,
        settings=settings,
        memory=memory,
        existing=existing_outputs,
        again=many_scans.again,
        screen=on_screen,
        command=command,
    )
    work = partial(_segment, how=how)
    if len(jobs) == 1 and jobs[0].outputs and many_scans.cluster is None:
        work = partial(work, opened=_started(partial(_open, jobs[0], how)))  # while the models are loaded
    if any(job.outputs and core.scans.scan_names.split_member(job.scan)[0].exists() for job in jobs):
        device = settings.device if many_scans.cluster is None else None  # the workers have theirs
        _announce_models(inputs.weights, models, device, on_screen)
        assert outputs.preview is None or core.pictures.preview  # loads Matplotlib
    with cluster.connected(many_scans.cluster, on_screen, settings.device) as executor:
        outcomes = batch.run(work, jobs, on_screen, ("scan", "tidemark"), executor)
    if table is not None:
        core.results.write_table(table, chain.from_iterable(map(_rows, jobs, outcomes)))
        if not on_screen.as_json:
            on_screen.result({}, [entry("table", table)])
    batch.end(outcomes)


@lru_cache(maxsize=1)
def _models(weights: Path | None, run: str) -> Models:
    """Load the models, once a process in each run: the files may have changed since an earlier one."""
    return core.network.models.load_models(weights)


def _announce_models(
    weights: Path | None, models: Callable[[], Models], device: str | None, screen: Screen
) -> None:
    """Load the models, and say which they are and, where it is known, where they run."""
    chosen = None if device is None else core.network.devices.choose_device(device)
    count = len(models())
    embedded = str(weights or "default") == core.network.models.EMBEDDED
    told = "the embedded one, trained on phantoms only" if embedded else weights
    screen.notice(f"model: {told}{f', {count} averaged' if count > 1 else ''}")
    if chosen is not None:
        screen.notice(f"device: {chosen}{' (auto)' if device == 'auto' else ''}")


def _started(call: Callable[[], Opened]) -> Callable[[], Opened]:
    """Begin a call in a thread that ends with the program, and return what waits for its result."""
    future: Future[Opened] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result


def _open(job: Job, how: How) -> Opened:
    """Read a scan, and find the plugs in it."""
    room = how.memory.room(job.outputs, how.settings)
    with core.arrays.reading_into(room):
        volume = core.scans.volume.read_volume(job.scan, how.voxel_um)
    core.results.check_images(job.renamed("mask"), volume)
    with core.errors.about(volume.path):
        return (
            room,
            volume,
            core.anatomy.plug.find_plugs(volume.array, volume.voxel_um, how.settings.bone_end),
        )


def _segment(job: Job, label: str, how: How, opened: Callable[[], Opened] | None = None) -> Outcome:
    """Segment the plugs asked for in one scan, and write the outputs of each.

    Parameters
    ----------
    opened : waits for the scan, where it is being opened already.
    """
    if not job.outputs:
        stats = core.results.read_stats(job.kept["stats"]) if "stats" in job.kept else None
        told = ("skipped: every output exists",)
        return Outcome("skipped", _figures(stats), told, {"outputs": {}, "stats": stats})
    screen = how.screen
    screen.notice(*(f"kept as it is, whatever made it: {path}" for path in job.kept.values()), label=label)
    room, volume, found_plugs = opened() if opened is not None else _open(job, how)
    screen.notice(*_told_before(volume, how, room), label=label)
    plugs, notes = _chosen(volume.path, found_plugs, how.plug)
    screen.notice(*notes, label=label)
    done = []
    todo = [(name, plug, _outputs_of(job, name, how)) for name, plug in plugs.items()]
    for name, plug, outputs in todo:
        if outputs:
            with screen.progress(f"{label.removesuffix(': ') or job.scan.name} {name}".strip()) as advance:
                found = core.segmentation.segment(volume, how.models(), how.settings, advance, plug)
            screen.notice(*found.notes, label=f"{label}{name and name + ': '}")
            core.results.write_segmentation(outputs, volume, found, how.overwrite, how.command)
            done.append((name, outputs, found.stats))
    return _outcome(job, done)


def _chosen(
    path: Path, plugs: Plugs, choice: str | None
) -> tuple[dict[str, core.anatomy.plug.Plug], tuple[str, ...]]:
    """Return the plugs to segment, by the names that tell their files apart, and what to say of them."""
    if choice == "all":
        return {f"plug{n}": replace(plug, rival=0.0) for n, plug in enumerate(plugs, 1)}, ()
    if choice is not None:
        if int(choice) > len(plugs):
            raise core.errors.ContentError(
                f"{path}: expected a plug with the number {choice}, found {len(plugs)}; check --plug."
            )
        return {"": replace(plugs[int(choice) - 1], rival=0.0)}, ()  # whoever chose it knows of the others
    largest = min(plugs, key=lambda plug: plug.rival)
    if len(plugs) == 1:
        return {"": largest}, ()
    places = (f"{n} at {plug.place}" for n, plug in enumerate(plugs, 1))
    told = f"the scan holds {len(plugs)} plugs ({'; '.join(places)})"
    number = plugs.index(largest) + 1
    return {"": largest}, (
        f"warning: {told}; {number} is segmented: --plug N takes another, --plug all each",
    )


def _outputs_of(job: Job, name: str, how: How) -> dict[str, Path]:
    """Return the files to write for one of the plugs; those of a scan's only one are settled already."""
    outputs = job.renamed("mask")
    if not name:
        return outputs
    outputs = {kind: core.scans.scan_names.numbered(path, name) for kind, path in outputs.items()}
    if how.existing.skip_existing:
        outputs = {kind: path for kind, path in outputs.items() if not path.exists()}
    for path in outputs.values():
        core.files.check_writable(path, how.overwrite)
    return outputs


def _outcome(job: Job, done: Sequence[tuple[str, dict[str, Path], dict[str, Any]]]) -> Outcome:
    """Tell of the plugs that were segmented in a scan."""
    if not done:
        return Outcome("skipped", "", ("skipped: every output exists",), {"outputs": {}, "stats": None})
    figures = {name: _figures(stats) for name, _, stats in done}
    lines = [
        line
        for name, outputs, _ in done
        for line in (*map(entry, outputs, outputs.values()), entry(name or "tidemark", figures[name]))
    ]
    if done[0][0]:
        told = "; ".join(f"{name}: {text}" for name, text in figures.items())
        each = {name: {"outputs": _texts(outputs), "stats": stats} for name, outputs, stats in done}
        return Outcome("done", told, tuple(lines), {"plugs": each})
    return Outcome("done", figures[""], tuple(lines), {"outputs": job.written, "stats": done[0][2]})


def _texts(outputs: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in outputs.items()}


def _told_before(volume: core.scans.volume.Volume, how: How, room: core.arrays.Room) -> list[str]:
    """Say what was read, and how much memory it takes; raise where even the way over the disk fails."""
    array, uncertainty = volume.array, how.settings.uncertainty
    need = core.segmentation.memory_needed(array.shape, array.itemsize, uncertainty)
    told = [f"{described(volume)}, about {_size(need)} of memory", *volume.notes]
    if not core.arrays.on_disk(array):
        return told
    allowed, least = room.most + core.memory.BASE_BYTES, core.segmentation.least_memory(array.shape)
    if how.memory.max_memory is not None and allowed < least:
        raise core.errors.ScanError(
            f"{volume.path} needs {_size(least)} of memory at the least, {_size(allowed)} are allowed; "
            "give a larger --max-memory."
        )
    on_disk = core.segmentation.disk_needed(array.shape, array.itemsize, uncertainty, len(how.models()))
    room.check_disk(on_disk)
    told.append(f"over {_size(allowed)}: up to {_size(on_disk)} go through files in {room.folder}")
    return told


def _rows(job: Job, outcome: Outcome) -> list[dict[str, Any]]:
    """Return the row of a scan in the table, or one for each of its plugs."""
    error = outcome.told if outcome.state == "failed" else ""
    told = {"scan": job.scan, "state": outcome.state, "error": error}
    each = outcome.content.get("plugs", {"": outcome.content})
    return [(content.get("stats") or {}) | told | {"plug": name} for name, content in each.items()]


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _figures(stats: dict[str, Any] | None) -> str:
    if stats is None:
        return ""
    if stats.get("tidemark_columns_count") is None:
        return "none found"
    told = [text.format(stats[key]) for key, text in FIGURES.items() if stats.get(key) is not None]
    if stats.get("offset_um"):
        told.append(f"offset {stats['offset_um']:+g} µm")
    return ", ".join(told)
