"""The installed distributions that a plugin may use: its own, those it declares, and what these require."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

OWN = "quant-explorer"


def normalized(name: str) -> str:
    """Return a distribution's name in the normal form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _providers() -> Mapping[str, frozenset[str]]:
    """Map each top-level module to the installed distributions that provide it."""
    # ``packages_distributions`` of Python 3.10 misses all that were not built with setuptools.
    by_module: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        for module in _top_level(distribution):
            by_module.setdefault(module, set()).add(normalized(distribution.metadata["Name"]))
    return {module: frozenset(names) for module, names in by_module.items()}


def _top_level(distribution: metadata.Distribution) -> frozenset[str]:
    """Return a distribution's top-level modules: as it declares them, else by the names of its files."""
    if declared := (distribution.read_text("top_level.txt") or "").split():
        return frozenset(declared)
    names = [
        path.parts[0] if len(path.parts) > 1 else inspect.getmodulename(path.name)
        for path in distribution.files or ()
    ]
    return frozenset(name for name in names if name and name.isidentifier())


def providers(module: str) -> frozenset[str]:
    """Return the installed distributions that provide a top-level module; none for the standard library."""
    return _providers().get(module, frozenset())


def modules_of(distribution: str) -> frozenset[str]:
    """Return the top-level modules that a distribution provides."""
    return frozenset(module for module, names in _providers().items() if normalized(distribution) in names)


def required_by(requirements: Iterable[str]) -> frozenset[str]:
    """Return the names of the distributions that satisfy requirements, and of all that those require in turn.

    A distribution that is not installed is returned by its name.
    """
    reached: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        key = (normalized(requirement.name), frozenset(requirement.extras))
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
        choices = ("", *extras)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in choices
        ):
            yield requirement


def undeclared(modules: Iterable[str], allowed: frozenset[str]) -> dict[str, str]:
    """Map the modules that no allowed distribution provides to the distributions that do."""
    return {
        module: " or ".join(sorted(names))
        for module in modules
        if (names := providers(module)) and not names & allowed
    }
