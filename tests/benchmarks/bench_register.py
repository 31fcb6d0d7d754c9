"""How well `register` finds one scan of a plug on the other, against plain SimpleITK; all in one run.

python tests/benchmarks/bench_register.py [--count N] [--wrong N] [--mask] [--large] [--brain] [--no-plain]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import tifffile
from numpy.typing import NDArray

from tidemark_cli.core.phantoms.anatomy import Anatomy, Stain
from tidemark_cli.core.phantoms.phantom import draw_phantom
from tidemark_cli.core.phantoms.scanner import Scanner, ring_profile
from tidemark_cli.core.phantoms.texture import Grid, make_grid
from tidemark_cli.core.phantoms.tissue import Tissue
from tidemark_cli.core.registration.register import TRUSTED, hard_tissue, register, resample
from tidemark_cli.core.registration.transform import read_transform
from tidemark_cli.core.scans.volume import Volume

CA4_SCANNER = Scanner(
    blur=0.8, noise=5, noise_blur=0.9, ring=0, hardening=0, shading=0, low=0, high=262, gamma=1
)
TILT_DEG, SHIFT_MM = 15.0, 0.5
DISTURBED = ("noise", "rings", "stain")  # a quarter of the pairs
TURNED = 6  # every sixth plug is turned end for end

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """A pair of scans and its truth."""

    pta: Volume
    ca4: Volume
    matrix: Matrix
    hard: NDArray[np.bool_]
    note: str


def volume(array: np.ndarray, voxel_um: float) -> Volume:
    return Volume(array, voxel_um, "option", Path("drawn"))


def mounting(rng: np.random.Generator, middles_mm: list[np.ndarray], turned: bool) -> Matrix:
    """Any turn about Z, a tilt to 15°, a shift to 0.5 mm, and end for end where `turned`."""
    tilt, towards, turn = np.deg2rad(rng.uniform(0, TILT_DEG)), *rng.uniform(0, 2 * np.pi, 2)
    euler = sitk.Euler3DTransform()
    euler.SetRotation(tilt * np.cos(towards), tilt * np.sin(towards), turn)
    matrix, shift = np.eye(4), rng.normal(size=3)
    matrix[:3, :3] = np.reshape(euler.GetMatrix(), (3, 3)) @ np.diag([1, -1, -1] if turned else [1, 1, 1])
    shift *= rng.uniform(0, SHIFT_MM) / np.linalg.norm(shift)
    matrix[:3, 3] = middles_mm[1] + shift - matrix[:3, :3] @ middles_mm[0]
    return matrix


def draw_pair(seed: int, shape: tuple[int, int, int], voxel_um: float) -> Pair:
    """Draw a plug under both stains; CA4+ has a field of view and a voxel size of its own."""
    rng = np.random.default_rng([seed, 77])
    turned = seed % TURNED == 2
    disturbed = DISTURBED[seed // 4 % 3] if seed % 4 == 1 else ""
    grid = make_grid(shape, voxel_um)
    height_um, width_um = shape[0] * voxel_um, min(shape[1:]) * voxel_um
    anatomy, stain = Anatomy.draw(rng, height_um, width_um), Stain.draw(rng)
    if rng.random() < 0.5:  # the saw cut is in view
        anatomy = replace(anatomy, bottom_um=rng.uniform(0.03, 0.12) * height_um)
    scanners = [Scanner.draw(rng, max(stain.deep, stain.bone)), CA4_SCANNER]
    tissue = Tissue(rng, grid.extent, anatomy, stain)
    slabs = [tissue.draw(grid.slab(z, z + 16)) for z in range(0, shape[0], 16)]
    pta, hard, ca4 = (np.concatenate(parts) for parts in zip(*slabs, strict=True))

    voxel_ca4 = voxel_um * rng.uniform(0.98, 1.02)
    wide = int(shape[1] * rng.uniform(1.1, 1.3))
    shape_ca4 = (int(shape[0] * rng.uniform(0.95, 1.15)), wide, wide)
    sizes = ((shape, voxel_um), (shape_ca4, voxel_ca4))
    matrix = mounting(rng, [(np.array(s[::-1]) - 1) / 2 * v / 1000 for s, v in sizes], turned)
    ca4 = resample_to(ca4.clip(0, 255), voxel_um, np.linalg.inv(matrix), shape_ca4, voxel_ca4)
    if disturbed in ("noise", "rings"):
        change = {"noise": 25.0} if disturbed == "noise" else {"ring": 15.0}
        scanners = [replace(scanner, **change) for scanner in scanners]
    if disturbed == "stain":
        pta = brightened(rng, pta)
    scans = [
        scanned(rng, scanner, levels, make_grid(s, v))
        for scanner, levels, (s, v) in zip(scanners, (pta.clip(0, 255), ca4), sizes, strict=True)
    ]
    note = " ".join(word for word in ("turned" if turned else "", disturbed) if word)
    return Pair(volume(scans[0], voxel_um), volume(scans[1], voxel_ca4), matrix, hard, note)


def brightened(rng: np.random.Generator, pta: np.ndarray) -> np.ndarray:
    """A bright, saturated region in the tissue."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in pta.shape)]
    centre = rng.uniform(0.3, 0.8, 3) * pta.shape
    far = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.where(pta > 40, pta + 200 * np.exp(-far / (2 * (0.2 * min(pta.shape)) ** 2)), pta)


