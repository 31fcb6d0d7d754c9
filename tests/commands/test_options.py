"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark_cli.commands.options import Existing, Screen, Spread, entry


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


@pytest.mark.parametrize(
    ("part", "taken"), [(None, "cadb"), ("1/1", "abcd"), ("2/3", "b"), ("1/3", "ad"), ("5/5", "")]
)
def test_a_part_is_every_nth_of_the_sorted_scans(part: str | None, taken: str) -> None:
    assert "".join(Spread(part=part).taken("cadb", Path)) == taken


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/0", "-1/2", "1/2/3", ""])
def test_no_such_part(part: str) -> None:
    with pytest.raises(ValueError, match=f"part: expected I/N, as in 1/8 or 8/8, found {part}"):
        Spread(part=part)


@pytest.mark.parametrize("cluster", ["local:0", "local:", "local:two", ""])
def test_no_such_cluster(cluster: str) -> None:
    with pytest.raises(
        ValueError, match=f"cluster: expected an address, a file, local or local:N .* {cluster}"
    ):
        Spread(cluster)


@pytest.mark.parametrize(
    "cluster", ["local", "local:8", "tcp://host:8786", "localhost:8786", "scheduler.json"]
)
def test_a_cluster_may_be(cluster: str) -> None:
    assert Spread(cluster).cluster == cluster


def test_a_scan_may_be_written_again_on_a_cluster() -> None:
    assert Spread("local").existing(Existing()) == Existing(overwrite=True)
    assert Spread("local").existing(Existing(skip_existing=True)) == Existing(skip_existing=True)
    assert Spread().existing(Existing()) == Existing()
