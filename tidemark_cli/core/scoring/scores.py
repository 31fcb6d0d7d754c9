"""Scores of samples, overlap in zones and errors of the surface; median and SD as in the paper's Table 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..anatomy.ends import BoneEnd
from ..anatomy.surface import find_surface
from ..errors import TidemarkError
from .distances import TOLERANCES_UM, surface_distances
from .pairs import Arrays, Matched, Pair, is_run, match_paths, match_run, read_pair, read_run
from .zones import height_errors, lowest_level, mean_interval, pad_voxels, zone_counts

STAIN_UM = 60.0  # PTA soaks no deeper: a larger bias has another cause
PAPER_PADS_UM = tuple(float(pad) for pad in range(15, 151, 15))
PAPER_ROWS = (  # Table 1: IoU, median and SD over 35 samples, at 15, 30, 45, 60 and 75 µm
    ("BCE", 0.5, ((0.57, 0.14), (0.71, 0.11), (0.77, 0.10), (0.82, 0.09), (0.85, 0.08))),
    ("focal", 0.5, ((0.44, 0.19), (0.65, 0.18), (0.73, 0.15), (0.79, 0.14), (0.82, 0.12))),
    ("BCE - log J", 0.3, ((0.59, 0.13), (0.70, 0.10), (0.79, 0.08), (0.83, 0.08), (0.86, 0.07))),
)
DEFAULT_THRESHOLD = 0.5
OVERLAPS = ("iou", "dice", "volumetric_similarity")
FULL = 0.99  # a prediction with a greater share of hard voxels in the zones says next to nothing

DEFINITIONS: dict[str, str] = {
    "zones": "in each column (x, y) with true hard tissue, from its first hard voxel seen from the cartilage "
    "(the tidemark) so many voxels into the hard tissue, and as many before it",
    "pads_um": "width of a zone on either side of the tidemark: by the voxel size, or as the published table "
    "has it, 3.0 µm a voxel, where zones is paper; µm",
    "iou": "intersection over union of the hard tissue within the zone, over the whole sample; 0 to 1",
    "dice": "2 TP / (2 TP + FP + FN), likewise",
    "volumetric_similarity": "1 - |FN - FP| / (2 TP + FP + FN), likewise",
    "hard_share": "voxels that are predicted hard among all of the zone; 0 to 1",
    "all_hard": "the same scores of a mask that is hard tissue everywhere, in the same zones: what knowing "
    "nothing of the tidemark scores",
    "bias": "mean of bias_um over the samples that have one, and its 95 % interval over samples, Student's t "
    "(null for fewer than 2); where the interval excludes 0 it is most likely the laboratory's own depth "
    "of stain, PTA soaking more or less deep into the calcified cartilage: fine-tuning corrects it, or "
    "offset_um (null where the interval holds 0, or the bias is over 60 µm) added to the masks' own; µm",
    "bias_um": "mean of found minus true height of the tidemark over columns that have both; above 0 it is "
    "found too near the cartilage surface; heights by the rules of predict --surface, of all that is above "
    "the threshold: a probability is not cleaned of islands as predict's mask is; µm",
    "mean_error_um": "mean absolute error of the height (MAE); µm",
    "median_error_um": "median absolute error of the height; µm",
    "rmse_um": "root mean square error of the height; µm",
    "p95_error_um": "95th percentile of the absolute error of the height; µm",
    "missed_columns": "columns with a true tidemark where none was found, as a share of the former; 0 to 1",
    "extra_columns": "columns with a tidemark where there is no true one, such as a bridged opening, "
    "as a share of those with a true one; no zone holds them; 0 or more",
    "hd95_um": "larger of the two 95th percentiles (found to true, true to found) of the distance in space "
    "from a point of one tidemark, one in each column, to the nearest of the other; µm",
    "assd_um": "mean of these distances, both directions together; µm",
    **{
        f"surface_dice_{um:g}um": f"share of points of both tidemarks within {um:g} µm of the other; 0 to 1"
        for um in TOLERANCES_UM
    },
}
SURFACES = tuple(DEFINITIONS)[tuple(DEFINITIONS).index("bias_um") :]


@dataclass(frozen=True)
class SampleScore:
    """Scores of one sample at one threshold.

    Attributes
    ----------
    voxel_um : what was taken for the sample.
    pads_voxels : width of each zone on either side of the tidemark.
    overlap : a value for each zone under each key of `OVERLAPS`, 0 to 1.
    all_hard : likewise, of a mask that is hard tissue everywhere.
    hard_share : share of each zone that is predicted hard, 0 to 1.
    surface : under each key of `SURFACES`; None where one of the surfaces is empty.
    sample : its name.
    bone_end : at which end of Z the bone was taken to lie in the files.
    """

    threshold: float
    voxel_um: float
    pads_voxels: tuple[int, ...]
    overlap: dict[str, tuple[float, ...]]
    all_hard: dict[str, tuple[float, ...]]
    hard_share: tuple[float, ...]
    surface: dict[str, float | None]
    sample: str = ""
    bone_end: BoneEnd = "first"


@dataclass(frozen=True)
class Spread:
    """Median and SD (n - 1; None of a single value) over the samples that have a value, and their count."""

    median: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Bias:
    """Mean over samples of the tidemark's bias, found minus true height; above 0: too near the cartilage.

    Attributes
    ----------
    low_um, high_um : 95 % interval of the mean, over samples by Student's t; None of a single sample.
    count : samples that have a bias.
    """

    mean_um: float
    low_um: float | None
    high_um: float | None
    count: int

    @property
    def offset_um(self) -> float | None:
        """The offset that corrects the bias; None where it may be chance, or is more than stain explains."""
        return None if self.may_be_chance or abs(self.mean_um) > STAIN_UM else -self.mean_um

    @property
    def may_be_chance(self) -> bool:
        """Whether there is no interval, or 0 lies within it."""
        return self.low_um is None or self.high_um is None or self.low_um <= 0 <= self.high_um


@dataclass(frozen=True)
class Scores:
    """Scores of samples.

    Attributes
    ----------
    pads_um, thresholds : ascending.
    paper : whether the zones are those of the published table, 5 voxels for "15 µm".
    rows : sample by sample, a row for each threshold.
    not_scored : samples that could not be scored, with the reason.
    notes : what the user should hear.
    """

    pads_um: tuple[float, ...]
    thresholds: tuple[float, ...]
    paper: bool
    rows: tuple[SampleScore, ...]
    not_scored: dict[str, str]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of samples that were scored."""
        return len(self.rows) // len(self.thresholds)

    def overlap(self, measure: str, threshold: float) -> list[Spread]:
        """Median and SD of a key of `OVERLAPS`, for each zone."""
        values = np.array([row.overlap[measure] for row in self.rows if row.threshold == threshold])
        return [_spread(zone) for zone in values.T]

    def all_hard(self, measure: str) -> list[Spread]:
        """Median and SD of a key of `OVERLAPS` for each zone, of masks that are hard tissue everywhere."""
        once = self.rows[:: len(self.thresholds)]  # no threshold changes it
        return [_spread(zone) for zone in np.array([row.all_hard[measure] for row in once]).T]

    def surface(self, measure: str, threshold: float) -> Spread | None:
        """Median and SD of a key of `SURFACES`, None where no sample has a value."""
        values = self._values(measure, threshold)
        return _spread(values) if values.size else None

    def bias(self, threshold: float) -> Bias | None:
        """Mean of ``bias_um`` over the samples and its interval, None where no sample has a value."""
        values = self._values("bias_um", threshold)
        if not values.size:
            return None
        low, high = mean_interval(values) or (None, None)
        return Bias(float(values.mean()), low, high, int(values.size))

    def _values(self, measure: str, threshold: float) -> NDArray[np.float64]:
        found = (row.surface[measure] for row in self.rows if row.threshold == threshold)
        return np.array([value for value in found if value is not None])


