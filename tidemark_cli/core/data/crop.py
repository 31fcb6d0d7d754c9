"""From a scan and its mask to the crop that the public dataset holds (section 2.2 of the paper).

- The crop has `size` voxels of 3.2 µm. Scans of other voxel sizes are resampled, finer ones by area means,
  coarser ones linearly, and their masks with them, cut at one half.
- The bone end becomes row 0; a scan with bone at the last slices is mirrored along Z.
- The crop is centred on the bone third of the plug and starts at its bone end. It is moved inward if it would
  leave the scan; a smaller scan is padded with the background's grey level, along Z at the cartilage end.
- 8-bit grey levels stay as they are. Others are scaled linearly and clipped: the 0.1th percentile of the crop
  becomes 0, the 99.9th 255.
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
PERCENTILES = (0.1, 99.9)  # of a crop that is not 8-bit; they become 0 and 255, as in a prediction
MASK_IN_AIR = 0.2  # share of the hard tissue outside the plug above which a warning is due

Voxels = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """A sample as the dataset holds it."""

    scan: Voxels  # (Z, Y, X), bone end at row 0, voxels of 3.2 µm
    mask: Voxels  # (Z, Y, X), 255 in hard tissue
    notes: tuple[str, ...] = ()  # for the user: resampled, moved, padded, doubtful


def read_mask_of(pta: Volume, path: Path, voxel_um: float | None = None) -> np.ndarray:
    """Return the mask of a scan, ``(Z, Y, X)`` of any dtype, memory-mapped if possible.

    Its axes are flipped or exchanged to match the scan's, if the headers of both have directions.

    Parameters
    ----------
    voxel_um : voxel size in µm that overrules the file's.

    Raises
    ------
    ScanError
        If `path` cannot be read, is empty (0 everywhere), or has another shape, voxel size or position than
        `pta`.
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
    """Find the plug and cut it out, by the rules at the top of this file.

    Of a memory-mapped scan or mask only the crop is loaded.

    Parameters
    ----------
    pta : the scan, any real dtype.
    mask : ``(Z, Y, X)`` of the scan's shape: 0, and one other value in hard tissue.
    size : voxels of 3.2 µm along (Z, Y, X).
    bone_end : ``"first"`` or ``"last"`` end of Z; ``"auto"`` takes the end with the mask's hard tissue.

    Raises
    ------
    ContentError
        If there is no plug, or the mask has no hard tissue in the plug or the crop, or more than two levels.
    ScanError
        If the scan is a 2D image.
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
    """Return the plug, its bone end as in the mask or as given, and notes on that."""
    with about(pta.path):
        plug = find_plug(pta.array, pta.voxel_um, told)
    judged = judge_mask(plug.view(mask), plug.view(pta.array), plug.tissue_level)
    if judged is None:
        raise ContentError(
            f"the mask of {pta.path} has no hard tissue inside the plug (voxels {_told(plug.box)} along "
            "Z, Y, X); expected 255 there; is it the mask of this scan?"
        )
    if judged.end == "first":  # the bone end of the view: they agree
        return plug, ()
    if told != "auto":
        return plug, (f"warning: bone is said to be at the {told} slices, the mask is at the other end",)
    if plug.bone.confidence < SURE:
        return plug.turned(), ()
    return plug.turned(), (
        f"warning: the grey levels suggest bone at the {plug.bone.end} slices, but the mask is at the other "
        "end, which is taken: check that it marks hard tissue, or give --bone-end",
    )


def _moved(plug: Plug, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return a note if the crop is not centred on the plug, which is too near to the edge."""
    assert plug.centre_yx is not None
    told = []
    for axis, side, centre, length in zip("YX", plug.box[1:], plug.centre_yx, shape[1:], strict=True):
        away = round(abs((side.start + side.stop) / 2 - centre))
        if away >= 1 and side.stop - side.start < length:
            told.append(f"{away} voxels along {axis}")
    return (f"plug near the edge: crop moved inward by {' and '.join(told)}",) if told else ()


def _hard_tissue(pta: Volume, mask: np.ndarray, crop: Plug) -> NDArray[np.bool_]:
    """Return the mask in the crop, bone first, as bool; raise if it is empty there or not a mask."""
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
    """Return warnings if the mask lies in air, or reaches beyond the crop."""
    notes: list[str] = []
    in_air = 1 - np.count_nonzero(grey[hard] > tissue_level) / np.count_nonzero(hard)
    if in_air > MASK_IN_AIR:
        notes.append(f"warning: {in_air:.0%} of the mask is outside the tissue; is it the mask of this scan?")
    beyond = np.count_nonzero(hard[-1]) / np.count_nonzero(hard.any(0))
    if beyond > 0.5:
        notes.append(
            f"warning: hard tissue goes on beyond the crop in {beyond:.0%} of its columns, which have no "
            "tidemark then; give a larger --size"
        )
    return tuple(notes)


def _resampled(array: np.ndarray, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return ``(Z, Y, X)`` float32 at another `shape`, resampled slice by slice, then along Z."""
    flat = np.empty((len(array), *shape[1:]), np.float32)
    for z, plane in enumerate(array):
        flat[z] = resize(plane.astype(np.float32), shape[1:])
    out = np.empty(shape, np.float32)
    for y in range(shape[1]):
        out[:, y] = resize(flat[:, y], (shape[0], shape[2]))
    return out


def _as_8bit(grey: np.ndarray, dtype: np.dtype, tissue_level: float) -> tuple[Voxels, int, tuple[str, ...]]:
    """Return a crop ``(Z, Y, X)`` as uint8, the grey level of its background, and notes.

    Parameters
    ----------
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
            f"the crop has hardly more than one grey level ({low:g}); expected a plug; check the scan and "
            "--bone-end."
        )

    def scaled(part: np.ndarray) -> Voxels:
        level = np.subtract(part, low, dtype=np.float32) * np.float32(255 / (high - low))
        return np.rint(np.clip(level, 0, 255)).astype(np.uint8)

    scan = np.empty(grey.shape, np.uint8)
    for z, plane in enumerate(grey):  # slice by slice: no float copy of the whole crop
        scan[z] = scaled(plane)
    return scan, int(scaled(air).item()), (f"{dtype} grey levels {low:g} to {high:g} became 0 to 255",)


def _pads(shape: tuple[int, ...], size: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return the voxels to add before and after each axis; along Z all at the cartilage end."""
    missing = [n - m for n, m in zip(size, shape, strict=True)]
    return [(0, missing[0])] + [(n // 2, n - n // 2) for n in missing[1:]]


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))


def _told(box: Box) -> str:
    return ", ".join(f"{side.start}-{side.stop}" for side in box)
