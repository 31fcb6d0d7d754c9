"""The rules of the house: what may import what, and what stays unloaded until it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tidemark_cli"
HEAVY = {
    "torch",
    "SimpleITK",
    "matplotlib",
    "scipy",
    "cv2",
    "numpy",
    "cc3d",
    "tifffile",
    "pooch",
    "requests",
    "sklearn",
}
SCREEN = {"typer", "rich"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the dotted names of all modules that a file imports, inside functions too."""
    package = (PACKAGE.name, *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            found |= {".".join((*base, alias.name)) for alias in node.names}  # a module, or a name in one
    return found


def room(dotted: str) -> str | None:
    """Return which room of the package a dotted name is in: app, commands, console, core or None."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == PACKAGE.name and len(parts) > 1 else None


ALLOWED = {
    "core": {"core", "__version__"},
    "console": {"core"},
    "commands": {"commands", "console", "core", "__version__"},
    "app": {"commands", "console", "core", "__version__"},
    "__main__": {"app"},
    "__init__": set(),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    rooms = {room(name) for name in imported(path)} - {None}
    assert rooms <= ALLOWED[here]


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.name)
def test_core_knows_no_screen(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & SCREEN
    calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}


def test_core_has_no_circles() -> None:
    core = {path.stem for path in (PACKAGE / "core").glob("*.py")}
    prefix = f"{PACKAGE.name}.core."
    graph = {}
    for path in (PACKAGE / "core").glob("*.py"):
        inner = {name.removeprefix(prefix) for name in imported(path) if name.startswith(prefix)}
        graph[path.stem] = {name.split(".")[0] for name in inner} & core
    assert any(graph.values())
    list(TopologicalSorter(graph).static_order())  # raises CycleError on a circle


HELP = """
import sys
sys.argv[1:] = ["--help"]
from tidemark_cli.app import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    ("command", "forbidden"),
    [
        ("import tidemark_cli", HEAVY | SCREEN),
        ("import tidemark_cli.app", HEAVY),
        (HELP, HEAVY),
        ("import tidemark_cli.core.scans.volume", {"torch", "SimpleITK", "matplotlib", "scipy", "cc3d"}),
    ],
    ids=["package", "app", "help", "volume"],
)
def test_heavy_libraries_wait_until_needed(command: str, forbidden: set[str]) -> None:
    code = f"{command}\nimport sys\nprint('LOADED', *{{m.split('.')[0] for m in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.partition("LOADED")[2].split())
    assert "sys" in loaded
    assert not loaded & forbidden