def scanned(rng: np.random.Generator, scanner: Scanner, tissue: np.ndarray, grid: Grid) -> np.ndarray:
    return np.rint(scanner.scan(rng, tissue, grid, ring_profile(rng, 4096))).astype(np.uint8)


def resample_to(
    array: np.ndarray, voxel_um: float, matrix: Matrix, shape: tuple[int, ...], to_um: float
) -> np.ndarray:
    """Resample `array` onto another grid whose points in mm `matrix` takes to points of `array`."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([voxel_um / 1000] * 3)
    move = sitk.AffineTransform(3)
    move.SetMatrix(matrix[:3, :3].ravel().tolist())
    move.SetTranslation(matrix[:3, 3].tolist())
    frame = [0.0] * 3, [to_um / 1000] * 3, np.eye(3).ravel().tolist()
    size = [int(n) for n in shape[::-1]]
    return sitk.GetArrayFromImage(sitk.Resample(image, size, move, sitk.sitkLinear, *frame, 2.0))


def error_voxels(found: Matrix, pair: Pair) -> float:
    """Mean target registration error over the plug, in voxels of PTA."""
    indices = np.argwhere(pair.pta.array[::6, ::6, ::6] > 60)[:, ::-1] * 6.0
    points = np.c_[indices * pair.pta.voxel_um / 1000, np.ones(len(indices))].T
    away = np.linalg.norm(((found - pair.matrix) @ points)[:3], axis=0)
    return float(away.mean() * 1000 / pair.pta.voxel_um)


def plain_simpleitk(pta: Volume, ca4: Volume) -> Matrix:
    """Multi-resolution mean squares from the centres of mass, as in SimpleITK's own examples."""
    fixed, moving = (sitk.Cast(sitk.GetImageFromArray(v.array), sitk.sitkFloat32) for v in (pta, ca4))
    for image, scan in ((fixed, pta), (moving, ca4)):
        image.SetSpacing([scan.voxel_um / 1000] * 3)
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), moments)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.01, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    matrix = np.eye(4)
    matrix[:3, 3] = start.TransformPoint((0.0, 0.0, 0.0))
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = start.TransformPoint(unit.tolist()) - matrix[:3, 3]
    return matrix


def mask_error(pair: Pair, found: Matrix) -> tuple[float, float]:
    """IoU of the mask with the truth, and median error of the tidemark's height in voxels, where both see."""
    field = np.zeros_like(pair.ca4.array)
    field[1:-1, 1:-1, 1:-1] = 255
    seen = resample(volume(field, pair.ca4.voxel_um), found, pair.pta) > 254
    mask = hard_tissue(resample(pair.ca4, found, pair.pta), pair.pta.voxel_um) > 0
    truth, mask = pair.hard & seen, mask & seen
    heights = [len(m) - m[::-1].argmax(0) for m in (truth, mask)]  # the slice above the tidemark
    y, x = np.nonzero(truth.any(0) & mask.any(0))
    above = np.minimum(heights[0][y, x] + 5, len(seen) - 1)
    off = np.abs(heights[0] - heights[1])[y, x][seen[above, y, x]]
    return float((truth & mask).sum() / (truth | mask).sum()), float(np.median(off))


