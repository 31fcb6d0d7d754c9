"""A second family of synthetic PTA plugs, for testing only: other shapes, noise and greys than training's.

    python tests/benchmarks/second_family.py OUT.png [--seeds 1 2 3]

It shares no code with the package, so a network trained on the package's own phantoms is measured here on
anatomy that it has not seen. Hard tissue is what is mineralised, and the tidemark is its upper face. PTA
soaks in below it: the grey begins to fall at the tidemark and falls steepest deeper, at the PTA edge.

Plugs of one seed are the same plug in every kind, as far as the kind allows, so that what it costs is
measured pairwise:

- `easy`, `crest_lost` (bone as bright as cartilage), `voids` (dark places at the interface), `cleft`
  (cartilage torn off) and `clots` (marrow stained as grey as bone) have the same mask;
- `thick` (0.5 to 1 mm of smooth bone), `thin` (a plate of 30 to 60 µm) and `crushed` (cut obliquely, with
  bright debris) have the same tidemark over other bone; debris is no hard tissue;
- `scalloped` has another tidemark, scalloped and stepped, with only a thin bright line along it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from scipy import fft, ndimage
from scipy.spatial import cKDTree

KINDS = ("easy", "crest_lost", "voids", "cleft", "clots", "thick", "thin", "crushed", "scalloped")
COARSE, MIDDLE = 4, 2  # voxels of the scan per voxel of the coarse and the middle grid
PROCESSING = ("gaussian1", "gaussian2", "gaussian3", "median", "bilateral", "nlmeans", "binned")
FINE_UM = 3.2  # coarse scans are means of voxels of this size
FALL = 12.0  # grey levels: where unmineralised tissue is brighter than bone by less, no fall shows
OPEN_UM = 50.0  # a channel or pore wider than this is a hole in the mask


@dataclass(frozen=True)
class Plug:
    """A drawn plug: `scan` and `mask` (0 or 255) are uint8 (Z, Y, X), bone at low Z.

    `edge_um`, float32 (Y, X), is how far below the tidemark the PTA edge lies: the steepest fall of the grey
    as drawn, before the scanner. It is 0 where nothing soaks in, and NaN where there is no tidemark or no
    fall (a lost crest, a void, marrow or a hole where the fall would be).
    """

    scan: np.ndarray
    mask: np.ndarray
    edge_um: np.ndarray
    voxel_um: float
    kind: str


@dataclass(frozen=True)
class Recipe:
    """What one plug is made of: lengths in µm, grey levels of 255, counts, fractions."""

    # shape
    bone_share: float  # mean height of the tidemark, of the height of the scan
    air_share: float  # mean height of the air above the cartilage, of the same
    tilt: tuple[float, float]  # slope of the tidemark along Y and X
    lean: tuple[float, float]  # slope of the plug's axis
    radii: tuple[float, float]  # half-axes of the plug, of half the width of the scan
    bow_um: float
    rough_um: float  # Rq of the tidemark
    rough_tail: float  # share of waves under 90 µm in it
    scallop_um: float  # height of the scallops and half that of the steps of the tidemark
    tongues: int  # narrow dips of cartilage into the bone
    overhang_um: float
    wall_um: float  # SD of the side wall
    shoulder_um: float
    chips: int
    sawn_um: float  # height of the cut under the bone; negative: the bone goes on below the scan
    cut: tuple[float, float]  # slope of the cut along Y and X
    crushed_um: float  # depth of the crushed bone at the cut
    # cartilage
    surface_um: float
    fibrillation_um: float
    fissures: int
    column_lean: tuple[float, float]
    chondron_um: float  # width
    chondron_long: float  # length by width
    cell_free_um: float  # no chondrons so far above the tidemark
    bright_um: float  # height of the bright deep zone
    # bone
    plate_um: float
    thin_spots: int
    marrow_fraction: float  # below the plate
    strut_um: float
    cell_um: float  # size of the marrow spaces
    cells: bool  # marrow between the walls of a cell structure, or a union of tubes
    pores: int
    canals: int
    channels: int
    channel_um: tuple[float, float]  # narrowest and widest
    # grey levels
    mid: float
    deep: float
    cell_level: float
    crest: float
    crest_um: float
    soak_um: (
        float  # PTA has half fallen so far below the tidemark, in the middle of the plug's places; 0: a step
    )
    soak_spread: float  # SD of the logarithm of that depth from place to place
    soak_power: float  # the mineral that keeps PTA out grows with depth to this power, less one
    bone: float
    grain: float  # of bone; 0: it is uniform
    clots: float  # in the marrow: 0 none, 1 nearly all
    lamina: float
    rim: float
    rim_um: float
    strut_rim: float
    fat_share: float
    wax: float
    # scanner
    blur_vox: float
    motion_vox: float
    noise: float
    ring: float
    cupping: float
    gain: float
    gamma: float


def draw_recipe(rng: np.random.Generator) -> Recipe:
    """Draw the anatomy and the scanner of one plug."""
    between, chance, number = rng.uniform, rng.random, rng.integers
    slope = np.tan(np.radians(15 * rng.beta(1.2, 2.5)))
    way = between(0, 2 * np.pi)
    worn = chance()  # 0 healthy .. 1 osteoarthritic: surface, chondrons and streaks go together
    whole = chance() < 0.75  # otherwise the scan is a crop from inside a wider plug
    radius = between(0.72, 0.9) if whole else between(1.2, 1.7)
    return Recipe(
        bone_share=between(0.3, 0.42),
        air_share=between(0.05, 0.12),
        tilt=(slope * np.sin(way), slope * np.cos(way)),
        lean=(between(-0.06, 0.06), between(-0.06, 0.06)),
        radii=(radius * between(0.95, 1.05), radius * between(0.95, 1.05)),
        bow_um=between(-40, 40),
        rough_um=17 * np.exp(rng.normal(0, 0.25)),
        rough_tail=between(0.1, 0.4),
        scallop_um=0.0,
        tongues=int(number(0, 6)),
        overhang_um=between(0, 10),
        wall_um=between(2, 9),
        shoulder_um=between(60, 260),
        chips=int(number(0, 5)),
        sawn_um=between(20, 90) if chance() < 0.4 else -1.0,
        cut=(0.0, 0.0),
        crushed_um=0.0,
        surface_um=between(8, 20) + 25 * worn,
        fibrillation_um=60 * worn**2,
        fissures=int(rng.poisson(3 * worn)),
        column_lean=(rng.normal(0, 0.25), rng.normal(0, 0.25)),
        chondron_um=between(24, 34) + 70 * worn * between(0.5, 1.1),
        chondron_long=between(1.2, 2.2),
        cell_free_um=between(60, 220),
        bright_um=between(220, 620),
        plate_um=between(190, 380),
        thin_spots=int(number(0, 3)),
        marrow_fraction=between(0.4, 0.68),
        strut_um=between(60, 130),
        cell_um=between(260, 520),
        cells=bool(chance() < 0.6),
        pores=int(number(20, 160)),
        canals=int(number(1, 9)),
        channels=int(rng.poisson(2.5)),
        channel_um=(30.0, 100.0),
        mid=between(78, 98),
        deep=between(124, 165),
        cell_level=between(55, 80),
        crest=between(34, 75),
        crest_um=between(20, 36),
        soak_um=float(np.clip(20 * np.exp(rng.normal(0, 0.33)), 6, 42)) if chance() > 1 / 15 else 0.0,
        soak_spread=between(0.2, 0.5),
        soak_power=between(1.6, 3.2),
        bone=between(88, 116),
        grain=1.0,
        clots=0.0,
        lamina=between(0, 28),
        rim=between(30, 170),
        rim_um=between(8, 30),
        strut_rim=between(-5, 45),
        fat_share=between(0, 0.7),
        wax=between(0, 26),
        blur_vox=between(0.6, 1.1),
        motion_vox=between(0, 2.2),
        noise=between(3.5, 6.5),
        ring=between(0, 3),
        cupping=between(-0.02, 0.09),
        gain=between(0.9, 1.15),
        gamma=between(0.85, 1.2),
    )


def recipe_of(seed: int, kind: str) -> Recipe:
    """Return the recipe of a plug: the seed's, with what its kind has of its own."""
    recipe = draw_recipe(np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 5])
    between = rng.uniform
    if kind == "thick":
        return replace(
            recipe, plate_um=between(500, 1000), thin_spots=0, pores=0, canals=int(rng.integers(0, 3)),
            bone=between(100, 130), grain=between(0, 0.3), lamina=0.0,
        )  # fmt: skip
    if kind == "thin":
        return replace(
            recipe, plate_um=between(30, 60), thin_spots=0, canals=0, marrow_fraction=between(0.7, 0.9)
        )
    if kind == "clots":
        return replace(recipe, clots=between(0.4, 0.9))
    if kind == "crushed":
        slope, way = np.tan(np.radians(between(12, 30))), between(0, 2 * np.pi)
        return replace(
            recipe, sawn_um=between(120, 280), cut=(slope * np.sin(way), slope * np.cos(way)),
            crushed_um=between(40, 140),
        )  # fmt: skip
    if kind == "scalloped":
        return replace(
            recipe, scallop_um=between(15, 35), deep=recipe.bone + between(-4, 10),
            mid=recipe.bone - between(5, 20), crest=between(45, 80), crest_um=between(7, 14),
            soak_um=0.5 * recipe.soak_um, soak_spread=0.5 * recipe.soak_spread,
        )  # fmt: skip
    return recipe


