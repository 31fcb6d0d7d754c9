"""The settings of both trainings; this module loads no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ... import __version__
from .. import network, phantoms
from ..settings import Limits, check_limits

if TYPE_CHECKING:
    from ..network.unet import ModelInfo

Count = Annotated[int, Limits(1)]
Share = Annotated[float, Limits(0, 1)]
NotNegative = Annotated[float, Limits(0)]
Filters = Annotated[tuple[int, ...] | None, Limits(1)]

# the paper's for cross-entropy, focal loss and equation 1; the other two are like the last one
THRESHOLDS = {"bce": 0.5, "focal": 0.5, "jaccard": 0.3, "bce-jaccard": 0.3, "bce-logjaccard": 0.3}


@dataclass(frozen=True)
class Augmentation:
    """How slices are augmented; the defaults are the paper's, for slices of 768 x 448.

    Attributes
    ----------
    pad : rows and columns that smaller slices are padded to with zeros, equally on all sides.
    crop : rows and columns of the part that is cut out at random.
    flip : probability of a flip of the columns.
    gamma : lowest and highest exponent of the grey levels, drawn uniformly.
    gamma_share : probability of a gamma correction.
    turn : probability of a flip of the rows, for networks that take the bone at either end.
    """

    pad: tuple[int, int] = (800, 800)
    crop: tuple[int, int] = (640, 384)
    flip: float = 0.5
    gamma: tuple[float, float] = (0.5, 2.0)
    gamma_share: float = 0.5
    turn: float = 0.0

    def padded(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that slices of `shape` are padded to, never fewer than they or the crop have."""
        rows, columns = (max(sides) for sides in zip(self.pad, self.crop, shape, strict=True))
        return rows, columns


@dataclass(frozen=True)
class FoldTraining:
    """How to train on a dataset; the defaults are the paper's (section 3.1) and its code's.

    Attributes
    ----------
    loss : one of bce, focal, jaccard, bce-jaccard, bce-logjaccard.
    epochs : passes over the training slices; the one with the lowest validation loss is kept.
    batch : slices per step.
    learning_rate : learning rate of Adam.
    weight_decay : weight decay of Adam.
    width : filters at the first level, doubled at each further one.
    depth : levels of the network.
    stem : side of the blocks of pixels that the network takes as one.
    filters : number of filters of each level, the finest first, in place of width and depth.
    pad : rows and columns that smaller slices are zero-padded to. By default they fit the slices: 800 800 for
        the paper's 768 x 448.
    crop : rows and columns of the part cut out at random. By default they fit the slices: 640 384 for the
        paper's 768 x 448.
    flip : share of slices flipped left to right.
    gamma : range of the gamma correction.
    gamma_share : share of slices with a gamma correction.
    step : train and validate on every N-th slice of both planes.
    folds : number of folds, grouped by subject.
    seed : seed of folds, weights, order and augmentation.
    voxel_um : voxel size of the dataset in µm, which its files do not hold; the networks carry it. If they
        start from a model, slices are resampled to its voxel size, as in a prediction.
    init : start from this model instead of random weights, with its filters and stem; default is the
        embedded model. Its normalisation, voxel size, planes, threshold and batch norm statistics stay, and
        as epoch 0 it is kept if no epoch is better. It must not have been trained on these subjects.
    paper : make the choices of the paper's code: epochs chosen on the held-out fold itself (else on an inner
        split by subject), mean and SD over all folds (else of the training samples), folds by subject alone
        (else stratified by grade), both terms of a sum of losses weighted 0.5 (else 1), and scores in the
        zones of the published table.
    """

    loss: str = "bce-logjaccard"
    epochs: Count = 15
    batch: Count = 32
    learning_rate: NotNegative = 1e-4
    weight_decay: NotNegative = 1e-4
    width: Count = 24
    depth: Annotated[int, Limits(1, 8)] = 6
    stem: Annotated[int, Limits(1, 4)] = 1
    filters: Filters = None
    pad: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    flip: Share = Augmentation.flip
    gamma: Annotated[tuple[float, float], Limits(0)] = Augmentation.gamma
    gamma_share: Share = Augmentation.gamma_share
    step: Count = 1
    folds: Annotated[int, Limits(2)] = 5
    seed: Annotated[int, Limits(0)] = 0
    voxel_um: Annotated[float, Limits(0.01, 500)] = 3.2  # of the public scans
    init: str | None = None
    paper: bool = False

    def __post_init__(self) -> None:
        check_limits(self)
        if self.loss not in THRESHOLDS:
            raise ValueError(f"loss {self.loss!r} is unknown: expected one of {', '.join(THRESHOLDS)}")
        multiple = self.model_info().multiple
        if self.crop and any(side < multiple or side % multiple for side in self.crop):
            raise ValueError(
                f"crop {sides_text(self.crop)} is not of multiples of {multiple}, as the network needs"
            )
        if not 0 < self.gamma[0] <= self.gamma[1]:
            raise ValueError(f"gamma {self.gamma} is not a range above 0, the lower end first")
        if self.batch == 1 and self.crop == (multiple, multiple) and not self.init:
            raise ValueError(
                f"one slice of {multiple} x {multiple} becomes a single pixel, which cannot be normalised; "
                "give a larger batch or crop"
            )

    @property
    def augmentation(self) -> Augmentation:
        """The settings of the augmentation, once a run has settled pad and crop."""
        assert self.pad and self.crop
        return Augmentation(self.pad, self.crop, self.flip, self.gamma, self.gamma_share)

    def model_info(self) -> ModelInfo:
        """The network to train from random weights, without its normalisation of grey levels."""
        return network.unet.ModelInfo(
            **_sizes(self),
            voxel_um=self.voxel_um,
            threshold=THRESHOLDS[self.loss],
            loss=self.loss,
        )


