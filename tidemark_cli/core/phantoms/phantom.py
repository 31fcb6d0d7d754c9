"""Synthetic plugs: scans with a known mask, for trying tidemark out, training and testing.

Nothing here is a real scan, and every result obtained on phantoms should say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import lazily
from ..settings import Kind
from .anatomy import Anatomy, Stain
from .scanner import Processing, Scanner, resized, ring_profile
from .texture import Grid, make_grid
from .tissue import Tissue

sitk = lazily.imported("SimpleITK")

VOXEL_UM = 3.2
SHAPE = (768, 448, 448)  # the public dataset's crop, (Z, Y, X)
_NODES = 320  # 2.6 mm of the finest grain; what is coarser than 40 µm repeats itself nowhere in a slab
_SLAB = 8  # slices drawn at a time: small enough for the processor's cache
_ALONG_WALL = 0.25  # share of the single slices
_OVERVIEW = 4  # voxels of a slice per voxel of its overview
COARSEST_UM = 20.0  # voxels of the scans that single slices are drawn from
_COARSER = 0.35  # share of the single slices from scans with larger voxels
_FINER = 0.1  # and with smaller ones, to half as large
_PROCESSED = 0.45  # share of the scans with voxels of 3.2 µm that were blurred, denoised or binned
# a Gaussian blur across a slice, roughly, by three planes: Gauss-Hermite points for a standard deviation of 1
_ACROSS, _ACROSS_WEIGHTS = np.array([-np.sqrt(3), 0, np.sqrt(3)]), (1 / 6, 2 / 3, 1 / 6)
_CA4_SCANNER = Scanner(
    blur=0.8, noise=5, noise_blur=0.9, ring=0, hardening=0, shading=0, low=0, high=262, gamma=1
)

Voxels = NDArray[np.uint8]


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan and its truth.

    Attributes
    ----------
    scan : (Z, Y, X) uint8, the plug under PTA, bone at low Z.
    mask : (Z, Y, X) uint8, 255 in hard tissue.
    voxel_um : voxel size in µm.
    edge_um : (Y, X) float32, how deep below the tidemark the PTA edge lies, the steepest fall of the stain
        before the scanner, whether or not the contrast is lost there.
    ca4 : (Z, Y, X) uint8, the same plug remounted and scanned under CA4+, or None.
    matrix : (4, 4) the true rigid transform, from points (x, y, z, 1) in mm of `scan` to points of `ca4`, as
        ITK resamples `ca4` onto `scan`; None without `ca4`.
    """

    scan: Voxels
    mask: Voxels
    voxel_um: float
    edge_um: NDArray[np.float32]
    ca4: Voxels | None = None
    matrix: NDArray[np.float64] | None = None


