"""A run on a dataset: its settings, its folds, and its folder.

::

    run/run.json                 settings, folds with their statistics, versions
    run/fold_<k>.safetensors     the network of fold k, from 0
    run/oof/<sample_id>.tif      (Z, Y, X) uint8, probability * 255, by the fold that did not see the subject
    run/log.csv                  losses and validation IoU of every epoch
    run/registry.txt             SHA-256 of the networks, in pooch's format: the folder can be hosted as it is

Folds trained separately have the same run.json, so their files, copied into one folder, are a whole run.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

from ..data.dataset import Sample, find_samples, sample_shape
from ..data.run import (
    DESCRIPTION,
    ON_DATASET,
    read_description,
    refuse_existing,
    write_description,
    write_log,
)
from ..errors import DatasetError, ModelError, OutputError
from ..files import REGISTRY, write_registry
from ..network.passes import scale_between
from ..network.unet import load_model, read_info
from ..settings import with_tuples
from .augment import fitting
from .folds import Fold, check_folds, is_stratified, split_folds
from .loop import load_start, located
from .settings import FoldTraining, described, sides_text
from .slices import scaled


@dataclass(frozen=True)
class FoldRun:
    """A run that is checked and ready to be trained."""

    folder: Path
    dataset: Path  # its folder
    samples: tuple[Sample, ...]  # sorted by id
    settings: FoldTraining
    folds: tuple[Fold, ...]
    threshold: float  # probability above which a voxel is hard tissue
    known: tuple[tuple[float, float], ...] = ()  # mean and SD of each fold, if run.json has them already

    @property
    def notes(self) -> list[str]:
        """Notes for the user before the training."""
        subjects = len({sample.subject_id for sample in self.samples})
        told = [f"{len(self.samples)} samples of {subjects} subjects, {len(self.folds)} folds"]
        ungraded = [sample.sample_id for sample in self.samples if sample.grade is None]
        if self.known:
            missing = ", ".join(map(str, self.missing)) or "none"
            told.append(f"folds as in {self.folder / DESCRIPTION}, not done yet: {missing}")
        elif self.settings.paper:
            told.append("folds grouped by subject only, as in the paper's code")
        elif len(ungraded) == len(self.samples):
            told.append("folds grouped by subject only: there are no grades to stratify by (--grades)")
        elif not is_stratified(self.samples, len(self.folds)):
            told.append("folds grouped by subject only: every grade has fewer samples than there are folds")
        else:
            told.append("folds grouped by subject, stratified by grade")
            if ungraded:
                told.append(f"without a grade, a class of their own: {', '.join(ungraded)}")
        how = self.settings.augmentation
        told.append(
            f"voxels of {self.settings.voxel_um:g} µm; slices padded to {sides_text(how.pad)}, crops of "
            f"{sides_text(how.crop)}"
        )
        if seen := self._seen_before():
            told.append(
                f"warning: {Path(str(self.settings.init)).name} was trained on the subject(s) "
                f"{', '.join(seen)} of this dataset: their out-of-fold scores will be too good"
            )
        return told

    def _seen_before(self) -> list[str]:
        """Subjects that the model to start from was trained or validated on, as far as its header tells."""
        start = self.settings.init and Path(self.settings.init)
        if not start or not start.is_file() or start.suffix != ".safetensors":
            return []
        training = read_info(start).training
        known = {str(one) for part in ("training", "validation") for one in training.get(part, ())}
        return sorted({one.subject_id for one in self.samples if one.sample_id in known})

    def model(self, number: int) -> Path:
        """The network of a fold."""
        return self.folder / f"fold_{number}.safetensors"

    def checkpoint(self, number: int) -> Path:
        """The checkpoint of a fold in training, removed when the fold is done."""
        return self.folder / f"fold_{number}.checkpoint.pt"

    def prediction(self, sample_id: str) -> Path:
        """The out-of-fold probabilities of a sample."""
        return self.folder / "oof" / f"{sample_id}.tif"

    @property
    def missing(self) -> list[int]:
        """The folds that have no network yet, or not all their predictions."""
        files = [[self.model(k), *map(self.prediction, fold.held_out)] for k, fold in enumerate(self.folds)]
        return [number for number, paths in enumerate(files) if not all(path.exists() for path in paths)]

    def provenance(self, number: int) -> dict[str, Any]:
        """The entries on the training in the header of a fold's network; no folder is named."""
        parts = {name: list(part) for name, part in asdict(self.folds[number]).items()}
        return {"fold": number, **parts, **described(self.settings)}

    def remove_leftovers(self, number: int) -> None:
        """Remove half-written files of a training of this fold that was killed."""
        predictions = map(self.prediction, self.folds[number].held_out)
        for path in (self.model(number), self.checkpoint(number), *predictions):
            for leftover in path.parent.glob(f".*.partial.{path.name}"):
                leftover.unlink()

    def describe(self, statistics: Sequence[tuple[float, float]]) -> None:
        """Write ``run.json``, with the mean and SD of each fold."""
        folds = [
            asdict(fold) | {"mean": mean, "sd": sd}
            for fold, (mean, sd) in zip(self.folds, statistics, strict=True)
        ]
        libraries = {"numpy": np, "scikit-learn": sklearn, "torch": torch}
        content = {
            "kind": ON_DATASET,
            "dataset": str(self.dataset.resolve()),
            "settings": asdict(self.settings),
            "threshold": self.threshold,
            "folds": folds,
            "versions": {"python": platform.python_version()}
            | {name: str(library.__version__) for name, library in libraries.items()},
        }
        write_description(self.folder, content)

    def write_log(self, unfinished: Sequence[dict[str, Any]] = ()) -> None:
        """Write ``log.csv`` from the headers of the networks and the rows of the fold in training."""
        rows = [row for path in self._models() for row in read_info(path).training["log"]]
        if rows or unfinished:
            write_log(self.folder, [*rows, *unfinished])

    def write_registry(self) -> None:
        """Write ``registry.txt`` of the existing networks."""
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self._models()}
        write_registry(self.folder / REGISTRY, {name: f"sha256:{sha}" for name, sha in digests.items()})

    def _models(self) -> list[Path]:
        return [path for number in range(len(self.folds)) if (path := self.model(number)).exists()]


