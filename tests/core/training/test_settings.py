"""The settings of both trainings: documented one by one, checked, light to import."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from tidemark_cli.core.training.settings import FoldTraining, PhantomTraining, described

Settings = type[FoldTraining] | type[PhantomTraining]


@pytest.mark.parametrize("kind", [FoldTraining, PhantomTraining])
def test_every_setting_has_a_line_of_its_own(kind: Settings) -> None:
    told = re.findall(r"^    (\w+) : \S", kind.__doc__ or "", re.MULTILINE)
    assert told == [field.name for field in fields(kind)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "dice"}, {"crop": (640, 380)}, {"crop": (0, 384)}, {"gamma": (2.0, 0.5)},
        {"gamma": (0.0, 1.0)}, {"epochs": 0}, {"folds": 1}, {"learning_rate": float("nan")},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FoldTraining(**wrong)


def test_phantom_slices_must_fit_the_network() -> None:
    with pytest.raises(ValueError, match="multiples of 96, phantom slices have 448 x 320"):
        PhantomTraining(stem=3)


def test_the_folder_of_the_start_is_not_described() -> None:
    assert described(PhantomTraining(init="/home/me/start.safetensors"))["init"] == "start.safetensors"
    assert described(FoldTraining())["init"] is None


def test_they_load_no_library() -> None:
    code = (
        "import sys, tidemark_cli.core.training.settings\n"
        "print({'torch', 'numpy', 'scipy', 'cv2', 'sklearn'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
