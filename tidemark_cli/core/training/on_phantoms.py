"""Training on phantoms: an endless stream of fresh synthetic slices, no data set on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ... import __version__
from ..data.run import DESCRIPTION, read_description, refuse_existing, write_description, write_log
from ..errors import OutputError
from ..network.devices import choose_device, cores, sharing_cores
from ..network.greylevels import normaliser
from ..network.unet import ModelInfo, UNet, save_model
from ..phantoms.phantom import COARSEST_UM, VOXEL_UM, draw_slice
from .loop import forward, located, refuse_divergence, restore, save_checkpoint, start_from, step
from .losses import bce_log_jaccard

_CLIP = 1.0  # largest norm of the gradient
_TRAINING, _VALIDATION = 0, 1  # first number of a slice's seed: validation slices are never trained on


@dataclass(frozen=True)
class PhantomTraining:
    """How to train on phantoms; the embedded model's card tells how these were used.

    Attributes
    ----------
    slices : how many slices to draw; each is seen once.
    batch : slices a step.
    rows, columns : size of a slice.
    learning_rate : of Adam at its peak; it warms up and falls to zero along a cosine.
    weight_decay : of Adam.
    seed : of the slices drawn and of the random weights.
    width, depth, stem : of the network, see `unet.ModelInfo`.
    threshold : written into the model: the probability above which `predict` takes a voxel for hard tissue.
    validate_every : slices between two validations and checkpoints.
    validation_slices : how many fixed slices to validate on.
    init : a model file, or "default", to start from instead of random weights.
    """

    slices: int = 40_000
    batch: int = 8
    rows: int = 448
    columns: int = 320
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0
    width: int = 16
    depth: int = 5
    stem: int = 2
    threshold: float = 0.5
    validate_every: int = 2_000
    validation_slices: int = 64
    init: str | None = None

    def __post_init__(self) -> None:
        multiple = self.model_info().multiple
        if self.rows % multiple or self.columns % multiple:
            raise ValueError(
                f"depth {self.depth} and stem {self.stem} need slices with sides of multiples of {multiple}, "
                f"phantom slices have {self.rows} x {self.columns}; give a smaller depth or stem"
            )
        if not all(map(math.isfinite, (self.learning_rate, self.weight_decay))):
            raise ValueError("learning rate and weight decay must be finite numbers")

    def described(self) -> dict[str, Any]:
        """The settings as JSON, without the folder of the model to start from."""
        return asdict(self) | {"init": Path(self.init).name if self.init else None}

    def model_info(self) -> ModelInfo:
        """The network this trains, ready to be used at full resolution."""
        return ModelInfo(
            width=self.width,
            depth=self.depth,
            stem=self.stem,
            normalisation={"kind": "window", "low": 1.0, "high": 99.0},
            voxel_um=VOXEL_UM,
            coarsest_um=COARSEST_UM,
            step=2,  # slices are closer than the tidemark's finest features
            threshold=self.threshold,
            either_end=True,
            training={"trained_on": "phantoms only, no real image", "tidemark": __version__}
            | self.described(),
        )


class PhantomSlices(Dataset[tuple[Tensor, Tensor]]):
    """Slice i is drawn from the seed (purpose, seed, i): (1, H, W) normalised scan and 0/1 mask."""

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
        # a slice of a scan is seen in the grey levels of the scan, a single image in its own
        levels = overview if i // 2 % 2 else scan
        scan = normaliser(levels[:, None], self.info)(scan)
        if i % 2:  # the network is to take either end
            scan, hard = scan[::-1], hard[::-1]
        return torch.from_numpy(scan.copy())[None], torch.from_numpy(hard.astype(np.float32))[None]


def train_on_phantoms(
    run: Path,
    settings: PhantomTraining,
    *,
    device: str = "auto",
    resume: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Path:
    """Train a network on phantoms and write it as ``run/model.safetensors``.

    Parameters
    ----------
    run : the run's folder: ``run.json``, ``log.csv``, ``checkpoint.pt`` and the model.
    device : auto, cpu, cuda[:N] or mps.
    resume : go on from the folder's checkpoint, with the settings of its ``run.json``.
    workers : processes that draw slices, one thread each; by default as many as cores. Without a GPU they
        share the cores with the network, which takes half of PyTorch's threads.
    progress : called with slices done, slices in all, and the latest figures.

    Returns
    -------
    The path of the model file.

    Raises
    ------
    OutputError
        If the folder holds a run already and `resume` is false, or holds none and it is true.
    ModelError
        If the model to start from, or the checkpoint to resume from, cannot be read or does not fit, or
        the training diverges.
    """
    checkpoint = run / "checkpoint.pt"
    if resume:
        settings = read_settings(run)
    else:
        refuse_existing(run)
        if settings.init:
            settings = replace(settings, init=located(settings.init))
    where = choose_device(device)
    torch.manual_seed(settings.seed)
    net = UNet(settings.model_info())
    if settings.init and not checkpoint.is_file():
        start_from(net, settings.init)
    net.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    write_description(run, {"settings": asdict(settings)})
    optimiser = torch.optim.Adam(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    done = 0
    log: list[dict[str, float]] = []
    if checkpoint.is_file():
        state = restore(checkpoint, net, optimiser, where, ("done", "log"))
        done, log = state["done"], state["log"]
    validation = _loader(
        PhantomSlices(settings, _VALIDATION, 0, settings.validation_slices), settings.batch, 0
    )
    fixed = list(validation)
    fresh = PhantomSlices(settings, _TRAINING, done, settings.slices)
    if workers is None:
        workers = min(cores(), -(-len(fresh) // settings.batch))
    started, begun_at = time.monotonic(), done
    losses: list[float] = []
    with sharing_cores(where):
        for scan, mask in _loader(fresh, settings.batch, workers):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * _schedule(done / settings.slices)
            losses.append(step(net, optimiser, scan, mask, bce_log_jaccard, where, _CLIP).item())
            before, done = done, done + len(scan)
            if progress:
                progress(done, settings.slices, {"loss": losses[-1]})
            if done // settings.validate_every > before // settings.validate_every or done >= settings.slices:
                figures = {"slices": done, "loss": float(np.mean(losses))} | validate(net, fixed, where)
                refuse_divergence(
                    figures["loss"] + figures["validation_loss"], "the training", f"the slices up to {done}"
                )
                log.append(figures | {"seconds_a_slice": (time.monotonic() - started) / (done - begun_at)})
                losses.clear()
                save_checkpoint(checkpoint, net, optimiser, done=done, log=log)
                write_log(run, log)
                if progress:
                    progress(done, settings.slices, log[-1])
    model = run / "model.safetensors"
    save_model(model, net.cpu())
    return model


def read_settings(run: Path) -> PhantomTraining:
    """Return the settings of the run in a folder.

    Raises
    ------
    OutputError
        If the folder holds no run on phantoms, or a damaged one.
    """
    content = read_description(run)
    if content.get("kind", "phantoms") != "phantoms":
        raise OutputError(f"{run} holds a run on a dataset; resume it with that, without --phantom.")
    try:
        return PhantomTraining(**content["settings"])
    except (TypeError, ValueError) as error:
        raise OutputError(f"{run / DESCRIPTION} is damaged ({error}); start another run.") from error


def _loader(slices: PhantomSlices, batch: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(
        slices,
        batch_size=batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_take_one_core,
    )


def _take_one_core(worker: int) -> None:
    """Keep numpy's library to one thread in a process that draws slices; PyTorch does so itself."""
    threadpool_limits(1)


