"""The command line as a whole: version, help, pipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tidemark_cli
from tests.helpers import Ended
from tidemark_cli import __version__
from tidemark_cli.core.scans.volume import read_volume

Tidemark = Callable[..., Ended]


def test_version(tidemark: Tidemark) -> None:
    assert tidemark("--version") == Ended(0, f"tidemark {__version__}\n", "")


def test_help_names_every_command(tidemark: Tidemark) -> None:
    ended = tidemark("--help")
    assert ended.code == 0
    for command in ("predict", "phantom", "train"):
        assert command in ended.out
        assert tidemark(command, "--help").code == 0


COMMANDS = [
    ("predict",),
    ("register",),
    ("preprocess",),
    ("phantom",),
    ("train",),
    ("metrics",),
    ("download",),
    ("download", "dataset"),
    ("download", "weights"),
]


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_the_help_is_whole_in_a_narrow_terminal(
    tidemark: Tidemark, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ended = tidemark(*command, "-h")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 60
    assert "…" not in ended.out
    assert "Examples:" in ended.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_is_told_and_every_command_can_be_quiet_or_speak_json(
    tidemark: Tidemark, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = tidemark(*command, "--help").out
    options = [line for line in shown.splitlines() if re.match(r"│ [*]? *--", line)]
    assert {"--quiet", "--json"} <= {word for line in options for word in line.split()}
    assert not re.search(r"<bool>|[{}]", shown)
    for line in options:
        assert re.search(r"  [A-Z0-9][^<]*[.)\]] *│$", line), line  # a sentence, nothing taken for markup
    assert command == ("download",) or "On screen" in shown
    assert shown.split("Examples:")[1].count(f"tidemark {' '.join(command)}") >= 2


def test_completion_can_be_installed(tidemark: Tidemark) -> None:
    assert "--install-completion" in tidemark("--help").out


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


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-", "2>/dev/full"])
def test_without_a_console_the_work_is_done(closed: str, tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m tidemark_cli phantom a.nii --size 64 64 64 --voxel-size 40 {closed}"
    environment = os.environ | {"PYTHONPATH": str(Path(tidemark_cli.__file__).parents[1])}
    assert subprocess.run(command, shell=True, cwd=tmp_path, env=environment).returncode == 0
    assert read_volume(tmp_path / "a.nii").array.shape == (64, 64, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize(("where", "code"), [(">&-", 0), ("2>&-", 0), (">/dev/full", 1), ("| true", 0)])
def test_what_nobody_hears_is_no_error_but_a_full_disk_is(where: str, code: int) -> None:
    command = f"set -o pipefail; {sys.executable} -m tidemark_cli --version {where}"
    environment = os.environ | {"PYTHONPATH": str(Path(tidemark_cli.__file__).parents[1])}
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert ended.returncode == code
    assert ended.stderr.count("\n") == code


def test_work_goes_on_when_the_reader_of_results_has_gone() -> None:
    program = """
from tidemark_cli import app, console

def work():
    for _ in range(3):
        console.result("x" * 100)
    console.notice("done")

app.app = work
app.run()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == "done\n"
    assert run.returncode == 0


def test_an_interrupt_inside_an_exec_of_a_library_ends_with_130(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from tidemark_cli import app\n"
        "app.app = lambda: exec('raise KeyboardInterrupt')  # as dataclasses and PyTorch run code\n"
        "app.main()\n"
    )
    ended = subprocess.run([sys.executable, "-m", "program"], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "interrupted: no half-written output is left.\n")
