"""Training on a dataset, fold by fold: each network is trained without the subjects that it predicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__
from ..network.devices import choose_device
from ..network.greylevels import normaliser
from ..network.inference import Predictor
from ..network.passes import scale_between
from ..network.unet import ModelInfo, UNet, load_model, save_model
from ..scans.volume import write_volume
from .augment import Normalise
from .batches import augmented, steps_of, whole
from .fold_run import FoldRun, FoldTraining, check_statistics, load_start
from .folds import Fold
from .loop import forward, refuse_divergence, restore, save_checkpoint, step
from .losses import Loss, loss_by_name
from .slices import Loaded, Slices, mean_and_sd

CHECKPOINT_S = 600.0  # an epoch of the paper's network takes hours on a processor
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
    start = None if all(run.model(number).exists() for number in wanted) else load_start(run.settings)
    statistics = [_statistics(fold, samples, run.settings.paper) for fold in run.folds]
    check_statistics(run, statistics)
    run.describe(statistics)
    infos = [_info(run.settings, found, start) for found in statistics]
    meter = _Meter(progress, sum(_work(run, number, samples, infos[number]) for number in wanted))
    for number in wanted:
        _remove_leftovers(run, number)
        if not run.model(number).exists():
            _Trainer(run, number, samples, infos[number], start, where, meter).train()
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


def _statistics(fold: Fold, samples: Mapping[str, Loaded], paper: bool) -> tuple[float, float]:
    """Mean and SD of the grey levels of a fold's training samples; of all samples for `paper`."""
    return mean_and_sd(list(samples.values()) if paper else [samples[one] for one in fold.training])


def _remove_leftovers(run: FoldRun, number: int) -> None:
    """Remove the half-written files that a killed training of this fold has left."""
    for path in (run.model(number), run.checkpoint(number), *map(run.prediction, run.folds[number].held_out)):
        for leftover in path.parent.glob(f".*.partial.{path.name}"):
            leftover.unlink()


# --------------------------------------------------------------------------------------------- work


