"""Random functions of space: what the phantoms' tissue is made of.

A field is defined over micrometres, not voxels: the same field can be drawn as a thin slice, a whole
volume, or at another voxel size, and shows the same tissue each time.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Extent = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

_SPLINE_POWER = 151 / 315  # mean over phase of the summed squares of the cubic B-spline's weights


@dataclass(frozen=True)
class Grid:
    """The voxel centres of a block, in µm: ``z`` (Z,), ``y`` (Y,), ``x`` (X,).

    It remembers what was sampled on it in ``sampled``: tissue asks for the same field more than once.
    """

    z: Array
    y: Array
    x: Array
    sampled: dict[Field, Array] = field(default_factory=dict, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Z, Y and X."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def extent(self) -> Extent:
        """First and last voxel centre along each axis, in µm."""
        return tuple((float(a[0]), float(a[-1])) for a in (self.z, self.y, self.x))  # type: ignore[return-value]

    @property
    def mesh(self) -> tuple[Array, Array, Array]:
        """The same centres, as (Z, 1, 1), (1, Y, 1) and (1, 1, X)."""
        return self.z[:, None, None], self.y[None, :, None], self.x[None, None, :]

    def slab(self, start: int, stop: int) -> Grid:
        """The same grid between two slices along Z."""
        return Grid(self.z[start:stop], self.y, self.x)


def make_grid(
    shape: tuple[int, int, int], voxel_um: float, centre_yx_um: tuple[float, float] = (0, 0)
) -> Grid:
    """A grid of `shape` (Z, Y, X), Z from 0 upwards, Y and X centred on `centre_yx_um`."""
    z = (np.arange(shape[0], dtype=np.float32) + 0.5) * voxel_um
    y, x = (
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * voxel_um + centre
        for n, centre in zip(shape[1:], centre_yx_um, strict=True)
    )
    return Grid(z, y.astype(np.float32), x.astype(np.float32))


class Field:
    """A smooth random function of (z, y, x) in µm: mean 0, standard deviation 1.

    White noise on a lattice, interpolated with cubic B-splines (twice differentiable, no seams).

    Parameters
    ----------
    rng : the source of the lattice's noise.
    extent : where the field may be sampled, in µm.
    scale_um : lattice spacings (z, y, x) in µm, about the size of the field's features; infinite along an
        axis makes the field constant along it.
    shear : how far features lean towards x as z grows (tangent of the angle).
    most : nodes of the lattice along an axis; where the extent takes more, the field repeats itself.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        extent: Extent,
        scale_um: tuple[float, float, float],
        shear: float = 0.0,
        most: int | None = None,
    ) -> None:
        (z0, z1), (y0, y1), (x0, x1) = extent
        lean = sorted((shear * z0, shear * z1))
        bounds = ((z0, z1), (y0, y1), (x0 - lean[1], x1 - lean[0]))
        self.scale = scale_um
        self.shear = shear
        self.origin = tuple(low for low, _ in bounds)
        # the lattice starts at a random phase, so that its nodes fall nowhere in particular
        self.phase = tuple(float(p) for p in rng.random(3))
        nodes = tuple(
            1 if np.isinf(s) else min(int((high - low) / s) + 6, most or sys.maxsize)
            for (low, high), s in zip(bounds, scale_um, strict=True)
        )
        lattice = rng.standard_normal(nodes, dtype=np.float32)
        self.lattice = lattice / np.float32(_SPLINE_POWER ** (sum(n > 1 for n in nodes) / 2))

    def __call__(self, grid: Grid) -> Array:
        """Sample the field: (Z, Y, X) float32, read-only."""
        if self not in grid.sampled:
            sample = self._sample(grid)
            sample.flags.writeable = False
            grid.sampled[self] = sample
        return grid.sampled[self]

    def _sample(self, grid: Grid) -> Array:
        rows = self._along(1, self._along(0, self.lattice, grid.z), grid.y)  # (Z, Y, x nodes)
        if self.lattice.shape[2] == 1:
            return np.broadcast_to(rows, grid.shape)
        if self.shear:
            return self._along_sheared_x(rows, grid)
        first, weights = self._weights(grid.x, axis=2)
        dense = _dense(first, weights, rows.shape[2])
        return (rows.reshape(-1, rows.shape[2]) @ dense.T).reshape(*rows.shape[:2], len(grid.x))

    def _weights(self, positions: Array, axis: int) -> tuple[NDArray[np.intp], Array]:
        """First of the four lattice nodes around each position, and the weights of the four."""
        t = (positions - self.origin[axis]) / self.scale[axis] + self.phase[axis] + 1
        first = np.floor(t)
        f = (t - first).astype(np.float32)
        weights = np.stack(
            [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=-1
        )
        return first.astype(np.intp) - 1, weights / np.float32(6)

    def _along(self, axis: int, values: Array, positions: Array) -> Array:
        if values.shape[axis] == 1:
            return values
        first, weights = self._weights(positions, axis)
        shape = [1, 1, 1]
        shape[axis] = len(positions)
        nodes = values.shape[axis]
        return sum(
            np.take(values, (first + k) % nodes, axis) * weights[:, k].reshape(shape) for k in range(4)
        )

    def _along_sheared_x(self, rows: Array, grid: Grid) -> Array:
        rows = np.broadcast_to(rows, (len(grid.z), *rows.shape[1:]))
        # (Z, X), (Z, X, 4)
        first, weights = self._weights(grid.x[None, :] - self.shear * grid.z[:, None], axis=2)
        out = np.zeros((*rows.shape[:2], len(grid.x)), np.float32)
        for k in range(4):
            node = (first + k) % rows.shape[2]
            out += np.take_along_axis(rows, node[:, None, :], axis=2) * weights[:, None, :, k]
        return out


def _dense(first: NDArray[np.intp], weights: Array, nodes: int) -> Array:
    """Spread four weights a position into a (positions, nodes) matrix."""
    matrix = np.zeros((len(first), nodes), np.float32)
    rows = np.arange(len(first))
    for k in range(4):
        matrix[rows, (first + k) % nodes] = weights[:, k]
    return matrix


def smoothstep(value: Array, low: Array | float, high: Array | float) -> Array:
    """0 below `low`, 1 above `high`, a smooth ramp between."""
    t = (value - low) / (high - low)
    np.clip(t, 0, 1, out=t)
    ramp = 3 - 2 * t
    ramp *= t
    ramp *= t
    return ramp
