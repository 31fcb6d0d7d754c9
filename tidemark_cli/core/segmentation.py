"""From a scan to its mask, its tidemark and the numbers on it, in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any

import numpy as np

from . import arrays
from .anatomy.bone_grey import compare_greys
from .anatomy.cartilage import cartilage_thickness
from .anatomy.confidence import ENOUGH, Confidence, Doubts, judge
from .anatomy.ends import Judgement, judge_mask
from .anatomy.mask import clean_mask, drop_caps
from .anatomy.morphometry import DEFINITIONS as SURFACE_DEFINITIONS
from .anatomy.morphometry import morphometry
from .anatomy.offset import offset_tidemark
from .anatomy.plug import Plug, crop_box, find_plug
from .anatomy.surface import Surface, find_surface
from .errors import about
from .network.devices import choose_device, give_back_freed_memory
from .network.inference import Prediction, Predictor
from .network.unet import UNet
from .scans.volume import Volume
from .settings import Settings

TISSUE_UM = 300.0  # columns with more tissue than this belong to the sample

DEFINITIONS: dict[str, str] = SURFACE_DEFINITIONS | {
    "confidence": "how far to believe the result, 0 to 1: the least of confidence_signs; below 0.5 is "
    "warned of",
    "confidence_signs": "each 0 to 1; sharpness: drop of the probability across the tidemark; coverage: "
    "columns with a tidemark among those of the sample; evenness: neighbouring columns less than 40 µm apart "
    "in height; flatness: range of heights about the best-fit plane over the width, of a wide tidemark about "
    "the planes of every 2.5 mm; cover: median cartilage thickness; agreement: of the mask with the bone end "
    "that was told or that the grey levels suggest; "
    "wholeness: what is as bright as bone below the tidemark and in the mask; solidity: what of the mask is "
    "brighter than marrow; stain: brightness of bone over that of cartilage; resolution: voxels against "
    "those that the models were trained on; singleness: no second body as large in the scan; scale: 0.6 "
    "where the voxel size was assumed",
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
    "models": "the SHA-256 of each network's file, whose header tells how it was trained; how it was built, "
    "and how it is used where nothing else is asked for",
    "slices_predicted": "slices of each plane that were predicted, all networks together, without those that "
    "only told at which heights there is hard tissue; count",
}


@dataclass(frozen=True)
class Segmentation:
    """A segmented scan, in the frame of the scan.

    Attributes
    ----------
    mask : (Z, Y, X) uint8, 255 in hard tissue.
    probability_box, uncertainty_box : uint8, of the plug's box only, outside which all is 0; 255 is 1.
    surface : the tidemark above the scan's outer face at the bone end.
    stats : `morphometry` of the surface, voxel counts and what they were made with; JSON-ready.
    plug : where the plug lies; its box is what was predicted.
    notes : what the user should hear.
    seconds : time taken.
    """

    mask: np.ndarray
    probability_box: np.ndarray
    uncertainty_box: np.ndarray | None
    surface: Surface
    stats: dict[str, Any]
    plug: Plug
    notes: tuple[str, ...]
    seconds: float

    @property
    def probability(self) -> np.ndarray:
        """(Z, Y, X) uint8, 255 = surely hard tissue; made anew each time."""
        return self._of_scan(self.probability_box)

    @property
    def uncertainty(self) -> np.ndarray | None:
        """(Z, Y, X) uint8, or None if not asked for; made anew each time."""
        if self.uncertainty_box is None:
            return None
        return self._of_scan(self.uncertainty_box)

    def _of_scan(self, part: np.ndarray) -> np.ndarray:
        whole = arrays.zeros(self.mask.shape, part.dtype, beside=part)
        for plane, inner in zip(whole[self.plug.box[0]], part, strict=True):
            plane[self.plug.box[1:]] = inner
        return whole

    def _repr_html_(self) -> str:
        """The numbers, as a notebook shows them; each tells its definition under the pointer."""
        rows = (
            f'<tr title="{escape(DEFINITIONS[name])}"><th>{name}</th><td>{number:.4g}</td></tr>'
            for name, number in self.stats.items()
            if isinstance(number, int | float)
        )
        return f"<table>{''.join(rows)}</table>{''.join(f'<p>{escape(note)}</p>' for note in self.notes)}"


@dataclass(frozen=True)
class _Found:
    """What the networks see of a plug.

    Attributes
    ----------
    mask : (Z, Y, X) uint8, in the frame of the scan, written through the plug's view.
    prediction : of the plug's view, bone first.
    bone : where in that view the mask shows the bone: "first" if the plug has it right, None if it is empty.
    """

    plug: Plug
    mask: np.ndarray
    prediction: Prediction
    bone: Judgement | None


def segment(
    volume: Volume,
    models: Sequence[UNet],
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
    plug: Plug | None = None,
) -> Segmentation:
    """Find the plug, predict it, clean the mask, and measure the tidemark on it.

    Unless it is told, the bone lies where the predicted hard tissue does, whatever the grey levels suggested,
    if the models take slices either way up. With `settings.crop`, too, the other end is looked at where the
    one suggested shows no hard tissue.

    Parameters
    ----------
    volume : the scan.
    models : networks to average, from `models.load_models`; the threshold is the mean of theirs.
    progress : called with (slices done, slices in all).
    plug : one that `plug.find_plugs` found in the scan; by default the largest. It is doubted where its
        `rival` says that another is as large.

    Returns
    -------
    The segmentation. A scan without hard tissue is no error: the mask is empty, the numbers on the
    tidemark are None and a note says so.

    Raises
    ------
    ContentError
        If the scan holds nothing like a plug.
    ModelError, DeviceError
        As `inference.Predictor` and `devices.choose_device` do.
    """
    started = time.monotonic()
    if settings.threshold is None:
        settings = replace(settings, threshold=sum(net.info.threshold for net in models) / len(models))
    options = {name: getattr(settings, name) for name in ("planes", "step", "threshold", "uncertainty")}
    predictor = Predictor(models, choose_device(settings.device), **options)
    if plug is None:
        with about(volume.path):
            plug = find_plug(volume.array, volume.voxel_um, settings.bone_end)
    found, notes = _found_either_way(volume, plug, predictor, settings, progress)
    surface, confidence, stats = _measured(volume, found, plug, models, settings)
    end = found.plug.bone.end
    if found.bone is None:
        notes = (
            "no hard tissue was found, the mask is empty: check the scan, its voxel size "
            f"({volume.voxel_um:g} µm), the bone end ({end}), the weights, the threshold",
        )
    elif confidence.value < ENOUGH:
        notes += (f"warning: confidence {confidence.value:.2f}: {confidence.reason}; look at the preview",)
    stats |= {"confidence": confidence.value, "confidence_signs": confidence.signs}
    stats = _rounded(stats | _provenance(volume, found, models, settings))
    plug, prediction = found.plug, found.prediction
    uncertainty = None if prediction.disagreement is None else plug.upright(prediction.disagreement)
    probability = plug.upright(prediction.probability)
    seconds = time.monotonic() - started
    return Segmentation(found.mask, probability, uncertainty, surface, stats, plug, notes, seconds)


def _found_either_way(
    volume: Volume,
    guess: Plug,
    predictor: Predictor,
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> tuple[_Found, tuple[str, ...]]:
    """Predict the plug; where nobody told its bone end and the mask shows it at the other one, turn it."""
    found = _found(volume, guess, predictor, settings, progress)
    if settings.bone_end != "auto":
        return found, ()
    notes: tuple[str, ...] = ()
    if settings.crop if found.bone is None else predictor.either_end and found.bone.end == "last":
        other = guess.turned()
        if settings.crop:  # it was cut from the wrong end
            del found  # before there is another
            found = _found(volume, other, predictor, settings, progress)
        elif found.bone is not None:
            found = _Found(other, found.mask, found.prediction.upside_down(), found.bone.turned)
        notes = (
            f"the bone lies at the {other.bone.end} slices, as the mask shows; the grey levels suggest "
            "otherwise",
        )
    if predictor.either_end and found.bone is not None and found.bone.end == "first":  # no guess any more
        bone = replace(found.plug.bone, confidence=found.bone.confidence)
        found = replace(found, plug=replace(found.plug, bone=bone))
    return found, notes


def _found(
    volume: Volume,
    plug: Plug,
    predictor: Predictor,
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> _Found:
    if settings.crop:
        plug = replace(plug, box=crop_box(volume.array.shape, plug))
    scan = plug.view(volume.array)
    with about(volume.path):
        prediction = predictor(scan, volume.voxel_um, plug.outline_view(), progress)
    if arrays.on_disk(scan):
        give_back_freed_memory()
    mask = arrays.zeros(volume.array.shape, np.uint8, beside=volume.array)
    assert settings.threshold is not None
    hard = clean_mask(prediction.probability, settings.threshold, volume.voxel_um, out=plug.view(mask))
    return _Found(plug, mask, prediction, judge_mask(hard, scan, plug.tissue_level))


def _measured(
    volume: Volume, found: _Found, guess: Plug, models: Sequence[UNet], settings: Settings
) -> tuple[Surface, Confidence, dict[str, Any]]:
    """Find the tidemark in the plug's view, move it as asked, and give it in the frame of the scan."""
    plug, voxel_um, probability = found.plug, volume.voxel_um, found.prediction.probability
    scan, mask = plug.view(volume.array), plug.view(found.mask)
    drop_caps(mask, scan, plug.tissue_level, voxel_um)
    surface = find_surface(mask, voxel_um, probability, settings.threshold)
    with ThreadPoolExecutor(1) as beside:
        grey = beside.submit(compare_greys, scan, mask, surface, plug.tissue_level)
        thickness_um = cartilage_thickness(scan, plug.tissue_level, surface)
        tissue = np.zeros(surface.height_um.shape, np.int32)
        for plane in scan:
            tissue += plane > plug.tissue_level
    # where the mask contradicts the grey levels, the surer they were the less it is believed
    as_guessed = found.bone is None or (found.bone.end == "first") == (plug.bone.end == guess.bone.end)
    doubts = Doubts(
        agreement=1.0 if as_guessed else 1 - guess.bone.confidence,
        grey=grey.result(),
        coarseness=voxel_um / min(net.info.coarsest_um or net.info.voxel_um for net in models),
        rival=plug.rival,
        assumed_scale=volume.voxel_source == "default",
    )
    confidence = judge(probability, surface, thickness_um, tissue * voxel_um > TISSUE_UM, doubts)
    moved = offset_tidemark(mask, surface, scan, plug.tissue_level, settings.offset_um)
    # the top of the cartilage stays where it is
    thickness_um = np.maximum(thickness_um - (moved.height_um - surface.height_um), 0)
    stats: dict[str, Any] = morphometry(moved, thickness_um)
    below_um = plug.below(len(volume.array)) * voxel_um
    if stats["tidemark_height_mean_um"] is not None:
        stats["tidemark_height_mean_um"] += below_um
    columns, box = volume.array.shape[1:], plug.box[1:]
    height_um = _placed(moved.height_um + np.float32(below_um), columns, box, np.nan)
    return Surface(height_um, _placed(moved.opening, columns, box), voxel_um), confidence, stats


