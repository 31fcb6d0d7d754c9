"""The rules of the house: what may import what, what stays unloaded until needed, how long code may get."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
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
    "dask",
    "distributed",
    "tifffile",
    "pooch",
    "requests",
    "sklearn",
}
SCREEN = {"typer", "rich"}
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted((PACKAGE / "core").rglob("*.py"))


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
    "api": {"core"},
}
BASE = {
    "arrays",
    "errors",
    "files",
    "lazily",
    "locks",
    "names",
    "resize",
    "settings",
}  # all of core may import these
ROOMS: dict[str, set[str]] = {  # of core, and what else each may import
    "__init__": set(),
    "arrays": set(),
    "errors": set(),
    "files": set(),
    "lazily": set(),
    "locks": set(),
    "names": set(),
    "resize": set(),
    "settings": set(),
    "memory": set(),
    "cache": set(),
    "scans": set(),
    "anatomy": set(),
    "phantoms": set(),
    "network": {"cache"},
    "registration": {"anatomy", "scans"},
    "data": {"anatomy", "scans"},
    "segmentation": {"anatomy", "network", "scans"},
    "scoring": {"anatomy", "data", "scans"},
    "results": {"pictures", "registration", "scans", "segmentation"},
    "training": {"data", "network", "phantoms", "scans"},
    "pictures": {"anatomy", "data", "scans", "scoring"},
    "downloads": {"cache", "network"},
}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    rooms = {room(name) for name in imported(path)} - {None}
    assert rooms <= ALLOWED[here]


def breaches() -> dict[str, set[str]]:
    """Return what files of core import beyond what their rooms may."""
    prefix = f"{PACKAGE.name}.core."
    found = {}
    for path in CORE:
        place = path.relative_to(PACKAGE / "core")
        here = place.parts[0].removesuffix(".py")
        names = {name.removeprefix(prefix) for name in imported(path) if name.startswith(prefix)}
        beyond = {name.split(".")[0] for name in names} - {here} - BASE - ROOMS[here]
        if beyond:
            found[place.as_posix()] = beyond
    return found


def test_rooms_import_what_they_may() -> None:
    assert not breaches()


@pytest.mark.parametrize("path", CORE, ids=lambda p: p.relative_to(PACKAGE / "core").as_posix())
def test_core_knows_no_screen(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & SCREEN
    calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}


def test_core_has_no_circles() -> None:
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in CORE}
    graph = {}
    for module, path in modules.items():
        names = imported(path)
        graph[module] = (names | {name.rpartition(".")[0] for name in names}) & set(modules)
    assert any(graph.values())
    list(TopologicalSorter(graph).static_order())  # raises CycleError on a circle


@pytest.mark.parametrize(
    "init", [path for path in CORE if path.name == "__init__.py"], ids=lambda p: p.parent.name
)
def test_a_room_s_stub_names_all_that_is_in_it(init: Path) -> None:
    there = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
    named = importlib.import_module(".".join(init.parent.relative_to(PACKAGE.parent).parts)).__all__
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize(
    "path", [*PACKAGE.glob("commands/*.py"), *PACKAGE.glob("*.py")], ids=lambda p: p.name
)
def test_imports_stand_at_the_top(path: Path) -> None:
    functions = [
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)
    ]
    assert not [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]


TESTS = Path(__file__).parent
RULES = (
    "modules of core without a test file under the same path",
    "modules of over 350 lines",
    "functions of over 60 lines",
    "functions of over 8 parameters",
    "modules of core with imports inside functions",
    "tests that know a private name",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> list[tuple[str, Function]]:
    """Return all functions of the package, each with the name of its file and its own."""
    found = []
    for path in MODULES:
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        place = path.relative_to(PACKAGE).as_posix()
        found += [(f"{place} {node.name}", node) for node in nodes if isinstance(node, Function)]
    return found


def parameters(function: Function) -> int:
    told = function.args
    named = len(told.posonlyargs) + len(told.args) + len(told.kwonlyargs)
    return named + (told.vararg is not None) + (told.kwarg is not None)


def imports_in(function: Function) -> bool:
    return any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))


def private_names(path: Path) -> set[str]:
    """Return the underscore names of others that a test uses, imports or replaces."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {node.attr} if node.value.id not in ("self", "cls") else set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            names |= {str(text).rpartition(".")[2] for text in texts}
    # what a notebook asks an object for is no private name
    return {name for name in names if name.startswith("_") and not name.startswith(("__", "_repr_"))}


@cache
def broken_rules() -> dict[str, set[str]]:
    """Return what breaks each of the `RULES`."""
    core = [path.relative_to(PACKAGE / "core") for path in CORE if path.name != "__init__.py"]
    untested = {
        path.as_posix()
        for path in core
        if not (TESTS / "core" / path.with_name(f"test_{path.name}")).is_file()
    }
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {path.relative_to(PACKAGE).as_posix() for path, count in lines.items() if count > 350}
    tall = {name for name, node in functions() if (node.end_lineno or 0) - node.lineno >= 60}
    wide = {name for name, node in functions() if parameters(node) > 8}
    late = {name.split()[0] for name, node in functions() if name.startswith("core/") and imports_in(node)}
    nosy = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py") if private_names(path)}
    return dict(zip(RULES, (untested, long, tall, wide, late, nosy), strict=True))


@pytest.fixture(scope="module")
def broken() -> dict[str, set[str]]:
    return broken_rules()


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_is_broken(broken: dict[str, set[str]], rule: str) -> None:
    assert not broken[rule]


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
    # a lazy module has its name in the list, and is not loaded
    real = "m.split('.')[0] for m, o in list(sys.modules.items()) if type(o).__name__ != '_LazyModule'"
    code = f"{command}\nimport sys\nprint('LOADED', *{{{real}}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.partition("LOADED")[2].split())
    assert "sys" in loaded
    assert not loaded & forbidden