def timed(work, *arguments):
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def right_pairs(arguments: argparse.Namespace) -> bool:
    print(f"pairs of {' x '.join(map(str, arguments.size))} voxels of {arguments.voxel_size} µm")
    ours, plain, qualities, masks = [], [], [], []
    for seed in range(arguments.first, arguments.first + arguments.count):
        pair = draw_pair(seed, tuple(arguments.size), arguments.voxel_size)
        seconds, found = timed(lambda: register(pair.pta, pair.ca4, metric=arguments.metric))  # noqa: B023
        ours.append(error_voxels(found.matrix, pair))
        qualities.append(found.quality)
        told = f"{seed:3}: error {ours[-1]:6.3f} voxels, quality {found.quality:.2f}, {seconds:.1f} s"
        if arguments.mask:
            masks.append(mask_error(pair, found.matrix))
            told += f"; mask IoU {masks[-1][0]:.3f}, tidemark {masks[-1][1]:.1f}"
        if arguments.plain:
            seconds, matrix = timed(plain_simpleitk, pair.pta, pair.ca4)
            plain.append(error_voxels(matrix, pair))
            told += f"; plain SimpleITK {plain[-1]:6.2f}, {seconds:.1f} s"
        print(f"{told}  {pair.note}", flush=True)
    for name, errors in (("register", ours), ("plain SimpleITK", plain)):
        if errors:
            right = sum(error < 1 for error in errors)
            print(f"{name}: {right} of {len(errors)} under 1 voxel; median error {np.median(errors):.3f}")
    print(f"quality of right pairs: {min(qualities):.2f} to {max(qualities):.2f}; trusted from {TRUSTED}")
    good = max(ours) < 1 and np.median(ours) <= 0.25 and min(qualities) >= TRUSTED
    if masks:
        iou, off = np.median(masks, axis=0)
        print(
            f"mask, medians: IoU {iou:.3f} (least {min(m[0] for m in masks):.3f}), tidemark {off:.1f} voxels"
        )
        good &= bool(iou >= 0.95 and off <= 1)
    return good


def wrong_pairs(arguments: argparse.Namespace) -> bool:
    """Every plug with the CA4+ scan of the next one."""
    shape, qualities = tuple(arguments.size), []
    before = draw_pair(100, shape, arguments.voxel_size)
    for seed in range(101, 101 + arguments.wrong):
        pair = draw_pair(seed, shape, arguments.voxel_size)
        qualities.append(register(before.pta, pair.ca4).quality)
        print(f"different plugs {seed - 1} and {seed}: quality {qualities[-1]:.2f}", flush=True)
        before = pair
    refused = sum(quality < TRUSTED for quality in qualities)
    print(f"refused {refused} of {len(qualities)} pairs of different plugs; quality to {max(qualities):.2f}")
    return refused >= 0.95 * len(qualities)


