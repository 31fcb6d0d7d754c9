"""What all kinds of training share: a step, and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..files import written_whole
from ..network.devices import fast_dtype
from ..network.models import EMBEDDED, load_one
from ..network.unet import ModelInfo, UNet
from .losses import Loss


def forward(net: UNet, x: Tensor, device: torch.device) -> Tensor:
    """Logits (N, 1, H, W) float32 of normalised slices, in mixed precision where the device is fast at it."""
    with torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16):
        logits: Tensor = net(x.to(device, memory_format=torch.channels_last))
    return logits.float()


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
    """Take one step of the optimiser on a batch; gives the loss, on the device, so as not to wait for it.

    Parameters
    ----------
    x, target : (N, 1, H, W) normalised slices and 0/1 masks.
    clip : largest norm of the gradient.
    frozen : normalise batches with the statistics that the network has, and leave those as they are.
    """
    net.train(not frozen)  # batch norm is all that knows the difference
    value = loss(forward(net, x, device), target.to(device))
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimiser.step()
    return value.detach()


def refuse_divergence(loss: float, what: str, when: str) -> None:
    """Raise where a loss is no finite number: the weights are then lost, and must not become a model.

    Parameters
    ----------
    what, when : the training and the part of it that the loss is of, for the message.

    Raises
    ------
    ModelError
        If `loss` is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise ModelError(
            f"{what} has diverged: the loss of {when} is no finite number; start another run with a lower "
            "--learning-rate."
        )


def located(init: str) -> str:
    """Return what names a model to start from in whatever folder one is: "default", or the whole path."""
    return init if init == EMBEDDED else str(Path(init).resolve())


def start_from(net: UNet, init: str) -> ModelInfo:
    """Copy the weights of a model of the same size; gives how that one is used.

    Parameters
    ----------
    init : as `models.load_one` takes it.

    Raises
    ------
    ModelError
        If `init` is no model, or its width, depth or stem is another.
    """
    model = load_one(init)
    sizes = [(info.width, info.depth, info.stem) for info in (net.info, model.info)]
    if sizes[0] != sizes[1]:
        raise ModelError(f"{init}: expected width, depth and stem {sizes[0]} as asked for, found {sizes[1]}.")
    net.load_state_dict(model.state_dict())
    return model.info


def save_checkpoint(path: Path, net: UNet, optimiser: torch.optim.Optimizer, **rest: Any) -> None:
    """Write all that a training needs to go on: weights, optimiser, and `rest`."""
    state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), **rest}
    with written_whole(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what torch makes of a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def restore(
    path: Path, net: UNet, optimiser: torch.optim.Optimizer, device: torch.device, rest: Sequence[str]
) -> dict[str, Any]:
    """Load a checkpoint into the network and the optimiser; gives the entries named by `rest`.

    Raises
    ------
    ModelError
        If the file is damaged or does not fit.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        return {name: state[name] for name in rest}
    except Exception as error:  # torch raises half a dozen kinds for a bad file
        message = f"{path} is damaged or of another run; delete it to start that training anew."
        raise ModelError(message) from error