def score_run(
    run: Path,
    pads_um: Sequence[float] = PAPER_PADS_UM,
    thresholds: Sequence[float] | None = None,
    paper: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    dataset: Path | None = None,
    voxel_um: float | None = None,
) -> Scores:
    """Score the out-of-fold predictions of a run against the dataset it was trained on.

    Parameters
    ----------
    run : the folder that ``tidemark train DATASET`` wrote.
    pads_um : widths of the zones.
    thresholds : None takes the run's own.
    paper : zones as in the published table.
    progress : called with (done, total) samples.
    dataset : where the dataset is now, by default where ``run.json`` says.
    voxel_um : overrules what the predictions' files say.

    Raises
    ------
    DatasetError
        If the run or the dataset cannot be used. What is wrong with a sample is in `Scores.not_scored`.
    """
    chosen = thresholds or _own_threshold(run)
    read = partial(read_pair, voxel_um=voxel_um)
    return _score(match_run(run, dataset), read, pads_um, chosen, paper, progress)


def score_paths(
    prediction: Path,
    truth: Path,
    pads_um: Sequence[float] = PAPER_PADS_UM,
    thresholds: Sequence[float] | None = None,
    paper: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    voxel_um: float | None = None,
    bone_end: str = "auto",
) -> Scores:
    """Score predictions against true masks: files, stacks, folders of matching names, a dataset as truth.

    Parameters
    ----------
    thresholds : None takes a run's own, else 0.5, with a note where a prediction is no mask.
    bone_end : see `pairs.read_pair`.

    Raises
    ------
    ScanError, DatasetError
        If a path cannot be used. What is wrong with a sample is in `Scores.not_scored`.
    """
    matched = match_paths(prediction, truth)
    chosen = thresholds or (_own_threshold(prediction) if is_run(prediction) else None)
    read = partial(read_pair, voxel_um=voxel_um, bone_end=bone_end)
    return _score(matched, read, pads_um, chosen, paper, progress)


