"""Settings are checked where they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import pytest

from tidemark_cli.core.settings import Limits, Settings, check_limits, with_tuples


@dataclass(frozen=True)
class Choice:
    share: Annotated[float | None, Limits(0, 1)] = None
    sizes_um: Annotated[tuple[float, ...], Limits(1)] = ()
    anything: float = math.nan


@pytest.mark.parametrize("choice", [Choice(), Choice(0, (1, 1e9)), Choice(1)])
def test_what_is_within_its_limits_passes(choice: Choice) -> None:
    check_limits(choice)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (Choice(1.5), "share: expected 0 to 1, found 1.5"),
        (Choice(math.nan), "share: expected 0 to 1, found nan"),
        (Choice(0, (2, 0.5)), "sizes_um: expected a finite number from 1, found 0.5"),
        (Choice(0, (math.inf,)), "sizes_um: expected a finite number from 1, found inf"),
    ],
)
def test_what_is_beyond_its_limits_is_named(choice: Choice, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_limits(choice)


def test_a_segmentation_cannot_be_asked_for_beyond_them() -> None:
    assert Settings(threshold=0, step=8, offset_um=-100).planes is None
    for wrong in ({"threshold": 1.5}, {"step": 0}, {"offset_um": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)


def test_lists_become_tuples() -> None:
    assert with_tuples({"a": [1, 2], "b": "x", "c": None}) == {"a": (1, 2), "b": "x", "c": None}
    with pytest.raises((TypeError, ValueError)):
        with_tuples([1, 2])  # type: ignore[arg-type]
