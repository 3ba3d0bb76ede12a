"""Hiding installed modules, as if they were not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def hide(modules: Iterable[str]) -> None:
    """Hide top-level modules from imports and from ``find_spec`` in this process."""
    absent = frozenset(modules)
    if absent:
        sys.meta_path[:] = [_HidingFinder(finder, absent) for finder in sys.meta_path]


class _HidingFinder:
    """A finder that passes on what another one returns, except for some modules."""

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
