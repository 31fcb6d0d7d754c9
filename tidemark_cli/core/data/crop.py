"""From a scan and its mask to the crop that the public dataset holds (section 2.2 of the paper).

The rules, each of which the user can rely on:

- The crop is `size` voxels of 3.2 µm; a scan of another voxel size is resampled (area means where it is
  finer, linear where it is coarser), a mask with it and cut at one half.
- The bone end becomes row 0; a scan that lies the other way is mirrored along Z.
- The crop is centred on the bone third of the plug and starts at its bone end. Where it would stick out of
  the scan it is moved inward; where the scan is smaller than the crop it is padded with the background's
  grey level, along Z at the cartilage end.
- 8-bit grey levels stay as they are. Of any other dtype the 0.1th percentile of the crop becomes 0, the
  99.9th 255, what lies between is linear and what lies outside is clipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..anatomy.ends import SURE, judge_mask
from ..anatomy.plug import Box, Plug, crop_box, find_plug
from ..errors import ContentError, ScanError, about
from ..resize import resize
from ..scans.placement import SAME_VOXEL, brought_to
from ..scans.volume import Volume, read_volume
from .dataset import VOXEL_UM

SIZE = (768, 448, 448)  # the paper's crop, (Z, Y, X)
PERCENTILES = (0.1, 99.9)  # of a crop that is not 8-bit; become 0 and 255, as they do when predicting
MASK_IN_AIR = 0.2  # share of the hard tissue outside the plug from which the mask is doubted

Voxels = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """A sample as the dataset holds it.

    Attributes
    ----------
    scan : (Z, Y, X) uint8, bone end at row 0, voxels of 3.2 µm.
    mask : (Z, Y, X) uint8, 255 in hard tissue.
    notes : what the user should hear: resampled, moved, padded, doubted.
    """

    scan: Voxels
    mask: Voxels
    notes: tuple[str, ...] = ()


def read_mask_of(pta: Volume, path: Path, voxel_um: float | None = None) -> np.ndarray:
    """Return the mask of a scan, ``(Z, Y, X)`` of any dtype, memory-mapped where possible.

    Axes that are flipped or exchanged against the scan's, as the headers of both tell, are put right.

    Parameters
    ----------
    voxel_um : voxel size in µm that overrules what the mask's file says.

    Raises
    ------
    ScanError
        If `path` cannot be read, is empty (0 everywhere), has another shape or voxel size than `pta`, or
        lies elsewhere where the headers of both tell.
    """
    mask = brought_to(read_volume(path, voxel_um, mask=True), pta)
    if not any(plane.any() for plane in mask.array):
        raise ContentError(
            f"{path} is 0 everywhere; expected the mask of {pta.path}, 255 in hard tissue; make it again."
        )
    if mask.array.shape != pta.array.shape:
        raise ScanError(
            f"{path} has {_shape(mask.array)} voxels (Z x Y x X), its scan {pta.path} {_shape(pta.array)}; "
            "expected the mask in the scan's own frame; resample it, or use --ca4."
        )
    return mask.array


def crop_sample(
    pta: Volume, mask: np.ndarray, size: tuple[int, int, int] = SIZE, bone_end: str = "auto"
) -> Crop:
    """Localise the plug and cut out what the dataset holds of it, by the rules at the top of this file.

    Only the crop is loaded of a memory-mapped scan or mask.

    Parameters
    ----------
    pta : the scan, any real dtype.
    mask : ``(Z, Y, X)`` of the scan's shape, in the scan's frame: 0, and one other value in hard tissue.
    size : voxels of 3.2 µm along (Z, Y, X).
    bone_end : ``"first"`` or ``"last"`` end of Z; ``"auto"`` takes the end of the plug nearer to the
        mask's hard tissue.

    Raises
    ------
    ContentError
        If there is no plug, the mask has no hard tissue in it or in the crop, or holds more than two levels.
    ScanError
        If the scan is a 2D image or the shapes differ.
    """
    if pta.is_image:
        raise ScanError(f"{pta.path} is a 2D image; expected a stack: the dataset holds volumes.")
    if mask.shape != pta.array.shape:
        raise ValueError(f"the mask is {mask.shape}, the scan {pta.array.shape}")
    plug, notes = _locate(pta, mask, bone_end)
    ratio = VOXEL_UM / pta.voxel_um
    if math.isclose(ratio, 1, rel_tol=SAME_VOXEL):
        ratio = 1.0
    else:
        notes += (f"resampled from {pta.voxel_um:g} µm to the dataset's {VOXEL_UM} µm",)
    z, y, x = (math.ceil(n * ratio) for n in size)
    plug = replace(plug, box=crop_box(pta.array.shape, plug, (z, y, x)))
    grey, hard = plug.view(pta.array), _hard_tissue(pta, mask, plug)
    notes += _moved(plug, pta.array.shape) + _doubts(grey, hard, plug.tissue_level)
    if ratio != 1:
        shape = tuple(min(n, max(1, round(m / ratio))) for n, m in zip(size, grey.shape, strict=True))
        hard = _resampled(hard, shape) >= 0.5
        grey = _resampled(grey, shape)
    if not hard.any():
        raise ContentError(f"the mask of {pta.path} is too thin to resample; expected a solid hard tissue.")
    scan, air, told = _as_8bit(grey, pta.array.dtype, plug.tissue_level)
    pads = _pads(scan.shape, size)
    if any(map(any, pads)):
        told += (f"smaller than the crop: {_shape(scan)} voxels padded with the background's level {air}",)
    white = hard.astype(np.uint8) * np.uint8(255)
    return Crop(np.pad(scan, pads, constant_values=air), np.pad(white, pads), notes + told)


def _locate(pta: Volume, mask: np.ndarray, told: str) -> tuple[Plug, tuple[str, ...]]:
    """Return the plug, its bone end told by the mask or the caller, and what is to be said of that."""
    with about(pta.path):
        plug = find_plug(pta.array, pta.voxel_um, told)
    judged = judge_mask(plug.view(mask), plug.view(pta.array), plug.tissue_level)
    if judged is None:
        raise ContentError(
            f"the mask of {pta.path} has no hard tissue inside the plug (voxels {_told(plug.box)} along "
            "Z, Y, X); expected 255 there; is it the mask of this scan?"
        )
    if judged.end == "first":  # of the view: where the plug has it, too
        return plug, ()
    if told != "auto":
        return plug, (f"warning: bone is said to be at the {told} slices, the mask is at the other end",)
    notes: tuple[str, ...] = ()
    if plug.bone.confidence >= SURE:
        notes = (
            f"warning: the scan looks as if bone were at the {plug.bone.end} slices, the mask is at the "
            "other end and is believed: see that it marks hard tissue, else give --bone-end",
        )
    return plug.turned(), notes


def _moved(plug: Plug, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Say where the crop is not centred on the plug because that is too near to the edge."""
    assert plug.centre_yx is not None
    told = []
    for axis, side, centre, length in zip("YX", plug.box[1:], plug.centre_yx, shape[1:], strict=True):
        away = round(abs((side.start + side.stop) / 2 - centre))
        if away >= 1 and side.stop - side.start < length:
            told.append(f"{away} voxels along {axis}")
    return (f"plug near the edge: crop moved inward by {' and '.join(told)}",) if told else ()


