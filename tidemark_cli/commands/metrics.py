"""``tidemark metrics``: scores of predictions against true masks, as the paper has them and beyond."""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .. import console, core
from .jobs import named_file
from .options import BoneEnd, Overwrite, voxel_size_option

LISTS = ("--pad", "--threshold")  # options that take several values
NAMES = {"iou": "IoU", "dice": "Dice", "volumetric_similarity": "volumetric similarity"}
# title, unit and digits of the rows of the surface table
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


class ManyValues(TyperCommand):
    """A command whose options in `LISTS` take all numbers that follow: ``--pad 15 30 45``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write each number as an option of its own, which is how the parser knows several values."""
        return super().parse_args(ctx, spread_lists(args))


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """Return ``--pad 15 30,45 RUN`` as ``--pad=15 --pad=30 --pad=45 RUN``; a path ends the numbers.

    A path that is a number is written ``./15``, or stands before the option.
    """
    spread: list[str] = []
    option = None  # the one whose numbers are being read
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*spread, *arguments[place:]]
        name, _, value = argument.partition("=")
        if name in LISTS and (value or _are_numbers("".join(arguments[place + 1 : place + 2]))):
            option = name
            spread += _each(name, value)
        elif option and _are_numbers(argument):
            spread += _each(option, argument)
        else:
            option = None
            spread.append(argument)
    return spread


def _each(option: str, numbers: str) -> list[str]:
    return [f"{option}={number}" for number in numbers.split(",") if number]


def _are_numbers(argument: str) -> bool:
    number = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
    return bool(re.fullmatch(rf"{number}(,{number})*,?", argument))


def metrics(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN | PREDICTION TRUTH",
            help="A run of tidemark train; or files, folders of slices, or folders of these with matching "
            "names, TRUTH also a dataset. Without it, the newest run in the working directory.",
            show_default=False,
        ),
    ] = None,
    pad: Annotated[
        list[float] | None,
        typer.Option(
            metavar="UM...",
            help="Widths of the zones on either side of the tidemark, in µm: --pad 15 30 45. "
            "Without it, the paper's: 15, 30, ... 150. A path ends the list; write a folder named 2024 as "
            "./2024.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            metavar="P...",
            help="Hard tissue is where the probability is above it; several: --threshold 0.3 0.5. "
            "Without it, the run's, else 0.5.",
            show_default=False,
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option("--paper", help='Zones of the published table, 5 voxels for "15 µm", and its rows.'),
    ] = False,
    dataset: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the run's dataset is, if it has moved.")
    ] = None,
    voxel_size: Annotated[
        float | None, voxel_size_option("Voxel size in µm. Without it, the file's, else 3.2.")
    ] = None,
    bone_end: Annotated[
        BoneEnd,
        typer.Option(
            help="At which end of Z the bone lies. auto: first for a dataset, else as in the true mask."
        ),
    ] = BoneEnd.auto,
    csv: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Write the scores of each sample at each threshold as .csv."),
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="PATH", help="Draw the medians over the pads: .png, .pdf or .svg.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages, no progress.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON in place of tables.")
    ] = False,
) -> None:
    """Score predictions in zones about the true tidemark, and the tidemark's surface itself."""
    places = paths or []
    _check_usage(places, pad, threshold, dataset, bone_end)
    outputs = _outputs(csv, plot, overwrite)

    scores = _score(places, pad, threshold, paper, dataset, voxel_size, bone_end, quiet)
    if not quiet:
        for note in scores.notes:
            console.notice(note)
    code = show_not_scored(scores)
    if not scores.rows:
        raise typer.Exit(1)
    if "--csv" in outputs:
        core.scoring.score_files.write_csv(outputs["--csv"], scores, overwrite)
    if "--plot" in outputs:
        core.pictures.scores.draw_figure(outputs["--plot"], scores, overwrite)
    if as_json:
        console.result_json(core.scoring.score_files.as_json(scores))
    else:
        show_scores(scores)
    if code:
        raise typer.Exit(code)


