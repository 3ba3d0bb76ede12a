"""Modules that are installed, and are to look as if they were not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def hide(modules: Iterable[str]) -> None:
    """Have these top-level modules not found any more in this process, by import or by ``find_spec``."""
    absent = frozenset(modules)
    if absent:
        sys.meta_path[:] = [_Without(finder, absent) for finder in sys.meta_path]


class _Without:
    """A finder that finds what another finds, but for some modules."""

    def __init__(self, finder: object, absent: frozenset[str]) -> None:
        self._finder, self._absent = finder, absent

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self._absent:
            return None
        find = getattr(self._finder, "find_spec", None)
        return None if find is None else find(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)
