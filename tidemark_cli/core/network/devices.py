"""Where networks are computed, and what makes it fast there."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import DeviceError

KEPT_BYTES = 2**28  # larger arrays than this are given back to the system when they are freed


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:N" or "mps" into a device that is there.

    "auto" takes CUDA before Apple's MPS before the processor.

    Raises
    ------
    DeviceError
        If `name` is none of these, or a device asked for by name is missing.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, colon, number = name.partition(":")
    if name not in ("cpu", "mps", "cuda") and not (kind == "cuda" and colon and number.isdecimal()):
        raise DeviceError(f"device {name!r} is unknown: expected auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and not (cuda and int(number or 0) < torch.cuda.device_count()):
        found = torch.cuda.device_count() if cuda else 0
        raise DeviceError(f"device {name} is not there: found {found} CUDA devices; use --device auto.")
    if kind == "mps" and not mps:
        raise DeviceError("device mps is not there: it needs an Apple GPU; use --device auto or cpu.")
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it in hardware, else float32.

    Decided by what the device says it supports, not by a timed trial, so that one machine always
    gives one answer. Older PyTorch versions cannot tell: float32.
    """
    if device.type == "cuda":
        supported = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        supported = any(getattr(torch.cpu, question, bool)() for question in questions)
    else:
        supported = False
    return torch.bfloat16 if supported else torch.float32


def streams(device: torch.device) -> int:
    """Batches computed side by side: on a processor two, each on half the cores.

    With the paper's network on two cores that is 12 % faster than one batch on both: the little work that
    does not run in parallel overlaps. For CUDA one is made ready while another is computed.
    """
    if device.type == "cpu":
        return min(2, torch.get_num_threads())
    return 2 if device.type == "cuda" else 1


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def sharing_cores(device: torch.device) -> Iterator[None]:
    """Leave half of the processor to other processes meanwhile, where the network is computed on it.

    PyTorch's threads wait for one another busily: more of them than free cores slow everything down.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def give_back_freed_memory() -> None:
    """Have glibc give back to the system what it has kept; other C libraries are left as they are."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Have glibc keep what one slice frees for the next, some 100 MB, for the rest of the program.

    Else the system takes these pages back and clears them anew for each slice: that is 8 % of the time of the
    paper's network on two cores. Other C libraries are left as they are.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        mmap_threshold, trim_threshold, arenas = -3, -1, -8  # M_... in malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, KEPT_BYTES) or libc.mallopt(mmap_threshold, 2**25)  # glibc before 2.35
        libc.mallopt(trim_threshold, 2 * KEPT_BYTES)
        libc.mallopt(arenas, 1)  # for all threads
