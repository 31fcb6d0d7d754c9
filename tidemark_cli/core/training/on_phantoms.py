"""Training on phantoms: synthetic slices, each drawn afresh, and no dataset on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.run import DESCRIPTION, read_description, refuse_existing, write_description, write_log
from ..errors import OutputError
from ..network.devices import choose_device, cores, sharing_cores
from ..network.greylevels import normaliser
from ..network.unet import save_model
from ..phantoms.phantom import draw_slice
from ..settings import with_tuples
from .loop import Batch, Recipe, Row, Trainer, load_start, located, new_network
from .losses import bce_log_jaccard
from .settings import PhantomTraining
from .validation import Checked

TRAINING, VALIDATION = 0, 1  # first number of a slice's seed: validation slices are never trained on
_CLIP = 1.0  # largest norm of the gradient

Progress = Callable[[int, int, Row], None]


class PhantomSlices(Dataset[tuple[Tensor, Tensor]]):
    """Slice i is drawn from the seed (purpose, seed, i): (1, H, W) normalised scan and 0/1 mask.

    Slices of odd numbers have their bone at the last row.
    """

    def __init__(self, settings: PhantomTraining, purpose: int, start: int, stop: int) -> None:
        self.settings, self.purpose, self.start, self.stop = settings, purpose, start, stop
        self.info = settings.model_info()

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = self.start + index
        scan, hard, overview = draw_slice(
            (self.purpose, self.settings.seed, i), (self.settings.rows, self.settings.columns)
        )
        # half are normalised by the grey levels of their scan, half, as single images are, by their own
        levels = overview if i // 2 % 2 else scan
        scan = normaliser(levels[:, None], self.info)(scan)
        if i % 2:
            scan, hard = scan[::-1], hard[::-1]
        return torch.from_numpy(scan.copy())[None], torch.from_numpy(hard.astype(np.float32))[None]


def loader(slices: Dataset[tuple[Tensor, Tensor]], batch: int, workers: int) -> DataLoader[Batch]:
    """Return batches of slices in order, drawn ahead by `workers` processes with one thread each."""
    return DataLoader(
        slices,
        batch_size=batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_take_one_core,
    )


def _take_one_core(worker: int) -> None:
    threadpool_limits(1)  # NumPy's library; PyTorch limits itself


class _Stream:
    """Fresh slices, and fixed ones to validate on: a `loop.Source`."""

    def __init__(self, settings: PhantomTraining, workers: int | None, progress: Progress | None) -> None:
        self.settings, self.workers, self.progress = settings, workers, progress
        self.all_steps = math.ceil(settings.slices / settings.batch)
        self.most = math.ceil(settings.validate_every / settings.batch)  # steps in a round
        self.rounds = math.ceil(self.all_steps / self.most)
        self.started, self.drawn = time.monotonic(), 0

    def steps(self, number: int) -> int:
        return min(self.most, self.all_steps - (number - 1) * self.most)

    def training(self, number: int, start: int) -> Iterator[Batch]:
        batch, last = self.settings.batch, self.settings.slices
        if not self.drawn:  # one stream for all rounds
            self.begun_at = min(((number - 1) * self.most + start) * batch, last)
            slices = PhantomSlices(self.settings, TRAINING, self.begun_at, last)
            most = min(cores(), math.ceil(len(slices) / batch))
            self._fresh = iter(loader(slices, batch, most if self.workers is None else self.workers))
        for scan, mask in islice(self._fresh, self.steps(number) - start):
            yield scan, mask
            self.drawn += len(scan)
            if self.progress:
                self.progress(self.begun_at + self.drawn, last, {})

    def validation(self) -> list[Checked]:
        return self._fixed

    @cached_property
    def _fixed(self) -> list[Checked]:
        slices = PhantomSlices(self.settings, VALIDATION, 0, self.settings.validation_slices)
        turned = (torch.arange(len(slices)) % 2 == 1).split(self.settings.batch)
        batches = loader(slices, self.settings.batch, workers=0)
        return [(scan, mask, ends) for (scan, mask), ends in zip(batches, turned, strict=True)]

    def row(self, number: int) -> Row:
        done = min(number * self.most * self.settings.batch, self.settings.slices)
        seconds = (time.monotonic() - self.started) / max(1, self.drawn)
        return {"slices": done, "seconds_a_slice": seconds}


def train_on_phantoms(
    run: Path,
    settings: PhantomTraining,
    *,
    device: str = "auto",
    resume: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a network on phantoms and write it as ``run/model.safetensors``.

    Parameters
    ----------
    run : the run's folder: ``run.json``, ``log.csv``, ``checkpoint.pt`` and the model.
    device : auto, cpu, cuda[:N] or mps.
    resume : continue from the folder's checkpoint, with the settings of its ``run.json``.
    workers : processes that draw slices, by default one per core. Without a GPU they share the cores with the
        network, which takes half of PyTorch's threads.
    progress : called with the slices done, the total, and, after a validation, its figures.

    Returns
    -------
    The path of the model file.

    Raises
    ------
    OutputError
        If the folder holds a run and `resume` is false, or none and it is true.
    ModelError
        If the model to start from or the checkpoint does not fit, or the training diverges.
    """
    checkpoint = run / "checkpoint.pt"
    if resume:
        settings = read_settings(run)
    else:
        refuse_existing(run)
        if settings.init:
            settings = replace(settings, init=located(settings.init))
    where = choose_device(device)
    start = None if checkpoint.is_file() else load_start(settings)
    net = new_network(settings.model_info(), settings.seed, start)
    write_description(run, {"settings": asdict(settings)})
    recipe = Recipe(bce_log_jaccard, settings.learning_rate, settings.weight_decay, _schedule, _CLIP)
    trainer = Trainer(net, _Stream(settings, workers, progress), recipe, checkpoint, where)

    def ended(row: Row) -> None:
        write_log(run, trainer.log)
        if progress:
            figures = {name: value for name, value in row.items() if value is not None}
            progress(row["slices"], settings.slices, figures)

    with sharing_cores(where):
        trainer.run(ended)
    model = run / "model.safetensors"
    save_model(model, net.cpu())
    return model


def read_settings(run: Path) -> PhantomTraining:
    """Return the settings of the run in a folder.

    Raises
    ------
    OutputError
        If the folder has no run on phantoms, or a damaged one.
    """
    content = read_description(run)
    if content.get("kind", "phantoms") != "phantoms":
        raise OutputError(f"{run} holds a run on a dataset; resume it with that, without --phantom.")
    try:
        return PhantomTraining(**with_tuples(content["settings"]))
    except (TypeError, ValueError) as error:
        raise OutputError(f"{run / DESCRIPTION} is damaged ({error}); start another run.") from error


def _schedule(share: float) -> float:
    """Factor on the learning rate after a share of the steps: up for 2 % of them, then down a cosine."""
    return min(share / 0.02 + 0.01, 1) * 0.5 * (1 + math.cos(math.pi * share))
