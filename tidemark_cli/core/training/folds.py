"""Folds: which samples are held out together, and on which of the others the epoch is chosen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from ..data.dataset import Sample
from ..errors import DatasetError


@dataclass(frozen=True)
class Fold:
    """Sample ids of one fold."""

    held_out: tuple[str, ...]  # predicted by the fold's network, which has seen none of their subjects
    training: tuple[str, ...]  # its weights, and the mean and SD of its grey levels, are from these
    validation: tuple[str, ...]  # its epoch is chosen on these


def split_folds(samples: Sequence[Sample], count: int, seed: int, paper: bool = False) -> list[Fold]:
    """Split samples into folds, keeping the samples of a subject together.

    The held-out parts are stratified by grade as far as possible (`is_stratified`), else balanced in size.
    The validation part is split off the rest in the same way, about 1/`count` of it.

    Parameters
    ----------
    samples : with their grades; those without one are a class of their own.
    count : number of folds, at least 2.
    seed : the same samples and seed give the same folds.
    paper : do as the paper's code: groups without regard to grades and seed, and the epoch chosen on the
        held-out samples themselves, which makes the scores too good.

    Raises
    ------
    DatasetError
        If there are fewer subjects than folds, or too few to choose the epoch on.
    """
    subjects = _subjects(samples)
    if len(subjects) < count:
        raise DatasetError(
            f"found {len(subjects)} subject(s) for {count} folds; expected at least one for each; give fewer "
            "--folds, or add subjects (a sample's id begins with its subject, up to the first _)."
        )
    folds = []
    for number, held_out in enumerate(_parts(samples, count, None if paper else seed)):
        rest = [sample for sample in samples if sample not in held_out]
        validation = held_out
        if not paper:
            if len(_subjects(rest)) < 2:
                raise DatasetError(
                    f"{count} folds leave one of them only {len(rest)} sample(s) of one subject; expected "
                    "two subjects, to train and to choose the epoch on; give more --folds, add subjects, or "
                    "choose it on the held-out samples (--paper)."
                )
            choices = _parts(rest, min(count, len(_subjects(rest))), seed)
            # drawn, since the first part of each fold has the subject with the most samples of one grade
            validation = choices[np.random.default_rng((seed, number)).integers(len(choices))]
        training = [sample for sample in rest if sample not in validation]
        folds.append(Fold(_ids(held_out), _ids(training), _ids(validation)))
    check_folds(folds, samples, paper)
    return folds


def is_stratified(samples: Sequence[Sample], count: int) -> bool:
    """Return whether any grade is frequent enough to be spread over `count` folds."""
    grades = [sample.grade for sample in samples if sample.grade is not None]
    return bool(grades) and max(map(grades.count, grades)) >= count


def check_folds(folds: Sequence[Fold], samples: Sequence[Sample], paper: bool = False) -> None:
    """Raise if a fold's network would see a held-out subject, or a sample is not held out exactly once.

    Parameters
    ----------
    paper : allow the validation part to be the held-out one.

    Raises
    ------
    DatasetError
        If a subject is in two parts of a fold or held out twice, a sample is never held out, a part is empty,
        or a sample is not in the dataset.
    """
    subjects = {sample.sample_id: sample.subject_id for sample in samples}
    named = {one for fold in folds for one in (*fold.held_out, *fold.training, *fold.validation)}
    if unknown := sorted(named - subjects.keys()):
        raise DatasetError(
            f"the folds name {', '.join(unknown)}, which the dataset does not have; "
            "use the dataset that the run was started with."
        )
    for number, fold in enumerate(folds):
        parts = {"held out": fold.held_out, "training": fold.training, "validation": fold.validation}
        if paper:
            del parts["validation"]
        if empty := [name for name, part in parts.items() if not part]:
            raise DatasetError(f"fold {number} has no sample in its {empty[0]} part; give fewer --folds.")
        for (a, first), (b, second) in combinations(parts.items(), 2):
            _refuse_shared(f"fold {number}: {a} and {b}", first, second, subjects)
    for (i, one), (j, other) in combinations(enumerate(folds), 2):
        _refuse_shared(f"the held-out parts of folds {i} and {j}", one.held_out, other.held_out, subjects)
    if missing := sorted(subjects.keys() - {one for fold in folds for one in fold.held_out}):
        raise DatasetError(
            f"{', '.join(missing)} of the dataset is held out by no fold; "
            "use the dataset that the run was started with, or start another run."
        )


def _refuse_shared(where: str, first: Sequence[str], second: Sequence[str], subjects: dict[str, str]) -> None:
    shared = {subjects[one] for one in first} & {subjects[one] for one in second}
    if shared:
        raise DatasetError(
            f"{where} share the subject(s) {', '.join(sorted(shared))}; expected each in one of them; "
            "start another run."
        )


def _subjects(samples: Sequence[Sample]) -> set[str]:
    return {sample.subject_id for sample in samples}


def _ids(samples: Sequence[Sample]) -> tuple[str, ...]:
    return tuple(sample.sample_id for sample in samples)


def _parts(samples: Sequence[Sample], count: int, seed: int | None) -> list[list[Sample]]:
    """Split samples into `count` parts by subject, stratified by grade unless `seed` is None."""
    subjects = sorted(_subjects(samples))
    classes = np.zeros(len(samples), int)
    if is_stratified(samples, count):
        classes = np.array([-1 if sample.grade is None else sample.grade for sample in samples])
    if seed is None:
        splitter, order = GroupKFold(count), np.arange(len(subjects))
    else:  # ties are broken by the order of the groups; drawn here: some versions do not shuffle well
        splitter, order = StratifiedGroupKFold(count), np.random.default_rng(seed).permutation(len(subjects))
    groups = [order[subjects.index(sample.subject_id)] for sample in samples]
    with warnings.catch_warnings():  # grades rarer than the folds are usual here
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = list(splitter.split(classes, classes, groups))
    return [[samples[i] for i in indices] for _, indices in splits]
