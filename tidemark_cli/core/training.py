"""What all kinds of training share: a step, checkpoints and the run's folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from .errors import ModelError, OutputError
from .files import written_whole
from .inference import fast_dtype
from .losses import Loss
from .unet import UNet, load_model

DESCRIPTION = "run.json"


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
) -> Tensor:
    """Take one step of the optimiser on a batch; gives the loss, on the device, so as not to wait for it.

    Parameters
    ----------
    x, target : (N, 1, H, W) normalised slices and 0/1 masks.
    clip : largest norm of the gradient.
    """
    net.train()
    value = loss(forward(net, x, device), target.to(device))
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimiser.step()
    return value.detach()


def start_from(net: UNet, path: Path) -> None:
    """Copy the weights of a model of the same size.

    Raises
    ------
    ModelError
        If `path` is no model, or its width, depth or stem is another.
    """
    model = load_model(path)
    sizes = [(info.width, info.depth, info.stem) for info in (net.info, model.info)]
    if sizes[0] != sizes[1]:
        raise ModelError(f"{path}: expected width, depth and stem {sizes[0]} as asked for, found {sizes[1]}.")
    net.load_state_dict(model.state_dict())


def refuse_existing(run: Path) -> None:
    """Raise an OutputError where the folder holds a run already, or is a file."""
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run} is a file; expected the name of a folder for the run.")
    if (run / DESCRIPTION).exists():
        raise OutputError(
            f"{run} holds a run already; use --resume to go on with it, or name another folder."
        )


def read_description(run: Path) -> dict[str, Any]:
    """Return the content of ``run.json``.

    Raises
    ------
    OutputError
        If it is missing or damaged.
    """
    path = run / DESCRIPTION
    if not path.is_file():
        raise OutputError(
            f"{run}: expected a run to resume (run.json), found none; start it without --resume."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is damaged ({error}); start another run.") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise OutputError(f"{path} is damaged (no settings in it); start another run.")
    return content


def write_description(run: Path, content: Mapping[str, Any]) -> None:
    """Make the run's folder and write ``run.json``, with the version of tidemark."""
    run.mkdir(parents=True, exist_ok=True)
    with written_whole(run / DESCRIPTION) as temporary:
        text = json.dumps({"tidemark": __version__, **content}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def save_checkpoint(path: Path, net: UNet, optimiser: torch.optim.Optimizer, **rest: Any) -> None:
    """Write all that a training needs to go on: weights, optimiser, and `rest`."""
    state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), **rest}
    with written_whole(path) as temporary:
        torch.save(state, temporary)


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


def write_log(run: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``log.csv``, one line for each row; all rows have the names of the first."""
    with written_whole(run / "log.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
