"""Training on a dataset, fold by fold: each network is trained without the subjects that it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from ... import __version__
from ..network.devices import choose_device
from ..network.greylevels import Normalise, normaliser
from ..network.inference import Predictor
from ..network.passes import scale_between
from ..network.unet import ModelInfo, UNet, load_model, save_model
from ..scans.volume import write_volume
from .batches import augmented, steps_of, whole
from .fold_run import FoldRun, check_statistics
from .loop import Batch, Recipe, Row, Trainer, load_start, new_network
from .losses import loss_by_name
from .settings import FoldTraining
from .slices import Loaded, Slices, mean_and_sd
from .validation import Checked

_BACKWARD = 3  # a step costs as much as three times the network forward

Progress = Callable[[int, int, dict[str, Any] | None], None]


def train_folds(
    run: FoldRun,
    samples: Mapping[str, Loaded],
    *,
    only: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> None:
    """Train the folds of a run that are not done yet, and predict their held-out samples.

    A fold goes on from its checkpoint where there is one (they are written after every epoch and every ten
    minutes); on the CPU, with the same number of threads, to the same files as without a stop, bit for bit.

    Parameters
    ----------
    run : from `start_run` or `reopen_run`.
    samples : those of the run by id, from `load_all`.
    only : train this fold alone.
    device : auto, cpu, cuda[:N] or mps.
    progress : called with the work done and in all, in pixels through the network, and when an epoch has
        ended with its row of the log.

    Raises
    ------
    DatasetError
        If the dataset is not that of the run any more.
    ModelError
        If the model to start from or a checkpoint does not fit, or the training diverges.
    """
    where = choose_device(device)
    wanted = run.missing if only is None else [number for number in run.missing if number == only]
    # a run that is trained needs the model it started from no more
    untrained = [number for number in wanted if not run.model(number).exists()]
    start = load_start(run.settings) if untrained else None
    parts = [samples if run.settings.paper else fold.training for fold in run.folds]
    statistics = [mean_and_sd([samples[one] for one in part]) for part in parts]
    check_statistics(run, statistics)
    run.describe(statistics)
    meter = _Meter(progress)
    infos = {number: _info(run.settings, statistics[number], start) for number in untrained}
    sources = {number: _FoldSlices(run, number, samples, infos[number], where, meter) for number in infos}
    meter.total = sum(source.all_work() for source in sources.values())
    meter.total += sum(2 * samples[one].scan.size for number in wanted for one in run.folds[number].held_out)
    for number in wanted:
        run.remove_leftovers(number)
        if number in sources:
            _train_fold(run, sources[number], start)
        _predict_held_out(run, number, samples, where, meter)
        run.checkpoint(number).unlink(missing_ok=True)
        run.write_registry()
    run.write_log()
    run.write_registry()


def _info(settings: FoldTraining, statistics: tuple[float, float], start: UNet | None) -> ModelInfo:
    """How a fold's network is built and used: as the start, whose weights are used to that."""
    if start:
        return replace(start.info, loss=settings.loss, training={})
    mean, sd = statistics
    return replace(settings.model_info(), normalisation={"kind": "standard", "mean": mean, "std": sd})


class _Meter:
    """Adds up the work of all folds, in pixels through the network, and reports it."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def add(self, work: int, row: Row | None = None) -> None:
        self.done += work
        if self.progress is not None:
            self.progress(self.done, self.total, row)


class _FoldSlices:
    """The slices of a fold, an epoch a round: a `loop.Source`."""

    def __init__(
        self,
        run: FoldRun,
        number: int,
        samples: Mapping[str, Loaded],
        info: ModelInfo,
        device: torch.device,
        meter: _Meter,
    ) -> None:
        self.number, self.settings, self.info = number, run.settings, info
        self.device, self.meter = device, meter
        self.name, self.rounds = f"fold {number}", run.settings.epochs
        scale, fold = scale_between(run.settings.voxel_um, info), run.folds[number]
        self.seen, self.unseen = (
            Slices([samples[one] for one in part], run.settings.step, scale)
            for part in (fold.training, fold.validation)
        )

    def steps(self, number: int) -> int:
        return steps_of(self.seen, self.settings.batch)

    def training(self, number: int, start: int) -> Iterator[Batch]:
        # trained on one way up alone, a network that takes either would forget the other
        how = replace(self.settings.augmentation, turn=0.5 if self.info.either_end else 0.0)
        chances = (self.settings.seed, self.number, number)
        batch, normalise = self.settings.batch, self._normalise[0]
        for x, target in augmented(
            self.seen, batch, how, normalise, chances=chances, device=self.device, start=start
        ):
            yield x, target
            self.meter.add(_BACKWARD * x.numel())

    def validation(self) -> Iterator[Checked]:
        batch, normalise = self.settings.batch, self._normalise[1]
        for x, target in whole(self.unseen, batch, self.info.multiple, normalise, self.device):
            yield x, target, torch.zeros(len(x), dtype=torch.bool)
            self.meter.add(target.numel())

    def row(self, number: int) -> Row:
        return {"fold": self.number, "epoch": number}

    def told(self, row: Row) -> str:
        return f"epoch {row['epoch']}"

    def work(self, validations: int, steps: int) -> int:
        """Pixels that go through the network, a step counted as three passes."""
        a_step = min(self.settings.batch, len(self.seen)) * math.prod(self.settings.augmentation.crop)
        return _BACKWARD * steps * a_step + validations * len(self.unseen) * math.prod(self.unseen.shape)

    def all_work(self) -> int:
        """Pixels of the whole training of the fold."""
        return self.work(self.rounds + (self.settings.init is not None), self.rounds * self.steps(1))

    @cached_property
    def _normalise(self) -> list[list[Normalise]]:
        """For each sample trained and validated on its function of grey levels."""
        return [
            [normaliser(loaded.scan, self.info) for loaded in slices.samples]
            for slices in (self.seen, self.unseen)
        ]


def _train_fold(run: FoldRun, source: _FoldSlices, start: UNet | None) -> None:
    """Train a fold from the start or its checkpoint, and write the network of its best epoch."""
    settings, number, meter = run.settings, source.number, source.meter
    net = new_network(source.info, settings.seed + number, start)
    recipe = Recipe(
        loss_by_name(settings.loss, halved=settings.paper),
        settings.learning_rate,
        settings.weight_decay,
        tuning=start is not None,
        keep_best=True,
    )
    trainer = Trainer(net, source, recipe, run.checkpoint(number), source.device)
    # what was done before a stop is not to be done: the time left is told by the work
    meter.total -= source.work(len(trainer.log), trainer.steps_done)

    def ended(row: Row) -> None:
        meter.add(0, row)
        run.write_log(trainer.log)

    trainer.run(ended)
    best = min(trainer.log, key=lambda row: float(row["validation_loss"]))
    told = {"tidemark": __version__, "best_epoch": best["epoch"]} | run.provenance(number)
    net.info = replace(net.info, training=told | {"log": trainer.log})
    save_model(run.model(number), net.cpu())


def _predict_held_out(
    run: FoldRun, number: int, samples: Mapping[str, Loaded], device: torch.device, meter: _Meter
) -> None:
    """Write the probabilities of the fold's held-out samples that are not there yet."""
    predictor = Predictor([load_model(run.model(number))], device)
    for one in run.folds[number].held_out:
        path, scan = run.prediction(one), samples[one].scan
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            found = predictor(scan, run.settings.voxel_um)
            write_volume(path, found.probability, run.settings.voxel_um)
        meter.add(2 * scan.size)
