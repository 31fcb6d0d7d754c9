"""The one loop of every training: steps, a validation after each round of them, and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..files import written_whole
from ..network.models import load_one
from ..network.unet import ModelInfo, UNet
from ..settings import EMBEDDED
from .losses import Loss
from .settings import FoldTraining, PhantomTraining
from .validation import Checked, forward, validate

CHECKPOINT_S = 600.0  # an epoch of the paper's network takes hours on a processor

Batch = tuple[Tensor, Tensor]
Row = dict[str, Any]


class Source(Protocol):
    """Where a training gets its slices from: as many `rounds` of them as it has, numbered from 1."""

    rounds: int

    def steps(self, number: int) -> int:
        """Batches of a round."""

    def training(self, number: int, start: int) -> Iterable[Batch]:
        """Yield the batches of a round from number `start` on: slices and 0/1 masks, (N, 1, H, W) each."""

    def validation(self) -> Iterable[Checked]:
        """Yield what `validate` takes, the same after every round."""

    def row(self, number: int) -> Row:
        """Return the first entries of a round's row in the log; integers name it in messages."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    learning_rate, weight_decay : of Adam.
    schedule : factor on the learning rate, as a function of the share of the steps done; by default 1.
    clip : largest norm of the gradient.
    tuning : fine-tune a trained network: freeze the statistics of its batch norm, which few, similar slices
        would spoil, and validate it as round 0, before the first step.
    keep_best : end with the weights of the round with the lowest validation loss, not of the last one.
    """

    loss: Loss
    learning_rate: float
    weight_decay: float
    schedule: Callable[[float], float] | None = None
    clip: float | None = None
    tuning: bool = False
    keep_best: bool = False


class Trainer:
    """A network in training, which continues from its checkpoint if there is one.

    On the CPU, with the same number of threads, a resumed training ends bit for bit like one without a stop.

    Attributes
    ----------
    log : a row for each round that has ended.
    losses : of the steps taken in the current round.

    Raises
    ------
    ModelError
        If the checkpoint is damaged or does not fit.
    """

    def __init__(
        self, net: UNet, source: Source, recipe: Recipe, checkpoint: Path, device: torch.device
    ) -> None:
        self.source, self.recipe, self.checkpoint, self.device = source, recipe, checkpoint, device
        self.net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.log: list[Row] = []
        self.losses: list[Any] = []
        self.best: dict[str, Tensor] = {}
        if checkpoint.is_file():
            self._restore()

    @property
    def number(self) -> int:
        """Number of the current round."""
        return len(self.log) + (0 if self.recipe.tuning else 1)

    @property
    def steps_done(self) -> int:
        """Steps taken in all rounds."""
        return sum(map(self.source.steps, range(1, self.number))) + len(self.losses)

    def run(self, ended: Callable[[Row], None]) -> None:
        """Train the remaining rounds.

        Parameters
        ----------
        ended : called after each round, once its checkpoint is saved, with its row of the log.

        Raises
        ------
        ModelError
            If the training diverges.
        """
        while self.number <= self.source.rounds:
            if self.number > 0:
                self._take_steps()
            self._end_round()
            self.save()
            ended(self.log[-1])
        if self.best:
            self.net.load_state_dict(self.best)

    def save(self) -> None:
        """Write the checkpoint: all that the training needs to continue."""
        state = {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log": self.log,
            "losses": [float(loss) for loss in self.losses],
            "best": self.best,
        }
        with written_whole(self.checkpoint) as temporary, temporary.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch's error for a full disk
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise

    def _restore(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.log, self.losses, self.best = state["log"], state["losses"], state["best"]
        except Exception as error:  # torch raises half a dozen kinds for a bad file
            raise ModelError(
                f"{self.checkpoint} is damaged or of another run; delete it to start that training anew."
            ) from error

    def _take_steps(self) -> None:
        recipe, saved = self.recipe, time.monotonic()
        steps = sum(map(self.source.steps, range(1, self.source.rounds + 1)))
        for x, target in self.source.training(self.number, len(self.losses)):
            if recipe.schedule:
                for group in self.optimiser.param_groups:
                    group["lr"] = recipe.learning_rate * recipe.schedule(self.steps_done / steps)
            loss = step(
                self.net, self.optimiser, x, target, recipe.loss, self.device, recipe.clip, recipe.tuning
            )
            self.losses.append(loss)
            if time.monotonic() - saved >= CHECKPOINT_S:
                self.save()
                saved = time.monotonic()

    def _end_round(self) -> None:
        """Validate, log, and keep the weights if they are the best so far."""
        loss = float(np.mean([float(loss) for loss in self.losses])) if self.losses else None
        row = self.source.row(self.number)
        where = ", ".join(f"{name} {value}" for name, value in row.items() if isinstance(value, int))
        row |= {"loss": loss, **validate(self.net, self.source.validation(), self.recipe.loss, self.device)}
        if not math.isfinite((loss or 0) + row["validation_loss"]):  # such weights must not become a model
            raise ModelError(
                f"the training has diverged: the loss is not finite at {where}; start another run with a "
                "lower --learning-rate."
            )
        if self.recipe.keep_best and all(row["validation_loss"] < one["validation_loss"] for one in self.log):
            self.best = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
        self.log.append(row)
        self.losses = []


def step(
    net: UNet,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    device: torch.device,
    clip: float | None = None,
    frozen: bool = False,
) -> Tensor:
    """Take one step of the optimiser, and return the loss, on the device: reading it would wait for it.

    Parameters
    ----------
    x, target : (N, 1, H, W) normalised slices and 0/1 masks.
    clip : largest norm of the gradient.
    frozen : normalise batches with the statistics that the network has, and leave those as they are.
    """
    net.train(not frozen)  # only batch norm knows the difference
    value = loss(forward(net, x, device), target.to(device))
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimiser.step()
    return value.detach()


def located(init: str) -> str:
    """Return the name of a model to start from that holds in any folder: "default", or its absolute path."""
    return init if init == EMBEDDED else str(Path(init).resolve())


def load_start(settings: FoldTraining | PhantomTraining) -> UNet | None:
    """Return the model to start from, or None.

    Raises
    ------
    ModelError
        If it is not a model, or its filters or stem differ from the settings.
    """
    if settings.init is None:
        return None
    start = load_one(settings.init)
    asked, found = ((one.levels, one.stem) for one in (settings.model_info(), start.info))
    if asked != found:
        raise ModelError(
            f"{settings.init}: expected filters {asked[0]} and stem {asked[1]} as asked for, "
            f"found {found[0]} and {found[1]}."
        )
    return start


def new_network(info: ModelInfo, seed: int, start: UNet | None) -> UNet:
    """Return a network with the weights of `start`, or with random ones."""
    torch.manual_seed(seed)
    net = UNet(info)
    if start:
        net.load_state_dict(start.state_dict())
    return net
