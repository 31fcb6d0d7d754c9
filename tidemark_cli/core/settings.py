"""What a caller may choose, and within which limits; no heavy library is needed to look at it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

BoneEnd = Literal["auto", "first", "last"]
EMBEDDED = "default"  # names the model inside the package, wherever a model is named
Kind = Literal["plug", "wide", "block", "slab"]  # of sample that a phantom is of


@dataclass(frozen=True)
class Limits:
    """The least and the largest value of a field: ``step: Annotated[int, Limits(1, 8)]``."""

    low: float = -math.inf
    high: float = math.inf


def check_limits(settings: object) -> None:
    """Raise a ValueError if a field of a data class is beyond its `Limits` or no finite number.

    None passes, and of a tuple every number is checked.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        for limits in (one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Limits)):
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not (math.isfinite(number) and limits.low <= number <= limits.high):
                    raise ValueError(f"{name}: expected {_told(limits)}, found {number}")


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a data class, tuples in place of the lists that JSON and the command line give.

    Raises
    ------
    TypeError, ValueError
        If it is no mapping, as in a damaged file.
    """
    return {name: tuple(value) if isinstance(value, list) else value for name, value in dict(values).items()}


def _told(limits: Limits) -> str:
    if math.isfinite(limits.high):
        return f"{limits.low:g} to {limits.high:g}"
    return f"a finite number from {limits.low:g}" if math.isfinite(limits.low) else "a finite number"


VoxelSize = Annotated[float | None, Limits(0.01, 500)]


@dataclass(frozen=True)
class Settings:
    """What `segment` is to do; None takes the model's own.

    Attributes
    ----------
    threshold : hard tissue is where the probability is above it. Without it, the model's.
    planes : slicing planes to predict and average. Without it, the model's.
    step : predict every Nth slice and interpolate those between; 1 predicts each, as the paper does. 2
        halves the time of the paper's network; large steps smooth the tidemark. Without it, the model's.
    offset_um : raise the tidemark by this many µm towards the cartilage surface; a negative number lowers it.
        Minus the bias that `tidemark metrics` reports corrects that bias. Mask, surface and numbers move;
        probability and confidence stay.
    bone_end : at which end of Z the bone lies. auto guesses it from the grey levels; with the embedded model
        the mask then decides.
    crop : segment the paper's 448 x 448 x 768 voxels only, at the bone end.
    uncertainty : keep the disagreement of planes and models.
    device : where to compute; auto takes a GPU if there is one, a missing device is an error.
    """

    threshold: Annotated[float | None, Limits(0, 1)] = None
    planes: tuple[Literal["zx", "zy"], ...] | None = None
    step: Annotated[int | None, Limits(1, 8)] = None
    bone_end: BoneEnd = "auto"
    crop: bool = False
    uncertainty: bool = False
    device: str = "auto"
    offset_um: Annotated[float, Limits(-100, 100)] = 0.0

    def __post_init__(self) -> None:
        check_limits(self)