def start_run(folder: Path, dataset: Path, settings: FoldTraining, grades: Path | None = None) -> FoldRun:
    """Plan a run in a new folder; nothing is written yet.

    Raises
    ------
    OutputError
        If the folder holds a run, or the remains of one.
    DatasetError
        If the dataset cannot be used, or has too few subjects for the folds or too small slices for the crop.
    ContentError
        If its voxels are over 16 times as wide as those of the model to start from.
    ModelError
        If the model to start from does not fit.
    """
    refuse_existing(folder)
    if left := [*folder.glob("fold_*"), *folder.glob("oof/*")]:
        raise OutputError(f"{folder} has {left[0].name} of a run without its run.json; name another folder.")
    if settings.init:
        settings = replace(settings, init=located(settings.init))
    start = load_start(settings)
    info = start.info if start else settings.model_info()
    samples = find_samples(dataset, grades)
    settings = _fitted(settings, samples, scale_between(settings.voxel_um, info))
    folds = split_folds(samples, settings.folds, settings.seed, settings.paper)
    return FoldRun(folder, dataset, tuple(samples), settings, tuple(folds), info.threshold)


def _fitted(settings: FoldTraining, samples: Sequence[Sample], scale: float) -> FoldTraining:
    """Choose padding and crop for the largest slice of the samples, at the network's voxel size."""
    shapes = [sample_shape(sample) for sample in samples]
    shape = scaled((max(z for z, _, _ in shapes), max(max(y, x) for _, y, x in shapes)), scale)
    pad, crop = fitting(shape, settings.model_info().multiple)
    room = tuple(max(sides) for sides in zip(settings.pad or pad, shape, strict=True))
    if settings.crop and any(side > most for side, most in zip(settings.crop, room, strict=True)):
        raise DatasetError(
            f"the largest slice has {sides_text(shape)} pixels, padded {sides_text(room)}; expected no "
            f"larger crop, found {sides_text(settings.crop)}; give a smaller --crop, a larger --pad-to, or "
            "neither."
        )
    try:
        return replace(settings, pad=settings.pad or pad, crop=settings.crop or crop)
    except ValueError as error:  # a single slice with a single pixel at the last level
        raise DatasetError(f"{error}.") from error


def reopen_run(folder: Path, dataset: Path) -> FoldRun:
    """Return the run of a folder, with its settings and folds, to be resumed.

    Raises
    ------
    OutputError
        If the folder holds no such run, or a damaged one.
    DatasetError
        If the dataset has other samples than the run's folds, or the folds share a subject.
    ModelError
        If a network in the folder is of another run.
    """
    content = read_description(folder)
    if content.get("kind") != ON_DATASET:
        raise OutputError(f"{folder} holds a run on phantoms; resume it with --phantom, without a DATASET.")
    try:
        settings = FoldTraining(**with_tuples(content["settings"]))
        threshold = float(content["threshold"])
        parts = [{name: tuple(fold[name]) for name in Fold.__annotations__} for fold in content["folds"]]
        folds = tuple(Fold(**part) for part in parts)
        known = tuple((float(fold["mean"]), float(fold["sd"])) for fold in content["folds"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(f"{folder / DESCRIPTION} is damaged ({error}); start another run.") from error
    samples = find_samples(dataset)
    check_folds(folds, samples, settings.paper)
    run = FoldRun(folder, dataset, tuple(samples), settings, folds, threshold, known)
    for number in range(len(folds)):
        if run.model(number).exists():
            _check_model(run, number)
    return run


def check_statistics(run: FoldRun, statistics: Sequence[tuple[float, float]]) -> None:
    """Raise a DatasetError if the mean and SD of the folds' grey levels differ from those in ``run.json``."""
    for number, (found, expected) in enumerate(zip(statistics, run.known, strict=False)):
        if not np.allclose(found, expected, rtol=1e-9, atol=0):  # processors differ in the last digits
            raise DatasetError(
                f"{run.folder / DESCRIPTION}: the training samples of fold {number} had mean and SD "
                f"{expected[0]:.4f}, {expected[1]:.4f}, now {found[0]:.4f}, {found[1]:.4f}; the dataset has "
                "changed; start another run."
            )


def _check_model(run: FoldRun, number: int) -> None:
    """Raise a ModelError if the network of a fold was trained with other folds or settings."""
    found, expected = load_model(run.model(number)).info.training, run.provenance(number)
    for name, value in expected.items():
        if found.get(name) != json.loads(json.dumps(value)):
            raise ModelError(
                f"{run.model(number)} is of another run: {name} is {found.get(name)}, in run.json {value}; "
                "combine only folds of runs with the same dataset, settings and seed."
            )
