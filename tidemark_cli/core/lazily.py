"""Heavy libraries that stand at the top of a file and are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def imported(name: str) -> Any:
    """Return a stand-in for a module, which imports it when something of it is asked for.

    Unlike those of `importlib.util.LazyLoader` it is safe in threads, and not among `sys.modules`: PyTorch
    looks at each of these while it is imported, which would import them all.

    Parameters
    ----------
    name : of the module, as in ``import name``. Where it is missing, its first use raises
        ModuleNotFoundError.
    """
    return _Lazy(name)