def score_pair(
    prediction: NDArray[np.uint8],
    truth: NDArray[Any],
    voxel_um: float,
    pads_um: Sequence[float],
    thresholds: Sequence[float],
    paper: bool = False,
) -> list[SampleScore]:
    """Score one sample at each threshold.

    Parameters
    ----------
    prediction : (Z, Y, X) uint8, bone first, a probability times 255 or a mask of 0 and 255.
    truth : (Z, Y, X), hard tissue where not 0; an empty one gives 0 for all overlaps.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    pads = tuple(pad_voxels(pad, voxel_um, paper) for pad in pads_um)
    counts = zone_counts(prediction, truth, pads, thresholds)
    true_um = find_surface(truth, voxel_um).height_um
    scores = []
    for i, threshold in enumerate(thresholds):
        hard = prediction >= lowest_level(threshold)
        found_um = find_surface(hard, voxel_um).height_um
        surface = height_errors(found_um, true_um) | surface_distances(found_um, true_um, voxel_um)
        overlap, all_hard = (
            {name: tuple(map(float, getattr(each, name)[i])) for name in OVERLAPS}
            for each in (counts, counts.all_hard)
        )
        share = tuple(map(float, counts.hard_share[i]))
        scores.append(SampleScore(threshold, voxel_um, pads, overlap, all_hard, share, surface))
    return scores


def _score(
    matched: Matched,
    read: Callable[[Pair], Arrays],
    pads_um: Sequence[float],
    thresholds: Sequence[float] | None,
    paper: bool,
    progress: Callable[[int, int], None] | None,
) -> Scores:
    """Read and score pair by pair; what fails is told of and does not stop the others."""
    pads, chosen = tuple(sorted(set(pads_um))), tuple(sorted(set(thresholds or (DEFAULT_THRESHOLD,))))
    rows: list[SampleScore] = []
    not_scored = dict(matched.unmatched)
    notes: dict[str, None] = {}  # in order, each once
    for number, pair in enumerate(matched.pairs, 1):
        try:
            arrays = read(pair)
            pair_scores = score_pair(arrays.prediction, arrays.truth, arrays.voxel_um, pads, chosen, paper)
            found = [replace(row, sample=pair.name, bone_end=arrays.end) for row in pair_scores]
            rows += found
            notes |= dict.fromkeys([*arrays.notes, *_remarks(found, int(arrays.prediction.max()))])
            if thresholds is None and not arrays.is_mask:
                told = f"hard tissue is where a probability is above {DEFAULT_THRESHOLD}, else --threshold"
                notes[told] = None
        except TidemarkError as error:
            not_scored[pair.name] = str(error)
        if progress is not None:
            progress(number, len(matched.pairs))
    return Scores(pads, chosen, paper, tuple(rows), not_scored, tuple(notes))


def _remarks(rows: Sequence[SampleScore], highest: int) -> list[str]:
    """Name what the scores of a sample hide: an empty or full prediction, zones that are one and the same."""
    remarks = []
    for row in rows:
        if highest < lowest_level(row.threshold):
            remarks.append(f"{row.sample}: the prediction is empty above {row.threshold:g}: it scores 0")
        elif row.surface["assd_um"] is None:
            remarks.append(f"{row.sample}: no tidemark found above {row.threshold:g}: no distances")
        elif row.hard_share[-1] > FULL:
            remarks.append(
                f"warning: {row.sample}: the prediction above {row.threshold:g} is hard tissue in "
                f"{100 * row.hard_share[-1]:.0f} % of the widest zone: compare it with the scores of all hard"
            )
    pads = rows[0].pads_voxels
    if len(set(pads)) < len(pads):
        told = f"voxels of {rows[0].voxel_um:g} µm are too large for these zones"
        remarks.append(f"{told}: {', '.join(map(str, pads))} voxels wide")
    return remarks


def _own_threshold(run: Path) -> tuple[float]:
    return (float(read_run(run).get("threshold", DEFAULT_THRESHOLD)),)


def _spread(values: NDArray[np.float64]) -> Spread:
    sd = float(values.std(ddof=1)) if values.size > 1 else None
    return Spread(float(np.median(values)), sd, int(values.size))