def enlarged(array: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """Enlarge a scan and add noise, slab by slab."""
    import cv2

    shape = [n * times for n in array.shape]
    out = np.empty(shape, np.uint8)
    noise = rng.normal(0, 4, (shape[1], shape[2])).astype(np.float32)
    for z in range(shape[0]):
        place = np.clip((z + 0.5) / times - 0.5, 0, len(array) - 1.001)
        low = int(place)
        plane = array[low] + (place - low) * (array[low + 1].astype(np.float32) - array[low])
        large = cv2.resize(plane.astype(np.float32), (shape[2], shape[1])) + np.roll(noise, 7 * z, 1)
        out[z] = np.clip(np.rint(large), 0, 255)
    return out


def large_pair(arguments: argparse.Namespace) -> bool:
    """Z x 1008 x 1008 voxels through the command line, and plain SimpleITK on them at half size."""
    from bench_memory import peak_bytes

    times, rng = 4, np.random.default_rng(0)
    drawn = draw_phantom(5, (arguments.large // times, 252, 252), 12.8, pair=True)
    assert drawn.ca4 is not None and drawn.matrix is not None
    apart = np.eye(4)
    apart[:3, 3] = (
        (times - 1) / 2 * 12.8 / times / 1000
    )  # between the middles of a voxel and of its first part
    matrix = apart @ drawn.matrix @ np.linalg.inv(apart)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        scans = [volume(enlarged(scan, times, rng), 12.8 / times) for scan in (drawn.scan, drawn.ca4)]
        for scan, file in zip(scans, ("pta.tif", "ca4.tif"), strict=True):
            tifffile.imwrite(folder / file, scan.array, metadata={"axes": "ZYX"})
        hard = np.zeros((1, 1, 1), bool)
        pair = Pair(scans[0], scans[1], matrix, hard, "")
        thin = Pair(volume(scans[0].array[::3, ::3, ::3], 3 * 3.2), scans[1], matrix, hard, "")
        del drawn
        command = [sys.executable, "-m", "tidemark_cli", "register", f"{folder}/pta.tif", f"{folder}/ca4.tif"]
        command += ["--voxel-size", "3.2", "--quiet"]
        outputs = [
            "-o",
            f"{folder}/out.tif",
            "--mask",
            f"{folder}/mask.tif",
            "--transform",
            f"{folder}/t.tfm",
        ]
        start = time.perf_counter()
        peak = peak_bytes([*command, *outputs])
        seconds = time.perf_counter() - start
        error = 3 * error_voxels(read_transform(folder / "t.tfm"), thin)
    print(f"large pair, with mask and transform written: {seconds:.0f} s, peak {peak / 2**30:.2f} GiB")
    print(f"  error {error:.3f} voxels")
    if arguments.plain:
        halves = [volume(scan.array[::2, ::2, ::2], 2 * scan.voxel_um) for scan in (pair.pta, pair.ca4)]
        plain_s, found = timed(plain_simpleitk, *halves)
        again_s, _ = timed(resample, pair.ca4, found, pair.pta)
        off = 3 * error_voxels(found, thin)
        print(
            f"  plain SimpleITK, half size: {plain_s:.0f} s, error {off:.1f} voxels; resampling {again_s:.0f}"
        )
    return seconds <= 240 and peak <= 8 * 2**30 and error < 1


def brain_template() -> np.ndarray:
    """The MNI152 brain that nilearn ships, padded: (Z, Y, X) float, 0 to 1."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        sys.exit("--brain needs the template in the nilearn package: pip install nilearn")
    data = Path(spec.origin).parent / "datasets" / "data"
    name = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    t1, grey, white = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(data / name.format(kind)))).astype(np.float32)
        for kind in ("t1", "gm", "wm")
    )
    brain = grey / grey.max() + white / white.max() > 0.1  # without the skull
    return np.pad(np.where(brain, t1 / t1.max(), 0), 16)


def brain(arguments: argparse.Namespace) -> bool:
    """A brain whose grey levels are changed so that bright and dark swap, moved, found again."""
    still, voxel_um = brain_template(), 12.8  # a head of the size of a plug
    swapped = np.where(still > 0, 40 + 200 * np.sin(np.pi * still**1.5), 0)
    size = np.array(still.shape[::-1])
    errors = []
    for seed in range(6):
        rng = np.random.default_rng([seed, 5])
        middle = (size - 1) / 2 * voxel_um / 1000
        matrix = mounting(rng, [middle, middle + 0.2], seed % 3 == 2)
        shape = tuple(int(n) + 32 for n in still.shape)
        moved = resample_to(swapped.astype(np.float32), voxel_um, np.linalg.inv(matrix), shape, voxel_um)
        scans = [
            np.clip(np.rint(scan + rng.normal(0, 3, scan.shape)), 0, 255).astype(np.uint8)
            for scan in (255 * still, moved)
        ]
        pair = Pair(volume(scans[0], voxel_um), volume(scans[1], voxel_um), matrix, still > 0, "")
        seconds, found = timed(register, pair.pta, pair.ca4)
        errors.append(error_voxels(found.matrix, pair))
        told = f"quality {found.quality:.2f}, {seconds:.1f} s"
        print(f"brain {seed}: error {errors[-1]:.3f} voxels, {told}", flush=True)
    return max(errors) <= 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(384, 224, 224), metavar=("Z", "Y", "X"))
    parser.add_argument("--voxel-size", type=float, default=6.4, metavar="UM")
    parser.add_argument("--count", type=int, default=24, help="right pairs")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--wrong", type=int, default=0, help="pairs of different plugs")
    parser.add_argument("--metric", choices=("mi", "mse"), default="mi")
    parser.add_argument("--mask", action="store_true", help="compare the masks with the truth, too")
    parser.add_argument(
        "--large", type=int, nargs="?", const=1500, metavar="Z", help="time a pair of Z x 1008 x 1008 voxels"
    )
    parser.add_argument("--brain", action="store_true", help="find a brain template again (needs nilearn)")
    parser.add_argument("--no-plain", dest="plain", action="store_false", help="leave plain SimpleITK out")
    parser.add_argument("--folder", type=Path, help="for the large scans; by default a temporary one")
    arguments = parser.parse_args()
    done = [right_pairs(arguments)] if arguments.count else []
    done += [wrong_pairs(arguments)] if arguments.wrong else []
    done += [large_pair(arguments)] if arguments.large else []
    done += [brain(arguments)] if arguments.brain else []
    if not all(done):
        sys.exit("a limit was missed")


if __name__ == "__main__":
    main()