def _hard_tissue(pta: Volume, mask: np.ndarray, crop: Plug) -> NDArray[np.bool_]:
    """Return the mask in the crop, bone first, as bool; raise where it is empty there or no mask at all."""
    part = crop.view(mask)
    hard: NDArray[np.bool_] = part != 0
    if not hard.any():
        raise ContentError(
            f"the mask of {pta.path} has no hard tissue in the crop (voxels {_told(crop.box)} along Z, Y, "
            "X); expected some at its bone end; give --bone-end or a larger --size."
        )
    if not np.array_equal(hard, part == (part.max() or part.min())):
        raise ContentError(
            f"the mask of {pta.path} has more than two grey levels; expected 0 and, in hard tissue, 255; "
            "threshold it first."
        )
    return hard


def _doubts(grey: np.ndarray, hard: NDArray[np.bool_], tissue_level: float) -> tuple[str, ...]:
    """Return warnings of a mask that lies in air, or that reaches beyond the crop."""
    notes: list[str] = []
    in_air = 1 - np.count_nonzero(grey[hard] > tissue_level) / np.count_nonzero(hard)
    if in_air > MASK_IN_AIR:
        notes.append(
            f"warning: {in_air:.0%} of the mask lie outside the tissue; is it the mask of this scan?"
        )
    beyond = np.count_nonzero(hard[-1]) / np.count_nonzero(hard.any(0))
    if beyond > 0.5:
        notes.append(
            f"warning: hard tissue goes on beyond the crop in {beyond:.0%} of its columns: "
            "no tidemark there; give a larger --size"
        )
    return tuple(notes)


def _resampled(array: np.ndarray, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return ``(Z, Y, X)`` float32 at another `shape`: first every slice, then along Z."""
    flat = np.empty((len(array), *shape[1:]), np.float32)
    for z, plane in enumerate(array):
        flat[z] = resize(plane.astype(np.float32), shape[1:])
    out = np.empty(shape, np.float32)
    for y in range(shape[1]):
        out[:, y] = resize(flat[:, y], (shape[0], shape[2]))
    return out


def _as_8bit(grey: np.ndarray, dtype: np.dtype, tissue_level: float) -> tuple[Voxels, int, tuple[str, ...]]:
    """Return the crop as uint8, the grey level of its background in that, and what is to be said.

    Parameters
    ----------
    grey : the crop ``(Z, Y, X)``, maybe resampled.
    dtype : of the scan; uint8 keeps its grey levels.
    tissue_level : grey level of the scan between background and tissue.
    """
    step = max(1, round((grey.size / 1e6) ** (1 / 3)))
    some = grey[::step, ::step, ::step]
    background = some[some < tissue_level]
    air = np.array([[[np.median(background) if background.size else some.min()]]])
    if dtype == np.uint8:
        whole = grey if grey.dtype == np.uint8 else np.rint(grey)
        return np.array(whole, np.uint8), int(air.item()), ()
    low, high = (float(level) for level in np.percentile(some, PERCENTILES))
    if not high > low:
        raise ContentError(
            f"the crop has nearly one grey level ({low:g}); expected a plug; check the scan and --bone-end."
        )

    def scaled(part: np.ndarray) -> Voxels:
        level = np.subtract(part, low, dtype=np.float32) * np.float32(255 / (high - low))
        return np.rint(np.clip(level, 0, 255)).astype(np.uint8)

    scan = np.empty(grey.shape, np.uint8)
    for z, plane in enumerate(grey):  # slice by slice: no float copy of the whole crop
        scan[z] = scaled(plane)
    return scan, int(scaled(air).item()), (f"{dtype} grey levels {low:g} to {high:g} became 0 to 255",)


def _pads(shape: tuple[int, ...], size: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return how many voxels to add before and after each axis; along Z all at the cartilage end."""
    missing = [n - m for n, m in zip(size, shape, strict=True)]
    return [(0, missing[0])] + [(n // 2, n - n // 2) for n in missing[1:]]


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))


def _told(box: Box) -> str:
    return ", ".join(f"{side.start}-{side.stop}" for side in box)