def _schedule(share: float) -> float:
    """Learning rate over its peak, after a share of the slices: up for 2 %, then down a cosine."""
    return min(share / 0.02 + 0.01, 1) * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def validate(net: UNet, slices: list[tuple[Tensor, Tensor]], where: torch.device) -> dict[str, float]:
    """Loss and IoU over fixed slices, and the tidemark's error in pixels over their columns.

    The error of a column is between the first hard pixels seen from the cartilage; `missed_columns` is the
    share of the columns with hard tissue in which none was found.
    """
    net.eval()
    losses, errors = [], []
    intersection = union = missed = columns = 0
    for index, (scan, mask) in enumerate(slices):
        logits = forward(net, scan, where).cpu()
        losses.append(float(bce_log_jaccard(logits, mask)))
        found, truth = logits > 0, mask > 0
        intersection += int((found & truth).sum())
        union += int((found | truth).sum())
        for k in range(len(scan)):
            flip = (index * slices[0][0].shape[0] + k) % 2 == 1
            f, t = ((m[k, 0] if flip else m[k, 0].flip(0)).numpy() for m in (found, truth))  # cartilage first
            both = t.any(0) & f.any(0)
            errors.append(np.abs(f.argmax(0) - t.argmax(0))[both])
            columns += int(t.any(0).sum())
            missed += int((t.any(0) & ~f.any(0)).sum())
    error = np.concatenate(errors) if errors else np.zeros(0)
    return {
        "validation_loss": float(np.mean(losses)),
        "validation_iou": intersection / max(union, 1),
        "median_error_px": float(np.median(error)) if error.size else math.nan,
        "mean_error_px": float(error.mean()) if error.size else math.nan,
        "p95_error_px": float(np.percentile(error, 95)) if error.size else math.nan,
        "missed_columns": missed / max(columns, 1),
    }
