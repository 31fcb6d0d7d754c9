"""Batches of slices on the device, gathered by threads while the network computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..network.greylevels import Normalise
from .augment import Draws, augment, draw, grey_tables, look_up
from .settings import Augmentation
from .slices import Slices

Item = TypeVar("Item")
Made = TypeVar("Made")


def steps_of(slices: Slices, batch: int) -> int:
    """Batches in an epoch; the slices left over come in other epochs."""
    return max(1, len(slices) // batch)


def augmented(
    slices: Slices,
    batch: int,
    how: Augmentation,
    normalise: Sequence[Normalise],
    chances: tuple[int, int, int],
    device: torch.device,
    start: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: normalised slices and 0/1 masks, (N, 1, H, W) float32 each.

    Parameters
    ----------
    normalise : for each sample of `slices`, its function of grey levels.
    chances : seed, fold and epoch, on which alone the order and the augmentation depend.
    start : number of the first batch.
    """
    order = np.random.default_rng((*chances, 0)).permutation(len(slices))

    def make(number: int) -> tuple[list[Tensor], Draws]:
        chosen = order[number * batch : (number + 1) * batch]
        draws = draw(how, len(chosen), slices.shape, np.random.default_rng((*chances, number + 1)))
        return _gather(slices, chosen, draws.gammas, normalise, device), draws

    for tensors, draws in _ahead(make, range(start, steps_of(slices, batch)), device):
        grey, hard, tables = (tensor.to(device, non_blocking=True) for tensor in tensors)
        yield augment(grey, hard, tables, draws, how)


def whole(
    slices: Slices, batch: int, multiple: int, normalise: Sequence[Normalise], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all slices in order, whole, otherwise as `augmented`.

    Parameters
    ----------
    multiple : the scan, not the mask, is padded with air at the far ends to sides of multiples of this.
    """
    rows, columns = (-side % multiple for side in slices.shape)

    def make(first: int) -> list[Tensor]:
        chosen = np.arange(first, min(first + batch, len(slices)))
        return _gather(slices, chosen, np.ones(len(chosen)), normalise, device)

    for tensors in _ahead(make, range(0, len(slices), batch), device):
        grey, hard, tables = (tensor.to(device, non_blocking=True) for tensor in tensors)
        yield look_up(F.pad(grey, (0, columns, 0, rows)), tables), hard[:, None].float()


def _gather(
    slices: Slices,
    chosen: np.ndarray,
    gammas: np.ndarray,
    normalise: Sequence[Normalise],
    device: torch.device,
) -> list[Tensor]:
    """Return grey levels, masks and grey tables of slices, ready to go to the device."""
    grey, hard, origins = slices.gather(chosen)
    tables = grey_tables(gammas, [normalise[origin] for origin in origins])
    tensors = [torch.from_numpy(grey), torch.from_numpy(hard), tables]
    return [tensor.pin_memory() for tensor in tensors] if device.type == "cuda" else tensors


def _ahead(make: Callable[[Item], Made], items: Iterable[Item], device: torch.device) -> Iterator[Made]:
    """Yield ``make(item)`` in order, computed by threads ahead of the caller."""
    # one thread keeps up with a processor, not with a GPU
    threads = 1 if device.type == "cpu" else min(8, os.cpu_count() or 1)
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the caller may have stopped
            for future in waiting:
                future.cancel()
