"""Which installed distributions a plugin may use: those that it declares, its own, and what these require."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

OWN = "quant-explorer"


def normal(name: str) -> str:
    """A distribution's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _providers() -> Mapping[str, frozenset[str]]:
    """Top-level module -> the installed distributions that bring it."""
    # ``packages_distributions`` of Python 3.10 misses all that were not built with setuptools.
    found: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        for module in _top_level(distribution):
            found.setdefault(module, set()).add(normal(distribution.metadata["Name"]))
    return {module: frozenset(names) for module, names in found.items()}


def _top_level(distribution: metadata.Distribution) -> frozenset[str]:
    """As it declares them, else the folders and modules among its files."""
    if declared := (distribution.read_text("top_level.txt") or "").split():
        return frozenset(declared)
    names = [
        path.parts[0] if len(path.parts) > 1 else inspect.getmodulename(path.name)
        for path in distribution.files or ()
    ]
    return frozenset(name for name in names if name and name.isidentifier())


def providers(module: str) -> frozenset[str]:
    """The installed distributions that bring a top-level module; none for the standard library."""
    return _providers().get(module, frozenset())


def modules_of(distribution: str) -> frozenset[str]:
    """The top-level modules that a distribution brings."""
    return frozenset(module for module, names in _providers().items() if normal(distribution) in names)


def required_by(requirements: Iterable[str]) -> frozenset[str]:
    """The distributions that these requirements ask for, and all that those require in turn.

    What is not installed counts by its name.
    """
    reached: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        key = (normal(requirement.name), frozenset(requirement.extras))
        if key not in reached:
            reached.add(key)
            todo += _requirements(*key)
    return frozenset(name for name, _ in reached)


def _requirements(distribution: str, extras: frozenset[str]) -> Iterator[Requirement]:
    try:
        texts = metadata.requires(distribution) or ()
    except metadata.PackageNotFoundError:
        return
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # as some old distributions have them
            continue
        asked = ("", *extras)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in asked
        ):
            yield requirement


def undeclared(modules: Iterable[str], allowed: frozenset[str]) -> dict[str, str]:
    """Of these top-level modules those that only other distributions bring: module -> distributions."""
    return {
        module: " or ".join(sorted(names))
        for module in modules
        if (names := providers(module)) and not names & allowed
    }
