"""Options that several commands have."""

from __future__ import annotations

import pytest

from tidemark_cli.commands.options import Existing, Screen, entry


def test_what_exists_is_replaced_or_kept_but_not_both() -> None:
    assert [one.allowed for one in (Existing(), Existing(True), Existing(False, True))] == [False, True, True]
    with pytest.raises(ValueError, match="--overwrite and --skip-existing exclude each other"):
        Existing(True, True)


@pytest.mark.parametrize(
    ("screen", "out", "err"),
    [
        (Screen(), "mask         m.tif\n", "a: read\na: done\n"),
        (Screen(quiet=True), "", ""),
        (Screen(as_json=True), '{"mask": "m.tif"}\n', "a: read\na: done\n"),
        (Screen(quiet=True, as_json=True), '{"mask": "m.tif"}\n', ""),
    ],
)
def test_what_is_said(screen: Screen, out: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen.notice("read", "done", label="a: ")
    screen.result({"mask": "m.tif"}, [entry("mask", "m.tif")])
    assert capsys.readouterr() == (out, err)


def test_the_quiet_have_no_progress() -> None:
    with Screen(quiet=True).progress("work") as advance:
        assert advance is None
    with Screen().progress("work") as advance:
        assert advance is not None
