"""The command line as a whole: version, help, pipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.helpers import Ended
from tidemark_cli import __version__
from tidemark_cli.app import app

Tidemark = Callable[..., Ended]


def test_version(tidemark: Tidemark) -> None:
    assert tidemark("--version") == Ended(0, f"tidemark {__version__}\n", "")


def test_help_names_every_command(tidemark: Tidemark) -> None:
    ended = tidemark("--help")
    assert ended.code == 0
    for command in ("predict", "phantom", "train"):
        assert command in ended.out
        assert tidemark(command, "--help").code == 0


def test_the_help_is_shown_whole() -> None:
    from rich.text import Text
    from typer.main import get_command

    commands = [get_command(app)]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            told = getattr(parameter, "help", None) or ""
            assert Text.from_markup(told).plain == told, "what looks like markup is not shown"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("--nonsense",), ("train", "-o", "run")])
def test_wrong_usage_is_2(tidemark: Tidemark, arguments: tuple[str, ...]) -> None:
    assert tidemark(*arguments).code == 2


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [("SystemExit", 0, ""), ("SystemExit(3)", 3, ""), ("SystemExit('no display')", 1, "no display\n")],
)
def test_the_process_ends_with_the_code_and_cleans_up(raised: str, code: int, told: str) -> None:
    program = f"""
import atexit
from tidemark_cli import app

def end():
    print("out", end="")
    raise {raised}

atexit.register(print, " and cleaned up", end="")
app.app = end
app.run()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "out and cleaned up", told)


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tidemark_cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        run.stdout.close()
        err = run.stderr.read() if run.stderr else b""
    assert err == b""
