"""Training on a dataset, fold by fold: each network is trained without the subjects it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

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

Progress = Callable[[int, int, Row | None], None]


def train_folds(
    run: FoldRun,
    samples: Mapping[str, Loaded],
    *,
    only: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> None:
    """Train the missing folds of a run, and predict their held-out samples.

    A fold continues from its checkpoint, if any; see `Trainer`.

    Parameters
    ----------
    run : from `start_run` or `reopen_run`.
    samples : those of the run by id, from `load_all`.
    only : train this fold alone.
    device : auto, cpu, cuda[:N] or mps.
    progress : called with the steps done and the total, and at the end of an epoch with its row of the log.

    Raises
    ------
    DatasetError
        If the dataset has changed since the run began.
    ModelError
        If the model to start from or a checkpoint does not fit, or the training diverges.
    """
    where = choose_device(device)
    wanted = [number for number in run.missing if only in (None, number)]
    untrained = [number for number in wanted if not run.model(number).exists()]
    start = load_start(run.settings) if untrained else None
    parts = [samples if run.settings.paper else fold.training for fold in run.folds]
    statistics = [mean_and_sd([samples[one] for one in part]) for part in parts]
    check_statistics(run, statistics)
    run.describe(statistics)
    meter = _Meter(progress)
    infos = {number: _info(run.settings, statistics[number], start) for number in untrained}
    sources = {number: _FoldSlices(run, number, samples, infos[number], where, meter) for number in infos}
    meter.total = sum(source.rounds * source.steps(1) for source in sources.values())
    for number in wanted:
        run.remove_leftovers(number)
        if number in sources:
            _train_fold(run, sources[number], start)
        _predict_held_out(run, number, samples, where)
        run.checkpoint(number).unlink(missing_ok=True)
        run.write_registry()
    run.write_log()
    run.write_registry()


def _info(settings: FoldTraining, statistics: tuple[float, float], start: UNet | None) -> ModelInfo:
    """How a fold's network is built and used."""
    if start:  # its weights expect the rest to stay as it is
        return replace(start.info, loss=settings.loss, training={})
    mean, sd = statistics
    return replace(settings.model_info(), normalisation={"kind": "standard", "mean": mean, "std": sd})


class _Meter:
    """Counts the steps of all folds, and reports them."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def add(self, steps: int, row: Row | None = None) -> None:
        self.done += steps
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
        self.rounds = run.settings.epochs
        scale, fold = scale_between(run.settings.voxel_um, info), run.folds[number]
        self.seen, self.unseen = (
            Slices([samples[one] for one in part], run.settings.step, scale)
            for part in (fold.training, fold.validation)
        )

    def steps(self, number: int) -> int:
        return steps_of(self.seen, self.settings.batch)

    def training(self, number: int, start: int) -> Iterator[Batch]:
        # a network that takes the bone at either end would forget the end that it does not see
        how = replace(self.settings.augmentation, turn=0.5 if self.info.either_end else 0.0)
        chances = (self.settings.seed, self.number, number)
        batch, normalise = self.settings.batch, self._normalise[0]
        for x, target in augmented(
            self.seen, batch, how, normalise, chances=chances, device=self.device, start=start
        ):
            yield x, target
            self.meter.add(1)

    def validation(self) -> Iterator[Checked]:
        batch, normalise = self.settings.batch, self._normalise[1]
        for x, target in whole(self.unseen, batch, self.info.multiple, normalise, self.device):
            yield x, target, torch.zeros(len(x), dtype=torch.bool)

    def row(self, number: int) -> Row:
        return {"fold": self.number, "epoch": number}

    @cached_property
    def _normalise(self) -> list[list[Normalise]]:
        """The functions of grey levels of the samples trained and validated on."""
        return [
            [normaliser(loaded.scan, self.info) for loaded in slices.samples]
            for slices in (self.seen, self.unseen)
        ]


def _train_fold(run: FoldRun, source: _FoldSlices, start: UNet | None) -> None:
    """Train a fold, and write the network of its best epoch."""
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
    meter.total -= trainer.steps_done  # before a stop: they must not count in the time left

    def ended(row: Row) -> None:
        meter.add(0, row)
        run.write_log(trainer.log)

    trainer.run(ended)
    best = min(trainer.log, key=lambda row: float(row["validation_loss"]))
    told = {"tidemark": __version__, "best_epoch": best["epoch"]} | run.provenance(number)
    net.info = replace(net.info, training=told | {"log": trainer.log})
    save_model(run.model(number), net.cpu())


def _predict_held_out(run: FoldRun, number: int, samples: Mapping[str, Loaded], device: torch.device) -> None:
    """Write the missing probabilities of the fold's held-out samples."""
    predictor = Predictor([load_model(run.model(number))], device)
    for one in run.folds[number].held_out:
        path = run.prediction(one)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            found = predictor(samples[one].scan, run.settings.voxel_um)
            write_volume(path, found.probability, run.settings.voxel_um)
