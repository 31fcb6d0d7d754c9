"""Scores of samples: overlap in zones, errors of the surface; median and SD as in the paper's Table 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..anatomy.ends import BoneEnd
from ..anatomy.surface import find_surface
from ..errors import TidemarkError
from .distances import TOLERANCES_UM, surface_distances
from .pairs import Matched, read_pair
from .zones import height_errors, lowest_level, mean_interval, pad_voxels, zone_counts

STAIN_UM = 60.0  # PTA soaks in no deeper: a larger bias has another cause
PAPER_PADS_UM = tuple(float(pad) for pad in range(15, 151, 15))
PAPER_ROWS = (  # Table 1: IoU, median and SD over 35 samples, at 15, 30, 45, 60 and 75 µm
    ("BCE", 0.5, ((0.57, 0.14), (0.71, 0.11), (0.77, 0.10), (0.82, 0.09), (0.85, 0.08))),
    ("focal", 0.5, ((0.44, 0.19), (0.65, 0.18), (0.73, 0.15), (0.79, 0.14), (0.82, 0.12))),
    ("BCE - log J", 0.3, ((0.59, 0.13), (0.70, 0.10), (0.79, 0.08), (0.83, 0.08), (0.86, 0.07))),
)
DEFAULT_THRESHOLD = 0.5
OVERLAPS = ("iou", "dice", "volumetric_similarity")
FULL = 0.99  # a prediction with a greater share of hard voxels in the zones is nearly meaningless

DEFINITIONS: dict[str, str] = {
    "zones": "in each column (x, y) with true hard tissue, as many voxels into it from its first hard voxel "
    "seen from the cartilage (the tidemark) as before it",
    "pads_um": "width of a zone on either side of the tidemark in µm, by the voxel size; or, where zones is "
    "paper, as in the published table, at 3.0 µm a voxel",
    "iou": "intersection over union of the hard tissue within the zone, over the whole sample; 0 to 1",
    "dice": "2 TP / (2 TP + FP + FN), likewise",
    "volumetric_similarity": "1 - |FN - FP| / (2 TP + FP + FN), likewise",
    "hard_share": "share of the zone's voxels that are predicted hard; 0 to 1",
    "all_hard": "the same scores, in the same zones, of a mask that is hard tissue everywhere: what knowing "
    "nothing of the tidemark scores",
    "bias": "mean of bias_um over the samples that have one, with its 95 % interval (Student's t; null for "
    "fewer than 2), in µm. If the interval excludes 0, PTA probably soaks more or less deep into the "
    "calcified cartilage in your laboratory: fine-tuning corrects that, or adding offset_um (null if the "
    "interval holds 0 or the bias exceeds 60 µm) to the offset of the masks",
    "bias_um": "mean of found minus true height of the tidemark over columns that have both, in µm; positive "
    "is too near the cartilage surface. Heights are found as for predict --surface, in all that is above the "
    "threshold: a probability is not cleaned of islands as predict's mask is",
    "mean_error_um": "mean absolute error of the height (MAE); µm",
    "median_error_um": "median absolute error of the height; µm",
    "rmse_um": "root mean square error of the height; µm",
    "p95_error_um": "95th percentile of the absolute error of the height; µm",
    "missed_columns": "columns with a true tidemark but no found one, as a share of those with a true one; "
    "0 to 1",
    "extra_columns": "columns with a found tidemark but no true one, such as a bridged opening, as a share "
    "of those with a true one; no zone holds them; 0 or more",
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
    pads_voxels : width of each zone on either side of the tidemark.
    overlap : for each key of `OVERLAPS`, a value for each zone, 0 to 1.
    all_hard : likewise, of a mask that is hard tissue everywhere.
    hard_share : share of each zone that is predicted hard, 0 to 1.
    surface : for each key of `SURFACES`, its value, or None where one of the surfaces is empty.
    sample : its name.
    bone_end : the end of Z where the bone lies in the files.
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
    """Median and SD (n - 1; None for a single value) over the samples that have a value, and their count."""

    median: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Bias:
    """Mean bias of the tidemark over samples, found minus true height; positive is too near the surface.

    Attributes
    ----------
    low_um, high_um : 95 % interval of the mean (Student's t); None for a single sample.
    count : samples that have a bias.
    """

    mean_um: float
    low_um: float | None
    high_um: float | None
    count: int

    @property
    def offset_um(self) -> float | None:
        """The offset that corrects the bias; None if it may be chance, or exceeds what stain explains."""
        return None if self.may_be_chance or abs(self.mean_um) > STAIN_UM else -self.mean_um

    @property
    def may_be_chance(self) -> bool:
        """Whether there is no interval, or it holds 0."""
        return self.low_um is None or self.high_um is None or self.low_um <= 0 <= self.high_um


@dataclass(frozen=True)
class Scores:
    """Scores of all samples.

    Attributes
    ----------
    pads_um, thresholds : ascending.
    paper : whether the zones are those of the published table, 5 voxels for "15 µm".
    rows : sample by sample, a row for each threshold.
    not_scored : samples that could not be scored, and why.
    notes : messages for the user.
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
        """Return median and SD of a key of `OVERLAPS` for each zone."""
        values = [row.overlap[measure] for row in self.rows if row.threshold == threshold]
        return [_spread(zone) for zone in np.transpose(values)]

    def all_hard(self, measure: str) -> list[Spread]:
        """Return the same for masks that are hard tissue everywhere."""
        values = [row.all_hard[measure] for row in self.rows[:: len(self.thresholds)]]  # equal at each
        return [_spread(zone) for zone in np.transpose(values)]

    def surface(self, measure: str, threshold: float) -> Spread | None:
        """Return median and SD of a key of `SURFACES`, or None if no sample has a value."""
        values = self._values(measure, threshold)
        return _spread(values) if values.size else None

    def bias(self, threshold: float) -> Bias | None:
        """Return the mean of ``bias_um`` and its interval, or None if no sample has a value."""
        values = self._values("bias_um", threshold)
        if not values.size:
            return None
        low, high = mean_interval(values) or (None, None)
        return Bias(float(values.mean()), low, high, int(values.size))

    def _values(self, measure: str, threshold: float) -> NDArray[np.float64]:
        found = (row.surface[measure] for row in self.rows if row.threshold == threshold)
        return np.array([value for value in found if value is not None])


def score(
    matched: Matched,
    pads_um: Sequence[float] = PAPER_PADS_UM,
    thresholds: Sequence[float] = (),
    paper: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    voxel_um: float | None = None,
    bone_end: str = "auto",
) -> Scores:
    """Read and score predictions pair by pair; one that fails does not stop the others.

    Parameters
    ----------
    matched : from `pairs.match_run` or `pairs.match_paths`.
    pads_um : widths of the zones in µm.
    thresholds : by default the run's own, else 0.5, with a note if a prediction is not a mask.
    paper : use the zones of the published table.
    progress : called with (done, total) samples.
    voxel_um, bone_end : see `pairs.read_pair`.
    """
    own = DEFAULT_THRESHOLD if matched.threshold is None else matched.threshold
    pads, chosen = tuple(sorted(set(pads_um))), tuple(sorted(set(thresholds or (own,))))
    rows: list[SampleScore] = []
    not_scored = dict(matched.unmatched)
    notes: dict[str, None] = {}  # in order, each once
    for number, pair in enumerate(matched.pairs, 1):
        try:
            arrays = read_pair(pair, voxel_um, bone_end)
            pair_scores = score_pair(arrays.prediction, arrays.truth, arrays.voxel_um, pads, chosen, paper)
            found = [replace(row, sample=pair.name, bone_end=arrays.end) for row in pair_scores]
            rows += found
            notes |= dict.fromkeys([*arrays.notes, *_remarks(found, int(arrays.prediction.max()))])
            if not (thresholds or matched.threshold is not None or arrays.is_mask):
                notes[f"hard tissue: where a probability is above {own}; see --threshold"] = None
        except TidemarkError as error:
            not_scored[pair.name] = str(error)
        if progress is not None:
            progress(number, len(matched.pairs))
    return Scores(pads, chosen, paper, tuple(rows), not_scored, tuple(notes))


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
    truth : (Z, Y, X), hard tissue where not 0; if empty, all overlaps are 0.

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


def _remarks(rows: Sequence[SampleScore], highest: int) -> list[str]:
    """Point out what the scores of a sample hide: an empty or full prediction, zones that coincide."""
    remarks = []
    for row in rows:
        if highest < lowest_level(row.threshold):
            remarks.append(f"{row.sample}: the prediction is empty above {row.threshold:g}: it scores 0")
        elif row.hard_share[-1] > FULL:
            remarks.append(
                f"warning: {row.sample}: the prediction above {row.threshold:g} is hard tissue in "
                f"{100 * row.hard_share[-1]:.0f} % of the widest zone: compare it with the scores of all hard"
            )
    pads, voxel_um = rows[0].pads_voxels, rows[0].voxel_um
    if len(set(pads)) < len(pads):
        widths = ", ".join(map(str, pads))
        remarks.append(f"voxels of {voxel_um:g} µm are too large for these zones: {widths} voxels wide")
    return remarks


def _spread(values: NDArray[np.float64]) -> Spread:
    sd = float(values.std(ddof=1)) if values.size > 1 else None
    return Spread(float(np.median(values)), sd, int(values.size))
