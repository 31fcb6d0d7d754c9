"""Options made of data classes: names, help, limits, and what reaches the function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer

from tidemark_cli.commands.from_fields import HELP_OPTIONS, Either, Look, Without, add
from tidemark_cli.core.settings import Limits


@dataclass(frozen=True)
class Files:
    """What to read.

    Attributes
    ----------
    paths : the scans
        to read.
    out : where they go.
    """

    paths: Annotated[tuple[Path, ...], Look("SCAN...", argument=True)]
    out: Annotated[str, Look("OUT", short="o")]


@dataclass(frozen=True)
class How:
    """How to do it.

    Attributes
    ----------
    step, share : of everything.
    planes : one or both.
    sizes : several numbers.
    end : either.
    deep : as deep as it goes.
    secret : no option.
    """

    step: Annotated[int | None, Limits(1, 8)] = None
    share: Annotated[float, Limits(0, 1)] = 0.5
    planes: tuple[Literal["zx", "zy"], ...] | None = None
    sizes: tuple[float, ...] = ()
    end: Literal["auto", "first"] = "auto"
    deep: bool = False
    secret: int = 3

    def __post_init__(self) -> None:
        if self.step == 7:
            raise ValueError("step: expected no unlucky number, found 7")


@dataclass(frozen=True)
class Slow:
    """Slow.

    Attributes
    ----------
    width : of it.
    epochs : passes.
    """

    width: Annotated[int, Limits(1)] = 24
    epochs: int = 15


@dataclass(frozen=True)
class Fast:
    """Fast.

    Attributes
    ----------
    width : of it.
    """

    width: Annotated[int, Limits(1)] = 16


GOT: list[Any] = []


def work(files: Files, way_to_go: Annotated[How, Without(["secret"])]) -> None:
    """Do it.

    At length.

    Examples
    --------
    tidemark work a
    tidemark work b
    """
    GOT.append((files, way_to_go))


def learn(
    settings: Annotated[dict[str, Any], Either({"Slow": Slow, "Fast": Fast})],
) -> None:
    """Learn."""
    GOT.append(settings)


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer(context_settings=HELP_OPTIONS, add_completion=False)
    for function in (work, learn):
        add(app, function)

    def run(*arguments: object) -> tuple[int, str]:
        GOT.clear()
        with pytest.raises(SystemExit) as ended:
            app([str(one) for one in arguments])
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    return run


def test_what_is_given_reaches_the_classes(call: Callable[..., tuple[int, str]]) -> None:
    assert call("work", "a", "b", "-o", "c")[0] == 0
    assert [(Files((Path("a"), Path("b")), "c"), How())] == GOT
    options = ("--step", 3, "--share", 0, "--planes", "zy,zx", "--sizes", 1, 2.5, "--end", "first", "--deep")
    assert call("work", "a", "--out", "c", *options)[0] == 0
    assert GOT[0][1] == How(3, 0, ("zy", "zx"), (1, 2.5), "first", True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--step", 0), "--step"),
        (("--step", 7), "--step: expected no unlucky number, found 7."),
        (("--planes", "xy"), "expected zx,zy or one of them, found xy"),
        (("--planes", "zx,zx"), "found zx,zx"),
        (("--end", "top"), "top"),
        (("--secret", 1), "--secret"),
        (("--no-deep",), "--no-deep"),
    ],
)
def test_what_cannot_be_is_wrong_usage(
    call: Callable[..., tuple[int, str]], options: tuple[object, ...], told: str
) -> None:
    code, shown = call("work", "a", "-o", "c", *options)
    assert (code, GOT) == (2, []) and told in shown


def test_the_help_is_the_classes_documentation(call: Callable[..., tuple[int, str]]) -> None:
    shown = [" ".join(line.strip("│ ").split()) for line in call("work", "-h")[1].splitlines()]
    assert any("SCAN..." in line and "The scans to read." in line for line in shown)
    assert any(
        line.startswith("--step") and "[1<=x<=8]" in line and "Of everything." in line for line in shown
    )
    assert any(line.startswith("--share") and "[default: 0.5]" in line for line in shown)
    assert any("─ Way to go ─" in line for line in shown)
    assert {"Do it.", "At length.", "Examples:", "tidemark work a", "tidemark work b"} <= set(shown)
    assert not any("secret" in line for line in shown)


def test_of_two_kinds_only_what_is_given_arrives(call: Callable[..., tuple[int, str]]) -> None:
    assert call("learn")[0] == 0 and GOT == [{}]
    assert call("learn", "--width", 24, "--epochs", 0)[0] == 0 and GOT == [{"width": 24, "epochs": 0}]
    assert call("learn", "--width", 0)[0] == 2
    shown = call("learn", "-h")[1]
    assert "Of it. Default: 24; fast 16." in shown and "Passes. Default: 15." in shown