def draw_phantom(
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    voxel_um: float = VOXEL_UM,
    *,
    pair: bool = False,
    hard: bool = False,
    kind: Kind = "plug",
    scan_number: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Phantom:
    """Draw a plug, or another sample.

    Parameters
    ----------
    seed : the plug; the same seed, shape and voxel size give the same voxels on any number of cores. The
        tissue is defined in µm: half the voxel size at twice the shape shows the same plug.
    shape : (Z, Y, X) of the scan.
    pair : also draw the CA4+ scan: any rotation about Z, a tilt up to 8°, a shift up to 0.3 mm (less in a
        small field of view).
    hard : draw rare shapes and stains often: a lost crest, bone as bright as cartilage, clefts, clots,
        plates from 30 µm to 1 mm, a scan that was blurred or denoised.
    kind : "plug", drilled, 2 mm wide, less where the field of view is narrow. The others have their size in
        any field and are cut off by its sides: "wide", a plug of 4 mm; "block", sawn, 3 x 4 mm, turned about
        Z, at times sawn off below; "slab", sawn from a condyle with a radius of 10 to 25 mm, 2 to 3 mm thick
        and, roughly along X, 10 to 14 mm long.
    scan_number : a further scan of the same plug has another number: its noise differs.
    progress : called with slices done and slices in all.
    """
    plug_seed, scan_seed = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.default_rng(plug_seed)
    grid = make_grid(shape, voxel_um)
    height_um, width_um = shape[0] * voxel_um, min(shape[1:]) * voxel_um
    anatomy, stain = Anatomy.draw(rng, height_um, width_um, odd=hard), Stain.draw(rng, wide=hard)
    scanner = Scanner.draw(rng, max(stain.deep, stain.bone), wide=hard)
    processing = Processing.draw(rng, _PROCESSED if hard else 0)
    anatomy = anatomy.cut_as(rng, kind, height_um)
    # from face to face, not from voxel centre to voxel centre, so that the voxel size does not matter
    half_y, half_x = (n * voxel_um / 2 for n in shape[1:])
    extent = ((0.0, height_um), (-half_y, half_y), (-half_x, half_x))
    tissue = Tissue(rng, extent, anatomy, stain, None if kind == "plug" else _NODES)
    pta, mask, ca4 = _painted(tissue, grid, progress)
    noise = np.random.SeedSequence(scan_seed.entropy, spawn_key=(*scan_seed.spawn_key, scan_number))
    scan = _scan(noise, scanner, pta, grid, processing)
    edge_um = tissue.edge_depth(grid)[0].astype(np.float32)
    if not pair:
        return Phantom(scan, mask, voxel_um, edge_um)
    moved, matrix = _remounted(ca4, voxel_um, rng)
    ca4_scan = _scan(noise.spawn(1)[0], _CA4_SCANNER, moved, grid, Processing("none", 0))
    return Phantom(scan, mask, voxel_um, edge_um, ca4_scan, matrix)


@dataclass(frozen=True)
class Section:
    """How one slice through a plug of its own is taken.

    Attributes
    ----------
    voxel_um : of the slice.
    ratio : voxels of the scan that it is from over its own.
    centre_um : y, x of its middle from the plug's axis; it runs along X.
    thick : whether it is blurred across its thickness, as matters along the plug's wall: elsewhere two more
        planes change little, and take half of the time.
    """

    voxel_um: float
    anatomy: Anatomy
    stain: Stain
    scanner: Scanner
    processing: Processing
    ratio: float
    centre_um: tuple[float, float]
    thick: bool

    @staticmethod
    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Section:
        """Draw the section of a slice of `shape`, as told at `draw_slice`."""
        voxel_um = VOXEL_UM * rng.uniform(0.6, 1.6)
        wide_anatomy, wide_stain, wide_scanner = map(bool, rng.random(3) < (0.8, 0.65, 0.65))
        anatomy = Anatomy.draw(rng, shape[0] * voxel_um, shape[1] * voxel_um, wide_anatomy, odd=True)
        stain = Stain.draw(rng, wide=wide_stain)
        scanner = Scanner.draw(rng, max(stain.deep, stain.bone), wide=wide_scanner)
        ratio, fate = 1.0, rng.random()
        if fate < _COARSER:
            ratio = float(np.exp(rng.uniform(0, np.log(COARSEST_UM / VOXEL_UM))))
        elif fate < _COARSER + _FINER:
            scanner = scanner.averaged(rng.uniform(1, 2))
        processing = Processing.draw(rng, _PROCESSED / np.sqrt(ratio))
        along_wall = bool(rng.random() < _ALONG_WALL)
        chord = rng.choice((-1, 1)) * rng.uniform(0.8, 1.05) if along_wall else rng.uniform(-0.95, 0.95)
        centre = chord * anatomy.radius_um, rng.uniform(-0.4, 0.4) * anatomy.radius_um
        return Section(voxel_um, anatomy, stain, scanner, processing, ratio, centre, along_wall)

    def scan(
        self, rng: np.random.Generator, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
        """Scan it: grey levels, hard tissue and overview, as `draw_slice` returns them."""
        grid = make_grid((shape[0], 1, shape[1]), self.voxel_um, self.centre_um)
        across, weights = (_ACROSS, _ACROSS_WEIGHTS) if self.thick else (np.zeros(1), (1,))
        y = (grid.y + self.scanner.blur * self.voxel_um * across).astype(np.float32)
        planes = Grid(grid.z, y, grid.x)
        tissue, hard, _ = Tissue(rng, planes.extent, self.anatomy, self.stain).draw(planes)
        blurred = np.average(tissue, axis=1, weights=weights).astype(np.float32)
        scanned = (max(8, round(shape[0] / self.ratio)), max(8, round(shape[1] / self.ratio)))
        if scanned != shape:
            blurred = resized(blurred, scanned)
            um = self.voxel_um * shape[1] / scanned[1]
            grid = make_grid((scanned[0], 1, scanned[1]), um, self.centre_um)
        scan = self.scanner.scan(rng, blurred[:, None], grid, ring_profile(rng, 4096))[:, 0]
        scan = resized(self.processing.apply(scan), shape)
        return scan, hard[:, len(across) // 2], self._overview(rng, shape)

    def _overview(self, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Scan such a plug coarsely through its middle: (rows / 4, columns / 4)."""
        coarse = (shape[0] // _OVERVIEW, 1, shape[1] // _OVERVIEW)
        grid = make_grid(coarse, _OVERVIEW * self.voxel_um, (0, self.centre_um[1]))
        tissue, _, _ = Tissue(rng, grid.extent, self.anatomy, self.stain).draw(grid)
        plain = replace(self.scanner, blur=self.scanner.blur / _OVERVIEW, noise_blur=0, ring=0)
        return plain.scan(rng, tissue, grid, np.zeros(1, np.float32))[:, 0]


def draw_slice(
    seed: tuple[int, ...], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Draw one slice through a plug of its own, with more variety than reality has.

    Anatomy, stain and scanner are each drawn from the wide ranges or, at times, from the realistic ones.
    A quarter of the slices are drawn along the plug's wall, from 0.8 to 1.05 of its radius, and are blurred
    across their thickness; the others lie anywhere within 0.95 of the radius, and are not. A third are of a
    scan with larger voxels, to 6.25 times as large, enlarged as `predict` does it, a tenth of one with
    smaller voxels, averaged, and over a third of a scan that was blurred, denoised or binned.

    Parameters
    ----------
    seed : any integers; the same give the same slice.
    shape : rows (Z, the bone end at row 0) and columns.

    Returns
    -------
    scan : (rows, columns) float32 grey levels, 0-255.
    hard : (rows, columns) bool, the hard tissue.
    overview : (rows / 4, columns / 4) float32, a coarse slice of the same view through the middle of such a
        plug: about the grey levels that its whole scan has.
    """
    rng = np.random.default_rng(seed)
    return Section.draw(rng, shape).scan(rng, shape)


def _painted(
    tissue: Tissue, grid: Grid, progress: Callable[[int, int], None] | None
) -> tuple[Voxels, Voxels, Voxels]:
    """Draw a whole volume slab by slab: under PTA, its hard tissue, and under CA4+, each (Z, Y, X) uint8."""
    shape = grid.shape
    pta, mask, ca4 = (np.empty(shape, np.uint8) for _ in range(3))

    def draw(start: int) -> None:
        slab = slice(start, min(start + _SLAB, shape[0]))
        levels, hard, ca4_levels = tissue.draw(grid.slab(slab.start, slab.stop))
        pta[slab] = np.clip(levels, 0, 255)
        mask[slab] = hard
        mask[slab] *= 255
        ca4[slab] = np.clip(ca4_levels, 0, 255)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(draw, range(0, shape[0], _SLAB))):
            if progress:
                progress(min((done + 1) * _SLAB, shape[0]), shape[0])
    return pta, mask, ca4


def _scan(
    seed: np.random.SeedSequence, scanner: Scanner, tissue: Voxels, grid: Grid, processing: Processing
) -> Voxels:
    """Scan a whole volume slab by slab: (Z, Y, X) uint8."""
    depth = tissue.shape[0]
    starts = range(0, depth, 4 * _SLAB)
    rings_seed, *seeds = seed.spawn(len(starts) + 1)
    rings = ring_profile(np.random.default_rng(rings_seed), max(tissue.shape))
    out = np.empty_like(tissue)

    def scan(start: int, seed: np.random.SeedSequence) -> None:
        stop = min(start + 4 * _SLAB, depth)
        low, high = max(start - scanner.halo, 0), min(stop + scanner.halo, depth)
        slab = tissue[low:high].astype(np.float32)
        level = scanner.scan(np.random.default_rng(seed), slab, grid.slab(low, high), rings)
        out[start:stop] = np.rint(level[start - low : stop - low])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(scan, starts, seeds))
    if processing.kind != "none":
        for y in range(out.shape[1]):  # ZX slices, as those of training
            out[:, y] = np.rint(processing.apply(out[:, y].astype(np.float32)))
    return out


def _remounted(
    volume: Voxels, voxel_um: float, rng: np.random.Generator
) -> tuple[Voxels, NDArray[np.float64]]:
    """Return the plug as it lies after remounting, and the true matrix, as `Phantom.matrix`."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter([(n - 1) / 2 * voxel_um / 1000 for n in volume.shape[::-1]])
    tilt = np.deg2rad(rng.uniform(0, 8))
    direction = rng.uniform(0, 2 * np.pi)
    transform.SetRotation(tilt * np.cos(direction), tilt * np.sin(direction), rng.uniform(0, 2 * np.pi))
    reach_mm = min(0.17, 0.1 * min(volume.shape) * voxel_um / 1000)
    transform.SetTranslation(rng.uniform(-reach_mm, reach_mm, 3).tolist())
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing([voxel_um / 1000] * 3)
    moved = sitk.Resample(image, image, transform.GetInverse(), sitk.sitkLinear, 2.0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = centre + transform.GetTranslation() - matrix[:3, :3] @ centre
    return sitk.GetArrayFromImage(moved), matrix