class _Meter:
    """Adds up the work of all folds and reports it."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def add(self, work: int, row: dict[str, Any] | None = None) -> None:
        self.done += work
        if self.progress is not None:
            self.progress(self.done, self.total, row)

    def skip(self, work: int) -> None:
        """Take out work that was done before a stop, so that the time left is of what is to be done."""
        self.total -= work


def _work(run: FoldRun, number: int, samples: Mapping[str, Loaded], info: ModelInfo) -> int:
    """Pixels that go through the network for a fold, a step counted as three passes."""
    fold, settings = run.folds[number], run.settings
    predicted = sum(2 * samples[one].scan.size for one in fold.held_out)
    if run.model(number).exists():
        return predicted
    parts = (fold.training, fold.validation)
    training, validation = (_slices(samples, part, settings, info) for part in parts)
    steps = steps_of(training, settings.batch) * _step_work(training, settings)
    validations = settings.epochs + (settings.init is not None)
    return settings.epochs * steps + validations * _pixels(validation) + predicted


def _step_work(slices: Slices, settings: FoldTraining) -> int:
    return _BACKWARD * min(settings.batch, len(slices)) * math.prod(settings.augmentation.crop)


def _slices(
    samples: Mapping[str, Loaded], part: Sequence[str], settings: FoldTraining, info: ModelInfo
) -> Slices:
    scale = scale_between(settings.voxel_um, info)
    return Slices([samples[one] for one in part], settings.step, scale)


def _pixels(slices: Slices) -> int:
    return len(slices) * math.prod(slices.shape)


# ----------------------------------------------------------------------------------------- one fold


@dataclass
class _State:
    """Where the training of a fold stands: with weights and optimiser, all that a checkpoint holds.

    Attributes
    ----------
    log : a row for each epoch that has ended.
    losses : of the steps of the epoch under way; their number is that of the next batch.
    best : weights of the epoch with the lowest validation loss.
    """

    log: list[dict[str, Any]] = field(default_factory=list)
    losses: list[Any] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        return {"log": self.log, "losses": [float(loss) for loss in self.losses], "best": self.best}


class _Trainer:
    """The training of one fold, from the start or its checkpoint to its network."""

    def __init__(
        self,
        run: FoldRun,
        number: int,
        samples: Mapping[str, Loaded],
        info: ModelInfo,
        start: UNet | None,
        device: torch.device,
        meter: _Meter,
    ) -> None:
        self.run, self.number, self.settings, self.fold = run, number, run.settings, run.folds[number]
        self.device, self.meter, self.state = device, meter, _State()
        self.loss = loss_by_name(self.settings.loss, halved=self.settings.paper)
        self.training = _slices(samples, self.fold.training, self.settings, info)
        self.validation = _slices(samples, self.fold.validation, self.settings, info)
        # trained on one way up alone, a network that takes either would forget the other
        self.augmentation = replace(self.settings.augmentation, turn=0.5 if info.either_end else 0.0)
        torch.manual_seed(self.settings.seed + number)
        self.net = UNet(info)
        if start:
            self.net.load_state_dict(start.state_dict())
        self.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def train(self) -> None:
        """Train all epochs and write the network of the best one; the start of a fine-tuning is epoch 0."""
        checkpoint = self.run.checkpoint(self.number)
        if checkpoint.is_file():
            names = list(self.state.content())
            self.state = _State(**restore(checkpoint, self.net, self.optimiser, self.device, names))
            self.meter.skip(self._work_done())
        while self._epoch <= self.settings.epochs:
            if self._epoch > 0:
                self._train_epoch()
            self._end_epoch()
            self._save()
            self.meter.add(0, self.state.log[-1])
            self.run.write_log(self.state.log)
        best = min(self.state.log, key=lambda row: float(row["validation_loss"]))
        self.net.load_state_dict(self.state.best)
        told = {"tidemark": __version__, "best_epoch": best["epoch"]} | self.run.provenance(self.number)
        self.net.info = replace(self.net.info, training=told | {"log": self.state.log})
        save_model(self.run.model(self.number), self.net.cpu())

    @property
    def _epoch(self) -> int:
        """Number of the epoch under way."""
        return len(self.state.log) + (0 if self.settings.init else 1)

    def _train_epoch(self) -> None:
        """Take the steps of the epoch under way that are not done yet."""
        saved = time.monotonic()
        for x, target in augmented(
            self.training,
            self.settings.batch,
            self.augmentation,
            self._normalise(self.training),
            chances=(self.settings.seed, self.number, self._epoch),
            device=self.device,
            start=len(self.state.losses),
        ):
            frozen = self.settings.init is not None
            loss = step(self.net, self.optimiser, x, target, self.loss, self.device, frozen=frozen)
            self.state.losses.append(loss)
            if time.monotonic() - saved >= CHECKPOINT_S:
                self._save()
                saved = time.monotonic()
            self.meter.add(_BACKWARD * x.numel())

    def _end_epoch(self) -> None:
        """Validate, log, and keep the weights if they are the best so far."""
        state = self.state
        loss = float(np.mean(state.content()["losses"])) if self._epoch > 0 else None
        normalise = self._normalise(self.validation)
        batches = whole(self.validation, self.settings.batch, self.net.info.multiple, normalise, self.device)
        row: dict[str, Any] = {"fold": self.number, "epoch": self._epoch, "loss": loss}
        row |= validate(self.net, self._metered(batches), self.loss, self.device)
        refuse_divergence(
            (loss or 0) + row["validation_loss"], f"fold {self.number}", f"epoch {row['epoch']}"
        )
        if all(row["validation_loss"] < earlier["validation_loss"] for earlier in state.log):
            state.best = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
        state.log.append(row)
        state.losses = []

    def _metered(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for x, target in batches:
            yield x, target
            self.meter.add(target.numel())

    def _normalise(self, slices: Slices) -> list[Normalise]:
        return [normaliser(loaded.scan, self.net.info) for loaded in slices.samples]

    def _save(self) -> None:
        save_checkpoint(self.run.checkpoint(self.number), self.net, self.optimiser, **self.state.content())

    def _work_done(self) -> int:
        """Pixels that the steps and validations before the checkpoint took."""
        validations, epochs = len(self.state.log), max(0, self._epoch - 1)
        steps = epochs * steps_of(self.training, self.settings.batch) + len(self.state.losses)
        return steps * _step_work(self.training, self.settings) + validations * _pixels(self.validation)


@torch.no_grad()
def validate(
    net: UNet, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, device: torch.device
) -> dict[str, float]:
    """Return the mean loss and the IoU over whole slices.

    Parameters
    ----------
    batches : slices and masks, (N, 1, H, W) each; what a slice has beyond its mask is left out.

    Returns
    -------
    ``validation_loss``, the batches weighted by their size, and ``validation_iou``, over all pixels at once,
    at the network's threshold; 0 where there is no hard tissue on either side.
    """
    net.eval()
    losses, sizes = [], []
    both = either = torch.zeros((), dtype=torch.int64, device=device)
    for x, target in batches:
        rows, columns = target.shape[2:]
        logits = forward(net, x, device)[:, :, :rows, :columns]
        losses.append(loss(logits, target))
        sizes.append(len(x))
        found, hard = logits.sigmoid() > net.info.threshold, target > 0
        both = both + (found & hard).sum()
        either = either + (found | hard).sum()
    mean = np.average([float(value) for value in losses], weights=sizes)
    return {"validation_loss": float(mean), "validation_iou": int(both) / max(int(either), 1)}


def _predict_held_out(
    run: FoldRun, number: int, samples: Mapping[str, Loaded], device: torch.device, meter: _Meter
) -> None:
    """Write the probabilities of the fold's held-out samples that are not there yet."""
    predictor = Predictor([load_model(run.model(number))], device)
    run.predictions.mkdir(exist_ok=True)
    for one in run.folds[number].held_out:
        path, scan = run.prediction(one), samples[one].scan
        if not path.exists():
            found = predictor(scan, run.settings.voxel_um)
            write_volume(path, found.probability, run.settings.voxel_um)
        meter.add(2 * scan.size)
