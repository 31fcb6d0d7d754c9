"""``tidemark metrics``: scores of predictions against true masks, those of the paper and more."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .. import console, core
from ..core.settings import BoneEnd, Limits, VoxelSize, check_limits
from .from_fields import Look, Without
from .jobs import named_file
from .options import Existing, Screen, Target

NAMES = {"iou": "IoU", "dice": "Dice", "volumetric_similarity": "volumetric similarity"}
# rows of the surface table: title, factor, unit and digits
SURFACE_ROWS = {
    "bias_um": ("bias of the height", 1, "µm", 1),
    "mean_error_um": ("MAE of the height", 1, "µm", 1),
    "rmse_um": ("RMSE of the height", 1, "µm", 1),
    "p95_error_um": ("95th percentile of the height's error", 1, "µm", 1),
    "missed_columns": ("columns missed", 100, "%", 1),
    "extra_columns": ("columns found in excess", 100, "%", 1),
    "hd95_um": ("HD95", 1, "µm", 1),
    "assd_um": ("ASSD", 1, "µm", 1),
    "surface_dice_6.4um": ("surface Dice at 6.4 µm", 1, "", 2),
    "surface_dice_9.6um": ("surface Dice at 9.6 µm", 1, "", 2),
    "surface_dice_16um": ("surface Dice at 16 µm", 1, "", 2),
    "surface_dice_32um": ("surface Dice at 32 µm", 1, "", 2),
}
TITLE_WIDTH, CELL_WIDTH = 28, 13


@dataclass(frozen=True)
class Inputs:
    """What to score.

    Attributes
    ----------
    paths : a run of `tidemark train`; or two files, folders of slices, or folders of these with matching
        names, TRUTH also a dataset. Default: the newest run in the working directory.
    dataset : where the dataset of the run is, if it has moved.
    voxel_um : voxel size in µm. Default: the file's, else 3.2.
    bone_end : the end of Z at which the bone lies; auto is first for a dataset, else as in the true mask.
    """

    paths: Annotated[tuple[Path, ...], Look("RUN | PREDICTION TRUTH", argument=True)] = ()
    dataset: Annotated[Path | None, Look("FOLDER")] = None
    voxel_um: VoxelSize = None
    bone_end: BoneEnd = "auto"

    def __post_init__(self) -> None:
        if len(self.paths) > 2:
            raise ValueError("expected a RUN, or PREDICTION and TRUTH, or nothing; found more paths")
        if len(self.paths) == 2 and self.dataset is not None:
            raise ValueError("--dataset goes with a RUN; give the dataset as TRUTH")
        if len(self.paths) < 2 and self.bone_end != "auto":
            raise ValueError("--bone-end goes with PREDICTION and TRUTH: a dataset's is first")


@dataclass(frozen=True)
class Zones:
    """The zones to score, and what is hard tissue.

    Attributes
    ----------
    pad : widths of the zones on either side of the tidemark in µm, as in --pad 15 30 45. Default: the
        paper's, 15, 30, ... 150. A path ends the list; write a folder named 2024 as ./2024.
    threshold : probability above which tissue is hard; or several, as in --threshold 0.3 0.5. Default: the
        run's, else 0.5.
    paper : use the zones of the published table, 5 voxels for "15 µm", and show its rows.
    """

    pad: Annotated[tuple[float, ...], Look("UM...")] = ()
    threshold: Annotated[tuple[float, ...], Look("P..."), Limits(0, 1)] = ()
    paper: bool = False

    def __post_init__(self) -> None:
        check_limits(self)
        if not all(math.isfinite(pad) and pad > 0 for pad in self.pad):
            raise ValueError("pad: expected finite numbers above 0")


@dataclass(frozen=True)
class Outputs:
    """What to write.

    Attributes
    ----------
    csv : write the scores of each sample at each threshold as .csv.
    plot : draw the medians over the pads: .png, .pdf or .svg.
    """

    csv: Target = None
    plot: Target = None


def metrics(
    inputs: Inputs,
    zones: Zones,
    outputs: Outputs,
    existing_outputs: Annotated[Existing, Without(["skip_existing"])],
    on_screen: Screen,
) -> None:
    """Score predictions in zones around the true tidemark, and the surface of the tidemark.

    Examples
    --------
    tidemark metrics run/ --pad 15 30 45
    tidemark metrics masks/ truths/ --csv scores.csv --plot scores.pdf
    tidemark metrics run/ --paper
    """
    overwrite = existing_outputs.overwrite
    targets = _targets(outputs, overwrite)
    scores = _score(inputs, zones, on_screen)
    on_screen.notice(*scores.notes)
    code = show_not_scored(scores)
    if not scores.rows:
        raise typer.Exit(1)
    if table := targets.get("--csv"):
        core.scoring.score_files.write_csv(table, scores, overwrite)
    if figure := targets.get("--plot"):
        page = core.pictures.scores.compose_figure(scores)
        core.pictures.style.write_picture(figure, page, overwrite)
    show(scores, on_screen)
    if code:
        raise typer.Exit(code)


def show(scores: core.scoring.scores.Scores, screen: Screen) -> None:
    """Print scores, as JSON or as tables of median ± SD like the paper's Table 1.

    They include the scores of a mask that is hard tissue everywhere, the published ones with --paper, and a
    word on what the bias means.
    """
    if screen.as_json:
        console.result_json(core.scoring.score_files.as_json(scores))
        return
    zones = 'of the published table, 5 voxels for "15 µm"' if scores.paper else "by the voxel size"
    samples = f"median ± SD of {scores.count} samples" if scores.count > 1 else "1 sample"
    console.result(f"{samples}; zones {zones}")
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    each = max(1, (room - TITLE_WIDTH) // CELL_WIDTH)
    for measure in core.scoring.scores.OVERLAPS:
        for start in range(0, len(scores.pads_um), each):
            console.result("")
            _show_zones(scores, measure, slice(start, start + each))
    console.result("")
    _show_surface(scores)
    _show_bias(scores, room)


def show_not_scored(scores: core.scoring.scores.Scores) -> int:
    """Name the samples that could not be scored on stderr, and return the exit code."""
    for sample, reason in scores.not_scored.items():
        console.show_error(core.errors.ScanError(reason), f"{sample} not scored: ")
    return 1 if scores.not_scored else 0


def _targets(outputs: Outputs, overwrite: bool) -> dict[str, Path]:
    """Return the files to write by their options, and refuse what could not be written after the work."""
    wanted = {
        "--csv": (outputs.csv, (".csv",)),
        "--plot": (outputs.plot, core.pictures.scores.FIGURE_SUFFIXES),
    }
    targets = {name: named_file(name, path, suffixes) for name, (path, suffixes) in wanted.items() if path}
    for path in targets.values():
        core.files.check_writable(path, overwrite)
    return targets


def _score(inputs: Inputs, zones: Zones, screen: Screen) -> core.scoring.scores.Scores:
    scores, pairs, paths = core.scoring.scores, core.scoring.pairs, inputs.paths
    with screen.progress("scoring") as advance:
        if len(paths) == 2:
            matched = pairs.match_paths(*paths)
        else:
            run = paths[0] if paths else pairs.newest_run(Path())
            screen.notice(f"run: {run if paths else run.resolve()}")
            matched = pairs.match_run(run, inputs.dataset)
        what = matched, zones.pad or scores.PAPER_PADS_UM, zones.threshold, zones.paper, advance
        return scores.score(*what, voxel_um=inputs.voxel_um, bone_end=inputs.bone_end)


def _show_zones(scores: core.scoring.scores.Scores, measure: str, part: slice) -> None:
    pads = scores.pads_um[part]
    rows = []
    for threshold in scores.thresholds:
        zones = scores.overlap(measure, threshold)[part]
        rows.append((f"threshold {threshold:g}", *(_cell(zone) for zone in zones)))
    rows.append(("all hard", *(_cell(zone) for zone in scores.all_hard(measure)[part])))
    if scores.paper and measure == "iou":
        for loss, threshold, points in core.scoring.scores.PAPER_ROWS:
            known = dict(zip(core.scoring.scores.PAPER_PADS_UM, points, strict=False))
            cells = ("{:.2f} ± {:.2f}".format(*known[pad]) if pad in known else "" for pad in pads)
            rows.append((f"published {loss}, {threshold:g}", *cells))
    console.result_table((NAMES[measure], *(f"{pad:g} µm" for pad in pads)), rows)


def _show_surface(scores: core.scoring.scores.Scores) -> None:
    rows = []
    for measure, (title, factor, unit, digits) in SURFACE_ROWS.items():
        cells = [_cell(scores.surface(measure, one), factor, unit, digits) for one in scores.thresholds]
        rows.append((title, *cells))
        if measure == "bias_um" and scores.count > 1:
            rows.append(
                ("mean bias (95 % interval)", *(_interval(scores.bias(t)) for t in scores.thresholds))
            )
    console.result_table(("surface", *(f"threshold {one:g}" for one in scores.thresholds)), rows)


def _show_bias(scores: core.scoring.scores.Scores, room: int) -> None:
    """Say what the bias at each threshold means, and which offset corrects it."""
    for threshold in scores.thresholds:
        bias = scores.bias(threshold)
        if bias is None or bias.low_um is None:
            continue
        where = f"threshold {threshold:g}: " if len(scores.thresholds) > 1 else ""
        if bias.may_be_chance:
            told = "the interval of the bias includes 0: nothing to correct."
        elif bias.offset_um is None:
            told = (
                f"the tidemark is {abs(bias.mean_um):.0f} µm off, further than PTA soaks: check the bone end "
                "in the previews, and the registration of the true masks."
            )
        else:
            side = "near the cartilage" if bias.mean_um > 0 else "deep"
            told = (
                f"the tidemark is found too {side}, and not by chance (the interval of the bias excludes 0): "
                "most likely PTA soaks to another depth in your protocol. Correct it by fine-tuning (train "
                f"--init default), or with predict --offset {bias.offset_um:+.1f}, added to any offset that "
                "these masks were made with."
            )
        console.result("")
        console.result(textwrap.fill(where + told, room))


def _interval(bias: core.scoring.scores.Bias | None) -> str:
    if bias is None:
        return "none"
    if bias.low_um is None:
        return f"{bias.mean_um:.1f} µm"
    return f"{bias.mean_um:.1f} ({bias.low_um:.1f} to {bias.high_um:.1f}) µm"


def _cell(
    spread: core.scoring.scores.Spread | None, factor: float = 1, unit: str = "", digits: int = 2
) -> str:
    if spread is None:
        return "none"
    values = [spread.median] if spread.sd is None else [spread.median, spread.sd]
    return f"{' ± '.join(f'{factor * value:.{digits}f}' for value in values)} {unit}".rstrip()
