"""From a scan to its mask, its tidemark and the numbers on it, in one call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .anatomy.bone_end import Judgement, judge_mask
from .anatomy.bone_grey import compare_greys
from .anatomy.confidence import ENOUGH, Confidence, judge
from .anatomy.mask import clean_mask, drop_caps
from .anatomy.offset import offset_tidemark
from .anatomy.plug import Box, Plug, crop_box, find_plug
from .anatomy.surface import DEFINITIONS as SURFACE_DEFINITIONS
from .anatomy.surface import Surface, cartilage_thickness, find_surface, morphometry
from .errors import about
from .scans.volume import Volume
from .settings import Settings

if TYPE_CHECKING:
    from .network.inference import Prediction
    from .network.unet import UNet

TISSUE_UM = 300.0  # columns with more tissue than this belong to the sample
BASE_BYTES = 2**30  # the program and its libraries, the network's activations, the labels of islands

DEFINITIONS: dict[str, str] = SURFACE_DEFINITIONS | {
    "confidence": "how far to believe the result, 0 to 1: the least of confidence_signs; below 0.5 is "
    "warned of",
    "confidence_signs": "each 0 to 1; sharpness: drop of the probability across the tidemark; coverage: "
    "columns with a tidemark among those of the sample; evenness: neighbouring columns less than 40 µm apart "
    "in height; flatness: range of heights about the best-fit plane over the width; cover: median cartilage "
    "thickness; agreement: of the mask with the bone end that was told or that the grey levels suggest; "
    "wholeness: what is as bright as bone below the tidemark and in the mask; solidity: what of the mask is "
    "brighter than marrow; stain: brightness of bone over "
    "that of cartilage; resolution: voxels against "
    "those that the models were trained on; singleness: no second body as large in the scan",
    "hard_tissue_voxels": "voxels of the mask; count",
    "hard_tissue_share": "voxels of the mask among all of the scan; 0 to 1",
    "hard_tissue_mm3": "volume of the mask; mm³, null for a single slice",
    "shape_zyx": "size of the scan along Z, Y, X; voxels",
    "box_zyx": "first and last + 1 voxel of the box round the plug along Z, Y, X; nothing outside it was "
    "computed, nor what is in it far from the plug or from all hard tissue",
    "voxel_um": "voxel size; µm",
    "voxel_source": "where the voxel size is from: file (or log), option, default",
    "bone_end": "at which end of Z the bone lies: first or last slice",
    "threshold": "probability above which a voxel is hard tissue; 0 to 1",
    "offset_um": "constant by which the tidemark was raised towards the cartilage surface (below 0 lowered) "
    "after it was found, as far as there is tissue: in the mask, the heights and all numbers but the "
    "confidence; µm",
    "models": "the SHA-256 of each network's file, how it was built and trained, and how it is used where "
    "nothing else is asked for",
    "slices_predicted": "slices of each plane that were predicted, all networks together, without those that "
    "only told at which heights there is hard tissue; count",
}


@dataclass(frozen=True)
class Segmentation:
    """A segmented scan.

    Attributes
    ----------
    mask : (Z, Y, X) uint8, 255 in hard tissue, in the frame of the scan.
    box : the part of the scan that was predicted; outside it everything is 0.
    probability_box, uncertainty_box : uint8, of the box only; 255 is 1.
    surface : the tidemark, in the frame of the scan.
    stats : `morphometry` of the surface, voxel counts and what they were made with; JSON-ready.
    plug : where the plug lies.
    notes : what the user should hear.
    seconds : time taken.
    """

    mask: np.ndarray
    box: Box
    probability_box: np.ndarray
    uncertainty_box: np.ndarray | None
    surface: Surface
    stats: dict[str, Any]
    plug: Plug
    notes: tuple[str, ...]
    seconds: float

    @property
    def probability(self) -> np.ndarray:
        """(Z, Y, X) uint8 in the frame of the scan, 255 = surely hard tissue; made anew each time."""
        return _placed(self.probability_box, self.mask.shape, self.box)

    @property
    def uncertainty(self) -> np.ndarray | None:
        """(Z, Y, X) uint8 in the frame of the scan, or None if not asked for; made anew each time."""
        if self.uncertainty_box is None:
            return None
        return _placed(self.uncertainty_box, self.mask.shape, self.box)


def segment(
    volume: Volume,
    models: Sequence[UNet],
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """Find the plug, predict it, clean the mask, and measure the tidemark on it.

    With `settings.bone_end` "auto" and models that take slices either way up, the bone end is where
    the predicted hard tissue lies, whatever the grey levels suggested. With `settings.crop`, too, the other
    end is looked at where the one suggested shows no hard tissue.

    Parameters
    ----------
    volume : the scan.
    models : networks to average, from `inference.load_models`; the threshold is the mean of theirs.
    progress : called with (slices done, slices in all).

    Returns
    -------
    The segmentation. A scan without hard tissue is no error: the mask is empty, the numbers on the
    tidemark are None and a note says so.

    Raises
    ------
    ContentError
        If the scan holds nothing like a plug.
    ModelError, DeviceError
        As `inference.predict` and `inference.choose_device` do.
    """
    started = time.monotonic()
    threshold = settings.threshold
    if threshold is None:
        threshold = sum(net.info.threshold for net in models) / len(models)
    with about(volume.path):
        plug = find_plug(volume.array, volume.voxel_um, settings.bone_end)
    guess = plug
    box, prediction, mask = _mask(volume, plug, models, settings, threshold, progress)
    notes: tuple[str, ...] = ()
    seen = _judged(volume, box, mask, plug)
    either_end = all(net.info.either_end for net in models)
    elsewhere = settings.crop if seen is None else either_end and seen.end != plug.bone_end
    if settings.bone_end == "auto" and elsewhere:
        plug = plug.turned()
        if settings.crop:  # it was cut from the wrong end
            box, prediction, mask = _mask(volume, plug, models, settings, threshold, progress)
            seen = _judged(volume, box, mask, plug)
        end = plug.bone_end
        notes = (f"the bone lies at the {end} slices, as the mask shows; the grey levels suggest otherwise",)
    if settings.bone_end == "auto" and either_end and seen is not None and seen.end == plug.bone_end:
        plug = replace(plug, bone_end_confidence=seen.confidence)  # no guess any more
    if seen is None:
        notes = (
            "no hard tissue was found, the mask is empty: check the scan, its voxel size "
            f"({volume.voxel_um:g} µm), the bone end ({plug.bone_end}), the weights, the threshold",
        )
    drop_caps(mask[box], volume.array[box], plug.tissue_level, plug.bone_end, volume.voxel_um)
    # where the mask contradicts the grey levels, the surer they were the less it is believed
    agreement = 1.0 if seen is None or seen.end == guess.bone_end else 1 - guess.bone_end_confidence
    coarsest_um = min(net.info.coarsest_um or net.info.voxel_um for net in models)
    doubts = {"agreement": agreement, "coarseness": volume.voxel_um / coarsest_um, "rival": plug.rival}
    surface, confidence, stats = _measured(
        volume, plug, box, mask, prediction, threshold, settings.offset_um, doubts
    )
    if seen is not None and confidence.value < ENOUGH:
        notes += (f"warning: confidence {confidence.value:.2f}: {confidence.reason}; look at the preview",)
    stats |= _provenance(volume, plug, box, mask, threshold, models, prediction.slices)
    seconds = time.monotonic() - started
    return Segmentation(
        mask, box, prediction.probability, prediction.disagreement, surface, stats, plug, notes, seconds
    )


def memory_needed(shape: Sequence[int], itemsize: int, uncertainty: bool) -> int:
    """Estimate the peak memory of `segment`, in bytes, before it runs.

    The scan is counted whole; the mask, the probability and what cleaning takes beside them fill
    only the box round the plug, and together count as two bytes a voxel of the scan.
    """
    return math.prod(shape) * (itemsize + 2 + uncertainty) + BASE_BYTES


def _mask(
    volume: Volume,
    plug: Plug,
    models: Sequence[UNet],
    settings: Settings,
    threshold: float,
    progress: Callable[[int, int], None] | None,
) -> tuple[Box, Prediction, np.ndarray]:
    """Predict the box round the plug; the mask comes in the frame of the scan."""
    from .network.devices import choose_device
    from .network.inference import predict

    shape = volume.array.shape
    box = crop_box(shape, plug) if settings.crop else plug.box
    prediction = predict(
        volume.array[box],
        volume.voxel_um,
        models,
        device=choose_device(settings.device),
        bone_end=plug.bone_end,
        planes=settings.planes,
        step=settings.step,
        outline=plug.outline_in(box),
        threshold=threshold,
        uncertainty=settings.uncertainty,
        progress=progress,
    )
    mask = np.zeros(shape, np.uint8)
    clean_mask(prediction.probability, threshold, volume.voxel_um, out=mask[box])
    return box, prediction, mask


def _judged(volume: Volume, box: Box, mask: np.ndarray, plug: Plug) -> Judgement | None:
    """Judge by the mask where the bone is; None where it is empty."""
    return judge_mask(mask[box], volume.array[box], plug.tissue_level)


def _placed(part: np.ndarray, shape: tuple[int, ...], box: tuple[slice, ...], fill: float = 0) -> np.ndarray:
    """Return an array of `shape` with `part` in its box and `fill` around it."""
    # zeros take no memory before they are written, other values do
    whole = np.full(shape, fill, part.dtype) if fill else np.zeros(shape, part.dtype)
    whole[box] = part
    return whole


def _measured(
    volume: Volume,
    plug: Plug,
    box: Box,
    mask: np.ndarray,
    prediction: Prediction,
    threshold: float,
    offset_um: float,
    doubts: dict[str, float],
) -> tuple[Surface, Confidence, dict[str, Any]]:
    """Find the tidemark in the box, to spare memory, move it as asked, give it in the frame of the scan."""
    surface = find_surface(mask[box], volume.voxel_um, plug.bone_end, prediction.probability, threshold)
    thickness_um = cartilage_thickness(volume.array[box], plug.tissue_level, surface)
    tissue = np.zeros(surface.height_um.shape, np.int32)
    for plane in volume.array[box]:
        tissue += plane > plug.tissue_level
    sample = tissue * volume.voxel_um > TISSUE_UM
    grey = compare_greys(volume.array[box], mask[box], surface, plug.tissue_level)
    confidence = judge(prediction.probability, surface, thickness_um, sample, grey=grey, **doubts)
    found = surface
    surface = offset_tidemark(mask[box], found, volume.array[box], plug.tissue_level, offset_um)
    # the top of the cartilage stays where it is
    thickness_um = np.maximum(thickness_um - (surface.height_um - found.height_um), 0)
    depth, *columns = mask.shape
    below = box[0].start if plug.bone_end == "first" else depth - box[0].stop
    height_um = surface.height_um + np.float32(below * volume.voxel_um)
    surface = replace(
        surface,
        height_um=_placed(height_um, tuple(columns), box[1:], np.nan),
        opening=_placed(surface.opening, tuple(columns), box[1:]),
    )
    stats = morphometry(surface, _placed(thickness_um, tuple(columns), box[1:], np.nan))
    judged = {"confidence": confidence.value, "confidence_signs": confidence.signs}
    return surface, confidence, stats | judged | {"offset_um": offset_um}


def _provenance(
    volume: Volume,
    plug: Plug,
    box: Box,
    mask: np.ndarray,
    threshold: float,
    models: Sequence[UNet],
    slices: dict[str, int],
) -> dict[str, Any]:
    voxels = int(np.count_nonzero(mask))
    return {
        "hard_tissue_voxels": voxels,
        "hard_tissue_share": voxels / mask.size,
        "hard_tissue_mm3": None if volume.is_image else voxels * (volume.voxel_um / 1000) ** 3,
        "shape_zyx": list(mask.shape),
        "box_zyx": [[side.start, side.stop] for side in box],
        "voxel_um": volume.voxel_um,
        "voxel_source": volume.voxel_source,
        "bone_end": plug.bone_end,
        "threshold": threshold,
        "models": [{"sha256": net.sha256} | asdict(net.info) for net in models],
        "slices_predicted": slices,
    }
