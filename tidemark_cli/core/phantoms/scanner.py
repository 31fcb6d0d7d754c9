"""What a scanner adds to tissue (blur, noise, rings, beam hardening, a window), and processing takes away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .texture import Array, Grid


@dataclass(frozen=True)
class Scanner:
    """One scan's artefacts; lengths in voxels, levels on the 0-255 scale before the window."""

    blur: float
    noise: float
    noise_blur: float
    ring: float
    hardening: float  # relative loss of brightness from the wall to the axis
    shading: float  # relative drift along the z of the grid scanned: a phantom, scanned in slabs, has none
    low: float  # grey level that becomes 0
    high: float  # grey level that becomes 255
    gamma: float

    @staticmethod
    def draw(rng: np.random.Generator, brightest: float, wide: bool = False) -> Scanner:
        """Draw the artefacts; `wide` exceeds a well-kept scanner's. `brightest` is the tissue's level."""
        u = rng.uniform
        window = wide and rng.random() < 0.6
        return Scanner(
            blur=u(0.3, 1.8) if wide else u(0.6, 1.0),
            noise=u(0.5, 16) if wide else u(4, 6),
            noise_blur=u(0.0, 1.4) if wide else u(0.8, 1.1),
            ring=u(0, 6) * (rng.random() < (0.3 if wide else 0.15)),
            hardening=rng.normal(0, 0.08) if wide else u(0, 0.04),
            shading=rng.normal(0, 0.08) if wide else 0.0,
            low=u(-30, 25) if window else u(-3, 3),
            high=brightest * u(0.9, 2.2) if window else max(brightest * 1.15, u(190, 260)),
            gamma=float(np.exp(rng.normal(0, 0.3))) if wide else 1.0,
        )

    def averaged(self, factor: float) -> Scanner:
        """Return the scanner as it looks in voxels `factor` times as large as its own, each a mean."""
        return replace(
            self, blur=self.blur / factor, noise=self.noise / factor, noise_blur=self.noise_blur / factor
        )

    @property
    def halo(self) -> int:
        """Slices beyond a slab that its blur needs."""
        return int(np.ceil(3 * max(self.blur, self.noise_blur)))

    def scan(self, rng: np.random.Generator, tissue: Array, grid: Grid, rings: Array) -> Array:
        """Scan `tissue` (Z, Y, X): grey levels on the 0-255 scale, float32, clipped, not yet rounded.

        Parameters
        ----------
        rings : ring profile over the distance from the rotation axis, one value a voxel, from `ring_profile`.
        """
        thin = 0 if tissue.shape[1] == 1 else 1  # a single slice has no neighbours to blur with
        level = gaussian_filter(tissue, (self.blur, thin * self.blur, self.blur), truncate=3)
        noise = rng.standard_normal(tissue.shape, dtype=np.float32)
        if self.noise_blur:
            noise = gaussian_filter(
                noise, (self.noise_blur, thin * self.noise_blur, self.noise_blur), truncate=3
            )
            noise /= max(float(noise.std()), 1e-6)
        radius = np.sqrt(grid.y[:, None] ** 2 + grid.x[None, :] ** 2)  # (Y, X) µm
        cupping = 1 - self.hardening * (1 - (radius / max(float(radius.max()), 1.0)) ** 2)
        span = max(float(grid.z[-1]), 1.0)
        drift = 1 + self.shading * (grid.z / span - 0.5)
        level = level * cupping * drift[:, None, None] + self.noise * noise
        if self.ring:
            voxel = float(grid.x[1] - grid.x[0])
            level = level + self.ring * rings[np.minimum((radius / voxel).astype(int), len(rings) - 1)]
        level = np.clip((level - self.low) / (self.high - self.low), 0, 1)
        return (255 * level**self.gamma).astype(np.float32)


@dataclass(frozen=True)
class Processing:
    """What was done to a whole scan before it is segmented, slice by slice."""

    kind: str  # one of KINDS
    strength: float  # 0 to 1

    KINDS = ("none", "gaussian", "median", "bilateral", "non-local means", "binning")

    @staticmethod
    def draw(rng: np.random.Generator, chance: float) -> Processing:
        """Draw how a scan was processed; with a probability of 1 - `chance` it was not."""
        kinds = Processing.KINDS
        kind = rng.choice(kinds[1:], p=(0.5, 0.15, 0.15, 0.1, 0.1)) if rng.random() < chance else kinds[0]
        return Processing(str(kind), float(rng.random()))

    def apply(self, slice_: Array) -> Array:
        """Process a slice of grey levels 0-255: (rows, columns) float32; whole numbers where denoised."""
        if self.kind == "gaussian":
            return np.asarray(cv2.GaussianBlur(slice_, (0, 0), 0.4 + 2.8 * self.strength), np.float32)
        if self.kind == "binning":
            small = cv2.resize(slice_, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            return resized(np.asarray(small, np.float32), (slice_.shape[0], slice_.shape[1]))
        return np.asarray(self._denoised(np.rint(slice_).astype(np.uint8)), np.float32)

    def _denoised(self, grey: NDArray[np.uint8]) -> NDArray[Any]:
        if self.kind == "median":
            return cv2.medianBlur(grey, 3 + 2 * round(2 * self.strength))
        if self.kind == "bilateral":
            return cv2.bilateralFilter(grey, 9, 10 + 40 * self.strength, 3)
        if self.kind == "non-local means":
            return cv2.fastNlMeansDenoising(grey, None, 4 + 12 * self.strength, 5, 11)
        return grey


def resized(slice_: Array, shape: tuple[int, int]) -> Array:
    """Return a slice on other pixels: means where they are larger, linear where they are smaller."""
    way = cv2.INTER_AREA if shape[0] < slice_.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(slice_, shape[::-1], interpolation=way), np.float32)


def ring_profile(rng: np.random.Generator, length: int) -> Array:
    """Brightness of the ring artefacts over the distance from the axis: (length,), standard deviation 1."""
    profile = rng.standard_normal(length) * (rng.random(length) < 0.25)
    profile = gaussian_filter1d(profile, 0.7)
    return (profile / max(float(profile.std()), 1e-6)).astype(np.float32)
