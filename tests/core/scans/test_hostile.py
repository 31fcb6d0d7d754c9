"""A few hundred damaged and odd files: each is read, or refused with a line; bench_hostile.py tries more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.core.scans.hostile import KINDS, Verdict, make_whole, trial
from tests.core.scans.hostile_pool import run_trials

COUNT = 200


def test_no_traceback_no_hang_and_no_silent_damage(tmp_path: Path) -> None:
    verdicts = list(run_trials(range(COUNT), tmp_path, commands_every=10))
    assert [verdict for verdict in verdicts if verdict.is_fault] == []
    assert len({verdict.kind for verdict in verdicts}) > len(KINDS) / 2
    assert sum(verdict.outcome == "refused" for verdict in verdicts) > COUNT / 4


def test_a_trial_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_whole(tmp_path / "whole")

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules[trial.__module__], "read_volume", broken)
    found: list[Verdict] = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        found.append(trial(seed, tmp_path / "whole", tmp_path / str(seed), commands=False))
    assert "traceback" in {verdict.outcome for verdict in found if verdict.is_fault}
