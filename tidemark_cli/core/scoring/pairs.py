"""Pair predictions with true masks: files, stacks, folders, datasets and runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..anatomy.ends import SURE, BoneEnd, Judgement, as_told, judge_mask
from ..data.dataset import Sample, dataset_root, find_samples, read_mask
from ..data.run import DESCRIPTION, ON_DATASET
from ..errors import ContentError, DatasetError, ScanError
from ..scans.placement import brought_to
from ..scans.scan_names import same_form, sample_of, scan_name
from ..scans.volume import Volume, find_scans, is_scan, read_volume


@dataclass(frozen=True)
class Pair:
    """The prediction and the true mask of a sample, not read yet.

    Attributes
    ----------
    prediction : a file or a stack of slices.
    truth : a file, a stack or a dataset's sample.
    probability : whether the prediction is known to be a probability, as those of a run are.
    """

    name: str
    prediction: Path
    truth: Path | Sample
    probability: bool = False


@dataclass(frozen=True)
class Matched:
    """What to score.

    Attributes
    ----------
    pairs : sorted by name.
    unmatched : samples without a counterpart, and why.
    threshold : the run's own; None if the predictions are not from a run.
    """

    pairs: tuple[Pair, ...]
    unmatched: dict[str, str]
    threshold: float | None = None


@dataclass(frozen=True)
class Arrays:
    """A pair after reading, both arrays bone first.

    Attributes
    ----------
    prediction : (Z, Y, X) uint8, probability times 255, or a mask of 0 and 255.
    truth : (Z, Y, X), hard tissue where not 0.
    end : of Z where the bone lies in the prediction's file.
    is_mask : whether the prediction is a mask, for which no threshold matters.
    notes : messages for the user.
    """

    prediction: NDArray[np.uint8]
    truth: NDArray[Any]
    voxel_um: float
    end: BoneEnd
    is_mask: bool
    notes: tuple[str, ...]


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run of any kind."""
    return (folder / DESCRIPTION).is_file()