@dataclass(frozen=True)
class PhantomTraining:
    """How to train on phantoms.

    Attributes
    ----------
    slices : phantom slices to draw; each is seen once.
    batch : slices per step.
    rows : of a slice.
    columns : of a slice.
    learning_rate : peak learning rate of Adam, reached after a warm-up; it falls to zero along a cosine.
    weight_decay : of Adam.
    seed : seed of the slices and the random weights.
    width : filters at the first level, doubled at each further one.
    depth : levels of the network.
    stem : side of the blocks of pixels that the network takes as one.
    filters : number of filters of each level, the finest first, in place of width and depth.
    threshold : probability above which a voxel is hard tissue, written into the model.
    validate_every : slices between two validations.
    validation_slices : number of fixed slices to validate on.
    init : start from this model instead of random weights, with its filters and stem; default is the
        embedded model.
    """

    slices: Count = 40_000
    batch: Count = 8
    rows: Count = 448
    columns: Count = 320
    learning_rate: NotNegative = 1e-3
    weight_decay: NotNegative = 1e-4
    seed: Annotated[int, Limits(0)] = 0
    width: Count = 16
    depth: Annotated[int, Limits(1, 8)] = 5
    stem: Annotated[int, Limits(1, 4)] = 2
    filters: Filters = None
    threshold: Share = 0.5
    validate_every: Count = 2_000
    validation_slices: Count = 64
    init: str | None = None

    def __post_init__(self) -> None:
        check_limits(self)
        info = self.model_info()
        multiple = info.multiple
        if self.rows % multiple or self.columns % multiple:
            raise ValueError(
                f"depth {info.depth} and stem {self.stem} need slices with sides of multiples of {multiple}, "
                f"phantom slices have {self.rows} x {self.columns}; give a smaller depth or stem"
            )

    def model_info(self) -> ModelInfo:
        """The network to train."""
        told = {"trained_on": "phantoms only, no real image", "tidemark": __version__}
        return network.unet.ModelInfo(
            **_sizes(self),
            normalisation={"kind": "window", "low": 1.0, "high": 99.0},
            voxel_um=phantoms.phantom.VOXEL_UM,
            coarsest_um=phantoms.phantom.COARSEST_UM,
            step=3,  # slices are closer than the tidemark's finest features
            threshold=self.threshold,
            either_end=True,
            training=told | described(self),
        )


def _sizes(settings: FoldTraining | PhantomTraining) -> dict[str, Any]:
    """Return the sizes of the network: filters come before width and depth."""
    filters = settings.filters
    width, depth = (filters[0], len(filters)) if filters else (settings.width, settings.depth)
    return {"width": width, "depth": depth, "stem": settings.stem, "filters": filters}


def described(settings: FoldTraining | PhantomTraining) -> dict[str, Any]:
    """Return settings for the header of a model, in which no folder is named."""
    return asdict(settings) | {"init": settings.init and Path(settings.init).name}


def sides_text(sides: Sequence[int]) -> str:
    """Return rows and columns for messages: "640 x 384"."""
    return " x ".join(map(str, sides))