def show_scores(scores: core.scoring.scores.Scores) -> None:
    """Print median ± SD as in the paper's Table 1, with its rows where the zones are its own, to stdout.

    Beside them stands what a mask scores that is hard tissue everywhere; below, what the bias means.
    """
    zones = (
        'zones of the published table, 5 voxels for "15 µm"' if scores.paper else "zones by the voxel size"
    )
    told = f"median ± SD of {scores.count} samples" if scores.count > 1 else "1 sample"
    console.result(f"{told}; {zones}")
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
    """Name on stderr every sample that could not be scored; return the exit code."""
    for sample, reason in scores.not_scored.items():
        console.show_error(core.errors.ScanError(reason), f"{sample} not scored: ")
    return 1 if scores.not_scored else 0


def _check_usage(
    places: Sequence[Path],
    pads: Sequence[float] | None,
    thresholds: Sequence[float] | None,
    dataset: Path | None,
    bone_end: BoneEnd,
) -> None:
    if len(places) > 2:
        raise typer.BadParameter("expected a RUN, or PREDICTION and TRUTH, or nothing; found more paths.")
    if len(places) == 2 and dataset is not None:
        raise typer.BadParameter("--dataset goes with a RUN; name the dataset as TRUTH.")
    if len(places) < 2 and bone_end != BoneEnd.auto:
        raise typer.BadParameter("--bone-end goes with PREDICTION and TRUTH: a dataset's is first.")
    if not all(math.isfinite(pad) and pad > 0 for pad in pads or ()):
        raise typer.BadParameter("--pad: expected finite numbers above 0.")
    if not all(0 <= threshold <= 1 for threshold in thresholds or ()):
        raise typer.BadParameter("--threshold: expected numbers from 0 to 1.")


def _outputs(csv: str | None, plot: str | None, overwrite: bool) -> dict[str, Path]:
    """Return the files to write, and refuse what could not be written after the work."""
    wanted = {"--csv": (csv, (".csv",)), "--plot": (plot, core.pictures.scores.FIGURE_SUFFIXES)}
    outputs = {
        option: named_file(option, target, suffixes)
        for option, (target, suffixes) in wanted.items()
        if target
    }
    for path in outputs.values():
        core.files.check_writable(path, overwrite)
    return outputs


def _score(
    places: Sequence[Path],
    pads: Sequence[float] | None,
    thresholds: Sequence[float] | None,
    paper: bool,
    dataset: Path | None,
    voxel_um: float | None,
    bone_end: BoneEnd,
    quiet: bool,
) -> core.scoring.scores.Scores:

    with console.progress("scoring", quiet) as advance:
        shared = pads or core.scoring.scores.PAPER_PADS_UM, thresholds, paper, advance
        if len(places) == 2:
            return core.scoring.scores.score_paths(
                places[0], places[1], *shared, voxel_um=voxel_um, bone_end=bone_end.value
            )
        run = places[0] if places else core.scoring.pairs.newest_run(Path())
        if not quiet:
            console.notice(f"run: {run.resolve() if not places else run}")
        return core.scoring.scores.score_run(run, *shared, dataset=dataset, voxel_um=voxel_um)


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
    """Say for each threshold what the bias over the samples means, and the offset that corrects it."""
    for threshold in scores.thresholds:
        bias = scores.bias(threshold)
        if bias is None or bias.low_um is None:
            continue
        where = f"threshold {threshold:g}: " if len(scores.thresholds) > 1 else ""
        if bias.may_be_chance:
            told = "the interval of the bias holds 0: nothing to correct."
        elif bias.offset_um is None:
            told = (
                f"the tidemark is found {abs(bias.mean_um):.0f} µm off, further than PTA soaks: look at the "
                "previews for a wrong bone end, and at the registration of the true masks."
            )
        else:
            side = "near the cartilage" if bias.mean_um > 0 else "deep"
            told = (
                f"the tidemark is found too {side}, and not by chance (the interval of the bias excludes 0): "
                "most likely the laboratory's own depth of stain. Correct it by fine-tuning (train --init "
                f"default), or with predict --offset {bias.offset_um:+.1f}, added to an offset these masks "
                "already have."
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
