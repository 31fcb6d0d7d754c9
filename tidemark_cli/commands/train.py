"""``tidemark train``: train a network, for now on phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console


def train(
    run: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The folder of the run.")],
    phantom: Annotated[
        bool, typer.Option("--phantom", help="Train on synthetic slices, each drawn afresh; needed for now.")
    ] = False,
    slices: Annotated[int, typer.Option(min=1, help="How many slices to draw.")] = 40_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same slices.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where to compute.")] = "auto",
    width: Annotated[int, typer.Option(min=1, help="Filters at the first level.")] = 16,
    depth: Annotated[int, typer.Option(min=1, max=8, help="Levels of the network.")] = 5,
    stem: Annotated[int, typer.Option(min=1, max=4, help="Side of the pixel blocks taken as one.")] = 2,
    init: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Start from this model instead of random weights.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in RUN, with the settings it has.")
    ] = False,
) -> None:
    """Train a network; RUN/model.safetensors goes to `tidemark predict --weights`."""
    if not phantom:
        raise typer.BadParameter("expected --phantom: training on phantoms is all there is for now.")

    from ..core.inference import choose_device
    from ..core.training import PhantomTraining, train_on_phantoms

    start = None if init is None else str(init)
    settings = PhantomTraining(slices=slices, seed=seed, width=width, depth=depth, stem=stem, init=start)
    console.notice(f"device: {choose_device(device)}{' (auto)' if device == 'auto' else ''}")
    with console.progress("training") as advance:

        def show(done: int, total: int, figures: dict[str, float]) -> None:
            if "validation_loss" in figures:
                console.notice(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
            if advance is not None:
                advance(done, total)

        model = train_on_phantoms(run, settings, device=device, resume=resume, progress=show)
    console.result(str(model))
