"""A scan as `predict` takes it: read within the memory that is allowed, and the plugs found in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from .. import core
from ..core.files import readable_size
from ..core.settings import Settings
from .from_fields import Look
from .jobs import Job, described


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

    def room(self, outputs: Mapping[str, Path], beside: core.memory.Beside) -> core.arrays.Room:
        """Return where a scan and what is made beside it may lie."""
        free = core.memory.memory_available() * 9 // 10
        most = free if self.max_memory is None else core.memory.parse_size(self.max_memory)
        folder = next(iter(outputs.values())).absolute().parent
        return core.arrays.Room(most - core.memory.BASE_BYTES, beside.most, folder)


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


@dataclass(frozen=True)
class Opening:
    """How each scan is opened.

    Attributes
    ----------
    plug : the number of the one asked for, "all", or None for the largest.
    embedded : whether the network is the embedded one, which is known without loading it.
    models : loads the networks.
    """

    voxel_um: float | None
    plug: str | None
    memory: Memory
    settings: Settings
    embedded: bool
    models: Callable[[], Sequence[Any]]

    def __call__(self, job: Job) -> Opened:
        """Read a scan, and find in it the plugs asked for."""
        return self.with_plugs(*self.read(job))

    def read(self, job: Job) -> tuple[core.scans.volume.Volume, tuple[str, ...]]:
        """Read a scan; return it, and what the user should hear."""
        count = 1 if self.embedded else len(self.models())
        copies = len({"probability", "uncertainty"} & set(job.outputs))
        beside = core.memory.Beside(count, self.settings.uncertainty, copies)
        room = self.memory.room(job.outputs, beside)
        with core.arrays.reading_into(room):
            volume = core.scans.volume.read_volume(job.scan, self.voxel_um)
        array = volume.array
        need = core.memory.memory_needed(array.shape, array.itemsize, beside)
        notes = (f"{described(volume)}, about {readable_size(need)} of memory", *volume.notes)
        if core.arrays.on_disk(array):
            with core.errors.about(volume.path):
                notes += (self._checked(volume, room, beside),)
        return volume, notes

    def _checked(
        self, volume: core.scans.volume.Volume, room: core.arrays.Room, beside: core.memory.Beside
    ) -> str:
        """Refuse a scan on disk where memory or disk is too small; return what the user should hear."""
        array, passes, infos = volume.array, core.network.passes, [net.info for net in self.models()]
        ratio = max(passes.scale_between(volume.voxel_um, info) for info in infos)
        allowed, least = room.most + core.memory.BASE_BYTES, core.memory.least_memory(array.shape, ratio)
        if self.memory.max_memory is not None and allowed < least:
            raise core.errors.ScanError(
                f"{volume.path} needs {readable_size(least)} of memory at the least, "
                f"{readable_size(allowed)} are allowed; give a larger --max-memory."
            )
        stride = min(passes.stride_between(info, volume.voxel_um, self.settings.step) for info in infos)
        on_disk = core.memory.disk_needed(array.shape, array.itemsize, beside, stride)
        room.check_disk(on_disk)
        return (
            f"more than the {readable_size(allowed)} allowed: up to {readable_size(on_disk)} are kept in "
            f"files in {room.folder}"
        )

    def with_plugs(self, volume: core.scans.volume.Volume, notes: tuple[str, ...]) -> Opened:
        """Find the plugs asked for in a scan that was read."""
        with core.errors.about(volume.path):
            plugs = core.anatomy.plug.find_plugs(volume.array, volume.voxel_um, self.settings.bone_end)
            chosen, told = _chosen(plugs, self.plug)
        return Opened(volume, chosen, (*notes, *told))

    def begun(self, job: Job) -> Callable[[Job], Opened]:
        """Read a scan, begin to find its plugs in a thread, and return what waits for them.

        Only that: a reader of many short pieces would wait for Python at each while PyTorch is imported. An
        error is raised by what waits. Nothing in the thread may load PyTorch, which ends the process where an
        interrupted import of it is tried again.
        """
        try:
            future = ThreadPoolExecutor(1).submit(self.with_plugs, *self.read(job))
        except Exception as error:
            future = Future()
            future.set_exception(error)
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
