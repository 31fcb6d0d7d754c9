"""Slices of one grey level right beside full ones: what a copy leaves that took the room, but never ended."""

from __future__ import annotations

import numpy as np

from ..arrays import sampled

_SAMPLES = 16  # along each axis of a slice
_FULL = 0.7  # as much of the level beside it is other than blank, compared with all full slices


def blank_slices(array: np.ndarray) -> tuple[str, ...]:
    """Return a note of the first blank slices of a scan (Z, Y, X) that begin or end beside full ones.

    A sample tapers, or lies in noise, so that slices grow empty by and by. There is no note where none is
    blank, or all are, or where slices are so small that they may be so by chance.
    """
    if array[0].size < _SAMPLES**2:
        return ()
    every = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in array.shape[1:])
    thinned = sampled(array, slice(None), *every).reshape(len(array), -1)
    blank = (thinned == thinned[:, :1]).all(axis=1)
    if not blank.any() or blank.all():
        return ()
    typical = np.median([(plane != array[int(np.argmax(blank)), 0, 0]).mean() for plane in thinned[~blank]])
    for first, last in _runs(blank):
        level = array[first, 0, 0]
        beside = [thinned[z] for z in (first - 1, last + 1) if 0 <= z < len(array)]
        full = any((plane != level).mean() > _FULL * typical for plane in beside)
        if full and (array[first] == level).all() and (array[last] == level).all():
            told = f"slices {first + 1} to {last + 1} of {len(array)} hold nothing but {level:g}"
            return (f"{told}, those beside are full: if it was not wholly written, copy it again",)
    return ()


def _runs(blank: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and the last of each row of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blank, [False]])))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]
