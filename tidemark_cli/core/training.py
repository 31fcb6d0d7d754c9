"""Training on phantoms: an endless stream of fresh synthetic slices, no data set on disk."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .. import __version__
from .errors import ModelError, OutputError
from .files import written_whole
from .inference import choose_device, normaliser
from .losses import bce_log_jaccard
from .phantom import VOXEL_UM, draw_slice
from .unet import ModelInfo, UNet, load_model, save_model

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
    validate_every : slices between two validations and checkpoints.
    validation_slices : how many fixed slices to validate on.
    init : a model file to start from instead of random weights.
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
        scan, hard = draw_slice(
            (self.purpose, self.settings.seed, i), (self.settings.rows, self.settings.columns)
        )
        scan = normaliser(scan[:, None, :], self.info)(scan)
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
    workers : processes that draw slices; by default one less than the cores, at least one.
    progress : called with slices done, slices in all, and the latest figures.

    Returns
    -------
    The path of the model file.

    Raises
    ------
    OutputError
        If the folder holds a run already and `resume` is false, or holds none and it is true.
    ModelError
        If the model to start from, or the checkpoint to resume from, cannot be read or does not fit.
    """
    checkpoint = run / "checkpoint.pt"
    settings = _settings_of(run, settings, resume)
    where = choose_device(device)
    torch.manual_seed(settings.seed)
    net = UNet(settings.model_info())
    if settings.init and not checkpoint.is_file():
        _start_from(net, Path(settings.init))
    net.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    _describe(run, settings)
    optimiser = torch.optim.Adam(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    done = 0
    log: list[dict[str, float]] = []
    if checkpoint.is_file():
        try:
            state = torch.load(checkpoint, map_location=where, weights_only=True)
            net.load_state_dict(state["net"])
            optimiser.load_state_dict(state["optimiser"])
            done, log = state["done"], state["log"]
        except Exception as error:  # torch raises half a dozen kinds for a bad file
            message = f"{checkpoint} is damaged or of another run; delete it to start the run anew."
            raise ModelError(message) from error
    validation = _loader(
        PhantomSlices(settings, _VALIDATION, 0, settings.validation_slices), settings.batch, 0
    )
    fixed = list(validation)
    workers = max(1, (os.cpu_count() or 2) - 1) if workers is None else workers
    started, begun_at = time.monotonic(), done
    losses: list[float] = []
    for scan, mask in _loader(
        PhantomSlices(settings, _TRAINING, done, settings.slices), settings.batch, workers
    ):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(done / settings.slices)
        losses.append(_step(net, optimiser, scan, mask, where))
        before, done = done, done + len(scan)
        if progress:
            progress(done, settings.slices, {"loss": losses[-1]})
        if done // settings.validate_every > before // settings.validate_every or done >= settings.slices:
            figures = {"slices": done, "loss": float(np.mean(losses))} | validate(net, fixed, where)
            log.append(figures | {"seconds_a_slice": (time.monotonic() - started) / (done - begun_at)})
            losses.clear()
            _checkpoint(run, net, optimiser, done, log)
            if progress:
                progress(done, settings.slices, log[-1])
    model = run / "model.safetensors"
    save_model(model, net.cpu())
    return model


def _settings_of(run: Path, settings: PhantomTraining, resume: bool) -> PhantomTraining:
    """Return the settings to train with: those given, or those of the run that is resumed."""
    description = run / "run.json"
    if not resume:
        if description.exists():
            raise OutputError(
                f"{run} holds a run already; use --resume to go on with it, or name another folder."
            )
        return settings
    if not description.is_file():
        raise OutputError(
            f"{run}: expected a run to resume (run.json), found none; start it without --resume."
        )
    try:
        return PhantomTraining(**json.loads(description.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{description} is damaged ({error}); start another run.") from error


def _describe(run: Path, settings: PhantomTraining) -> None:
    """Write the settings into the run's folder."""
    run.mkdir(parents=True, exist_ok=True)
    content = {"tidemark": __version__, "settings": asdict(settings)}
    with written_whole(run / "run.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _start_from(net: UNet, path: Path) -> None:
    """Copy the weights of a model of the same size."""
    model = load_model(path)
    sizes = [(info.width, info.depth, info.stem) for info in (net.info, model.info)]
    if sizes[0] != sizes[1]:
        raise ModelError(f"{path}: expected width, depth and stem {sizes[0]} as asked for, found {sizes[1]}.")
    net.load_state_dict(model.state_dict())


def _loader(slices: PhantomSlices, batch: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(slices, batch_size=batch, num_workers=workers, prefetch_factor=4 if workers else None)


def _schedule(share: float) -> float:
    """Learning rate over its peak, after a share of the slices: up for 2 %, then down a cosine."""
    return min(share / 0.02 + 0.01, 1) * 0.5 * (1 + math.cos(math.pi * share))


def _step(
    net: UNet, optimiser: torch.optim.Optimizer, scan: Tensor, mask: Tensor, where: torch.device
) -> float:
    net.train()
    logits = _forward(net, scan, where)
    loss = bce_log_jaccard(logits, mask.to(where))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def _forward(net: UNet, scan: Tensor, where: torch.device) -> Tensor:
    with torch.autocast(where.type, torch.bfloat16, enabled=where.type in ("cpu", "cuda")):
        logits: Tensor = net(scan.to(where, memory_format=torch.channels_last))
    return logits.float()


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
        logits = _forward(net, scan, where).cpu()
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


def _checkpoint(
    run: Path, net: UNet, optimiser: torch.optim.Optimizer, done: int, log: list[dict[str, float]]
) -> None:
    state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "done": done, "log": log}
    with written_whole(run / "checkpoint.pt") as temporary:
        torch.save(state, temporary)
    with written_whole(run / "log.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(log[0]))
        writer.writeheader()
        writer.writerows(log)
