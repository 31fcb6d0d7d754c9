"""A scan as `predict` takes it: read within the memory that is allowed, and the plugs found in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

from .. import core
from ..core.settings import Settings
from .from_fields import Look
from .jobs import Job, described

TURN_S = 5e-4  # a reader of many short pieces waits so long for its turn beside other Python, not 5 ms


@dataclass(frozen=True)
class Memory:
    """How much memory is taken.

    Attributes
    ----------
    max_memory : of a scan that needs more, such as 4GiB or 512MB, keep all but a part at a time in files
        without names beside the first output. Without it, nine tenths of what is free.
    """

    max_memory: Annotated[str | None, Look("SIZE")] = None

    def __post_init__(self) -> None:
        if self.max_memory is not None:
            try:
                core.memory.parse_size(self.max_memory)
            except ValueError as error:
                raise ValueError(f"max_memory: {error}") from error

    def room(self, outputs: Mapping[str, Path], settings: Settings) -> core.arrays.Room:
        """Return where a scan and what is made of it may lie."""
        free = core.memory.memory_available() * 9 // 10
        most = free if self.max_memory is None else core.memory.parse_size(self.max_memory)
        folder = next(iter(outputs.values())).absolute().parent
        return core.arrays.Room(most - core.memory.BASE_BYTES, 2 + settings.uncertainty, folder)


@dataclass(frozen=True)
class Opened:
    """A scan that was read.

    Attributes
    ----------
    plugs : to segment, by the endings of their files' names; that of a single one is empty.
    notes : what the user should hear.
    """

    volume: core.scans.volume.Volume
    plugs: dict[str, core.anatomy.plug.Plug]
    notes: tuple[str, ...]


def open_scan(
    job: Job,
    *,
    voxel_um: float | None,
    plug: str | None,
    memory: Memory,
    settings: Settings,
    models: Callable[[], Sequence[Any]],
) -> Opened:
    """Read a scan, and find in it the plugs asked for: one by its number, "all", or None for the largest."""
    room = memory.room(job.outputs, settings)
    with core.arrays.reading_into(room):
        volume = core.scans.volume.read_volume(job.scan, voxel_um)
    core.results.check_images(job.outputs, volume)
    array, uncertainty = volume.array, settings.uncertainty
    need = core.memory.memory_needed(array.shape, array.itemsize, uncertainty)
    notes = [f"{described(volume)}, about {_size(need)} of memory", *volume.notes]
    if core.arrays.on_disk(array):
        allowed, least = room.most + core.memory.BASE_BYTES, core.memory.least_memory(array.shape)
        if memory.max_memory is not None and allowed < least:
            raise core.errors.ScanError(
                f"{volume.path} needs {_size(least)} of memory at the least, {_size(allowed)} are allowed; "
                "give a larger --max-memory."
            )
        on_disk = core.memory.disk_needed(array.shape, array.itemsize, uncertainty, len(models()))
        room.check_disk(on_disk)
        notes.append(f"over {_size(allowed)}: up to {_size(on_disk)} go through files in {room.folder}")
    with core.errors.about(volume.path):
        plugs = core.anatomy.plug.find_plugs(array, volume.voxel_um, settings.bone_end)
        chosen, told = _chosen(plugs, plug)
    return Opened(volume, chosen, (*notes, *told))


def begun(open_scan: Callable[[Job], Opened], job: Job) -> Callable[[Job], Opened]:
    """Begin to open a scan in a thread that ends with the program; return what waits for it."""
    future: Future[Opened] = Future()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)

    def run() -> None:
        try:
            future.set_result(open_scan(job))
        except BaseException as error:
            future.set_exception(error)
        finally:
            sys.setswitchinterval(interval_s)

    Thread(target=run, daemon=True).start()
    return lambda _: future.result()


def _chosen(
    plugs: Sequence[core.anatomy.plug.Plug], choice: str | None
) -> tuple[dict[str, core.anatomy.plug.Plug], tuple[str, ...]]:
    """Return the plugs to segment, by the endings of their files' names, and a note on the others."""
    if choice == "all":
        return {f"plug{n}": replace(plug, rival=0.0) for n, plug in enumerate(plugs, 1)}, ()
    if choice is not None:
        if int(choice) > len(plugs):
            raise core.errors.ContentError(
                f"expected a plug with the number {choice}, found {len(plugs)}; check --plug."
            )
        return {"": replace(plugs[int(choice) - 1], rival=0.0)}, ()  # whoever chose it knows of the others
    largest = min(plugs, key=lambda plug: plug.rival)
    if len(plugs) == 1:
        return {"": largest}, ()
    places = "; ".join(f"{n} at {plug.place}" for n, plug in enumerate(plugs, 1))
    return {"": largest}, (
        f"warning: the scan holds {len(plugs)} plugs ({places}); {plugs.index(largest) + 1} is segmented: "
        "--plug N takes another, --plug all each",
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
