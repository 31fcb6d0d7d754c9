"""``tidemark train``: train networks on a dataset, fold by fold, or one on phantoms."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .. import console
from .options import Device, voxel_size_option

if TYPE_CHECKING:
    from ..core.training.fold_run import FoldRun, FoldTraining
    from ..core.training.on_phantoms import PhantomTraining

Settings = TypeVar("Settings", "PhantomTraining", "FoldTraining")

NAMES = {"pad_to": "pad", "voxel_size": "voxel_um"}  # options that are called otherwise as settings
# every other option is a setting
OF_THE_RUN = ("run", "dataset", "phantom", "resume", "device", "fold", "grades")
COLUMNS = "fold  epoch     loss  validation loss  validation IoU  time left"


class Loss(str, Enum):
    """Losses of the paper."""

    bce = "bce"
    focal = "focal"
    jaccard = "jaccard"
    bce_jaccard = "bce-jaccard"
    bce_logjaccard = "bce-logjaccard"


def train(
    context: typer.Context,
    run: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The folder of the run.")],
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="DATASET", help="A dataset as `tidemark preprocess` makes it."),
    ] = None,
    phantom: Annotated[
        bool, typer.Option("--phantom", help="Train on synthetic slices, each drawn afresh: no DATASET.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in RUN, with the settings it has; on the CPU, to the same result as "
            "without a stop. Options that contradict them are refused.",
        ),
    ] = False,
    device: Device = "auto",
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|default",
            help="Start from this model instead of random weights, with its width, depth and stem; default "
            "is the embedded one. On a DATASET its normalisation, voxel size, planes and threshold "
            "stay, the statistics of its batch norm are frozen, and as epoch 0 it is kept where no epoch is "
            "better. It must not know the held-out samples.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of folds, weights, order, augmentation; of phantoms. [0]")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Filters at the first level. [24; phantoms 16]")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, max=8, help="Levels of the network. [6; phantoms 5]")
    ] = None,
    stem: Annotated[
        int | None, typer.Option(min=1, max=4, help="Side of the pixel blocks taken as one. [1; phantoms 2]")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Slices a step. [32; phantoms 8]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Of Adam. [1e-4; phantoms 1e-3, the peak]")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, help="Of Adam. [1e-4]")] = None,
    slices: Annotated[int | None, typer.Option(min=1, help="Phantom slices to draw. [40000]")] = None,
    loss: Annotated[Loss | None, typer.Option(help="The loss. Without it, bce-logjaccard.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the slices; the best by the validation loss is kept. [15]"),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds, grouped by subject. [5]")] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="K",
            help="Train fold K alone, from 0. The files of runs of single folds, copied into one folder, "
            "are a whole run.",
        ),
    ] = None,
    grades: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="sample_id,grade: stratify the folds by it. Without it, DATASET's grades.csv, if any. Not "
            "with --resume: a run keeps its folds.",
        ),
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="Train on every so many slices of both planes. [1]")
    ] = None,
    pad_to: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="ROWS COLUMNS",
            help="Zero-pad smaller slices to this. It fits the slices: 800 800 for the paper's 768 x 448.",
        ),
    ] = None,
    crop: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="ROWS COLUMNS",
            help="Cut this out at random. It fits the slices: 640 384 for the paper's 768 x 448.",
        ),
    ] = None,
    flip: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of slices flipped left to right. [0.5]")
    ] = None,
    gamma: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Range of the gamma correction. [0.5 2]"),
    ] = None,
    gamma_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of slices with a gamma correction. [0.5]")
    ] = None,
    voxel_size: Annotated[
        float | None,
        voxel_size_option(
            "Of the dataset, in µm, since its files hold none; the networks carry it. With --init, slices "
            "are resampled to the model's, as predict does it. [3.2]"
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The choices of the paper's code: the epoch with the lowest loss on the held-out fold "
            "itself (without it: on an inner split by subject), mean and SD over all folds (of the training "
            "samples), folds by subject alone (stratified by grade), both terms of a loss of two weighted "
            "0.5 (1); and scores in the zones of the published table.",
        ),
    ] = False,
) -> None:
    """Train networks on DATASET, predict every sample by the fold that did not see its subject, and score.

    RUN goes to `tidemark predict --weights` and `tidemark metrics`.
    """
    settings = {
        NAMES.get(name, name): value.value if isinstance(value, Enum) else value
        for name, value in context.params.items()
        if name not in OF_THE_RUN and value is not None and value is not False
    }
    if phantom:
        if dataset is not None or fold is not None or grades is not None:
            raise typer.BadParameter("--phantom: DATASET, --fold and --grades do not go with it.")
        _train_on_phantoms(run, settings, device, resume)
    elif dataset is None:
        raise typer.BadParameter("expected a DATASET to train on, or --phantom.")
    elif resume and grades is not None:
        raise typer.BadParameter(
            "--grades: the run that is resumed has its folds already; leave the option out, or start another "
            "run."
        )
    else:
        _train_on_dataset(run, dataset, settings, grades, fold, device, resume)


def _checked(kind: type[Settings], given: dict[str, Any]) -> Settings:
    """Return the settings of a training, or refuse what it does not have or take."""
    _refuse_foreign(kind, given)
    try:
        return kind(**given)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error


def _refuse_foreign(kind: type[Settings], given: dict[str, Any]) -> None:
    """Refuse options of the other kind of training."""
    foreign = sorted(given.keys() - {field.name for field in fields(kind)})
    if foreign:
        other = "phantoms" if "slices" in foreign else "a dataset"
        raise typer.BadParameter(f"{', '.join(map(_option, foreign))}: only for a training on {other}.")


def _refuse_changes(settings: Settings, given: dict[str, Any]) -> None:
    """Refuse options that say otherwise than the run that is resumed: it keeps its settings."""
    _refuse_foreign(type(settings), given)
    from ..core.training.loop import located

    if "init" in given:
        given = given | {"init": located(given["init"])}
    for name, value in given.items():
        if value != (kept := getattr(settings, name)):
            raise typer.BadParameter(
                f"{_option(name)} {value}: the run that is resumed has {kept}; leave the option out, or "
                "start another run."
            )


def _option(name: str) -> str:
    """Return what the command line calls a setting."""
    names = {setting: option for option, setting in NAMES.items()}
    return f"--{names.get(name, name).replace('_', '-')}"


def _with_sizes(given: dict[str, Any]) -> dict[str, Any]:
    """Take the sizes of the network that are not given from the model to start from."""
    from ..core.network.models import load_one

    sizes = ("width", "depth", "stem")
    if "init" not in given or set(sizes) <= given.keys():
        return given
    info = load_one(given["init"]).info
    return {name: getattr(info, name) for name in sizes} | given


def _train_on_phantoms(run: Path, given: dict[str, Any], device: str, resume: bool) -> None:
    from ..core.network.devices import choose_device
    from ..core.scoring.pairs import is_run
    from ..core.training.on_phantoms import PhantomTraining, read_settings, train_on_phantoms

    if resume and is_run(run):  # else the training says that there is none
        settings = read_settings(run)
        _refuse_changes(settings, given)
    else:
        settings = _checked(PhantomTraining, _with_sizes(given))
    console.notice(f"device: {choose_device(device)}{' (auto)' if device == 'auto' else ''}")
    with console.progress("training") as advance:

        def show(done: int, total: int, figures: dict[str, float]) -> None:
            if "validation_loss" in figures:
                console.notice(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
            if advance is not None:
                advance(done, total)

        model = train_on_phantoms(run, settings, device=device, resume=resume, progress=show)
    console.result(str(model))


def _train_on_dataset(
    folder: Path,
    dataset: Path,
    given: dict[str, Any],
    grades: Path | None,
    only: int | None,
    device: str,
    resume: bool,
) -> None:
    from ..core.files import check_writable
    from ..core.network.devices import choose_device
    from ..core.training.fold_run import FoldTraining, reopen_run, start_run
    from ..core.training.on_dataset import train_folds
    from ..core.training.slices import load_all

    chosen = choose_device(device)
    if resume:
        run = reopen_run(folder, dataset)
        _refuse_changes(run.settings, given)
    else:
        run = start_run(folder, dataset, _checked(FoldTraining, _with_sizes(given)), grades)
    if only is not None and only >= len(run.folds):
        raise typer.BadParameter(f"--fold {only}: expected 0 to {len(run.folds) - 1}.")
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder / "run.json", overwrite=True)
    for line in (*run.notes, f"device: {chosen}{' (auto)' if device == 'auto' else ''}"):
        console.notice(line)
    with console.progress("reading") as advance:
        samples = load_all(run.samples, advance)
    with console.progress("training") as advance:
        train_folds(run, samples, only=only, device=device, progress=_table(run.settings.epochs, advance))
    if run.missing:
        console.notice(
            f"not trained yet: fold(s) {', '.join(map(str, run.missing))}; when their files are in {folder}, "
            f"`tidemark metrics {folder}` scores the whole"
        )
    else:
        _show_scores(run)


def _table(epochs: int, advance: console.Advance | None) -> Callable[[int, int, dict[str, Any] | None], None]:
    """Return what shows a training as it goes: a line for each epoch, and the progress between them."""
    started = time.monotonic()
    console.notice(COLUMNS)

    def show(done: int, total: int, row: dict[str, Any] | None) -> None:
        if row is not None and done:
            left = round((time.monotonic() - started) * (total - done) / done)
            loss = "" if row["loss"] is None else f"{row['loss']:.4f}"  # before the first step there is none
            console.notice(
                f"{row['fold']:>4}  {row['epoch']:>2}/{epochs:<2}  {loss:>7}  "
                f"{row['validation_loss']:>15.4f}  {row['validation_iou']:>14.4f}  "
                f"{left // 3600:>3}:{left // 60 % 60:02d}:{left % 60:02d}"
            )
        if advance is not None:
            advance(done, total)

    return show


def _show_scores(run: FoldRun) -> None:
    """Print what `tidemark metrics RUN` prints, and for the paper's choices what it prints with --paper."""
    from ..core.scoring.scores import score_run
    from .metrics import show_not_scored, show_scores

    with console.progress("scoring") as advance:
        scores = score_run(run.folder, paper=run.settings.paper, progress=advance)
    for note in scores.notes:
        console.notice(note)
    code = show_not_scored(scores)
    if scores.rows:
        show_scores(scores)
    if code:
        raise typer.Exit(code)