# --- building blocks --------------------------------------------------------------------------------------


def spectral_field(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    unit_um: float,
    band_um: tuple[float, float],
    slope: float,
    along: tuple[float, ...] | None = None,
    stretch: float = 1.0,
) -> np.ndarray:
    """Return a random field of mean 0 and SD 1 whose power falls as 1 / frequency^slope within a band.

    `along` is a direction in which every feature is drawn out by `stretch`. The field is float32, periodic.
    """
    axes = [fft.fftfreq(n, unit_um) for n in shape[:-1]] + [fft.rfftfreq(shape[-1], unit_um)]
    waves = np.meshgrid(*axes, indexing="ij", sparse=True)
    square = sum(wave**2 for wave in waves)
    if along is not None:
        length = float(np.linalg.norm(along))
        drawn = sum(wave * part / length for wave, part in zip(waves, along, strict=True))
        square = square + (stretch**2 - 1) * drawn**2
    frequency = np.sqrt(square)
    inside = (frequency >= 1 / band_um[1]) & (frequency <= 1 / band_um[0])
    weight = np.where(inside, np.maximum(frequency, 1e-9) ** (-slope / 2), 0).astype(np.float32)
    white = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    field = fft.irfftn(white * weight, shape)
    return ((field - field.mean()) / max(float(field.std()), 1e-9)).astype(np.float32)