def _placed(part: np.ndarray, shape: tuple[int, ...], box: tuple[slice, ...], fill: float = 0) -> np.ndarray:
    """Return an array of `shape` with `part` in its box and `fill` around it."""
    whole = np.full(shape, fill, part.dtype)
    whole[box] = part
    return whole


def _provenance(volume: Volume, found: _Found, models: Sequence[UNet], settings: Settings) -> dict[str, Any]:
    voxels = sum(int(np.count_nonzero(plane)) for plane in found.mask)
    return {
        "hard_tissue_voxels": voxels,
        "hard_tissue_share": voxels / found.mask.size,
        "hard_tissue_mm3": None if volume.is_image else voxels * (volume.voxel_um / 1000) ** 3,
        "shape_zyx": list(found.mask.shape),
        "box_zyx": [[side.start, side.stop] for side in found.plug.box],
        "voxel_um": volume.voxel_um,
        "voxel_source": volume.voxel_source,
        "bone_end": found.plug.bone.end,
        "threshold": settings.threshold,
        "offset_um": settings.offset_um,
        "models": [_described(net) for net in models],
        "slices_predicted": found.prediction.slices,
    }


def _described(net: UNet) -> dict[str, Any]:
    info = asdict(net.info)
    del info["training"]
    return {"sha256": net.sha256} | info | {"planes": list(net.info.planes)}


def _rounded(content: Any) -> Any:
    """Return numbers with five digits, more than any of them means; in dicts and lists, too."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return float(f"{content:.5g}") if isinstance(content, float) else content