def newest_run(folder: Path) -> Path:
    """Return the latest run with out-of-fold predictions: `folder` itself or a folder in it.

    Raises
    ------
    DatasetError
        If there is none.
    """
    places = [folder, *(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    runs = [place for place in places if is_run(place) and _describe(place).get("kind") == ON_DATASET]
    if not runs:
        raise DatasetError(
            f"neither {folder.resolve()} nor a folder in it is a run on a dataset; expected a folder that "
            "tidemark train DATASET made; name a RUN, or PREDICTION and TRUTH."
        )
    return max(runs, key=lambda place: (place / DESCRIPTION).stat().st_mtime_ns)


def read_run(run: Path) -> dict[str, Any]:
    """Return the content of ``run.json`` of a run on a dataset.

    Raises
    ------
    DatasetError
        If `run` is no such run, or its run.json is damaged.
    """
    if not is_run(run):
        raise DatasetError(
            f"{run} is not a run: it has no {DESCRIPTION}; expected a folder that tidemark train made; "
            "check the name, or give PREDICTION and TRUTH."
        )
    content = _describe(run)
    if content.get("kind") != ON_DATASET:
        raise DatasetError(
            f"{run} is a run without out-of-fold predictions (trained on phantoms, or its {DESCRIPTION} is "
            "damaged); expected one of tidemark train DATASET."
        )
    return content


def match_run(run: Path, dataset: Path | None = None) -> Matched:
    """Pair the out-of-fold predictions of a run with the masks of the dataset it was trained on.

    Parameters
    ----------
    dataset : where the dataset is now; by default as in ``run.json``.

    Raises
    ------
    DatasetError
        If the run or the dataset cannot be used.
    """
    content = read_run(run)
    try:
        expected = {same_form(str(name)) for fold in content["folds"] for name in fold["held_out"]}
        home = Path(content["dataset"])
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{run / DESCRIPTION} is damaged ({error!r}); copy it again.") from error
    if dataset is None and not home.is_dir():
        raise DatasetError(f"{home}, which {run} was trained on, is not there; give --dataset FOLDER.")
    home = dataset or home
    samples, oof = _samples(home), run / "oof"
    found = _scans(oof) if oof.is_dir() and any(oof.iterdir()) else {}
    unmatched = dict.fromkeys(found.keys() - expected, f"in {oof}, but not one of the run's samples")
    unmatched |= dict.fromkeys(expected - found.keys(), f"no prediction in {oof}; is its fold trained?")
    unmatched |= dict.fromkeys(expected - samples.keys(), f"not in the dataset {home}")
    return _matched(found, samples, unmatched, _threshold(content))


def match_paths(prediction: Path, truth: Path) -> Matched:
    """Pair predictions with true masks: two scans as they are, folders by the names of the scans in them.

    Names match if they are equal, or if `sample_of` makes them so and leaves one on each side.

    Parameters
    ----------
    prediction : a file, a stack of slices, a folder of these, or a run, for its out-of-fold predictions.
    truth : a file, a stack of slices, a folder of these, or a dataset.

    Raises
    ------
    ScanError
        If a path does not exist, or two scans in a folder share a name.
    DatasetError
        If a dataset cannot be used.
    """
    source = prediction / "oof" if is_run(prediction) else prediction
    found: Mapping[str, Path] = _scans(source)
    threshold = _threshold(read_run(prediction)) if is_run(prediction) else None
    in_dataset = (dataset_root(truth) / "pre_processed").is_dir()
    true: Mapping[str, Path | Sample] = _samples(truth) if in_dataset else _scans(truth)
    single = [scan_name(side) for side in (source, truth) if _is_single(side)]
    if len(single) == 2:
        return Matched((Pair(single[0], source, truth),), {})
    found = _named_as(found, true)
    if single:  # the other scans of the folder are not missing
        names = found.keys() if _is_single(source) else true.keys()
        found = {name: path for name, path in found.items() if name in names}
        true = {name: mask for name, mask in true.items() if name in names}
    unmatched = dict.fromkeys(found.keys() - true.keys(), f"no true mask of this name in {truth}")
    unmatched |= dict.fromkeys(true.keys() - found.keys(), f"no prediction of this name in {prediction}")
    return _matched(found, true, unmatched, threshold)


def read_pair(pair: Pair, voxel_um: float | None = None, bone_end: str = "auto") -> Arrays:
    """Read a pair, bone first, with the truth in the frame of the prediction.

    Parameters
    ----------
    voxel_um : voxel size in µm; by default from the truth's file, else the prediction's, else 3.2.
    bone_end : "first" or "last" end of the prediction's Z, or "auto": first in a dataset, else found in the
        true mask.

    Raises
    ------
    ScanError
        If a file cannot be read, is not a mask or a probability, the shapes, voxel sizes or positions in
        space differ, or the truth is empty.
    DatasetError
        If a dataset's masks cannot be read.
    """
    predicted = read_volume(pair.prediction, voxel_um, mask=True)
    bone = as_told(bone_end)
    if isinstance(pair.truth, Sample):  # it has no voxel size
        truth = replace(predicted, array=read_mask(pair.truth), path=pair.truth.folder, frame=None, notes=())
        bone = bone or Judgement("first")
    else:
        truth = read_volume(pair.truth, voxel_um, mask=True)
    return arrange(predicted, truth, bone, probability=pair.probability)


def arrange(
    predicted: Volume, truth: Volume, bone: Judgement | None = None, *, probability: bool = False
) -> Arrays:
    """Bring a true mask into the frame of the prediction, both bone first; raises as `read_pair` does.

    Parameters
    ----------
    bone : the end of the prediction's Z where the bone lies; by default found in the true mask.
    probability : whether the prediction is known to be one.
    """
    truth = brought_to(truth, predicted)
    if not _is_mask(truth.array):
        raise ContentError(
            f"{truth.path} is not a mask: more than one grey level besides 0; expected 0 and 255, the true "
            "mask (PREDICTION comes first, TRUTH second)."
        )
    if predicted.array.shape != truth.array.shape:
        raise ContentError(
            f"the prediction has {_size(predicted.array.shape)} voxels (Z x Y x X), the true mask "
            f"{_size(truth.array.shape)}; expected the same; crop or resample one to the other."
        )
    bone = bone or judge_mask(truth.array)
    if bone is None or not truth.array.any():
        raise ContentError("the true mask is empty: it has no tidemark to score against; check the mask.")
    size_um, notes = _voxel_size([truth, predicted])
    if bone.confidence < SURE:
        notes += (
            f"{predicted.name}: bone end guessed from the true mask: {bone.end}; --bone-end overrides it",
        )
    found, is_mask = _as_probability(predicted, probability)
    way = slice(None) if bone.end == "first" else slice(None, None, -1)
    return Arrays(found[way], truth.array[way], size_um, bone.end, is_mask, notes)


def _describe(run: Path) -> dict[str, Any]:
    """Return the content of run.json, empty where it is damaged."""
    try:
        content = json.loads((run / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _matched(
    found: Mapping[str, Path],
    true: Mapping[str, Path | Sample],
    unmatched: dict[str, str],
    threshold: float | None,
) -> Matched:
    names = sorted(found.keys() & true.keys() - unmatched.keys())
    pairs = tuple(Pair(name, found[name], true[name], probability=threshold is not None) for name in names)
    return Matched(pairs, dict(sorted(unmatched.items())), threshold)


def _threshold(run: Mapping[str, Any]) -> float:
    return float(run.get("threshold", 0.5))


def _is_single(place: Path) -> bool:
    return not place.is_dir() or is_scan(place)


def _samples(dataset: Path) -> Mapping[str, Sample]:
    return {same_form(sample.sample_id): sample for sample in find_samples(dataset)}


def _scans(place: Path) -> Mapping[str, Path]:
    """Return a scan, or the scans of a folder, by name."""
    if not place.exists():
        raise ScanError(f"{place} does not exist; expected a scan or a folder of scans; check the name.")
    scans: dict[str, Path] = {}
    for path in [place] if _is_single(place) else find_scans(place):
        other = scans.setdefault(scan_name(path), path)
        if other != path:
            raise ScanError(f"{other} and {path} are both named {scan_name(path)}; move one of them.")
    if not scans:
        raise ScanError(f"{place} holds no scan; expected a scan, a folder of slices or a folder of scans.")
    return scans


def _named_as(found: Mapping[str, Path], true: Mapping[str, Path | Sample]) -> Mapping[str, Path]:
    """Return predictions by the names of their true masks, as far as the samples' names are equal."""
    left = [name for name in found if name not in true]
    named = {name: path for name, path in found.items() if name in true}
    for name in left:
        masks = [other for other in true if sample_of(other) == sample_of(name) and other not in found]
        rivals = [other for other in left if sample_of(other) == sample_of(name)]
        named[masks[0] if len(masks) == len(rivals) == 1 else name] = found[name]
    return named


def _voxel_size(volumes: list[Volume]) -> tuple[float, tuple[str, ...]]:
    """Return the voxel size of the first volume that has one, and the notes on the files."""
    known = [volume for volume in volumes if volume.voxel_source != "default"]
    # without a voxel size, the last note of a volume says that one was assumed
    notes = tuple(n for v in volumes for n in (v.notes[:-1] if v.voxel_source == "default" else v.notes))
    if not known:
        return volumes[0].voxel_um, (*notes, *[volume.notes[-1] for volume in volumes if volume.notes][:1])
    return known[0].voxel_um, notes


def _is_mask(array: NDArray[Any]) -> bool:
    """Return whether there is at most one level besides 0; plane by plane, to save memory."""
    top = array.max() or array.min()
    return all(bool(((plane == 0) | (plane == top)).all()) for plane in array)


def _as_probability(predicted: Volume, probability: bool) -> tuple[NDArray[np.uint8], bool]:
    """Return a prediction as (Z, Y, X) uint8, where 255 is the probability 1, and whether it is a mask.

    A mask has the level 0 and any other; a constant one has 0, 1 or the largest of its type.
    """
    array = predicted.array
    if not probability and _is_mask(array):
        top = array.max()
        full = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1.0
        if top in (0, 1, full) or array.min() == 0:
            return (array != 0).view(np.uint8) * np.uint8(255), True
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False), False
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        levels = np.empty(array.shape, np.uint8)
        for z, plane in enumerate(array):
            levels[z] = np.round(plane * 255)
        return levels, False
    raise ContentError(
        f"{predicted.path} is neither a mask nor a probability: {array.dtype} from {array.min():g} to "
        f"{array.max():g}; expected 0 and 255, 8-bit probabilities, or floats from 0 to 1."
    )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