def plane_of(field: np.ndarray, factor: int, z: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return plane `z`, (Y, X) of `shape`, interpolated from a field on a grid `factor` times coarser."""
    place = float(np.clip((z + 0.5) / factor - 0.5, 0, len(field) - 1))
    low = min(int(place), len(field) - 2)
    share = np.float32(place - low)
    plane = field[low] * (1 - share) + field[low + 1] * share
    large = cv2.resize(
        plane, (plane.shape[1] * factor, plane.shape[0] * factor), interpolation=cv2.INTER_LINEAR
    )
    return large[: shape[1], : shape[2]]


def smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Return min(a, b) with the corner between them rounded over `width`."""
    return np.minimum(a, b) - np.maximum(width - np.abs(a - b), 0) ** 2 / (4 * width)


def _ramp(x: np.ndarray) -> np.ndarray:
    """Logistic step from 0 to 1."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


class Grid:
    """The scan on a grid `factor` times coarser; positions are (z, y, x) in µm from the scan's corner."""

    def __init__(self, shape: tuple[int, int, int], voxel_um: float, factor: int) -> None:
        self.factor, self.unit_um = factor, voxel_um * factor
        self.shape = tuple(max(2, -(-n // factor)) for n in shape)
        self.axes = [(np.arange(n, dtype=np.float32) + 0.5) * self.unit_um for n in self.shape]
        self.z, self.y, self.x = np.meshgrid(*self.axes, indexing="ij", sparse=True)

    def empty(self) -> np.ndarray:
        """Return a signed distance field with nothing in it."""
        return np.full(self.shape, -1e3, np.float32)

    def _near(self, low: np.ndarray, high: np.ndarray) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        box = tuple(
            slice(max(0, int(a / self.unit_um) - 1), max(0, int(b / self.unit_um) + 2))
            for a, b in zip(low, high, strict=True)
        )
        return box, list(np.ix_(*(axis[part] for axis, part in zip(self.axes, box, strict=True))))

    def stamp_tube(self, field: np.ndarray, start: np.ndarray, end: np.ndarray, radius_um: float) -> None:
        """Unite `field` with a tube with round ends: µm inside the tube, negative outside it."""
        reach = radius_um + 4 * self.unit_um
        box, places = self._near(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        step = end - start
        offset = [place - s for place, s in zip(places, start, strict=True)]
        share = sum(o * s for o, s in zip(offset, step, strict=True)) / max(float(step @ step), 1e-6)
        share = np.clip(share, 0, 1)
        square = sum((o - share * s) ** 2 for o, s in zip(offset, step, strict=True))
        field[box] = np.maximum(field[box], radius_um - np.sqrt(square))

    def stamp_egg(
        self, field: np.ndarray, centre: np.ndarray, axis: np.ndarray, half_um: tuple[float, float]
    ) -> None:
        """Unite `field` with an ellipsoid of half-length and half-width `half_um` along a unit axis."""
        reach = max(half_um) + 2 * self.unit_um
        box, places = self._near(centre - reach, centre + reach)
        offset = [place - c for place, c in zip(places, centre, strict=True)]
        along = sum(o * a for o, a in zip(offset, axis, strict=True))
        square = sum(o * o for o in offset)
        across = np.maximum(square - along**2, 0)
        ratio = np.sqrt((along / half_um[0]) ** 2 + across / half_um[1] ** 2)
        field[box] = np.maximum(field[box], (1 - ratio) * half_um[1])


# --- anatomy ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """Fields of one plug: maps (Y, X) on the scan's grid, volumes by name on the coarse or middle grid.

    Volumes in µm are positive inside what they are named after; the others are random, of SD 1.
    """

    tidemark_um: np.ndarray  # map: height
    surface_um: np.ndarray  # map: height
    soak_um: np.ndarray  # map: depth below the tidemark at which the PTA grey has half fallen
    fissures: tuple[tuple[np.ndarray, np.ndarray, float, float], ...]  # distance, path, half-width, depth
    coarse: dict[str, np.ndarray]
    middle: dict[str, np.ndarray]


def tidemark_map(
    rng: np.random.Generator, recipe: Recipe, shape: tuple[int, int, int], voxel_um: float
) -> np.ndarray:
    """Return the height of the tidemark (Y, X) in µm: plane, bow, waves of 90-310 µm and shorter, dips."""
    y = (np.arange(shape[1]) - (shape[1] - 1) / 2)[:, None] * voxel_um
    x = (np.arange(shape[2]) - (shape[2] - 1) / 2)[None, :] * voxel_um
    half_um = max(shape[1:]) * voxel_um / 2
    large = (shape[1] * 2, shape[2] * 2)  # drawn twice as large, so that the far sides do not match
    waves = spectral_field(rng, large, voxel_um, (90, 310), 1)
    tail = spectral_field(rng, large, voxel_um, (30, 90), 4)
    rough = recipe.rough_um * (np.sqrt(1 - recipe.rough_tail**2) * waves + recipe.rough_tail * tail)
    rough = rough[: shape[1], : shape[2]]
    for _ in range(recipe.tongues):
        cy, cx = rng.uniform(-half_um, half_um, 2)
        width = rng.uniform(10, 22)
        rough = rough - rng.uniform(20, 75) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    if recipe.scallop_um > 0:  # bays in the bone with sharp ridges between them, and steps
        bays = spectral_field(rng, large, voxel_um, (120, 600), 2)[: shape[1], : shape[2]]
        steps = spectral_field(rng, large, voxel_um, (250, 1500), 2)[: shape[1], : shape[2]]
        rough = rough + recipe.scallop_um * (0.8 - np.abs(bays) + np.tanh(8 * steps))
    plane = recipe.tilt[0] * y + recipe.tilt[1] * x + recipe.bow_um * (x**2 + y**2) / half_um**2
    base = recipe.bone_share * shape[0] * voxel_um
    return (base + plane + rough).astype(np.float32)


def _wall(
    rng: np.random.Generator, recipe: Recipe, grid: Grid, size_um: tuple[float, float, float]
) -> np.ndarray:
    """Return the µm inside the side wall: a leaning ellipse with a wavy outline and chipped edges."""
    dy = grid.y - size_um[1] / 2 - recipe.lean[0] * (grid.z - size_um[0] / 2)
    dx = grid.x - size_um[2] / 2 - recipe.lean[1] * (grid.z - size_um[0] / 2)
    radius_y, radius_x = (share * size / 2 for share, size in zip(recipe.radii, size_um[1:], strict=True))
    angle = np.arctan2(dy, dx)
    outline = radius_y * radius_x / np.hypot(radius_y * np.cos(angle), radius_x * np.sin(angle))
    turns = 180
    relief = spectral_field(rng, (grid.shape[0], turns), grid.unit_um, (50, 900), 3)
    index = ((angle / (2 * np.pi) + 0.5) * turns).astype(int) % turns
    relief = relief[np.arange(grid.shape[0])[:, None, None], index]
    soft = 0.35 + 0.65 * _ramp((grid.z - recipe.bone_share * size_um[0]) / 60)  # bone is cut cleaner
    wall = (outline - np.hypot(dy, dx) + recipe.wall_um * soft * relief).astype(np.float32)
    for _ in range(recipe.chips):
        way, radius = rng.uniform(0, 2 * np.pi), rng.uniform(30, 110)
        away = rng.uniform(0.95, 1.1)
        cy, cx = (
            size_um[1] / 2 + radius_y * away * np.sin(way),
            size_um[2] / 2 + radius_x * away * np.cos(way),
        )
        cz = rng.uniform(0, recipe.bone_share) * size_um[0]
        chip = np.sqrt((grid.z - cz) ** 2 + (grid.y - cy) ** 2 + (grid.x - cx) ** 2) - radius
        wall = np.minimum(wall, chip)
    return wall


def _marrow(rng: np.random.Generator, recipe: Recipe, grid: Grid, depth: np.ndarray) -> np.ndarray:
    """Return the µm inside marrow, below an uneven plate; `depth` is µm below a smooth tidemark."""
    if recipe.marrow_fraction == 0:
        return grid.empty()
    size = np.array([len(axis) for axis in grid.axes]) * grid.unit_um
    if recipe.cells:
        space = _between_walls(rng, recipe, grid, size)
    else:
        space = grid.empty()
        for _ in range(int(4 * np.prod(size / recipe.cell_um)) + 4):
            start = rng.uniform(-0.1, 1.1, 3) * size
            way = rng.normal(size=3) * (1.3, 1, 1)
            end = start + way / np.linalg.norm(way) * rng.uniform(0.2, 1.2) * recipe.cell_um
            grid.stamp_tube(space, start, end, rng.uniform(0.15, 0.42) * recipe.cell_um)
    space = np.maximum(space, -120) + 14 * spectral_field(rng, grid.shape, grid.unit_um, (60, 400), 3)
    space = ndimage.gaussian_filter(space, 1.2 * 12.8 / grid.unit_um)
    below = depth > recipe.plate_um
    if below.any():
        space -= np.quantile(space[below], 1 - recipe.marrow_fraction)
    plate = recipe.plate_um * (1 + 0.22 * spectral_field(rng, grid.shape[1:], grid.unit_um, (150, 900), 3))
    for _ in range(recipe.thin_spots):  # a large cavity that reaches up to the calcified cartilage
        cy, cx = rng.uniform(0.15, 0.85, 2) * size[1:]
        width, left = rng.uniform(90, 220), rng.uniform(25, 90)
        dent = np.exp(-((grid.y[0] - cy) ** 2 + (grid.x[0] - cx) ** 2) / (2 * width**2))
        plate = plate + dent * (left - plate)
        space = np.maximum(space, 90 * (1.6 * dent - 0.7)[None] - np.maximum(depth - 300, 0) * 0.5)
    rounding = min(70.0, recipe.plate_um)
    return smooth_min(space, depth - np.maximum(plate, 20), rounding).astype(np.float32)


def _between_walls(rng: np.random.Generator, recipe: Recipe, grid: Grid, size: np.ndarray) -> np.ndarray:
    """Return the µm inside the cells of a random cell structure, some walls between them taken out."""
    margin = recipe.cell_um
    count = max(8, int(np.prod((size + 2 * margin) / recipe.cell_um)))
    seeds = rng.uniform(-margin, size + margin, (count, 3)) * (0.75, 1, 1)  # cells taller than wide
    room = rng.integers(0, max(2, int(0.75 * count)), count)  # cells of one room have no wall between them
    points = np.stack(np.broadcast_arrays(0.75 * grid.z, grid.y, grid.x), axis=-1).reshape(-1, 3)
    distance, index = cKDTree(seeds).query(points, k=4)
    other = room[index] != room[index[:, :1]]
    second = np.where(other, distance, np.inf).min(axis=1)
    second = np.minimum(second, distance[:, -1] + 0.3 * recipe.cell_um)
    return ((second - distance[:, 0] - recipe.strut_um) / 2).reshape(grid.shape).astype(np.float32)


def _chondrons(
    rng: np.random.Generator, recipe: Recipe, grid: Grid, tidemark_um: float, top_um: float
) -> np.ndarray:
    """Return the µm inside chondrons: ellipsoids stacked in leaning columns."""
    field = grid.empty()
    size = np.array([len(axis) for axis in grid.axes]) * grid.unit_um
    pitch = 1.05 * recipe.chondron_um + 8
    reach = 0.5 * top_um
    for y0 in np.arange(-reach, size[1] + reach, pitch):
        for x0 in np.arange(-reach, size[2] + reach, pitch):
            base = np.array([y0, x0]) + rng.normal(0, 0.25 * pitch, 2)
            lean = np.array(recipe.column_lean) + rng.normal(0, 0.12, 2)
            height = rng.uniform(0.5, 1.3) * recipe.cell_free_um
            while height < top_um:
                # smaller near the tidemark, largest in the honeycomb, small and flat at the surface
                grown = np.interp(height, [0, 250, 450, 0.7 * top_um, top_um], [0.5, 0.8, 1.1, 0.8, 0.5])
                half = 0.5 * recipe.chondron_um * grown * rng.lognormal(0, 0.2)
                long = half * max(1.0, recipe.chondron_long * rng.lognormal(0, 0.25))
                turn = lean + rng.normal(0, 0.2, 2)
                axis = np.array([1.0, *turn]) / np.sqrt(1 + turn @ turn)
                centre = np.array([tidemark_um + height, *(base + lean * height)])
                near = np.abs(centre[1:] - size[1:] / 2) < size[1:] / 2 + long
                if rng.random() < 0.85 and near.all():
                    grid.stamp_egg(field, centre, axis, (long, half))
                height += 2 * long * rng.uniform(0.95, 1.25) + 5
    return field


def _channels(
    rng: np.random.Generator, recipe: Recipe, grid: Grid, tidemark: np.ndarray, voxel_um: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the µm inside what the mask leaves out (wide) and inside what it fills (narrow)."""
    wide, narrow = grid.empty(), grid.empty()
    inner = np.array(tidemark.shape) * voxel_um
    for number in range(recipe.channels + recipe.canals):
        place = inner / 2 + inner * np.array(recipe.radii) * rng.uniform(-0.33, 0.33, 2)
        row, column = np.clip((place / voxel_um).astype(int), 0, np.array(tidemark.shape) - 1)
        height = float(tidemark[row, column])
        if number < recipe.channels:  # vascular: from the marrow up through the tidemark
            width = rng.uniform(*recipe.channel_um)
            start = np.array([height + rng.uniform(5, 60), *place])
            way = np.array([-rng.uniform(150, 400), *rng.normal(0, 60, 2)])
        else:  # within the plate
            width = rng.uniform(20, 80)
            start = np.array([height - rng.uniform(90, 330), *place])
            way = rng.normal(0, 60, 3) * (0.6, 1, 1)
        for part in range(3):  # bends, and is never quite as wide as before
            end = start + way / 3 + (rng.normal(0, 12, 3) if part else 0)
            grid.stamp_tube(wide if width > OPEN_UM else narrow, start, end, width / 2)
            start, width = end, width * (rng.uniform(0.85, 1.15) if width > 1.2 * OPEN_UM else 1)
    for _ in range(recipe.pores):
        place = rng.uniform(0, 1, 2) * inner
        row, column = (place / voxel_um).astype(int)
        centre = np.array([tidemark[row, column] - rng.uniform(15, 350), *place])
        axis = np.array([1.0, 0, 0]) if rng.random() < 0.4 else np.array([0, 0.6, 0.8])
        half = rng.uniform(6, 13)
        grid.stamp_egg(narrow, centre, axis, (half * rng.uniform(1, 4), half))
    return wide, narrow


def _fissures(
    rng: np.random.Generator, recipe: Recipe, shape: tuple[int, int, int], voxel_um: float
) -> tuple[tuple[np.ndarray, np.ndarray, float, float], ...]:
    """Return clefts of the surface: a polyline from above, that wanders (Z, 2) in voxels further down."""
    clefts = []
    for _ in range(recipe.fissures):
        line = np.ones(shape[1:], np.uint8)
        steps = np.cumsum(rng.normal(0, 0.35, 9)) + rng.uniform(0, 2 * np.pi)
        step = rng.uniform(0.04, 0.12) * min(shape[1:])
        path = np.cumsum(np.stack([np.cos(steps), np.sin(steps)], axis=1) * step, axis=0)
        path += rng.uniform(0.2, 0.8, 2) * (shape[2], shape[1]) - path[4]
        cv2.polylines(line, [np.round(path).astype(np.int32)], False, 0)
        distance = cv2.distanceTransform(line, cv2.DIST_L2, 5) * np.float32(voxel_um)
        wander = np.stack([spectral_field(rng, (shape[0],), voxel_um, (60, 900), 2.5) for _ in "yx"], axis=1)
        wander = 9 * wander + np.arange(shape[0])[:, None] * voxel_um * rng.normal(0, 0.3, 2)
        wander -= wander[int(shape[0] * (1 - recipe.air_share)) - 1]
        clefts.append((distance, wander / voxel_um, rng.uniform(6, 30), rng.uniform(60, 450)))
    return tuple(clefts)


def soak_map(recipe: Recipe, seed: int, shape: tuple[int, int, int], voxel_um: float) -> np.ndarray:
    """Return how deep below the tidemark PTA has half fallen, in µm (Y, X): 4 to 45, or 0 all over."""
    if recipe.soak_um == 0:
        return np.zeros(shape[1:], np.float32)
    rng = np.random.default_rng([seed, 4])
    large = (shape[1] * 2, shape[2] * 2)
    field = spectral_field(rng, large, voxel_um, (60, 1500), 2)[: shape[1], : shape[2]]
    return np.clip(recipe.soak_um * np.exp(recipe.soak_spread * field), 4, 45).astype(np.float32)


def build(recipe: Recipe, seed: int, shape: tuple[int, int, int], voxel_um: float) -> Anatomy:
    """Return the fields of a plug, the same for every kind."""
    # each part has its own generator: a kind that changes one part leaves the others as they are
    parts = (np.random.default_rng([seed, 1, number]) for number in count())
    coarse, middle = Grid(shape, voxel_um, COARSE), Grid(shape, voxel_um, MIDDLE)
    size_um = (shape[0] * voxel_um, shape[1] * voxel_um, shape[2] * voxel_um)
    tidemark = tidemark_map(next(parts), recipe, shape, voxel_um)
    mean_um = recipe.bone_share * size_um[0]
    thick_um = size_um[0] * (1 - recipe.air_share) - mean_um
    relief = spectral_field(next(parts), shape[1:], voxel_um, (40, 900), 3)
    smooth = cv2.GaussianBlur(tidemark, (0, 0), 80 / voxel_um)
    surface = 0.5 * smooth + 0.5 * mean_um + thick_um + recipe.surface_um * relief
    surface -= max(0.0, float(surface.max()) - size_um[0] + 30)  # air above every column
    wide, narrow = _channels(next(parts), recipe, middle, tidemark, voxel_um)
    plate_top = cv2.resize(smooth, coarse.shape[:0:-1], interpolation=cv2.INTER_AREA)
    along = (1.0, *recipe.column_lean)
    volumes = {
        "wall_um": _wall(next(parts), recipe, coarse, size_um),
        "marrow_um": _marrow(next(parts), recipe, coarse, plate_top[None] - coarse.z),
        "wobble": spectral_field(next(parts), coarse.shape, coarse.unit_um, (40, 200), 2.5),
        "patches": spectral_field(next(parts), coarse.shape, coarse.unit_um, (200, 1500), 3),
    }
    details = {
        "streaks": spectral_field(next(parts), middle.shape, middle.unit_um, (18, 500), 2.6, along, 4.0),
        "fine": spectral_field(next(parts), middle.shape, middle.unit_um, (13, 80), 1.5),
        "chondron_um": _chondrons(next(parts), recipe, middle, mean_um, thick_um),
        "open_um": wide,  # channels that the mask leaves out
        "pore_um": narrow,  # pores and channels that the mask fills
    }
    fissures = _fissures(next(parts), recipe, shape, voxel_um)
    soak = soak_map(recipe, seed, shape, voxel_um)
    return Anatomy(tidemark, surface.astype(np.float32), soak, fissures, volumes, details)


# --- kinds ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """What makes a kind hard: maps (Y, X) and dark regions at the interface."""

    lost: np.ndarray  # 0 the crest is there .. 1 it is gone and bone is as bright as cartilage
    contrast: float  # grey levels by which bone is brighter than cartilage where the crest is gone
    voids: tuple[tuple[float, ...], ...]  # y, x, half-width along y and x, height, grey level
    torn: bool  # the voids are gaps, with stained calcified cartilage under them


def draw_trouble(
    seed: int, kind: str, recipe: Recipe, shape: tuple[int, int, int], voxel_um: float
) -> Trouble:
    """Draw the kind's own features; an easy plug has none."""
    rng = np.random.default_rng([seed, 2])
    lost = np.zeros(shape[1:], np.float32)
    voids: list[tuple[float, ...]] = []
    if kind == "crest_lost" and rng.random() < 0.5:
        lost[:] = 1
    elif kind == "crest_lost":
        lost = _ramp((spectral_field(rng, shape[1:], voxel_um, (200, 1500), 3) + 0.3) * 6)
    torn = kind == "cleft"
    if kind == "voids" or torn:
        size = np.array(shape[1:]) * voxel_um
        for _ in range(rng.integers(1, 3) if torn else rng.integers(2, 6)):
            y, x = size / 2 + rng.uniform(-0.4, 0.4, 2) * size * np.minimum(recipe.radii, 1)
            half = rng.uniform(200, 700, 2) if torn else rng.uniform(60, 260, 2)
            height, grey = ((15, 110), (1, 12)) if torn else ((30, 190), (4, 50))
            voids.append((y, x, *half, rng.uniform(*height), rng.uniform(*grey)))
    return Trouble(lost, rng.normal(0, 7), tuple(voids), torn)


def _void_plane(
    trouble: Trouble, phi: np.ndarray, wobble: np.ndarray, voxel_um: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each pixel (Y, X) is void, and its grey level."""
    share, level = np.zeros_like(phi), np.zeros_like(phi)
    y, x = (np.arange(n, dtype=np.float32) * voxel_um for n in phi.shape)
    for cy, cx, ry, rx, height, grey in trouble.voids:
        square = ((y - cy) / ry)[:, None] ** 2 + ((x - cx) / rx)[None, :] ** 2
        square = square + (phi / np.where(phi > 0, height, 0.3 * height)) ** 2
        here = np.clip((1 - np.sqrt(square) + 0.13 * wobble) * 4, 0, 1)
        level = np.where(here > share, grey, level)
        share = np.maximum(share, here)
    return np.where(phi < 0, 0, share) if trouble.torn else share, level


# --- painting ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One painted plane, all (Y, X)."""

    grey: np.ndarray  # before the scanner
    hard: np.ndarray
    phi: np.ndarray  # µm above the tidemark
    fall: np.ndarray  # grey level of the unmineralised tissue less that of the bone


class Painter:
    """Paints the ideal image and the mask of a plug, plane by plane."""

    def __init__(
        self, recipe: Recipe, anatomy: Anatomy, trouble: Trouble, shape: tuple[int, int, int], voxel_um: float
    ) -> None:
        self.recipe, self.anatomy, self.trouble = recipe, anatomy, trouble
        self.shape, self.voxel_um = shape, voxel_um
        power = recipe.soak_power
        self.scale_um = anatomy.soak_um / np.log(2) ** (1 / power)
        self.edge_um = self.scale_um * (1 - 1 / power) ** (1 / power)  # where the PTA grey falls steepest

    def plane(self, z: int) -> Layer:
        """Paint one plane."""
        a, r = self.anatomy, self.recipe
        f = {name: plane_of(field, COARSE, z, self.shape) for name, field in a.coarse.items()}
        f |= {name: plane_of(field, MIDDLE, z, self.shape) for name, field in a.middle.items()}
        height = (z + 0.5) * self.voxel_um
        phi = height - a.tidemark_um - r.overhang_um * f["wobble"]
        inside = f["wall_um"]
        hard = (phi < 0) & (inside > 0) & (f["marrow_um"] < 0) & (f["open_um"] < 0)
        sawn = self._above_cut(height, f)
        hard &= sawn > 0
        free = self._free(z, height, f)
        soft = (phi >= 0) & (free > 0)
        hollow = (phi < 0) & (inside > 0) & ~hard
        grey = self._outside(f)
        grey = np.where(hollow, self._marrow(sawn, f), grey)
        cartilage, bone = self._cartilage(phi, free, f), self._bone(phi, f)
        tissue = cartilage + self._kept_out(phi, f) * (bone - cartilage)
        if r.crushed_um > 0:
            crushed = np.exp(-np.maximum(sawn, 0) / r.crushed_um) * (phi < 0)
            tissue = tissue + crushed * (45 + 25 * f["fine"] + 20 * f["wobble"])
        pore = np.clip(f["pore_um"] / 5 + 0.6, 0, 1) * (phi < 0)
        tissue = tissue + pore * (18 + 12 * f["wobble"] - tissue)
        return Layer(np.where(hard | soft, tissue, grey).astype(np.float32), hard, phi, cartilage - bone)

    def _kept_out(self, phi: np.ndarray, f: dict[str, np.ndarray]) -> np.ndarray:
        """Return the share of PTA that is kept out: 0 down to the tidemark, 1 in bone.

        Each further µm of mineral keeps out a share of the rest, and mineral grows as a power of the depth:
        the fall begins at the tidemark without a kink, and is steepest further down.
        """
        depth = np.maximum(-phi, 0) / np.maximum(self.scale_um, 0.5)
        share = -np.expm1(-(depth**self.recipe.soak_power))
        if self.trouble.voids:  # nothing soaks in through a void
            void, _ = _void_plane(self.trouble, phi, f["wobble"], self.voxel_um)
            share = np.where(phi < 0, share + void * (1 - share), share)
        return share

    def _above_cut(self, height: float, f: dict[str, np.ndarray]) -> np.ndarray:
        """µm above the cut of the bone end, or above the scan's lower end where the bone goes on below it."""
        r = self.recipe
        if r.sawn_um <= 0:
            return np.full(self.shape[1:], height, np.float32)
        y, x = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * self.voxel_um for n in self.shape[1:])
        return height - r.sawn_um - r.cut[0] * y[:, None] - r.cut[1] * x[None, :] - 6 * f["wobble"]

    def _free(self, z: int, height: float, f: dict[str, np.ndarray]) -> np.ndarray:
        """µm inside the cartilage's free surfaces: top, side wall, fissures."""
        r = self.recipe
        below = self.anatomy.surface_um - height
        ragged = below + r.fibrillation_um * np.minimum(f["streaks"] * 0.4 + f["wobble"] * 0.5, 0.6)
        free = smooth_min(ragged, f["wall_um"], r.shoulder_um)
        for distance, path, half, depth in self.anatomy.fissures:
            move = np.array([[1, 0, path[z, 1]], [0, 1, path[z, 0]]], np.float32)
            shifted = cv2.warpAffine(distance, move, distance.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
            width = half * np.clip(1 - below / depth, 0, 1) ** 0.7 + 5 * f["wobble"]
            free = np.minimum(free, np.where(below < depth, shifted - width, free))
        return free

    def _cartilage(self, phi: np.ndarray, free: np.ndarray, f: dict[str, np.ndarray]) -> np.ndarray:
        r = self.recipe
        top = np.maximum(r.bright_um * (1 + 0.35 * f["patches"]) + 70 * f["streaks"], 160)
        matrix = r.mid + (r.deep - r.mid) * _ramp((top - phi) / (0.16 * r.bright_um))
        matrix = matrix + (r.mid * 0.1) * f["streaks"] + 6 * f["patches"] + 3 * f["fine"]
        surface = np.exp(-np.maximum(free, 0) / 70)  # PTA comes in from the free surfaces
        matrix = matrix + surface * (14 + 16 * f["patches"])
        cell = np.clip(f["chondron_um"] / (4 + 0.22 * r.chondron_um) + 0.4, 0, 1) * (0.8 + 0.12 * f["fine"])
        inner = np.minimum(r.cell_level + 6 * f["fine"] + 8 * f["patches"], matrix)
        matrix = matrix + cell * (inner - matrix)
        crest = r.crest * (1 + 0.2 * f["patches"] + 0.12 * f["wobble"]) * (1 - self.trouble.lost)
        width = r.crest_um * (1 + 0.2 * f["wobble"])
        up = np.maximum(phi, 0) / width - 0.25
        matrix = matrix + crest * np.exp(-(up**2))
        if self.trouble.voids:
            share, level = _void_plane(self.trouble, phi, f["wobble"], self.voxel_um)
            matrix = matrix + share * (level + 3 * f["fine"] - matrix)
        return matrix

    def _bone(self, phi: np.ndarray, f: dict[str, np.ndarray]) -> np.ndarray:
        r, lost = self.recipe, self.trouble.lost
        depth = np.maximum(-phi, 0)
        bone = r.bone + r.grain * (2.5 * f["patches"] + 1.5 * f["fine"])
        stained = r.deep + 6 * f["patches"] + self.trouble.contrast + 2 * f["fine"]
        bone = bone + lost * (0.55 + 0.45 * np.exp(-depth / 200)) * (stained - bone)
        lamina = np.exp(-(((depth - 150 - 25 * f["patches"]) / 8) ** 2)) * _ramp(
            4 * f["patches"] + 2 * f["wobble"]
        )
        bone = bone - r.lamina * lamina
        bone = bone + r.strut_rim * _ramp(3 * f["patches"]) * np.exp(-np.maximum(-f["marrow_um"], 0) / 9)
        wall = np.maximum(f["wall_um"], 0) / (r.rim_um * np.exp(0.4 * f["patches"]))
        bone = bone + r.rim * _ramp(3 * f["patches"] + 1.5) * np.exp(-(wall**2))
        if self.trouble.voids:
            share, _ = _void_plane(self.trouble, phi, f["wobble"], self.voxel_um)
            bone = bone * (1 - 0.2 * share)
        return bone

    def _marrow(self, sawn: np.ndarray, f: dict[str, np.ndarray]) -> np.ndarray:
        """Air, fat with round holes, clots, vessels in the channels, crumbs of bone low down, air below."""
        r = self.recipe
        fat = 32 + 6 * f["fine"] - 40 * (f["wobble"] > 0.9)
        grey = np.where(f["patches"] + 0.2 * f["wobble"] < 2.4 * (r.fat_share - 0.6), fat, 2)
        clot = 0.8 * f["patches"] + 0.4 * f["wobble"] > 1 - 1.5 * r.clots
        grey = np.where(clot & (r.clots > 0), r.bone + 4 * f["patches"] + 4 * f["fine"], grey)
        low = 1.5 * np.exp(-np.maximum(sawn, 0) / 130)
        grey = np.where(sawn < 0, 1, grey)
        if r.crushed_um > 0:
            low = low + 2 * np.exp(-np.abs(sawn) / r.crushed_um)
        crumb = (f["wobble"] + 0.4 * f["fine"] > 2.3 - low) & (sawn > -r.crushed_um / 2)
        grey = np.where(crumb, 130 + 45 * f["patches"] + 35 * f["fine"] + 0.4 * r.crushed_um, grey)
        vessel = np.maximum(28 + 26 * f["patches"] + 6 * f["fine"], 1)
        return np.where((f["open_um"] > 0) & (f["marrow_um"] < 0), vessel, grey)

    def _outside(self, f: dict[str, np.ndarray]) -> np.ndarray:
        """Air with parafilm and wax."""
        away = -f["wall_um"]
        film = (np.abs(away - 45 - 30 * f["patches"]) < 8) & (f["patches"] > -0.8)
        wax = (f["patches"] + 0.5 * f["wobble"] > 1.5) & (away > 0)
        return np.where(film, 0.8 * self.recipe.wax, np.where(wax, self.recipe.wax + 2 * f["fine"], 1))


# --- scanner ----------------------------------------------------------------------------------------------


def scan_of(ideal: np.ndarray, recipe: Recipe, seed: int) -> np.ndarray:
    """Return the uint8 scan (Z, Y, X) of ideal grey levels: blur, cupping, rings, noise and window.

    `ideal` is overwritten.
    """
    rng = np.random.default_rng([seed, 3])
    ndimage.gaussian_filter1d(ideal, recipe.blur_vox, axis=0, output=ideal)
    kernel = _motion_kernel(recipe.motion_vox, rng.uniform(0, np.pi))
    centre = np.array(ideal.shape[1:]) / 2 + rng.uniform(-20, 20, 2)
    y, x = np.ogrid[: ideal.shape[1], : ideal.shape[2]]
    radius, angle = np.hypot(y - centre[0], x - centre[1]), np.arctan2(y - centre[0], x - centre[1])
    rings = spectral_field(rng, (len(ideal), int(radius.max()) + 2), 1.0, (2, 200), 1.0)
    arc = 0.6 + 0.4 * np.cos(angle - rng.uniform(0, 2 * np.pi))
    cup = 1 - recipe.cupping * (1 - np.clip(radius / (max(ideal.shape[1:]) / 2), 0, 1) ** 2)
    scan = np.empty(ideal.shape, np.uint8)
    grain = np.zeros(ideal.shape[1:], np.float32)
    for z, plane in enumerate(ideal):
        image = cv2.filter2D(cv2.GaussianBlur(plane, (0, 0), recipe.blur_vox), -1, kernel) * cup
        fresh = cv2.GaussianBlur(rng.standard_normal(grain.shape, dtype=np.float32), (0, 0), 0.85) * 3.0
        grain = 0.45 * grain + 0.89 * fresh  # remembers the plane before: correlated along Z too
        image = image + recipe.ring * rings[z, radius.astype(int)] * arc
        image = image + recipe.noise * np.sqrt((np.clip(image, 0, None) + 8) / 108) * grain
        image = 255 * (np.clip(image * recipe.gain - 4, 0, 255) / 255) ** recipe.gamma
        scan[z] = np.clip(np.round(image), 0, 255)
    return scan


def _motion_kernel(length_vox: float, angle: float) -> np.ndarray:
    """Return a kernel that drags the image along a short line."""
    kernel = np.zeros((5, 5), np.float32)
    for share in np.linspace(-0.5, 0.5, 9):
        y, x = 2 + length_vox * share * np.sin(angle), 2 + length_vox * share * np.cos(angle)
        row, column = int(y), int(x)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            kernel[row + dy, column + dx] += (1 - abs(y - row - dy)) * (1 - abs(x - column - dx))
    return kernel / kernel.sum()


def coarser(field: np.ndarray, factor: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return the means of a field over voxels `factor` times as wide, float32 of `shape`."""
    for axis, size in enumerate(shape):
        place, edges = np.arange(field.shape[axis]), np.arange(size + 1)[:, None] * factor
        share = np.clip(np.minimum(edges[1:], place + 1) - np.maximum(edges[:-1], place), 0, 1)
        share = (share / share.sum(axis=1, keepdims=True)).astype(np.float32)
        field = np.moveaxis(np.tensordot(share, field.astype(np.float32, copy=False), (1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def coarser_edge(edge_um: np.ndarray, factor: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return `Plug.edge_um` for columns `factor` times as wide: the mean of what is known in each, or NaN."""
    known = coarser(np.isfinite(edge_um), factor, shape)
    with np.errstate(invalid="ignore"):
        return coarser(np.nan_to_num(edge_um), factor, shape) / known


def paint(painter: Painter) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the grey before the scanner and the hard tissue, float32 (Z, Y, X), and `Plug.edge_um`."""
    shape = painter.shape
    ideal, hard = np.empty(shape, np.float32), np.empty(shape, np.float32)
    tidemark, edge = np.full((2, *shape[1:]), np.nan, np.float32)
    before = None
    for z in range(shape[0]):
        layer = painter.plane(z)
        ideal[z], hard[z] = layer.grey, layer.hard
        if before is not None:
            rise = np.maximum(layer.phi - before.phi, 1e-3)
            for level, height in ((-painter.edge_um, edge), (0, tidemark)):
                here = (before.phi < level) & (layer.phi >= level)  # the uppermost crossing counts
                found = np.where(before.hard, z - (layer.phi - level) / rise, np.nan)
                if height is edge:
                    found[before.fall < FALL] = np.nan
                height[here] = found[here]
        before = layer
    return ideal, hard, (tidemark - edge) * painter.voxel_um


def render(
    recipe: Recipe, seed: int, shape: tuple[int, int, int], voxel_um: float, kind: str, finer: float = 1.0
) -> Plug:
    """Draw the plug of a recipe; `seed` draws everything that the recipe leaves open.

    With `finer` over 1 its voxels are the means of voxels so many times narrower, and the mask is what is at
    least half hard: details thinner than a voxel average out.
    """
    fine, fine_um = shape, voxel_um
    if finer > 1:
        # a multiple of 16, half a voxel forgiven: one plug's shapes at several voxels have one fine grid
        fine = tuple(16 * int(np.ceil((n - 0.5) * finer / 16)) for n in shape)  # type: ignore[assignment]
        fine_um = voxel_um / finer
    anatomy = build(recipe, seed, fine, fine_um)
    painter = Painter(recipe, anatomy, draw_trouble(seed, kind, recipe, fine, fine_um), fine, fine_um)
    ideal, hard, edge_um = paint(painter)
    if finer > 1:
        ideal, hard = coarser(ideal, finer, shape), coarser(hard, finer, shape)
        edge_um = coarser_edge(edge_um, finer, shape[1:])
    mask = (255 * (hard >= 0.5)).astype(np.uint8)
    return Plug(scan_of(ideal, recipe, seed), mask, edge_um, voxel_um, kind)


def draw_plug(
    seed: int, shape: tuple[int, int, int] = (512, 320, 320), voxel_um: float = 3.2, kind: str = "easy"
) -> Plug:
    """Draw a plug (Z, Y, X): the same for the same arguments.

    Voxels wider than 4.8 µm are means of voxels of 3.2 µm, so that a seed is the same plug at 3.2 µm and at
    all of these, if `shape` spans the same whole multiples of 51.2 µm, to half a voxel.

    Raises
    ------
    ValueError
        If the kind is none of KINDS.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of plug {kind!r}; choose one of {', '.join(KINDS)}")
    finer = voxel_um / FINE_UM if voxel_um > 1.5 * FINE_UM else 1.0
    return render(recipe_of(seed, kind), seed, shape, voxel_um, kind, finer)


def processed(plug: Plug, how: str) -> Plug:
    """Return the plug as a laboratory would process its whole scan; `binned` by 2 halves the mask as well.

    Raises
    ------
    ValueError
        If `how` is none of PROCESSING.
    """
    if how not in PROCESSING:
        raise ValueError(f"unknown processing {how!r}; choose one of {', '.join(PROCESSING)}")
    if how == "binned":
        half = tuple(n // 2 for n in plug.scan.shape)
        scan, hard = coarser(plug.scan, 2, half), coarser(plug.mask, 2, half)
        mask = (255 * (hard >= 127.5)).astype(np.uint8)
        edge_um = coarser_edge(plug.edge_um, 2, half[1:])
        return replace(
            plug, scan=np.round(scan).astype(np.uint8), mask=mask, edge_um=edge_um, voxel_um=2 * plug.voxel_um
        )
    if how.startswith("gaussian"):
        sigma = float(how.removeprefix("gaussian"))
        smooth = ndimage.gaussian_filter(plug.scan.astype(np.float32), sigma)
        return replace(plug, scan=np.round(smooth).astype(np.uint8))
    by_slice = {
        "median": lambda image: cv2.medianBlur(image, 3),
        "bilateral": lambda image: cv2.bilateralFilter(image, 5, 20, 2),
        "nlmeans": lambda image: cv2.fastNlMeansDenoising(image, None, 8, 3, 9),
    }
    return replace(plug, scan=np.stack([by_slice[how](image) for image in plug.scan]))


def sheet_row(plug: Plug) -> np.ndarray:
    """Return the mid slices of a plug side by side, cartilage up, each with the mask's outline beside it."""
    tiles = []
    middle = plug.scan.shape[1] // 2, plug.scan.shape[2] // 2
    for cut in (np.s_[:, middle[0]], np.s_[:, :, middle[1]]):
        image = cv2.cvtColor(np.ascontiguousarray(plug.scan[cut][::-1]), cv2.COLOR_GRAY2BGR)
        outlined = image.copy()
        outline, _ = cv2.findContours(
            np.ascontiguousarray(plug.mask[cut][::-1]), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(outlined, outline, -1, (0, 220, 255), 1)
        tiles += [image, outlined]
    return np.hstack(tiles)


def main() -> None:
    """Write a contact sheet: one row a plug."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    rows = [sheet_row(draw_plug(seed, kind=kind)) for seed in options.seeds for kind in options.kinds]
    if not cv2.imwrite(str(options.out), np.vstack(rows)):
        parser.error(f"cannot write {options.out}")


if __name__ == "__main__":
    main()
