"""The loop of every training, on a source and a network of a few numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tidemark_cli.core.errors import ModelError, OutputError
from tidemark_cli.core.network.unet import ModelInfo, UNet, save_model
from tidemark_cli.core.training import loop
from tidemark_cli.core.training.loop import Recipe, Trainer, load_start, new_network
from tidemark_cli.core.training.losses import bce
from tidemark_cli.core.training.settings import FoldTraining, PhantomTraining

CPU = torch.device("cpu")
INFO = ModelInfo(width=2, depth=1)
RECIPE = Recipe(bce, learning_rate=0.1, weight_decay=0.0)


class Fixed:
    """Three rounds of 2, 1 and 2 batches; says which were asked for, and stops before one of them."""

    rounds = 3

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop, self.asked = stop, list[tuple[int, int]]()

    def steps(self, number: int) -> int:
        return (2, 1, 2)[number - 1]

    def training(self, number: int, start: int) -> Iterator[loop.Batch]:
        for k in range(start, self.steps(number)):
            if (number, k) == self.stop:
                raise KeyboardInterrupt
            self.asked.append((number, k))
            torch.manual_seed(10 * number + k)
            yield torch.randn(2, 1, 4, 4), (torch.randn(2, 1, 4, 4) > 0).float()

    def validation(self) -> list[loop.Checked]:
        return [(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), torch.zeros(1, dtype=torch.bool))]

    def row(self, number: int) -> loop.Row:
        return {"round": number}


def trainer(checkpoint: Path, source: Fixed, recipe: Recipe = RECIPE) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(new_network(INFO, 3, None), source, recipe, checkpoint, CPU)


def weights(found: Trainer) -> list[torch.Tensor]:
    return list(found.net.state_dict().values())


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def plan(monkeypatch: pytest.MonkeyPatch, *losses: float) -> list[list[torch.Tensor]]:
    """Let the validations have these losses; gives the weights that were validated."""
    seen, planned = list[list[torch.Tensor]](), iter(losses)

    def validate(net: UNet, *_: Any) -> dict[str, float]:
        seen.append([tensor.clone() for tensor in net.state_dict().values()])
        return {"validation_loss": next(planned)}

    monkeypatch.setattr(loop, "validate", validate)
    return seen


def test_every_batch_is_taken_once_and_every_round_ends_with_a_row(tmp_path: Path) -> None:
    source, ended = Fixed(), list[loop.Row]()
    found = trainer(tmp_path / "a.pt", source)
    found.run(ended.append)
    assert source.asked == [(1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]
    assert [row["round"] for row in found.log] == [1, 2, 3]
    assert ended == found.log and all(row["loss"] > 0 for row in ended)


@pytest.mark.parametrize("stop", [(1, 0), (1, 1), (2, 0), (3, 1)])
def test_a_training_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: tuple[int, int]
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)  # a checkpoint after every step
    whole = trainer(tmp_path / "whole.pt", Fixed())
    whole.run(lambda row: None)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "a.pt", Fixed(stop)).run(lambda row: None)
    source = Fixed()
    resumed = trainer(tmp_path / "a.pt", source)
    resumed.run(lambda row: None)
    assert source.asked[0] == stop
    assert resumed.log == whole.log and same(weights(resumed), weights(whole))


@pytest.mark.parametrize(("keep_best", "kept"), [(True, 1), (False, 2)])
def test_the_best_round_is_kept_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_best: bool, kept: int
) -> None:
    seen = plan(monkeypatch, 0.5, 0.3, 0.4)
    found = trainer(tmp_path / "a.pt", Fixed(), replace(RECIPE, keep_best=keep_best))
    found.run(lambda row: None)
    assert [same(weights(found), one) for one in seen] == [number == kept for number in range(3)]


def test_a_tuning_begins_with_a_look_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plan(monkeypatch, 0.1, 0.5, 0.4, 0.3)
    found = trainer(tmp_path / "a.pt", Fixed(), replace(RECIPE, tuning=True, keep_best=True))
    start = [tensor.clone() for tensor in weights(found)]
    found.run(lambda row: None)
    assert [(row["round"], row["loss"] is None) for row in found.log] == list(
        zip(range(4), (True, False, False, False), strict=True)
    )
    assert same(seen[0], start) and same(weights(found), start)


def test_the_learning_rate_follows_the_share_of_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []

    def step(net: UNet, optimiser: torch.optim.Optimizer, *_: Any) -> torch.Tensor:
        rates.append(optimiser.param_groups[0]["lr"])
        return torch.zeros(())

    monkeypatch.setattr(loop, "step", step)
    trainer(tmp_path / "a.pt", Fixed(), replace(RECIPE, schedule=lambda share: 10 * share)).run(
        lambda _: None
    )
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_training_that_diverges_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    plan(monkeypatch, loss)
    with pytest.raises(ModelError, match="the training has diverged: the loss is not finite at round 1; "):
        trainer(tmp_path / "a.pt", Fixed()).run(lambda row: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"damaged", b""])
def test_a_checkpoint_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.pt is damaged or of another run; delete it"):
        trainer(tmp_path / "a.pt", Fixed())


@pytest.mark.parametrize("kind", [FoldTraining, PhantomTraining])
def test_a_start_is_of_the_size_asked_for(tmp_path: Path, kind: type[FoldTraining | PhantomTraining]) -> None:
    path = tmp_path / "start.safetensors"
    save_model(path, UNet(ModelInfo(width=3, depth=2)))
    sizes = {"width": 3, "depth": 2, "stem": 1}
    assert load_start(kind(**sizes)) is None
    start = load_start(kind(**sizes, init=str(path)))
    assert start and same(
        list(new_network(start.info, 0, start).state_dict().values()), list(start.state_dict().values())
    )
    with pytest.raises(ModelError, match=r"start\.safetensors: expected filters \(4, 8\) and stem 1"):
        load_start(kind(**sizes | {"width": 4}, init=str(path)))


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_checkpoint_on_a_full_disk_is_one_line(tmp_path):
    import resource

    found = Trainer(UNet(ModelInfo(width=4, depth=2)), Fixed(), RECIPE, tmp_path / "a.pt", CPU)
    found.save()
    whole, limits = (tmp_path / "a.pt").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands for a disk or a quota
    try:
        with pytest.raises(OutputError, match="no room left"):
            found.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "a.pt").read_bytes() == whole
    assert len(list(tmp_path.iterdir())) == 1
