"""``tidemark train``: train networks on a dataset, fold by fold, or one on phantoms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import console, core
from ..core.settings import Limits
from . import batch, cluster
from .from_fields import Either, Look, Without, checked, option_of
from .jobs import running_on
from .metrics import show, show_not_scored
from .options import Screen, Spread

if TYPE_CHECKING:
    from ..core.training.fold_run import FoldRun

DATASET, PHANTOMS = "On a dataset", "On phantoms"
# settings of a phantom training that are not options: the embedded model was made with these
FIXED = ("rows", "columns", "threshold", "validate_every", "validation_slices")
COLUMNS = "fold  epoch     loss  validation loss  validation IoU"

Given = dict[str, Any]  # the settings that were given, by name


@dataclass(frozen=True)
class Run:
    """What to train on, and where the run goes.

    Attributes
    ----------
    out : the folder of the run.
    dataset : a dataset as `tidemark preprocess` makes it.
    phantom : train on synthetic slices, each drawn afresh, instead of a DATASET.
    resume : continue the run in RUN with its settings, to the same result (on the CPU) as without a stop.
        Options that contradict its settings are refused.
    device : where to compute; auto takes a GPU if there is one. A missing device is an error.
    fold : train only fold K, from 0. Runs of single folds, copied into one folder, are a whole run.
    grades : stratify the folds by this table with the columns sample_id and grade. Default: DATASET's
        grades.csv, if any. Not with --resume: a run keeps its folds.
    """

    out: Annotated[Path, Look("RUN", short="o")]
    dataset: Annotated[Path | None, Look("DATASET", argument=True)] = None
    phantom: bool = False
    resume: bool = False
    device: str = "auto"
    fold: Annotated[int | None, Look("K"), Limits(0)] = None
    grades: Annotated[Path | None, Look("CSV")] = None

    def __post_init__(self) -> None:
        if self.phantom and (self.dataset, self.fold, self.grades) != (None, None, None):
            raise ValueError("--phantom excludes DATASET, --fold and --grades")
        if self.dataset is None and not self.phantom:
            raise ValueError("expected a DATASET to train on, or --phantom")
        if self.resume and self.grades is not None:
            raise ValueError(
                "--grades: the run that is resumed has its folds already; leave the option out, or start "
                "another run"
            )


def train(
    run: Run,
    settings: Annotated[
        Given,
        Either(
            {
                DATASET: core.training.settings.FoldTraining,
                PHANTOMS: core.training.settings.PhantomTraining,
            },
            without=FIXED,
        ),
    ],
    many_folds: Annotated[Spread, Without(["part"])],
    on_screen: Screen,
) -> None:
    """Train networks on DATASET, predict every sample by the fold that did not see its subject, and score.

    Use RUN with `tidemark predict --weights` and `tidemark metrics`.

    Examples
    --------
    tidemark train dataset/ -o run/
    tidemark train dataset/ -o run/ --cluster local
    tidemark train dataset/ -o tuned/ --init default --epochs 5
    tidemark train --phantom -o run/ --slices 40000
    """
    if run.dataset is not None:
        _train_on_dataset(run, run.dataset, settings, many_folds.cluster, on_screen)
    elif many_folds.cluster is None:
        _train_on_phantoms(run, settings, on_screen)
    else:
        raise typer.BadParameter("--cluster: only for a training on a dataset, whose folds it spreads.")


def _train_on_phantoms(run: Run, given: Given, screen: Screen) -> None:
    training = core.training.on_phantoms
    _refuse_foreign(core.training.settings.PhantomTraining, given, DATASET)
    if run.resume and core.scoring.pairs.is_run(run.out):  # if it is not, the training says so
        settings = training.read_settings(run.out)
        _refuse_changes(settings, given)
    else:
        settings = checked(core.training.settings.PhantomTraining, _with_sizes(given))
    screen.notice(running_on(run.device))
    with screen.progress("training") as advance:

        def tell(done: int, total: int, figures: dict[str, float]) -> None:
            if "validation_loss" in figures:
                screen.notice(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
            if advance is not None:
                advance(done, total)

        model = training.train_on_phantoms(
            run.out, settings, device=run.device, resume=run.resume, progress=tell
        )
    screen.result({"model": str(model)}, [str(model)])


def _train_on_dataset(run: Run, dataset: Path, given: Given, where: str | None, screen: Screen) -> None:
    training = core.training.fold_run
    device = [running_on(run.device)] if where is None else []  # the workers have theirs
    _refuse_foreign(core.training.settings.FoldTraining, given, PHANTOMS)
    if run.resume:
        planned = training.reopen_run(run.out, dataset)
        _refuse_changes(planned.settings, given)
    else:
        settings = checked(core.training.settings.FoldTraining, _with_sizes(given))
        planned = training.start_run(run.out, dataset, settings, run.grades)
    if run.fold is not None and run.fold >= len(planned.folds):
        raise typer.BadParameter(f"--fold {run.fold}: expected 0 to {len(planned.folds) - 1}.")
    run.out.mkdir(parents=True, exist_ok=True)
    core.files.check_writable(run.out / "run.json", overwrite=True)
    screen.notice(*planned.notes, *device)
    code = 0
    if where is None:
        _train_here(planned, run, screen)
    else:
        code = _train_on_cluster(planned, run, where, screen)
    if planned.missing:
        screen.notice(
            f"not trained yet: fold(s) {', '.join(map(str, planned.missing))}; once their files are in "
            f"{run.out}, score the run with `tidemark metrics {run.out}`"
        )
        screen.result({"run": str(run.out), "folds_missing": planned.missing}, [])
    else:
        _show_scores(run.out, planned.settings.paper, screen)
    if code:
        raise typer.Exit(code)


def _train_here(planned: FoldRun, run: Run, screen: Screen) -> None:
    """Train the folds one after the other, from samples that are read once."""
    with screen.progress("reading") as advance:
        samples = core.training.slices.load_all(planned.samples, advance)
    with screen.progress("training") as advance:
        table = _table(planned.settings.epochs, screen, advance)
        core.training.on_dataset.train_folds(
            planned, samples, only=run.fold, device=run.device, progress=table
        )


def _train_on_cluster(planned: FoldRun, run: Run, where: str, screen: Screen) -> int:
    """Train the folds at once, each on a worker, and return the exit code; one that fails is named."""
    calls = [(number, f"fold {number}: ") for number in planned.missing if run.fold in (None, number)]
    work, code = partial(_train_fold, planned=planned, device=run.device), 0
    with cluster.connected(where, screen, run.device, len(calls)) as executor:
        assert executor is not None
        for index, outcome in batch.each(executor, work, calls, screen, "folds"):
            code = max(code, outcome.code)
            if outcome.state == "done":
                screen.notice(outcome.told, label=calls[index][1])
    planned.write_log()
    planned.write_registry()
    return code


def _train_fold(number: int, label: str, *, planned: FoldRun, device: str) -> batch.Outcome:
    """Train one fold on a worker, which reads the samples from the shared dataset."""
    samples = core.training.slices.load_all(planned.samples)
    core.training.on_dataset.train_folds(planned, samples, only=number, device=device)
    told = core.network.unet.read_info(planned.model(number)).training
    (best,) = (row for row in told["log"] if row["epoch"] == told["best_epoch"])
    return batch.Outcome(
        "done",
        f"epoch {best['epoch']}/{planned.settings.epochs} kept, validation loss "
        f"{best['validation_loss']:.4f}, validation IoU {best['validation_iou']:.4f}",
    )


def _refuse_foreign(kind: Any, given: Given, other: str) -> None:
    """Refuse options of the other kind of training."""
    if foreign := sorted(given.keys() - {field.name for field in fields(kind)}):
        options = ", ".join(map(option_of, foreign))
        raise typer.BadParameter(f"{options}: only for a training {other.lower()}.")


def _refuse_changes(settings: object, given: Given) -> None:
    """Refuse options that contradict the settings of the run to be resumed."""
    if "init" in given:
        given = given | {"init": core.training.loop.located(given["init"])}
    for name, value in given.items():
        if value != (kept := getattr(settings, name)):
            raise typer.BadParameter(
                f"{option_of(name)} {value}: the run that is resumed has {kept}; leave the option out, or "
                "start another run."
            )


def _with_sizes(given: Given) -> Given:
    """Add the sizes of the model to start from, where they are not given."""
    if "init" not in given or {"width", "depth", "stem"} <= given.keys():
        return given
    info = core.network.models.load_one(given["init"]).info
    filters = None if {"width", "depth"} & given.keys() else info.filters
    return {"width": info.width, "depth": info.depth, "stem": info.stem, "filters": filters} | given


def _table(
    epochs: int, screen: Screen, advance: console.Advance | None
) -> Callable[[int, int, dict[str, Any] | None], None]:
    """Print the head of a table, and return a callback that adds a line per epoch and shows the progress."""
    screen.notice(COLUMNS)

    def tell(done: int, total: int, row: dict[str, Any] | None) -> None:
        if row is not None:
            loss = "" if row["loss"] is None else f"{row['loss']:.4f}"  # there is none before the first step
            screen.notice(
                f"{row['fold']:>4}  {row['epoch']:>2}/{epochs:<2}  {loss:>7}  "
                f"{row['validation_loss']:>15.4f}  {row['validation_iou']:>14.4f}"
            )
        if advance is not None:
            advance(done, total)

    return tell


def _show_scores(run: Path, paper: bool, screen: Screen) -> None:
    """Print what `tidemark metrics RUN` prints, with --paper if the run was trained with it."""
    with screen.progress("scoring") as advance:
        matched = core.scoring.pairs.match_run(run)
        scores = core.scoring.scores.score(matched, paper=paper, progress=advance)
    screen.notice(*scores.notes)
    code = show_not_scored(scores)
    if scores.rows:
        show(scores, screen)
    if code:
        raise typer.Exit(code)
